//! The lanes of `cargo xtask test`, and the sum of what the tests said.

use std::time::Duration;

use crate::cli::{FuzzArgs, Lane, TestArgs};
use crate::error::Error;
use crate::metadata::Workspace;
use crate::process::{Finished, Task};
use crate::steps::Steps;
use crate::{commands, deny, fuzz, models, sanitize, tidy};

/// What building and running every test may take.
const TEST_LIMIT: Duration = Duration::from_secs(25 * 60);

/// What building the peers and running beside them may take.
const PEERS_LIMIT: Duration = Duration::from_secs(90 * 60);

/// Where the sweeps look for the seed that the commit gives.
const COMMIT_SEED: &str = "KEEPSTONE_COMMIT_SEED";

/// How long each fuzz target runs in its lane.
const FUZZ_SECONDS: u32 = 60;

/// The lanes that the default one leaves out, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    ("peers", "it builds the storage engines that Keepstone is measured beside"),
    ("lance", "Lance brings several hundred dependencies; nothing compares with it yet"),
    ("sanitize", "it needs a nightly toolchain, and `unsafe` code to look at"),
    (
        "fuzz",
        "it needs a nightly toolchain and a minute per target; each runs on its kept inputs as a plain test",
    ),
];

/// Runs the chosen lane.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<(), Error> {
    match args.lane {
        Lane::Default => default_lane(workspace, args.keep_going),
        Lane::Peers => commands::timed("peers", || peers(workspace)),
        Lane::Lance => Err(nothing_yet("lance", "no package of the workspace compares with Lance")),
        Lane::Sanitize => commands::timed("sanitize", || sanitize::run(workspace)),
        Lane::Models => models_lane(workspace, args.keep_going),
        Lane::Fuzz => commands::timed("fuzz", || {
            fuzz::run(workspace, &FuzzArgs { seconds: FUZZ_SECONDS, target: None })
        }),
    }
}

fn default_lane(workspace: &Workspace, keep_going: bool) -> Result<(), Error> {
    let mut steps = Steps::new(keep_going);
    let mut tally = None;
    let nothing = |()| Vec::new();
    steps.run("fmt", || commands::format_check().map(nothing));
    steps.run("tidy", || tidy::run(workspace).map(nothing));
    steps.run("lint", || commands::clippy(workspace).map(nothing));
    steps.run("targets", || commands::other_targets(workspace));
    steps.run("deny", || deny::check(workspace));
    steps.run("docs", || commands::docs(workspace).map(nothing));
    steps.run("tests", || tests(workspace, &mut tally).map(nothing));
    steps.run("models", || counted(models::test(workspace)?, &mut tally).map(nothing));
    steps.run("demo", || commands::demo_check().map(nothing));
    let result = steps.finish();
    for (lane, why) in LEFT_OUT {
        println!("left out: lane {lane} ({why}); run `cargo xtask test --lane {lane}`");
    }
    print_tally(tally);
    result
}

/// The models, and clippy over them, which the default lane leaves out.
fn models_lane(workspace: &Workspace, keep_going: bool) -> Result<(), Error> {
    let mut steps = Steps::new(keep_going);
    let mut tally = None;
    steps.run("lint", || models::lint(workspace).map(|()| Vec::new()));
    steps.run("models", || counted(models::test(workspace)?, &mut tally).map(|()| Vec::new()));
    let result = steps.finish();
    print_tally(tally);
    result
}

fn print_tally(tally: Option<Tally>) {
    match tally {
        Some(Tally { passed, failed }) => println!("\n{passed} passed, {failed} failed"),
        None => println!("\nthe tests were not run"),
    }
}

/// A seed for the sweeps beside the fixed ones: the first digits of the commit's name, so that each commit tries others
/// and the same commit the same.
fn commit_seed() -> Option<u64> {
    let name = Task::new("git").args(["rev-parse", "HEAD"]).capture().ok()?;
    seed_of(&name)
}

fn seed_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.trim().get(..8)?, 16).ok()
}

/// Every test and doctest.
fn tests(workspace: &Workspace, tally: &mut Option<Tally>) -> Result<(), Error> {
    let mut task = commands::checked_cargo(workspace, "test").args(["--no-fail-fast"]).limit(TEST_LIMIT);
    match commit_seed() {
        Some(seed) => {
            println!("the seed that the commit gives: {COMMIT_SEED}={seed}");
            task = task.env(COMMIT_SEED, seed.to_string());
        }
        None => println!("no commit to take a seed from: the fixed seeds alone are run"),
    }
    counted(task.tee()?, tally)
}

/// Adds what tests said to `tally`, also when they failed.
fn counted(finished: Finished, tally: &mut Option<Tally>) -> Result<(), Error> {
    let mut sum = Tally::of(&finished.lines);
    if finished.result.is_err() && sum.failed == 0 {
        // A test binary that does not build, crashes or hangs reports no test as failed, and is not a success.
        sum.failed = 1;
    }
    let before = tally.unwrap_or_default();
    *tally = Some(Tally { passed: before.passed + sum.passed, failed: before.failed + sum.failed });
    finished.result
}

/// The benchmarks with the other engines built in.
fn peers(workspace: &Workspace) -> Result<(), Error> {
    let Some(benches) = workspace.package("keepstone-benches") else {
        return Err(nothing_yet("peers", "the workspace has no package `keepstone-benches`"));
    };
    if !benches.features.contains_key("peers") {
        return Err(nothing_yet("peers", "`keepstone-benches` has no feature `peers`"));
    }
    Task::cargo(["run", "--release", "--package", "keepstone-benches", "--features", "peers"])
        .limit(PEERS_LIMIT)
        .run()
}

fn nothing_yet(lane: &str, why: &str) -> Error {
    Error::Refused(format!("nothing in lane {lane} yet: {why}"))
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// The sum over the closing line of each test binary.
    fn of(lines: &[String]) -> Self {
        let mut sum = Self::default();
        for line in lines {
            let Some(counts) = line.trim().strip_prefix("test result: ") else { continue };
            sum.passed += count_before(counts, " passed");
            sum.failed += count_before(counts, " failed");
        }
        sum
    }
}

/// The number in front of a word: 3 in `ok. 3 passed; 0 failed`.
fn count_before(counts: &str, word: &str) -> u64 {
    let number = counts.split_once(word).and_then(|(before, _)| before.split_whitespace().next_back());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_are_summed() {
        let output = "running 2 tests\n\
            test a ... ok\n\
            test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\
            test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\
            \x20  Doc-tests keepstone\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        let lines: Vec<String> = output.lines().map(str::to_owned).collect();
        assert_eq!(Tally::of(&lines), Tally { passed: 18, failed: 2 });
    }

    #[test]
    fn the_seed_of_a_commit_is_the_beginning_of_its_name() {
        assert_eq!(seed_of("00000010d5f3c1aa"), Some(16));
        assert_eq!((seed_of("12"), seed_of("not a commit")), (None, None));
    }

    #[test]
    fn other_lines_count_nothing() {
        let lines = ["3 passed".to_owned(), "test result: none".to_owned()];
        assert_eq!(Tally::of(&lines), Tally::default());
    }

    #[test]
    fn a_lane_without_content_says_so() {
        let workspace = Workspace::default();
        for lane in [Lane::Peers, Lane::Lance] {
            assert!(run(&workspace, &TestArgs { lane, keep_going: false }).is_err(), "{lane:?}");
        }
        let message = peers(&workspace).unwrap_err().to_string();
        assert!(message.starts_with("nothing in lane peers yet"), "{message}");
    }
}
