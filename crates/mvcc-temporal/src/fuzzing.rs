//! Fuzz targets of the transaction layer: commit records, the store's own rows, the identity file, and whole stores whose
//! log somebody else has written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a target reports by panicking"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use keepstone_types::checksum::checksum;
use keepstone_types::{Clock, CodecId, ManualClock, StoreId, Timestamp, ValueRef, Version};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsFileExt};
use keepstone_wal::{Durability, Log, LogOptions, Record, RecordKind};

use crate::branches::{
    branch_key, branch_value, discarded_key, parse_branch_row, parse_discarded_row, split_place, tagged,
    untagged,
};
use crate::catalog::{TableId, numbered_key, parse_numbered_row, parse_table_row, table_key, table_value};
use crate::identity::{FILE_LEN, FILE_NAME, Identity, MAGIC};
use crate::log::record::{self, HEAD_LEN, Row, fill_head};
use crate::names::{NAME_PREFIX, parse_name_row};
use crate::sync::Arc;
use crate::{Access, Database, DatabaseOptions, KeyRange, Read as _, Retention, WriteError};

/// A target: name, function, most bytes of heap at once, fixed and per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// The commit record.
pub const COMMIT_RECORD: Target = ("commit_record", commit_record, [16 << 10, 400]);
/// The identity file `KEEPSTONE`, and the rows of the store's own table.
pub const IDENTITY: Target = ("identity", identity, [16 << 10, 16]);
/// A whole store: its identity file and a log of records that nearly follow each other.
pub const STORE: Target = ("store", store, [32 << 20, 1_024]);

/// A snapshot file: any bytes, and any rows behind checksums that are right.
pub const SNAPSHOT_FILE: Target = ("snapshot_file", snapshot_file, [4 << 20, 1_024]);

/// Every target of the crate.
pub const TARGETS: [Target; 4] = [COMMIT_RECORD, IDENTITY, STORE, SNAPSHOT_FILE];

fn snapshot_file(input: &[u8]) {
    crate::portable::fuzzing::file(input);
    crate::portable::fuzzing::rows(input);
}

fn commit_record(input: &[u8]) {
    decoded(input);
    let mut input = Unstructured::new(input);
    made_record(&mut input).unwrap_or_default();
    // The same bytes behind a head that is right.
    let mut bytes = vec![0; HEAD_LEN];
    fill_head(&mut bytes, Version::from_raw(1), Timestamp::EPOCH);
    bytes.extend(input.take_rest());
    decoded(&bytes);
}

/// What decodes is sorted, within its bounds, and the same when it is written again; the form itself may be longer than
/// ours.
fn decoded(bytes: &[u8]) {
    for kind in [RecordKind::COMMIT, RecordKind::ATTACH] {
        decoded_as(kind, bytes);
    }
}

fn decoded_as(kind: RecordKind, bytes: &[u8]) {
    match record::decode(kind, &ValueRef::copy_from(bytes)) {
        Ok(found) => {
            assert!(found.rows.is_sorted_by(|a, b| (a.table, &a.key) < (b.table, &b.key)));
            assert!(found.version.sequence() > 0 && found.rows.len() * 3 <= bytes.len());
            let mut again = match found.runs.is_empty() {
                true => record::encode(&found.rows),
                false => record::encode_attach(&found.runs, &found.rows),
            };
            fill_head(&mut again, found.version, found.time);
            assert!(again.len() <= bytes.len(), "no form is shorter than ours");
            assert_eq!(record::decode(kind, &again.into()), Ok(found));
        }
        Err(error) => assert!(error.to_string().len() < 10_000),
    }
}

/// Rows of a few tables, sorted.
fn arbitrary_rows(input: &mut Unstructured<'_>) -> Result<Vec<Row>> {
    let mut rows = BTreeMap::new();
    for _ in 0..input.int_in_range(0..=6_u8)? {
        let table = TableId::new(input.int_in_range(0..=3)?);
        let key: &[u8] = input.arbitrary()?;
        let value: Option<&[u8]> = input.arbitrary()?;
        rows.insert((table, key), value);
    }
    let row = |((table, key), value): ((TableId, &[u8]), Option<&[u8]>)| Row {
        table,
        key: key.into(),
        value: value.map(ValueRef::from),
    };
    Ok(rows.into_iter().map(row).collect())
}

