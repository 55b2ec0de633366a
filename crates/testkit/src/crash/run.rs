//! Sweeps as tests run them: sized by the environment, told in one line.

use std::time::Instant;

use super::sweep::{Plan, Subject, sweep};
use super::tally::Tally;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, expected a whole number"))
    })
}

impl Plan {
    /// What fits beside all other tests; `KEEPSTONE_CRASH_SEED`, `KEEPSTONE_CRASH_SEEDS`, `KEEPSTONE_CRASH_LIVES` and
    /// `KEEPSTONE_CRASH_STEPS` ask for more.
    ///
    /// # Panics
    /// When one of them is not a number.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            seed: setting("KEEPSTONE_CRASH_SEED", 1),
            seeds: setting("KEEPSTONE_CRASH_SEEDS", 3),
            lives: setting("KEEPSTONE_CRASH_LIVES", 3),
            steps: setting("KEEPSTONE_CRASH_STEPS", 14),
            exhaustive: 16,
            samples: 3,
            double_every: 25,
        }
    }
}

/// Sweeps, also the seed in `KEEPSTONE_COMMIT_SEED` if there is one, and prints `crash-tally` with the counts as JSON.
///
/// # Panics
/// With the report of the first failure.
#[expect(clippy::print_stdout, reason = "a sweep says what it did; `cargo xtask crash` adds the lines up")]
pub fn run<S: Subject>(name: &str, subject: &S, plan: &Plan) {
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut result = sweep(subject, plan, &mut tally);
    let of_commit = setting("KEEPSTONE_COMMIT_SEED", 0);
    if of_commit > 0 && result.is_ok() {
        println!("{name}: and the seed of the commit, {of_commit}");
        result = sweep(subject, &Plan { seed: of_commit, seeds: 1, ..*plan }, &mut tally);
    }
    println!("crash-tally {}", tally.to_json(began.elapsed().as_secs_f64()));
    println!("{name}: seeds {} to {}", plan.seed, plan.seed + plan.seeds - 1);
    if let Err(report) = result {
        panic!("{name}: {report}");
    }
}
