//! The layers of the store, one above the other: memtables, newest first, and the ground, the newest root of the page
//! file. A view is the layers and the version that is read from them.
//!
//! Invariants:
//! * Memtables cover disjoint, ascending spans of versions, newest first in the list, so the first that knows a key has
//!   its newest version. Only the first takes new rows.
//! * Together, memtables and ground know every version from the oldest that is retained on: what the ground has not
//!   folded is in a memtable, and a memtable leaves when the ground has folded all of it.
//! * A memtable may have runs, files of sorted rows of one large commit. It stands between the memtables of the commits
//!   before and after it, in the order of versions, as any other.
//! * The layers are replaced as a whole: by recovery, by the checkpoint, and by the log's leader when it comes to a commit
//!   with runs. A lock makes one replace what the other made.

use keepstone_types::{Lsn, Timestamp, ValueRef, Version, lock_rank};

use crate::catalog::TableId;
use crate::commit::entry::CommitEntry;
use crate::error::ReadError;
use crate::ground::Ground;
use crate::history::CommitInfo;
use crate::log::record::Row;
use crate::memtable::{FoundRow, Memtable, RowVersion};
use crate::runs::Run;
use crate::sync::{Arc, ArcSwap, Mutex};

/// Memtables above the ground.
#[derive(Debug)]
pub(crate) struct Layers {
    memtables: Vec<Arc<Memtable>>,
    /// `None` for a store that has no page file, as in tests.
    ground: Option<Arc<Ground>>,
}

impl Layers {
    pub(crate) const fn new(memtables: Vec<Arc<Memtable>>, ground: Option<Arc<Ground>>) -> Self {
        Self { memtables, ground }
    }

    /// These, with other memtables on top of them, newest first.
    fn with_on_top(&self, newer: &[Arc<Memtable>]) -> Self {
        let memtables = newer.iter().chain(&self.memtables).cloned().collect();
        Self { memtables, ground: self.ground.clone() }
    }

    /// The memtables, newest first.
    pub(crate) fn memtables(&self) -> &[Arc<Memtable>] {
        &self.memtables
    }

    pub(crate) fn ground(&self) -> Option<&Arc<Ground>> {
        self.ground.as_ref()
    }

    /// The newest visible version.
    pub(crate) fn visible(&self) -> Version {
        self.memtables.first().map_or(Version::ZERO, |active| active.visible())
    }

    /// The newest version of a row at or below `at`, a deletion included.
    pub(crate) fn get(&self, table: TableId, key: &[u8], at: Version) -> Result<Option<FoundRow>, ReadError> {
        for memtable in &self.memtables {
            if let Some(found) = memtable.get(table, key, at) {
                return Ok(Some(found));
            }
            if let Some(found) = memtable.get_in_runs(table, key, at)? {
                return Ok(Some(found));
            }
        }
        match &self.ground {
            Some(ground) => ground.get(table, key, at),
            None => Ok(None),
        }
    }

    /// The versions of a key at or below `at`, newest first, at most `limit`.
    pub(crate) fn versions(
        &self,
        table: TableId,
        key: &[u8],
        at: Version,
        limit: usize,
    ) -> Result<Vec<RowVersion>, ReadError> {
        let mut rows: Vec<RowVersion> = Vec::new();
        for memtable in &self.memtables {
            rows.extend(memtable.versions(table, key, at, limit.saturating_sub(rows.len())));
            if rows.len() < limit
                && let Some(FoundRow { version, value }) = memtable.get_in_runs(table, key, at)?
            {
                rows.push(RowVersion { key: ValueRef::copy_from(key), version, value });
            }
        }
        // While it is folded, a memtable's rows are in the ground too.
        let below = rows.last().map_or(Some(at), |oldest| oldest.version.before());
        if let (Some(ground), Some(below)) = (&self.ground, below)
            && rows.len() < limit
        {
            rows.extend(ground.versions(table, key, below, limit.saturating_sub(rows.len()))?);
        }
        Ok(rows)
    }

