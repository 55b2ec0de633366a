//! Replaying the log into memory when the store is opened, held to what every commit promised.
//!
//! Each record must continue the one before: the next version of its timeline, a later time, tables that the catalog
//! knows. What does not is refused, never guessed around.

use std::collections::{HashMap, HashSet};

use keepstone_types::{Lsn, Timeline, Timestamp, Version};
use keepstone_wal::{RecordKind, Replayed, ReplayedRecord};

use crate::catalog::{
    NUMBERED_PREFIX, TABLE_PREFIX, TableId, is_of_catalog, parse_numbered_row, parse_table_row,
};
use crate::commit::entry::CommitEntry;
use crate::error::{OpenError, ReadError};
use crate::ground::meta::Meta;
use crate::layers::View;
use crate::log::record::{CommitRecord, Row, decode, is_commit};
use crate::merge::system_rows;
use crate::runs::{RunFolder, rows_of};
use crate::shared::Shared;
use crate::sync::{Arc, Ordering};

/// What a sequence of commits must keep to; shared by recovery and `check`.
#[derive(Debug)]
pub(crate) struct Sequence {
    last: Version,
    last_time: Timestamp,
    timeline: Timeline,
    /// The tables that have a number, made or not.
    tables: HashMap<TableId, Arc<str>>,
    names: HashMap<Arc<str>, TableId>,
    made: HashSet<TableId>,
}

/// A table that a commit made, or gave its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewTable {
    pub(crate) name: Arc<str>,
    pub(crate) id: TableId,
    pub(crate) is_made: bool,
}

impl Sequence {
    /// What follows the commit that everything is folded through; at first, none.
    pub(crate) fn after(meta: &Meta) -> Self {
        Self {
            last: meta.through,
            last_time: meta.through_time,
            timeline: meta.timeline,
            tables: HashMap::new(),
            names: HashMap::new(),
            made: HashSet::new(),
        }
    }

    /// A table is known from elsewhere.
    pub(crate) fn add_table(&mut self, table: &NewTable) {
        self.tables.insert(table.id, Arc::clone(&table.name));
        self.names.insert(Arc::clone(&table.name), table.id);
        if table.is_made {
            self.made.insert(table.id);
        }
    }

    pub(crate) const fn last(&self) -> (Version, Timestamp) {
        (self.last, self.last_time)
    }

    /// The tables that were made.
    pub(crate) fn table_count(&self) -> usize {
        self.made.len()
    }

    /// The log went on on another timeline.
    pub(crate) fn change_timeline(&mut self, timeline: Timeline) -> Result<(), String> {
        if timeline <= self.timeline {
            return Err(format!("timeline {timeline} follows timeline {}", self.timeline));
        }
        self.timeline = timeline;
        Ok(())
    }

    /// Takes the next commit; says which tables it made or gave a number.
    pub(crate) fn accept(&mut self, record: &CommitRecord) -> Result<Vec<NewTable>, String> {
        let expected = self.last.on(self.timeline).next();
        if Some(record.version) != expected {
            let expected = expected.map_or("none".to_owned(), |version| version.to_string());
            return Err(format!("expected version {expected}, found {}", record.version));
        }
        if record.time <= self.last_time && self.last != Version::ZERO {
            return Err(format!("expected a time after {}, found {}", self.last_time, record.time));
        }
        let new = self.accept_tables(record)?;
        self.last = record.version;
        self.last_time = record.time;
        Ok(new)
    }

    fn accept_tables(&mut self, record: &CommitRecord) -> Result<Vec<NewTable>, String> {
        let mut new = Vec::new();
        let mut checked = TableId::SYSTEM;
        for row in &record.rows {
            if row.table == TableId::SYSTEM && is_of_catalog(&row.key) {
                new.extend(self.accept_catalog_row(row)?);
            } else if row.table != checked && row.table != TableId::BRANCHES {
                if !self.tables.contains_key(&row.table) {
                    return Err(format!("rows of table number {}, which no commit made", row.table.get()));
                }
                checked = row.table;
            }
        }
        Ok(new)
    }

