//! The built command, run as a person or a script runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod branches;
mod demo;
mod environment;
mod export;
mod full_disk;
mod import;
mod links;
mod maintenance;
mod nodes;
mod processes;
mod readme;
mod scrub;
mod snapshots;
mod support;
mod versions;
