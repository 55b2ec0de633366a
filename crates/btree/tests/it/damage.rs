//! Pages with the right checksum and a content that no writer makes: errors, never panics, never without end.

use keepstone_btree::{Decision, Edit, Fill, Tree, TreeError, TreeRoot, free_tree, merge, relocate, walk};
use keepstone_pager::{MemoryPages, PageKind, PageRead, PageWriteExt};
use keepstone_types::wire::Reader;
use keepstone_types::{Generation, PageRef};

use crate::support::{Model, Random, build, delete, put};

/// A root that says what it likes.
fn root(page: PageRef, height: u8, rows: u64) -> TreeRoot {
    let mut bytes = page.to_bytes().to_vec();
    bytes.push(height);
    bytes.extend(rows.to_le_bytes());
    TreeRoot::read(&mut Reader::new(&bytes)).unwrap()
}

fn check<T>(result: Result<T, TreeError>) -> bool {
    if let Err(error) = &result {
        assert!(error.to_string().len() < 600, "{error}");
    }
    result.is_ok()
}

/// Everything that can be done with a tree. Whether a walk finds nothing wrong.
fn exercise(pages: &mut MemoryPages, root: TreeRoot) -> bool {
    let tree = Tree::new(pages, root);
    for key in [&b""[..], b"a", b"key-0500", b"\xFF\xFF\xFF\xFF\xFF"] {
        if let Ok(Some(stored)) = tree.get(key) {
            check(stored.load(pages));
        }
    }
    for since in [None, Some(0), Some(1)] {
        let mut cursor = match since {
            None => tree.cursor(),
            Some(since) => tree.cursor_since(Generation::new(since).unwrap()),
        };
        let (mut good, mut last) = (check(cursor.seek_first()), Vec::new());
        while let Some(key) = cursor.key().filter(|_| good) {
            assert!(last.is_empty() || key > &last[..], "keys ascend, or the cursor fails");
            last = key.to_vec();
            good = check(cursor.next());
        }
        let mut good = check(cursor.seek_last());
        while cursor.key().is_some() && good {
            good = check(cursor.previous());
        }
        check(cursor.seek(b"key-0500"));
        check(cursor.seek_before(b"key-0500"));
    }
    let sound = check(walk(pages, root, &mut |_, _| Ok(())));
    let edits: Vec<Edit> =
        vec![put(b"", b"x"), delete(b"a"), put(b"key-0500", &[1; 5_000]), delete(b"key-0700")];
    check(merge(pages, root, &edits, Fill::FULL, &mut |_, _| Decision::ReplaceKeepingOld));
    pages.next_generation();
    check(relocate(pages, root, &|page| page.get() % 2 == 0));
    check(free_tree(pages, root));
    sound
}

#[test]
fn random_bytes_are_no_tree() {
    let mut random = Random(21);
    for round in 0..3_000_u32 {
        let payload = [320, 501, 4_056][round as usize % 3];
        let mut pages = MemoryPages::new(payload);
        let mut bytes = random.bytes(payload);
        // Plausible heads, so that not all are refused at once.
        for at in [0, 2, 4, 6] {
            let small = random.next() % if at == 4 { payload as u64 } else { 20 };
            bytes[at..at + 2].copy_from_slice(&(small as u16).to_le_bytes());
        }
        let kind = PageKind::new(16 + (round % 3) as u8);
        let page = pages.put(kind, &bytes).unwrap();
        let height = 1 + (random.next() % 3) as u8;
        assert!(!exercise(&mut pages, root(page, height, 1)), "random bytes are taken for a tree");
    }
}

fn sound_tree(payload: usize) -> (MemoryPages, TreeRoot) {
    let mut pages = MemoryPages::new(payload);
    let rows: Model = (0..1_000_u32)
        .map(|number| {
            let len = if number % 100 == 7 { 4_000 } else { 12 };
            (format!("key-{number:04}").into_bytes(), vec![number as u8; len])
        })
        .collect();
    let root = build(&mut pages, &rows);
    (pages, root)
}

