//! Holds FORMAT.md against the constants, so that it cannot drift.

use crate::ground::meta::META_FIELDS;
use crate::identity::FIELDS;
use crate::log::record::HEAD_FIELDS;
use crate::portable::{head, trailer};

const DOCUMENT: &str = include_str!("../FORMAT.md");

fn rendered(fields: &[(usize, &str)]) -> String {
    let mut table = "| offset | bytes | content |\n|---:|---:|---|\n".to_owned();
    let mut offset = 0;
    for (len, content) in fields {
        table.push_str(&format!("| {offset} | {len} | {content} |\n"));
        offset += len;
    }
    table
}

#[test]
fn the_tables_of_the_document_are_those_of_the_code() {
    let meanings = |fields: &[keepstone_types::layout::Field]| -> Vec<_> {
        fields.iter().map(|field| (field.len, field.meaning)).collect()
    };
    let (head, trailer) = (meanings(&head::HEAD_FIELDS), meanings(&trailer::TRAILER_FIELDS));
    let tables = [
        ("identity", FIELDS),
        ("head", HEAD_FIELDS),
        ("meta", META_FIELDS),
        ("snapshot-head", &head),
        ("snapshot-trailer", &trailer),
    ];
    for (mark, fields) in tables {
        let table = rendered(fields);
        let begin = format!("<!-- {mark} -->\n");
        let (_, rest) = DOCUMENT.split_once(&begin).unwrap();
        let (found, _) = rest.split_once("<!-- end -->").unwrap();
        assert_eq!(found, table, "FORMAT.md, {mark}: it should read\n{table}");
    }
}

#[test]
fn the_limits_of_the_document_are_those_of_the_code() {
    assert!(DOCUMENT.contains("at most 1,024 bytes") && crate::limits::KEY_LEN_MAX == 1_024);
    assert!(DOCUMENT.contains("at most 64 MiB") && crate::limits::VALUE_LEN_MAX == 64 << 20);
}
