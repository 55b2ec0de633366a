//! Merging edits, against a map in memory.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_btree::{Decision, Edit, Fill, NewValue, Prefix, Stored, Tree, TreeError, TreeRoot, merge};
use keepstone_pager::{MemoryPages, PageKind, PageRead, PageWrite};
use keepstone_types::{Generation, ValueRef};
use proptest::prelude::*;

use crate::support::{
    ALL_PAYLOADS, Model, Random, apply, build, check_live, delete, leaf_alone, pages_of, put, rows_of,
};

/// A key from a short description: few enough that they meet, of every shape.
fn key_of(shape: u8, number: u16, len_max: usize) -> Vec<u8> {
    let mut key = match shape % 6 {
        0 => vec![0; usize::from(number % 7)],
        1 => number.to_be_bytes().to_vec(),
        2 => [b"shared prefix of some length/".as_slice(), &number.to_be_bytes()].concat(),
        3 => [vec![b'x'; len_max - 2], number.to_be_bytes().to_vec()].concat(),
        4 => Random(number.into()).bytes(usize::from(number % 40)),
        _ => [&number.to_be_bytes()[..], &[0; 6][..usize::from(number % 6)]].concat(),
    };
    key.truncate(len_max);
    key
}

/// What is done with one key.
#[derive(Clone, Debug)]
enum Action {
    Put(usize),
    PutPrefixed(u8, usize),
    Delete,
    Skip,
    /// The value that stands there moves to the other tree.
    Keep(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let len = prop_oneof![
        6 => 0..40_usize,
        3 => 40..1_000_usize,
        1 => 1_000..20_000_usize,
    ];
    let len = len.boxed();
    prop_oneof![
        5 => len.clone().prop_map(Action::Put),
        1 => (0..=16_u8, len.clone()).prop_map(|(prefix, len)| Action::PutPrefixed(prefix, len)),
        3 => Just(Action::Delete),
        1 => Just(Action::Skip),
        2 => len.prop_map(Action::Keep),
    ]
}

type Step = Vec<(u8, u16, Action)>;

fn program() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let number = prop_oneof![0..30_u16, 0..3_000_u16];
    let step = prop_oneof![
        3 => prop::collection::vec((0..6_u8, number.clone(), action()), 0..20),
        1 => prop::collection::vec((0..6_u8, number, action()), 100..500),
    ];
    prop::collection::vec((step, any::<bool>()), 1..12)
}

/// Two trees, and what they should hold.
struct World {
    pages: MemoryPages,
    root: TreeRoot,
    model: Model,
    kept_root: TreeRoot,
    kept: Model,
    /// Root and rows at the end of the generation before.
    last: (TreeRoot, Model),
    seed: u64,
}

impl World {
    fn new(payload_len: usize) -> Self {
        Self {
            pages: MemoryPages::new(payload_len),
            root: TreeRoot::EMPTY,
            model: Model::new(),
            kept_root: TreeRoot::EMPTY,
            kept: Model::new(),
            last: (TreeRoot::EMPTY, Model::new()),
            seed: 0,
        }
    }

    fn value(&mut self, len: usize) -> Vec<u8> {
        self.seed += 1;
        Random(self.seed).bytes(len)
    }

    fn step(&mut self, step: &Step) {
        let len_max = keepstone_btree::key_len_max(self.pages.payload_len());
        let actions: BTreeMap<Vec<u8>, &Action> =
            step.iter().map(|(shape, number, action)| (key_of(*shape, *number, len_max), action)).collect();
        let edits: Vec<Edit> = actions.iter().map(|(key, action)| self.edit(key, action)).collect();
        let mut moved = Vec::new();
        let (before, mut asked) = (self.model.clone(), Vec::new());
        let root = merge(&mut self.pages, self.root, &edits, Fill::FULL, &mut |edit, old| {
            asked.push(edit.key.clone());
            assert_eq!(old.map(Stored::len), before.get(&edit.key[..]).map(|value| value.len() as u64));
            match (actions[&edit.key[..]], old) {
                (Action::Skip, _) => Decision::Skip,
                (Action::Keep(_), Some(old)) => {
                    moved.push((edit.key.clone(), old.clone()));
                    Decision::ReplaceKeepingOld
                }
                _ => Decision::Replace,
            }
        });
        self.root = root.unwrap();
        assert_eq!(asked, edits.iter().map(|edit| edit.key.clone()).collect::<Vec<_>>());
        self.keep(&before, moved);
        for (edit, action) in edits.iter().zip(actions.values()) {
            match (&edit.value, action) {
                (_, Action::Skip) => {}
                (NewValue::Bytes { prefix, body }, _) => {
                    self.model.insert(edit.key.to_vec(), [prefix.as_bytes(), body].concat());
                }
                _ => drop(self.model.remove(&edit.key[..])),
            }
        }
    }