#[test]
fn a_changed_byte_of_the_topmost_page_is_found() {
    let mut random = Random(22);
    let mut found = 0;
    for round in 0..1_500 {
        let payload = [320, 4_056, 16_344][round % 3];
        let (mut pages, sound) = sound_tree(payload);
        let top = sound.page().unwrap();
        let page = pages.read(top).unwrap();
        let used = usize::from(u16::from_le_bytes([page.payload()[4], page.payload()[5]]));
        let mut bytes = page.payload().to_vec();
        let at = random.next() as usize % used;
        bytes[at] ^= 1 << (random.next() % 8);
        let changed = pages.put(page.kind(), &bytes).unwrap();
        let changed = root(changed, sound.height(), sound.rows());
        // A separator may change and still tell its neighbours apart; nothing else may.
        found += usize::from(!exercise(&mut pages, changed));
    }
    assert!(found > 1_200, "{found} of 1500");
}

#[test]
fn a_changed_byte_of_a_leaf_of_rows_is_found_unless_it_is_of_a_value_or_keeps_the_order() {
    let mut pages = MemoryPages::new(4_056);
    let rows: Model =
        (0..50_u32).map(|number| (format!("key-{number:04}").into_bytes(), vec![9; 3])).collect();
    let sound = build(&mut pages, &rows);
    let payload = pages.read(sound.page().unwrap()).unwrap().payload().to_vec();
    for at in 0..payload.len() {
        let mut bytes = payload.clone();
        bytes[at] ^= 0x80;
        let changed = root(pages.put(PageKind::new(16), &bytes).unwrap(), 1, 50);
        if let Ok(shape) = walk(&pages, changed, &mut |_, _| Ok(())) {
            assert_eq!((shape.rows, shape.value_bytes), (50, 150));
            let is_key_or_value = bytes[at] == 9 ^ 0x80 || bytes[at] & 0x7F == payload[at] & 0x7F;
            assert!(is_key_or_value, "byte {at}: {:#04x}", payload[at]);
        }
    }
}

#[test]
fn roots_that_say_other_levels_or_rows_are_found() {
    let (mut pages, sound) = sound_tree(501);
    let page = sound.page().unwrap();
    for (height, rows) in
        [(sound.height() + 1, sound.rows()), (1, sound.rows()), (sound.height(), 1), (64, u64::MAX)]
    {
        let error = walk(&pages, root(page, height, rows), &mut |_, _| Ok(())).unwrap_err();
        assert!(error.is_damage(), "{error}");
    }
    assert!(exercise(&mut pages, sound));
}

/// Inner pages that name the same children over and over: 2^40 ways to the leaf.
#[test]
fn pages_that_are_named_twice_keep_nobody_going() {
    for separator in [&b"m"[..], b""] {
        let mut pages = MemoryPages::new(320);
        let leaf = build(&mut pages, &Model::from([(b"a".to_vec(), vec![1])]));
        let mut below = [leaf.page().unwrap(); 2];
        for level in 1..40_u8 {
            let page = |pages: &mut MemoryPages| {
                // One separator: its head, its offset, two references, and the length that its cell begins with.
                let mut bytes = vec![2, 0, 0, 0, 55, 0, level, 0];
                let mut head = separator.to_vec();
                head.resize(4, 0);
                bytes.extend(head);
                bytes.extend([54, 0]);
                bytes.extend(below.iter().flat_map(|at| at.to_bytes()));
                bytes.push(separator.len() as u8);
                pages.put(PageKind::new(17), &bytes).unwrap()
            };
            below = [page(&mut pages), page(&mut pages)];
        }
        for since in [None, Some(0), Some(1)] {
            let tree = Tree::new(&pages, root(below[0], 40, 1));
            let mut cursor = match since {
                None => tree.cursor(),
                Some(since) => tree.cursor_since(Generation::new(since).unwrap()),
            };
            let mut good = check(cursor.seek_first());
            while cursor.key().is_some() && good {
                good = check(cursor.next());
            }
        }
        assert!(!exercise(&mut pages, root(below[0], 40, 1)));
    }
}
