//! Mistakes that a log can make, each built in on purpose, so that the tests can show that they would be caught.
//!
//! Only with the feature `wrong-variants`, and only in a thread that asks for one: without the feature every question
//! here is answered `false` when the crate is compiled.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// Readers see a group before it is synced.
    PublishBeforeSync,
    /// After a crash the log goes on where something was cut.
    AppendAfterCut,
    /// Recovery's segment gets its header and name before what is copied into it.
    HeaderBeforeCopy,
    /// A group does not have to name the checksum of the one before.
    NoChain,
    /// The checksum is not seeded with store and segment.
    NoSeed,
    /// Groups are not padded to a sector of the disk: they begin and end on 64 bytes.
    UnpaddedGroups,
    /// The timeline stays although a tail may be lost that readers have seen.
    VersionReuse,
    /// A sync that failed is tried again, and believed.
    SyncRetried,
    /// What found no room fails, but keeps its number and what the layer above gave it.
    KeptVersions,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::PublishBeforeSync,
        Self::AppendAfterCut,
        Self::HeaderBeforeCopy,
        Self::NoChain,
        Self::NoSeed,
        Self::UnpaddedGroups,
        Self::VersionReuse,
        Self::SyncRetried,
        Self::KeptVersions,
    ];
}

#[cfg(feature = "wrong-variants")]
mod chosen {
    use keepstone_types::mistake::Chosen;

    use super::Wrong;

    thread_local! {
        static CHOSEN: Chosen<Wrong> = const { Chosen::none() };
    }

    /// Makes one mistake on this thread while `work` runs.
    pub fn with<T>(wrong: Wrong, work: impl FnOnce() -> T) -> T {
        Chosen::with(&CHOSEN, wrong, work)
    }

    pub(crate) fn is(wrong: Wrong) -> bool {
        Chosen::is(&CHOSEN, wrong)
    }
}

#[cfg(not(feature = "wrong-variants"))]
mod chosen {
    use super::Wrong;

    pub(crate) const fn is(_wrong: Wrong) -> bool {
        false
    }
}

pub(crate) use chosen::is;
#[cfg(feature = "wrong-variants")]
pub use chosen::with;

/// What groups begin and end on if they are not padded to a sector.
pub(crate) const UNPADDED: u32 = 64;
