//! The longest keys and values, on every size of page.

use keepstone_btree::{Fill, NewValue, Tree, TreeError, inline_len_max, key_len_max};
use keepstone_pager::MemoryPages;
use keepstone_types::ValueRef;

use crate::support::{ALL_PAYLOADS, Model, apply, check_live, pages_of, put, rows_of};

#[test]
fn vectors_of_2048_bytes_stand_in_the_leaves_of_pages_of_8_kib() {
    assert_eq!([4_056, 8_152, 16_344].map(inline_len_max), [1_158, 2_328, 4_668]);
}

#[test]
fn the_longest_keys_and_inline_values_make_a_sound_tree() {
    for payload in ALL_PAYLOADS {
        let mut pages = MemoryPages::new(payload);
        let mut root = keepstone_btree::TreeRoot::EMPTY;
        let mut model = Model::new();
        for number in 0..400_u32 {
            // Keys that differ only at their end, or only at their beginning.
            let number = number.wrapping_mul(0x9E37_79B1);
            let mut key = vec![b'k'; key_len_max(payload)];
            let at = if number & 1 == 0 { 0 } else { key.len() - 4 };
            key[at..at + 4].copy_from_slice(&number.to_be_bytes());
            let value = vec![1; inline_len_max(payload) + usize::from(number & 2 == 0)];
            root = apply(&mut pages, root, &[put(&key, &value)]);
            model.insert(key, value);
        }
        assert_eq!(rows_of(&pages, root), model);
        check_live(&pages, &[root]);
        assert!(root.height() > 2 && root.height() < 12, "{payload}: {} levels", root.height());
        let shape = pages_of(&pages, root).1;
        assert!(shape.inner_pages * 2 < shape.leaf_pages, "{shape:?}");
    }
}

#[test]
fn a_key_one_byte_too_long_is_refused() {
    for payload in ALL_PAYLOADS {
        let mut pages = MemoryPages::new(payload);
        let max = key_len_max(payload);
        let mut builder = keepstone_btree::Builder::new(&mut pages, Fill::FULL);
        builder.push(&vec![1; max], NewValue::bytes(ValueRef::empty())).unwrap();
        let error = builder.push(&vec![2; max + 1], NewValue::bytes(ValueRef::empty())).unwrap_err();
        assert!(matches!(error, TreeError::KeyTooLong { len, max: found } if len == max + 1 && found == max));
        let root = builder.finish().unwrap();
        // Looking for a key that cannot be there finds nothing.
        assert!(Tree::new(&pages, root).get(&vec![1; max + 1]).unwrap().is_none());
    }
}
