//! Tests of the store as its users meet it: on the operating system's files and in memory, alone and from many threads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod checking;
mod closing;
mod concurrency;
mod failures;
mod format;
mod history;
mod isolation;
mod model;
mod opening;
mod reading;
mod serial;
mod support;
mod window;
mod writing;
