//! The page file on a disk that loses power: random programs of commits, rollbacks, reserving, shrinking, new maps and
//! reopenings, every legal crash image or a sample, second crashes; each generation held against a naive model, and each
//! image also without its newest header.
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
#[cfg(feature = "wrong-variants")]
mod wrong;

use keepstone_pager::{PageSize, Parity};
use keepstone_testkit::crash::{Plan, run};

use crate::subject::PagerSubject;

macro_rules! sweeps {
    ($($name:ident: $page_size:expr, $faults:expr, $parity:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let subject = PagerSubject { page_size: $page_size, faults: $faults, parity: $parity };
                run(stringify!($name), &subject, &Plan::from_env());
            }
        )*
    };
}

sweeps! {
    small_pages: PageSize::KIB_4, true, Parity::Off;
    default_pages: PageSize::KIB_8, true, Parity::Off;
    large_pages: PageSize::KIB_16, true, Parity::Off;
    kind_disk: PageSize::KIB_4, false, Parity::Off;
    small_pages_with_parity: PageSize::KIB_4, true, Parity::Xor;
    default_pages_with_parity: PageSize::KIB_8, true, Parity::Xor;
    kind_disk_with_parity: PageSize::KIB_4, false, Parity::Xor;
}

/// Short programs, and every outcome of every moment up to a bound.
#[test]
fn commit_is_atomic() {
    let subject = PagerSubject { page_size: PageSize::KIB_4, faults: false, parity: Parity::Xor };
    let plan =
        Plan { steps: 4, lives: 2, exhaustive: 1_024, samples: 8, double_every: 40, ..Plan::from_env() };
    run("commit_is_atomic", &subject, &plan);
}
