//! Older versions as entries of chains: read at any depth, listed, pruned with what hangs on them, kept while promised.

use std::collections::BTreeMap;

use keepstone_mvcc_temporal::{Database, DatabaseOptions, HistoryCoding, Read, Retention, Snapshot};
use keepstone_types::Version;
use proptest::prelude::*;

use crate::support::{MemoryStore, T, options};

const PAGE_BYTES: u64 = 4_096;

fn small_pages() -> DatabaseOptions {
    let checkpoint = keepstone_mvcc_temporal::CheckpointOptions::default().slice_keys(3);
    options().page_size(4_096).checkpoint(checkpoint)
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014).
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    (0..).flat_map(|part| scramble(seed ^ (part << 40)).to_le_bytes()).take(len).collect()
}

/// A text in which a few lines are others in each version.
fn text(version: u64, lines: u64) -> Vec<u8> {
    let line = |line: u64| {
        let changed = if scramble(line ^ ((version / 2) << 20)).is_multiple_of(16) { version } else { 0 };
        format!("Line {line} says {:x}, and {changed}.\n", scramble(line))
    };
    let end = format!("Version {version} ends here.\n");
    (0..lines + version % 3).map(line).chain([end]).collect::<String>().into_bytes()
}

/// The value of a version: of each key another kind.
fn value(key: u8, version: u64) -> Vec<u8> {
    match key % 7 {
        0 => version.to_le_bytes().to_vec(),
        1 => text(version, 8),
        2 => text(version, 80),
        3 => noise(version, 150),
        4 => {
            let mut bits = noise(7, 256);
            for flip in 0..40 {
                let place = scramble(version << 8 | flip) as usize % (256 * 8);
                bits[place / 8] ^= 1 << (place % 8);
            }
            bits
        }
        5 => text(version / 5, 400),
        _ => [text(version, 40), vec![3; 300_000]].concat(),
    }
}

fn commit(database: &Database, changes: &[(u8, bool)]) -> Version {
    let version = database.visible_version().to_raw() + 1;
    let mut txn = database.begin().unwrap();
    for (key, is_deletion) in changes {
        match is_deletion {
            true => txn.delete(T, [*key]).unwrap(),
            false => txn.put(T, [*key], value(*key, version)).unwrap(),
        }
    }
    let made = txn.commit().unwrap().version;
    assert_eq!(made.to_raw(), version);
    made
}

fn put(database: &Database, key: u8) -> Version {
    commit(database, &[(key, false)])
}

fn reads_as(reader: &impl Read, key: u8, version: Option<u64>) {
    let found = reader.get(T, [key]).unwrap().map(|value| value.to_vec());
    assert!(found == version.map(|version| value(key, version)), "key {key} of version {version:?}");
}

fn sound(database: &Database) {
    let report = database.check().unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
}

/// One version a fold, all in one fold, and several a fold.
#[test]
fn every_version_reads_as_it_was_at_any_depth() {
    for a_fold in [1_u64, 3, 17, 60] {
        let store = MemoryStore::new();
        let database = store.open_with(small_pages().retention(Retention::Forever)).unwrap();
        let keys = [1, 2, 3, 4, 5];
        for number in 1..=60_u64 {
            commit(&database, &keys.map(|key| (key, false)));
            if number % a_fold == 0 {
                database.checkpoint().unwrap();
            }
        }
        for (database, _) in [(database.clone(), 0), (store.killed().open_with(small_pages()).unwrap(), 1)] {
            for version in 1..=60 {
                let then = database.snapshot_at(Version::from_raw(version)).unwrap();
                keys.iter().for_each(|key| reads_as(&then, *key, Some(version)));
                let rows: Vec<_> = then.scan(T, ..).unwrap().map(Result::unwrap).collect();
                assert_eq!(rows.len(), keys.len());
                assert!(rows.iter().zip(keys).all(|((_, found), key)| found[..] == value(key, version)));
            }
            for key in keys {
                let listed: Vec<_> = database.history(T, [key]).unwrap().map(Result::unwrap).collect();
                assert_eq!(listed.len(), 60);
                for (entry, version) in listed.iter().zip((1..=60).rev()) {
                    assert_eq!(entry.version.to_raw(), version);
                    assert!(entry.value.as_deref() == Some(&value(key, version)[..]), "{key} of {version}");
                }
            }
            sound(&database);
        }
    }
}

