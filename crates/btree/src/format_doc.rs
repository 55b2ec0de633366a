//! `FORMAT.md` holds the tables that are rendered from the constants: what is written here cannot drift from it.

use keepstone_testkit::format_page::{Layout, assert_described, assert_without_gaps};

use crate::layout::Field;
use crate::{chain, inner, leaf, root};

const LAYOUTS: [Layout; 5] = [
    ("head of a leaf", &leaf::LEAF_FIELDS, end_of(&leaf::LEAF_FIELDS)),
    ("head of an inner page", &inner::INNER_FIELDS, end_of(&inner::INNER_FIELDS)),
    ("large value in a cell", &chain::CELL_FIELDS, end_of(&chain::CELL_FIELDS)),
    ("head of an overflow page", &chain::OVERFLOW_FIELDS, end_of(&chain::OVERFLOW_FIELDS)),
    ("root", &root::ROOT_FIELDS, end_of(&root::ROOT_FIELDS)),
];

const fn end_of(fields: &[Field]) -> usize {
    match fields.last() {
        Some(field) => field.end(),
        None => 0,
    }
}

#[test]
fn every_layout_is_a_chain_without_gaps() {
    assert_without_gaps(&LAYOUTS);
}

#[test]
fn the_tables_of_the_format_page_are_those_of_the_code() {
    assert_described(include_str!("../FORMAT.md"), &LAYOUTS);
}

#[test]
fn the_kinds_of_the_format_page_are_those_of_the_code() {
    let page = include_str!("../FORMAT.md");
    for (kind, name) in [(leaf::LEAF, "LEAF"), (inner::INNER, "INNER"), (chain::OVERFLOW, "OVERFLOW")] {
        assert!(page.contains(&format!("| {kind} | {name} |")), "{name}");
    }
}
