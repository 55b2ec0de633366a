//! The codec of history beside LZ4 and zstd: bytes per version and speed, on texts that people changed, on embeddings and
//! on fingerprints.
//!
//! The texts are those of crates of which cargo has fetched several versions, as a build of this workspace does; each file
//! that both of two neighbouring versions have, and that changed, is one step of history, the newer being the base. The
//! vectors come from a fixed seed.

pub(crate) mod corpus;
mod sides;

use std::hint::black_box;
use std::time::Instant;

use crate::harness::{BenchError, Bound, Report, as_float};
use corpus::Step;
use sides::{SIDES, Side};

/// What each side made of a set of steps.
struct Outcome {
    bytes: usize,
    encode_mb: f64,
    decode_mb: f64,
}

/// Every set with every side; the thresholds are those of sizes.
pub(crate) fn versions(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let fingerprint = |percent| move |seed| corpus::fingerprint(seed, percent);
    let steps = |make: &dyn Fn(u64) -> Step| (0..64).map(make).collect::<Vec<_>>();
    let mut sets: Vec<(String, Vec<Step>)> = Vec::new();
    for percent in [1, 2, 5] {
        sets.push((format!("fingerprints, {percent} % of bits"), steps(&fingerprint(percent))));
    }
    for (dimension, percent) in [(384, 1), (384, 5), (768, 2)] {
        let bits = |seed| corpus::embedding_bits(seed, dimension, percent);
        sets.push((format!("embeddings of {dimension}, {percent} % of bits"), steps(&bits)));
        let components = |seed| corpus::embedding_components(seed, dimension, percent);
        sets.push((format!("embeddings of {dimension}, {percent} % of components"), steps(&components)));
    }
    let texts = corpus::texts()?;
    for (name, wanted) in
        [("small", 0..8 << 10), ("middling", 8 << 10..64 << 10), ("large", 64 << 10..4 << 20)]
    {
        let chosen = texts.iter().filter(|step| wanted.contains(&step.result.len())).cloned().collect();
        sets.push((format!("texts, {name}"), chosen));
    }
    for (name, steps) in sets.iter().filter(|(_, steps)| !steps.is_empty()) {
        compare(name, steps, rounds, report)?;
    }
    Ok(())
}

fn compare(name: &str, steps: &[Step], rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let whole: usize = steps.iter().map(|step| step.result.len()).sum();
    println!("  {name}: {} versions of {} bytes", steps.len(), whole / steps.len());
    let mut outcomes = Vec::new();
    for side in SIDES {
        let outcome = measure(side, steps, rounds)?;
        println!(
            "    {:<22} {:>8.1} bytes a version, encode {:>7.1} MB/s, decode {:>8.1} MB/s",
            side.name,
            as_float(u64::try_from(outcome.bytes)?) / as_float(u64::try_from(steps.len())?),
            outcome.encode_mb,
            outcome.decode_mb
        );
        outcomes.push(outcome);
    }
    let bytes = |name: &str| {
        let at = SIDES.iter().position(|side| side.name == name);
        at.and_then(|at| outcomes.get(at)).map(|outcome| outcome.bytes)
    };
    let ours = as_float(u64::try_from(bytes("ours").unwrap_or_default())?);
    report.ratio(
        &format!("size, ours ÷ whole, {name}"),
        ours / as_float(u64::try_from(whole)?),
        Bound::AtMost(0.7),
    );
    if let Some(zstd) = bytes("zstd -3, old version") {
        // Of a delta of 40 bytes our head, which zstd has no like of, is 26.
        let limit = if name.contains("of bits") { 0.9 } else { 1.3 };
        let ratio = ours / as_float(u64::try_from(zstd)?);
        report.ratio(&format!("size, ours ÷ zstd with the base, {name}"), ratio, Bound::AtMost(limit));
    }
    Ok(())
}

fn measure(side: &Side, steps: &[Step], rounds: usize) -> Result<Outcome, BenchError> {
    let total: usize = steps.iter().map(|step| step.result.len()).sum();
    let mut codec = (side.make)()?;
    let (mut encoded, mut fastest) = (vec![Vec::new(); steps.len()], [f64::INFINITY; 2]);
    let mut out = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        for (step, encoded) in steps.iter().zip(&mut encoded) {
            codec.encode(black_box(&step.base), black_box(&step.result), encoded)?;
        }
        let encoding = start.elapsed().as_secs_f64();
        let mut decoding = 0.0;
        for (step, encoded) in steps.iter().zip(&encoded) {
            let start = Instant::now();
            codec.decode(black_box(&step.base), black_box(encoded), step.result.len(), &mut out)?;
            decoding += start.elapsed().as_secs_f64();
            if out != step.result {
                return Err(format!("{}: a version came back changed", side.name).into());
            }
        }
        fastest = [fastest[0].min(encoding), fastest[1].min(decoding)];
    }
    let megabytes = as_float(u64::try_from(total)?) / 1e6;
    let [encode_mb, decode_mb] = fastest.map(|seconds| megabytes / seconds);
    Ok(Outcome { bytes: encoded.iter().map(Vec::len).sum(), encode_mb, decode_mb })
}
