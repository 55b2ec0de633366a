//! The sweeps of power losses in the size asked for, and what they showed as one line.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::CrashArgs;
use crate::error::Error;
use crate::process::Task;

/// What a run of any size may take.
const LIMIT: Duration = Duration::from_secs(8 * 60 * 60);

/// What every sweep prints before its counts.
const TALLY: &str = "crash-tally ";

/// The wrong variants that must be caught: of the log, of the page file, of checkpoints, and parity of the wrong block once more in
/// the store.
const WRONG_VARIANTS: u64 = 9 + 4 + 8 + 1;

/// The packages that are swept.
const SWEPT: [&str; 3] = ["keepstone-wal", "keepstone-pager", "keepstone-mvcc-temporal"];

/// Checks and mistakes of every package that is swept.
fn features() -> String {
    let of = |package: &&str| format!("{package}/checks,{package}/wrong-variants");
    SWEPT.iter().map(of).collect::<Vec<_>>().join(",")
}

/// The counts of a sweep, or of all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    workloads: u64,
    images: u64,
    lost: u64,
    invented: u64,
    unopenable: u64,
    orphans: u64,
    wrong_reads: u64,
    wrong_parity: u64,
    unhealed: u64,
    double_crash_images: u64,
    canary_caught: u64,
    seconds: f64,
}

/// Sweeps log, page file and store; the last line is the sum of the counts.
pub(crate) fn run(args: &CrashArgs) -> Result<(), Error> {
    let started = Instant::now();
    let task = Task::cargo(["test", "--release", "--no-fail-fast"])
        .args(SWEPT.iter().flat_map(|package| ["--package", package]))
        .args(["--features".to_owned(), features()])
        .args(["--test", "crash", "--", "--nocapture"])
        .env("KEEPSTONE_CRASH_SEED", args.seed.to_string())
        .env("KEEPSTONE_CRASH_SEEDS", args.seeds.to_string())
        .limit(LIMIT);
    let finished = if args.json { task.collect()? } else { task.tee()? };
    let mut sum = add_up(finished.lines.iter().map(String::as_str))?;
    sum.seconds = started.elapsed().as_secs_f64();
    if args.json && finished.result.is_err() {
        // Whoever asked for one line still needs to know which program fails.
        finished.lines.iter().for_each(|line| println!("{line}"));
    }
    println!("{}", serde_json::to_string(&sum).map_err(json_error)?);
    finished.result?;
    if sum.canary_caught == WRONG_VARIANTS {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "crash: {} of {WRONG_VARIANTS} wrong variants were caught",
        sum.canary_caught
    )))
}

fn json_error(source: serde_json::Error) -> Error {
    Error::Json { command: "cargo test --test crash".to_owned(), source }
}

/// Adds the counts found among the lines; a line may begin with the name of its test.
fn add_up<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Counts, Error> {
    let mut sum = Counts::default();
    for json in lines.filter_map(|line| line.split_once(TALLY).map(|(_, json)| json)) {
        let one: Counts = serde_json::from_str(json).map_err(json_error)?;
        let counters = [
            (&mut sum.workloads, one.workloads),
            (&mut sum.images, one.images),
            (&mut sum.lost, one.lost),
            (&mut sum.invented, one.invented),
            (&mut sum.unopenable, one.unopenable),
            (&mut sum.orphans, one.orphans),
            (&mut sum.wrong_reads, one.wrong_reads),
            (&mut sum.wrong_parity, one.wrong_parity),
            (&mut sum.unhealed, one.unhealed),
            (&mut sum.double_crash_images, one.double_crash_images),
            (&mut sum.canary_caught, one.canary_caught),
        ];
        for (total, more) in counters {
            *total = total.saturating_add(more);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_sweeps_are_added() {
        let line = |images: u64, caught: u64| {
            let counts = Counts { workloads: 1, images, canary_caught: caught, ..Counts::default() };
            format!("test a ... {TALLY}{}", serde_json::to_string(&counts).unwrap())
        };
        let lines = ["running 2 tests".to_owned(), line(5, 0), "ok".to_owned(), line(7, 9)];
        let sum = add_up(lines.iter().map(String::as_str)).unwrap();
        assert_eq!((sum.workloads, sum.images, sum.canary_caught), (2, 12, 9));
        assert!(add_up(["crash-tally {"].into_iter()).is_err());
    }
}
