//! Holds the page that describes a format against the constants that it is rendered from, so that neither drifts from the
//! other.

use keepstone_types::layout::Field;

/// A block of a format: what the page calls it, its fields, and its length in bytes.
pub type Layout = (&'static str, &'static [Field], usize);

fn table((title, fields, len): &Layout) -> String {
    let rows: String = fields
        .iter()
        .map(|field| format!("| {} | {} | {} | {} |\n", field.offset, field.len, field.name, field.meaning))
        .collect();
    format!(
        "<!-- table: {title}, {len} bytes -->\n| offset | bytes | field | meaning |\n|---|---|---|---|\n{rows}<!-- end -->"
    )
}

/// Fails unless the fields of each block follow each other without gaps.
pub fn assert_without_gaps(layouts: &[Layout]) {
    for (title, fields, _) in layouts {
        let mut end = 0;
        for field in *fields {
            assert_eq!(field.offset, end, "{title}: {}", field.name);
            end = field.end();
        }
    }
}

/// Fails unless a page has the table of each block, and no others.
pub fn assert_described(page: &str, layouts: &[Layout]) {
    let tables: Vec<_> = layouts.iter().map(table).collect();
    let missing: Vec<_> = tables.iter().filter(|table| !page.contains(table.as_str())).cloned().collect();
    assert!(missing.is_empty(), "FORMAT.md lacks these tables:\n\n{}", missing.join("\n\n"));
    assert_eq!(page.matches("<!-- table: ").count(), tables.len(), "a table that no constant stands behind");
}
