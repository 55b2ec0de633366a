//! XOR for storage engines: what makes one block from several, and one version from another.
//!
//! * [`chain`] keeps the versions of an item in runs of deltas with keyframes, so that every read is short.
//! * [`delta`] is a version of a value as what leads to it from another, in the shortest of several forms, with checksums
//!   of both.
//! * [`merge`] puts two changes of one value together, where their bits are apart or a strategy says how.
//! * [`parity`] XORs blocks: the block that is lost is the XOR of the others of its group.
//!
//! **Limits.** No files and no threads: bytes in, bytes out. One lock, in [`chain::Places`], that nothing waits under.
//!
//! ```
//! use keepstone_xor_dag::parity;
//!
//! let blocks = [*b"one block", *b"and other", *b"the third"];
//! let mut lost = [0; 9];
//! parity::xor_all_into(&mut lost, &[&blocks[0], &blocks[1], &blocks[2]]);
//! // With the parity and any two of the three, the third comes back.
//! parity::xor_all_into(&mut lost, &[&blocks[0], &blocks[2]]);
//! assert_eq!(lost, blocks[1]);
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod chain;
pub mod delta;
#[cfg(test)]
mod format_doc;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod merge;
pub mod parity;
mod sync;
