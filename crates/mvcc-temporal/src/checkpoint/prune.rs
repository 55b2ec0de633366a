//! Pruning: older versions that nobody can ask for any more leave the page file.
//!
//! What is kept (the whole rule): a version of a row is kept when it was the current one at a *kept point*. Kept points are
//! every version at or above the floor, every version that a reader holds, every version with a name, and every version
//! below a branch. The floor is
//! raised, and made durable, before anything goes; see [`Readers`](crate::readers::Readers) for how readers and the floor
//! meet.
//!
//! Pruning never runs while a checkpoint is under way: until that is done, a log that turns out shorter is rolled back
//! through history, and so are readers served that still need what it displaced.
//!
//! A deletion that has nothing older below it says no more than its absence does, and goes with what it deleted.
//!
//! A row that goes takes with it what an older one hangs on. So the rows of a key are looked at together, and the older one
//! is made anew in the same slice: no root has the one without the other.

use keepstone_btree::{Edit, NewValue};
use keepstone_types::{ValueRef, Version};

use super::older_coder::OlderCoder;
use super::recode::{OlderRow, recode};
use super::{apply_edits, begin_slice, commit_slice, ground, publish};
use crate::catalog::TableId;
use crate::database::Inner;
use crate::error::{CheckpointError, ReadError};
use crate::ground::row::{self, OlderForm};
use crate::ground::{Ground, damaged, history_key, read_error};
use crate::names::promised;
use crate::options::Retention;
use crate::sync::Arc;
use crate::wrong::{self, Wrong};

/// Rows that are looked at before what was found is pruned in a slice of its own.
const LOOKED_AT_MAX: usize = 65_536;
/// Rows that are pruned, or made anew, in one slice, and bytes of those that are made anew; a key is not divided.
const PRUNED_MAX: usize = 8_192;
const RECODED_BYTES_MAX: u64 = 16 << 20;

/// The versions at which everything must stay readable.
#[derive(Debug)]
pub(crate) struct Kept {
    floor: Version,
    /// Below the floor; sorted.
    points: Vec<Version>,
}

impl Kept {
    pub(crate) fn new(floor: Version, points: impl IntoIterator<Item = Version>) -> Self {
        let mut points: Vec<_> = points.into_iter().filter(|point| *point < floor).collect();
        points.sort_unstable();
        points.dedup();
        Self { floor, points }
    }

    /// Whether a row version was current at a kept point, if `next` took its place, or nothing did.
    fn needs(&self, version: Version, next: Option<Version>) -> bool {
        let Some(next) = next else { return true };
        if next > self.floor {
            return true;
        }
        let first = self.points.partition_point(|point| *point < version);
        self.points.get(first).is_some_and(|point| *point < next)
    }

    fn has(&self, version: Version) -> bool {
        version >= self.floor || self.points.binary_search(&version).is_ok()
    }
}

/// What pruning found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) rows: u64,
    pub(crate) commits: u64,
    /// Bytes of pages that were in use before and are not any more.
    pub(crate) reclaimed_bytes: u64,
}

/// The version that retention asks to keep, and all after it.
fn retained_from(inner: &Inner, ground: &Ground) -> Result<Version, ReadError> {
    let through = ground.meta().through;
    match inner.retention {
        Retention::Forever => Ok(Version::ZERO),
        Retention::None => Ok(through),
        Retention::For(time) => {
            let oldest = inner.shared.clock.now().minus(time);
            let found = inner.shared.stack.with(|layers| layers.commit_at_time(oldest, layers.visible()))?;
            Ok(found.map_or(Version::ZERO, |commit| commit.version.min(through)))
        }
    }
}

/// The versions that names and branches keep, as the newest commit has them.
fn promised_versions(inner: &Inner) -> Result<Vec<Version>, ReadError> {
    promised(&inner.shared.stack.view())
}

