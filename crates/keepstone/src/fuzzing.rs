//! Fuzz targets of the facade: rows, bodies, settings, and whole stores whose rows somebody else has written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a target reports by panicking"
)]

use std::path::Path;

use arbitrary::{Result, Unstructured};
use keepstone_mvcc_temporal::{Database, DatabaseOptions, LogOptions, WriteError};
use keepstone_types::{
    Address, Clock, CodecId, Fingerprint, ManualClock, NodeId, Timestamp, ValueRef, Version,
};
use keepstone_vfs::{MemoryVfs, Vfs};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::catalog::CollectionRecord;
use crate::layout::{self, AddressRow, CollectionId, KeyEntry};
use crate::options::{Access, Durability, StoreOptions};
use crate::record::NodeRecord;
use crate::settings::{Range, SETTINGS};
use crate::sync::Arc;
use crate::{Collection, CollectionOptions, Direction, NodePatch, OpenError, ReadError, Store, body, engine};

/// A target: name, function, most bytes of heap at once, fixed and per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// The rows of every table.
pub const ROWS: Target = ("rows", rows, [16 << 10, 32]);
/// Bodies in MessagePack. What decodes them takes up to a mebibyte at once for a list that says it is long.
pub const BODY: Target = ("body", body, [2 << 20, 512]);
/// Settings as the environment says them.
pub const SETTING: Target = ("setting", setting, [64 << 10, 64]);
/// A whole store of rows that nearly fit each other.
pub const STORE: Target = ("store", store, [32 << 20, 4_096]);

/// Every target of the crate.
pub const TARGETS: [Target; 4] = [ROWS, BODY, SETTING, STORE];

fn rows(input: &[u8]) {
    let value = ValueRef::copy_from(input);
    if let Ok(record) = NodeRecord::decode(&value) {
        let again = record.encode();
        assert!(again.len() <= input.len(), "no form is shorter than ours");
        // Compared as bytes: numbers that are none are not equal to themselves.
        assert_eq!(NodeRecord::decode(&ValueRef::copy_from(&again)).unwrap().encode(), again);
        assert!(again == input || again.len() < input.len(), "but for long lengths there is one form");
    }
    if let Ok(record) = CollectionRecord::decode(input) {
        let again = record.encode();
        assert!(again == input || again.len() < input.len(), "but for long lengths there is one form");
        assert_eq!(CollectionRecord::decode(&again), Ok(record));
    }
    keys_and_values(input);
    made_rows(&mut Unstructured::new(input)).unwrap_or_default();
}

/// Everything of a fixed form: what is understood is written again byte by byte.
fn keys_and_values(input: &[u8]) {
    if let Some((collection, key)) = layout::parse_key_row(input) {
        assert_eq!(layout::key_row(collection, key), input);
    }
    if let Some(entry) = KeyEntry::decode(input) {
        assert_eq!(entry.encode(), input);
    }
    if let Some(id) = layout::parse_id(input) {
        assert_eq!(id.to_bytes()[..], *input);
    }
    if let Some((near, verb, far)) = layout::parse_link_row(input) {
        assert_eq!(layout::link_row(near, &verb, far), input);
        assert!(input.starts_with(&layout::link_prefix(near, Some(&verb))));
    }
    if let Some(weight) = layout::parse_weight(input) {
        assert_eq!(&*layout::weight_value(weight), input);
    }
    if let Some(embedding) = layout::parse_embedding(input) {
        assert_eq!(&*layout::embedding_value(&embedding), input);
    }
    if let Some(row) = AddressRow::decode(input) {
        assert_eq!(row.encode(), input);
    }
    if let Some(address) = layout::parse_address_row(input) {
        assert_eq!(layout::address_row(address)[..], *input);
    }
    if let Some((id, address)) = layout::parse_address_of_row(input) {
        assert_eq!(layout::address_of_row(id, address), input);
    }
}

