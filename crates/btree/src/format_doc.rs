//! `FORMAT.md` holds the tables that are rendered from the constants: what is written here cannot drift from it.

use crate::layout::Field;
use crate::{chain, inner, leaf, root};

fn layouts() -> [(&'static str, &'static [Field]); 5] {
    [
        ("head of a leaf", &leaf::LEAF_FIELDS),
        ("head of an inner page", &inner::INNER_FIELDS),
        ("large value in a cell", &chain::CELL_FIELDS),
        ("head of an overflow page", &chain::OVERFLOW_FIELDS),
        ("root", &root::ROOT_FIELDS),
    ]
}

fn table(title: &str, fields: &[Field]) -> String {
    let rows: String = fields
        .iter()
        .map(|field| format!("| {} | {} | {} | {} |\n", field.offset, field.len, field.name, field.meaning))
        .collect();
    let len = fields.last().map_or(0, |field| field.end());
    format!(
        "<!-- table: {title}, {len} bytes -->\n| offset | bytes | field | meaning |\n|---|---|---|---|\n{rows}<!-- end -->"
    )
}

#[test]
fn every_layout_is_a_chain_without_gaps() {
    for (title, fields) in layouts() {
        let mut end = 0;
        for field in fields {
            assert_eq!(field.offset, end, "{title}: {}", field.name);
            end = field.end();
        }
    }
}

#[test]
fn the_tables_of_the_format_page_are_those_of_the_code() {
    let page = include_str!("../FORMAT.md");
    let tables = layouts().map(|(title, fields)| table(title, fields));
    let missing: Vec<_> = tables.iter().filter(|table| !page.contains(table.as_str())).cloned().collect();
    assert!(missing.is_empty(), "FORMAT.md lacks these tables:\n\n{}", missing.join("\n\n"));
    assert_eq!(page.matches("<!-- table: ").count(), tables.len(), "a table that no constant stands behind");
}

#[test]
fn the_kinds_of_the_format_page_are_those_of_the_code() {
    let page = include_str!("../FORMAT.md");
    for (kind, name) in [(leaf::LEAF, "LEAF"), (inner::INNER, "INNER"), (chain::OVERFLOW, "OVERFLOW")] {
        assert!(page.contains(&format!("| {kind} | {name} |")), "{name}");
    }
}