#[test]
fn a_deletion_stands_between_chains() {
    let store = MemoryStore::new();
    let database = store.open_with(small_pages()).unwrap();
    for number in 1..=40_u64 {
        commit(&database, &[(1, number % 5 == 0), (2, number % 7 == 6)]);
        if number % 4 == 0 {
            database.checkpoint().unwrap();
        }
    }
    for version in 1..=40 {
        let then = database.snapshot_at(Version::from_raw(version)).unwrap();
        reads_as(&then, 1, Some(version).filter(|version| version % 5 != 0));
        reads_as(&then, 2, Some(version).filter(|version| version % 7 != 6));
    }
    let deletions = database.history(T, [1]).unwrap().filter(|entry| entry.as_ref().unwrap().value.is_none());
    assert_eq!(deletions.count(), 8);
    let differ = database.diff(Version::from_raw(3), Version::from_raw(6)).unwrap().map(Result::unwrap);
    let differ: Vec<_> = differ.map(|change| (change.key[0], change.before, change.after)).collect();
    let expected = |key, before: Option<u64>, after: Option<u64>| {
        let value = |version: Option<u64>| version.map(|version| value(key, version).into());
        (key, value(before), value(after))
    };
    assert!(differ == [expected(1, Some(3), Some(6)), expected(2, Some(3), None)]);
    sound(&database);
}

#[test]
fn ten_thousand_versions_of_one_text() {
    let store = MemoryStore::new();
    let database = store.open_with(options().retention(Retention::Forever)).unwrap();
    let mut bytes = 0;
    for number in 1..=10_000_u64 {
        put(&database, 1);
        bytes += value(1, number).len();
        if number % 2_300 == 0 {
            database.checkpoint().unwrap();
        }
    }
    database.checkpoint().unwrap();
    for version in (1..=10_000).step_by(7) {
        reads_as(&database.snapshot_at(Version::from_raw(version)).unwrap(), 1, Some(version));
    }
    let listed = database.history(T, [1]).unwrap().map(Result::unwrap);
    for (entry, version) in listed.zip((1..=10_000).rev()) {
        assert_eq!(entry.version.to_raw(), version);
        assert!(entry.value.as_deref() == Some(&value(1, version)[..]), "{version}");
    }
    assert_eq!(database.history(T, [1]).unwrap().count(), 10_000);
    sound(&database);
    let used = database.stats().pages.used_slots * 8_192;
    // The commits, about thirty bytes each, are among them.
    assert!(used * 2 < bytes as u64, "{used} bytes of pages for {bytes} bytes of values");
}

/// What hangs on versions that go is made anew; names deep inside runs and at their ends.
#[test]
fn named_versions_survive_what_they_hung_on() {
    for kept in [&[3_u64, 4, 18, 33][..], &[1], &[16, 17, 24, 32, 41], &[59]] {
        let store = MemoryStore::new();
        let database = store.open_with(small_pages().retention(Retention::None)).unwrap();
        let keys = [1, 2, 4, 5];
        for _ in 1..=60 {
            commit(&database, &keys.map(|key| (key, false)));
        }
        for version in kept {
            database.name_version(&version.to_string(), Version::from_raw(*version)).unwrap();
        }
        let mut left = kept.to_vec();
        while !left.is_empty() {
            let report = database.compact().unwrap();
            assert!(report.pruned_rows > 0, "{report:?}");
            // The deletion of the name that was dropped last is at the floor.
            let dropped = usize::from(left.len() < kept.len());
            assert_eq!(database.stats().history_rows, (left.len() * keys.len() + dropped) as u64);
            sound(&database);
            let again = store.killed().open_with(small_pages()).unwrap();
            for version in &left {
                let named = again.snapshot_at(Version::from_raw(*version)).unwrap();
                keys.iter().for_each(|key| reads_as(&named, *key, Some(*version)));
            }
            let gone = left.remove(left.len() / 2);
            database.drop_name(&gone.to_string()).unwrap();
        }
    }
}

