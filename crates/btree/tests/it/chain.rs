//! Values in pages of their own.

use keepstone_btree::{
    Builder, Fill, NewValue, Prefix, Stored, Tree, TreeRoot, VALUE_LEN_MAX, free_tree, inline_len_max,
};
use keepstone_pager::{MemoryPages, PageKind};
use keepstone_types::ValueRef;

use crate::support::{
    ALL_PAYLOADS, Model, Random, Watched, apply, build, check_live, delete, pages_of, rows_of,
};

#[test]
fn values_of_every_length_are_read_back_whatever_runs_there_are() {
    for payload in ALL_PAYLOADS {
        for run_max in [1, 2, 3, 7, u32::MAX] {
            let mut pages = Watched::new(payload, run_max);
            let mut random = Random(5);
            let edges =
                [0, 15, 16, 17].into_iter().chain((0..3).map(|more| inline_len_max(payload) - 1 + more));
            let pages_full = (1..6).flat_map(|count| {
                let full = count * (payload - 28);
                [full - 49, full - 48, full - 24, full - 23, full, full + 1]
            });
            let mut rows = Model::new();
            for len in edges.chain(pages_full).chain([200_000]) {
                rows.insert(format!("{len:08}").into_bytes(), random.bytes(len));
            }
            let root = build(&mut pages, &rows);
            assert_eq!(rows_of(&pages, root), rows, "{payload}, runs of {run_max}");
            check_live(&pages.inner, &[root]);
            let shape = pages_of(&pages, root).1;
            assert!(shape.overflow_pages > 0 && shape.value_bytes > shape.overflow_used_bytes);
            free_tree(&mut pages, root).unwrap();
            assert_eq!(pages.inner.live().count(), 0);
        }
    }
}

#[test]
fn a_prefix_stands_before_the_body_without_a_copy_of_it() {
    for len in [0, 5, 1_000, 1_014, 1_015, 20_000] {
        for prefix_len in [0, 1, 16] {
            let mut pages = MemoryPages::new(4_056);
            let (prefix, body) = (Random(1).bytes(prefix_len), Random(2).bytes(len));
            let mut builder = Builder::new(&mut pages, Fill::FULL);
            let value =
                NewValue::Bytes { prefix: Prefix::new(&prefix).unwrap(), body: ValueRef::from(body.clone()) };
            builder.push(b"key", value).unwrap();
            let root = builder.finish().unwrap();
            assert_eq!(rows_of(&pages, root)[&b"key"[..]], [prefix, body].concat());
        }
    }
}

#[test]
fn a_value_of_64_mib_is_read_in_66_steps_and_freed_without_reading_it() {
    let mut pages = Watched::new(4_056, u32::MAX);
    let body = ValueRef::from(Random(1).bytes(1 << 16).repeat(1 << 10));
    let mut builder = Builder::new(&mut pages, Fill::FULL);
    builder.push(b"large", NewValue::bytes(body.clone())).unwrap();
    let root = builder.finish().unwrap();
    pages.counts();
    let stored = Tree::new(&pages, root).get(b"large").unwrap().unwrap();
    assert_eq!((stored.len(), stored.head()), (64 << 20, &body[..16]));
    assert_eq!(pages.counts(), (1, 0), "the leaf");
    assert!(stored.load(&pages).unwrap() == body);
    assert_eq!(pages.counts(), (0, 65), "16,661 pages, 258 of them in a step of 1 MiB");
    let root = apply(&mut pages, root, &[delete(b"large")]);
    assert_eq!((root, pages.inner.live().count()), (TreeRoot::EMPTY, 0));
    assert_eq!(pages.counts(), (1, 0), "the leaf");
}

#[test]
fn a_page_that_fails_in_a_run_is_read_alone() {
    let mut pages = Watched::new(4_056, 100);
    let model = Model::from([(b"a".to_vec(), Random(3).bytes(1_000_000))]);
    let root = build(&mut pages, &model);
    let overflow: Vec<_> =
        pages_of(&pages, root).0.into_iter().filter(|(_, kind)| *kind == PageKind::new(18)).collect();
    for bad in [0, 1, 99, 100, 150, overflow.len() - 1] {
        pages.bad_in_runs.insert(overflow[bad].0.page);
    }
    pages.counts();
    let stored = Tree::new(&pages, root).get(b"a").unwrap().unwrap();
    assert_eq!(stored.load(&pages).unwrap(), model[&b"a"[..]][..]);
    assert_eq!(pages.counts(), (1 + 6, 3), "the leaf and each bad page; one step for each run");
}

#[test]
fn a_page_that_is_gone_is_an_error() {
    let mut pages = MemoryPages::new(4_056);
    let model = Model::from([(b"a".to_vec(), Random(3).bytes(50_000))]);
    let root = build(&mut pages, &model);
    let stored = Tree::new(&pages, root).get(b"a").unwrap().unwrap();
    pages.next_generation();
    apply(&mut pages, root, &[delete(b"a")]);
    assert!(stored.load(&pages).is_ok(), "the generation before can still be read");
    pages.next_generation();
    assert!(stored.load(&pages).unwrap_err().is_damage());
}

#[test]
fn a_chain_of_another_value_is_damage() {
    let mut pages = MemoryPages::new(4_056);
    let root = build(&mut pages, &Model::from([(b"a".to_vec(), vec![9; 9_000])]));
    let Some(Stored::Chain(_)) = Tree::new(&pages, root).get(b"a").unwrap() else { panic!("a chain") };
    // The cell says one byte more or less than the pages do: the length is the varint before the 16 bytes of the head.
    let page = pages_of(&pages, root).0[0].0;
    let payload = keepstone_pager::PageRead::read(&pages, page).unwrap().payload().to_vec();
    let at = payload.windows(16).position(|window| window == [9; 16]).unwrap();
    for change in [-2_i8, 2] {
        let mut changed = payload.clone();
        changed[at - 3] = changed[at - 3].wrapping_add_signed(change);
        let page = keepstone_pager::PageWriteExt::put(&mut pages, PageKind::new(16), &changed).unwrap();
        let root = crate::support::leaf_alone(page);
        let stored = Tree::new(&pages, root).get(b"a").unwrap().unwrap();
        assert_ne!(stored.len(), 9_000);
        let error = stored.load(&pages).unwrap_err();
        assert!(error.to_string().contains("bytes left of a value"), "{error}");
    }
}

#[test]
fn a_value_has_a_largest_length() {
    let mut pages = MemoryPages::new(16_344);
    let mut builder = Builder::new(&mut pages, Fill::FULL);
    let body = ValueRef::from(vec![0; usize::try_from(VALUE_LEN_MAX).unwrap()]);
    let value = NewValue::Bytes { prefix: Prefix::new(&[1]).unwrap(), body };
    let error = builder.push(b"a", value).unwrap_err();
    assert!(error.to_string().contains("expected at most 1073741824"), "{error}");
}
