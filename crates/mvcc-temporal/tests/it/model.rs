//! Random programs against a naive model: a map per version. Reopened, killed, read at every version, rolled back.

use std::collections::BTreeMap;

use keepstone_mvcc_temporal::{CheckpointOptions, Database, Isolation, Read, Txn};
use keepstone_types::Version;
use proptest::prelude::*;

use crate::support::{MemoryStore, kind, options, with_isolation};

/// The rows of all tables.
type Content = BTreeMap<(u8, u8), u8>;

#[derive(Clone, Debug)]
enum Change {
    Put(u8, u8, u8),
    Delete(u8, u8),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>),
    RollBack(Vec<Change>),
    /// Two transactions begin on one version; the second reads a key, or a range, and commits after the first.
    Race {
        first: Vec<Change>,
        second: Vec<Change>,
        reads: (u8, u8),
        scans: Option<(u8, u8, u8)>,
    },
    RollbackTo(prop::sample::Index),
    Name(u8, prop::sample::Index),
    Checkpoint,
    Reopen,
    Kill,
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0_u8..3, 0_u8..12, any::<u8>()).prop_map(|(table, key, value)| Change::Put(table, key, value)),
        1 => (0_u8..3, 0_u8..12).prop_map(|(table, key)| Change::Delete(table, key)),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let changes = || prop::collection::vec(any_change(), 1..6);
    let scans = prop::option::of((0_u8..3, 0_u8..12, 0_u8..12));
    prop_oneof![
        8 => changes().prop_map(Step::Commit),
        1 => changes().prop_map(Step::RollBack),
        4 => (changes(), changes(), (0_u8..3, 0_u8..12), scans)
            .prop_map(|(first, second, reads, scans)| Step::Race { first, second, reads, scans }),
        1 => any::<prop::sample::Index>().prop_map(Step::RollbackTo),
        1 => (0_u8..4, any::<prop::sample::Index>()).prop_map(|(name, version)| Step::Name(name, version)),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

fn table(number: u8) -> String {
    format!("table {number}")
}

fn apply(txn: &mut Txn, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(to, key, value) => txn.put(&table(*to), [*key], vec![*value]).unwrap(),
            Change::Delete(from, key) => txn.delete(&table(*from), [*key]).unwrap(),
        }
    }
}

fn apply_to_model(content: &mut Content, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(to, key, value) => drop(content.insert((*to, *key), *value)),
            Change::Delete(from, key) => drop(content.remove(&(*from, *key))),
        }
    }
}

fn touched(changes: &[Change]) -> Vec<(u8, u8)> {
    let place = |change: &Change| match change {
        Change::Put(to, key, _) | Change::Delete(to, key) => (*to, *key),
    };
    changes.iter().map(place).collect()
}

/// Everything that a reader sees.
fn content_of(reader: &impl Read) -> Content {
    let mut content = Content::new();
    for number in 0..3 {
        for row in reader.scan(&table(number), ..).unwrap() {
            let (key, value) = row.unwrap();
            content.insert((number, key[0]), value[0]);
        }
    }
    content
}

/// A store whose checkpoints take many slices.
fn open(store: &MemoryStore) -> Database {
    store.open_with(options().checkpoint(CheckpointOptions::default().slice_keys(3))).unwrap()
}

/// The store beside its model.
struct World {
    store: MemoryStore,
    database: Option<Database>,
    /// The content of each version, from version 0 on.
    versions: Vec<Content>,
    names: BTreeMap<u8, Version>,
}

impl World {
    fn new() -> Self {
        let store = MemoryStore::new();
        let database = Some(open(&store));
        Self { store, database, versions: vec![Content::new()], names: BTreeMap::new() }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    fn now(&self) -> Content {
        self.versions.last().unwrap().clone()
    }

    fn pick(&self, index: &prop::sample::Index) -> Version {
        Version::from_raw(u64::try_from(index.index(self.versions.len())).unwrap())
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(changes) => {
                let mut txn = self.database().begin().unwrap();
                apply(&mut txn, changes);
                let mut content = self.now();
                apply_to_model(&mut content, changes);
                assert_eq!(content_of(&txn), content, "a transaction reads its own writes");
                txn.commit().unwrap();
                self.versions.push(content);
            }
            Step::RollBack(changes) => {
                let mut txn = self.database().begin().unwrap();
                apply(&mut txn, changes);
                drop(txn);
            }
            Step::Race { first, second, reads, scans } => self.race(first, second, *reads, *scans),
            Step::RollbackTo(index) => {
                let version = self.pick(index);
                let content = self.versions[usize::try_from(version.to_raw()).unwrap()].clone();
                self.database().rollback_to(version).unwrap();
                self.versions.push(content);
            }
            Step::Name(name, index) => self.name(*name, self.pick(index)),
            Step::Checkpoint => self.database().checkpoint().unwrap(),
            Step::Reopen => {
                self.database.take().unwrap().close().unwrap();
                self.database = Some(open(&self.store));
                assert!(self.database().recovery().clean);
            }
            Step::Kill => {
                // The killed process' files are a copy; its store is left to itself.
                self.store = self.store.killed();
                self.database = Some(open(&self.store));
            }
        }
    }