#[test]
fn versions_are_kept_whole_when_that_is_asked_for_and_both_are_read() {
    let store = MemoryStore::new();
    let used = |coding| {
        // Pages of parity are not what is counted here.
        let database = store.open_with(small_pages().history(coding).parity(false)).unwrap();
        for _ in 0..30 {
            put(&database, 2);
            database.checkpoint().unwrap();
        }
        let newest = database.visible_version().to_raw();
        for version in 1..=newest {
            reads_as(&database.snapshot_at(Version::from_raw(version)).unwrap(), 2, Some(version));
        }
        sound(&database);
        let used = database.stats().pages.used_slots;
        database.close().unwrap();
        used
    };
    let chains = used(HistoryCoding::Chains);
    let whole = used(HistoryCoding::Whole) - chains;
    let again = used(HistoryCoding::Chains) - chains - whole;
    assert!(whole >= 28 && again <= 8, "{chains}, {whole}, {again} pages");
}

/// Pages of large values move to history as they are.
#[test]
fn large_values_are_not_written_again() {
    let store = MemoryStore::new();
    // Pages of parity are not what is counted here.
    let database = store.open_with(options().parity(false)).unwrap();
    put(&database, 6);
    database.checkpoint().unwrap();
    for version in 2..=4_u64 {
        let before = database.stats().pages.pages_written;
        put(&database, 6);
        database.checkpoint().unwrap();
        let written = database.stats().pages.pages_written - before;
        assert!((37..60).contains(&written), "{written} pages for version {version}");
    }
    for version in 1..=4 {
        reads_as(&database.snapshot_at(Version::from_raw(version)).unwrap(), 6, Some(version));
    }
    sound(&database);
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, bool)>),
    Checkpoint,
    Compact,
    Name(prop::sample::Index),
    Unname(prop::sample::Index),
    Hold(prop::sample::Index),
    LetGo,
    Whole(bool),
    Kill,
}

fn any_step() -> impl Strategy<Value = Step> {
    let change = (0_u8..7, (0_u8..8).prop_map(|one| one == 0));
    let changes = prop::collection::btree_map(0_u8..7, (0_u8..8).prop_map(|one| one == 0), 1..4);
    prop_oneof![
        12 => changes.prop_map(|changes| Step::Commit(changes.into_iter().collect())),
        6 => change.prop_map(|change| Step::Commit(vec![change])),
        5 => Just(Step::Checkpoint),
        2 => Just(Step::Compact),
        2 => any::<prop::sample::Index>().prop_map(Step::Name),
        1 => any::<prop::sample::Index>().prop_map(Step::Unname),
        1 => any::<prop::sample::Index>().prop_map(Step::Hold),
        1 => Just(Step::LetGo),
        1 => any::<bool>().prop_map(Step::Whole),
        1 => Just(Step::Kill),
    ]
}

/// A store beside a model: for each version, each key's version.
struct Beside {
    store: MemoryStore,
    database: Database,
    retention: Retention,
    contents: Vec<BTreeMap<u8, u64>>,
    names: Vec<Version>,
    held: Option<Snapshot>,
}

impl Beside {
    fn new(retention: Retention) -> Self {
        let store = MemoryStore::new();
        let database = store.open_with(small_pages().retention(retention)).unwrap();
        Self { store, database, retention, contents: vec![BTreeMap::new()], names: Vec::new(), held: None }
    }

    fn open(&mut self, coding: HistoryCoding) {
        self.held = None;
        self.store = self.store.killed();
        let options = small_pages().retention(self.retention).history(coding);
        self.database = self.store.open_with(options).unwrap();
    }

