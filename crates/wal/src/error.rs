//! What can go wrong, one enum per phase. Each says what, where, expected and found, and which command helps.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use keepstone_types::{Lsn, StoreId};
use keepstone_vfs::IoError;

use crate::sync::Arc;

/// An error of the caller's own code, called back by the log.
pub type CallerError = Box<dyn Error + Send + Sync>;

/// A setting outside its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting `{field}` is {value}, expected {expected}")]
#[non_exhaustive]
pub struct OptionsError {
    /// The setting.
    pub field: &'static str,
    /// What it was set to.
    pub value: u64,
    /// What it may be.
    pub expected: String,
}

/// What was done about damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// The lost bytes were rebuilt, written back and synced.
    Healed,
    /// The lost bytes can be rebuilt and were, in memory; nothing was written.
    InMemory,
    /// The lost bytes cannot be rebuilt.
    Impossible,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healed => "healed",
            Self::InMemory => "healed in memory",
            Self::Impossible => "cannot be healed",
        })
    }
}

/// Damage that was found in a file of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {offset}: expected {expected}, found {found} ({repair})", file.display())]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What was done about it.
    pub repair: Repair,
}

impl Damage {
    pub(crate) fn new(
        file: PathBuf,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self { file, offset, expected, found, repair: Repair::Impossible }
    }

    pub(crate) fn with_repair(mut self, repair: Repair) -> Self {
        self.repair = repair;
        self
    }
}

/// A log that could not be opened. Nothing was written when the log was not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is outside its bounds.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// There is no log to read.
    #[error("there is no log in {}; open it for writing to create one", dir.display())]
    NotFound {
        /// The folder.
        dir: PathBuf,
    },
    /// Another writer has the folder.
    #[error("{} is open for writing by {holder}; close it there, or open read-only", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Damage that cannot be healed and must not be cut: it was durable.
    #[error(
        "damaged: {damage}; `keepstone check` lists all damage, opening with Recovery::Prefix keeps the \
             records before LSN {next_lsn} and moves the rest to quarantine/"
    )]
    Damaged {
        /// Where.
        damage: Box<Damage>,
        /// The first LSN that is not kept by opening the prefix.
        next_lsn: Lsn,
    },
    /// A segment that others refer to is not there.
    #[error("segment {number} is missing in {}: expected the file {expected}; put it back, or open with \
             Recovery::Prefix to keep the records before LSN {next_lsn}", dir.display())]
    MissingSegment {
        /// The folder.
        dir: PathBuf,
        /// Its number.
        number: u64,
        /// Its file name.
        expected: String,
        /// The first LSN that is not kept by opening the prefix.
        next_lsn: Lsn,
    },
    /// A file belongs to another store.
    #[error("{} belongs to store {found}, expected {expected}; move it away, or open the folder it came from", file.display())]
    ForeignStore {
        /// The file.
        file: PathBuf,
        /// The store that is being opened.
        expected: StoreId,
        /// The store the file belongs to.
        found: StoreId,
    },
    /// A file was written in a later format.
    #[error("{} has format {found}, this build reads up to {supported}; open it with a newer build", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The last format that this build reads.
        supported: u32,
    },
    /// A file uses features this build does not have.
    #[error("{} uses features {found:#x} that this build does not know ({}); open it with a newer build{}",
            file.display(), if *read_only_helps { "reading would be safe" } else { "not even reading is safe" },
            if *read_only_helps { ", or read-only" } else { "" })]
    UnknownFeatures {
        /// The file.
        file: PathBuf,
        /// The unknown bits.
        found: u64,
        /// Whether the log can be opened read-only.
        read_only_helps: bool,
    },
    /// A record must be understood and is not.
    #[error("{} at byte {offset}: the record with LSN {lsn} is of {kind}, which must be understood and is not; \
             open it with a newer build", file.display())]
    UnknownRecord {
        /// The file.
        file: PathBuf,
        /// Where its group begins.
        offset: u64,
        /// Its LSN, or the next record's if it has none.
        lsn: Lsn,
        /// Its kind.
        kind: crate::RecordKind,
    },
    /// What is past the proven mark must be copied before it is shown, and there is no room for the copy.
    #[error("there is no room in {} for the {needed} bytes that recovery needs; make room, or open read-only", dir.display())]
    NoRoom {
        /// The folder.
        dir: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// What the disk said.
        source: IoError,
    },
    /// The 65,536 timelines of a store are used up.
    #[error("the log in {} has used all its timelines; write its content to a new store with `keepstone export`", dir.display())]
    TimelinesExhausted {
        /// The folder.
        dir: PathBuf,
    },
    /// The replay refused a record.
    #[error("replaying the record with LSN {lsn}: {source}")]
    Replay {
        /// The record.
        lsn: Lsn,
        /// The caller's error.
        source: CallerError,
    },
    /// The random source of the system failed while drawing the id of a new store.
    #[error("cannot draw a store id: {0}")]
    Random(String),
    /// The background thread could not be started.
    #[error("cannot start the log's background thread: {0}")]
    Thread(std::io::Error),
}

