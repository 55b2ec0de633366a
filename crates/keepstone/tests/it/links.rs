//! Links: both ends, reserved ids, deletion, other collections.

use keepstone::{ChangeError, Collection, Direction, Link, NodeId, NodePatch, Read, Store, WriteError};

use crate::{assert_sound, store};

fn nodes(store: &Store, keys: &[&str]) -> Collection<String> {
    let nodes = store.collection::<String>("nodes").unwrap();
    store
        .write(|txn| keys.iter().try_for_each(|key| nodes.put(txn, key, &(*key).to_owned()).map(drop)))
        .unwrap();
    nodes
}

/// Links as `verb>key` texts, sorted.
fn seen<T>(nodes: &Collection<T>, reader: &impl Read, key: &str, direction: Direction) -> Vec<String> {
    let text = |link: Link| format!("{}>{}{}", link.verb, link.key, if link.written { "" } else { "?" });
    let mut links: Vec<_> = nodes.links(reader, key, direction).map(|link| text(link.unwrap())).collect();
    links.sort();
    links
}

#[test]
fn a_link_is_seen_from_both_ends_and_upserts() {
    let store = store();
    let nodes = nodes(&store, &["a", "b"]);
    assert!(store.write(|txn| nodes.link(txn, "a", "likes", "b", 0.5)).unwrap().value);
    assert!(!store.write(|txn| nodes.link(txn, "a", "likes", "b", 0.75)).unwrap().value);
    store.write(|txn| nodes.link(txn, "a", "knows", "b", 1.0)).unwrap();
    let out: Vec<_> = nodes.links(&store, "a", Direction::Out).map(Result::unwrap).collect();
    let back: Vec<_> = nodes.links(&store, "b", Direction::In).map(Result::unwrap).collect();
    assert_eq!(out.len(), 2);
    for (out, back) in out.iter().zip(&back) {
        assert_eq!((&out.verb, out.weight, &*out.key), (&back.verb, back.weight, "b"));
        assert_eq!((&*back.key, &*back.collection, back.written), ("a", "nodes", true));
    }
    assert_eq!((&*out[1].verb, out[1].weight), ("likes", 0.75));
    let mut one = nodes.links_with(&store, "a", Direction::Out, "likes");
    assert_eq!(one.next().unwrap().unwrap().weight, 0.75);
    assert!(one.next().is_none());
    assert_eq!(seen(&nodes, &store, "a", Direction::In), [""; 0]);
    assert_eq!(seen(&nodes, &store, "nobody", Direction::Out), [""; 0]);

    assert!(store.write(|txn| nodes.unlink(txn, "a", "likes", "b")).unwrap().value);
    assert!(!store.write(|txn| nodes.unlink(txn, "a", "likes", "b")).unwrap().value);
    assert!(!store.write(|txn| nodes.unlink(txn, "a", "likes", "nobody")).unwrap().value);
    assert_eq!(seen(&nodes, &store, "b", Direction::In), ["knows>a"]);
    assert_sound(&store);
}

#[test]
fn a_target_that_is_not_written_has_a_reserved_id() {
    let store = store();
    let nodes = nodes(&store, &["a"]);
    store.write(|txn| nodes.link(txn, "a", "v", "later", 1.0)).unwrap();
    let reserved = nodes.links(&store, "a", Direction::Out).next().unwrap().unwrap();
    assert!(!reserved.written);
    assert_eq!(nodes.node(&store, "later").unwrap(), None);
    assert_eq!(nodes.node_by_id(&store, reserved.id).unwrap(), None);
    assert_eq!(seen(&nodes, &store, "later", Direction::In), ["v>a"]);
    let refused = store.write(|txn| nodes.link(txn, "later", "v", "a", 1.0)).unwrap_err();
    assert!(matches!(refused, WriteError::Change(ChangeError::NotFound { .. })), "{refused}");
    assert_sound(&store);

    let id = store.write(|txn| nodes.put(txn, "later", &"now".into())).unwrap().value;
    assert_eq!(id, reserved.id);
    assert_eq!(seen(&nodes, &store, "a", Direction::Out), ["v>later"]);
    assert_sound(&store);
}

#[test]
fn a_reserved_id_is_given_back_with_its_last_link() {
    let store = store();
    let nodes = nodes(&store, &["a", "b"]);
    store
        .write(|txn| {
            nodes.link(txn, "a", "v", "later", 1.0)?;
            nodes.link(txn, "b", "v", "later", 1.0)
        })
        .unwrap();
    let reserved = || store.check().unwrap().reserved;
    assert_eq!(reserved(), 1);
    store.write(|txn| nodes.unlink(txn, "a", "v", "later")).unwrap();
    assert_eq!(reserved(), 1);
    store.write(|txn| nodes.delete(txn, "b")).unwrap();
    assert_eq!(reserved(), 0);
    assert_sound(&store);
}

#[test]
fn a_given_id_takes_over_the_links_of_the_reserved_one() {
    let store = store();
    let nodes = nodes(&store, &["a", "b"]);
    store
        .write(|txn| {
            nodes.link(txn, "a", "v", "later", 0.25)?;
            nodes.link(txn, "b", "w", "later", 0.5)
        })
        .unwrap();
    let id = NodeId::from_bytes([9; 16]);
    store.write(|txn| nodes.put_with_id(txn, id, "later", &NodePatch::new())).unwrap();
    assert_eq!(seen(&nodes, &store, "later", Direction::In), ["v>a", "w>b"]);
    let link = nodes.links(&store, "b", Direction::Out).next().unwrap().unwrap();
    assert_eq!((link.id, link.weight, link.written), (id, 0.5, true));
    assert_sound(&store);
}

