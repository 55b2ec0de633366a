//! The short chores: each one or two programs with the right arguments.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::cli::BenchArgs;
use crate::error::Error;
use crate::metadata::Workspace;
use crate::process::Task;
use crate::steps::Steps;

/// The systems that are promised beside the one at hand.
const OTHER_TARGETS: [&str; 4] =
    ["x86_64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin", "x86_64-pc-windows-msvc"];

/// What a cold build of everything may take.
const BUILD_LIMIT: Duration = Duration::from_secs(25 * 60);

/// What a run of benchmarks or of the kill test may take.
const LONG_RUN_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// What a demo may show at least, in nodes.
const DEMO_NODES_MIN: u64 = 100;

/// Runs one chore and prints how long it took.
pub(crate) fn timed(name: &'static str, chore: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let mut steps = Steps::new(false);
    steps.run(name, || chore().map(|()| Vec::new()));
    steps.finish()
}

/// A cargo command in the one profile, over the whole workspace with the features of the tests.
pub(crate) fn checked_cargo(workspace: &Workspace, command: &str) -> Task {
    let task = Task::cargo([command, "--release", "--workspace"]).limit(BUILD_LIMIT);
    match workspace.checks_features() {
        features if features.is_empty() => task,
        features => task.args(["--features".to_owned(), features]),
    }
}

/// `cargo fmt`, changing nothing.
pub(crate) fn format_check() -> Result<(), Error> {
    Task::cargo(["fmt", "--all", "--", "--check"]).run()
}

/// The lint steps as a command of their own.
pub(crate) fn lint(workspace: &Workspace) -> Result<(), Error> {
    let mut steps = Steps::new(true);
    steps.run("lint", || clippy(workspace).map(|()| Vec::new()));
    steps.run("targets", || other_targets(workspace));
    steps.finish()
}

/// Clippy with warnings denied: everything with the checking features, then what is shipped without them.
pub(crate) fn clippy(workspace: &Workspace) -> Result<(), Error> {
    checked_cargo(workspace, "clippy").args(["--all-targets", "--", "-D", "warnings"]).run()?;
    Task::cargo(["clippy", "--release", "--workspace", "--", "-D", "warnings"]).limit(BUILD_LIMIT).run()
}

/// Checks the promised targets whose standard library is installed, and names the ones that could not be shown.
pub(crate) fn other_targets(workspace: &Workspace) -> Result<Vec<String>, Error> {
    let host = Task::new("rustc").args(["--print", "host-tuple"]).capture()?;
    let mut not_shown = Vec::new();
    for target in OTHER_TARGETS.into_iter().filter(|target| *target != host) {
        let library = Task::new("rustc").args(["--print", "target-libdir", "--target", target]).capture()?;
        if Path::new(&library).is_dir() {
            checked_cargo(workspace, "check").args(["--target", target]).run()?;
        } else {
            not_shown.push(format!("target {target}, its standard library is not installed"));
        }
    }
    println!("checked: {host} by clippy; {}", describe_missing(&not_shown));
    Ok(not_shown)
}

fn describe_missing(not_shown: &[String]) -> String {
    if not_shown.is_empty() {
        "nothing left out".to_owned()
    } else {
        format!("not shown: {}", not_shown.join("; "))
    }
}

