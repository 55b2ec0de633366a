//! The records of commits: how a commit stands in the log. `FORMAT.md` draws them. That of a commit with runs names these in
//! front of its rows, which are those of the store's own table alone.
//!
//! A head of fixed width, filled under the queue's lock, then MessagePack: per table its number and its rows, each a key
//! and a value or nil. Decoding trusts nothing: every length is checked against the bytes that are there before
//! anything is allocated, keys ascend, and nothing may be left over.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_btree::TreeRoot;
use keepstone_types::wire::Reader;
use keepstone_types::{Timestamp, ValueRef, Version};
use keepstone_wal::RecordKind;
use rmp::decode::{self, RmpRead};
use rmp::encode;

use crate::catalog::TableId;
use crate::runs::RunRef;

/// Bytes of the version in the head, at offset 0, little-endian.
pub(crate) const VERSION_LEN: usize = 8;
/// Bytes of the commit time in the head, after the version, little-endian microseconds since the Unix epoch.
pub(crate) const TIME_LEN: usize = 8;
/// Bytes of the head.
pub(crate) const HEAD_LEN: usize = VERSION_LEN + TIME_LEN;
const _: () = assert!(HEAD_LEN == 16);

/// The fields of the head in order, each with its length and meaning: what `FORMAT.md` is rendered from.
#[cfg(test)]
pub(crate) const HEAD_FIELDS: &[(usize, &str)] =
    &[(VERSION_LEN, "version"), (TIME_LEN, "commit time, microseconds since the Unix epoch")];

/// Rows that memory is taken for before they were seen.
const PREALLOCATED_ROWS_MAX: usize = 1_024;
/// Parts of a run: number, bytes, root.
const RUN_PARTS: u32 = 3;
/// Runs of one commit, at most: a transaction merges them long before.
const RUNS_MAX: usize = 1_024;
/// Bytes that a row has at least: an empty key and nil.
const ROW_LEN_MIN: usize = 3;

/// A row as it is written: no value is a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) table: TableId,
    pub(crate) key: ValueRef,
    pub(crate) value: Option<ValueRef>,
}

/// A decoded commit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    pub(crate) version: Version,
    pub(crate) time: Timestamp,
    /// Sorted by table, then key.
    pub(crate) rows: Vec<Row>,
    /// The runs of a large commit, newest first.
    pub(crate) runs: Vec<RunRef>,
}

/// Bytes that are not a commit record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}: expected {expected}, found {found}")]
pub(crate) struct RecordError {
    what: &'static str,
    offset: usize,
    expected: String,
    found: String,
}

/// Encodes rows, sorted by table and key, with a head of zeros that [`fill_head`] fills. Neither the number of rows nor
/// any length exceeds 32 bits; the limits of a transaction see to it.
pub(crate) fn encode(rows: &[Row]) -> Vec<u8> {
    let payload = rows.iter().map(|row| {
        let value = row.value.as_ref().map_or(0, |value| value.len());
        row.key.len().saturating_add(value).saturating_add(16)
    });
    let mut out = Vec::with_capacity(payload.fold(64, usize::saturating_add));
    out.resize(HEAD_LEN, 0);
    let written = write_rows(&mut out, rows);
    debug_assert!(written.is_ok(), "writing to memory does not fail");
    out
}

/// A commit with runs, newest first: the head is left to be filled.
pub(crate) fn encode_attach(runs: &[RunRef], rows: &[Row]) -> Vec<u8> {
    let mut out = vec![0; HEAD_LEN];
    let written = write_runs(&mut out, runs).and_then(|()| write_rows(&mut out, rows));
    debug_assert!(written.is_ok(), "writing to memory does not fail");
    out
}

fn write_runs(out: &mut Vec<u8>, runs: &[RunRef]) -> Result<(), encode::ValueWriteError> {
    encode::write_array_len(out, u32::try_from(runs.len()).unwrap_or(u32::MAX))?;
    for run in runs {
        encode::write_array_len(out, RUN_PARTS)?;
        encode::write_uint(out, run.number)?;
        encode::write_uint(out, run.bytes)?;
        encode::write_bin(out, &run.root.to_bytes())?;
    }
    Ok(())
}

