//! `FORMAT.md` holds the tables that are rendered from the constants: what is written here cannot drift from it.

use crate::layout::{self, Field};
use crate::{directory, header, prologue, region};

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
        &layout::PAGE_FIELDS[..],
        &prologue::PROLOGUE_FIELDS,
        &header::HEADER_FIELDS,
        &region::REGION_FIELDS,
        &directory::NODE_FIELDS,
        &directory::ENTRY_FIELDS,
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
        table("page header", &layout::PAGE_FIELDS, layout::PAGE_HEADER_LEN),
        table("prologue", &prologue::PROLOGUE_FIELDS, prologue::PROLOGUE_LEN),
        table("header", &header::HEADER_FIELDS, header::HEADER_LEN),
        table("payload of a region's page", &region::REGION_FIELDS, region::REGION_LEN),
        table("head of a directory node", &directory::NODE_FIELDS, directory::NODE_HEADER_LEN),
        table("directory entry", &directory::ENTRY_FIELDS, directory::ENTRY_LEN),
    ];
    let missing: Vec<_> = tables.iter().filter(|table| !page.contains(table.as_str())).cloned().collect();
    assert!(missing.is_empty(), "FORMAT.md lacks these tables:\n\n{}", missing.join("\n\n"));
    assert_eq!(page.matches("<!-- table: ").count(), tables.len(), "a table that no constant stands behind");
}
