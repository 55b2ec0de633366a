//! The log on a disk that loses power: random programs, every legal crash image or a sample, second crashes, and wrong
//! variants of the log that the sweep must catch.
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

mod diverted;
mod failing;
mod fixture;
mod program;
mod rot;
mod subject;
mod sweeps;
#[cfg(feature = "wrong-variants")]
mod wrong;
