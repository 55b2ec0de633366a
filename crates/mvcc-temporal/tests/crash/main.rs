//! The store on a disk that loses power: random programs of commits, groups, rollbacks, names, branches, large
//! values, parity, scrubs and reopenings, every legal crash image or a sample, second crashes; each version held against a naive model.
//!
//! `KEEPSTONE_CRASH_SEED` and `KEEPSTONE_CRASH_SEEDS` choose the first seed and how many; `cargo xtask crash` sets them, and
//! `KEEPSTONE_COMMIT_SEED`, which `cargo xtask test` sets, adds one.
//! Each sweep ends with a line `crash-tally {…}`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod branches;
mod damage;
mod program;
mod subject;
mod wrong;

use std::sync::atomic::Ordering;
use std::time::Duration;

use keepstone_mvcc_temporal::{Durability, Retention};
use keepstone_testkit::crash::{Plan, run};

use crate::damage::HEALED;
use crate::subject::{Parity, StoreSubject};

macro_rules! levels {
    ($($name:ident: $durability:expr, $sector:expr, $retention:expr, $rotten:expr, $parity:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let subject = StoreSubject {
                    durability: $durability,
                    sector: $sector,
                    faults: true,
                    retention: $retention,
                    rotten: $rotten,
                    parity: $parity,
                };
                run(stringify!($name), &subject, &Plan::from_env());
                println!("{} damaged pages were found and had back", HEALED.load(Ordering::Relaxed));
            }
        )*
    };
}

levels! {
    normal: Durability::Normal, 4_096, Retention::Forever, false, Parity::On;
    normal_pruned: Durability::Normal, 4_096, Retention::None, true, Parity::On;
    rotting: Durability::Normal, 4_096, Retention::None, false, Parity::Rotting;
    switched: Durability::Normal, 4_096, Retention::None, true, Parity::Switched;
    without_parity: Durability::Normal, 4_096, Retention::None, true, Parity::Off;
    full_small_sectors: Durability::Full, 512, Retention::For(Duration::from_millis(40)), true, Parity::On;
    relaxed: Durability::Relaxed { max_commits: 3, max_delay: Duration::from_millis(20) }, 4_096, Retention::Forever, false, Parity::On;
    none_small_sectors: Durability::None, 512, Retention::None, true, Parity::On;
}

/// A rollback is one commit like any other: after a crash in it, either all of it is there or nothing.
#[test]
fn rollback_atomic() {
    let subject = StoreSubject {
        durability: Durability::Normal,
        sector: 512,
        faults: false,
        retention: Retention::Forever,
        rotten: false,
        parity: Parity::On,
    };
    let plan = Plan { steps: 5, lives: 2, exhaustive: 256, samples: 6, double_every: 40, ..Plan::from_env() };
    run("rollback_atomic", &subject, &plan);
}
