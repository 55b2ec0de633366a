//! What the tests of Keepstone share: conformance suites that every implementation of a trait passes, and disks that
//! are slow or fail on demand. A development dependency only.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a suite reports by panicking"
)]

pub mod fault_disk;
pub mod slow_disk;
pub mod vfs_suite;
