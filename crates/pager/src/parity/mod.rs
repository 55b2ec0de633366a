//! Parity: one lost page of every group is rebuilt from the others.
//!
//! A region's slots are 32 groups by column, so neighbours on the disk are in different groups. Members are the pages of
//! the layer above. Parity pages are not members of anything and are computed again from their members; pages of the
//! free-space map are kept twice, because the map is what leads to the parity.
//!
//! Invariants:
//! * **A slot is written only when the durable header's parity excludes it**, and so does that of the header before. So
//!   there is no write hole: what a header's parity counts is on the disk as long as that header can be used.
//! * What changes of the parity is written with the generation that changes it: new parity pages in new slots, the
//!   directory of groups in the pages of regions. It becomes valid with the header, as everything does.
//! * A slot leaves in two steps: a generation frees it, and it may stay a member with its bytes; that one or a later one
//!   excludes it, which holds it like a slot that was freed then. Roots before that have parity pages of their own, held
//!   as long as they are: what a root that somebody holds counts is not written over.
//! * A rebuilt page is served only if its checksum proves it.

mod direct;
mod group;
mod keeping;
mod members;
mod reading;
mod repair;
mod scrub;
mod switch;
mod verify;

pub(crate) use group::{Block, COLUMNS, RegionParity, group_of};
#[cfg(test)]
pub(crate) use group::{GROUP_FIELDS, GROUP_LEN};
pub(crate) use keeping::Lately;
pub(crate) use members::{Loss, Members};
pub(crate) use repair::{Mended, Repairs};
pub use scrub::{ScrubFinding, ScrubOptions, ScrubProgress, ScrubReport};
pub(crate) use verify::verify_region;

use crate::layout::disk_len;

/// Whether parity is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parity {
    /// A damaged page is found and reported.
    #[default]
    Off,
    /// One damaged page of each group of 32 is found and repaired.
    Xor,
}

/// Whether parity is kept, as a header says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ParityMode {
    #[default]
    Off,
    Xor,
    /// It is being taken from one group after the other.
    Leaving,
}

impl ParityMode {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Xor => 1,
            Self::Leaving => 2,
        }
    }

    pub(crate) const fn of_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Off),
            1 => Some(Self::Xor),
            2 => Some(Self::Leaving),
            _ => None,
        }
    }
}

/// The mode, and how far its last change has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ParityState {
    pub(crate) mode: ParityMode,
    /// Groups, counted through regions, before which the change of the mode is done.
    pub(crate) cursor: u64,
}

impl ParityState {
    /// Whether the last change of the mode is done in all groups of so many regions.
    pub(crate) fn has_reached_all(self, regions: u32) -> bool {
        self.cursor >= u64::from(regions).saturating_mul(disk_len(COLUMNS))
    }

    /// The state of a file whose parity counts nothing any more, whatever it was.
    pub(crate) const fn anew(self) -> Self {
        let mode = if matches!(self.mode, ParityMode::Leaving) { ParityMode::Off } else { self.mode };
        Self { mode, cursor: 0 }
    }
}

impl From<Parity> for ParityState {
    fn from(parity: Parity) -> Self {
        let mode = if parity == Parity::Xor { ParityMode::Xor } else { ParityMode::Off };
        Self { mode, cursor: 0 }
    }
}