    fn edit(&mut self, key: &[u8], action: &Action) -> Edit {
        let value = match action {
            Action::Delete => NewValue::Delete,
            Action::Skip => NewValue::bytes(ValueRef::from(vec![7; 9])),
            Action::Put(len) | Action::Keep(len) => NewValue::bytes(ValueRef::from(self.value(*len))),
            Action::PutPrefixed(prefix, len) => {
                let prefix = self.value((*prefix).into());
                NewValue::Bytes {
                    prefix: Prefix::new(&prefix).unwrap(),
                    body: ValueRef::from(self.value(*len)),
                }
            }
        };
        Edit { key: ValueRef::copy_from(key), value }
    }

    /// Stores what was kept in the other tree; what stood there goes.
    fn keep(&mut self, before: &Model, moved: Vec<(ValueRef, Stored)>) {
        for (key, _) in &moved {
            self.kept.insert(key.to_vec(), before[&key[..]].clone());
        }
        let edits: Vec<Edit> =
            moved.into_iter().map(|(key, old)| Edit { key, value: NewValue::Stored(old) }).collect();
        self.kept_root = apply(&mut self.pages, self.kept_root, &edits);
    }

    fn check(&self) {
        assert_eq!(rows_of(&self.pages, self.root), self.model);
        assert_eq!(rows_of(&self.pages, self.kept_root), self.kept);
        assert_eq!(self.root.rows(), self.model.len() as u64);
        check_live(&self.pages, &[self.root, self.kept_root]);
        assert_eq!(rows_of(&self.pages, self.last.0), self.last.1, "the generation before can still be read");
        let tree = Tree::new(&self.pages, self.root);
        for (key, value) in self.model.iter().step_by(7) {
            let stored = tree.get(key).unwrap().unwrap();
            assert_eq!(stored.load(&self.pages).unwrap(), value[..]);
            let other = [&key[..], &[1]].concat();
            assert_eq!(tree.get(&other).unwrap().is_some(), self.model.contains_key(&other));
        }
        self.check_since();
    }

    /// A cursor since a generation shows the rows of the leaves that were born after it.
    fn check_since(&self) {
        let leaves: Vec<_> = pages_of(&self.pages, self.root)
            .0
            .into_iter()
            .filter(|(_, kind)| *kind == PageKind::new(16))
            .collect();
        let now = self.pages.generation().get();
        for since in [now, now - 1, now.saturating_sub(3), 0] {
            let since = Generation::new(since).unwrap();
            let mut expected = Vec::new();
            for (leaf, _) in leaves.iter().filter(|(leaf, _)| leaf.birth > since) {
                expected.extend(rows_of(&self.pages, leaf_alone(*leaf)).into_keys());
            }
            let mut cursor = Tree::new(&self.pages, self.root).cursor_since(since);
            let mut found = Vec::new();
            cursor.seek_first().unwrap();
            while let Some(key) = cursor.key() {
                found.push(key.to_vec());
                cursor.next().unwrap();
            }
            assert_eq!(found, expected);
            let mut back = Vec::new();
            cursor.previous().unwrap();
            while let Some(key) = cursor.key() {
                back.insert(0, key.to_vec());
                cursor.previous().unwrap();
            }
            assert_eq!(back, expected);
            if let Some(key) = expected.get(expected.len() / 2) {
                cursor.seek(&key[..key.len() / 2]).unwrap();
                let at_least = expected.iter().find(|found| found[..] >= key[..key.len() / 2]);
                assert_eq!(cursor.key(), at_least.map(|key| &key[..]));
                cursor.seek_before(key).unwrap();
                let before = expected.iter().rev().find(|found| *found < key);
                assert_eq!(cursor.key(), before.map(|key| &key[..]));
            }
        }
    }

