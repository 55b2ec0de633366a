//! Fuzz targets of deltas and chains: every decoder, and what is written and read back.
//!
//! Checksums keep noise out, so targets take their input several times: as it is, with the seal put right, and as the
//! payload of each form behind a head that is right, as another program would write it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a target reports by panicking"
)]

mod rows;
mod values;

/// A target: name, function, most bytes of heap at once, fixed and per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// Any bytes as a delta, and as the payload of every form.
pub const DELTA: Target = ("delta", values::delta, [512 << 10, 16]);
/// A base and a result: the delta between them leads from one to the other, and nothing that is changed in it does.
pub const EDIT: Target = ("edit", values::edit, [512 << 10, 64]);
/// A program of changes of one item: every version reads as it was, whatever is pruned.
pub const CHAIN: Target = ("chain", rows::chain, [512 << 10, 256]);

/// Every target of the crate.
pub const TARGETS: [Target; 3] = [DELTA, EDIT, CHAIN];

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn targets_hold_on_kept_and_made_inputs() {
        let made = |name: &str| if name == "chain" { 1_000 } else { 8_000 };
        keepstone_testkit::fuzzing::run_all(env!("CARGO_MANIFEST_DIR"), &TARGETS, made);
    }
}
