//! How much was shown: counts that are printed as a line of JSON.

use std::time::Duration;

use crate::record::Outcome;
use crate::run::Run;

/// Counts of one test.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) histories: u64,
    pub(crate) transactions: u64,
    pub(crate) committed: u64,
    pub(crate) conflicts: u64,
    pub(crate) crashes: u64,
    pub(crate) planted_caught: u64,
    /// Commits without an answer that were found after the crash, and that were not.
    pub(crate) found: u64,
    pub(crate) not_found: u64,
}

impl Tally {
    /// Counts a run, by what the callers were told.
    pub(crate) fn add(&mut self, run: &Run) {
        let count = |counts: fn(Outcome) -> bool| {
            let counted = run.transactions.iter().filter(|one| counts(one.outcome)).count();
            u64::try_from(counted).unwrap()
        };
        self.histories += 1;
        self.transactions += count(|_| true);
        self.committed += count(|outcome| matches!(outcome, Outcome::Wrote(_) | Outcome::Read(_)));
        self.conflicts += count(|outcome| outcome == Outcome::Refused);
        self.crashes += run.crashes;
    }

    /// Prints the counts; a test that found an anomaly which the level excludes does not come here.
    pub(crate) fn print(&self, what: &str, seed: u64, took: Duration) {
        let line = serde_json::json!({
            "what": what,
            "histories": self.histories,
            "transactions": self.transactions,
            "committed": self.committed,
            "conflicts": self.conflicts,
            "crashes": self.crashes,
            "unanswered_found": self.found,
            "unanswered_not_found": self.not_found,
            "anomalies": 0,
            "planted_caught": self.planted_caught,
            "seconds": took.as_secs_f64(),
            "seed": seed,
        });
        println!("{line}");
    }
}