    fn race(&mut self, first: &[Change], second: &[Change], reads: (u8, u8), scans: Option<(u8, u8, u8)>) {
        for isolation in [Isolation::ReadCommitted, Isolation::Snapshot, Isolation::Serializable] {
            let mut one = with_isolation(self.database(), isolation);
            let mut two = with_isolation(self.database(), isolation);
            let content = self.now();
            let read = two.get(&table(reads.0), [reads.1]).unwrap();
            assert_eq!(read.map(|value| value[0]), content.get(&reads).copied());
            if let Some((of, from, to)) = scans {
                assert!(two.scan(&table(of), [from]..[to]).unwrap().all(|row| row.is_ok()));
            }
            apply(&mut one, first);
            apply(&mut two, second);
            one.commit().unwrap();
            let mut after = content;
            apply_to_model(&mut after, first);
            self.versions.push(after.clone());
            let written = touched(first);
            let both_wrote = touched(second).iter().any(|place| written.contains(place));
            // An own write that was read was not read from the store; here reads come before writes.
            let was_read = written.contains(&reads)
                || scans.is_some_and(|(of, from, to)| {
                    written.iter().any(|(table, key)| *table == of && (from..to).contains(key))
                });
            let conflict = match isolation {
                Isolation::Snapshot => both_wrote,
                Isolation::Serializable => both_wrote || was_read,
                _ => false,
            };
            assert_eq!(kind(two.commit()), if conflict { Err("conflict") } else { Ok(()) }, "{isolation:?}");
            if !conflict {
                apply_to_model(&mut after, second);
                self.versions.push(after);
            }
        }
    }

    fn name(&mut self, name: u8, version: Version) {
        let text = format!("name {name}");
        let given = kind(self.database().name_version(&text, version));
        match self.names.get(&name) {
            Some(known) if *known != version => {
                assert_eq!(given, Err("name-taken"));
                self.database().drop_name(&text).unwrap();
                self.names.remove(&name);
                self.versions.push(self.now());
            }
            Some(_) => assert_eq!(given, Ok(()), "the same again makes no version"),
            None => {
                assert_eq!(given, Ok(()));
                self.names.insert(name, version);
                self.versions.push(self.now());
            }
        }
    }

    fn check(&self) {
        let database = self.database();
        assert_eq!(database.visible_version().to_raw(), u64::try_from(self.versions.len() - 1).unwrap());
        for (raw, content) in (0_u64..).zip(&self.versions) {
            let then = database.snapshot_at(Version::from_raw(raw)).unwrap();
            assert_eq!(&content_of(&then), content, "version {raw}");
        }
        for (raw, pair) in (0_u64..).zip(self.versions.windows(2)) {
            let [before, after] = pair else { panic!() };
            let mut found = before.clone();
            let from_to = (Version::from_raw(raw), Version::from_raw(raw + 1));
            for change in database.diff(from_to.0, from_to.1).unwrap().map(Result::unwrap) {
                let place = (change.table.as_bytes()[6] - b'0', change.key[0]);
                assert_eq!(found.get(&place).copied(), change.before.map(|value| value[0]));
                match change.after {
                    Some(value) => drop(found.insert(place, value[0])),
                    None => drop(found.remove(&place)),
                }
            }
            assert_eq!(&found, after, "diff {raw}..{}", raw + 1);
        }
        let names: BTreeMap<u8, Version> = database
            .names()
            .unwrap()
            .iter()
            .map(|named| (named.name.as_bytes()[5] - b'0', named.version))
            .collect();
        assert_eq!(names, self.names);
        let report = database.check().unwrap();
        assert!(report.is_sound(), "{:#?}", report.findings);
        assert_eq!(report.commits, u64::try_from(self.versions.len() - 1).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_programs_equal_the_model(steps in prop::collection::vec(any_step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.check();
        world.step(&Step::Reopen);
        world.check();
    }
}
