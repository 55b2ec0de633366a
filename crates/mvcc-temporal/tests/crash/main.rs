//! The store on a disk that loses power: random programs of commits, groups, rollbacks, names, large values and
//! reopenings, every legal crash image or a sample, second crashes; each version held against a naive model.
//!
//! `KEEPSTONE_CRASH_SEED` and `KEEPSTONE_CRASH_SEEDS` choose the first seed and how many; `cargo xtask crash` sets them, and
//! `KEEPSTONE_COMMIT_SEED`, which `cargo xtask test` sets, adds one.
//! Each sweep ends with a line `crash-tally {…}`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and a sweep says what it did"
)]

mod program;
mod subject;

use std::time::{Duration, Instant};

use keepstone_mvcc_temporal::Durability;
use keepstone_testkit::crash::{Plan, Tally, sweep};

use crate::subject::StoreSubject;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect(name))
}

/// The default is what fits beside all other tests; `cargo xtask crash` asks for more.
fn plan() -> Plan {
    Plan {
        seed: setting("KEEPSTONE_CRASH_SEED", 1),
        seeds: setting("KEEPSTONE_CRASH_SEEDS", 3),
        lives: setting("KEEPSTONE_CRASH_LIVES", 3),
        steps: setting("KEEPSTONE_CRASH_STEPS", 14),
        exhaustive: 16,
        samples: 3,
        double_every: 25,
    }
}

fn run(name: &str, subject: &StoreSubject, plan: &Plan) {
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

macro_rules! levels {
    ($($name:ident: $durability:expr, $sector:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let subject = StoreSubject { durability: $durability, sector: $sector, faults: true };
                run(stringify!($name), &subject, &plan());
            }
        )*
    };
}

levels! {
    normal: Durability::Normal, 4_096;
    full_small_sectors: Durability::Full, 512;
    relaxed: Durability::Relaxed { max_commits: 3, max_delay: Duration::from_millis(20) }, 4_096;
    none_small_sectors: Durability::None, 512;
}

/// A rollback is one commit like any other: after a crash in it, either all of it is there or nothing.
#[test]
fn rollback_atomic() {
    let subject = StoreSubject { durability: Durability::Normal, sector: 512, faults: false };
    let plan = Plan { steps: 5, lives: 2, exhaustive: 256, samples: 6, double_every: 40, ..plan() };
    run("rollback_atomic", &subject, &plan);
}