/// Warns of readers and aborts them, by their allowance.
pub(crate) fn watch_readers(inner: &Inner) -> Result<(), ReadError> {
    let retained = match inner.shared.stack.current().ground() {
        Some(ground) => retained_from(inner, ground)?,
        None => Version::ZERO,
    };
    let now = inner.shared.clock.monotonic();
    let watched = inner.shared.readers.watch(&inner.readers, now, retained);
    inner.shared.counters.readers_warned.add(watched.warned);
    inner.shared.counters.readers_aborted.add(watched.aborted);
    Ok(())
}

/// Raises the floor to what retention asks for, and says what must stay.
pub(crate) fn kept(inner: &Inner) -> Result<Kept, CheckpointError> {
    watch_readers(inner)?;
    let ground = ground(inner)?;
    let readers = &inner.shared.readers;
    let floor = retained_from(inner, &ground)?.max(readers.floor());
    let _collecting = readers.collect();
    // A name is given to a version that is held meanwhile, and a branch forked at one, so one of the two is seen.
    let held = readers.raise_floor(floor);
    let promised = promised_versions(inner)?;
    Ok(Kept::new(floor, held.into_iter().chain(promised)))
}

/// History grows by so many rows before it is looked through unasked.
const WORTH_ROWS: u64 = 65_536;
/// What was kept for a reader is looked through once it has gone, when there are so many rows.
const LEFT_WORTH_ROWS: u64 = WORTH_ROWS / 4;

/// What was left when history was pruned last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    rows: u64,
    floor: Version,
    /// The oldest version below the floor that was kept for a reader, a name or a branch.
    oldest: Option<Version>,
}

/// Prunes when history has doubled since it was pruned last and retention lets something go, or when the reader or name is
/// gone for which most of what is left was kept.
pub(crate) fn when_worth_it(inner: &Inner) -> Result<(), CheckpointError> {
    let history = ground(inner)?.meta().history.rows();
    let left = *inner.checkpointer.left.lock();
    let has_doubled = history >= left.rows.saturating_mul(2).saturating_add(WORTH_ROWS)
        && retained_from(inner, &*ground(inner)?)? > left.floor;
    if has_doubled || (left.rows >= LEFT_WORTH_ROWS && is_gone(inner, left)?) {
        prune(inner)?;
    }
    Ok(())
}

/// Whether nobody needs the oldest version any more that something was kept for.
fn is_gone(inner: &Inner, left: Left) -> Result<bool, CheckpointError> {
    let Some(oldest) = left.oldest else { return Ok(false) };
    // Whoever is past the allowance counts no longer.
    watch_readers(inner)?;
    let is_held = inner.shared.readers.raise_floor(left.floor).binary_search(&oldest).is_ok();
    Ok(!is_held && !promised_versions(inner)?.contains(&oldest))
}

/// Prunes everything that need not stay. The caller runs the checkpoint, and none is half done.
pub(crate) fn prune(inner: &Inner) -> Result<Pruned, CheckpointError> {
    let kept = kept(inner)?;
    let mut pruned = Pruned::default();
    let used_before = used_bytes(inner)?;
    let mut coder = OlderCoder::new(inner.history);
    let mut from = Some(Vec::new());
    while let Some(place) = from {
        inner.shared.must_be_open()?;
        let ground = ground(inner)?;
        let found = Found::collect(&ground, &place, &kept, &mut coder)?;
        pruned.rows = pruned.rows.saturating_add(found.gone);
        drop_rows(inner, &ground, &kept, &found.edits)?;
        from = found.next;
    }
    pruned.commits = prune_commits(inner, &kept)?;
    pruned.reclaimed_bytes = used_before.saturating_sub(used_bytes(inner)?);
    inner.checkpointer.pruned.add(pruned.rows);
    inner.checkpointer.reclaimed_bytes.add(pruned.reclaimed_bytes);
    let rows = ground(inner)?.meta().history.rows();
    *inner.checkpointer.left.lock() = Left { rows, floor: kept.floor, oldest: kept.points.first().copied() };
    Ok(pruned)
}