fn made_rows(input: &mut Unstructured<'_>) -> Result<()> {
    let collection = CollectionId(input.arbitrary()?);
    let record = NodeRecord {
        reserved: input.arbitrary()?,
        collection,
        key: input.arbitrary()?,
        label: input.arbitrary()?,
        strength: input.arbitrary()?,
        confidence: input.arbitrary()?,
        body: input.arbitrary::<Option<&[u8]>>()?.map(ValueRef::from),
    };
    let bytes = ValueRef::from(record.encode());
    let found = NodeRecord::decode(&bytes).unwrap();
    assert_eq!((&found.key, &found.label, &found.body), (&record.key, &record.label, &record.body));
    assert_eq!(found.encode(), &*bytes);
    let cut = input.choose_index(bytes.len())?;
    assert!(record.body.is_some() || NodeRecord::decode(&bytes.slice(..cut).unwrap()).is_err());
    let record = CollectionRecord {
        codec: CodecId::new(input.arbitrary()?),
        fingerprint_bits: input.arbitrary::<Option<u32>>()?.filter(|bits| *bits != 0),
        embedding_dimension: input.arbitrary::<Option<u32>>()?.filter(|dimension| *dimension != 0),
        name: input.arbitrary()?,
        schema: input.arbitrary()?,
    };
    let bytes = record.encode();
    assert!(CollectionRecord::decode(&bytes[..input.choose_index(bytes.len())?]).is_err());
    assert_eq!(CollectionRecord::decode(&bytes), Ok(record));
    Ok(())
}

fn body(input: &[u8]) {
    let plain = body::decode::<serde::de::IgnoredAny>("c", "k", input);
    if let Ok(value) = body::decode::<Value>("c", "k", input) {
        assert!(plain.is_ok(), "what is a value is MessagePack");
        let bytes = body::encode("k", &value).unwrap();
        assert_eq!(body::decode::<Value>("c", "k", &bytes).unwrap(), value);
    }
    for error in [plain.err(), body::decode::<Vec<(u8, String)>>("c", "k", input).err()].into_iter().flatten()
    {
        assert!(matches!(error, ReadError::Body { .. }) && error.to_string().len() < 1_000);
    }
    // What people write is what they read.
    if let Ok(value) = serde_json::from_slice::<Value>(input) {
        let bytes = body::encode("k", &value).unwrap();
        assert_eq!(body::decode::<Value>("c", "k", &bytes).unwrap(), value);
    }
}

fn setting(input: &[u8]) {
    variables(Unstructured::new(input)).unwrap_or_default();
}

fn variables(mut input: Unstructured<'_>) -> Result<()> {
    let mut variables = Vec::new();
    for _ in 0..input.int_in_range(1..=6_u8)? {
        let name = match input.arbitrary::<Option<u8>>()? {
            Some(at) => SETTINGS[usize::from(at) % SETTINGS.len()].info.variable.to_owned(),
            None => format!("KEEPSTONE_{}", input.arbitrary::<&str>()?),
        };
        variables.push((name, input.arbitrary::<String>()?));
    }
    let options = match StoreOptions::from_variables(variables.clone()) {
        Ok(options) => options,
        Err(error) => {
            assert!(SETTINGS.iter().any(|known| known.info.variable == error.variable));
            assert!(error.to_string().len() < 1_000, "a message has a bound: {error}");
            return Ok(());
        }
    };
    let unknown = |name: &str| SETTINGS.iter().all(|known| known.info.variable != name);
    let unknown = variables.iter().filter(|(name, _)| unknown(name)).count();
    assert_eq!(options.unknown_variables.len(), unknown, "what is not known is warned of");
    for known in &SETTINGS {
        let (crate::settings::Reach::Number(get, _), Range::Number { min, max, multiple_of }) =
            (known.access, known.info.range)
        else {
            continue;
        };
        let value = get(&options);
        assert!(value.is_none_or(|value| (min..=max).contains(&value) && value % multiple_of == 0));
    }
    if let Ok(warnings) = options.validate() {
        assert!(warnings.len() >= unknown && warnings.iter().all(|warning| !warning.to_string().is_empty()));
    }
    if let Some(durability) = options.durability {
        let variable = ("KEEPSTONE_DURABILITY".to_owned(), durability.to_string());
        let again = StoreOptions::from_variables([variable]).unwrap().durability;
        assert_eq!(again, Some(durability), "what is printed means the same");
        let below = engine::options(&options).durability.unwrap();
        assert_eq!(engine::durability_of(below), durability);
        let weak = matches!(durability, Durability::Relaxed { .. } | Durability::None);
        assert_eq!(below.may_lose_acknowledged(), weak);
    }
    Ok(())
}

