//! Branches: the same reads and writes as on the store, and merges after which every node and link is whole.

use std::collections::BTreeMap;

use keepstone::{
    ChangeKind, Choice, Collection, CommitError, ConflictKind, Direction, Fingerprint, MergeConflict,
    MergeError, MergeReport, MergeStrategy, NodePatch, Read, ReadError, Retention, Store, StoreOptions, Txn,
    Version, WriteError,
};
use proptest::prelude::*;

use crate::{Disk, assert_sound, store};

fn kind(result: Result<MergeReport, MergeError>) -> Result<u64, &'static str> {
    result.map(|report| report.rows).map_err(|error| error.kind().as_str())
}

/// What is in conflict, as `kind key detail`.
fn listed(result: Result<MergeReport, MergeError>) -> Vec<String> {
    let Err(MergeError::Conflicts(found)) = result else { panic!("{result:?}") };
    assert_eq!(found.count, found.listed.len() as u64);
    found.listed.iter().map(shown).collect()
}

fn shown(conflict: &MergeConflict) -> String {
    format!("{} {} {}", conflict.kind.as_str(), conflict.key, conflict.detail).trim_end().to_owned()
}

#[test]
fn a_branch_is_read_and_written_as_the_store_is() {
    let store = store();
    let notes = store.collection::<String>("notes").unwrap();
    let text = |text: &str| text.to_owned();
    store
        .write(|txn| {
            notes.put(txn, "a", &text("base"))?;
            notes.put(txn, "b", &text("base"))?;
            notes.link(txn, "a", "to", "b", 1.0)
        })
        .unwrap();
    let branch = store.fork("try", store.visible_version()).unwrap();
    assert_eq!((branch.name(), branch.base()), ("try", store.visible_version().before().unwrap()));
    let value = branch.write(|txn| {
        notes.put(txn, "a", &text("branch"))?;
        notes.put(txn, "new", &text("branch"))?;
        notes.link(txn, "new", "to", "a", 2.0)?;
        notes.unlink(txn, "a", "to", "b")?;
        notes.delete(txn, "b")
    });
    assert!(value.unwrap().value);
    let keys = |reader: &dyn Fn() -> keepstone::Keys| reader().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(keys(&|| notes.keys(&branch)), ["a", "new"]);
    assert_eq!(keys(&|| notes.keys(&store)), ["a", "b"]);
    assert_eq!(notes.get(&branch, "a").unwrap().as_deref(), Some("branch"));
    assert_eq!(notes.get(&store, "a").unwrap().as_deref(), Some("base"));
    assert_eq!(notes.links(&branch, "a", Direction::Out).count(), 0);
    assert_eq!(notes.links(&branch, "a", Direction::In).count(), 1);
    assert_eq!(notes.links(&store, "a", Direction::Out).count(), 1);
    // The same through a snapshot and a transaction of it.
    let then = branch.snapshot().unwrap();
    let txn = branch.begin().unwrap();
    branch.write(|txn| notes.put(txn, "a", &text("later"))).unwrap();
    for found in [notes.get(&then, "a").unwrap(), notes.get(&txn, "a").unwrap()] {
        assert_eq!(found.as_deref(), Some("branch"));
    }
    assert_eq!(
        notes.get(&branch.at(then.version().unwrap()).unwrap(), "a").unwrap().as_deref(),
        Some("branch")
    );
    let changes: Vec<_> =
        branch.diff().unwrap().into_iter().map(|change| (change.key, change.kind)).collect();
    let expected = [("a", ChangeKind::Updated), ("b", ChangeKind::Deleted), ("new", ChangeKind::Created)];
    assert_eq!(changes, expected.map(|(key, kind)| (key.to_owned(), kind)));
    assert_sound(&store);
    assert_eq!(store.collections(&branch).unwrap().len(), 1);
}