    /// The newest commit at or below a version.
    pub(crate) fn commit_at_or_below(&self, version: Version) -> Result<Option<CommitInfo>, ReadError> {
        let in_memory = self.memtables.iter().find_map(|memtable| memtable.commits().at_or_below(version));
        match (in_memory, &self.ground) {
            (Some(commit), _) => Ok(Some(CommitInfo::of(commit))),
            (None, Some(ground)) => ground.commit_at_or_below(version),
            (None, None) => Ok(None),
        }
    }

    /// The commit that made exactly this version.
    pub(crate) fn commit(&self, version: Version) -> Result<Option<CommitInfo>, ReadError> {
        Ok(self.commit_at_or_below(version)?.filter(|commit| commit.version == version))
    }

    /// The newest commit at or before a place in the order. Sequences are dense, across timelines too, but for those of
    /// commits that were pruned.
    pub(crate) fn newest_commit_to(&self, sequence: u64) -> Result<Option<CommitInfo>, ReadError> {
        let in_memory = self.memtables.iter().find_map(|memtable| memtable.commits().newest_to(sequence));
        match (in_memory, &self.ground) {
            (Some(commit), _) => Ok(Some(CommitInfo::of(commit))),
            (None, Some(ground)) => ground.newest_commit_to(sequence),
            (None, None) => Ok(None),
        }
    }

    /// The oldest commit at or behind a place in the order, visible or not.
    pub(crate) fn oldest_commit_from(&self, sequence: u64) -> Result<Option<CommitInfo>, ReadError> {
        if let Some(ground) = &self.ground
            && let Some(commit) = ground.oldest_commit_from(sequence)?
        {
            return Ok(Some(commit));
        }
        let mut memtables = self.memtables.iter().rev();
        let found = memtables.find_map(|memtable| memtable.commits().oldest_from(sequence));
        Ok(found.map(|commit| CommitInfo::of(commit)))
    }

    /// The sequence of the oldest commit that is known, and of the newest that is visible; `None` when there is none.
    pub(crate) fn commit_span(&self, visible: Version) -> Result<Option<(u64, u64)>, ReadError> {
        let first = self.oldest_commit_from(0)?.map(|commit| commit.version.sequence());
        Ok(first.map(|first| (first, visible.sequence())).filter(|(first, last)| first <= last))
    }

    /// The newest commit at or before a time, among those at or below `visible`; `None` also when one that was newer may
    /// have been pruned.
    pub(crate) fn commit_at_time(
        &self,
        time: Timestamp,
        visible: Version,
    ) -> Result<Option<CommitInfo>, ReadError> {
        let Some((first, last)) = self.commit_span(visible)? else { return Ok(None) };
        let (mut low, mut high) = (first, last.saturating_add(1));
        let mut found = None;
        while low < high {
            let middle = low.midpoint(high);
            match self.newest_commit_to(middle)?.filter(|commit| commit.version.sequence() >= low) {
                Some(commit) if commit.time > time => high = commit.version.sequence(),
                newest => {
                    // `None`: all from `low` to the middle were pruned.
                    found = newest.or(found);
                    low = middle.saturating_add(1);
                }
            }
        }
        let Some(commit) = found.filter(|commit| commit.time < time) else { return Ok(found) };
        // What followed says that it was later, unless it went.
        let next = commit.version.sequence().saturating_add(1);
        let is_last = commit.version.sequence() >= last;
        let follows =
            is_last || self.newest_commit_to(next)?.is_some_and(|found| found.version.sequence() == next);
        Ok(found.filter(|_| follows))
    }

    /// The version of the newest commit in memory whose record is at or before `lsn`; when these have all left, that
    /// through which they are folded.
    pub(crate) fn version_at_lsn(&self, lsn: Lsn) -> Option<Version> {
        let found = self.memtables.iter().find_map(|memtable| memtable.commits().at_lsn(lsn));
        let folded = || Some(self.ground.as_ref()?.meta()).filter(|meta| meta.through_lsn <= lsn);
        found.map(|commit| commit.version()).or_else(|| folded().map(|meta| meta.through))
    }

    /// Commits with runs that are not folded, their runs, and the bytes of keys and values in these.
    pub(crate) fn runs(&self) -> (u64, u64, u64) {
        self.memtables.iter().fold((0, 0, 0), |(commits, runs, bytes), memtable| {
            let count = u64::try_from(memtable.runs().0.len()).unwrap_or(u64::MAX);
            (
                commits.saturating_add(u64::from(count > 0)),
                runs.saturating_add(count),
                bytes.saturating_add(memtable.run_bytes()),
            )
        })
    }

