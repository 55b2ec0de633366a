//! Which tables there are: names, ids, and the version that made each.
//!
//! Invariants:
//! * A table's id is reserved in the process when a transaction first writes to its name, and every transaction that
//!   cannot see the table yet writes the same catalog row (system table, `t` + name → id) in its own commit. So two
//!   creators never disagree, and a table exists exactly when a commit that wrote to it does.
//! * `created` is the version of the first commit that carried the row; it is set by the log's leader or by recovery.
//! * A table never goes away; rolling back keeps the catalog.
//! * The maps are published as a whole, by one thread at a time, and have the same tables. Reading counts nothing.

use imbl::OrdMap;
use keepstone_types::{ValueRef, Version, lock_rank};

use crate::error::CommitError;
use crate::limits::{TABLE_NAME_LEN_MAX, TABLES_MAX};
use crate::sync::{Arc, ArcSwap, AtomicU64, Mutex, Ordering};

/// The number of a table within a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableId(u32);

impl TableId {
    /// Catalog and named versions.
    pub(crate) const SYSTEM: Self = Self(0);
    /// The first table of the caller's own.
    pub(crate) const FIRST_USER: Self = Self(1);

    pub(crate) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    /// The id after this one, unless this is the last.
    pub(crate) const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

/// The first byte of a catalog row's key.
pub(crate) const TABLE_PREFIX: u8 = b't';

/// The key of a table's catalog row.
pub(crate) fn table_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len().saturating_add(1));
    key.push(TABLE_PREFIX);
    key.extend_from_slice(name.as_bytes());
    key
}

/// The value of a table's catalog row.
pub(crate) fn table_value(id: TableId) -> ValueRef {
    ValueRef::from(id.get().to_le_bytes().as_slice())
}

/// A catalog row as name and id; `None` for what no build of this format writes.
pub(crate) fn parse_table_row(key: &[u8], value: Option<&[u8]>) -> Option<(Arc<str>, TableId)> {
    let (prefix, name) = key.split_first()?;
    let id = u32::from_le_bytes(value?.try_into().ok()?);
    let name = std::str::from_utf8(name).ok()?;
    (*prefix == TABLE_PREFIX && id != TableId::SYSTEM.get()).then(|| (Arc::from(name), TableId(id)))
}

/// A table as the process knows it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) id: TableId,
    pub(crate) name: Arc<str>,
    /// Raw version of the commit that made it; 0 while it is only reserved.
    created: AtomicU64,
}

impl Table {
    fn new(id: TableId, name: Arc<str>) -> Self {
        Self { id, name, created: AtomicU64::new(0) }
    }

    /// Whether a reader at `version` sees the table.
    pub(crate) fn exists_at(&self, version: Version) -> bool {
        let created = self.created.load(Ordering::Acquire);
        created != 0 && created <= version.to_raw()
    }

    /// Remembers the first commit that carried the catalog row.
    pub(crate) fn set_created(&self, version: Version) {
        let _already =
            self.created.compare_exchange(0, version.to_raw(), Ordering::AcqRel, Ordering::Acquire);
    }
}

/// The tables by name and by number.
#[derive(Clone, Debug, Default)]
struct Tables {
    by_name: OrdMap<Arc<str>, Arc<Table>>,
    by_id: OrdMap<TableId, Arc<Table>>,
}

