//! What goes into a snapshot file: the rows of a version, or those that changed since the parent's.
//!
//! A delta is made from what the store knows of the changes since, when it still has the parent's version; else from
//! comparing what comes out of the parent's files with what is stored, which reads all of both and needs no history.

use keepstone_types::{Timestamp, Version};

use super::chain::{Chain, ChainRows};
use super::content::Content;
use super::error::SnapshotFileError;
use super::file::{FileWriter, OpenFile};
use crate::catalog::TableId;
use crate::database::Database;
use crate::error::ReadError;
use crate::history::Diff;
use crate::key_range::KeyRange;
use crate::readers::Registration;
use crate::scan::{KeyValue, Scan, ScanSource};
use crate::shared::Shared;
use crate::sync::Arc;

/// A version of a store, kept while it is written out.
pub(super) struct Source {
    shared: Arc<Shared>,
    held: Arc<Registration>,
    pub(super) version: Version,
    /// When it was committed; the epoch if that is forgotten.
    pub(super) time: Timestamp,
    /// Ascending by number.
    pub(super) tables: Vec<(TableId, Arc<str>)>,
}

impl Source {
    /// Holds a version, or the newest, that is on stable storage.
    pub(super) fn hold(database: &Database, version: Option<Version>) -> Result<Self, SnapshotFileError> {
        let shared = Arc::clone(&database.inner.shared);
        let held = match version {
            Some(version) => shared.hold(version)?,
            None => shared.hold_newest()?,
        };
        let version = held.version();
        if version > database.durable_version() {
            database.sync()?;
        }
        let time = time_of(database, version)?.unwrap_or(Timestamp::EPOCH);
        let tables = shared.catalog.tables_at(version);
        Ok(Self { shared, held, version, time, tables })
    }

    fn scan(&self, table: TableId) -> Scan {
        let (shared, held) = (Arc::clone(&self.shared), Arc::clone(&self.held));
        let source = ScanSource { shared, held, branch: None, own: None, table: Some(table), trace: None };
        Scan::new(source, KeyRange::from(..))
    }
}

fn time_of(database: &Database, version: Version) -> Result<Option<Timestamp>, ReadError> {
    if version == Version::ZERO {
        return Ok(Some(Timestamp::EPOCH));
    }
    Ok(database.commit_info(version)?.map(|commit| commit.time))
}

/// Writes all rows of a version.
pub(super) fn write_full(source: &Source, writer: &mut FileWriter) -> Result<Content, SnapshotFileError> {
    let mut content = Content::default();
    for (table, name) in &source.tables {
        for row in source.scan(*table) {
            let (key, value) = row?;
            content.add(name, &key, &value);
            writer.put(*table, &key, None, &value)?;
        }
    }
    Ok(content)
}

/// Writes the rows that differ from those of a parent.
pub(super) fn write_delta(
    database: &Database,
    source: &Source,
    parent: &Chain,
    writer: &mut FileWriter,
) -> Result<Content, SnapshotFileError> {
    match held_parent(database, source, parent.newest(), &writer.head().name)? {
        Some(before) => write_changes(source, before, parent.newest(), writer),
        None => write_comparison(source, parent, writer),
    }
}

/// The parent's version, held, if the store still has it and knows it to be the same.
fn held_parent(
    database: &Database,
    source: &Source,
    parent: &OpenFile,
    name: &str,
) -> Result<Option<Arc<Registration>>, SnapshotFileError> {
    let head = &parent.head;
    let wrong = |what, expected: String, found: String| {
        let (name, parent) = (name.to_owned(), head.name.clone());
        Err(SnapshotFileError::WrongParent { name, parent, what, expected, found })
    };
    let store = database.inner.shared.store_id;
    if head.store_id != store {
        return wrong("the store", store.to_string(), head.store_id.to_string());
    }
    if head.version > source.version {
        return wrong("the version", format!("at most {}", source.version), head.version.to_string());
    }
    let held = match source.shared.hold(head.version) {
        Ok(held) => held,
        Err(ReadError::HistoryGone { .. }) => return Ok(None),
        Err(ReadError::UnknownVersion { nearest, .. }) => {
            return wrong(
                "the version",
                format!("one of the store's, such as {nearest}"),
                head.version.to_string(),
            );
        }
        Err(error) => return Err(error.into()),
    };
    match time_of(database, head.version)? {
        Some(time) if time == head.time => Ok(Some(held)),
        // A copy of the store's folder went another way, and has a version of that number too.
        Some(time) if head.time != Timestamp::EPOCH => {
            wrong("the time of its version", time.to_string(), head.time.to_string())
        }
        _ => Ok(None),
    }
}

fn write_changes(
    source: &Source,
    before: Arc<Registration>,
    parent: &OpenFile,
    writer: &mut FileWriter,
) -> Result<Content, SnapshotFileError> {
    let mut content = parent.trailer.content;
    let mut changes = Diff::new(Arc::clone(&source.shared), before, Arc::clone(&source.held))?;
    while let Some(change) = changes.next_raw()? {
        let before = change.before.as_deref();
        write_change(writer, &mut content, (change.table, &change.key), before, change.after.as_deref())?;
    }
    Ok(content)
}

fn write_change(
    writer: &mut FileWriter,
    content: &mut Content,
    (table, key): (TableId, &[u8]),
    before: Option<&[u8]>,
    after: Option<&[u8]>,
) -> Result<(), SnapshotFileError> {
    let name = writer.table_name(table).unwrap_or_default();
    if let Some(before) = before {
        content.take(&name, key, before);
    }
    match after {
        Some(value) => {
            content.add(&name, key, value);
            writer.put(table, key, before, value)
        }
        None => writer.delete(table, key),
    }
}

/// A row that comes out of the parent's files, kept until the store's rows are past it.
#[derive(Default)]
struct OldRow {
    table: Option<TableId>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl OldRow {
    fn advance(&mut self, rows: &mut ChainRows) -> Result<(), SnapshotFileError> {
        let row = rows.next()?;
        self.table = row.map(|row| row.table);
        if let Some(row) = row {
            self.key.clear();
            self.key.extend_from_slice(row.key);
            self.value.clear();
            self.value.extend_from_slice(row.value);
        }
        Ok(())
    }

    fn at(&self) -> Option<(TableId, &[u8])> {
        Some((self.table?, &self.key))
    }
}

fn write_comparison(
    source: &Source,
    parent: &Chain,
    writer: &mut FileWriter,
) -> Result<Content, SnapshotFileError> {
    let mut content = parent.newest().trailer.content;
    let (mut rows, mut old) = (parent.rows()?, OldRow::default());
    old.advance(&mut rows)?;
    for (table, _) in &source.tables {
        for row in source.scan(*table) {
            let (key, value): KeyValue = row?;
            while let Some(place) = old.at().filter(|place| *place < (*table, &key)) {
                write_change(writer, &mut content, place, Some(&old.value), None)?;
                old.advance(&mut rows)?;
            }
            let is_old = old.at() == Some((*table, &key));
            let before = is_old.then_some(old.value.as_slice());
            if before != Some(&value) {
                write_change(writer, &mut content, (*table, &key), before, Some(&value))?;
            }
            if is_old {
                old.advance(&mut rows)?;
            }
        }
    }
    while let Some(place) = old.at() {
        write_change(writer, &mut content, place, Some(&old.value), None)?;
        old.advance(&mut rows)?;
    }
    Ok(content)
}