/// Bytes of the slots of the page file that are in use. Who runs the checkpoint is the only one that changes it.
fn used_bytes(inner: &Inner) -> Result<u64, CheckpointError> {
    let ground = ground(inner)?;
    let pages = ground.pages();
    Ok(pages.stats().used_slots.saturating_mul(u64::from(pages.page_size().bytes())))
}

fn drop_rows(inner: &Inner, ground: &Ground, kept: &Kept, edits: &[Edit]) -> Result<(), CheckpointError> {
    if edits.is_empty() && ground.meta().floor >= kept.floor {
        return Ok(());
    }
    if wrong::is(Wrong::BasePrunedApart) {
        let (gone, anew): (Vec<Edit>, Vec<Edit>) =
            edits.iter().cloned().partition(|edit| matches!(edit.value, NewValue::Delete));
        if !gone.is_empty() && !anew.is_empty() {
            drop_rows(inner, ground, kept, &gone)?;
            return drop_rows(inner, &*super::ground(inner)?, kept, &anew);
        }
    }
    let meta = ground.meta();
    let mut building = begin_slice(ground, meta.folded, meta.folded_lsn)?;
    building.meta.floor = kept.floor.max(meta.floor);
    building.meta.history = apply_edits(&mut building.writer, building.meta.history, edits)?;
    let pruned = commit_slice(ground, building)?;
    publish(inner, &Arc::new(pruned), None);
    Ok(())
}

/// Commits below the floor go, but for those of kept points.
fn prune_commits(inner: &Inner, kept: &Kept) -> Result<u64, CheckpointError> {
    let mut count = 0_u64;
    let mut from = Vec::new();
    loop {
        let ground = ground(inner)?;
        let mut edits = Vec::new();
        let tree = ground.commits();
        let mut cursor = tree.cursor();
        cursor.seek(&from).map_err(read_error)?;
        while let Some(key) = cursor.key()
            && edits.len() < PRUNED_MAX
        {
            let number: Option<[u8; 8]> = key.try_into().ok();
            let wrong = || damaged("the tree of commits", key, "a sequence of eight bytes");
            let sequence = u64::from_be_bytes(number.ok_or_else(wrong)?);
            if sequence >= kept.floor.sequence() {
                break;
            }
            let version = ground.commit_by_sequence(sequence)?.map(|commit| commit.version);
            if !version.is_some_and(|version| kept.has(version)) {
                edits.push(Edit { key: ValueRef::copy_from(key), value: NewValue::Delete });
            }
            from = key.to_vec();
            cursor.next().map_err(read_error)?;
        }
        if edits.is_empty() {
            return Ok(count);
        }
        count = count.saturating_add(u64::try_from(edits.len()).unwrap_or(u64::MAX));
        let meta = ground.meta();
        let mut building = begin_slice(&ground, meta.folded, meta.folded_lsn)?;
        building.meta.commits = apply_edits(&mut building.writer, building.meta.commits, &edits)?;
        let pruned = commit_slice(&ground, building)?;
        publish(inner, &Arc::new(pruned), None);
    }
}

/// History rows that may go.
struct Found {
    /// Rows that go, and rows that hung on them, made anew; in the order of their keys.
    edits: Vec<Edit>,
    /// How many go.
    gone: u64,
    /// Bytes of what is made anew.
    recoded_bytes: u64,
    /// Where the next look begins; `None` when all was looked at.
    next: Option<Vec<u8>>,
}

/// The history of one key, newest first.
struct KeyHistory {
    table: TableId,
    key: Vec<u8>,
    entries: Vec<(Version, OlderForm)>,
}

impl Found {
    fn is_enough(&self) -> bool {
        self.edits.len() >= PRUNED_MAX || self.recoded_bytes >= RECODED_BYTES_MAX
    }

