//! `FORMAT.md` holds the tables that are rendered from the constants: what is written here cannot drift from it.

use keepstone_testkit::format_page::{Layout, assert_described, assert_without_gaps};

use crate::{directory, header, layout, parity, prologue, region};

const LAYOUTS: [Layout; 7] = [
    ("page header", &layout::PAGE_FIELDS, layout::PAGE_HEADER_LEN),
    ("prologue", &prologue::PROLOGUE_FIELDS, prologue::PROLOGUE_LEN),
    ("header", &header::HEADER_FIELDS, header::HEADER_LEN),
    ("payload of a region's page", &region::REGION_FIELDS, region::REGION_LEN),
    ("parity group", &parity::GROUP_FIELDS, parity::GROUP_LEN),
    ("head of a directory node", &directory::NODE_FIELDS, directory::NODE_HEADER_LEN),
    ("directory entry", &directory::ENTRY_FIELDS, directory::ENTRY_LEN),
];

#[test]
fn every_layout_is_a_chain_without_gaps() {
    assert_without_gaps(&LAYOUTS);
}

#[test]
fn the_tables_of_the_format_page_are_those_of_the_code() {
    assert_described(include_str!("../FORMAT.md"), &LAYOUTS);
}