    /// Versions that commits of other kinds made, names for one, change no row.
    fn note(&mut self) {
        let newest = self.contents.last().unwrap().clone();
        self.contents.resize(self.database.visible_version().to_raw() as usize + 1, newest);
    }

    fn chosen(&self, index: &prop::sample::Index) -> Version {
        Version::from_raw(index.index(self.contents.len()) as u64)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(changes) => {
                let version = commit(&self.database, changes).to_raw();
                let mut content = self.contents.last().unwrap().clone();
                for (key, is_deletion) in changes {
                    match is_deletion {
                        true => content.remove(key),
                        false => content.insert(*key, version),
                    };
                }
                self.contents.push(content);
            }
            Step::Checkpoint => self.database.checkpoint().unwrap(),
            Step::Compact => self.compact(),
            Step::Name(index) => {
                let version = self.chosen(index);
                let is_new = !self.names.contains(&version);
                if is_new && self.database.name_version(&version.to_string(), version).is_ok() {
                    self.names.push(version);
                }
            }
            Step::Unname(index) if !self.names.is_empty() => {
                let gone = self.names.swap_remove(index.index(self.names.len()));
                self.database.drop_name(&gone.to_string()).unwrap();
            }
            Step::Unname(_) => {}
            Step::Hold(index) => {
                if let Ok(held) = self.database.snapshot_at(self.chosen(index)) {
                    self.held = Some(held);
                }
            }
            Step::LetGo => self.held = None,
            Step::Whole(true) => self.open(HistoryCoding::Whole),
            Step::Whole(false) | Step::Kill => self.open(HistoryCoding::Chains),
        }
        self.note();
    }

    /// What pruning says that it reclaimed is what the file has less in use.
    fn compact(&mut self) {
        self.database.checkpoint().unwrap();
        let pages = || self.database.gc(true).unwrap().reachable;
        // Pages of parity and of the map also become fewer when what is left moves together, which pruning does not claim.
        let own = || {
            let usage = self.database.slot_usage().unwrap();
            usage.parity + usage.map + usage.twins
        };
        let before = (pages(), own());
        let report = self.database.compact().unwrap();
        let freed = before.0.saturating_sub(pages()) * PAGE_BYTES;
        let allowed = (2 + before.1.abs_diff(own())) * PAGE_BYTES;
        assert!(
            report.reclaimed_bytes.abs_diff(freed) <= allowed,
            "{report:?}, {freed} bytes fewer, ± {allowed}"
        );
        assert!(report.reclaimed_bytes == 0 || report.pruned_rows + report.pruned_commits > 0, "{report:?}");
    }

    fn check(&self) {
        let oldest = self.database.stats().oldest;
        for (version, content) in (0..).zip(&self.contents) {
            let at = Version::from_raw(version);
            match self.database.snapshot_at(at) {
                Ok(then) => (0..7).for_each(|key| reads_as(&then, key, content.get(&key).copied())),
                Err(error) => {
                    assert!(at < oldest && !self.names.contains(&at), "{at}: {error}");
                    assert_ne!(self.retention, Retention::Forever);
                }
            }
        }
        if let Some(held) = &self.held {
            let content = &self.contents[held.version().to_raw() as usize];
            (0..7).for_each(|key| reads_as(held, key, content.get(&key).copied()));
        }
        for key in 0..7 {
            let mut newer = u64::MAX;
            for entry in self.database.history(T, [key]).unwrap() {
                let entry = entry.unwrap();
                let version = entry.version.to_raw();
                assert!(version < newer);
                newer = version;
                let written = self.contents[version as usize].get(&key).copied().filter(|at| *at == version);
                assert!(entry.value.map(|found| found.to_vec()) == written.map(|at| value(key, at)));
            }
        }
        sound(&self.database);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn retained_versions_read_as_a_model_says(
        retains: bool,
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut beside = Beside::new(if retains { Retention::Forever } else { Retention::None });
        for (number, step) in steps.iter().enumerate() {
            beside.step(step);
            if number % 8 == 7 || matches!(step, Step::Compact) {
                beside.check();
            }
        }
        beside.check();
    }
}
