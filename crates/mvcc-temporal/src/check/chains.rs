//! Holding the rows of history to each other: every entry decodes, by the next newer version, to what it was made from; and
//! no run of deltas is longer than it says.
//!
//! What is wrong with one row is found once. The versions behind it that hang on it are named too, as far as the next keyframe,
//! for they cannot be read; newer ones can.

use keepstone_btree::{Cursor, Stored, TreeError};
use keepstone_pager::PageFile;
use keepstone_types::{ValueRef, Version};
use keepstone_xor_dag::delta::{decode_into, inspect};

use super::CheckReport;
use crate::catalog::TableId;
use crate::ground::older::{RUN_LENGTH, content};
use crate::ground::row::{self, OlderForm};
use crate::ground::{Ground, history_key};
use crate::limits::VALUE_LEN_MAX;

/// The next newer version of a key.
enum Newer {
    /// The row in the table's tree, which was not looked at yet.
    Newest,
    /// As it stands, its value behind so many bytes; read when it is asked for.
    Stored(Stored, usize),
    Value(ValueRef),
    Deletion,
    /// It cannot be read, because this version is damaged.
    Lost(Version),
}

/// Walks history row by row.
pub(super) struct Chains<'a> {
    ground: &'a Ground,
    of: Option<TableId>,
    key: Vec<u8>,
    newer: Newer,
    /// Deltas that may still follow, by what the rows before say.
    left: Option<u8>,
    spare: Vec<u8>,
}

impl<'a> Chains<'a> {
    pub(super) fn new(ground: &'a Ground) -> Self {
        Self { ground, of: None, key: Vec::new(), newer: Newer::Newest, left: None, spare: Vec::new() }
    }

    /// Looks at the row that a cursor stands on. False when it is no row of history, or of another version than its key says;
    /// all else that is wrong is in the report.
    pub(super) fn row(
        &mut self,
        cursor: &Cursor<'_, PageFile>,
        report: &mut CheckReport,
    ) -> Result<bool, TreeError> {
        let mut key = std::mem::take(&mut self.spare);
        let (Some(found), Some(value)) = (cursor.key(), cursor.value()) else { return Ok(true) };
        let Some((table, version)) = history_key::decode(found, &mut key) else { return Ok(false) };
        if self.of != Some(table) || self.key != key {
            self.of = Some(table);
            std::mem::swap(&mut self.key, &mut key);
            (self.newer, self.left) = (Newer::Newest, None);
        }
        self.spare = key;
        let head = match row::older_head(value.head()) {
            Ok(head) => head,
            Err(wrong) => {
                self.lose(report, version, "an older row", wrong);
                return Ok(true);
            }
        };
        let is_sound = head.version <= self.ground.meta().folded && head.version == version;
        let OlderForm::Entry { deltas } = head.form else {
            self.left = None;
            self.newer = match head.form {
                OlderForm::Deletion => Newer::Deletion,
                _ => Newer::Stored(value.stored()?, head.len),
            };
            return Ok(is_sound);
        };
        let entry = content(self.ground.pages(), value, head)?;
        match inspect(&entry) {
            Ok(info) => self.entry(&entry, (version, deltas, info.form.is_whole()), report)?,
            Err(wrong) => self.lose(report, version, "an entry of a chain", wrong),
        }
        Ok(is_sound)
    }

