//! What a store is opened with.

use std::time::Duration;

use keepstone_vfs::WriteMode;
use keepstone_wal::{Durability, LogOptions};

use crate::error::OpenError;
use crate::readers::ReaderAllowance;

/// Whether a store must be there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existence {
    /// There must be none; a new one is made.
    Create,
    /// There must be one.
    MustExist,
    /// One is made if there is none.
    #[default]
    CreateIfMissing,
}

/// Whether the store is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// For writing; fails when another opener has it for writing.
    #[default]
    Write,
    /// Only for reading: takes no lock and writes nothing, repairs included.
    ReadOnly,
    /// For writing when no other opener has it for writing, else only for reading.
    WriteIfFree,
}

/// What opening does about damage that cannot be healed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// Refuses to open and says where the damage is.
    #[default]
    Strict,
    /// Opens what comes before the damage, on a new timeline; damaged segments are moved to `quarantine/`.
    Prefix,
    /// Opens what the page file has whole, read-only, without looking at the log.
    ReadOnlyAtCheckpoint,
}

/// How long versions that are not the newest can be read. Versions with a name, and those that a snapshot holds, stay as
/// long as these do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// For ever.
    Forever,
    /// For so long after a newer version took their place.
    For(Duration),
    /// Not at all.
    None,
}

impl Default for Retention {
    /// Seven days.
    fn default() -> Self {
        Self::For(Duration::from_secs(7 * 24 * 60 * 60))
    }
}

/// How older versions are kept. Rows say for themselves how they are kept, so it may be another each time a store is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryCoding {
    /// As what leads to them from the next newer version, where that is shorter, with a keyframe at least every eight.
    #[default]
    Chains,
    /// As they were written: for values that are encrypted or compressed, where looking for a shorter way takes time and
    /// finds none.
    Whole,
}

/// When what is in memory and in the log goes to the page file, beside [`Database::checkpoint`]; 0 turns a trigger off.
///
/// [`Database::checkpoint`]: crate::Database::checkpoint
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointOptions {
    /// Bytes of row versions in memory.
    pub memory_bytes: u64,
    /// Bytes of log segments.
    pub log_bytes: u64,
    /// Age of the oldest commit that is not folded.
    pub age: Duration,
    /// Quiet time after the last commit.
    pub idle: Duration,
    /// Keys that are folded in one go, 1 to 1,048,576. A slice also ends when it has 16 MiB of keys and values, or of pages
    /// to write.
    pub slice_keys: usize,
}

macro_rules! checkpoint_setters {
    ($($name:ident: $type:ty,)*) => {
        impl CheckpointOptions {
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](Self#structfield.", stringify!($name), ").")]
                #[must_use]
                pub const fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

checkpoint_setters! {
    memory_bytes: u64,
    log_bytes: u64,
    age: Duration,
    idle: Duration,
    slice_keys: usize,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            log_bytes: 256 << 20,
            age: Duration::from_secs(300),
            idle: Duration::from_secs(5),
            slice_keys: 65_536,
        }
    }
}

/// How a store is opened. [`Default`] is safe; bounds are checked when opening.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseOptions {
    /// Whether a store must be there already.
    pub existence: Existence,
    /// Whether it is written to.
    pub access: Access,
    /// The least durability of a commit; `None` takes what the store was made with (`Normal` for a new one).
    pub durability: Option<Durability>,
    /// What opening does about damage that cannot be healed.
    pub recovery: Recovery,
    /// How long older versions are kept; `None` takes what the store was made with (seven days for a new one).
    pub retention: Option<Retention>,
    /// How older versions are kept from now on.
    pub history: HistoryCoding,
    /// Bytes of a page of a new store: 4,096, 8,192 or 16,384.
    pub page_size: u32,
    /// Whether a new store keeps parity of its pages, so that what is damaged is repaired: true unless said otherwise. A store
    /// that is there says itself.
    pub parity: bool,
    /// Bytes of pages that are kept in memory; 1 MiB to 1 TiB.
    pub cache_bytes: u64,
    /// When checkpoints happen by themselves.
    pub checkpoint: CheckpointOptions,
    /// How long, and at what price, snapshots, transactions and iterators may hold a version.
    pub readers: ReaderAllowance,
    /// Bytes of recent commits that are remembered for validation; 64 KiB to 4 GiB.
    pub window_bytes_max: usize,
    /// Bytes of writes that a transaction holds in memory, what a row takes beside its key and value included; more goes to
    /// files beside the store. 64 KiB to 256 MiB.
    pub transaction_memory_bytes: usize,
    /// Opens a store on a network file system, where locks and syncs cannot be trusted.
    pub force_network: bool,
    /// The log's own settings; its durability, recovery, access, store id and head length are set by the store.
    pub log: LogOptions,
}

const PAGE_SIZES: [u32; 3] = [4_096, 8_192, 16_384];
const SLICE_KEYS_LIMIT: usize = 1 << 20;
const CACHE_BYTES_FLOOR: u64 = 1 << 20;
const CACHE_BYTES_LIMIT: u64 = 1 << 40;
const WINDOW_BYTES_FLOOR: usize = 64 << 10;
const WINDOW_BYTES_LIMIT: usize = 4 << 30;
const TRANSACTION_MEMORY_FLOOR: usize = 64 << 10;
const TRANSACTION_MEMORY_LIMIT: usize = 256 << 20;

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            existence: Existence::default(),
            access: Access::default(),
            durability: None,
            recovery: Recovery::default(),
            retention: None,
            history: HistoryCoding::default(),
            page_size: 8_192,
            parity: true,
            cache_bytes: 64 << 20,
            checkpoint: CheckpointOptions::default(),
            readers: ReaderAllowance::default(),
            window_bytes_max: 16 << 20,
            transaction_memory_bytes: 64 << 20,
            force_network: false,
            log: LogOptions::default(),
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $($field:ident).+,)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$($field).+ = $name.into();
                self
            }
        )*
    };
}