const DIR: &str = "/store";

fn store(input: &[u8]) {
    let disk = MemoryVfs::new();
    disk.create_dir(Path::new("/")).unwrap_or_default();
    let mut input = Unstructured::new(input);
    let write = input.ratio(1_u8, 4).unwrap_or_default();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let log = LogOptions::default().segment_bytes_min(128 << 10).segment_bytes_max(128 << 10);
    let options = DatabaseOptions::default().log(log);
    let vfs = Arc::new(disk.clone());
    let database = Database::open_with(vfs.clone(), Arc::clone(&clock), Path::new(DIR), options).unwrap();
    for _ in 0..1 + input.arbitrary::<u8>().unwrap_or_default() % 3 {
        let put = |txn: &mut keepstone_mvcc_temporal::Txn| -> std::result::Result<(), WriteError> {
            // What is short of bytes is a smaller store.
            while let Ok((table, key, value)) = arbitrary_row(&mut input) {
                match value {
                    Some(value) => txn.put(table, key, value)?,
                    None => txn.delete(table, key)?,
                }
                if input.is_empty() || input.ratio(1_u8, 12).unwrap_or(true) {
                    break;
                }
            }
            Ok(())
        };
        // A key that is too long is refused.
        drop(database.write(put));
    }
    database.close().unwrap();
    let access = if write { Access::Write } else { Access::ReadOnly };
    let store = StoreOptions::default().access(access).open_with(vfs, clock, DIR).unwrap();
    check_store(&store, write);
}

const TABLES: [&str; 9] = [
    layout::COLLECTIONS,
    layout::KEYS,
    layout::NODES,
    layout::FINGERPRINTS,
    layout::EMBEDDINGS,
    layout::LINKS_OUT,
    layout::LINKS_IN,
    layout::ADDRESSES,
    layout::ADDRESSES_OF,
];

type FuzzRow = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// A row of few names, ids and numbers, so that rows meet each other; or of any bytes.
fn arbitrary_row(input: &mut Unstructured<'_>) -> Result<FuzzRow> {
    let table = *input.choose(&TABLES)?;
    let id = |input: &mut Unstructured<'_>| Ok(NodeId::from_bytes([input.int_in_range(0..=3)?; 16]));
    let name = *input.choose(&["c", "d", "a", "b", ""])?;
    let collection = CollectionId::of_name(if input.ratio(1_u8, 4)? { "d" } else { "c" });
    let (near, far, reserved) = (id(input)?, id(input)?, input.ratio(1_u8, 4)?);
    let number: u8 = input.arbitrary()?;
    let address = Address::new(0x10 * (number % 16), number % 3);
    let weight = || layout::weight_value(f64::from(number)).into_owned();
    let (mut key, value) = match table {
        layout::COLLECTIONS => {
            let width = Some(64 * u32::from(number % 2)).filter(|width| *width > 0);
            let record = CollectionRecord {
                codec: CodecId::MESSAGE_PACK,
                fingerprint_bits: width,
                embedding_dimension: width.map(|_| 1),
                name: name.to_owned(),
                schema: String::new(),
            };
            (CollectionId::of_name(name).key().to_vec(), record.encode())
        }
        layout::KEYS => (layout::key_row(collection, name), KeyEntry { id: near, reserved }.encode()),
        layout::NODES => {
            let body = input.arbitrary::<Option<&[u8]>>()?.map(ValueRef::from);
            let record = NodeRecord { reserved, body, ..NodeRecord::new(collection, name) };
            (near.to_bytes().to_vec(), record.encode())
        }
        layout::FINGERPRINTS => (near.to_bytes().to_vec(), vec![number; 8]),
        layout::EMBEDDINGS => (near.to_bytes().to_vec(), layout::embedding_value(&[1.0]).into_owned()),
        layout::LINKS_OUT | layout::LINKS_IN => (layout::link_row(near, "v", far), weight()),
        layout::ADDRESSES => {
            let expires = reserved.then(|| Timestamp::from_micros(number.into()));
            (layout::address_row(address).to_vec(), AddressRow { id: near, expires }.encode())
        }
        _ => (layout::address_of_row(near, address), Vec::new()),
    };
    let mut value = Some(value);
    match input.int_in_range(0..=31_u8)? {
        0 => key = input.arbitrary::<&[u8]>()?.to_vec(),
        1 => value = Some(input.arbitrary::<&[u8]>()?.to_vec()),
        2 => value = None,
        _ => {}
    }
    Ok((table, key, value))
}