impl OpenError {
    /// A stable name of the kind of error.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Options(_) => "options",
            Self::NotFound { .. } => "not-found",
            Self::Locked { .. } => "locked",
            Self::Io(_) => "io",
            Self::Damaged { .. } => "damaged",
            Self::MissingSegment { .. } => "missing-segment",
            Self::ForeignStore { .. } => "foreign-store",
            Self::NewerFormat { .. } => "newer-format",
            Self::UnknownFeatures { .. } => "unknown-features",
            Self::UnknownRecord { .. } => "unknown-record",
            Self::NoRoom { .. } => "no-room",
            Self::TimelinesExhausted { .. } => "timelines-exhausted",
            Self::Replay { .. } => "replay",
            Self::Random(_) => "random",
            Self::Thread(_) => "thread",
        }
    }

    /// Whether opening again, unchanged, may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::NoRoom { .. } | Self::Random(_) | Self::Thread(_))
    }
}

/// Why a log takes no more records until it is opened again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoisonCause {
    /// A write or sync failed: what is on the disk is unknown.
    #[error(transparent)]
    Io(IoError),
    /// A thread panicked in the middle of a commit.
    #[error("a thread panicked while it {doing}")]
    Panicked {
        /// What it was doing.
        doing: &'static str,
    },
    /// The log is out of sequence numbers.
    #[error("the log's sequence numbers are used up")]
    Exhausted,
}

/// A commit that did not succeed, or of which it is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError<R> {
    /// The layer above refused the record.
    #[error("the commit was refused")]
    Refused(R),
    /// The queue stayed full. Nothing was kept; trying again later may succeed.
    #[error("the log's queue stayed full for {} ms", waited.as_millis())]
    Full {
        /// How long the commit waited.
        waited: Duration,
    },
    /// There was no room on the disk, and nothing was written. Work resumes when there is room again.
    #[error("{} needs {needed} bytes that the disk does not have; nothing was written, make room and try again",
            path.display())]
    OutOfSpace {
        /// The file that could not be made.
        path: PathBuf,
        /// Its length in bytes.
        needed: u64,
    },
    /// Writing or syncing failed. Whether the record is kept is known only after the log is opened again.
    #[error("whether the record is kept is unknown until the log is opened again: {source}")]
    OutcomeUnknown {
        /// What failed.
        source: Arc<PoisonCause>,
    },
    /// An earlier commit failed with an unknown outcome. Nothing was kept; open the log again.
    #[error("the log takes no more records after LSN {since} until it is opened again: {source}")]
    Poisoned {
        /// The last record that is known to be durable.
        since: Lsn,
        /// What failed.
        source: Arc<PoisonCause>,
    },
    /// The payload is longer than any record may be.
    #[error("a record of {len} bytes, at most {max} are possible")]
    TooLarge {
        /// Bytes of the payload.
        len: u64,
        /// The most that are possible.
        max: u64,
    },
    /// The payload is shorter than the head that admission fills.
    #[error("a payload of {len} bytes, the head alone has {head_len}")]
    HeadMissing {
        /// Bytes of the payload.
        len: usize,
        /// Bytes of the head.
        head_len: usize,
    },
    /// The kind is the log's own.
    #[error("records of the kind `{kind}` are written by the log alone")]
    ReservedKind {
        /// The kind.
        kind: crate::RecordKind,
    },
    /// A side file could not be written; nothing was kept.
    #[error("cannot write a large value: {0}")]
    SideFile(IoError),
    /// The log was opened for reading.
    #[error("the log is open read-only")]
    ReadOnly,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Why an append to the log alone did not succeed.