fn made_record(input: &mut Unstructured<'_>) -> Result<()> {
    let version = Version::from_raw(input.int_in_range(1..=u64::MAX)?);
    let time = Timestamp::from_micros(input.arbitrary()?);
    let rows = arbitrary_rows(input)?;
    let mut bytes = record::encode(&rows);
    fill_head(&mut bytes, version, time);
    let bytes = ValueRef::from(bytes);
    let found = record::decode(RecordKind::COMMIT, &bytes);
    let valid = version.sequence() > 0 && rows.iter().all(|row| row.key.len() <= crate::KEY_LEN_MAX);
    assert_eq!(found.is_ok(), valid, "{found:?}");
    if let Ok(found) = found {
        assert_eq!((found.version, found.time), (version, time));
        assert_eq!(found.rows, rows);
        let cut = input.choose_index(bytes.len())?;
        assert!(
            record::decode(RecordKind::COMMIT, &bytes.slice(..cut).unwrap()).is_err(),
            "cut to {cut} of {} bytes",
            bytes.len()
        );
    }
    Ok(())
}

fn identity(input: &[u8]) {
    let decode = |bytes: &[u8]| Identity::decode(Path::new("/s/KEEPSTONE"), bytes);
    assert!(decode(input).is_err() || input.len() == FILE_LEN);
    let mut forged = input.to_vec();
    forged.resize(FILE_LEN, 0);
    forged[..MAGIC.len()].copy_from_slice(MAGIC);
    let sum = checksum(&forged[..FILE_LEN - 8]);
    forged[FILE_LEN - 8..].copy_from_slice(&sum.to_le_bytes());
    match decode(&forged) {
        Ok(found) => {
            let again = decode(&found.encode()).unwrap();
            assert_eq!(again, Identity { unknown_read_features: 0, ..found });
            // Features that may be ignored are not kept, and levels without numbers do not keep theirs.
            let plain = forged[24..40] == [0; 16] && (forged[72] == 2 || forged[76..88] == [0; 12]);
            assert!(!plain || found.encode() == forged, "an identity file has one form");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    made_identity(&mut Unstructured::new(input)).unwrap_or_default();
    own_rows(Unstructured::new(input)).unwrap_or_default();
}

fn arbitrary_identity(input: &mut Unstructured<'_>) -> Result<Identity> {
    let durability = match input.int_in_range(0..=3)? {
        0 => Durability::Full,
        1 => Durability::Normal,
        2 => {
            let max_delay = Duration::from_micros(input.arbitrary()?);
            Durability::Relaxed { max_commits: input.arbitrary()?, max_delay }
        }
        _ => Durability::None,
    };
    let (store_id, created) = (input.arbitrary()?, input.arbitrary()?);
    let (store_id, created) = (StoreId::from_bytes(store_id), Timestamp::from_micros(created));
    let retention = match input.int_in_range(0..=2)? {
        0 => Retention::Forever,
        1 => Retention::For(Duration::from_micros(input.arbitrary()?)),
        _ => Retention::None,
    };
    Ok(Identity { store_id, created, durability, retention, unknown_read_features: 0 })
}

fn made_identity(input: &mut Unstructured<'_>) -> Result<()> {
    let made = arbitrary_identity(input)?;
    let mut bytes = made.encode();
    assert_eq!(Identity::decode(Path::new("/s/KEEPSTONE"), &bytes).unwrap(), made);
    let at = input.choose_index(bytes.len())?;
    bytes[at] ^= input.int_in_range(1..=u8::MAX)?;
    assert!(Identity::decode(Path::new("/s/KEEPSTONE"), &bytes).is_err(), "byte {at} was changed");
    Ok(())
}

/// The rows of the store's own table: those that are understood have one form.
fn own_rows(mut input: Unstructured<'_>) -> Result<()> {
    let (mut key, prefix): (Vec<u8>, _) = (input.arbitrary()?, input.arbitrary::<Option<u8>>()?);
    if let Some(prefix) = prefix {
        let prefixes = [b't', NAME_PREFIX, b'u', b'b', b'd'];
        key.insert(0, *prefixes.get(usize::from(prefix) % prefixes.len()).unwrap_or(&b't'));
    }
    let value = input.take_rest();
    assert_eq!(parse_table_row(&key, None), None, "a table never goes away");
    if let Some((name, id)) = parse_table_row(&key, Some(value)) {
        assert!(id != TableId::SYSTEM);
        assert_eq!((table_key(&name), &*table_value(id)), (key.clone(), value));
    }
    if let Some(named) = parse_name_row(&key, value) {
        let expected = [named.version.to_raw().to_le_bytes(), named.named.as_micros().to_le_bytes()].concat();
        assert_eq!((named.name.as_bytes(), value), (&key[1..], &expected[..]));
        assert_eq!(parse_table_row(&key, Some(value)), None, "a row is one of the two");
    }
    rows_of_branches(&key, value);
    Ok(())
}

/// As [`own_rows`], those of branches.
fn rows_of_branches(key: &[u8], value: &[u8]) {
    if let Some((name, id)) = parse_numbered_row(key, Some(value)) {
        assert_eq!((numbered_key(&name), &*table_value(id)), (key.to_vec(), value));
    }
    if let Some(branch) = parse_branch_row(key, value, Version::from_raw(1)) {
        let expected = branch_value(branch.base, branch.forked);
        assert_eq!((branch_key(&branch.name), &expected[..]), (key.to_vec(), value));
    }
    if let Some(number) = parse_discarded_row(key, value) {
        assert_eq!((&discarded_key(number)[..], value), (key, &b""[..]));
    }
    if let Some((number, table, own)) = split_place(key) {
        assert_eq!(&number.place(table, own)[..], key);
    }
    let value = ValueRef::copy_from(value);
    if let Ok(said) = untagged(key, &value) {
        assert_eq!(tagged(said.as_deref()), value);
    }
}

const DIR: &str = "/store";

fn store(input: &[u8]) {
    let disk = MemoryVfs::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    // What is short of bytes is a shorter log.
    made_store(&mut Unstructured::new(input), &disk).unwrap_or_default();
    check_store(&disk);
}

fn log_options() -> LogOptions {
    LogOptions::default().segment_bytes_min(128 << 10).segment_bytes_max(128 << 10)
}

fn made_store(input: &mut Unstructured<'_>, disk: &MemoryVfs) -> Result<()> {
    let identity = arbitrary_identity(input)?;
    let path = Path::new(DIR).join(FILE_NAME);
    disk.open(&path, OpenOptions::CREATE_NEW).unwrap().write_all_at(&identity.encode(), 0).unwrap();
    let options = log_options().store_id(Some(identity.store_id));
    let (vfs, clock) = (Arc::new(disk.clone()), Arc::new(ManualClock::default()));
    let log = Log::open_with(vfs, clock, Path::new("/store/log"), options, &mut |_| Ok(())).unwrap();
    let (mut version, mut time) = (0, 0);
    for _ in 0..input.int_in_range(0..=5_u8)? {
        let payload = if input.ratio(1_u8, 8)? {
            input.arbitrary::<&[u8]>()?.to_vec()
        } else {
            version += u64::from(!input.ratio(1_u8, 16)?);
            time += u64::from(input.arbitrary::<u8>()?);
            commit_payload(input, version, time)?
        };
        let kind = if input.ratio(1_u8, 16)? {
            RecordKind::from_raw(input.arbitrary()?)
        } else {
            RecordKind::COMMIT
        };
        // A kind of the log's own is refused.
        if log.append(Record::with_codec(kind, CodecId::MESSAGE_PACK, payload)).is_err() {
            break;
        }
    }
    if input.arbitrary()? {
        log.close().unwrap();
    }
    Ok(())
}

fn commit_payload(input: &mut Unstructured<'_>, version: u64, time: u64) -> Result<Vec<u8>> {
    let mut rows = BTreeMap::new();
    // Tables stand in the record that first writes to them.
    for row in arbitrary_rows(input)? {
        let table = row.table;
        if table == TableId::SYSTEM {
            let name = [&[NAME_PREFIX][..], &row.key].concat();
            let named = [version.to_le_bytes(), time.to_le_bytes()].concat();
            let named = if input.ratio(1_u8, 8)? { row.value } else { Some(named.into()) };
            rows.insert((TableId::SYSTEM, ValueRef::from(name)), named);
            continue;
        }
        if !input.ratio(1_u8, 16)? {
            let key = table_key(&format!("table {}", table.get()));
            rows.insert((TableId::SYSTEM, ValueRef::from(key)), Some(table_value(table)));
        }
        rows.insert((table, row.key), row.value);
    }
    let rows: Vec<Row> = rows.into_iter().map(|((table, key), value)| Row { table, key, value }).collect();
    let mut payload = record::encode(&rows);
    fill_head(&mut payload, Version::from_raw(version), Timestamp::from_micros(time));
    if input.ratio(1_u8, 16)? {
        let at = input.choose_index(payload.len())?;
        payload[at] ^= input.int_in_range(1..=u8::MAX)?;
    }
    Ok(payload)
}

fn open(disk: &MemoryVfs, access: Access) -> std::result::Result<Database, crate::OpenError> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let options = DatabaseOptions::default().log(log_options()).access(access);
    Database::open_with(Arc::new(disk.clone()), clock, Path::new(DIR), options)
}

/// Everything that can be read of a store, at every version.
type Content = Vec<(Version, Vec<(Arc<str>, Vec<u8>, Vec<u8>)>)>;

fn content(database: &Database) -> Content {
    let commits: Vec<_> = database.commits().unwrap().map(std::result::Result::unwrap).collect();
    let mut found = Vec::new();
    for commit in &commits {
        let then = database.snapshot_at(commit.version).unwrap();
        let mut rows = Vec::new();
        for table in then.tables().unwrap() {
            for row in then.scan(&table, KeyRange::all()).unwrap() {
                let (key, value) = row.unwrap();
                assert_eq!(then.get(&table, &key).unwrap(), Some(value.clone()));
                rows.push((Arc::clone(&table), key.to_vec(), value.to_vec()));
            }
        }
        found.push((commit.version, rows));
    }
    for (version, rows) in &found {
        let changes = database.diff(Version::ZERO, *version).unwrap();
        let changes = changes.map(|change| change.unwrap()).filter(|change| change.after.is_some());
        let live: Vec<_> = changes.map(|change| (change.table, change.key.to_vec())).collect();
        let rows: Vec<_> = rows.iter().map(|(table, key, _)| (Arc::clone(table), key.clone())).collect();
        assert_eq!(
            live.len(),
            rows.len(),
            "what differs from nothing at {version} is all there is: {live:?}"
        );
    }
    for (table, key, _) in found.iter().flat_map(|(_, rows)| rows) {
        assert!(database.history(table, key).unwrap().next().is_some());
    }
    found
}

/// A store that is opened answers everything, the same after it goes on; one that is refused says why.
fn check_store(disk: &MemoryVfs) {
    let read = open(&disk.snapshot(), Access::ReadOnly).map(|database| content(&database));
    let database = match open(disk, Access::Write) {
        Ok(database) => database,
        Err(error) => {
            assert!(read.is_err(), "opens for reading and not for writing: {error}");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let before = content(&database);
    if let Ok(read) = read {
        assert_eq!(read, before);
    }
    let report = database.check().unwrap();
    // What names and branches stand for is not looked at before.
    let of_names = |place: &str| {
        ["the name", "the branch", "the rows of branches"].iter().any(|start| place.starts_with(start))
    };
    assert!(report.findings.iter().all(|finding| of_names(&finding.place)), "{:#?}", report.findings);
    drop(database.names().unwrap());
    let put = |txn: &mut crate::Txn| -> std::result::Result<(), WriteError> {
        Ok(txn.put("new", "k", b"v".as_slice())?)
    };
    let made = database.write(put).unwrap();
    let after = content(&database);
    assert!(
        after.starts_with(&before) || before.is_empty() || after.ends_with(&before),
        "nothing is forgotten"
    );
    assert_eq!(database.get("new", "k").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(made.version, Some(database.visible_version()));
    database.close().unwrap();
    assert_eq!(content(&open(disk, Access::Write).unwrap()), after);
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_hold_on_kept_and_made_inputs() {
        let made = |name: &str| if name == "store" { 300 } else { 4_000 };
        keepstone_testkit::fuzzing::run_all(env!("CARGO_MANIFEST_DIR"), &super::TARGETS, made);
    }
}