fn write_rows(out: &mut Vec<u8>, rows: &[Row]) -> Result<(), encode::ValueWriteError> {
    let len = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let by_table = || rows.chunk_by(|a, b| a.table == b.table);
    encode::write_array_len(out, len(by_table().count()))?;
    for group in by_table() {
        encode::write_array_len(out, 2)?;
        encode::write_uint(out, group.first().map_or(0, |row| u64::from(row.table.get())))?;
        encode::write_array_len(out, len(group.len().saturating_mul(2)))?;
        for row in group {
            encode::write_bin(out, &row.key)?;
            match &row.value {
                Some(value) => encode::write_bin(out, value)?,
                None => encode::write_nil(out).map_err(encode::ValueWriteError::InvalidMarkerWrite)?,
            }
        }
    }
    Ok(())
}

/// Fills the head of an encoded record.
pub(crate) fn fill_head(head: &mut [u8], version: Version, time: Timestamp) {
    if let Some((to_version, rest)) = head.split_at_mut_checked(VERSION_LEN) {
        to_version.copy_from_slice(&version.to_raw().to_le_bytes());
        if let Some(to_time) = rest.get_mut(..TIME_LEN) {
            to_time.copy_from_slice(&time.as_micros().to_le_bytes());
        }
    }
}

/// A place in the MessagePack part.
struct Body<'a> {
    payload: &'a ValueRef,
    rest: &'a [u8],
}

impl Body<'_> {
    fn offset(&self) -> usize {
        self.payload.len().saturating_sub(self.rest.len())
    }

    fn error(&self, what: &'static str, expected: impl ToString, found: impl ToString) -> RecordError {
        RecordError { what, offset: self.offset(), expected: expected.to_string(), found: found.to_string() }
    }

    fn array_len(&mut self, what: &'static str) -> Result<usize, RecordError> {
        let read = decode::read_array_len(&mut self.rest);
        let len = read.map_err(|error| self.error(what, "a MessagePack array", error))?;
        usize::try_from(len).map_err(|_| self.error(what, "a length that fits memory", len))
    }

    fn number(&mut self, what: &'static str) -> Result<u32, RecordError> {
        decode::read_int(&mut self.rest).map_err(|error| self.error(what, "a number of 32 bits", error))
    }

    fn long(&mut self, what: &'static str) -> Result<u64, RecordError> {
        decode::read_int(&mut self.rest).map_err(|error| self.error(what, "a number of 64 bits", error))
    }

    /// A byte string that shares the payload's memory.
    fn bytes(&mut self, what: &'static str, len_max: usize) -> Result<ValueRef, RecordError> {
        let read = decode::read_bin_len(&mut self.rest);
        let len = read.map_err(|error| self.error(what, "a MessagePack byte string", error))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > len_max {
            return Err(self.error(what, format!("at most {len_max} bytes"), len));
        }
        let start = self.offset();
        let end = start.saturating_add(len);
        let found = self.rest.len();
        let taken = self.payload.slice(start..end);
        let taken = taken.ok_or_else(|| self.error(what, format!("{len} bytes"), found))?;
        self.rest = self.rest.get(len..).unwrap_or_default();
        Ok(taken)
    }

    fn bytes_or_nil(&mut self, what: &'static str, len_max: usize) -> Result<Option<ValueRef>, RecordError> {
        if self.rest.first() == Some(&rmp::Marker::Null.to_u8()) {
            let read = self.rest.read_u8();
            read.map_err(|error| self.error(what, "nil", error))?;
            return Ok(None);
        }
        self.bytes(what, len_max).map(Some)
    }
}

/// Decodes a record of a kind that [`is_commit`]; keys and values share the payload's memory.
pub(crate) fn decode(kind: RecordKind, payload: &ValueRef) -> Result<CommitRecord, RecordError> {
    let mut head = Reader::new(payload);
    let truncated = |_| RecordError {
        what: "the head",
        offset: 0,
        expected: format!("{HEAD_LEN} bytes"),
        found: payload.len().to_string(),
    };
    let version = Version::from_raw(head.u64().map_err(truncated)?);
    let time = Timestamp::from_micros(head.u64().map_err(truncated)?);
    let mut body = Body { payload, rest: head.rest() };
    if version.sequence() == 0 {
        return Err(body.error("the version", "a sequence above 0", version));
    }
    let runs = if kind == RecordKind::ATTACH { decode_runs(&mut body)? } else { Vec::new() };
    let rows = decode_rows(&mut body)?;
    if let Some(row) = rows.iter().find(|row| !runs.is_empty() && row.table != TableId::SYSTEM) {
        return Err(body.error("a row beside runs", "the store's own table", row.table.get()));
    }
    if !body.rest.is_empty() {
        return Err(body.error("the end", "no more bytes", body.rest.len()));
    }
    Ok(CommitRecord { version, time, rows, runs })
}