#[test]
fn branches_are_listed_and_their_errors_are_told_apart() {
    let disk = Disk::new();
    let store = disk.open();
    let notes = store.collection::<u32>("notes").unwrap();
    let first = store.write(|txn| notes.put(txn, "a", &1)).unwrap().version.unwrap();
    store.tag("named", first).unwrap();
    store.fork("b", "named").unwrap();
    assert!(matches!(store.fork("b", first).unwrap_err(), CommitError::BranchExists { .. }));
    assert!(matches!(store.fork("", first).unwrap_err(), CommitError::BranchName { .. }));
    let future = store.fork("c", Version::MAX).unwrap_err();
    assert_eq!(future.kind().as_str(), "version-in-future");
    assert_eq!(store.fork("c", "nobody").unwrap_err().kind().as_str(), "unknown-name");
    assert!(matches!(store.branch("c").unwrap_err(), ReadError::BranchNotFound { .. }));
    store.close().unwrap();
    let store = disk.open();
    let branches = store.branches().unwrap();
    assert_eq!(
        branches.iter().map(|branch| (&*branch.name, branch.base)).collect::<Vec<_>>(),
        [("b", first)]
    );
    let branch = store.branch("b").unwrap();
    assert_eq!(branch.info(), branches[0]);
    let notes = store.collection::<u32>("notes").unwrap();
    branch.discard().unwrap();
    assert!(matches!(notes.get(&branch, "a").unwrap_err(), ReadError::BranchNotFound { .. }));
    assert!(matches!(branch.begin().unwrap_err(), ReadError::BranchNotFound { .. }));
    let written = branch.write(|txn| notes.put(txn, "a", &2)).unwrap_err();
    assert!(matches!(written, WriteError::Change(_)) && written.kind().as_str() == "branch-not-found");
    assert_eq!(branch.discard().unwrap_err().kind().as_str(), "branch-not-found");
    assert_eq!(kind(branch.merge(MergeStrategy::Reject)), Err("branch-not-found"));
    assert_eq!(store.branches().unwrap(), []);
}

#[test]
fn what_a_branch_was_forked_at_is_kept() {
    let disk = Disk::new();
    let store = disk.open_as(&StoreOptions::default().retention(Retention::None)).unwrap();
    let notes = store.collection::<u32>("notes").unwrap();
    let first = store.write(|txn| notes.put(txn, "a", &1)).unwrap().version.unwrap();
    let branch = store.fork("b", first).unwrap();
    for number in 2..6 {
        store.write(|txn| notes.put(txn, "a", &number)).unwrap();
    }
    store.compact().unwrap();
    assert_eq!(notes.get(&branch, "a").unwrap(), Some(1));
    assert_eq!(notes.get(&store.at(first).unwrap(), "a").unwrap(), Some(1));
    branch.discard().unwrap();
    store.compact().unwrap();
    assert!(matches!(store.at(first).unwrap_err(), ReadError::HistoryGone { .. }));
}

/// A store with three linked nodes, and a branch of it.
fn three() -> (Store, Collection<u32>, keepstone::Branch) {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    store
        .write(|txn| {
            for (key, number) in [("a", 1), ("b", 2), ("c", 3)] {
                nodes.put(txn, key, &number)?;
            }
            nodes.link(txn, "a", "to", "b", 1.0)
        })
        .unwrap();
    let branch = store.fork("try", store.visible_version()).unwrap();
    (store, nodes, branch)
}