    fn accept_catalog_row(&mut self, row: &Row) -> Result<Option<NewTable>, String> {
        let made = parse_table_row(&row.key, row.value.as_deref());
        let is_made = made.is_some();
        let parsed = made.or_else(|| parse_numbered_row(&row.key, row.value.as_deref()));
        let (name, id) = parsed.ok_or_else(|| format!("a catalog row {:?}", row.key))?;
        let same_id = self.tables.get(&id).is_none_or(|known| *known == name);
        let same_name = self.names.get(&name).is_none_or(|known| *known == id);
        if !same_id || !same_name {
            return Err(format!("table {name:?} has number {}, which another has", id.get()));
        }
        let is_known = if is_made { self.made.contains(&id) } else { self.tables.contains_key(&id) };
        let table = NewTable { name, id, is_made };
        self.add_table(&table);
        Ok((!is_known).then_some(table))
    }
}

/// The tables that are folded, each with the version that made it or gave it its number.
pub(crate) fn folded_tables(view: &View) -> Result<Vec<(NewTable, Version)>, ReadError> {
    let mut tables = Vec::new();
    for prefix in [TABLE_PREFIX, NUMBERED_PREFIX] {
        for (key, value) in system_rows(view, prefix)? {
            let first = view.get(TableId::SYSTEM, &key)?.map(|row| row.version);
            let made = parse_table_row(&key, Some(&value));
            let is_made = made.is_some();
            // What is no table is found by `check`.
            if let (Some((name, id)), Some(first)) =
                (made.or_else(|| parse_numbered_row(&key, Some(&value))), first)
            {
                tables.push((NewTable { name, id, is_made }, first));
            }
        }
    }
    Ok(tables)
}

/// Fills the memory of a store that is being opened.
pub(crate) struct Replay<'a> {
    shared: &'a Shared,
    sequence: Sequence,
    /// The newest version that is known to be on stable storage.
    proven: Version,
    /// Records through this one are folded.
    folded_through: Lsn,
    /// Nothing that is needed was replayed yet.
    is_first: bool,
    runs: &'a Arc<RunFolder>,
}

impl<'a> Replay<'a> {
    /// A replay on top of what the page file has.
    pub(crate) fn new(shared: &'a Shared, runs: &'a Arc<RunFolder>) -> Result<Self, OpenError> {
        let layers = shared.stack.current();
        let meta = layers.ground().map(|ground| *ground.meta()).unwrap_or_default();
        let mut sequence = Sequence::after(&meta);
        let unreadable = |source: ReadError| OpenError::Pages {
            dir: shared.dir.clone(),
            kind: source.kind(),
            source: source.into(),
        };
        for (table, version) in folded_tables(&shared.stack.view_at(meta.folded)).map_err(unreadable)? {
            sequence.add_table(&table);
            shared.catalog.restore(&table, version);
        }
        let (proven, folded_through) = (meta.through, meta.through_lsn);
        Ok(Self { shared, sequence, proven, folded_through, is_first: true, runs })
    }

    /// Takes what the log has next.
    pub(crate) fn take(&mut self, replayed: Replayed) -> Result<(), OpenError> {
        let folded_through = self.folded_through;
        match replayed {
            Replayed::Record(record) if record.lsn <= folded_through => {
                // Its runs may still be needed by the header before the newest.
                if record.kind == RecordKind::ATTACH
                    && let Ok(commit) = decode(record.kind, &record.payload)
                {
                    commit.runs.iter().for_each(|run| self.runs.note_attached(record.lsn, run.number));
                }
                Ok(())
            }
            Replayed::Record(record) => {
                let (expected, found) = (folded_through.next().get(), record.lsn.get());
                if std::mem::take(&mut self.is_first) && found > expected {
                    return Err(OpenError::MissingRecords { expected, found });
                }
                self.record(&record)
            }
            // A log that was cut before what is folded goes on behind that: such a change is still to come.
            Replayed::Timeline(change) if change.next <= folded_through => Ok(()),
            Replayed::Timeline(change) => {
                self.is_first = false;
                let refused = |what| OpenError::Record { lsn: change.next.get(), what };
                self.sequence.change_timeline(change.timeline).map_err(refused)
            }
            _ => Err(OpenError::NotYet { what: "this log", needs: "a newer build" }),
        }
    }

    fn record(&mut self, record: &ReplayedRecord) -> Result<(), OpenError> {
        let refused = |what: String| OpenError::Record { lsn: record.lsn.get(), what };
        if !is_commit(record.kind) {
            if !record.kind.must_be_understood() {
                return Ok(());
            }
            return Err(refused(format!(
                "a record of kind {}, expected {}",
                record.kind,
                RecordKind::COMMIT
            )));
        }
        let commit = decode(record.kind, &record.payload).map_err(|error| refused(error.to_string()))?;
        for table in self.sequence.accept(&commit).map_err(refused)? {
            self.shared.catalog.restore(&table, commit.version);
        }
        if !record.unproven {
            self.proven = commit.version;
        }
        self.insert(record.lsn, commit)
    }