    /// Row versions and bytes held in memory.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.memtables.iter().fold((0, 0), |(rows, bytes), memtable| {
            (rows.saturating_add(memtable.row_count()), bytes.saturating_add(memtable.byte_count()))
        })
    }
}

/// The current layers, replaced as a whole.
#[derive(Debug)]
pub(crate) struct Stack {
    layers: ArcSwap<Layers>,
    replacing: Mutex<()>,
}

impl Stack {
    /// One active memtable above nothing.
    pub(crate) fn new(active: Memtable) -> Self {
        Self {
            layers: ArcSwap::from_pointee(Layers::new(vec![Arc::new(active)], None)),
            replacing: Mutex::new(lock_rank::MVCC_LAYERS, ()),
        }
    }

    /// Runs `action` on the current layers, which stay as they are meanwhile.
    pub(crate) fn with<T>(&self, action: impl FnOnce(&Layers) -> T) -> T {
        action(&self.layers.load())
    }

    /// Runs `action` on the memtable that takes new rows.
    pub(crate) fn with_active<T>(&self, action: impl FnOnce(&Memtable) -> T) -> Option<T> {
        self.with(|layers| layers.memtables.first().map(|active| action(active)))
    }

    /// The newest visible version.
    pub(crate) fn visible(&self) -> Version {
        self.with(Layers::visible)
    }

    /// The newest visible version of a row, a deletion included, without taking a view.
    pub(crate) fn get(&self, table: TableId, key: &[u8]) -> Result<Option<FoundRow>, ReadError> {
        self.with(|layers| layers.get(table, key, layers.visible()))
    }

    /// The current layers, kept for as long as they are held.
    pub(crate) fn current(&self) -> Arc<Layers> {
        self.layers.load_full()
    }

    /// Puts other layers in place of these, made of these; gives what was there, to be dropped where it does no harm.
    pub(crate) fn replace(&self, make: impl FnOnce(&Layers) -> Layers) -> Arc<Layers> {
        let _replacing = self.replacing.lock();
        let before = self.layers.load_full();
        self.layers.store(Arc::new(make(&before)));
        before
    }

    /// Puts a memtable on top that takes new rows from now on.
    pub(crate) fn seal(&self) {
        self.replace(|layers| layers.with_on_top(&[Arc::new(Memtable::new(layers.visible()))]));
    }

    /// Puts a commit with runs, newest first, on top of what is there, and above it a memtable that takes new rows from now
    /// on. Nothing of it is visible yet.
    pub(crate) fn attach(&self, entry: Arc<CommitEntry>, rows: Vec<Row>, runs: Box<[Arc<Run>]>) {
        let version = entry.version();
        self.replace(|layers| {
            let memtable = Memtable::on_runs(layers.visible(), version, runs);
            for row in rows {
                memtable.insert(row.table, row.key, version, row.value);
            }
            memtable.commits().push(entry);
            layers.with_on_top(&[Arc::new(Memtable::new(layers.visible())), Arc::new(memtable)])
        });
    }

    /// A view of everything visible now.
    pub(crate) fn view(&self) -> View {
        let layers = self.layers.load_full();
        let version = layers.visible();
        View { layers, version }
    }

    /// A view of an older version.
    pub(crate) fn view_at(&self, version: Version) -> View {
        View { layers: self.layers.load_full(), version }
    }
}

/// What one call reads. It holds a root of the page file, so it is kept only while the call runs.
#[derive(Clone, Debug)]
pub(crate) struct View {
    layers: Arc<Layers>,
    version: Version,
}

impl View {
    /// These layers, read at a version.
    pub(crate) const fn new(layers: Arc<Layers>, version: Version) -> Self {
        Self { layers, version }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The newest version of a row at or below the view's, a deletion included.
    pub(crate) fn get(&self, table: TableId, key: &[u8]) -> Result<Option<FoundRow>, ReadError> {
        self.layers.get(table, key, self.version)
    }
}