/// All tables, read without a lock.
#[derive(Debug)]
pub(crate) struct Catalog {
    tables: ArcSwap<Tables>,
    /// The next id to reserve; `None` when the numbers are used up. Whoever holds it may publish.
    next: Mutex<Option<TableId>>,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        Self {
            tables: ArcSwap::from_pointee(Tables::default()),
            next: Mutex::new(lock_rank::MVCC_CATALOG, Some(TableId::FIRST_USER)),
        }
    }

    /// The number of the table of a name, reserved or made.
    pub(crate) fn id(&self, name: &str) -> Option<TableId> {
        self.tables.load().by_name.get(name).map(|table| table.id)
    }

    /// The table of a name, reserved or made.
    fn get(&self, name: &str) -> Option<Arc<Table>> {
        self.tables.load().by_name.get(name).map(Arc::clone)
    }

    /// The table of an id, reserved or made.
    pub(crate) fn table(&self, id: TableId) -> Option<Arc<Table>> {
        self.tables.load().by_id.get(&id).map(Arc::clone)
    }

    /// The name of a table as an error prints it.
    pub(crate) fn display_name(&self, id: TableId) -> Arc<str> {
        match self.table(id) {
            Some(table) => Arc::clone(&table.name),
            None if id == TableId::SYSTEM => Arc::from("(the store's own table)"),
            None => Arc::from(format!("(table number {})", id.get())),
        }
    }

    /// The table of a name, reserved now if nobody did before.
    pub(crate) fn reserve(&self, name: &str) -> Result<Arc<Table>, CommitError> {
        if let Some(table) = self.get(name) {
            return Ok(table);
        }
        check_table_name(name)?;
        let mut next = self.next.lock();
        if let Some(table) = self.get(name) {
            return Ok(table);
        }
        let full = CommitError::TooManyTables { max: TABLES_MAX };
        let id = (*next).filter(|_| self.tables.load().by_id.len() < TABLES_MAX).ok_or(full)?;
        let table = Arc::new(Table::new(id, Arc::from(name)));
        self.install(&table);
        *next = id.next();
        Ok(table)
    }

    /// Publishes the maps with one more table; called under the lock of `next`.
    fn install(&self, table: &Arc<Table>) {
        let mut tables = Tables::clone(&self.tables.load());
        tables.by_id.insert(table.id, Arc::clone(table));
        tables.by_name.insert(Arc::clone(&table.name), Arc::clone(table));
        self.tables.store(Arc::new(tables));
    }

    /// Takes over a table that recovery found.
    pub(crate) fn restore(&self, name: &Arc<str>, id: TableId, created: Version) {
        let mut next = self.next.lock();
        let table = Arc::new(Table::new(id, Arc::clone(name)));
        table.set_created(created);
        self.install(&table);
        *next = (*next).and_then(|next| Some(next.max(id.next()?)));
    }

    /// The names of the tables that exist at `version`, sorted.
    pub(crate) fn names_at(&self, version: Version) -> Vec<Arc<str>> {
        let tables = self.tables.load();
        let existing = tables.by_name.iter().filter(|(_, table)| table.exists_at(version));
        existing.map(|(name, _)| Arc::clone(name)).collect()
    }
}

/// Whether a name can be a table's.
pub(crate) fn check_table_name(name: &str) -> Result<(), CommitError> {
    let reason = match name.as_bytes() {
        [] => "it is empty",
        [0, ..] => "names that begin with a zero byte are the store's own",
        bytes if bytes.len() > TABLE_NAME_LEN_MAX => "it is longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(CommitError::TableName { name: name.chars().take(64).collect(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_id_and_exists_from_its_commit_on() {
        let catalog = Catalog::new();
        let first = catalog.reserve("a").unwrap();
        assert_eq!(first.id, TableId::FIRST_USER);
        assert_eq!(catalog.reserve("a").unwrap().id, first.id);
        assert_eq!(catalog.reserve("b").unwrap().id.get(), 2);
        assert_eq!(catalog.names_at(Version::MAX), Vec::<Arc<str>>::new());
        first.set_created(Version::from_raw(7));
        first.set_created(Version::from_raw(9));
        assert_eq!(catalog.names_at(Version::from_raw(6)), Vec::<Arc<str>>::new());
        assert_eq!(catalog.names_at(Version::from_raw(7)), [Arc::from("a")]);
    }

    #[test]
    fn names_have_bounds() {
        let long = "x".repeat(TABLE_NAME_LEN_MAX);
        for (name, good) in
            [("a", true), (&*long, true), ("", false), ("\0a", false), (&*format!("{long}x"), false)]
        {
            assert_eq!(check_table_name(name).is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn catalog_rows_round_trip_and_foreign_rows_are_refused() {
        let (key, value) = (table_key("ä"), table_value(TableId::new(7)));
        assert_eq!(parse_table_row(&key, Some(&value)), Some((Arc::from("ä"), TableId::new(7))));
        for (key, value) in [
            (&b"tx"[..], None),
            (b"", Some(&[1, 0, 0, 0][..])),
            (b"nx", Some(&[1, 0, 0, 0])),
            (b"tx", Some(&[0, 0, 0, 0])),
            (b"tx", Some(&[1, 0, 0])),
            (b"t\xff", Some(&[1, 0, 0, 0])),
        ] {
            assert_eq!(parse_table_row(key, value), None, "{key:?}");
        }
    }
}
