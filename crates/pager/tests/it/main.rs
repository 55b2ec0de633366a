//! The tests of `keepstone-pager` from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod audit;
mod damage;
mod file;
mod leaving;
mod model;
mod open;
mod parity;
mod room;
mod stress;
mod support;
mod unkind;