    fn insert(&self, lsn: Lsn, commit: CommitRecord) -> Result<(), OpenError> {
        let keys = commit.rows.iter().map(|row| (row.table, row.key.clone())).collect();
        let entry = CommitEntry::on_runs(keys, rows_of(&commit.runs));
        entry.admit(commit.version, commit.time, lsn);
        if !commit.runs.is_empty() {
            let mut runs = Vec::with_capacity(commit.runs.len());
            for reference in commit.runs {
                self.runs.note_attached(lsn, reference.number);
                let opened = self.runs.open(reference).map_err(|error| OpenError::Run {
                    lsn: lsn.get(),
                    file: self.runs.path_of(reference.number),
                    source: error.into(),
                });
                runs.push(opened?);
            }
            self.shared.stack.attach(entry, commit.rows, runs.into());
            return Ok(());
        }
        self.shared.stack.with_active(|memtable| {
            for row in commit.rows {
                memtable.insert(row.table, row.key, commit.version, row.value);
            }
            memtable.commits().push(entry);
        });
        Ok(())
    }

    /// Shows what was replayed to readers; says which version and time came last.
    pub(crate) fn finish(self) -> (Version, Timestamp) {
        let (last, last_time) = self.sequence.last();
        self.shared.stack.with_active(|memtable| memtable.publish(last));
        self.shared.admitted.store(last.to_raw(), Ordering::Release);
        self.shared.durable.store(self.proven.to_raw(), Ordering::Release);
        (last, last_time)
    }
}

#[cfg(test)]
mod tests {
    use keepstone_types::ValueRef;

    use super::*;
    use crate::catalog::{table_key, table_value};

    fn commit(version: Version, micros: u64, rows: Vec<Row>) -> CommitRecord {
        CommitRecord { version, time: Timestamp::from_micros(micros), rows, runs: Vec::new() }
    }

    fn makes(name: &str, id: u32) -> Row {
        let (key, value) = (ValueRef::from(table_key(name)), Some(table_value(TableId::new(id))));
        Row { table: TableId::SYSTEM, key, value }
    }

    fn writes(table: u32) -> Row {
        Row { table: TableId::new(table), key: ValueRef::empty(), value: None }
    }

    fn version(timeline: u16, sequence: u64) -> Version {
        Version::from_parts(Timeline::new(timeline), sequence).unwrap()
    }

    #[test]
    fn commits_must_continue_each_other() {
        let mut sequence = Sequence::after(&Meta::default());
        let mut check = |record: CommitRecord| sequence.accept(&record).map(|made| made.len());
        assert_eq!(check(commit(version(0, 1), 10, vec![makes("a", 1), writes(1)])), Ok(1));
        assert_eq!(
            check(commit(version(0, 2), 11, vec![makes("a", 1), writes(1)])),
            Ok(0),
            "made twice, the same"
        );
        for (record, part) in [
            (commit(version(0, 4), 12, vec![]), "expected version 3, found 4"),
            (commit(version(0, 2), 12, vec![]), "expected version 3, found 2"),
            (commit(version(1, 3), 12, vec![]), "expected version 3, found 1:3"),
            (commit(version(0, 3), 11, vec![]), "expected a time after"),
            (commit(version(0, 3), 12, vec![writes(2)]), "table number 2, which no commit made"),
            (commit(version(0, 3), 12, vec![makes("b", 1)]), "which another has"),
            (commit(version(0, 3), 12, vec![makes("a", 2)]), "which another has"),
        ] {
            let found = check(record).unwrap_err();
            assert!(found.contains(part), "{found}");
        }
        assert_eq!(check(commit(version(0, 3), 12, vec![writes(1)])), Ok(0), "what was refused left nothing");
    }

    #[test]
    fn the_sequence_goes_on_across_timelines() {
        let mut sequence = Sequence::after(&Meta::default());
        sequence.accept(&commit(version(0, 1), 10, vec![])).unwrap();
        sequence.change_timeline(Timeline::new(2)).unwrap();
        assert!(sequence.accept(&commit(version(0, 2), 11, vec![])).is_err());
        sequence.accept(&commit(version(2, 2), 11, vec![])).unwrap();
        assert!(sequence.change_timeline(Timeline::new(2)).is_err());
        assert_eq!(sequence.last().0, version(2, 2));
    }
}