    fn entry(
        &mut self,
        entry: &[u8],
        (version, deltas, is_keyframe): (Version, u8, bool),
        report: &mut CheckReport,
    ) -> Result<(), TreeError> {
        let most = u8::try_from(RUN_LENGTH.deltas()).unwrap_or(u8::MAX);
        let left = self.left.take();
        if is_keyframe != (deltas == 0) || deltas > most || (left == Some(0) && !is_keyframe) {
            let expected = if is_keyframe { 0..=0 } else { 1..=left.unwrap_or(most) };
            report.add(self.place(version), format!("{expected:?} deltas from here on"), deltas);
        }
        if !is_keyframe {
            self.left = Some(left.unwrap_or(most).min(deltas).saturating_sub(1));
            if let Newer::Lost(damaged) = &self.newer {
                let found = format!("nothing: version {damaged} is damaged");
                report.add(self.place(version), "the next newer version, which it hangs on", found);
                return Ok(());
            }
        }
        let base = if is_keyframe { None } else { self.base()? };
        let mut out = Vec::new();
        match decode_into(entry, base.as_deref(), &mut out, VALUE_LEN_MAX) {
            Ok(()) => self.newer = Newer::Value(ValueRef::from(out)),
            Err(wrong) => self.lose(report, version, "an entry of a chain", wrong),
        }
        Ok(())
    }

