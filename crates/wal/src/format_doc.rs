//! `FORMAT.md` holds the tables that are rendered from the constants: what is written here cannot drift from it.

use crate::layout::Field;
use crate::{group, pins, record, segment, side_file};

fn table(title: &str, fields: &[Field], len: usize) -> String {
    let rows: String = fields
        .iter()
        .map(|field| format!("| {} | {} | {} | {} |\n", field.offset, field.len, field.name, field.meaning))
        .collect();
    format!(
        "<!-- table: {title}, {len} bytes -->\n| offset | bytes | field | meaning |\n|---|---|---|---|\n{rows}<!-- end -->"
    )
}

#[test]
fn every_layout_is_a_chain_without_gaps() {
    for fields in [
        &segment::SEGMENT_FIELDS[..],
        &group::GROUP_FIELDS,
        &record::RECORD_FIELDS,
        &record::SIDE_FIELDS,
        &record::TIMELINE_FIELDS,
        &side_file::SIDE_FILE_FIELDS,
        &pins::PINS_FIELDS,
        &pins::PIN_FIELDS,
    ] {
        let mut end = 0;
        for field in fields {
            assert_eq!(field.offset, end, "{}", field.name);
            end = field.end();
        }
    }
}

#[test]
fn the_tables_of_the_format_page_are_those_of_the_code() {
    let page = include_str!("../FORMAT.md");
    let tables = [
        table("segment header", &segment::SEGMENT_FIELDS, segment::HEADER_BLOCK),
        table("group header", &group::GROUP_FIELDS, group::GROUP_HEADER_LEN),
        table("record header", &record::RECORD_FIELDS, record::RECORD_HEADER_LEN),
        table("reference to a side file", &record::SIDE_FIELDS, record::SIDE_REFERENCE_LEN),
        table("payload of TIMELINE", &record::TIMELINE_FIELDS, record::TIMELINE_LEN),
        table("side file header", &side_file::SIDE_FILE_FIELDS, side_file::SIDE_HEADER_LEN),
        table("pins header", &pins::PINS_FIELDS, pins::PINS_HEADER_LEN),
        table("pin", &pins::PIN_FIELDS, 18),
    ];
    let missing: Vec<_> = tables.iter().filter(|table| !page.contains(table.as_str())).cloned().collect();
    assert!(missing.is_empty(), "FORMAT.md lacks these tables:\n\n{}", missing.join("\n\n"));
    assert_eq!(page.matches("<!-- table: ").count(), tables.len(), "a table that no constant stands behind");
}
