//! The long run of the histories that the independent checker judges, and what it showed as one line.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::IsolationArgs;
use crate::error::Error;
use crate::process::Task;

/// What a run of any size may take.
const LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// The counts of a test, which it prints as a line of JSON, or of all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    histories: u64,
    transactions: u64,
    committed: u64,
    conflicts: u64,
    crashes: u64,
    anomalies: u64,
    planted_caught: u64,
    seconds: f64,
    seed: u64,
}

/// Runs the histories at the size that was asked for; the last line is the sum of their counts.
pub(crate) fn run(args: &IsolationArgs) -> Result<(), Error> {
    let started = Instant::now();
    let test = ["test", "--release", "--package", "keepstone-mvcc-temporal", "--features", "checks"];
    let finished = Task::cargo(test)
        .args(["--test", "histories", "--", "--nocapture", "--test-threads=1"])
        .env("KEEPSTONE_ISOLATION_TRANSACTIONS", args.transactions.to_string())
        .env("KEEPSTONE_ISOLATION_SEED", args.seed.to_string())
        .limit(LIMIT)
        .tee()?;
    finished.result?;
    let mut sum = add_up(finished.lines.iter().map(String::as_str))?;
    sum.seconds = started.elapsed().as_secs_f64();
    let line = serde_json::to_string(&sum).map_err(json_error)?;
    println!("{line}");
    Ok(())
}

fn json_error(source: serde_json::Error) -> Error {
    Error::Json { command: "cargo test --test histories".to_owned(), source }
}

/// Adds the counts found among the lines; a line may begin with the name of its test.
fn add_up<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Counts, Error> {
    let mut sum = Counts::default();
    for json in lines.filter_map(|line| line.get(line.find("{\"")?..)) {
        let one: Counts = serde_json::from_str(json).map_err(json_error)?;
        sum.histories = sum.histories.saturating_add(one.histories);
        sum.transactions = sum.transactions.saturating_add(one.transactions);
        sum.committed = sum.committed.saturating_add(one.committed);
        sum.conflicts = sum.conflicts.saturating_add(one.conflicts);
        sum.crashes = sum.crashes.saturating_add(one.crashes);
        sum.anomalies = sum.anomalies.saturating_add(one.anomalies);
        sum.planted_caught = sum.planted_caught.saturating_add(one.planted_caught);
        sum.seconds += one.seconds;
        sum.seed = one.seed;
    }
    if sum.transactions == 0 || sum.planted_caught == 0 || sum.anomalies > 0 {
        return Err(Error::Refused(format!(
            "isolation: expected transactions, planted anomalies that were caught and no others; found {sum:?}"
        )));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(transactions: u64, planted_caught: u64, anomalies: u64) -> String {
        format!(
            r#"{{"what":"x","histories":2,"transactions":{transactions},"committed":5,"conflicts":1,"crashes":3,
            "anomalies":{anomalies},"planted_caught":{planted_caught},"seconds":0.5,"seed":7}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn counts_are_found_behind_the_names_of_tests_and_added() {
        let first = format!("test name ... {}", line(10, 0, 0));
        let sum = add_up([first.as_str(), "ok", "", &line(20, 12, 0)].into_iter()).unwrap();
        let expected = Counts {
            histories: 4,
            transactions: 30,
            committed: 10,
            conflicts: 2,
            crashes: 6,
            anomalies: 0,
            planted_caught: 12,
            seconds: 1.0,
            seed: 7,
        };
        assert_eq!(sum, expected);
    }

    #[test]
    fn a_run_that_shows_nothing_or_an_anomaly_is_refused() {
        for lines in [vec![], vec![line(10, 0, 0)], vec![line(0, 12, 0)], vec![line(10, 12, 1)]] {
            let refused = add_up(lines.iter().map(String::as_str)).unwrap_err().to_string();
            assert!(refused.contains("found Counts"), "{refused}");
        }
        assert!(matches!(add_up(["{\"broken"].into_iter()), Err(Error::Json { .. })));
    }
}
