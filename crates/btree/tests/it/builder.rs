//! Building trees from rows in order.

use keepstone_btree::{Builder, Decision, Edit, Fill, NewValue, TreeError, TreeRoot, merge};
use keepstone_pager::{MemoryPages, Page, PageError, PageKind, PageRead, PageRun, PageWrite, UnverifiedPage};
use keepstone_types::{Generation, PageId, PageRef, ValueRef};

use crate::support::{ALL_PAYLOADS, Model, PAYLOADS, Random, build, check_live, pages_of, put, rows_of};

#[test]
fn what_is_built_is_read() {
    for payload in ALL_PAYLOADS {
        for rows in [0_u32, 1, 2, 10, 100, 1_000, 9_999] {
            let mut pages = MemoryPages::new(payload);
            let mut random = Random(rows.into());
            let model: Model = (0..rows)
                .map(|_| {
                    let (key, value) = (random.next() as usize % 40, random.next() as usize % 120);
                    (random.bytes(key), random.bytes(value))
                })
                .collect();
            let root = build(&mut pages, &model);
            assert_eq!(rows_of(&pages, root), model);
            assert_eq!((root.rows(), root.is_empty()), (model.len() as u64, model.is_empty()));
            check_live(&pages, &[root]);
        }
    }
}

#[test]
fn pages_are_full() {
    for payload in PAYLOADS {
        let mut pages = MemoryPages::new(payload);
        let model: Model =
            (0..200_000_u64).map(|number| (number.to_be_bytes().to_vec(), vec![7; 16])).collect();
        let root = build(&mut pages, &model);
        let shape = pages_of(&pages, root).1;
        let (leaf, inner) = (shape.leaf_fill_permille(), shape.inner_fill_permille());
        let beyond =
            (shape.leaf_used_bytes - shape.value_bytes).saturating_sub(shape.key_bytes) * 100 / shape.rows;
        println!(
            "{payload}: leaves {leaf} ‰ full, inner pages {inner} ‰, {} levels; a row takes {beyond} hundredths of a byte \
             beyond key and value",
            shape.height
        );
        assert!(leaf >= 980, "leaves are {leaf} ‰ full");
    }
}

#[test]
fn a_small_row_takes_at_most_eight_bytes_beyond_key_and_value() {
    for (key_len, value_len) in [(4, 0), (5, 20), (8, 63), (24, 60), (16, 16), (100, 30)] {
        let mut pages = MemoryPages::new(4_056);
        let mut random = Random(9);
        let model: Model = (0..20_000).map(|_| (random.bytes(key_len), vec![1; value_len])).collect();
        let root = build(&mut pages, &model);
        let shape = pages_of(&pages, root).1;
        // The head of each page is shared by its rows.
        let beyond = shape.leaf_used_bytes - 8 * shape.leaf_pages - shape.key_bytes - shape.value_bytes;
        assert!(
            beyond <= 8 * shape.rows,
            "{key_len} and {value_len}: {beyond} bytes for {} rows",
            shape.rows
        );
        assert!(beyond <= 4 * shape.rows || key_len < 8, "{key_len} and {value_len}: {beyond}");
    }
}

#[test]
fn fill_is_kept_to() {
    for percent in [50, 75, 90] {
        let mut pages = MemoryPages::new(8_152);
        let mut builder = Builder::new(&mut pages, Fill::percent(percent).unwrap());
        for number in 0..50_000_u64 {
            builder.push(&number.to_be_bytes(), NewValue::bytes(ValueRef::from(vec![7; 16]))).unwrap();
        }
        let root = builder.finish().unwrap();
        let found = pages_of(&pages, root).1.leaf_fill_permille();
        let expected = u64::from(percent) * 10;
        assert!((expected - 10..=expected).contains(&found), "{found} ‰ of {expected}");
    }
}

#[test]
fn rows_out_of_order_are_refused_and_deletions_are_nothing() {
    let mut pages = MemoryPages::new(4_056);
    let mut builder = Builder::new(&mut pages, Fill::FULL);
    let value = || NewValue::bytes(ValueRef::empty());
    builder.push(b"a", value()).unwrap();
    builder.push(b"b", NewValue::Delete).unwrap();
    builder.push(b"c", value()).unwrap();
    for key in [&b"c"[..], b"b", b""] {
        assert!(matches!(builder.push(key, value()), Err(TreeError::Order { .. })));
    }
    let root = builder.finish().unwrap();
    assert_eq!(rows_of(&pages, root).into_keys().collect::<Vec<_>>(), [b"a", b"c"]);
    let empty = Builder::new(&mut pages, Fill::FULL).finish().unwrap();
    assert_eq!(empty, TreeRoot::EMPTY);
    let mut small = MemoryPages::new(319);
    let refused = Builder::new(&mut small, Fill::FULL).push(b"a", value());
    assert!(matches!(refused, Err(TreeError::PageLen { found: 319, .. })));
}

/// Pages that are counted and forgotten.
struct Forgotten {
    written: u64,
}

impl PageRead for Forgotten {
    fn payload_len(&self) -> usize {
        4_056
    }

    fn read(&self, at: PageRef) -> Result<Page, PageError> {
        Err(PageError::Misuse { page: at.page, what: "it is forgotten" })
    }

    fn read_run(&self, run: PageRun) -> Result<Vec<UnverifiedPage>, PageError> {
        Err(PageError::Misuse { page: run.first, what: "it is forgotten" })
    }
}

impl PageWrite for Forgotten {
    fn generation(&self) -> Generation {
        Generation::new(1).unwrap()
    }

    fn allocate(&mut self, _want: u32) -> Result<PageRun, PageError> {
        self.written += 1;
        Ok(PageRun { first: PageId::new(self.written).unwrap(), count: 1 })
    }

    fn write(&mut self, page: PageId, _kind: PageKind, payload: &[u8]) -> Result<PageRef, PageError> {
        Ok(PageRef { page, birth: self.generation(), checksum: payload.len() as u64 })
    }

    fn free(&mut self, page: PageId, _birth: Generation) -> Result<(), PageError> {
        Err(PageError::Misuse { page, what: "it is forgotten" })
    }
}

#[test]
fn memory_is_bounded_by_a_few_pages_for_each_level() {
    let (mut pages, value) = (Forgotten { written: 0 }, ValueRef::from(vec![7; 100]));
    let taken = allocation_counter::measure(|| {
        let mut builder = Builder::new(&mut pages, Fill::FULL);
        for number in 0..200_000_u64 {
            builder.push(&number.to_be_bytes(), NewValue::bytes(value.clone())).unwrap();
        }
        assert_eq!(builder.finish().unwrap().height(), 3);
    });
    assert!(pages.written > 5_000 && taken.bytes_max < 512 << 10, "{} pages, {taken:?}", pages.written);
}

#[test]
fn merging_many_rows_in_one_place_takes_no_memory_for_the_rows() {
    let mut pages = Forgotten { written: 0 };
    let edits: Vec<Edit> = (0..200_000_u64).map(|number| put(&number.to_be_bytes(), &[7; 100])).collect();
    let taken = allocation_counter::measure(|| {
        let root = merge(&mut pages, TreeRoot::EMPTY, &edits, Fill::FULL, &mut |_, _| Decision::Replace);
        assert_eq!(root.unwrap().rows(), 200_000);
    });
    // The references to the pages stay until the level above is made.
    assert!(pages.written > 5_000 && taken.bytes_max < 2 << 20, "{} pages, {taken:?}", pages.written);
}
