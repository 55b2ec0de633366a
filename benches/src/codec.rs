//! The log's encoding beside JSON: size and speed on a metadata record and on others (printed).

use std::hint::black_box;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::harness::{BenchError, Bound, Report, median_step, side_by_side};
use crate::workload::scramble;

/// What is kept about a node beside its content: numbers under long names, the case MessagePack without names is for.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Metadata {
    collection: u32,
    label: u32,
    created_version: u64,
    updated_version: u64,
    commit_time_micros: u64,
    links_out: u32,
    links_in: u32,
    body_codec: u8,
    body_bytes: u32,
    fingerprint_bits: u32,
    embedding_dimension: u16,
    strength: f32,
    confidence: f32,
    deleted: bool,
}

/// A record of bytes, in which MessagePack copies and JSON counts.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Numbers {
    embedding: Vec<f32>,
    identifiers: Vec<u64>,
}

/// A record of text, in which the two encodings are close.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Text {
    title: String,
    body: String,
    tags: Vec<String>,
}

fn metadata() -> Metadata {
    Metadata {
        collection: 3,
        label: 71,
        created_version: 1_204,
        updated_version: 86_113,
        commit_time_micros: 1_700_000_000_000_000,
        links_out: 14,
        links_in: 122,
        body_codec: 1,
        body_bytes: 1_893,
        fingerprint_bits: 16_384,
        embedding_dimension: 384,
        strength: 0.75,
        confidence: 0.5,
        deleted: false,
    }
}

fn numbers() -> Numbers {
    Numbers {
        embedding: (0_u8..128).map(|place| f32::from(place).sin()).collect(),
        identifiers: (0..64).map(scramble).collect(),
    }
}

fn text() -> Text {
    Text {
        title: "On keeping stones".to_owned(),
        body: "A keystone holds an arch; a keepstone holds what was said. ".repeat(8),
        tags: ["arch", "stone", "memory"].map(str::to_owned).to_vec(),
    }
}

/// MessagePack against JSON.
pub(crate) fn message_pack_against_json(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    compare("metadata", &metadata(), rounds, report, Bound::AtLeast(4.4), Bound::AtLeast(2.0))?;
    compare("text", &text(), rounds, report, Bound::Printed, Bound::Printed)?;
    compare("numbers", &numbers(), rounds, report, Bound::Printed, Bound::Printed)
}

fn compare<T: Serialize + DeserializeOwned + PartialEq>(
    name: &str,
    record: &T,
    rounds: usize,
    report: &mut Report,
    size: Bound,
    speed: Bound,
) -> Result<(), BenchError> {
    let (packed, json) = (rmp_serde::to_vec(record)?, serde_json::to_vec(record)?);
    if rmp_serde::from_slice::<T>(&packed)? != *record || serde_json::from_slice::<T>(&json)? != *record {
        return Err(format!("{name}: a record came back changed").into());
    }
    println!("  {name}: {} bytes of MessagePack, {} of JSON", packed.len(), json.len());
    let bytes = |count: usize| u32::try_from(count).map(f64::from);
    report.ratio(
        &format!("size of JSON ÷ MessagePack, {name}"),
        bytes(json.len())? / bytes(packed.len())?,
        size,
    );
    let repeat = |step: &dyn Fn() -> Result<(), BenchError>| {
        median_step(20, |_| {
            for _ in 0..500 {
                step()?;
            }
            Ok(())
        })
    };
    let (ratio, ..) = side_by_side(
        rounds,
        || {
            repeat(&|| {
                let bytes = serde_json::to_vec(black_box(record))?;
                black_box(serde_json::from_slice::<T>(&bytes)?);
                Ok(())
            })
        },
        || {
            repeat(&|| {
                let bytes = rmp_serde::to_vec(black_box(record))?;
                black_box(rmp_serde::from_slice::<T>(&bytes)?);
                Ok(())
            })
        },
    )?;
    report.ratio(&format!("time of JSON ÷ MessagePack, {name}"), ratio, speed);
    Ok(())
}