    /// Looks at the keys of history from a place on.
    fn collect(
        ground: &Ground,
        from: &[u8],
        kept: &Kept,
        coder: &mut OlderCoder,
    ) -> Result<Self, CheckpointError> {
        let tree = ground.history();
        let mut cursor = tree.cursor();
        cursor.seek(from).map_err(read_error)?;
        let mut found = Self { edits: Vec::new(), gone: 0, recoded_bytes: 0, next: None };
        let mut looked_at = 0_usize;
        let mut current: Option<KeyHistory> = None;
        let mut key = Vec::new();
        while let Some(place) = cursor.key() {
            let wrong = |expected| damaged("the tree of older versions", place, expected);
            let place_of = history_key::decode(place, &mut key);
            let (table, version) = place_of.ok_or_else(|| wrong("a table, a key and a version"))?;
            let head = row::older_head(cursor.head());
            let form = head.map_err(|_| wrong("a row in a form that is known"))?.form;
            if current.as_ref().is_none_or(|current| current.table != table || current.key != key) {
                if let Some(whole) = current.take() {
                    found.look_at(ground, &whole, kept, coder)?;
                }
                if looked_at >= LOOKED_AT_MAX || found.is_enough() {
                    found.next = Some(place.to_vec());
                    return Ok(found);
                }
                current = Some(KeyHistory { table, key: key.clone(), entries: Vec::new() });
            }
            if let Some(current) = &mut current {
                current.entries.push((version, form));
            }
            looked_at = looked_at.saturating_add(1);
            cursor.next().map_err(read_error)?;
        }
        if let Some(whole) = current {
            found.look_at(ground, &whole, kept, coder)?;
        }
        Ok(found)
    }

    /// Adds what may go of one key, and what hangs on that.
    fn look_at(
        &mut self,
        ground: &Ground,
        history: &KeyHistory,
        kept: &Kept,
        coder: &mut OlderCoder,
    ) -> Result<(), CheckpointError> {
        let newest = ground.tree_of(history.table).get(&history.key).map_err(read_error)?;
        let mut next = match &newest {
            Some(stored) => Some(crate::ground::row_head(stored, &history.key)?.version),
            None => None,
        };
        let mut rows = Vec::with_capacity(history.entries.len());
        for (version, form) in &history.entries {
            let (version, form) = (*version, *form);
            rows.push(OlderRow { version, form, stays: kept.needs(version, next) });
            next = Some(version);
        }
        // What is oldest and a deletion says nothing, once it is no longer part of what is shown.
        for row in rows.iter_mut().rev() {
            if row.stays && row.form == OlderForm::Deletion && row.version < kept.floor {
                row.stays = false;
            } else if row.stays {
                break;
            }
        }
        let mut key = Vec::new();
        let mut newer: Option<usize> = None;
        for (index, row) in rows.iter().enumerate() {
            let value = if !row.stays {
                self.gone = self.gone.saturating_add(1);
                NewValue::Delete
            } else {
                let between = newer.map_or(0, |newer| newer.saturating_add(1));
                let gone = rows.get(between..index).unwrap_or_default();
                let newer = newer.replace(index).and_then(|newer| rows.get(newer));
                let anew = recode(ground, coder, (history.table, &history.key), (newer, gone, row))?;
                let Some(anew) = anew else { continue };
                self.recoded_bytes = self.recoded_bytes.saturating_add(anew.len());
                anew
            };
            history_key::encode(&mut key, history.table, &history.key, row.version);
            self.edits.push(Edit { key: ValueRef::copy_from(&key), value });
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(feature = "model"))]
mod tests {
    use std::path::Path;

    use keepstone_types::ManualClock;
    use keepstone_vfs::MemoryVfs;

    use super::*;
    use crate::database::Database;
    use crate::options::DatabaseOptions;

