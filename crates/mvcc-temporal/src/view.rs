//! A view: the memtables in version order and the version that is read from them.
//!
//! Memtables cover disjoint, ascending spans of versions, newest first in the list, so the first that knows a key has
//! its newest version. There is one until the checkpoint seals them.

use keepstone_types::Version;

use crate::catalog::TableId;
use crate::memtable::{Memtable, RowVersion};
use crate::sync::{Arc, ArcSwap};

/// Memtables, newest first.
type MemtableList = Arc<Vec<Arc<Memtable>>>;

/// The current memtables, replaced as a whole.
#[derive(Debug)]
pub(crate) struct Memtables {
    list: ArcSwap<Vec<Arc<Memtable>>>,
}

impl Memtables {
    /// One active memtable.
    pub(crate) fn new(active: Memtable) -> Self {
        Self { list: ArcSwap::from_pointee(vec![Arc::new(active)]) }
    }

    /// Runs `action` on the memtable that takes new rows.
    pub(crate) fn with_active<T>(&self, action: impl FnOnce(&Memtable) -> T) -> Option<T> {
        self.list.load().first().map(|active| action(active))
    }

    /// The newest visible version.
    pub(crate) fn visible(&self) -> Version {
        self.with_active(Memtable::visible).unwrap_or(Version::ZERO)
    }

    /// The newest visible version of a row, a deletion included, without taking a view.
    pub(crate) fn get(&self, table: TableId, key: &[u8]) -> Option<RowVersion> {
        let list = self.list.load();
        let visible = list.first()?.visible();
        list.iter().find_map(|memtable| memtable.get(table, key, visible))
    }

    /// A view of everything visible now.
    pub(crate) fn view(&self) -> View {
        let memtables = self.list.load_full();
        let version = memtables.first().map_or(Version::ZERO, |active| active.visible());
        View { memtables, version }
    }

    /// A view of an older version.
    pub(crate) fn view_at(&self, version: Version) -> View {
        View { memtables: self.list.load_full(), version }
    }

    /// Row versions and bytes held.
    pub(crate) fn size(&self) -> (u64, u64) {
        let list = self.list.load();
        list.iter().fold((0, 0), |(rows, bytes), memtable| {
            (rows.saturating_add(memtable.row_count()), bytes.saturating_add(memtable.byte_count()))
        })
    }
}

/// What one call, transaction or iterator reads.
#[derive(Clone, Debug)]
pub(crate) struct View {
    memtables: MemtableList,
    version: Version,
}

impl View {
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        self.memtables.iter().map(|memtable| &**memtable)
    }

    /// The newest version of a row at or below the view's, a deletion included.
    pub(crate) fn get(&self, table: TableId, key: &[u8]) -> Option<RowVersion> {
        self.get_at(table, key, self.version)
    }

    /// The newest version of a row at or below `version`, a deletion included.
    pub(crate) fn get_at(&self, table: TableId, key: &[u8], version: Version) -> Option<RowVersion> {
        self.memtables().find_map(|memtable| memtable.get(table, key, version))
    }
}
