//! `FORMAT.md` holds the tables that are rendered from the constants: what is written here cannot drift from it.

use keepstone_testkit::format_page::{Layout, assert_described, assert_without_gaps};

use crate::{group, pins, record, segment, side_file};

const LAYOUTS: [Layout; 8] = [
    ("segment header", &segment::SEGMENT_FIELDS, segment::HEADER_BLOCK),
    ("group header", &group::GROUP_FIELDS, group::GROUP_HEADER_LEN),
    ("record header", &record::RECORD_FIELDS, record::RECORD_HEADER_LEN),
    ("reference to a side file", &record::SIDE_FIELDS, record::SIDE_REFERENCE_LEN),
    ("payload of TIMELINE", &record::TIMELINE_FIELDS, record::TIMELINE_LEN),
    ("side file header", &side_file::SIDE_FILE_FIELDS, side_file::SIDE_HEADER_LEN),
    ("pins header", &pins::PINS_FIELDS, pins::PINS_HEADER_LEN),
    ("pin", &pins::PIN_FIELDS, 18),
];

#[test]
fn every_layout_is_a_chain_without_gaps() {
    assert_without_gaps(&LAYOUTS);
}

#[test]
fn the_tables_of_the_format_page_are_those_of_the_code() {
    assert_described(include_str!("../FORMAT.md"), &LAYOUTS);
}
