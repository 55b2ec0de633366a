//! Chains: the versions of one item, newest first, the older ones as deltas against the next newer.
//!
//! A chain is made of *runs*: a keyframe, which is there without another, and the deltas that hang on it, each on the entry
//! before it. No run has more than [`ChainLength`] entries, so that many decodings are the most that a read takes.
//!
//! * [`ChainLength::allows`] is the one rule by which an entry becomes a delta or a keyframe.
//! * [`RowCoder`] and [`Unwind`] code and read entries one by one, for a store that keeps them in a table of its own.
//! * [`Chain`] is a whole chain in memory, with pruning and consolidation.
//! * [`Places`] hands out the places of chains that grow at their ends, by many at once.

mod error;
mod length;
mod memory;
mod places;
mod row_coder;
mod unwind;

pub use error::ChainError;
pub use length::ChainLength;
pub use memory::Chain;
pub use places::{Place, PlaceError, Places};
pub use row_coder::{CodedRow, Newer, RowCoder};
pub use unwind::{Need, Unwind};