#[test]
fn deleting_a_node_ends_its_links_both_ways_in_that_commit() {
    let store = store();
    let nodes = nodes(&store, &["a", "b", "c"]);
    let before = store
        .write(|txn| {
            nodes.link(txn, "a", "v", "b", 1.0)?;
            nodes.link(txn, "b", "v", "c", 1.0)?;
            nodes.link(txn, "b", "self", "b", 1.0)?;
            nodes.link(txn, "c", "v", "a", 1.0)
        })
        .unwrap();
    let deleted = store.write(|txn| nodes.delete(txn, "b")).unwrap();
    assert!(deleted.value);
    for (key, out, back) in [("a", vec![], vec!["v>c"]), ("b", vec![], vec![]), ("c", vec!["v>a"], vec![])] {
        assert_eq!(seen(&nodes, &store, key, Direction::Out), out, "{key} out");
        assert_eq!(seen(&nodes, &store, key, Direction::In), back, "{key} in");
    }
    let then = store.at(before.version.unwrap()).unwrap();
    assert_eq!(seen(&nodes, &then, "b", Direction::Out), ["self>b", "v>c"]);
    assert_eq!(seen(&nodes, &then, "b", Direction::In), ["self>b", "v>a"]);
    assert_eq!(store.check().unwrap().links, 1);
    // Written again, the key has a new node without the old links.
    store.write(|txn| nodes.put(txn, "b", &"again".into())).unwrap();
    assert_eq!(seen(&nodes, &store, "b", Direction::In), [""; 0]);
    assert_ne!(nodes.id(&store, "b").unwrap(), nodes.id(&then, "b").unwrap());
    assert_sound(&store);
}

#[test]
fn links_join_collections() {
    let store = store();
    let people = store.collection::<String>("people").unwrap();
    let towns = store.collection::<u32>("towns").unwrap();
    store
        .write(|txn| {
            people.put(txn, "ada", &"Ada".into())?;
            people.link_to(txn, "ada", "lives in", &towns, "London", 1.0)
        })
        .unwrap();
    let link = towns.links(&store, "London", Direction::In).next().unwrap().unwrap();
    assert_eq!((&*link.collection, &*link.key, link.written), ("people", "ada", true));
    let link = people.links(&store, "ada", Direction::Out).next().unwrap().unwrap();
    assert_eq!((&*link.collection, &*link.key, link.written), ("towns", "London", false));
    assert_sound(&store);
    assert!(store.write(|txn| people.unlink_from(txn, "ada", "lives in", &towns, "London")).unwrap().value);
    assert_eq!(store.check().unwrap().reserved, 0);
    assert_sound(&store);
}

/// Two transactions at once; each ends one of the last two links to a reserved id, or adds one while it is given back.
#[test]
fn a_reserved_id_is_neither_leaked_nor_lost_by_transactions_at_once() {
    type Change = fn(&Collection<String>, &mut keepstone::Txn) -> Result<bool, ChangeError>;
    let pairs: [(Change, Change); 4] = [
        (
            |nodes, txn| nodes.unlink(txn, "a", "v", "later"),
            |nodes, txn| nodes.unlink(txn, "b", "v", "later"),
        ),
        (|nodes, txn| nodes.unlink(txn, "a", "v", "later"), |nodes, txn| nodes.delete(txn, "b")),
        (|nodes, txn| nodes.delete(txn, "a"), |nodes, txn| nodes.delete(txn, "b")),
        (
            |nodes, txn| {
                nodes.unlink(txn, "a", "v", "later")?;
                nodes.unlink(txn, "b", "v", "later")
            },
            |nodes, txn| nodes.link(txn, "c", "v", "later", 1.0),
        ),
    ];
    for isolation in [keepstone::Isolation::Snapshot, keepstone::Isolation::Serializable] {
        for (number, (first, second)) in pairs.iter().enumerate() {
            let store = store();
            let nodes = nodes(&store, &["a", "b", "c"]);
            store
                .write(|txn| {
                    nodes.link(txn, "a", "v", "later", 1.0)?;
                    nodes.link(txn, "b", "v", "later", 1.0)
                })
                .unwrap();
            let options = keepstone::TxnOptions::new().isolation(isolation);
            let (mut one, mut other) =
                (store.begin_with(options).unwrap(), store.begin_with(options).unwrap());
            assert!(first(&nodes, &mut one).unwrap());
            assert!(second(&nodes, &mut other).unwrap());
            one.commit().unwrap();
            assert!(other.commit().is_err(), "pair {number} at {isolation:?}");
            assert_sound(&store);
        }
    }
}

#[test]
fn links_keep_both_ends_under_concurrent_changes_at_both_isolation_levels() {
    for isolation in [keepstone::Isolation::Snapshot, keepstone::Isolation::Serializable] {
        let store = store();
        let keys = ["a", "b", "c", "d", "e"];
        let nodes = nodes(&store, &keys);
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let (store, nodes) = (&store, &nodes);
                scope.spawn(move || {
                    let options = keepstone::TxnOptions::new().isolation(isolation);
                    for round in 0..60_usize {
                        let (from, to) = (keys[(thread + round) % 5], keys[(thread * 3 + round * 2 + 1) % 5]);
                        let result = store.try_write::<(), ()>(options, |txn| {
                            match (thread + round) % 4 {
                                0 => drop(nodes.delete(txn, to)?),
                                1 => drop(nodes.put(txn, to, &"again".into())?),
                                2 => drop(nodes.unlink(txn, from, "v", to)?),
                                _ => match nodes.link(txn, from, "v", to, 1.0) {
                                    Ok(_) | Err(ChangeError::NotFound { .. }) => {}
                                    Err(error) => return Err(error.into()),
                                },
                            }
                            Ok(())
                        });
                        result.unwrap();
                    }
                });
            }
        });
        assert_sound(&store);
    }
}
