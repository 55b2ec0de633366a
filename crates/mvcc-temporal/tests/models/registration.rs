//! The protocol by which a snapshot registers against the prune floor, under `loom`: all orders, and weak memory.
//!
//! This is the protocol alone, as the design states it, and three ways to get it wrong; `folding.rs` runs the code itself, which
//! makes each step sequentially consistent instead of fencing. A snapshot writes its version to its slot, fences, and re-reads the floor; who prunes raises the
//! floor, fences, and then scans the slots. Of the two, one sees the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering as PlainOrdering};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use loom::thread;

/// An empty slot.
const NONE: u64 = u64::MAX;
/// Versions 0 to 2; the last is the newest.
const VERSIONS: usize = 3;

/// How the protocol is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    AsDesigned,
    WithoutFences,
    WithoutReadingAgain,
    FloorReadFirst,
}

struct Store {
    protocol: Protocol,
    floor: AtomicU64,
    slots: [AtomicU64; 2],
    pruned: [AtomicBool; VERSIONS],
}

impl Store {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            floor: AtomicU64::new(0),
            slots: [NONE, NONE].map(AtomicU64::new),
            pruned: [false; VERSIONS].map(AtomicBool::new),
        }
    }

    fn fence(&self) {
        if self.protocol != Protocol::WithoutFences {
            fence(Ordering::SeqCst);
        }
    }

    /// Registers a snapshot; false when its version may be gone.
    fn register(&self, slot: usize, version: u64) -> bool {
        let may_be_gone = || self.floor.load(Ordering::Acquire) > version;
        if self.protocol == Protocol::FloorReadFirst && may_be_gone() {
            return false;
        }
        self.slots[slot].store(version, Ordering::Release);
        self.fence();
        let checks = matches!(self.protocol, Protocol::AsDesigned | Protocol::WithoutFences);
        if checks && may_be_gone() {
            self.slots[slot].store(NONE, Ordering::Release);
            return false;
        }
        true
    }

    /// Prunes what is below `floor` and below every snapshot.
    fn prune(&self, floor: u64) {
        self.floor.store(floor, Ordering::Release);
        self.fence();
        let oldest = self.slots.iter().map(|slot| slot.load(Ordering::Acquire)).min().unwrap_or(NONE);
        let through = usize::try_from(floor.min(oldest)).unwrap();
        for version in &self.pruned[..through] {
            version.store(true, Ordering::Release);
        }
    }
}

/// Snapshots, by their versions, register while versions are pruned, up to one floor after the other; gives how many
/// orders there were.
fn explore(protocol: Protocol, snapshots: &'static [u64], floors: &'static [u64]) -> usize {
    let orders = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&orders);
    loom::model(move || {
        counted.fetch_add(1, PlainOrdering::Relaxed);
        let store = Arc::new(Store::new(protocol));
        let snapshots: Vec<_> = (0..)
            .zip(snapshots)
            .map(|(slot, version)| {
                let store = Arc::clone(&store);
                thread::spawn(move || store.register(slot, *version).then_some(*version))
            })
            .collect();
        for floor in floors {
            store.prune(*floor);
        }
        for snapshot in snapshots {
            // Nobody unregisters, so what a snapshot reads must be there at the end.
            if let Some(version) = snapshot.join().unwrap() {
                let gone = store.pruned[usize::try_from(version).unwrap()].load(Ordering::Acquire);
                assert!(!gone, "version {version} is pruned under its snapshot");
            }
        }
    });
    orders.load(PlainOrdering::Relaxed)
}

#[test]
fn no_version_is_pruned_under_its_snapshot() {
    for (snapshots, floors) in [(&[1_u64] as &[_], &[1_u64, 2] as &[_]), (&[0], &[1, 2]), (&[0, 1], &[2])] {
        let orders = explore(Protocol::AsDesigned, snapshots, floors);
        println!("snapshots of {snapshots:?}, pruning to {floors:?}: all {orders} orders");
        assert!(orders > 10, "explored {orders}");
    }
}

#[test]
fn every_way_to_get_it_wrong_is_caught() {
    for protocol in [Protocol::WithoutFences, Protocol::WithoutReadingAgain, Protocol::FloorReadFirst] {
        let caught = catch_unwind(AssertUnwindSafe(|| explore(protocol, &[0], &[1])));
        assert!(caught.is_err(), "expected {protocol:?} to be caught, found {caught:?}");
    }
}