    fn next_generation(&mut self) {
        self.pages.next_generation();
        self.last = (self.root, self.model.clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn programs_of_merges_hold_against_a_map(program in program(), payload in prop::sample::select(&ALL_PAYLOADS[..])) {
        let mut world = World::new(payload);
        for (step, ends) in &program {
            world.step(step);
            world.check();
            if *ends {
                world.next_generation();
                world.check();
            }
        }
    }
}

#[test]
fn a_tree_grows_and_shrinks_to_nothing() {
    for payload in ALL_PAYLOADS {
        let mut world = World::new(payload);
        let numbers = |from: u16, to: u16| (from..to).map(|number| (1, number));
        let put: Step = numbers(0, 6_000).map(|(shape, number)| (shape, number, Action::Put(30))).collect();
        world.step(&put);
        world.next_generation();
        let height = world.root.height();
        assert!(height >= 2);
        for from in (0..6_000).step_by(500) {
            let gone: Step =
                numbers(from, from + 500).map(|(shape, number)| (shape, number, Action::Delete)).collect();
            world.step(&gone);
            world.next_generation();
            world.check();
            assert!(world.root.height() <= height);
        }
        assert_eq!(world.root, TreeRoot::EMPTY);
        assert_eq!(world.pages.live().count(), 0);
    }
}

#[test]
fn thinning_a_tree_out_leaves_no_page_nearly_empty() {
    for payload in ALL_PAYLOADS {
        let mut pages = MemoryPages::new(payload);
        let rows: Model =
            (0..20_000_u32).map(|number| (number.to_be_bytes().to_vec(), vec![1; 20])).collect();
        let root = build(&mut pages, &rows);
        let gone: Vec<Edit> = (0..20_000_u32)
            .filter(|number| number % 16 != 3)
            .map(|number| delete(&number.to_be_bytes()))
            .collect();
        let root = apply(&mut pages, root, &gone);
        check_live(&pages, &[root]);
        let shape = pages_of(&pages, root).1;
        assert_eq!(shape.rows, 1_250);
        assert!(shape.leaf_fill_permille() > 250, "{payload}: {shape:?}");
    }
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut pages = MemoryPages::new(4_056);
    let rows: Model =
        (0..5_000_u32).map(|number| ((number * 2).to_be_bytes().to_vec(), vec![1; 50])).collect();
    let root = build(&mut pages, &rows);
    pages.next_generation();
    let nothing: Vec<Edit> = (0..500_u32).map(|number| delete(&(number * 20 + 1).to_be_bytes())).collect();
    assert_eq!(apply(&mut pages, root, &nothing), root);
    assert_eq!(apply(&mut pages, root, &[]), root);
    let skipped: Vec<Edit> = (0..500_u32).map(|number| put(&(number * 4).to_be_bytes(), b"new")).collect();
    let same = merge(&mut pages, root, &skipped, Fill::FULL, &mut |_, old| {
        assert_eq!(old.unwrap().len(), 50);
        Decision::Skip
    });
    assert_eq!(same.unwrap(), root);
    let one = apply(&mut pages, root, &[put(&0_u32.to_be_bytes(), b"new")]);
    let young = pages_of(&pages, one).0.iter().filter(|(at, _)| at.birth == pages.generation()).count();
    assert_eq!(young, usize::from(one.height()), "one page on each level");
}

#[test]
fn edits_that_cannot_be_made_are_refused_before_anything_is_written() {
    let mut pages = MemoryPages::new(4_056);
    let root = build(&mut pages, &Model::from([(b"a".to_vec(), vec![1; 10_000])]));
    let live = pages.live().count();
    let mut refused = |edits: &[Edit]| {
        let error = merge(&mut pages, root, edits, Fill::FULL, &mut |_, _| Decision::Replace).unwrap_err();
        assert!(!error.is_damage());
        error
    };
    assert!(matches!(refused(&[put(b"b", b""), put(b"b", b"")]), TreeError::Order { .. }));
    assert!(matches!(refused(&[put(b"b", b""), put(b"a", b"")]), TreeError::Order { .. }));
    let long = vec![0; 812];
    assert!(matches!(
        refused(&[put(b"a", b""), put(&long, b"")]),
        TreeError::KeyTooLong { len: 812, max: 811 }
    ));
    assert_eq!(pages.live().count(), live);
    check_live(&pages, &[root]);
}

#[test]
fn a_value_stored_where_it_is_keeps_its_pages() {
    let mut pages = MemoryPages::new(4_056);
    let root = build(&mut pages, &Model::from([(b"a".to_vec(), vec![1; 50_000])]));
    let stored = Tree::new(&pages, root).get(b"a").unwrap().unwrap();
    let edit = Edit { key: ValueRef::copy_from(b"a"), value: NewValue::Stored(stored) };
    let root = apply(&mut pages, root, &[edit]);
    check_live(&pages, &[root]);
    assert_eq!(rows_of(&pages, root)[&b"a"[..]], vec![1; 50_000]);
}

/// Leaf and inner fill in tenths of a percent, and leaves.
fn fill_after(payload: usize, keys: &[u64], batch: usize, fill: Fill) -> (u64, u64, u64) {
    let mut pages = MemoryPages::new(payload);
    let mut root = TreeRoot::EMPTY;
    for batch in keys.chunks(batch) {
        let mut batch = batch.to_vec();
        batch.sort_unstable();
        let edits: Vec<Edit> = batch.iter().map(|key| put(&key.to_be_bytes(), &[7; 24])).collect();
        root = merge(&mut pages, root, &edits, fill, &mut |_, _| Decision::Replace).unwrap();
        pages.next_generation();
    }
    let shape = pages_of(&pages, root).1;
    assert_eq!(shape.rows, keys.len() as u64);
    (shape.leaf_fill_permille(), shape.inner_fill_permille(), shape.leaf_pages)
}

#[test]
fn pages_are_as_full_as_the_load_allows() {
    let ascending: Vec<u64> = (0..40_000).collect();
    let descending: Vec<u64> = (0..40_000).rev().collect();
    let mut random = Random(1);
    let scattered: Vec<u64> = (0..40_000).map(|_| random.next()).collect();
    for payload in crate::support::PAYLOADS {
        for (load, keys, batch, least) in [
            ("ascending by 1", &ascending, 1, 980),
            ("ascending by 100", &ascending, 100, 980),
            ("ascending at once", &ascending, 40_000, 980),
            ("descending by 1", &descending, 1, 490),
            ("descending by 100", &descending, 100, 490),
            ("random by 1", &scattered, 1, 550),
            ("random by 100", &scattered, 100, 550),
            ("random by 10000", &scattered, 10_000, 550),
        ] {
            let (leaf, inner, leaves) = fill_after(payload, keys, batch, Fill::FULL);
            println!("{payload}, {load}: leaves {leaf} ‰ full, inner pages {inner} ‰, {leaves} leaves");
            assert!(leaf >= least, "{payload}, {load}: leaves are {leaf} ‰ full, expected at least {least}");
        }
        let (leaf, ..) = fill_after(payload, &ascending, 100, Fill::percent(70).unwrap());
        assert!((670..=705).contains(&leaf), "filled to {leaf} ‰ of 700");
    }
}

#[test]
fn leaves_that_all_change_are_filled_anew_and_updates_make_no_more_of_them() {
    let mut random = Random(2);
    let scattered: Vec<u64> = (0..40_000).map(|_| random.next()).collect();
    for payload in crate::support::PAYLOADS {
        let (leaf, ..) = fill_after(payload, &scattered, 10_000, Fill::FULL);
        assert!(leaf >= 840, "{payload}: leaves are {leaf} ‰ full");
        let model: Model = scattered.iter().map(|key| (key.to_be_bytes().to_vec(), vec![7; 24])).collect();
        let mut pages = MemoryPages::new(payload);
        let mut root = build(&mut pages, &model);
        let leaves = pages_of(&pages, root).1.leaf_pages;
        for value in 0..3 {
            pages.next_generation();
            let edits: Vec<Edit> = model.keys().map(|key| put(key, &[value; 24])).collect();
            root = apply(&mut pages, root, &edits);
            assert_eq!(pages_of(&pages, root).1.leaf_pages, leaves, "{payload}");
        }
    }
}

/// What is gathered of a page whose keys have much in common is much more than a page.
#[test]
fn a_page_in_which_nothing_changes_stays_however_much_it_says() {
    let mut pages = MemoryPages::new(4_056);
    let key = |number: u32| [&[7; 700][..], &number.to_be_bytes()].concat();
    let model: Model = (0..2_000).map(|number| (key(2 * number), vec![1])).collect();
    let root = build(&mut pages, &model);
    pages.next_generation();
    let absent: Vec<Edit> = (0..2_000).map(|number| delete(&key(2 * number + 1))).collect();
    assert_eq!(apply(&mut pages, root, &absent), root);
    let mut edits = absent;
    edits.insert(1_000, put(&key(2_000), b"new"));
    let changed = apply(&mut pages, root, &edits);
    let mut model = model;
    model.insert(key(2_000), b"new".to_vec());
    assert_eq!(rows_of(&pages, changed), model);
    let old: BTreeSet<_> = pages_of(&pages, root).0.into_iter().map(|(at, _)| at.page).collect();
    let new = pages_of(&pages, changed).0.into_iter().filter(|(at, _)| !old.contains(&at.page)).count();
    assert_eq!(new, usize::from(changed.height()), "only the way to what changed");
}
