//! Random programs of the store and its branches against a naive model: a whole map per version, and for each branch the
//! whole map below it and its own. Merged with every strategy, discarded, folded, pruned, reopened, killed.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_mvcc_temporal::{
    Branch, CheckpointOptions, Database, Isolation, MergeConflict, MergeError, MergeStrategy, Read,
    ReadError, Resolution, Retention, Txn, TxnOptions,
};
use keepstone_types::{ValueRef, Version};
use proptest::prelude::*;

use crate::support::{MemoryStore, options};

/// The rows of all tables; a value is two bytes.
type Content = BTreeMap<(u8, u8), [u8; 2]>;

#[derive(Clone, Debug)]
enum Change {
    Put(u8, u8, [u8; 2]),
    Delete(u8, u8),
}

#[derive(Clone, Copy, Debug)]
enum Strategy_ {
    Reject,
    Last,
    First,
    Xor,
    Custom,
}

#[derive(Clone, Debug)]
enum Step {
    Main(Vec<Change>),
    /// At the version so many versions back.
    Fork(u8, u64),
    OnBranch(u8, Vec<Change>),
    /// A transaction on a branch that is dropped.
    Dropped(u8, Vec<Change>),
    Merge(u8, Strategy_),
    Discard(u8),
    RollbackTo(u64),
    Checkpoint,
    Compact,
    Reopen,
    Kill,
}

