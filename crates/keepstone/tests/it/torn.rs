//! No reader ever sees half a fingerprint, or a fingerprint beside another commit's label or embedding.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keepstone::{Collection, Durability, Fingerprint, Node, NodePatch, Read, Store, StoreOptions};

use crate::{Disk, assert_sound};

const BITS: usize = Fingerprint::BITS_DEFAULT;
const WRITERS: u8 = 3;
const READERS: u64 = 4;
const COMMITS: u8 = 120;
const KEYS: [&str; 2] = ["first", "second"];

/// A node all of whose parts say the same number.
fn whole(number: u8) -> NodePatch<u8> {
    NodePatch::body(number)
        .label(number.to_string())
        .fingerprint(Fingerprint::from_bytes(vec![number; BITS / 8]).unwrap())
        .embedding(vec![f32::from(number); 64])
}

/// The one number that all parts of a node say.
fn assert_whole(node: &Node<u8>) -> u8 {
    let number = node.body.unwrap();
    assert_eq!(node.label.as_deref(), Some(&*number.to_string()));
    let fingerprint = node.fingerprint.as_ref().unwrap();
    assert!(fingerprint.as_bytes().iter().all(|byte| *byte == number), "a torn fingerprint");
    assert_eq!(fingerprint.count_ones(), number.count_ones() * u32::try_from(BITS / 8).unwrap());
    assert!(node.embedding.as_ref().unwrap().iter().all(|found| *found == f32::from(number)));
    number
}

/// Both nodes are put in one commit, so one view has the same number in both.
fn assert_pair(nodes: &Collection<u8>, reader: &impl Read) {
    let numbers: Vec<_> = nodes.iter(reader).map(|node| assert_whole(&node.unwrap())).collect();
    assert_eq!(numbers.len(), 2);
    assert_eq!(numbers[0], numbers[1]);
}

#[test]
fn no_torn_fingerprint_is_ever_visible() {
    let relaxed = StoreOptions::new().durability(Durability::None);
    let store: Store = Disk::new().open_as(&relaxed).unwrap();
    let nodes = store.collection::<u8>("nodes").unwrap();
    let put = |number: u8| {
        let patch = whole(number);
        store.write(|txn| KEYS.iter().try_for_each(|key| nodes.put_node(txn, key, &patch).map(drop))).unwrap()
    };
    put(0);
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let put = &put;
                scope.spawn(move || {
                    for round in 0..COMMITS {
                        put(round.wrapping_mul(WRITERS).wrapping_add(writer));
                    }
                })
            })
            .collect();
        for reader in 0..READERS {
            let (store, nodes, done, reads) = (&store, &nodes, &done, &reads);
            scope.spawn(move || {
                loop {
                    // Looks once more after the writers ended, so every reader reads at least once.
                    let last = done.load(Ordering::Acquire);
                    match reader % 4 {
                        0 => drop(assert_whole(&nodes.node(store, KEYS[0]).unwrap().unwrap())),
                        1 => assert_pair(nodes, &store.snapshot().unwrap()),
                        2 => assert_pair(nodes, &store.begin().unwrap()),
                        _ => {
                            assert_pair(nodes, store);
                            let bytes = nodes.fingerprint(store, KEYS[1]).unwrap().unwrap();
                            assert!(
                                bytes.as_bytes().windows(2).all(|pair| pair[0] == pair[1]),
                                "a torn fingerprint"
                            );
                        }
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                    if last {
                        break;
                    }
                }
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert!(reads.load(Ordering::Relaxed) >= READERS);
    for version in store.versions().unwrap() {
        assert_pair(&nodes, &store.at(version.unwrap().version).unwrap());
    }
    assert_sound(&store);
}