#[test]
fn what_both_sides_changed_is_listed_and_decided() {
    let (store, nodes, branch) = three();
    let change = |txn: &mut Txn, number: u32, weight: f64, label: &str| {
        nodes.put(txn, "a", &number)?;
        nodes.link(txn, "a", "to", "b", weight)?;
        nodes.put_node(txn, "b", &NodePatch::new().label(label))?;
        Ok(())
    };
    branch.write(|txn| change(txn, 10, 2.0, "branch")).unwrap();
    branch.write(|txn| nodes.put(txn, "of branch", &7)).unwrap();
    store.write(|txn| change(txn, 20, 3.0, "main")).unwrap();
    store.write(|txn| nodes.put(txn, "of main", &8)).unwrap();
    let expected = ["node a", "link a \"to\" \"b\"", "node b"];
    assert_eq!(branch.conflicts().unwrap().iter().map(shown).collect::<Vec<_>>(), expected);
    let before = store.visible_version();
    assert_eq!(listed(branch.merge(MergeStrategy::Reject)), expected);
    assert_eq!(listed(branch.merge(MergeStrategy::ThreeWayXor)), expected, "bodies have no bits to merge");
    assert_eq!(store.visible_version(), before);
    let error = branch.merge(MergeStrategy::Reject).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the branch cannot be merged: 3 in conflict, the first is the node of \"a\" in collection \"nodes\"; change \
         the branch, or choose a strategy that decides"
    );
    let mut seen = Vec::new();
    let mut choose = |conflict: &MergeConflict| {
        assert_eq!((&*conflict.collection, conflict.there), ("nodes", [true; 3]));
        seen.push(shown(conflict));
        match conflict.kind {
            ConflictKind::Link => Choice::Main,
            _ if conflict.key == "a" => Choice::Branch,
            _ => Choice::Conflict,
        }
    };
    assert_eq!(listed(branch.merge(MergeStrategy::Custom(&mut choose))), ["node b"]);
    assert!(seen.iter().any(|seen| seen == "link a \"to\" \"b\""), "{seen:?}");
    let mut choose = |conflict: &MergeConflict| match conflict.kind {
        ConflictKind::Link => Choice::Main,
        _ => Choice::Branch,
    };
    let report = branch.merge(MergeStrategy::Custom(&mut choose)).unwrap();
    assert_eq!(report.version, Some(store.visible_version()));
    let value = |key: &str| nodes.get(&store, key).unwrap();
    assert_eq!((value("a"), value("of branch"), value("of main")), (Some(10), Some(7), Some(8)));
    let link = |direction, key: &str| nodes.links(&store, key, direction).next().unwrap().unwrap().weight;
    assert_eq!((link(Direction::Out, "a"), link(Direction::In, "b")), (3.0, 3.0));
    assert_eq!(nodes.node(&store, "b").unwrap().unwrap().label.as_deref(), Some("branch"));
    assert_sound(&store);
}

#[test]
fn bits_of_fingerprints_are_merged() {
    let (store, nodes, branch) = three();
    let put = |txn: &mut Txn, byte: u8| {
        let mut bytes = [0_u8; 16];
        bytes[0] = byte;
        nodes.put_node(txn, "a", &NodePatch::new().fingerprint(Fingerprint::from_bytes(bytes).unwrap()))
    };
    branch.discard().unwrap();
    store.write(|txn| put(txn, 0b1111)).unwrap();
    for (name, own, main, expected) in
        [("apart", 0b1110, 0b0111, Some(0b0110)), ("overlap", 0b1100, 0b1010, None)]
    {
        store.write(|txn| put(txn, 0b1111)).unwrap();
        let branch = store.fork(name, store.visible_version()).unwrap();
        branch.write(|txn| put(txn, own)).unwrap();
        store.write(|txn| put(txn, main)).unwrap();
        match expected {
            Some(expected) => {
                assert_eq!(kind(branch.merge(MergeStrategy::Reject)), Err("merge-conflicts"));
                branch.merge(MergeStrategy::ThreeWayXor).unwrap();
                let found = nodes.fingerprint(&store, "a").unwrap().unwrap();
                assert_eq!(found.as_bytes()[0], expected);
            }
            None => assert_eq!(listed(branch.merge(MergeStrategy::ThreeWayXor)), ["fingerprint a"]),
        }
        assert_sound(&store);
    }
}

