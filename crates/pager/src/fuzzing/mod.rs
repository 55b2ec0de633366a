//! Fuzz targets of the page file: every decoder, and whole small files.
//!
//! Checksums keep noise out, so targets take their input twice: as it is, and forged, with magic and checksum put right,
//! as another program would write it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a target reports by panicking"
)]

mod blocks;
mod whole_file;

/// A target: name, function, most bytes of heap at once, fixed and per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// The prologue.
pub const PROLOGUE: Target = ("prologue", blocks::prologue, [32 << 10, 8]);
/// A header, of even and odd generations.
pub const HEADER: Target = ("header", blocks::header, [32 << 10, 8]);
/// A page: what any bytes are taken for, and what is written and read back.
pub const PAGE: Target = ("page", blocks::page, [64 << 10, 8]);
/// The page of a region.
pub const REGION: Target = ("region", blocks::region, [32 << 10, 8]);
/// A node of the directory of free space.
pub const DIRECTORY: Target = ("directory", blocks::directory, [64 << 10, 16]);
/// A whole small file that somebody else has changed.
pub const FILE: Target = ("file", whole_file::file, [16 << 20, 64]);

/// Every target of the crate.
pub const TARGETS: [Target; 6] = [PROLOGUE, HEADER, PAGE, REGION, DIRECTORY, FILE];

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn targets_hold_on_kept_and_made_inputs() {
        let made = |name: &str| if name == "file" { 400 } else { 4_000 };
        keepstone_testkit::fuzzing::run_all(env!("CARGO_MANIFEST_DIR"), &TARGETS, made);
    }
}