/// The documentation of every crate, with warnings denied.
pub(crate) fn docs(workspace: &Workspace) -> Result<(), Error> {
    checked_cargo(workspace, "doc").args(["--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run()
}

fn demo_task(args: &[String]) -> Task {
    Task::cargo(["run", "--release", "--package", "keepstone-cli", "--bin", "keepstone", "--", "demo"])
        .args(args)
        .limit(BUILD_LIMIT)
}

/// Runs the demo and shows what it prints.
pub(crate) fn demo(args: &[String]) -> Result<(), Error> {
    demo_task(args).run()
}

/// What the demo says of itself in its last line of JSON.
#[derive(Debug, Deserialize)]
struct DemoSummary {
    nodes: u64,
    lost: u64,
    time_travel_equal: bool,
    check_errors: u64,
}

/// Runs the demo and holds its summary against what it promises.
pub(crate) fn demo_check() -> Result<(), Error> {
    let finished = demo_task(&["--json".to_owned()]).tee()?;
    finished.result?;
    judge_demo(
        finished.lines.iter().map(String::as_str).rfind(|line| !line.trim().is_empty()).unwrap_or_default(),
    )
}

fn judge_demo(line: &str) -> Result<(), Error> {
    let summary: DemoSummary = serde_json::from_str(line)
        .map_err(|source| Error::Json { command: "keepstone demo --json".to_owned(), source })?;
    let DemoSummary { nodes, lost, time_travel_equal, check_errors } = summary;
    if nodes >= DEMO_NODES_MIN && lost == 0 && time_travel_equal && check_errors == 0 {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "demo: expected nodes >= {DEMO_NODES_MIN}, lost 0, time_travel_equal true, check_errors 0; \
         found nodes {nodes}, lost {lost}, time_travel_equal {time_travel_equal}, check_errors {check_errors}"
    )))
}

/// Runs the benchmarks with what was asked for.
pub(crate) fn bench(workspace: &Workspace, args: &BenchArgs) -> Result<(), Error> {
    require(workspace, "keepstone-benches")?;
    let named = [("--save", &args.save), ("--baseline", &args.baseline)];
    let named =
        named.into_iter().filter_map(|(option, name)| Some([option.to_owned(), name.clone()?])).flatten();
    Task::cargo(["run", "--release", "--package", "keepstone-benches", "--"])
        .args(named)
        .args(args.long.then(|| "--long".to_owned()))
        .args(args.filter.clone())
        .limit(LONG_RUN_LIMIT)
        .run()
}

/// Runs the test that kills a writing process, for as many rounds as asked.
pub(crate) fn kill9(workspace: &Workspace, rounds: u32) -> Result<(), Error> {
    require(workspace, "keepstone-cli")?;
    Task::cargo(["test", "--release", "--package", "keepstone-cli", "--test", "kill9", "--", "--nocapture"])
        .env("KEEPSTONE_KILL_ROUNDS", rounds.to_string())
        .limit(LONG_RUN_LIMIT)
        .run()
}

fn require(workspace: &Workspace, package: &str) -> Result<(), Error> {
    match workspace.package(package) {
        Some(_) => Ok(()),
        None => Err(Error::Refused(format!("the workspace has no package `{package}` yet"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    #[test]
    fn a_demo_that_keeps_its_promises_passes() {
        let line = r#"{"nodes":120,"lost":0,"time_travel_equal":true,"check_errors":0,"seconds":1.5}"#;
        assert!(judge_demo(line).is_ok());
    }

    #[test]
    fn a_demo_that_breaks_one_promise_fails_and_says_which_numbers_it_had() {
        for broken in [
            r#"{"nodes":99,"lost":0,"time_travel_equal":true,"check_errors":0}"#,
            r#"{"nodes":100,"lost":1,"time_travel_equal":true,"check_errors":0}"#,
            r#"{"nodes":100,"lost":0,"time_travel_equal":false,"check_errors":0}"#,
            r#"{"nodes":100,"lost":0,"time_travel_equal":true,"check_errors":2}"#,
        ] {
            let message = judge_demo(broken).unwrap_err().to_string();
            assert!(message.contains("found nodes"), "{message}");
        }
        for unreadable in ["", "done", r#"{"nodes":100}"#] {
            assert!(matches!(judge_demo(unreadable), Err(Error::Json { .. })), "{unreadable:?}");
        }
    }

    #[test]
    fn the_features_of_the_tests_are_stated_one_by_one() {
        let mut workspace = Workspace::default();
        assert_eq!(display_tail(&workspace), "doc --release --workspace");
        for name in ["one", "two"] {
            let features = [("checks".to_owned(), Vec::new())].into();
            workspace.packages.push(Package { name: name.to_owned(), features, ..Package::default() });
        }
        assert_eq!(display_tail(&workspace), "doc --release --workspace --features one/checks,two/checks");
    }

    fn display_tail(workspace: &Workspace) -> String {
        let shown = checked_cargo(workspace, "doc").to_string();
        shown.split_once(' ').unwrap().1.to_owned()
    }
}
