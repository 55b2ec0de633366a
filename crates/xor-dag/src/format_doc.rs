//! `FORMAT.md` holds the tables that are rendered from the constants: what is written here cannot drift from it.

use keepstone_testkit::format_page::{Layout, assert_described, assert_without_gaps};

use crate::delta::{FORMS, HEAD_FIELDS, HEAD_LEN};

const LAYOUTS: [Layout; 1] = [("head of a delta", &HEAD_FIELDS, HEAD_LEN)];

const PAGE: &str = include_str!("../FORMAT.md");

#[test]
fn every_layout_is_a_chain_without_gaps() {
    assert_without_gaps(&LAYOUTS);
}

#[test]
fn the_tables_of_the_format_page_are_those_of_the_code() {
    assert_described(PAGE, &LAYOUTS);
}

#[test]
fn the_forms_of_the_format_page_are_those_of_the_code() {
    let forms = FORMS.map(|(form, tag, _)| format!("| {tag} | {form} |"));
    for row in &forms {
        assert!(PAGE.contains(row.as_str()), "FORMAT.md lacks a row that begins with {row}");
    }
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("| tag |")).skip(2);
    assert_eq!(rows.take_while(|line| line.starts_with('|')).count(), forms.len());
}
