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
/// Makes the ids of new nodes.
pub const KEEPSTONE_IDS: LockRank = LockRank::new(100, "keepstone: ids of new nodes");
/// Who listens to a store's events.
pub const KEEPSTONE_LISTENERS: LockRank = LockRank::new(110, "keepstone: listeners");
/// The events that one listener has not taken yet.
pub const KEEPSTONE_EVENTS: LockRank = LockRank::new(120, "keepstone: events of a listener");
/// Who holds the exclusive turn, and who waits for calls in progress to end.
pub const MVCC_GATE: LockRank = LockRank::new(300, "mvcc: gate");
/// The lock file of an open store, until it is closed.
pub const MVCC_STORE_LOCK: LockRank = LockRank::new(305, "mvcc: store lock");
/// Reserving table ids.
pub const MVCC_CATALOG: LockRank = LockRank::new(310, "mvcc: catalog");
/// What a transaction has read.
pub const MVCC_READ_SET: LockRank = LockRank::new(320, "mvcc: read set");
/// How far a scan of a transaction has come.
pub const MVCC_SCAN_TRACE: LockRank = LockRank::new(330, "mvcc: scan trace");
/// One stripe of the commit latencies.
pub const MVCC_LATENCY: LockRank = LockRank::new(340, "mvcc: commit latencies");
/// Whether a checkpoint is under way, and who waits for it.
pub const MVCC_CHECKPOINT: LockRank = LockRank::new(350, "mvcc: checkpoint");
/// Wakes the thread that checkpoints.
pub const MVCC_CHECKPOINT_ALARM: LockRank = LockRank::new(355, "mvcc: checkpoint alarm");
/// Memtables that are folded and may still be read.
pub const MVCC_LEAVING: LockRank = LockRank::new(357, "mvcc: leaving memtables");
/// What was left of history when it was pruned last.
pub const MVCC_PRUNED: LockRank = LockRank::new(358, "mvcc: pruned history");
/// Which runs records of the log name.
pub const MVCC_RUNS: LockRank = LockRank::new(359, "mvcc: runs");
/// How fast what is waiting grows and is folded.
pub const MVCC_PACE: LockRank = LockRank::new(360, "mvcc: pace");
/// The snapshot files of a folder that are being written or removed.
pub const MVCC_SNAPSHOT_NAMES: LockRank = LockRank::new(361, "mvcc: names of snapshot files");
/// Who replaces the layers.
pub const MVCC_LAYERS: LockRank = LockRank::new(370, "mvcc: layers");
/// The free-space map of a page file, while no generation is being built, and the roots that readers hold.
pub const PAGER_SPACE: LockRank = LockRank::new(400, "pager: free space");
/// Pages that were rebuilt and wait to be written again.
pub const PAGER_REPAIRS: LockRank = LockRank::new(410, "pager: repairs");
/// The places of chains of snapshots.
pub const XOR_DAG_PLACES: LockRank = LockRank::new(450, "xor-dag: places of chains");
/// Wakes the log's keeper and holds what it is asked for.
pub const LOG_KEEPER: LockRank = LockRank::new(500, "wal: keeper's requests");
/// Pins on log segments.
pub const LOG_PINS: LockRank = LockRank::new(510, "wal: pins");
/// The commit queue: admission, numbering, hand-off of leadership.
pub const LOG_QUEUE: LockRank = LockRank::new(600, "wal: commit queue");
/// The log's tail: the one lock that is held across I/O.
pub const LOG_APPEND: LockRank = LockRank::new(900, "wal: append");
/// Items that wait for an epoch to be over: for one push or one cut, under any lock of those above.
pub const EPOCH_ITEMS: LockRank = LockRank::new(920, "epoch: waiting items");
/// The process-wide registry of locked paths.
pub const VFS_LOCK_REGISTRY: LockRank = LockRank::new(950, "vfs: registry of locked paths");
/// The whole of a simulated disk.
pub const VFS_SIMULATED: LockRank = LockRank::new(955, "vfs: simulated disk");
/// The file tree of the memory file system.
pub const VFS_MEMORY_TREE: LockRank = LockRank::new(960, "vfs: memory tree");
/// The bytes of one file of the memory file system.
pub const VFS_MEMORY_FILE: LockRank = LockRank::new(970, "vfs: memory file");
