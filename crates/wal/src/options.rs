//! What a log is opened with, and the bounds each setting is held to.

use std::time::Duration;

use keepstone_types::{Lsn, StoreId};
use keepstone_vfs::WriteMode;

use crate::error::OptionsError;
use crate::group::GROUP_HEADER_LEN;
use crate::segment::{HEADER_BYTES, SEGMENT_BYTES_LIMIT, is_sector};

/// When a commit returns, and what a crash may then take away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// As [`Normal`](Durability::Normal), and the file's metadata is synced too.
    Full,
    /// On stable storage before the commit returns.
    #[default]
    Normal,
    /// Written before the commit returns, and synced after at most so many commits and so much time. A crash removes a
    /// tail of at most that, **which readers may have seen**.
    Relaxed {
        /// Commits that may be written and not yet synced.
        max_commits: u32,
        /// Time that a written commit may wait for its sync.
        max_delay: Duration,
    },
    /// Written before the commit returns; synced when a segment is full, on [`sync`](crate::Log::sync) and on close. A
    /// crash removes a tail of any length, **which readers may have seen**.
    None,
}

impl Durability {
    /// Whether a commit that returned may be lost.
    #[must_use]
    pub const fn may_lose_acknowledged(self) -> bool {
        matches!(self, Self::Relaxed { .. } | Self::None)
    }

    /// The order from weakest to strongest.
    const fn strength(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Relaxed { .. } => 1,
            Self::Normal => 2,
            Self::Full => 3,
        }
    }

    /// The stronger of two; of two `Relaxed`, what both ask for.
    pub(crate) fn stronger(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::Relaxed { max_commits, max_delay },
                Self::Relaxed { max_commits: other_commits, max_delay: other_delay },
            ) => Self::Relaxed {
                max_commits: max_commits.min(other_commits),
                max_delay: max_delay.min(other_delay),
            },
            _ if other.strength() > self.strength() => other,
            _ => self,
        }
    }
}

/// What opening does about damage that cannot be healed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// Refuses to open and says where the damage is.
    #[default]
    Strict,
    /// Opens what comes before the damage, on a new timeline, and moves the damaged segments and all after them whole to
    /// `quarantine/`.
    Prefix,
}

/// Whether the log is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Takes the folder's lock; recovers, heals and appends.
    #[default]
    Write,
    /// Takes no lock and writes nothing. What is past the proven mark is shown as unproven.
    ReadOnly,
}

/// Who does the log's chores: spare segments, idle marks, syncs that are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tending {
    /// A background thread of the log's own.
    #[default]
    Thread,
    /// Whoever calls [`Log::tend`](crate::Log::tend), as often as it likes; no thread is started. Until then no idle mark
    /// is written, `max_delay` is not honoured, a leader that needs a spare makes it itself, and a record that was
    /// submitted is written when somebody waits for it or commits after it. For programs without threads, and for
    /// simulations that must run the same way twice.
    Caller,
}

/// How a log is opened. [`Default`] is safe; every bound is checked by [`Log::open`](crate::Log::open).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOptions {
    /// The least durability of a commit; one commit may ask for more, never for less.
    pub durability: Durability,
    /// What is done about damage that cannot be healed.
    pub recovery: Recovery,
    /// Whether the log is written to.
    pub access: Access,
    /// Who does the log's chores.
    pub tending: Tending,
    /// How groups travel to the disk.
    pub write_mode: WriteMode,
    /// The unit that groups are aligned and healed in, for new segments: 512 or 4,096 bytes.
    pub sector_size: u32,
    /// Length of the first segments in bytes, 128 KiB at least.
    pub segment_bytes_min: u64,
    /// Length to which segments grow under load, in bytes.
    pub segment_bytes_max: u64,
    /// Records that may be queued.
    pub queue_entries_max: usize,
    /// Bytes of records that may be queued.
    pub queue_bytes_max: usize,
    /// How long a commit waits for room in the queue before it is refused.
    pub queue_wait: Duration,
    /// A payload of at least this many bytes travels in a side file.
    pub side_file_threshold: usize,
    /// The store that the log belongs to: what a new log is marked with, and what an existing one must be marked with.
    /// `None` draws one at random, or takes the one found.
    pub store_id: Option<StoreId>,
    /// Bytes at the front of each payload that stay in the record, because [`admit`](crate::LogSink::admit) fills them.
    pub head_len: usize,
    /// What is known from elsewhere to have been durable: a log that ends before it is damaged.
    pub known_durable: Lsn,
    /// The log is known to exist: a folder without any of its files is damaged, not a new log.
    pub must_exist: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Normal,
            recovery: Recovery::Strict,
            access: Access::Write,
            tending: Tending::Thread,
            write_mode: WriteMode::Cached,
            sector_size: 4_096,
            segment_bytes_min: 1 << 20,
            segment_bytes_max: 16 << 20,
            queue_entries_max: 100_000,
            queue_bytes_max: 64 << 20,
            queue_wait: Duration::from_millis(100),
            side_file_threshold: 512 << 10,
            store_id: None,
            head_len: 0,
            known_durable: Lsn::ZERO,
            must_exist: false,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            }
        )*
    };
}

