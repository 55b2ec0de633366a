//! The rows of a memtable, read while they are written, under `loom`: all orders up to a bound of changes of thread, and weak
//! memory. The source is the product's, on `loom`'s atomics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering as PlainOrdering};

#[path = "rows_tree.rs"]
mod as_designed;
#[path = "rows_tree.rs"]
#[allow(clippy::duplicate_mod, reason = "once as it is, once wrong on purpose")]
mod published_relaxed;

/// One writes rows while another reads: what is visible to him is there. Gives how many orders there were.
macro_rules! explore {
    ($tree:ident, $keys:expr, $before:expr) => {{
        let (keys, before): (&'static [u8], usize) = ($keys, $before);
        let orders = std::sync::Arc::new(AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&orders);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.max_branches = 20_000;
        builder.check(move || {
            counted.fetch_add(1, PlainOrdering::Relaxed);
            let written = loom::sync::Arc::new($tree::Written::new());
            let mut versions = (1_u64..).zip(keys);
            for (version, key) in versions.by_ref().take(before) {
                written.write(*key, version);
            }
            let read = loom::sync::Arc::clone(&written);
            let reader = loom::thread::spawn(move || {
                let (visible, found) = read.read();
                let visible = usize::try_from(visible).unwrap();
                let mut expected = keys[..visible].to_vec();
                expected.sort_unstable();
                assert_eq!(found, expected, "at version {visible}");
                if let Some(newest) = visible.checked_sub(1) {
                    assert!(read.finds(keys[newest]), "key {} at version {visible}", keys[newest]);
                }
            });
            for (version, key) in versions {
                written.write(*key, version);
            }
            reader.join().unwrap();
        });
        orders.load(PlainOrdering::Relaxed)
    }};
}

#[test]
fn a_reader_finds_every_row_that_is_visible() {
    // Three slots a node: a leaf gains a row, is split, is split below a node with room, and below one without.
    let loads: [(&'static [u8], usize); 6] = [
        (&[2, 1], 0),
        (&[2, 4, 6, 3], 3),
        (&[2, 4, 6, 3, 5], 4),
        (&[2, 4, 6, 3, 5, 1], 5),
        (&[10, 20, 30, 15, 25, 12, 17, 11, 13], 8),
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 9),
    ];
    for (keys, before) in loads {
        let orders = explore!(as_designed, keys, before);
        println!("{keys:?}, {before} of them there: {orders} orders");
        assert!(orders > 3, "explored {orders}");
    }
}

#[test]
fn an_order_that_is_seen_before_its_slots_is_caught() {
    let caught = catch_unwind(AssertUnwindSafe(|| explore!(published_relaxed, &[2, 1], 0)));
    assert!(caught.is_err(), "expected it to be caught, found {caught:?}");
}
