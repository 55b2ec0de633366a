//! Why a chain cannot be read or changed.

use crate::delta::DeltaError;

/// Why a chain cannot be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// An entry is damaged, or the one before it is not what it was made against.
    #[error(
        "entry {entry} of the chain, counted from the one that was asked for towards newer ones: {source}"
    )]
    Entry {
        /// How many entries newer than the one that was asked for.
        entry: usize,
        /// What is wrong with it.
        source: DeltaError,
    },
    /// More deltas follow each other than a chain may have: a keyframe is missing.
    #[error("the chain has {length} entries without a keyframe, expected one among {max}")]
    ChainTooLong {
        /// Entries of the run so far.
        length: usize,
        /// Entries of a run, at most.
        max: usize,
    },
    /// The oldest entry that was found hangs on a newer one, and there is none.
    #[error("the chain ends after {length} deltas, expected a keyframe or a whole newest value")]
    NoKeyframe {
        /// Deltas that were found.
        length: usize,
    },
    /// There is no such entry.
    #[error("the chain has {entries} entries, expected more than {at}")]
    NoEntry {
        /// The place that was asked for, 0 being the newest.
        at: usize,
        /// Entries of the chain.
        entries: usize,
    },
}
