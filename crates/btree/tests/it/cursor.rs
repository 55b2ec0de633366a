//! Cursors: both ways, from any place, and what they cost.

use std::ops::Bound;

use keepstone_btree::{Tree, TreeRoot};
use keepstone_pager::{MemoryPages, PageWrite};

use crate::support::{ALL_PAYLOADS, Model, Random, Watched, apply, build, put};

fn keys_of(model: &Model) -> Vec<&[u8]> {
    model.keys().map(|key| &key[..]).collect()
}

#[test]
fn a_cursor_goes_both_ways_from_any_place() {
    for payload in ALL_PAYLOADS {
        let mut pages = MemoryPages::new(payload);
        let mut random = Random(3);
        let model: Model = (0..3_000)
            .map(|_| {
                let key = random.next() as usize % 9;
                (random.bytes(key), random.bytes(5))
            })
            .collect();
        let keys = keys_of(&model);
        let root = build(&mut pages, &model);
        let mut cursor = Tree::new(&pages, root).cursor();
        for _ in 0..2_000 {
            let len = random.next() as usize % 9;
            let wanted = random.bytes(len);
            let first = keys.partition_point(|key| *key < &wanted[..]);
            // One more than the last place stands for before the first.
            let mut at = match random.next() % 4 {
                0 => {
                    cursor.seek(&wanted).unwrap();
                    Some(first)
                }
                1 => {
                    cursor.seek_before(&wanted).unwrap();
                    first.checked_sub(1)
                }
                2 => {
                    cursor.seek_first().unwrap();
                    Some(0)
                }
                _ => {
                    cursor.seek_last().unwrap();
                    keys.len().checked_sub(1)
                }
            };
            for _ in 0..random.next() % 40 {
                let expected = at.and_then(|at| keys.get(at));
                assert_eq!(cursor.key(), expected.copied());
                assert_eq!(cursor.head(), expected.map_or(&[][..], |key| &model[*key]));
                assert_eq!(cursor.stored().is_some(), expected.is_some());
                if random.next() % 3 != 1 {
                    cursor.next().unwrap();
                    at = Some(at.map_or(0, |at| (at + 1).min(keys.len())));
                } else {
                    cursor.previous().unwrap();
                    at = at.and_then(|at| at.checked_sub(1));
                }
            }
        }
    }
}

#[test]
fn a_cursor_over_nothing_stands_nowhere() {
    let pages = MemoryPages::new(4_056);
    let mut cursor = Tree::new(&pages, TreeRoot::EMPTY).cursor();
    for step in 0..6 {
        match step {
            0 => cursor.next(),
            1 => cursor.previous(),
            2 => cursor.seek(b"a"),
            3 => cursor.seek_before(b"a"),
            4 => cursor.seek_first(),
            _ => cursor.seek_last(),
        }
        .unwrap();
        assert_eq!((cursor.key(), cursor.head(), cursor.value_len()), (None, &[][..], 0));
        assert!(cursor.stored().is_none());
    }
}

#[test]
fn moving_takes_no_memory_for_a_row() {
    let mut pages = MemoryPages::new(16_344);
    let model: Model = (0..20_000_u32).map(|number| (number.to_be_bytes().to_vec(), vec![1; 8])).collect();
    let root = build(&mut pages, &model);
    let mut cursor = Tree::new(&pages, root).cursor();
    cursor.seek_first().unwrap();
    // The first leaves bring the buffers to their size.
    (0..3_000).for_each(|_| cursor.next().unwrap());
    let (mut rows, mut bytes) = (3_000, 0);
    let taken = allocation_counter::measure(|| {
        while let Some(key) = cursor.key() {
            bytes += key.len() + cursor.head().len();
            rows += 1;
            cursor.next().unwrap();
        }
        cursor.seek_last().unwrap();
        while cursor.key().is_some() {
            cursor.previous().unwrap();
        }
    });
    assert_eq!((rows, bytes), (20_000, 17_000 * 12));
    assert_eq!(taken.count_total, 0, "{taken:?}");
}