impl DatabaseOptions {
    setters! {
        /// Sets [`existence`](Self#structfield.existence).
        existence: Existence => existence,
        /// Sets [`access`](Self#structfield.access).
        access: Access => access,
        /// Sets [`durability`](Self#structfield.durability).
        durability: Durability => durability,
        /// Sets [`recovery`](Self#structfield.recovery).
        recovery: Recovery => recovery,
        /// Sets [`retention`](Self#structfield.retention).
        retention: Retention => retention,
        /// Sets [`history`](Self#structfield.history).
        history: HistoryCoding => history,
        /// Sets [`page_size`](Self#structfield.page_size).
        page_size: u32 => page_size,
        /// Sets [`parity`](Self#structfield.parity).
        parity: bool => parity,
        /// Sets [`cache_bytes`](Self#structfield.cache_bytes).
        cache_bytes: u64 => cache_bytes,
        /// Sets [`checkpoint`](Self#structfield.checkpoint).
        checkpoint: CheckpointOptions => checkpoint,
        /// Sets [`readers`](Self#structfield.readers).
        readers: ReaderAllowance => readers,
        /// Sets [`window_bytes_max`](Self#structfield.window_bytes_max).
        window_bytes_max: usize => window_bytes_max,
        /// Sets [`transaction_memory_bytes`](Self#structfield.transaction_memory_bytes).
        transaction_memory_bytes: usize => transaction_memory_bytes,
        /// Sets [`force_network`](Self#structfield.force_network).
        force_network: bool => force_network,
        /// Sets [`log`](Self#structfield.log).
        log: LogOptions => log,
        /// Commits that may be queued; the log's own setting.
        queue_entries_max: usize => log.queue_entries_max,
        /// Bytes of commits that may be queued; the log's own setting.
        queue_bytes_max: usize => log.queue_bytes_max,
        /// How long a commit waits for room in the queue; the log's own setting.
        queue_wait: Duration => log.queue_wait,
        /// The unit that the log is aligned and healed in, 512 or 4,096 bytes; the log's own setting.
        sector_size: u32 => log.sector_size,
        /// How the log's groups travel to the disk; the log's own setting.
        write_mode: WriteMode => log.write_mode,
    }

    /// Holds every setting to its bounds; the log holds its own.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if self.window_bytes_max < WINDOW_BYTES_FLOOR || self.window_bytes_max > WINDOW_BYTES_LIMIT {
            let (value, range) = (self.window_bytes_max.to_string(), "65536 to 4294967296");
            return Err(OpenError::Option { field: "window_bytes_max", value, range });
        }
        if !(TRANSACTION_MEMORY_FLOOR..=TRANSACTION_MEMORY_LIMIT).contains(&self.transaction_memory_bytes) {
            let (value, range) = (self.transaction_memory_bytes.to_string(), "65536 to 268435456");
            return Err(OpenError::Option { field: "transaction_memory_bytes", value, range });
        }
        if !PAGE_SIZES.contains(&self.page_size) {
            let (value, range) = (self.page_size.to_string(), "4096, 8192 or 16384");
            return Err(OpenError::Option { field: "page_size", value, range });
        }
        if self.checkpoint.slice_keys == 0 || self.checkpoint.slice_keys > SLICE_KEYS_LIMIT {
            let (value, range) = (self.checkpoint.slice_keys.to_string(), "1 to 1048576");
            return Err(OpenError::Option { field: "checkpoint.slice_keys", value, range });
        }
        if self.cache_bytes < CACHE_BYTES_FLOOR || self.cache_bytes > CACHE_BYTES_LIMIT {
            let (value, range) = (self.cache_bytes.to_string(), "1048576 to 1099511627776");
            return Err(OpenError::Option { field: "cache_bytes", value, range });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_bounds_are_named() {
        let check = |options: DatabaseOptions| options.check().map_err(|error| error.to_string());
        assert_eq!(check(DatabaseOptions::default()), Ok(()));
        for bytes in [0, WINDOW_BYTES_FLOOR - 1, WINDOW_BYTES_LIMIT + 1] {
            let error = check(DatabaseOptions::default().window_bytes_max(bytes)).unwrap_err();
            assert!(error.contains("window_bytes_max") && error.contains("65536"), "{error}");
        }
        for bytes in [WINDOW_BYTES_FLOOR, WINDOW_BYTES_LIMIT] {
            assert_eq!(check(DatabaseOptions::default().window_bytes_max(bytes)), Ok(()));
        }
        let error = check(DatabaseOptions::default().page_size(1_000)).unwrap_err();
        assert!(error.contains("page_size is 1000; allowed is 4096, 8192 or 16384"), "{error}");
        let error = check(DatabaseOptions::default().cache_bytes(5)).unwrap_err();
        assert!(error.contains("cache_bytes"), "{error}");
        let error = check(DatabaseOptions::default().transaction_memory_bytes(9)).unwrap_err();
        assert!(error.contains("transaction_memory_bytes is 9"), "{error}");
        let none = CheckpointOptions::default().slice_keys(0);
        assert!(check(DatabaseOptions::default().checkpoint(none)).unwrap_err().contains("slice_keys"));
    }
}
