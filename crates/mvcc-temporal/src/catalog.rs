//! Which tables there are: names, ids, and the version that made each.
//!
//! Invariants:
//! * A table's id is reserved in the process when a transaction first writes to its name, and every transaction that
//!   cannot see the table yet writes the same catalog row (system table, `t` + name → id) in its own commit. So two
//!   creators never disagree, and a table exists exactly when a commit that wrote to it does.
//! * `created` is the version of the first commit that carried the row; it is set by the log's leader or by recovery.
//! * A table never goes away; rolling back keeps the catalog.
//! * A branch that writes to a table that is not made gives it its number with a row of its own kind (system table, `u` +
//!   name → id), and has the catalog row among its own rows: to everybody else the table is not there.
//! * The maps are published as a whole, by one thread at a time, and have the same tables. Reading counts nothing.

use imbl::OrdMap;
use keepstone_types::{ValueRef, Version, lock_rank};

use crate::branches::{PLACE_LEN_MAX, TAGGED_LEN_MAX};
use crate::error::CommitError;
use crate::limits::{KEY_LEN_MAX, TABLE_NAME_LEN_MAX, TABLES_MAX, VALUE_LEN_MAX};
use crate::log::replay::NewTable;
use crate::sync::{Arc, ArcSwap, AtomicU64, Mutex, Ordering};

/// The number of a table within a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableId(u32);

impl TableId {
    /// Catalog and named versions.
    pub(crate) const SYSTEM: Self = Self(0);
    /// The first table of the caller's own.
    pub(crate) const FIRST_USER: Self = Self(1);
    /// The rows of branches.
    pub(crate) const BRANCHES: Self = Self(u32::MAX);

    pub(crate) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    /// Whether it is a table of the caller's own.
    pub(crate) fn is_user(self) -> bool {
        self != Self::SYSTEM && self != Self::BRANCHES
    }

    /// The most bytes of a key and of a value as they are stored: rows of branches carry what tells them apart.
    pub(crate) const fn stored_len_max(self) -> (usize, usize) {
        match self {
            Self::BRANCHES => (PLACE_LEN_MAX, TAGGED_LEN_MAX),
            _ => (KEY_LEN_MAX, VALUE_LEN_MAX),
        }
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

/// The first byte of the key of a row that gives a table a number before it is made: branches alone have it so far.
pub(crate) const NUMBERED_PREFIX: u8 = b'u';

/// Whether a row of the store's own table is one that every creator of a table writes alike.
pub(crate) fn is_of_catalog(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(TABLE_PREFIX | NUMBERED_PREFIX)))
}

/// The key of a table's catalog row.
pub(crate) fn table_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len().saturating_add(1));
    key.push(TABLE_PREFIX);
    key.extend_from_slice(name.as_bytes());
    key
}

/// The key of the row that gives a table its number before it is made; its value is that of the catalog row.
pub(crate) fn numbered_key(name: &str) -> Vec<u8> {
    [&[NUMBERED_PREFIX][..], name.as_bytes()].concat()
}

/// The value of a table's catalog row.
pub(crate) fn table_value(id: TableId) -> ValueRef {
    ValueRef::from(id.get().to_le_bytes().as_slice())
}

/// A catalog row as name and id; `None` for what no build of this format writes.
pub(crate) fn parse_table_row(key: &[u8], value: Option<&[u8]>) -> Option<(Arc<str>, TableId)> {
    parse_row(TABLE_PREFIX, key, value)
}

/// As [`parse_table_row`], of a row that gives a table its number before it is made.
pub(crate) fn parse_numbered_row(key: &[u8], value: Option<&[u8]>) -> Option<(Arc<str>, TableId)> {
    parse_row(NUMBERED_PREFIX, key, value)
}

fn parse_row(expected: u8, key: &[u8], value: Option<&[u8]>) -> Option<(Arc<str>, TableId)> {
    let (prefix, name) = key.split_first()?;
    let id = TableId(u32::from_le_bytes(value?.try_into().ok()?));
    let name = std::str::from_utf8(name).ok()?;
    (*prefix == expected && id.is_user()).then(|| (Arc::from(name), id))
}

/// A table as the process knows it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) id: TableId,
    pub(crate) name: Arc<str>,
    /// Raw version of the commit that made it; 0 while it is only reserved.
    created: AtomicU64,
    /// Raw version of the commit that gave it its number without making it; 0 when none did.
    numbered: AtomicU64,
}

impl Table {
    fn new(id: TableId, name: Arc<str>) -> Self {
        Self { id, name, created: AtomicU64::new(0), numbered: AtomicU64::new(0) }
    }

    /// Whether a reader at `version` sees the table.
    pub(crate) fn exists_at(&self, version: Version) -> bool {
        let created = self.created.load(Ordering::Acquire);
        created != 0 && created <= version.to_raw()
    }

    /// Whether a reader at `version` sees that the number is this table's, made or not.
    pub(crate) fn has_number_at(&self, version: Version) -> bool {
        let numbered = self.numbered.load(Ordering::Acquire);
        self.exists_at(version) || (numbered != 0 && numbered <= version.to_raw())
    }

    /// Remembers the first commit that carried the catalog row.
    pub(crate) fn set_created(&self, version: Version) {
        Self::set_first(&self.created, version);
    }

    /// Remembers the first commit that gave it its number without making it.
    pub(crate) fn set_numbered(&self, version: Version) {
        Self::set_first(&self.numbered, version);
    }

    fn set_first(place: &AtomicU64, version: Version) {
        let _already = place.compare_exchange(0, version.to_raw(), Ordering::AcqRel, Ordering::Acquire);
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
            None if id == TableId::BRANCHES => Arc::from("(the rows of branches)"),
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

    /// Takes over a table that recovery found, made or given its number by a version.
    pub(crate) fn restore(&self, found: &NewTable, version: Version) {
        let mut next = self.next.lock();
        let known = self.table(found.id);
        let table = known.unwrap_or_else(|| {
            let table = Arc::new(Table::new(found.id, Arc::clone(&found.name)));
            self.install(&table);
            table
        });
        if found.is_made {
            table.set_created(version);
        } else {
            table.set_numbered(version);
        }
        *next = (*next).and_then(|next| Some(next.max(found.id.next()?)));
    }

    /// Takes note of a row of the store's own table that a commit wrote.
    pub(crate) fn committed(&self, key: &[u8], value: Option<&[u8]>, version: Version) {
        if let Some(table) = parse_table_row(key, value).and_then(|(_, id)| self.table(id)) {
            table.set_created(version);
        } else if let Some(table) = parse_numbered_row(key, value).and_then(|(_, id)| self.table(id)) {
            table.set_numbered(version);
        }
    }

    /// The tables that exist at `version`, ascending by number.
    pub(crate) fn tables_at(&self, version: Version) -> Vec<(TableId, Arc<str>)> {
        let tables = self.tables.load();
        let existing = tables.by_id.values().filter(|table| table.exists_at(version));
        existing.map(|table| (table.id, Arc::clone(&table.name))).collect()
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