#[test]
fn changes_that_are_whole_and_do_not_fit_together_are_conflicts_under_every_strategy() {
    type Side = fn(&mut Txn, &Collection<u32>) -> Result<(), keepstone::ChangeError>;
    let deletes_c: Side = |txn, nodes| nodes.delete(txn, "c").map(drop);
    let links_to_c: Side = |txn, nodes| nodes.link(txn, "a", "knows", "c", 1.0).map(drop);
    let links_from_c: Side = |txn, nodes| nodes.link(txn, "c", "knows", "a", 1.0).map(drop);
    let makes_d: Side = |txn, nodes| nodes.put(txn, "d", &4).map(drop);
    let reserves_d: Side = |txn, nodes| nodes.link(txn, "a", "knows", "d", 1.0).map(drop);
    let narrow: Side = |txn, nodes| {
        let patch = NodePatch::new().embedding([1.0, 2.0]);
        nodes.put_node(txn, "a", &patch).map(drop)
    };
    let wide: Side = |txn, nodes| {
        let patch = NodePatch::new().embedding([1.0, 2.0, 3.0]);
        nodes.put_node(txn, "b", &patch).map(drop)
    };
    for (what, on_branch, on_main) in [
        ("deleted, linked to", deletes_c, links_to_c),
        ("linked to, deleted", links_to_c, deletes_c),
        ("deleted, linked from", deletes_c, links_from_c),
        ("linked from, deleted", links_from_c, deletes_c),
        ("one key twice", makes_d, makes_d),
        ("one key reserved and made", reserves_d, makes_d),
        ("two widths", narrow, wide),
    ] {
        for strategy in [MergeStrategy::Reject, MergeStrategy::LastWins, MergeStrategy::FirstWins] {
            let (store, nodes, branch) = three();
            branch.write(|txn| on_branch(txn, &nodes)).unwrap();
            store.write(|txn| on_main(txn, &nodes)).unwrap();
            let before = store.visible_version();
            let text = format!("{what}, {strategy:?}");
            let found = branch.merge(strategy);
            assert_eq!(kind(found), Err("merge-conflicts"), "{text}");
            assert_eq!(store.visible_version(), before, "{text}");
            assert_sound(&store);
        }
    }
}

