//! Looking at values where they stand.

use keepstone_btree::{Stored, Tree, inline_len_max};
use keepstone_pager::MemoryPages;

use crate::support::{Model, Random, build};

const PAYLOAD: usize = 4_056;

#[test]
fn a_value_is_looked_at_where_it_stands_and_only_a_large_one_shares_its_page() {
    let (shared_min, inline_max) = (PAYLOAD / 8, inline_len_max(PAYLOAD));
    let mut rows = Model::new();
    for len in [0, 1, 17, shared_min - 1, shared_min, inline_max, inline_max + 1, 20_000] {
        rows.insert(format!("{len:08}").into_bytes(), Random(7).bytes(len));
    }
    let mut pages = MemoryPages::new(PAYLOAD);
    let root = build(&mut pages, &rows);
    let tree = Tree::new(&pages, root);
    let mut cursor = tree.cursor();
    for (key, value) in &rows {
        let (is_inline, is_shared) =
            (value.len() <= inline_max, (shared_min..=inline_max).contains(&value.len()));
        cursor.next().unwrap();
        assert_eq!(cursor.key(), Some(&key[..]));
        let beside = cursor.value().unwrap();
        let looked = tree.look_up(key, |found| {
            assert_eq!((found.len(), found.is_empty()), (value.len() as u64, value.is_empty()));
            assert_eq!(found.inline(), is_inline.then_some(&value[..]));
            assert_eq!(found.inline(), beside.inline());
            assert_eq!(found.head(), beside.head());
            assert_eq!(found.shared(value.len() + 1), None);
            let shared = found.shared(3);
            assert_eq!(shared.as_deref(), is_shared.then(|| &value[3..]));
            if let (Some(shared), Some(inline)) = (shared, found.inline()) {
                assert_eq!(shared.as_ptr(), inline[3..].as_ptr());
            }
            found.stored().unwrap()
        });
        let stored = looked.unwrap().unwrap();
        assert_eq!(matches!(stored, Stored::Inline(_)), is_inline);
        assert_eq!(stored.load(&pages).unwrap(), value[..]);
        assert_eq!(Some(&stored), tree.get(key).unwrap().as_ref());
    }
    cursor.next().unwrap();
    assert!(cursor.value().is_none());
    assert!(tree.look_up(b"nothing", |_| panic!("there is no such row")).unwrap().is_none());
}
