//! Tests of the store as its users meet it: on the operating system's files and in memory, alone and from many threads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod branches;
mod branches_model;
mod bulk;
mod checking;
mod checkpoints;
mod closing;
mod concurrency;
mod failures;
mod format;
mod full_disk;
mod history;
mod isolation;
mod model;
mod older;
mod opening;
mod pages;
mod reading;
mod serial;
mod snapshot_faults;
mod snapshot_files;
mod support;
mod window;
mod writing;
