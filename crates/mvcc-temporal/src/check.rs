//! Checking a whole store: the log read again from disk, held against what memory says.

use keepstone_types::{Lsn, Version};
use keepstone_wal::{RecordKind, Repair, Replayed};

use crate::catalog::TableId;
use crate::database::Database;
use crate::error::ReadError;
use crate::names::{NAME_PREFIX, parse_name_row};
use crate::record::{CommitRecord, decode};
use crate::replay::Sequence;
use crate::shared::Shared;

/// Findings that are listed; more are only counted.
const FINDINGS_MAX: usize = 1_000;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected}, found {found}{}", if *healed { " (healed)" } else { "" })]
#[non_exhaustive]
pub struct Finding {
    /// Where.
    pub place: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Whether the content could be rebuilt, so that nothing is lost.
    pub healed: bool,
}

/// What [`Database::check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Commits read from disk.
    pub commits: u64,
    /// Row versions read from disk.
    pub rows: u64,
    /// Tables.
    pub tables: u64,
    /// Named versions.
    pub names: u64,
    /// What is wrong; empty for a sound store.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub findings_unlisted: u64,
}

impl CheckReport {
    /// Whether nothing was found that is lost or wrong; what was healed does not count.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings_unlisted == 0 && self.findings.iter().all(|finding| finding.healed)
    }

    fn add(&mut self, place: impl Into<String>, expected: impl ToString, found: impl ToString) {
        self.push(Finding {
            place: place.into(),
            expected: expected.to_string(),
            found: found.to_string(),
            healed: false,
        });
    }

    fn push(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_unlisted = self.findings_unlisted.saturating_add(1);
        }
    }
}

impl Database {
    /// Reads everything that is on disk again and holds it against memory: the log's checksums, versions without gaps
    /// and times that ascend, every row, the catalog, the named versions. Commits may go on meanwhile; what became
    /// durable after the check began is not part of it.
    ///
    /// # Errors
    /// When the store was closed. What is wrong is not an error but a [`Finding`].
    pub fn check(&self) -> Result<CheckReport, ReadError> {
        let shared = &self.inner.shared;
        let _call = shared.enter()?;
        let through = if shared.read_only { shared.visible() } else { shared.durable() };
        let mut report = CheckReport::default();
        self.check_log_files(&mut report);
        self.check_records(through, &mut report);
        check_memory(shared, through, &mut report);
        check_names(shared, &mut report);
        Ok(report)
    }

    fn check_log_files(&self, report: &mut CheckReport) {
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

    fn check_records(&self, through: Version, report: &mut CheckReport) {
        let shared = &self.inner.shared;
        let reader = match self.inner.log.read_from(Lsn::FIRST) {
            Ok(reader) => reader,
            Err(error) => return report.add("the log", "readable records", error),
        };
        let mut sequence = Sequence::new();
        for replayed in reader {
            let (lsn, checked) = match replayed {
                Ok(Replayed::Record(record)) if record.kind == RecordKind::COMMIT => {
                    let decoded = decode(&record.payload).map_err(|error| error.to_string());
                    let past = decoded.as_ref().is_ok_and(|commit| commit.version > through);
                    if past {
                        break;
                    }
                    let accepted = decoded.and_then(|commit| sequence.accept(&commit).map(|_made| commit));
                    (record.lsn, accepted.map(|commit| check_commit(shared, record.lsn, &commit, report)))
                }
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
    }
}

/// Holds a commit on disk against memory.
fn check_commit(shared: &Shared, lsn: Lsn, commit: &CommitRecord, report: &mut CheckReport) {
    let version = commit.version;
    report.commits = report.commits.saturating_add(1);
    match shared.commits.exact(version) {
        Some(entry) => {
            let stored = (commit.time, lsn, commit.rows.len());
            let known = (entry.time(), entry.lsn(), entry.keys().len());
            if stored != known {
                report.add(format!("version {version}"), format!("{stored:?}"), format!("{known:?}"));
            }
        }
        None => report.add(format!("version {version}"), "the commit in memory", "none"),
    }
    let view = shared.memtables.view_at(version);
    for row in &commit.rows {
        report.rows = report.rows.saturating_add(1);
        let known = view.get(row.table, &row.key);
        let same = known.is_some_and(|known| known.version == version && known.value == row.value);
        if !same {
            let table = shared.catalog.display_name(row.table);
            let place = format!("version {version}, table {table:?}, key {}", row.key.escape_ascii());
            report.add(place, "the row in memory as it is on disk", "another or none");
        }
    }
}

/// Holds memory's own promises, and that it has nothing that the disk has not.
fn check_memory(shared: &Shared, through: Version, report: &mut CheckReport) {
    let count = shared.commits.count_through(through);
    let mut known_rows = 0_u64;
    let mut before = None;
    for entry in (0..count).filter_map(|index| shared.commits.get(index)) {
        let now = (entry.version(), entry.time(), entry.lsn());
        let ascends =
            before.is_none_or(|(version, time, lsn)| version < now.0 && time < now.1 && lsn < now.2);
        if !ascends {
            report.add(format!("version {}", now.0), "a commit after the one before", format!("{now:?}"));
        }
        known_rows = known_rows.saturating_add(entry.row_count());
        before = Some(now);
    }
    let mut held_rows = 0_u64;
    let view = shared.memtables.view_at(through);
    for memtable in view.memtables() {
        memtable
            .for_each(|_table, row| held_rows = held_rows.saturating_add(u64::from(row.version <= through)));
    }
    for (what, found) in [("the rows of memory's commits", known_rows), ("the rows in memory", held_rows)] {
        if found != report.rows {
            report.add(what, report.rows, found);
        }
    }
}

/// Every name stands for a version that was made.
fn check_names(shared: &Shared, report: &mut CheckReport) {
    let view = shared.memtables.view();
    let range = crate::key_range::KeyRange::prefix([NAME_PREFIX]);
    let rows = crate::merge::Merge::new(&view, None, TableId::SYSTEM, &range, crate::merge::Direction::Up);
    for (key, value) in rows {
        report.names = report.names.saturating_add(1);
        match parse_name_row(&key, &value) {
            None => report.add("the named versions", "a name and a version", format!("{key:?}")),
            Some(named) if shared.view_of(named.version).is_err() => {
                report.add(format!("the name {:?}", named.name), "a version that was made", named.version);
            }
            Some(_) => {}
        }
    }
}