    /// A version is asked for by its name, which goes, while what must be kept is collected: between the look at the slots
    /// and the look at the names.
    #[test]
    fn a_version_that_loses_its_name_meanwhile_is_kept_or_refused() {
        let options = DatabaseOptions::default().retention(Retention::None);
        let log = options.log.clone().tending(keepstone_wal::Tending::Caller);
        let options = options.log(log.segment_bytes_min(256 << 10).segment_bytes_max(1 << 20));
        let (vfs, clock) = (Arc::new(MemoryVfs::new()), Arc::new(ManualClock::default()));
        let database = Database::open_with(vfs, clock, Path::new("/store"), options).unwrap();
        let put = |value: &str| {
            let mut txn = database.begin().unwrap();
            txn.put("t", "key", value.as_bytes()).unwrap();
            txn.commit().unwrap().version
        };
        let named = put("1");
        database.name_version("name", named).unwrap();
        put("2");
        database.compact().unwrap();
        let readers = &database.inner.shared.readers;
        assert!(database.snapshot_at(named).is_ok() && readers.floor() > named);
        let floor = readers.floor();
        let collecting = readers.collect();
        let slots = readers.raise_floor(floor);
        let (snapshot, names) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| database.snapshot_at(named));
            // It looks for the name and finds it; what it does then is up to it.
            for _ in 0..20_000 {
                if reader.is_finished() {
                    break;
                }
                std::thread::yield_now();
            }
            database.drop_name("name").unwrap();
            let names = promised_versions(&database.inner).unwrap();
            drop(collecting);
            (reader.join().unwrap(), names)
        });
        let kept = Kept::new(floor, slots.into_iter().chain(names));
        assert!(snapshot.is_err() || kept.has(named), "version {named} is read and not kept");
    }

    /// What was kept for a reader goes with the first checkpoint after it, not when as much again has come.
    #[test]
    fn what_a_reader_kept_goes_when_it_has_gone() {
        const ROWS: u32 = 40_000;
        let options = DatabaseOptions::default().retention(Retention::None);
        let log = options.log.clone().tending(keepstone_wal::Tending::Caller);
        let (vfs, clock) = (Arc::new(MemoryVfs::new()), Arc::new(ManualClock::default()));
        let database = Database::open_with(vfs, clock, Path::new("/store"), options.log(log)).unwrap();
        let write = |rows: u32, value: &str| {
            let mut txn = database.begin().unwrap();
            for row in 0..rows {
                txn.put("t", row.to_be_bytes(), value.as_bytes()).unwrap();
            }
            txn.commit().unwrap();
            database.checkpoint().unwrap();
            database.stats().history_rows
        };
        assert_eq!(write(ROWS, "1"), 0);
        let reader = database.snapshot().unwrap();
        assert_eq!(write(ROWS, "2"), u64::from(ROWS), "not worth a look");
        assert_eq!(write(ROWS, "3"), u64::from(ROWS), "what is kept for the reader");
        assert_eq!(write(1, "4"), u64::from(ROWS) + 1);
        let looks = database.stats().pages.commits;
        assert_eq!(write(1, "5"), u64::from(ROWS) + 2, "looked through once");
        let commits = database.stats().pages.commits - looks;
        drop(reader);
        assert_eq!(write(1, "6"), 0);
        let looks = database.stats().pages.commits;
        assert_eq!(write(1, "7"), 1, "nothing is left of it");
        assert_eq!(database.stats().pages.commits - looks, commits);
    }

    fn version(raw: u64) -> Version {
        Version::from_raw(raw)
    }

    #[test]
    fn what_was_current_at_a_kept_point_stays() {
        let kept = Kept::new(version(10), [version(3), version(7), version(12), version(3)]);
        for (from, next, expected) in [
            (1, Some(3), false),
            (1, Some(4), true),
            (3, Some(4), true),
            (4, Some(7), false),
            (4, Some(8), true),
            (8, Some(10), false),
            (8, Some(11), true),
            (8, None, true),
            (11, Some(12), true),
        ] {
            assert_eq!(kept.needs(version(from), next.map(version)), expected, "{from} until {next:?}");
        }
        for (raw, expected) in [(3, true), (4, false), (7, true), (9, false), (10, true), (12, true)] {
            assert_eq!(kept.has(version(raw)), expected, "{raw}");
        }
    }
}
