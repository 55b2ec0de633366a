//! What a store is opened with.

use std::time::Duration;

use keepstone_vfs::WriteMode;
use keepstone_wal::{Durability, LogOptions};

use crate::error::OpenError;

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
    /// Opens the newest checkpoint read-only. Needs the page file; refused until there is one.
    ReadOnlyAtCheckpoint,
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
    /// Bytes of recent commits that are remembered for validation; 64 KiB to 4 GiB.
    pub window_bytes_max: usize,
    /// Opens a store on a network file system, where locks and syncs cannot be trusted.
    pub force_network: bool,
    /// The log's own settings; its durability, recovery, access, store id and head length are set by the store.
    pub log: LogOptions,
}

const WINDOW_BYTES_FLOOR: usize = 64 << 10;
const WINDOW_BYTES_LIMIT: usize = 4 << 30;

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            existence: Existence::default(),
            access: Access::default(),
            durability: None,
            recovery: Recovery::default(),
            window_bytes_max: 16 << 20,
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
        /// Sets [`window_bytes_max`](Self#structfield.window_bytes_max).
        window_bytes_max: usize => window_bytes_max,
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
        if self.recovery == Recovery::ReadOnlyAtCheckpoint {
            return Err(OpenError::NotYet { what: "Recovery::ReadOnlyAtCheckpoint", needs: "the page file" });
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
        let error = check(DatabaseOptions::default().recovery(Recovery::ReadOnlyAtCheckpoint)).unwrap_err();
        assert!(error.contains("page file"), "{error}");
    }
}