/// The key names the branch's new node, and the old one, which the store changed, would stay beside it.
#[test]
fn a_node_that_one_side_made_anew_and_the_other_changed_is_never_there_twice() {
    for (strategy, expected) in [(MergeStrategy::FirstWins, None), (MergeStrategy::LastWins, Some(30))] {
        let (store, nodes, branch) = three();
        branch
            .write(|txn| {
                nodes.delete(txn, "c")?;
                nodes.put(txn, "c", &30)
            })
            .unwrap();
        store.write(|txn| nodes.put(txn, "c", &300)).unwrap();
        let text = format!("{strategy:?}");
        let found = kind(branch.merge(strategy));
        assert_eq!(found.is_ok(), expected.is_some(), "{text}: {found:?}");
        assert_eq!(nodes.get(&store, "c").unwrap(), Some(expected.unwrap_or(300)), "{text}");
        assert_sound(&store);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8),
    Fingerprint(u8, u8),
    Embedding(u8, u8),
    Delete(u8),
    Link(u8, u8, u8, u8),
    Unlink(u8, u8, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0_u8..5;
    prop_oneof![
        4 => (key(), 0_u8..4).prop_map(|(key, value)| Op::Put(key, value)),
        1 => (key(), 0_u8..4).prop_map(|(key, value)| Op::Fingerprint(key, value)),
        1 => (key(), 0_u8..4).prop_map(|(key, value)| Op::Embedding(key, value)),
        2 => key().prop_map(Op::Delete),
        4 => (key(), 0_u8..2, key(), 0_u8..3).prop_map(|(from, verb, to, weight)| Op::Link(from, verb, to, weight)),
        2 => (key(), 0_u8..2, key()).prop_map(|(from, verb, to)| Op::Unlink(from, verb, to)),
    ]
}

fn apply(txn: &mut Txn, nodes: &Collection<u8>, ops: &[Op]) -> Result<(), keepstone::ChangeError> {
    let name = |key: &u8| format!("k{key}");
    for op in ops {
        let done = match op {
            Op::Put(key, value) => nodes.put(txn, &name(key), value).map(drop),
            Op::Fingerprint(key, value) => {
                let bits = Fingerprint::from_bytes([1 << value; 8]).unwrap();
                nodes.put_node(txn, &name(key), &NodePatch::new().fingerprint(bits)).map(drop)
            }
            Op::Embedding(key, value) => {
                nodes.put_node(txn, &name(key), &NodePatch::new().embedding([f32::from(*value)])).map(drop)
            }
            Op::Delete(key) => nodes.delete(txn, &name(key)).map(drop),
            Op::Link(from, verb, to, weight) => {
                let verb = format!("v{verb}");
                nodes.link(txn, &name(from), &verb, &name(to), f64::from(*weight)).map(drop)
            }
            Op::Unlink(from, verb, to) => {
                nodes.unlink(txn, &name(from), &format!("v{verb}"), &name(to)).map(drop)
            }
        };
        match done {
            // A link starts from a node that is there.
            Err(keepstone::ChangeError::NotFound { .. }) => {}
            done => done?,
        }
    }
    Ok(())
}

/// All that a reader sees, but for ids.
fn content(reader: &impl Read, nodes: &Collection<u8>) -> BTreeMap<String, String> {
    let mut content = BTreeMap::new();
    for node in nodes.iter(reader) {
        let node = node.unwrap();
        let mut links: Vec<_> = nodes
            .links(reader, &node.key, Direction::Out)
            .map(|link| link.map(|link| format!("{} {} {}", link.verb, link.key, link.weight)).unwrap())
            .collect();
        links.sort();
        let seen = format!("{:?} {:?} {:?} {links:?}", node.body, node.fingerprint, node.embedding);
        content.insert(node.key, seen);
    }
    content
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_merge_leaves_every_node_and_link_whole_or_changes_nothing(
        base in prop::collection::vec(op(), 0..15),
        on_branch in prop::collection::vec(op(), 0..8),
        on_main in prop::collection::vec(op(), 0..5),
        fold in any::<bool>(),
    ) {
        let store = store();
        let nodes = store.collection::<u8>("nodes").unwrap();
        store.write(|txn| apply(txn, &nodes, &base)).unwrap();
        if fold {
            store.checkpoint().unwrap();
        }
        let version = store.visible_version();
        for strategy in [
            MergeStrategy::Reject,
            MergeStrategy::ThreeWayXor,
            MergeStrategy::FirstWins,
            MergeStrategy::LastWins,
        ] {
            let text = format!("{strategy:?}");
            store.rollback_to(version).unwrap();
            let branch = store.fork("try", version).unwrap();
            branch.write(|txn| apply(txn, &nodes, &on_branch)).unwrap();
            store.write(|txn| apply(txn, &nodes, &on_main)).unwrap();
            let (own, before) = (content(&branch, &nodes), content(&store, &nodes));
            let conflicts = branch.conflicts().unwrap();
            match branch.merge(strategy) {
                Ok(_) => {
                    let after = content(&store, &nodes);
                    if on_main.is_empty() {
                        prop_assert_eq!(&after, &own, "{}", text);
                    }
                    if on_branch.is_empty() {
                        prop_assert_eq!(&after, &before, "{}", text);
                    }
                    prop_assert!(text != "Reject" || conflicts.is_empty());
                    prop_assert!(kind(branch.merge(MergeStrategy::Reject)).is_ok() || !conflicts.is_empty());
                }
                Err(MergeError::Conflicts(found)) => {
                    prop_assert!(!on_main.is_empty() && !on_branch.is_empty());
                    prop_assert!(found.count > 0 && found.count == found.listed.len() as u64);
                    prop_assert_eq!(content(&store, &nodes), before);
                }
                Err(error) => prop_assert!(false, "{}: {}", text, error),
            }
            assert_sound(&store);
            branch.discard().unwrap();
        }
        store.checkpoint().unwrap();
        assert_sound(&store);
    }
}
