//! Every lock of the product, in the one order in which they may be taken.
//!
//! A thread that holds a lock may take only locks of a higher rank, so no cycle of waiting threads can arise. The
//! feature `checks` enforces it at every lock; `cargo xtask tidy` holds that the ranks here ascend and are used.
//! No lock is held across I/O except [`LOG_APPEND`], the highest of those that guard one.

/// The place of a lock in the order, with the name that a violation is reported under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRank {
    rank: u16,
    name: &'static str,
}

impl LockRank {
    /// A lock of this rank and name.
    #[must_use]
    pub const fn new(rank: u16, name: &'static str) -> Self {
        Self { rank, name }
    }

    /// The place in the order.
    #[must_use]
    pub const fn rank(self) -> u16 {
        self.rank
    }

    /// What the lock guards.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// A lock that only tests and examples take.
pub const TEST_OUTER: LockRank = LockRank::new(1, "test: outer");
/// A second lock that only tests and examples take, inside the first.
pub const TEST_INNER: LockRank = LockRank::new(2, "test: inner");
/// Wakes the log's keeper and holds what it is asked for.
pub const LOG_KEEPER: LockRank = LockRank::new(500, "wal: keeper's requests");
/// Pins on log segments.
pub const LOG_PINS: LockRank = LockRank::new(510, "wal: pins");
/// The commit queue: admission, numbering, hand-off of leadership.
pub const LOG_QUEUE: LockRank = LockRank::new(600, "wal: commit queue");
/// The log's tail: the one lock that is held across I/O.
pub const LOG_APPEND: LockRank = LockRank::new(900, "wal: append");
/// The process-wide registry of locked paths.
pub const VFS_LOCK_REGISTRY: LockRank = LockRank::new(950, "vfs: registry of locked paths");
/// The file tree of the memory file system.
pub const VFS_MEMORY_TREE: LockRank = LockRank::new(960, "vfs: memory tree");
/// The bytes of one file of the memory file system.
pub const VFS_MEMORY_FILE: LockRank = LockRank::new(970, "vfs: memory file");
