//! The store under a model checker: `cargo xtask test --lane models`. `docs/locks.md` says what is modelled and what is
//! not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod closing;
mod doors;
mod folding;
#[path = "../../src/gate.rs"]
#[allow(dead_code, reason = "the gate is private to the crate; what is modelled is its source")]
mod gate;
mod registration;
mod rows;
mod sync;
mod views;
mod world;