#[test]
fn a_cursor_since_a_generation_reads_only_what_is_young() {
    let mut pages = Watched::new(4_056, u32::MAX);
    let model: Model = (0..100_000_u32).map(|number| (number.to_be_bytes().to_vec(), vec![1; 8])).collect();
    let root = build(&mut pages, &model);
    let since = pages.generation();
    pages.inner.next_generation();
    let root = apply(&mut pages, root, &[put(&50_000_u32.to_be_bytes(), b"new")]);
    pages.counts();
    let mut cursor = Tree::new(&pages, root).cursor_since(since);
    let mut rows = 0;
    cursor.next().unwrap();
    while cursor.key().is_some() {
        rows += 1;
        cursor.next().unwrap();
    }
    assert_eq!(pages.counts(), (root.height().into(), 0));
    assert!((100..400).contains(&rows), "the rows of one leaf: {rows}");
    let mut cursor = Tree::new(&pages, root).cursor_since(pages.generation());
    cursor.next().unwrap();
    assert_eq!((cursor.key(), pages.counts()), (None, (0, 0)));
}

#[test]
fn a_small_value_is_copied_and_a_larger_one_shared() {
    let mut pages = MemoryPages::new(4_056);
    let model = Model::from([(b"large".to_vec(), vec![1; 600]), (b"small".to_vec(), vec![2; 100])]);
    let root = build(&mut pages, &model);
    for (key, copies) in [(&b"large"[..], false), (b"small", true)] {
        let mut found = None;
        let taken = allocation_counter::measure(|| {
            found = Tree::new(&pages, root).get(key).unwrap();
        });
        assert_eq!(taken.bytes_total >= 100, copies, "{taken:?}");
        let stored = found.unwrap();
        let value = stored.load(&pages).unwrap();
        assert_eq!(value, model[key][..]);
    }
}

#[test]
fn a_run_has_the_rows_of_a_leaf_and_the_cursor_goes_past_it() {
    for payload in ALL_PAYLOADS {
        let mut pages = MemoryPages::new(payload);
        let mut random = Random(5);
        let model: Model = (0..2_000)
            .map(|_| {
                let (key, value) = (random.next() as usize % 9, random.next() as usize % (payload / 4));
                (random.bytes(key), random.bytes(value))
            })
            .collect();
        let keys = keys_of(&model);
        let root = build(&mut pages, &model);
        let mut cursor = Tree::new(&pages, root).cursor();
        assert!(cursor.run(Bound::Unbounded).unwrap().is_none(), "it stands on no row");
        for _ in 0..500 {
            let wanted = random.bytes(3);
            let from = keys.partition_point(|key| *key < &wanted[..]);
            let end = keys.get(from + random.next() as usize % 40).copied().unwrap_or(&[0xFF; 20]);
            let (to, upto) = match random.next() % 3 {
                0 => (Bound::Unbounded, keys.len()),
                1 => (Bound::Excluded(end), keys.partition_point(|key| *key < end)),
                _ => (Bound::Included(end), keys.partition_point(|key| *key <= end)),
            };
            cursor.seek(&wanted).unwrap();
            let Some(run) = cursor.run(to).unwrap() else {
                assert!(from >= upto, "none of {from} to {upto}");
                continue;
            };
            let places = run.rows();
            assert!(!places.is_empty() && from + places.len() <= upto);
            for (place, key) in places.clone().zip(&keys[from..]) {
                let row = run.row(place).unwrap();
                assert_eq!(row.key_parts().concat(), *key);
                assert_eq!(row.value().inline(), Some(&model[*key][..]));
                let part = row.value().part(1);
                assert_eq!(part.as_deref(), model[*key].get(1..), "a part behind the first byte");
            }
            assert!(run.row(places.end + 10_000).is_err());
            cursor.pass_run(&run).unwrap();
            assert_eq!(cursor.key(), keys.get(from + places.len()).copied());
        }
    }
}

#[test]
fn there_is_no_run_where_values_have_pages_of_their_own() {
    let mut pages = MemoryPages::new(4_056);
    let model = Model::from([(b"long".to_vec(), vec![1; 2_000]), (b"short".to_vec(), vec![2; 10])]);
    let root = build(&mut pages, &model);
    let mut cursor = Tree::new(&pages, root).cursor();
    for key in [&b"long"[..], b"short"] {
        cursor.seek(key).unwrap();
        assert_eq!(cursor.key(), Some(key));
        assert!(cursor.run(Bound::Unbounded).unwrap().is_none());
    }
}