impl LogOptions {
    setters! {
        /// Sets [`durability`](Self#structfield.durability).
        durability: Durability,
        /// Sets [`recovery`](Self#structfield.recovery).
        recovery: Recovery,
        /// Sets [`access`](Self#structfield.access).
        access: Access,
        /// Sets [`tending`](Self#structfield.tending).
        tending: Tending,
        /// Sets [`write_mode`](Self#structfield.write_mode).
        write_mode: WriteMode,
        /// Sets [`sector_size`](Self#structfield.sector_size).
        sector_size: u32,
        /// Sets [`segment_bytes_min`](Self#structfield.segment_bytes_min).
        segment_bytes_min: u64,
        /// Sets [`segment_bytes_max`](Self#structfield.segment_bytes_max).
        segment_bytes_max: u64,
        /// Sets [`queue_entries_max`](Self#structfield.queue_entries_max).
        queue_entries_max: usize,
        /// Sets [`queue_bytes_max`](Self#structfield.queue_bytes_max).
        queue_bytes_max: usize,
        /// Sets [`queue_wait`](Self#structfield.queue_wait).
        queue_wait: Duration,
        /// Sets [`side_file_threshold`](Self#structfield.side_file_threshold).
        side_file_threshold: usize,
        /// Sets [`store_id`](Self#structfield.store_id).
        store_id: Option<StoreId>,
        /// Sets [`head_len`](Self#structfield.head_len).
        head_len: usize,
        /// Sets [`known_durable`](Self#structfield.known_durable).
        known_durable: Lsn,
        /// Sets [`must_exist`](Self#structfield.must_exist).
        must_exist: bool,
    }

    /// Holds every setting to its bounds.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let number = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let bounds = [
            ("segment_bytes_min", self.segment_bytes_min, SEGMENT_BYTES_FLOOR, SEGMENT_BYTES_LIMIT),
            ("segment_bytes_max", self.segment_bytes_max, self.segment_bytes_min, SEGMENT_BYTES_LIMIT),
            ("queue_entries_max", number(self.queue_entries_max), 1, QUEUE_ENTRIES_LIMIT),
            ("queue_bytes_max", number(self.queue_bytes_max), 4_096, 1 << 40),
            ("side_file_threshold", number(self.side_file_threshold), 1_024, 1 << 40),
            ("head_len", number(self.head_len), 0, HEAD_LEN_LIMIT),
        ];
        for (field, value, low, high) in bounds {
            if value < low || value > high {
                return Err(OptionsError { field, value, expected: format!("{low} to {high}") });
            }
        }
        if !is_sector(self.sector_size) {
            let (value, expected) = (u64::from(self.sector_size), "512 or 4096".to_owned());
            return Err(OptionsError { field: "sector_size", value, expected });
        }
        for (field, len) in
            [("segment_bytes_min", self.segment_bytes_min), ("segment_bytes_max", self.segment_bytes_max)]
        {
            if len % 4_096 != 0 {
                return Err(OptionsError { field, value: len, expected: "a multiple of 4096".to_owned() });
            }
        }
        Ok(())
    }
}

/// The shortest segment that holds a useful group beside its headers.
const SEGMENT_BYTES_FLOOR: u64 = 128 << 10;
/// The longest head of a payload, far below the smallest group.
const HEAD_LEN_LIMIT: u64 = 1_024;
/// More entries than any queue holds; the gap between timelines in LSNs is larger.
const QUEUE_ENTRIES_LIMIT: u64 = 1 << 24;

const _: () = assert!(SEGMENT_BYTES_FLOOR > HEADER_BYTES + HEAD_LEN_LIMIT + 16 * 4_096);
const _: () = assert!(GROUP_HEADER_LEN < 512);
