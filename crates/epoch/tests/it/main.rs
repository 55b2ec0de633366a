//! Epochs from outside: against a model, in threads, and when they are dropped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod dropping;
mod model;
mod stress;
mod turns;
