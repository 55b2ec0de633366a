//! What the tests of Keepstone share: conformance suites that every implementation of a trait passes, disks that are
//! slow or fail on demand, and the runner of fuzz targets. A development dependency only.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a suite reports by panicking"
)]

pub mod crash;
pub mod fault_disk;
pub mod format_page;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod slow_disk;
pub mod vfs_suite;
