//! The log under a model checker: `cargo xtask test --lane models`. `docs/locks.md` says what is modelled and what is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod closing;
mod panics;
mod publication;
mod queue;
mod witness;
mod world;
