//! Records as they stand in a group: the bytes that decode are the bytes that encode.

use arbitrary::{Arbitrary, Unstructured};
use keepstone_types::{CodecId, Lsn};

use crate::entry::Entry;
use crate::record::{
    RECORD_HEADER_LEN, Record, RecordKind, SIDE_REFERENCE_LEN, StoredRecord, StoredRecords, TimelineRecord,
    record_header, stored_len,
};
use crate::report::ReplayedRecord;

pub(super) fn records(input: &[u8]) {
    let mut at = 0;
    let mut refused = false;
    for record in StoredRecords::new(input) {
        assert!(!refused, "after what is no record nothing is read");
        match record {
            Ok(record) => {
                let bytes = encoded(&record);
                assert_eq!(input[at..at + bytes.len()], bytes, "a record has one form");
                at += bytes.len();
                own(&record);
                entry(record.kind, record.codec, record.inline);
            }
            Err(fault) => {
                assert!(fault.to_string().len() < 200);
                refused = true;
            }
        }
    }
    assert!(refused || at == input.len(), "all bytes are records");
    let mut input = Unstructured::new(input);
    if let Ok(made) = arbitrary_entry(&mut input) {
        let Record { kind, codec, payload } = made.to_record();
        assert_eq!(decoded(kind, codec, &payload), Some(made));
        for end in [0, payload.len() / 2, payload.len() - 1] {
            assert_eq!(
                decoded(kind, codec, &payload[..end]),
                None,
                "cut to {end} of {} bytes",
                payload.len()
            );
        }
    }
}

fn encoded(record: &StoredRecord<'_>) -> Vec<u8> {
    let reference = record.side.map(|side| side.encode().to_vec()).unwrap_or_default();
    let length = record.inline.len() + reference.len();
    let header = record_header(record.kind, record.codec, record.side.is_some(), length);
    assert_eq!(stored_len(length), RECORD_HEADER_LEN + length);
    assert!(reference.is_empty() || reference.len() == SIDE_REFERENCE_LEN);
    [&header[..], record.inline, &reference].concat()
}

/// What the log's own kinds say.
fn own(record: &StoredRecord<'_>) {
    if let Some(change) = TimelineRecord::decode(record.inline) {
        assert_eq!(change.encode()[..], *record.inline, "a change of timeline has one form");
        assert!(change.next > change.after);
    }
    let kind = record.kind;
    assert_eq!(RecordKind::from_raw(kind.to_raw()), kind);
    assert!(kind.is_known() || kind.must_be_understood());
    assert!(!kind.to_string().is_empty() && !record.codec.to_string().is_empty());
}

fn decoded(kind: RecordKind, codec: CodecId, payload: &[u8]) -> Option<Entry> {
    let (payload, lsn) = (payload.into(), Lsn::FIRST);
    Entry::from_record(&ReplayedRecord { lsn, kind, codec, payload, unproven: false }).ok()
}

/// An entry may be written with longer lengths than ours; written again it is the same entry.
fn entry(kind: RecordKind, codec: CodecId, payload: &[u8]) {
    if let Some(entry) = decoded(kind, codec, payload) {
        let again = entry.to_record();
        assert!(again.payload.len() <= payload.len() + 3, "a short text may become a byte string");
        assert_eq!(decoded(again.kind, again.codec, &again.payload), Some(entry));
    }
}

fn arbitrary_entry(input: &mut Unstructured<'_>) -> arbitrary::Result<Entry> {
    let bytes = |input: &mut Unstructured<'_>| Vec::arbitrary(input);
    Ok(match input.int_in_range(0..=3)? {
        0 => Entry::Write { key: bytes(input)?, label: input.arbitrary()?, value: bytes(input)? },
        1 => Entry::Delete { key: bytes(input)? },
        2 => Entry::Link { from: bytes(input)?, verb: input.arbitrary()?, to: bytes(input)? },
        _ => Entry::Checkpoint { name: bytes(input)? },
    })
}
