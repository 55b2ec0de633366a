//! The log held against memory: every record that is not folded yet, and that memory has nothing else.

use keepstone_types::{Lsn, Version};
use keepstone_wal::{Repair, Replayed};

use super::{CheckReport, Finding};
use crate::catalog::TableId;
use crate::database::Database;
use crate::layers::{Layers, View};
use crate::log::record::{CommitRecord, decode, is_commit};
use crate::log::replay::{Sequence, folded_tables};
use crate::runs::rows_of;
use crate::shared::Shared;
use crate::sync::Arc;

impl Database {
    pub(super) fn check_log_files(&self, report: &mut CheckReport) {
        match self.inner.log.verify() {
            Ok(damages) => {
                for damage in damages {
                    let place = format!("{} at byte {}", damage.file.display(), damage.offset);
                    let healed = damage.repair != Repair::Impossible;
                    let (expected, found) = (damage.expected, damage.found);
                    report.push(Finding { place, expected, found, healed });
                }
            }
            Err(error) => report.add("the log", "readable files", error),
        }
    }

    /// Holds the records behind what is folded, and at or below `through`, against memory, both ways.
    pub(super) fn check_records(&self, layers: &Arc<Layers>, through: Version, report: &mut CheckReport) {
        let shared = &self.inner.shared;
        let meta = layers.ground().map(|ground| *ground.meta()).unwrap_or_default();
        let mut sequence = Sequence::after(&meta);
        match folded_tables(&View::new(Arc::clone(layers), meta.through)) {
            Ok(tables) => tables.iter().for_each(|(table, _)| sequence.add_table(table)),
            Err(error) => report.add("the tables", "readable rows", error),
        }
        let reader = match self.inner.log.read_from(meta.through_lsn.next()) {
            Ok(reader) => reader,
            Err(error) => return report.add("the log", "readable records", error),
        };
        let mut held = Held::default();
        for replayed in reader {
            let (lsn, checked) = match replayed {
                Ok(Replayed::Record(record)) if record.lsn <= meta.through_lsn => continue,
                Ok(Replayed::Record(record)) if is_commit(record.kind) => {
                    let decoded = decode(record.kind, &record.payload).map_err(|error| error.to_string());
                    let past = decoded.as_ref().is_ok_and(|commit| commit.version > through);
                    if past {
                        break;
                    }
                    let accepted = decoded.and_then(|commit| sequence.accept(&commit).map(|_new| commit));
                    (
                        record.lsn,
                        accepted.map(|commit| held.commit(shared, layers, record.lsn, &commit, report)),
                    )
                }
                Ok(Replayed::Timeline(change)) if change.next <= meta.through_lsn => continue,
                Ok(Replayed::Timeline(change)) => (change.next, sequence.change_timeline(change.timeline)),
                Ok(_) => continue,
                Err(error) => return report.add("the log", "readable records", error),
            };
            if let Err(what) = checked {
                return report.add(
                    format!("log record {lsn}"),
                    "a commit that continues the one before",
                    what,
                );
            }
        }
        let (last, _) = sequence.last();
        if last != through {
            report.add("the log", format!("commits through version {through}"), format!("through {last}"));
        }
        report.tables = u64::try_from(sequence.table_count()).unwrap_or(u64::MAX);
        let in_memory = shared.catalog.names_at(through).len();
        if in_memory != sequence.table_count() {
            report.add("the catalog", format!("{} tables", sequence.table_count()), in_memory);
        }
        held.compare(layers, through, report);
    }
}

/// What the log was found to have beyond what is folded.
#[derive(Default)]
struct Held {
    rows: u64,
}

impl Held {
    /// Holds a commit on disk against memory.
    fn commit(
        &mut self,
        shared: &Shared,
        layers: &Layers,
        lsn: Lsn,
        commit: &CommitRecord,
        report: &mut CheckReport,
    ) {
        let version = commit.version;
        report.commits = report.commits.saturating_add(1);
        let entry = layers.memtables().iter().find_map(|memtable| {
            memtable.commits().at_or_below(version).filter(|entry| entry.version() == version)
        });
        match entry {
            Some(entry) => {
                let in_runs = rows_of(&commit.runs);
                let rows = u64::try_from(commit.rows.len()).unwrap_or(u64::MAX);
                let stored = (commit.time, lsn, rows.saturating_add(in_runs));
                let known = (entry.time(), entry.lsn(), entry.row_count());
                report.rows = report.rows.saturating_add(in_runs);
                self.rows = self.rows.saturating_add(in_runs);
                if stored != known {
                    report.add(format!("version {version}"), format!("{stored:?}"), format!("{known:?}"));
                }
            }
            None => report.add(format!("version {version}"), "the commit in memory", "none"),
        }
        for row in &commit.rows {
            report.rows = report.rows.saturating_add(1);
            self.rows = self.rows.saturating_add(1);
            let known = layers.get(row.table, &row.key, version);
            let is_catalog = row.table == TableId::SYSTEM;
            let same = known.is_ok_and(|known| {
                known
                    .is_some_and(|known| (known.version == version || is_catalog) && known.value == row.value)
            });
            if !same {
                let table = shared.catalog.display_name(row.table);
                let place = format!("version {version}, table {table:?}, key {}", row.key.escape_ascii());
                report.add(place, "the row in memory as it is on disk", "another or none");
            }
        }
    }

    /// Holds memory's own promises, and that it has nothing that the log has not.
    fn compare(self, layers: &Layers, through: Version, report: &mut CheckReport) {
        let mut known_rows = 0_u64;
        let mut held_rows = 0_u64;
        let mut before = None;
        for memtable in layers.memtables().iter().rev() {
            let count = memtable.commits().count_through(through);
            for entry in (0..count).filter_map(|index| memtable.commits().get(index)) {
                let now = (entry.version(), entry.time(), entry.lsn());
                let ascends =
                    before.is_none_or(|(version, time, lsn)| version < now.0 && time < now.1 && lsn < now.2);
                if !ascends {
                    let place = format!("version {}", now.0);
                    report.add(place, "a commit after the one before", format!("{now:?}"));
                }
                known_rows = known_rows.saturating_add(entry.row_count());
                before = Some(now);
            }
            let (runs, version) = memtable.runs();
            for run in runs.iter().filter(|_| version <= through) {
                match run.check() {
                    Ok(rows) => held_rows = held_rows.saturating_add(rows),
                    Err(error) => report.add(run.path().display().to_string(), "a run that is whole", error),
                }
            }
            memtable.for_each(|_table, row| {
                held_rows = held_rows.saturating_add(u64::from(row.version <= through));
            });
        }
        for (what, found) in [("the rows of memory's commits", known_rows), ("the rows in memory", held_rows)]
        {
            if found != self.rows {
                report.add(what, self.rows, found);
            }
        }
    }
}