/// Whether records of a kind are commits.
pub(crate) fn is_commit(kind: RecordKind) -> bool {
    kind == RecordKind::COMMIT || kind == RecordKind::ATTACH
}

fn decode_runs(body: &mut Body<'_>) -> Result<Vec<RunRef>, RecordError> {
    let count = body.array_len("the runs")?;
    if count == 0 || count > RUNS_MAX {
        return Err(body.error("the runs", format!("1 to {RUNS_MAX}"), count));
    }
    let mut runs: Vec<RunRef> = Vec::new();
    for _ in 0..count {
        let parts = body.array_len("a run")?;
        if parts != usize::try_from(RUN_PARTS).unwrap_or(usize::MAX) {
            return Err(body.error("a run", format!("{RUN_PARTS} parts"), parts));
        }
        let (number, bytes) = (body.long("a run's number")?, body.long("a run's bytes")?);
        let root = body.bytes("a run's root", TreeRoot::LEN)?;
        let mut reader = Reader::new(&root);
        let root = match TreeRoot::read(&mut reader) {
            Ok(found) if reader.is_empty() && !found.is_empty() => found,
            _ => return Err(body.error("a run's root", "the root of a tree with rows", root.escape_ascii())),
        };
        if runs.iter().any(|run| run.number == number) {
            return Err(body.error("a run's number", "another than those before", number));
        }
        runs.push(RunRef { number, bytes, root });
    }
    Ok(runs)
}