    /// The value of the next newer version.
    fn base(&mut self) -> Result<Option<ValueRef>, TreeError> {
        let pages = self.ground.pages();
        let newest = |table| self.ground.tree_of(table).get(&self.key);
        let (stored, len) = match (&self.newer, self.of) {
            (Newer::Value(value), _) => return Ok(Some(value.clone())),
            (Newer::Stored(stored, len), _) => (stored.clone(), Some(*len)),
            (Newer::Newest, Some(table)) => match newest(table)? {
                Some(stored) => {
                    let len = row::head(stored.head()).map(|head| head.len);
                    (stored, len)
                }
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let value = stored.load(pages)?;
        Ok(len.and_then(|len| value.slice(len..)))
    }

    fn place(&self, version: Version) -> String {
        let table = self.of.map_or(0, TableId::get);
        format!("version {version} of key {} of table {table}, in history", self.key.escape_ascii())
    }

    fn lose(
        &mut self,
        report: &mut CheckReport,
        version: Version,
        expected: &str,
        found: impl std::error::Error,
    ) {
        report.add(self.place(version), expected, found);
        (self.newer, self.left) = (Newer::Lost(version), None);
    }
}

#[cfg(test)]
#[cfg(not(feature = "model"))]
mod tests {
    use std::path::Path;

    use keepstone_btree::{Edit, NewValue};
    use keepstone_types::ManualClock;
    use keepstone_vfs::MemoryVfs;

    use super::*;
    use crate::checkpoint::{apply_edits, begin_slice, commit_slice, ground, publish};
    use crate::database::Database;
    use crate::options::DatabaseOptions;
    use crate::read::Read;
    use crate::sync::Arc;

    const VERSIONS: u64 = 40;

    fn value(version: u64) -> Vec<u8> {
        [&b"A line that all versions have, as they have this one. ".repeat(9)[..], &version.to_le_bytes()]
            .concat()
    }

    /// Every eighth that was displaced is a keyframe.
    fn store() -> Database {
        let options = DatabaseOptions::default();
        let log = options.log.clone().tending(keepstone_wal::Tending::Caller);
        let options = options.log(log.segment_bytes_min(256 << 10).segment_bytes_max(1 << 20));
        let (vfs, clock) = (Arc::new(MemoryVfs::new()), Arc::new(ManualClock::default()));
        let database = Database::open_with(vfs, clock, Path::new("/store"), options).unwrap();
        for version in 1..=VERSIONS {
            let mut txn = database.begin().unwrap();
            txn.put("t", "key", value(version)).unwrap();
            assert_eq!(txn.commit().unwrap().version.to_raw(), version);
            if version % 3 == 0 {
                database.checkpoint().unwrap();
            }
        }
        database.checkpoint().unwrap();
        assert!(database.check().unwrap().is_sound());
        database
    }

    /// Changes the row of an older version, on pages whose checksums are right.
    fn change(database: &Database, version: u64, change: impl FnOnce(&mut Vec<u8>, usize)) {
        let inner = &database.inner;
        let _running = inner.checkpointer.begin();
        let ground = ground(inner).unwrap();
        let (mut place, mut cursor) = (Vec::new(), ground.history().cursor());
        cursor.seek_first().unwrap();
        let (table, _) = history_key::decode(cursor.key().unwrap(), &mut Vec::new()).unwrap();
        history_key::encode(&mut place, table, b"key", Version::from_raw(version));
        let stored = ground.history().get(&place).unwrap().unwrap();
        let len = row::older_head(stored.head()).unwrap().len;
        let mut row = stored.load(ground.pages()).unwrap().into_owned();
        change(&mut row, len);
        let meta = ground.meta();
        let mut building = begin_slice(&ground, meta.folded, meta.folded_lsn).unwrap();
        let edit = Edit { key: ValueRef::from(place), value: NewValue::bytes(ValueRef::from(row)) };
        building.meta.history = apply_edits(&mut building.writer, building.meta.history, &[edit]).unwrap();
        publish(inner, &Arc::new(commit_slice(&ground, building).unwrap()), None);
    }

    fn read(database: &Database, version: u64) -> Result<Vec<u8>, String> {
        let then = database.snapshot_at(Version::from_raw(version)).unwrap();
        let found = then.get("t", "key").map_err(|error| error.to_string())?;
        Ok(found.unwrap().into_owned())
    }

    fn findings(database: &Database) -> Vec<String> {
        let report = database.check().unwrap();
        assert!(!report.is_sound());
        report.findings.iter().map(ToString::to_string).collect()
    }

    /// The run of version 29 goes from the keyframe 32 down to 25.
    fn hurts_what_hangs_on_29(database: &Database, what: &str) {
        for version in 1..=VERSIONS {
            match read(database, version) {
                Ok(found) => assert!(found == value(version) && !(25..=29).contains(&version), "{version}"),
                Err(error) => {
                    assert!((25..=29).contains(&version), "{version}: {error}");
                    assert!(error.contains("version 29 of key key") && error.contains(what), "{error}");
                }
            }
        }
        let found = findings(database);
        assert!(found[0].starts_with("version 29 of key key") && found[0].contains(what), "{}", found[0]);
        assert_eq!(found.len(), 5, "{found:?}");
        for (finding, version) in found[1..].iter().zip((25..29).rev()) {
            assert!(finding.starts_with(&format!("version {version} of key key")), "{finding}");
            assert!(finding.contains("version 29 is damaged"), "{finding}");
        }
        let mut history = database.history("t", "key").unwrap();
        let listed: Vec<_> = history.by_ref().take_while(Result::is_ok).collect();
        assert!(listed.len() <= 11 && history.next().is_none(), "it ends at the damage");
    }

    #[test]
    fn a_damaged_entry_hurts_what_hangs_on_it_and_nothing_newer() {
        let database = store();
        change(&database, 29, |row, at| row[at + 20] ^= 4);
        hurts_what_hangs_on_29(&database, "seal");
    }

    #[test]
    fn a_form_that_is_not_known_is_refused_by_name() {
        let database = store();
        change(&database, 29, |row, at| row[at - 2] = 9);
        hurts_what_hangs_on_29(&database, "form 9");
    }

    #[test]
    fn a_base_that_is_another_is_told_and_so_is_a_count_that_is_too_low() {
        let database = store();
        // Whole, and another value.
        let head = row::prefix(Version::from_raw(35), false);
        change(&database, 35, |row, _| *row = [head.as_bytes(), &value(7)].concat());
        let error = read(&database, 34).unwrap_err();
        assert!(error.contains("version 34 of key key") && error.contains("needs a base"), "{error}");
        assert_eq!(read(&database, 36).unwrap(), value(36));
        assert!(findings(&database)[0].starts_with("version 34 of key key"));

        let database = store();
        change(&database, 39, |row, at| row[at - 1] = 3);
        assert_eq!(read(&database, 33).unwrap(), value(33));
        let found = findings(&database);
        assert!(found[0].starts_with("version 36 of key key") && found[0].contains("deltas"), "{found:?}");
    }
}
