//! What a trace records: every change of a simulated disk, with its content.

use std::path::PathBuf;
use std::sync::Arc;

use super::content::Source;

/// The number of a file, whatever it is called.
pub(super) type Inode = u64;

/// The bytes of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// So many zeros.
    Zeros(usize),
}

impl Payload {
    /// A copy of `bytes`, or only their number if all are zero.
    pub(super) fn of(bytes: &[u8]) -> Self {
        // Compared in blocks: most of what is long is zero, and there is much of it.
        const ZEROS: [u8; 4_096] = [0; 4_096];
        let is_zero = |block: &[u8]| Some(block) == ZEROS.get(..block.len());
        if bytes.chunks(ZEROS.len()).all(is_zero) {
            Self::Zeros(bytes.len())
        } else {
            Self::Bytes(bytes.into())
        }
    }

    pub(super) fn source(&self) -> Source<'_> {
        match self {
            Self::Bytes(bytes) => Source::Bytes(bytes),
            Self::Zeros(len) => Source::Zeros(*len),
        }
    }
}

/// What becomes of a write on its way to stable storage. Readers see it as it was meant until the power fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteFate {
    /// It arrives.
    #[default]
    Arrives,
    /// It is lost, though a sync reports success.
    Lost,
    /// It lands so many bytes further on in the same file (or before, when negative), and not where it was meant to.
    Misdirected(i64),
    /// It arrives, and lands a second time so many bytes further on (or before).
    Duplicated(i64),
}

/// A change of the disk, or a note between two.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A file was created.
    Create {
        /// Its number.
        inode: u64,
        /// Its name.
        path: PathBuf,
    },
    /// A directory was created.
    CreateDir {
        /// Its name.
        path: PathBuf,
    },
    /// A file was renamed.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// A name was removed.
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// The names in a directory were synced.
    SyncDir {
        /// Which.
        path: PathBuf,
    },
    /// Bytes were written.
    Write {
        /// To which file.
        inode: u64,
        /// Where, in bytes.
        offset: usize,
        /// What.
        payload: Payload,
        /// Whether they were on stable storage when the call returned.
        durable: bool,
        /// What becomes of them.
        fate: WriteFate,
    },
    /// A file was cut or extended.
    SetLen {
        /// Which.
        inode: u64,
        /// To how many bytes.
        len: usize,
    },
    /// A file was synced.
    Sync {
        /// Which.
        inode: u64,
    },
    /// A sync failed: of what was not synced before, some sectors arrived and the others never will.
    SyncFailed {
        /// Of which file.
        inode: u64,
        /// Decides which sectors arrived.
        seed: u64,
        /// Whether readers go on seeing what never arrived, until the power fails.
        reads_back: bool,
    },
    /// Stable bytes changed by themselves: each is combined with the mask by exclusive or.
    Rot {
        /// In which file.
        inode: u64,
        /// Where.
        offset: usize,
        /// With what.
        mask: Arc<[u8]>,
    },
    /// Whoever uses the disk has marked this moment.
    Note(u64),
}
