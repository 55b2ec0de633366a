//! Faults that are asked for: when, and what.

use std::path::PathBuf;

use super::event::WriteFate;

/// How a sync fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedSync {
    /// Whether readers go on seeing the bytes that never arrived, as with a cache that marks them clean.
    pub reads_back: bool,
}

/// A fault, and when it strikes. Changes are counted from 0 over the life of the disk object: writes, lengths, syncs,
/// names; see [`SimulatedDisk::changes`](super::SimulatedDisk::changes).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The first sync of a file or folder at or after this change fails.
    FailSync(u64, FailedSync),
    /// The first write at or after this change fails, and nothing of it is written.
    FailWrite(u64),
    /// The first write at or after this change has this fate.
    Divert(u64, WriteFate),
    /// Every change from this one on fails and does nothing: the power is gone, but the process goes on.
    PowerOff(u64),
    /// About one read and one write in so many is shorter than asked for.
    Short(u64),
    /// Reads that touch this sector of 512 bytes fail, until it is written again.
    BadSector(PathBuf, u64),
}
