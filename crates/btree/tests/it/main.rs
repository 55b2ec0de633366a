//! The tests of `keepstone-btree` from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

mod builder;
mod chain;
mod cursor;
mod damage;
mod limits;
mod merge;
mod relocate;
mod support;
mod tree;