pub type AppendError = CommitError<Infallible>;

impl<R> CommitError<R> {
    /// A stable name of the kind of error.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Full { .. } => "full",
            Self::OutOfSpace { .. } => "out-of-space",
            Self::OutcomeUnknown { .. } => "outcome-unknown",
            Self::Poisoned { .. } => "poisoned",
            Self::TooLarge { .. } => "too-large",
            Self::HeadMissing { .. } => "head-missing",
            Self::ReservedKind { .. } => "reserved-kind",
            Self::SideFile(_) => "side-file",
            Self::ReadOnly => "read-only",
            Self::Closed => "closed",
        }
    }

    /// Whether the same commit may succeed later. An unknown outcome is never retried: the record may be there.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::OutOfSpace { .. })
    }
}

/// What a read of the log met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The records asked for were released.
    #[error("records from LSN {asked} on were asked for, the log begins at {first}")]
    Released {
        /// The first record asked for.
        asked: Lsn,
        /// The first that is there.
        first: Lsn,
    },
    /// Damage that cannot be healed.
    #[error("damaged: {0}; `keepstone check` lists all damage")]
    Damaged(Box<Damage>),
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// What a pin, or releasing records, met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The records to be pinned were released.
    #[error("records from LSN {asked} on were asked for, the log begins at {first}")]
    Released {
        /// The first record asked for.
        asked: Lsn,
        /// The first that is there.
        first: Lsn,
    },
    /// The name is empty or too long.
    #[error("a pin's name has 1 to 255 bytes, found {found}")]
    Name {
        /// Its bytes.
        found: usize,
    },
    /// Too many pins.
    #[error("at most {max} pins are possible")]
    TooMany {
        /// The most that are possible.
        max: usize,
    },
    /// No pin has that name.
    #[error("there is no pin named {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The pin held more bytes than it may, and let go.
    #[error("the pin {name:?} held more than its {max_bytes} bytes and let go; read everything anew")]
    Lost {
        /// The name.
        name: String,
        /// The bytes it might hold.
        max_bytes: u64,
    },
    /// The log was opened for reading.
    #[error("the log is open read-only")]
    ReadOnly,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// What syncing, closing or marking the log met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The log was poisoned; it was not closed in order.
    #[error("the log was not closed in order: {0}")]
    Poisoned(Arc<PoisonCause>),
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// The log was opened for reading.
    #[error("the log is open read-only")]
    ReadOnly,
    /// There was no room for the last record.
    #[error("no room on the disk: {} needs {needed} bytes", path.display())]
    OutOfSpace {
        /// The file that could not be made.
        path: PathBuf,
        /// Its length in bytes.
        needed: u64,
    },
}

macro_rules! kinds {
    ($error:ty, $($pattern:pat => $kind:literal,)*) => {
        impl $error {
            /// A stable name of the kind of error.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $($pattern => $kind,)*
                }
            }
        }
    };
}

kinds!(ReadError,
    Self::Released { .. } => "released",
    Self::Damaged(_) => "damaged",
    Self::Io(_) => "io",
);
kinds!(PinError,
    Self::Released { .. } => "released",
    Self::Name { .. } => "name",
    Self::TooMany { .. } => "too-many",
    Self::Unknown { .. } => "unknown",
    Self::Lost { .. } => "lost",
    Self::ReadOnly => "read-only",
    Self::Closed => "closed",
    Self::Io(_) => "io",
);
kinds!(CloseError,
    Self::Poisoned(_) => "poisoned",
    Self::Closed => "closed",
    Self::ReadOnly => "read-only",
    Self::OutOfSpace { .. } => "out-of-space",
);