fn any_change() -> impl Strategy<Value = Change> {
    // Few bits, so that what two sides change is apart as often as not.
    let value = (0_u8..4, 0_u8..4).prop_map(|(a, b)| [1 << a, 1 << b]);
    prop_oneof![
        3 => (0_u8..3, 0_u8..6, value).prop_map(|(table, key, value)| Change::Put(table, key, value)),
        1 => (0_u8..3, 0_u8..6).prop_map(|(table, key)| Change::Delete(table, key)),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let changes = || prop::collection::vec(any_change(), 1..6);
    let strategy = prop::sample::select(vec![
        Strategy_::Reject,
        Strategy_::Last,
        Strategy_::First,
        Strategy_::Xor,
        Strategy_::Custom,
    ]);
    prop_oneof![
        8 => changes().prop_map(Step::Main),
        4 => (0_u8..4, 0_u64..4).prop_map(|(name, back)| Step::Fork(name, back)),
        10 => (0_u8..4, changes()).prop_map(|(name, changes)| Step::OnBranch(name, changes)),
        1 => (0_u8..4, changes()).prop_map(|(name, changes)| Step::Dropped(name, changes)),
        4 => (0_u8..4, strategy).prop_map(|(name, strategy)| Step::Merge(name, strategy)),
        3 => (0_u8..4).prop_map(Step::Discard),
        1 => (0_u64..4).prop_map(Step::RollbackTo),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

fn table(number: u8) -> String {
    format!("table {number}")
}

fn name(number: u8) -> String {
    format!("branch {number}")
}

fn apply(txn: &mut Txn, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(to, key, value) => txn.put(&table(*to), [*key], value.as_slice()).unwrap(),
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

fn two(value: &[u8]) -> [u8; 2] {
    value.try_into().unwrap()
}

/// Everything that a reader sees, by scans up and down and key by key.
fn content_of(reader: &impl Read) -> Content {
    let mut content = Content::new();
    for number in 0..3 {
        let up: Vec<_> = reader.scan(&table(number), ..).unwrap().map(Result::unwrap).collect();
        let mut down: Vec<_> = reader.scan(&table(number), ..).unwrap().rev().map(Result::unwrap).collect();
        down.reverse();
        assert_eq!(up, down);
        for (key, value) in up {
            assert_eq!(reader.get(&table(number), &key).unwrap(), Some(value.clone()));
            content.insert((number, key[0]), two(&value));
        }
        for key in (0..6_u8).filter(|key| !content.contains_key(&(number, *key))) {
            assert_eq!(reader.get(&table(number), [key]).unwrap(), None);
        }
    }
    content
}

/// A branch as the model knows it.
#[derive(Clone)]
struct Model {
    base: Version,
    below: Content,
    now: Content,
    /// The rows that it ever wrote: what a merge looks at.
    touched: BTreeSet<(u8, u8)>,
}

struct World {
    store: MemoryStore,
    retention: Retention,
    database: Option<Database>,
    /// The content of each version that is known to be readable, and which branch had what then.
    versions: BTreeMap<Version, Content>,
    now: Content,
    branches: BTreeMap<u8, Model>,
}

/// What the model says of one row in a merge: what becomes of it, or that it is a conflict.
fn merged(
    base: Option<[u8; 2]>,
    main: Option<[u8; 2]>,
    branch: Option<[u8; 2]>,
    strategy: Strategy_,
) -> Result<Option<[u8; 2]>, ()> {
    if branch == base {
        return Ok(main);
    }
    if main == base || main == branch {
        return Ok(branch);
    }
    match strategy {
        Strategy_::Reject => Err(()),
        Strategy_::Last => Ok(branch),
        Strategy_::First => Ok(main),
        Strategy_::Xor => {
            let (Some(base), Some(main), Some(branch)) = (base, main, branch) else { return Err(()) };
            let bit = |value: [u8; 2], bit: usize| value[bit / 8] >> (bit % 8) & 1;
            let mut merged = [0; 2];
            for at in 0..16 {
                let (was, here, there) = (bit(base, at), bit(main, at), bit(branch, at));
                let is = match (here != was, there != was) {
                    (true, true) => return Err(()),
                    (true, false) => here,
                    (false, _) => there,
                };
                merged[at / 8] |= is << (at % 8);
            }
            Ok(Some(merged))
        }
        Strategy_::Custom => custom(base, main, branch),
    }
}

/// What the custom strategy says: two values are added up, a deletion wins unless the row was new.
fn custom(
    base: Option<[u8; 2]>,
    main: Option<[u8; 2]>,
    branch: Option<[u8; 2]>,
) -> Result<Option<[u8; 2]>, ()> {
    match (base, main, branch) {
        (None, Some(_), Some(_)) => Err(()),
        (_, Some(main), Some(branch)) => {
            Ok(Some([main[0].wrapping_add(branch[0]), main[1].wrapping_add(branch[1])]))
        }
        _ => Ok(None),
    }
}

impl World {
    fn new(retention: Retention) -> Self {
        let store = MemoryStore::new();
        let mut world = Self {
            store,
            retention,
            database: None,
            versions: BTreeMap::from([(Version::ZERO, Content::new())]),
            now: Content::new(),
            branches: BTreeMap::new(),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let small = CheckpointOptions::default().slice_keys(3);
        let options = options().retention(self.retention).checkpoint(small);
        let log = options.log.clone().tending(keepstone_mvcc_temporal::Tending::Caller);
        self.database = Some(self.store.open_with(options.log(log)).unwrap());
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    fn branch(&self, number: u8) -> Branch {
        self.database().branch(&name(number)).unwrap()
    }

    /// Notes that every version since the last known one has the content of now.
    fn note(&mut self) {
        let newest = self.database().visible_version();
        let known = self.versions.keys().next_back().unwrap().to_raw();
        for raw in known + 1..=newest.to_raw() {
            self.versions.insert(Version::from_raw(raw), self.now.clone());
        }
    }

    fn back(&self, back: u64) -> Version {
        Version::from_raw(self.database().visible_version().to_raw().saturating_sub(back))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Main(changes) => {
                let mut txn = self.database().begin().unwrap();
                apply(&mut txn, changes);
                txn.commit().unwrap();
                apply_to_model(&mut self.now, changes);
            }
            Step::Fork(number, back) => self.fork(*number, self.back(*back)),
            Step::OnBranch(number, changes) | Step::Dropped(number, changes) => {
                let Some(mut model) = self.branches.get(number).cloned() else { return };
                let mut txn = self.branch(*number).begin().unwrap();
                apply(&mut txn, changes);
                apply_to_model(&mut model.now, changes);
                assert_eq!(content_of(&txn), model.now, "a transaction on a branch reads its own writes");
                if matches!(step, Step::Dropped(..)) {
                    return;
                }
                txn.commit().unwrap();
                model.touched.extend(changes.iter().map(|change| match change {
                    Change::Put(table, key, _) | Change::Delete(table, key) => (*table, *key),
                }));
                self.branches.insert(*number, model);
            }
            Step::Merge(number, strategy) => self.merge(*number, *strategy),
            Step::Discard(number) => {
                let Some(_gone) = self.branches.remove(number) else { return };
                let branch = self.branch(*number);
                branch.discard().unwrap();
                let gone = branch.get("table 0", [0]).unwrap_err();
                assert!(matches!(gone, ReadError::BranchNotFound { .. }), "{gone}");
            }
            Step::RollbackTo(back) => {
                let version = self.back(*back);
                match self.database().rollback_to(version) {
                    Ok(_) => self.now = self.versions[&version].clone(),
                    Err(error) => assert_eq!(error.kind().as_str(), "history-gone"),
                }
            }
            Step::Checkpoint => self.database().checkpoint().unwrap(),
            Step::Compact => drop(self.database().compact().unwrap()),
            Step::Reopen => {
                self.database.take().unwrap().close().unwrap();
                self.open();
            }
            Step::Kill => {
                self.store = self.store.killed();
                self.open();
            }
        }
        self.note();
        self.check_branches();
    }

    fn fork(&mut self, number: u8, base: Version) {
        match self.database().fork(&name(number), base) {
            Ok(branch) => {
                assert_eq!(branch.base(), base);
                let below = self.versions[&base].clone();
                let model = Model { base, now: below.clone(), below, touched: BTreeSet::new() };
                assert!(self.branches.insert(number, model).is_none());
            }
            Err(error) => match error.kind().as_str() {
                "branch-exists" => assert!(self.branches.contains_key(&number)),
                kind => assert_eq!(kind, "history-gone"),
            },
        }
    }

    fn merge(&mut self, number: u8, strategy: Strategy_) {
        let Some(model) = self.branches.get(&number) else { return };
        let at = |content: &Content, place: &(u8, u8)| content.get(place).copied();
        let mut expected = Ok(self.now.clone());
        let mut conflicts = Vec::new();
        for place in &model.touched {
            let (base, main, branch) = (at(&model.below, place), at(&self.now, place), at(&model.now, place));
            match (merged(base, main, branch, strategy), &mut expected) {
                (Err(()), expected) => {
                    *expected = Err(());
                    conflicts.push((*place, base, main, branch));
                }
                (Ok(Some(value)), Ok(content)) => drop(content.insert(*place, value)),
                (Ok(None), Ok(content)) => drop(content.remove(place)),
                (Ok(_), Err(())) => {}
            }
        }
        let value = |value: &Option<ValueRef>| value.as_deref().map(two);
        let mut closure =
            |row: &MergeConflict| match custom(value(&row.base), value(&row.main), value(&row.branch)) {
                Ok(Some(value)) => Resolution::Put(ValueRef::copy_from(&value)),
                Ok(None) => Resolution::Delete,
                Err(()) => Resolution::Conflict,
            };
        let before = self.database().visible_version();
        let found = self.branch(number).merge(match strategy {
            Strategy_::Reject => MergeStrategy::Reject,
            Strategy_::Last => MergeStrategy::LastWins,
            Strategy_::First => MergeStrategy::FirstWins,
            Strategy_::Xor => MergeStrategy::ThreeWayXor,
            Strategy_::Custom => MergeStrategy::Custom(&mut closure),
        });
        match (found, expected) {
            (Ok(report), Ok(content)) => {
                assert_eq!(report.version.is_some(), content != self.now);
                self.now = content;
            }
            (Err(MergeError::Conflicts(found)), Err(())) => {
                let place = |row: &MergeConflict| (row.table.as_bytes()[6] - b'0', row.key[0]);
                let mut listed: Vec<_> = found
                    .listed
                    .iter()
                    .map(|row| (place(row), value(&row.base), value(&row.main), value(&row.branch)))
                    .collect();
                // Tables stand in the order of their numbers, which is that of their making.
                listed.sort_unstable();
                assert_eq!(listed, conflicts);
                assert_eq!(found.count, conflicts.len() as u64);
                assert_eq!(self.database().visible_version(), before, "nothing was changed");
            }
            (found, expected) => panic!("{strategy:?}: {found:?}, expected {expected:?}"),
        }
    }

    fn check_branches(&self) {
        let listed: Vec<_> = self.database().branches().unwrap();
        let listed: Vec<_> = listed.iter().map(|branch| (branch.name.clone(), branch.base)).collect();
        let expected: Vec<_> =
            self.branches.iter().map(|(number, model)| (name(*number), model.base)).collect();
        assert_eq!(listed, expected);
        for (number, model) in &self.branches {
            assert_eq!(content_of(&self.branch(*number)), model.now, "branch {number}");
        }
        assert_eq!(content_of(self.database()), self.now);
    }

    fn check(&self) {
        self.check_branches();
        let database = self.database();
        for (version, content) in &self.versions {
            match database.snapshot_at(*version) {
                Ok(snapshot) => assert_eq!(&content_of(&snapshot), content, "version {version}"),
                Err(error) => {
                    assert!(self.retention == Retention::None, "version {version}: {error}");
                    assert!(
                        !self.branches.values().any(|model| model.base == *version),
                        "{version}: {error}"
                    );
                }
            }
        }
        for (number, model) in &self.branches {
            let branch = self.branch(*number);
            assert_eq!(content_of(&branch.snapshot().unwrap()), model.now);
            let mut found = model.below.clone();
            for change in branch.diff().unwrap().map(Result::unwrap) {
                let place = (change.table.as_bytes()[6] - b'0', change.key[0]);
                let value = |value: &Option<ValueRef>| value.as_deref().map(two);
                assert_eq!(value(&change.base), model.below.get(&place).copied());
                assert_eq!(value(&change.main), self.now.get(&place).copied());
                assert_ne!(value(&change.base), value(&change.branch));
                match value(&change.branch) {
                    Some(value) => drop(found.insert(place, value)),
                    None => drop(found.remove(&place)),
                }
            }
            assert_eq!(found, model.now, "the diff of branch {number}");
        }
        let report = database.check().unwrap();
        assert!(report.is_sound(), "{:#?}", report.findings);
        assert_eq!(report.branches, self.branches.len() as u64);
    }

    /// Nothing is left of branches once all are discarded.
    fn leave(&mut self) {
        for number in self.branches.keys().copied().collect::<Vec<_>>() {
            self.step(&Step::Discard(number));
        }
        let options = TxnOptions::default().isolation(Isolation::Snapshot);
        let mut txn = self.database().begin_with(options).unwrap();
        txn.put("table 0", [0], [0, 0].as_slice()).unwrap();
        txn.commit().unwrap();
        self.now.insert((0, 0), [0, 0]);
        self.step(&Step::Compact);
        let stats = self.database().stats();
        let tables = self.database().tables(self.database()).unwrap().len();
        let rows = u64::try_from(self.now.len() + tables).unwrap();
        // A table that only branches wrote to keeps its number.
        assert!(
            (rows..=rows + 3).contains(&stats.folded_rows),
            "{} rows, expected {rows}",
            stats.folded_rows
        );
        if self.retention == Retention::None {
            assert_eq!(
                stats.history_rows,
                u64::from(stats.history_rows > 0),
                "what the last commit displaced"
            );
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_programs_with_branches_equal_the_model(
        steps in prop::collection::vec(any_step(), 1..50),
        prunes in any::<bool>(),
    ) {
        let mut world = World::new(if prunes { Retention::None } else { Retention::Forever });
        for step in &steps {
            world.step(step);
        }
        world.check();
        world.step(&Step::Reopen);
        world.check();
        world.leave();
    }
}
