//! Epochs under model checkers: `cargo xtask test --lane models`. `docs/locks.md` says what is modelled and what is not.
//!
//! `weak` runs the crate's source under `loom`: every order of few steps, with weak memory. `many` runs the crate under
//! `shuttle`: many orders of many steps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "a model says how many orders it tried")]

// The source finds `loom`'s locks and atomics in `sync`.
#[path = "../../src/batch.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is modelled is the source of the crate")]
mod batch;
#[path = "../../src/deferred.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is modelled is the source of the crate")]
mod deferred;
#[path = "../../src/epoch.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is modelled is the source of the crate")]
mod epoch;
#[path = "../../src/epochs.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is modelled is the source of the crate")]
mod epochs;
mod many;
#[path = "../../src/slots.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is modelled is the source of the crate")]
mod slots;
mod sync;
mod weak;
#[path = "../../src/wrong.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is modelled is the source of the crate")]
mod wrong;

// As the crate has them at its root, where its documentation refers to them.
#[allow(unused_imports, reason = "what is modelled is the source of the crate")]
use {deferred::Deferred, epochs::Epochs};
