//! The tests of `keepstone-wal` from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod append;
mod counterexamples;
mod damage;
mod faults;
mod holds;
mod power;
mod recovery;
mod support;
mod tending;
mod unkind;