fn decode_rows(body: &mut Body<'_>) -> Result<Vec<Row>, RecordError> {
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..body.array_len("the tables")? {
        let parts = body.array_len("a table")?;
        if parts != 2 {
            return Err(body.error("a table", "2 parts", parts));
        }
        let table = TableId::new(body.number("a table's number")?);
        let cells = body.array_len("a table's rows")?;
        let count = cells / 2;
        if cells % 2 != 0 || cells == 0 {
            return Err(body.error("a table's rows", "an even number above 0", cells));
        }
        if count > body.rest.len() / ROW_LEN_MIN {
            return Err(body.error("a table's rows", "no more rows than bytes for them", count));
        }
        rows.reserve(count.min(PREALLOCATED_ROWS_MAX));
        let (key_len_max, value_len_max) = table.stored_len_max();
        for _ in 0..count {
            let key = body.bytes("a key", key_len_max)?;
            if rows.last().is_some_and(|last| (last.table, &last.key) >= (table, &key)) {
                return Err(body.error("a key", "tables and keys in ascending order", key.escape_ascii()));
            }
            let value = body.bytes_or_nil("a value", value_len_max)?;
            rows.push(Row { table, key, value });
        }
    }
    Ok(rows)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn encoded(rows: &[Row]) -> ValueRef {
        let mut bytes = encode(rows);
        fill_head(&mut bytes[..HEAD_LEN], Version::from_raw(7), Timestamp::from_micros(9));
        ValueRef::from(bytes)
    }

    type Model = BTreeMap<(u32, Vec<u8>), Option<Vec<u8>>>;

    fn rows_of(model: &Model) -> Vec<Row> {
        let row = |((table, key), value): (&(u32, Vec<u8>), &Option<Vec<u8>>)| Row {
            table: TableId::new(*table),
            key: ValueRef::from(&key[..]),
            value: value.as_ref().map(|value| ValueRef::from(&value[..])),
        };
        model.iter().map(row).collect()
    }

    fn any_model() -> impl Strategy<Value = Model> {
        let place = (0_u32..4, proptest::collection::vec(any::<u8>(), 0..40));
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
        proptest::collection::btree_map(place, value, 0..40)
    }

    proptest! {
        #[test]
        fn records_round_trip(model in any_model()) {
            let rows = rows_of(&model);
            let record = decode(RecordKind::COMMIT, &encoded(&rows)).unwrap();
            prop_assert_eq!((record.version.to_raw(), record.time.as_micros()), (7, 9));
            prop_assert_eq!(record.rows, rows);
        }

        #[test]
        fn records_with_runs_round_trip(model in any_model(), numbers in proptest::collection::btree_set(any::<u64>(), 1..5)) {
            let root = |number: u64| {
                let mut pages = keepstone_pager::MemoryPages::new(4_056);
                let mut builder = keepstone_btree::Builder::new(&mut pages, keepstone_btree::Fill::FULL);
                let value = keepstone_btree::NewValue::bytes(ValueRef::copy_from(&number.to_le_bytes()));
                builder.push(b"key", value).unwrap();
                builder.finish().unwrap()
            };
            let run = |number: &u64| RunRef { number: *number, bytes: number / 2, root: root(*number) };
            let runs: Vec<_> = numbers.iter().map(run).collect();
            let mut rows = rows_of(&model);
            rows.retain(|row| row.table == TableId::SYSTEM);
            let mut bytes = encode_attach(&runs, &rows);
            fill_head(&mut bytes[..HEAD_LEN], Version::from_raw(7), Timestamp::from_micros(9));
            let bytes = ValueRef::from(bytes);
            let record = decode(RecordKind::ATTACH, &bytes).unwrap();
            prop_assert_eq!((record.rows, record.runs), (rows, runs));
            for len in 0..bytes.len() {
                prop_assert!(decode(RecordKind::ATTACH, &bytes.slice(..len).unwrap()).is_err());
            }
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let bytes = ValueRef::from(bytes);
            let _any = (decode(RecordKind::COMMIT, &bytes), decode(RecordKind::ATTACH, &bytes));
        }

        #[test]
        fn a_changed_byte_is_refused_or_read_as_another_valid_record(model in any_model(), at: usize, to: u8) {
            let mut bytes = encoded(&rows_of(&model)).into_owned();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(record) = decode(RecordKind::COMMIT, &ValueRef::from(bytes)) {
                prop_assert!(record.rows.is_sorted_by(|a, b| (a.table, &a.key) < (b.table, &b.key)));
            }
        }

        #[test]
        fn every_cut_is_refused(model in any_model()) {
            let bytes = encoded(&rows_of(&model));
            for len in 0..bytes.len() {
                prop_assert!(decode(RecordKind::COMMIT, &bytes.slice(..len).unwrap()).is_err(), "cut to {} of {}", len, bytes.len());
            }
        }
    }

    /// The same content as JSON, as serde writes it.
    fn as_json(rows: &[Row]) -> Vec<u8> {
        let rows = rows.iter().map(|row| {
            let value = row.value.as_deref();
            serde_json::json!({ "table": row.table.get(), "key": &row.key[..], "value": value })
        });
        let rows: Vec<_> = rows.collect();
        let record = serde_json::json!({ "version": 7, "time": 1_700_000_000_000_000_u64, "rows": rows });
        serde_json::to_vec(&record).unwrap()
    }

    fn rows_from_json(json: &[u8]) -> Vec<Row> {
        let bytes = |value: &serde_json::Value| -> ValueRef {
            let numbers = value.as_array().unwrap().iter();
            numbers.map(|number| u8::try_from(number.as_u64().unwrap()).unwrap()).collect::<Vec<_>>().into()
        };
        let record: serde_json::Value = serde_json::from_slice(json).unwrap();
        let rows = record["rows"].as_array().unwrap().iter();
        rows.map(|row| Row {
            table: TableId::new(row["table"].as_u64().unwrap().try_into().unwrap()),
            key: bytes(&row["key"]),
            value: row["value"].is_array().then(|| bytes(&row["value"])),
        })
        .collect()
    }

    /// Rows with a 16-byte id as key and a value of `len` bytes that look random.
    fn node_rows(count: u64, len: usize) -> Vec<Row> {
        let random = |seed: u64, len: usize| -> Vec<u8> {
            let block = |part: usize| {
                keepstone_types::checksum::checksum(
                    &[seed, u64::try_from(part).unwrap()].map(u64::to_le_bytes).concat(),
                )
            };
            (0..len.div_ceil(8)).flat_map(|part| block(part).to_le_bytes()).take(len).collect()
        };
        let mut rows: Vec<_> = (0..count)
            .map(|seed| Row {
                table: TableId::new(3),
                key: ValueRef::from(random(seed, 16)),
                value: Some(ValueRef::from(random(seed + count, len))),
            })
            .collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    }

    /// S3: MessagePack is at least 4.4 times smaller than JSON on a metadata record: ids and no bodies, here of 100 nodes
    /// that go. JSON has no byte strings; as serde writes them, an array of numbers, a random byte takes 3.57 characters, so
    /// the longer the bodies the closer the ratio comes to that.
    #[test]
    fn a_metadata_record_is_4_4_times_smaller_than_json() {
        let ratio = |rows: &[Row]| {
            let (ours, json) = (encoded(rows).len(), as_json(rows).len());
            (ours, json, json * 100 / ours)
        };
        for (what, rows) in [
            ("strength and confidence of one node", node_rows(1, 8)),
            ("strength and confidence of 100 nodes", node_rows(100, 8)),
            ("one node's text of 200 bytes", node_rows(1, 200)),
            ("one fingerprint of 2,048 bytes", node_rows(1, 2_048)),
            ("1,000 texts of 200 bytes", node_rows(1_000, 200)),
        ] {
            let (ours, json, percent) = ratio(&rows);
            println!("{what}: {ours} bytes, JSON {json}: {}.{:02} times", percent / 100, percent % 100);
        }
        let gone: Vec<_> = node_rows(100, 0).into_iter().map(|row| Row { value: None, ..row }).collect();
        let (ours, json, percent) = ratio(&gone);
        println!(
            "100 nodes that go: {ours} bytes, JSON {json}: {}.{:02} times",
            percent / 100,
            percent % 100
        );
        assert!(percent >= 440, "{percent} %");
    }

    /// S3: encoding and decoding is at least twice as fast as JSON. Best of several runs each.
    #[test]
    fn encoding_and_decoding_is_twice_as_fast_as_json() {
        let rows = node_rows(1_000, 64);
        let best = |run: &dyn Fn() -> Vec<Row>| {
            let time = || {
                let started = std::time::Instant::now();
                assert_eq!(run().len(), rows.len());
                started.elapsed()
            };
            (0..10).map(|_| time()).min().unwrap()
        };
        let ours = best(&|| decode(RecordKind::COMMIT, &encoded(&rows)).unwrap().rows);
        let json = best(&|| rows_from_json(&as_json(&rows)));
        println!("1,000 rows of 64 bytes: {ours:?}, JSON {json:?}");
        assert!(json >= ours * 2, "{ours:?} against {json:?}");
    }

    #[test]
    fn hostile_bytes_are_named() {
        let body = |body: &[u8]| {
            let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend_from_slice(body);
            decode(RecordKind::COMMIT, &ValueRef::from(bytes)).unwrap_err().to_string()
        };
        for (bytes, part) in [
            (&[][..], "the tables at byte 16"),
            (&[0xC0], "the tables at byte 17"),
            (&[0x90, 0x00], "the end at byte 17"),
            (&[0x91, 0x91], "a table at byte 18: expected 2 parts, found 1"),
            (&[0x91, 0x92, 0xCF, 1, 0, 0, 0, 0, 0, 0, 0], "a table's number"),
            (&[0x91, 0x92, 0x01, 0x90], "expected an even number above 0, found 0"),
            (&[0x91, 0x92, 0x01, 0x91, 0xC4, 0], "expected an even number above 0, found 1"),
            (&[0x91, 0x92, 0x01, 0xDD, 0xFF, 0xFF, 0xFF, 0xFE], "no more rows than bytes"),
            (&[0x91, 0x92, 0x01, 0x92, 0xC6, 0xFF, 0xFF, 0xFF, 0xFF], "at most 1024 bytes"),
            (&[0x91, 0x92, 0x01, 0x92, 0xC4, 5, 1, 2, 0xC0], "expected 5 bytes, found 3"),
            (&[0x91, 0x92, 0x01, 0x92, 0xC4, 0, 0xC2], "a value"),
            (&[0x91, 0x92, 0x01, 0x94, 0xC4, 0, 0xC0, 0xC4, 0, 0xC0], "ascending order"),
            (&[0x92, 0x92, 1, 0x92, 0xC4, 0, 0xC0, 0x92, 1, 0x92, 0xC4, 0, 0xC0], "ascending order"),
        ] {
            let found = body(bytes);
            assert!(found.contains(part), "{bytes:02x?}: {found}");
        }
        assert!(
            decode(RecordKind::COMMIT, &ValueRef::from(vec![0; 17]))
                .unwrap_err()
                .to_string()
                .contains("the version")
        );
    }
}
