//! Fuzz targets of the log: every decoder, healing, and the opening of whole folders.
//!
//! Checksums keep noise out, so most targets take their input twice: as it is, and forged, with the magic and the
//! checksum put right, as another program would write it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a target reports by panicking"
)]

mod folder;
mod group;
mod heads;
mod records;

/// A target: name, function, most bytes of heap at once, fixed and per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// The records of a group, the log's own among them, and entries.
pub const RECORDS: Target = ("records", records::records, [8_192, 16]);
/// A group: what any bytes are taken for, and what is built and read back.
pub const GROUP: Target = ("group", group::group, [32 << 10, 16]);
/// Healing: one lost sector comes back as it was, two never as something else.
pub const HEAL: Target = ("heal", group::heal, [192 << 10, 16]);
/// A segment's header, and what file names mean.
pub const SEGMENT_HEADER: Target = ("segment_header", heads::segment_header, [32 << 10, 8]);
/// A side file and the reference to it.
pub const SIDE_FILE: Target = ("side_file", heads::side_file, [16 << 10, 16]);
/// The pins file.
pub const PINS: Target = ("pins", heads::pins, [16 << 10, 64]);
/// A whole folder of segments, side files and pins that somebody else has written.
pub const FOLDER: Target = ("folder", folder::folder, [24 << 20, 64]);

/// Every target of the crate.
pub const TARGETS: [Target; 7] = [RECORDS, GROUP, HEAL, SEGMENT_HEADER, SIDE_FILE, PINS, FOLDER];

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn targets_hold_on_kept_and_made_inputs() {
        let made = |name: &str| if name == "folder" { 300 } else { 4_000 };
        keepstone_testkit::fuzzing::run_all(env!("CARGO_MANIFEST_DIR"), &TARGETS, made);
    }
}
