//! Why a page cannot be had, written or committed.

use std::path::PathBuf;

use keepstone_types::{Generation, PageId, PageRef, StoreId};
use keepstone_vfs::IoError;

use crate::page::PageKind;

/// Why a page could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The slot does not hold what the reference says.
    #[error(
        "{}: page {page} at byte {offset} is damaged: expected {expected}, found {found}; `keepstone check` tells more",
        file.display()
    )]
    Damaged {
        /// The file; empty for pages in memory.
        file: PathBuf,
        /// The slot.
        page: PageId,
        /// Where the slot begins.
        offset: u64,
        /// What the reference says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Two pages of one parity group are lost; what is left of the group is not enough, and nothing is guessed.
    #[error(
        "{}: page {page} at byte {offset} is damaged ({found}), and so is page {other} of its parity group \
         ({other_found}): one loss in a group can be repaired, two cannot; `keepstone check` tells more",
        file.display()
    )]
    TwoLosses {
        /// The file.
        file: PathBuf,
        /// The page that was read.
        page: PageId,
        /// Where its slot begins.
        offset: u64,
        /// What is there.
        found: String,
        /// The other page: a member of the group, or its parity page.
        other: PageId,
        /// What is there.
        other_found: String,
    },
    /// The slot holds a newer page: the reader is older than what the file still keeps.
    #[error("page {} was given to another page since generation {}; read from a newer root", at.page, at.birth)]
    Superseded {
        /// The reference that was followed.
        at: PageRef,
    },
    /// A sound page of another kind than expected.
    #[error("page {page} is of kind {found}, expected kind {expected}")]
    UnexpectedKind {
        /// The slot.
        page: PageId,
        /// What was expected.
        expected: PageKind,
        /// What it is.
        found: PageKind,
    },
    /// The disk is full; nothing of the generation being built is kept, and everything before it stands.
    #[error("no room for the pages of the next generation: {source}")]
    OutOfSpace {
        /// The disk's own error.
        source: IoError,
    },
    /// The file has as many pages as it can name.
    #[error("the page file is at its limit of {pages} pages")]
    Full {
        /// The limit.
        pages: u64,
    },
    /// A sync failed before: nothing more is written until the file is opened again.
    #[error("the page file takes no more writes since a sync failed; open the store again")]
    Poisoned,
    /// A call that the traits do not allow; a mistake in the layer above.
    #[error("page {page}: {what}")]
    Misuse {
        /// The slot.
        page: PageId,
        /// What is not allowed.
        what: &'static str,
    },
    /// A page of the free-space map is not what it must be. Pages are still read; before the next are written, the map
    /// is made anew from what is reachable.
    #[error(
        "{}: the free-space map is damaged at page {page} ({part}): {what}; `keepstone check --repair` makes it anew",
        file.display()
    )]
    FreeSpace {
        /// The file.
        file: PathBuf,
        /// The page of the map.
        page: PageId,
        /// Which part: a region or a node of the directory.
        part: String,
        /// Expected and found.
        what: String,
    },
    /// The next generation is being built already.
    #[error("the next generation is being built already; commit or drop its writer first")]
    WriterBusy,
    /// The file was opened for reading.
    #[error("{} was opened for reading only", file.display())]
    ReadOnly {
        /// The file.
        file: PathBuf,
    },
    /// The bytes that a commit shall carry are too many.
    #[error("a commit carries at most {max} bytes for the layer above, found {len}")]
    MetaTooLong {
        /// Found.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The file has had as many commits as can be numbered.
    #[error("the page file has had its last generation; export the store and import it into a new one")]
    LastGeneration,
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl PageError {
    /// An error of the disk on a write: a full disk apart from the others.
    pub(crate) fn of_write(source: IoError) -> Self {
        if source.is_out_of_space() { Self::OutOfSpace { source } } else { Self::Io(source) }
    }

    /// A page in memory under a reference that says otherwise.
    pub(crate) fn not_as_referenced(at: PageRef, found: PageRef) -> Self {
        if found.birth > at.birth {
            return Self::Superseded { at };
        }
        Self::Damaged {
            file: PathBuf::new(),
            page: at.page,
            offset: 0,
            expected: at.to_string(),
            found: found.to_string(),
        }
    }

    /// A slot that holds nothing.
    pub(crate) fn missing(at: PageRef) -> Self {
        Self::Damaged {
            file: PathBuf::new(),
            page: at.page,
            offset: 0,
            expected: at.to_string(),
            found: "nothing".to_owned(),
        }
    }

    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::TwoLosses { .. }
                | Self::UnexpectedKind { .. }
                | Self::FreeSpace { .. }
        )
    }
}

/// Why a page file could not be created or opened. Nothing was written to a file that is not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An option is out of bounds.
    #[error("option {option}: expected {expected}, found {found}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its bounds.
        expected: String,
        /// What it is.
        found: u64,
    },
    /// Neither copy of the prologue begins as a page file does.
    #[error("{}: expected a page file, found other bytes at 0 and where the second copy would be", file.display())]
    NotAPageFile {
        /// The file.
        file: PathBuf,
    },
    /// No copy of the prologue is whole.
    #[error("{}: both copies of the prologue are damaged: slot 0 holds {first}, slot 61 holds {second}", file.display())]
    Prologue {
        /// The file.
        file: PathBuf,
        /// What slot 0 holds.
        first: String,
        /// What slot 61 holds.
        second: String,
    },
    /// The file was written by a newer version.
    #[error("{}: expected format {known} or older, found {found}; open it with a newer version", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The newest format that is known here.
        known: u32,
        /// The file's.
        found: u32,
    },
    /// The file needs features that are not known here.
    #[error("{}: it uses features {bits:#x}, without which it cannot be {}; open it with a newer version",
        file.display(), if *writing { "written" } else { "read" })]
    Features {
        /// The file.
        file: PathBuf,
        /// The features.
        bits: u64,
        /// Whether it could be read without them.
        writing: bool,
    },
    /// Pages of a size that there is not.
    #[error("{}: expected pages of 4096, 8192 or 16384 bytes, found {found}", file.display())]
    PageSize {
        /// The file.
        file: PathBuf,
        /// The size.
        found: u32,
    },
    /// A setting of the file that is not known here.
    #[error("{}: expected {field} {expected}, found {found}; open it with a newer version", file.display())]
    Setting {
        /// The file.
        file: PathBuf,
        /// Which.
        field: &'static str,
        /// What is known.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The file belongs to another store.
    #[error("{}: expected a file of store {expected}, found one of {found}", file.display())]
    OtherStore {
        /// The file.
        file: PathBuf,
        /// The store that was asked for.
        expected: StoreId,
        /// The file's.
        found: StoreId,
    },
    /// No header is whole and new enough.
    #[error("{}: no header of generation {oldest} or newer: {}", file.display(), copies.join("; "))]
    NoGeneration {
        /// The file.
        file: PathBuf,
        /// The oldest that would do.
        oldest: Generation,
        /// How each copy was found.
        copies: Vec<String>,
    },
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
}