/// Any body, whatever it holds.
#[derive(Clone, Copy, Debug)]
struct Any;

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Reads all there is. Gives the errors, of which each is damage.
fn errors_of(store: &Store) -> Vec<String> {
    let mut errors: Vec<ReadError> = Vec::new();
    match store.collections(store) {
        Ok(collections) => {
            for info in collections {
                let options = CollectionOptions::new().any_schema();
                match store.collection_with::<Any>(&info.name, options) {
                    Ok(nodes) => read_collection(store, &nodes, &mut errors),
                    Err(OpenError::Read(error)) => errors.push(error),
                    Err(error) => assert!(store.is_read_only() || !error.to_string().is_empty(), "{error}"),
                }
            }
        }
        Err(error) => errors.push(error),
    }
    errors.extend(store.addresses(store).err());
    errors.extend(store.diff(Version::ZERO, store.visible_version()).err());
    match store.versions() {
        Ok(versions) => {
            for info in versions {
                match info {
                    Ok(info) => assert!(info.version <= store.visible_version()),
                    Err(error) => errors.push(error),
                }
            }
        }
        Err(error) => errors.push(error),
    }
    for error in &errors {
        assert!(error.is_damage() || matches!(error, ReadError::Body { .. }), "{error}");
    }
    errors.iter().map(ToString::to_string).collect()
}

fn read_collection(store: &Store, nodes: &Collection<Any>, errors: &mut Vec<ReadError>) {
    errors.extend(nodes.iter(store).filter_map(std::result::Result::err));
    errors.extend(nodes.len(store).err());
    for key in ["c", "d", "a", "b"] {
        errors.extend(nodes.node(store, key).err());
        errors.extend(nodes.fingerprint(store, key).err());
        errors.extend(nodes.embedding(store, key).err());
        for direction in [Direction::In, Direction::Out] {
            errors.extend(nodes.links(store, key, direction).filter_map(std::result::Result::err));
        }
        errors.extend(nodes.history(store, key).filter_map(std::result::Result::err));
    }
}

/// A store that `check` finds sound answers everything, and stays sound when it is written to.
fn check_store(store: &Store, write: bool) {
    let sound = |store: &Store| {
        let report = store.check().unwrap();
        assert!(report.findings.iter().all(|finding| !finding.to_string().is_empty()));
        report.is_sound()
    };
    let was_sound = sound(store);
    let errors = errors_of(store);
    // History and differences reach back to versions that `check` does not look at.
    let one_version = store.versions().is_ok_and(|versions| versions.count() <= 1);
    assert!(!(was_sound && one_version) || errors.is_empty(), "sound, and yet: {errors:?}");
    if write {
        let made = store.collection_with::<Any>("c", CollectionOptions::new().any_schema()).map(|nodes| {
            let print = Fingerprint::from_bytes(vec![1; 8]).unwrap();
            store.write(|txn| {
                nodes.put_node(txn, "a", &NodePatch::body(Any).fingerprint(print.clone()))?;
                nodes.link(txn, "a", "v", "later", 1.0)?;
                nodes.delete(txn, "b")
            })
        });
        let written = matches!(made, Ok(Ok(_)));
        assert_eq!(sound(store), was_sound || (written && sound(store)), "writing breaks nothing");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_hold_on_kept_and_made_inputs() {
        let made = |name: &str| if name == "store" { 300 } else { 8_000 };
        keepstone_testkit::fuzzing::run_all(env!("CARGO_MANIFEST_DIR"), &super::TARGETS, made);
    }
}
