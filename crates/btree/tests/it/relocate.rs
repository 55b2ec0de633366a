//! Moving pages elsewhere, and giving a tree back.

use std::collections::BTreeSet;

use keepstone_btree::{TreeRoot, free_tree, relocate, relocate_without_values};
use keepstone_pager::MemoryPages;
use keepstone_types::PageId;

use crate::support::{ALL_PAYLOADS, Model, Random, Watched, build, check_live, pages_of, rows_of};

fn some_rows() -> Model {
    let mut random = Random(11);
    (0..2_000)
        .map(|number| {
            let len = if number % 100 == 0 { 30_000 } else { 40 };
            (random.bytes(10), random.bytes(len))
        })
        .collect()
}

#[test]
fn pages_that_must_move_move_and_the_rows_stay() {
    for payload in ALL_PAYLOADS {
        let mut pages = MemoryPages::new(payload);
        let rows = some_rows();
        let mut root = build(&mut pages, &rows);
        for divisor in [2, 7, 1_000_000] {
            pages.next_generation();
            let before = pages_of(&pages, root).0;
            let must_move: BTreeSet<PageId> =
                before.iter().map(|(at, _)| at.page).filter(|page| page.get() % divisor == 1).collect();
            let moved = relocate(&mut pages, root, &|page| must_move.contains(&page)).unwrap();
            let after: BTreeSet<PageId> = pages_of(&pages, moved).0.iter().map(|(at, _)| at.page).collect();
            assert!(after.is_disjoint(&must_move), "pages of the generation before are not given out yet");
            assert_eq!((moved == root), must_move.is_empty());
            assert_eq!((moved.rows(), moved.height()), (root.rows(), root.height()));
            assert_eq!(rows_of(&pages, moved), rows);
            assert_eq!(rows_of(&pages, root), rows, "the generation before can still be read");
            check_live(&pages, &[moved]);
            root = moved;
        }
    }
}

#[test]
fn only_pages_that_must_move_and_those_above_them_are_written() {
    let mut pages = MemoryPages::new(4_056);
    let root = build(&mut pages, &some_rows());
    assert_eq!(relocate(&mut pages, root, &|_| false).unwrap(), root);
    assert_eq!(relocate(&mut pages, TreeRoot::EMPTY, &|_| true).unwrap(), TreeRoot::EMPTY);
    pages.next_generation();
    let before: BTreeSet<_> = pages_of(&pages, root).0.into_iter().map(|(at, _)| at.page).collect();
    let leaf = pages_of(&pages, root).0.into_iter().find(|(_, kind)| kind.get() == 16).unwrap().0.page;
    let moved = relocate(&mut pages, root, &|page| page == leaf).unwrap();
    let new = pages_of(&pages, moved).0.iter().filter(|(at, _)| !before.contains(&at.page)).count();
    assert_eq!(new, usize::from(root.height()), "one page on each level");
}

#[test]
fn without_values_only_what_moves_is_read_and_values_stay() {
    for payload in ALL_PAYLOADS {
        let mut pages = Watched::new(payload, u32::MAX);
        let rows = some_rows();
        let root = build(&mut pages, &rows);
        let before = pages_of(&pages, root).0;
        let inner = before.iter().filter(|(_, kind)| kind.get() == 17).count();
        pages.inner.next_generation();
        pages.counts();
        assert_eq!(relocate_without_values(&mut pages, root, &|_| false).unwrap(), root);
        assert_eq!(pages.counts().0, inner, "no page of rows");
        let moved = relocate_without_values(&mut pages, root, &|_| true).unwrap();
        assert_eq!(rows_of(&pages, moved), rows);
        let of_values =
            |pages: Vec<(keepstone_types::PageRef, keepstone_pager::PageKind)>| -> BTreeSet<PageId> {
                pages.into_iter().filter(|(_, kind)| kind.get() > 17).map(|(at, _)| at.page).collect()
            };
        let after = pages_of(&pages, moved).0;
        let stayed =
            before.iter().filter(|(at, _)| after.iter().any(|(other, _)| other.page == at.page)).count();
        assert_eq!(of_values(after.clone()), of_values(before));
        assert_eq!(stayed, of_values(after).len(), "all else moved");
        check_live(&pages.inner, &[moved]);
    }
}

#[test]
fn a_tree_that_is_freed_leaves_nothing() {
    for payload in ALL_PAYLOADS {
        let mut pages = MemoryPages::new(payload);
        let (first, second) = (some_rows(), Model::from([(b"other".to_vec(), vec![1; 100_000])]));
        let (root, other) = (build(&mut pages, &first), build(&mut pages, &second));
        pages.next_generation();
        free_tree(&mut pages, root).unwrap();
        check_live(&pages, &[other]);
        assert_eq!(rows_of(&pages, root), first, "the generation before can still be read");
        assert!(free_tree(&mut pages, root).is_err(), "it is freed already");
        free_tree(&mut pages, TreeRoot::EMPTY).unwrap();
        pages.next_generation();
        assert_eq!(rows_of(&pages, other), second);
    }
}
