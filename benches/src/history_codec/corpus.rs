//! What is coded: pairs of a version and the next newer one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::BenchError;
use crate::workload::scramble;

/// A version, and the next newer one that it is coded against.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) base: Vec<u8>,
    pub(crate) result: Vec<u8>,
}

/// Numbers of a fixed seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        scramble(self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn one_in_hundred(&mut self, percent: u64) -> bool {
        (self.next() >> 20) % 100 < percent
    }
}

fn bits_flipped(base: Vec<u8>, percent: u64, random: &mut Random) -> Step {
    let mut result = base.clone();
    for byte in &mut result {
        for bit in 0..8 {
            *byte ^= u8::from(random.one_in_hundred(percent)) << bit;
        }
    }
    Step { base, result }
}

/// A fingerprint of 16,384 bits.
pub(super) fn fingerprint(seed: u64, percent: u64) -> Step {
    let mut random = Random(seed << 32);
    let base = (0..256).flat_map(|_| random.next().to_le_bytes()).collect();
    bits_flipped(base, percent, &mut random)
}

/// A component as models give them: between -1 and 1, most of them small.
fn component(random: &mut Random) -> f32 {
    let mut part = || f32::from(u16::try_from(random.next() & 0xFFFF).unwrap_or_default()) / 65_536.0 - 0.5;
    (part() + part() + part()) / 3.0
}

fn embedding(dimension: usize, random: &mut Random) -> Vec<u8> {
    (0..dimension).flat_map(|_| component(random).to_le_bytes()).collect()
}

/// A vector of floats of which bits flipped.
pub(super) fn embedding_bits(seed: u64, dimension: usize, percent: u64) -> Step {
    let mut random = Random(seed << 32 | 1);
    let base = embedding(dimension, &mut random);
    bits_flipped(base, percent, &mut random)
}

/// A vector of floats of which some were set anew.
pub(super) fn embedding_components(seed: u64, dimension: usize, percent: u64) -> Step {
    let mut random = Random(seed << 32 | 2);
    let base = embedding(dimension, &mut random);
    let mut result = base.clone();
    for place in result.chunks_exact_mut(4) {
        if random.one_in_hundred(percent) {
            place.copy_from_slice(&component(&mut random).to_le_bytes());
        }
    }
    Step { base, result }
}

/// Crates whose versions are taken, at most.
const PAIRS_MAX: usize = 60;

/// Files that changed between neighbouring versions of the crates that cargo has fetched.
pub(crate) fn texts() -> Result<Vec<Step>, BenchError> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let sources = home.ok_or("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    let mut crates: BTreeMap<String, Vec<(Vec<u64>, PathBuf)>> = BTreeMap::new();
    for registry in entries(&sources)? {
        for folder in entries(&registry)? {
            let name = folder.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if let Some((name, version)) = name_and_version(name) {
                crates.entry(name).or_default().push((version, folder));
            }
        }
    }
    let mut steps = Vec::new();
    let mut pairs = 0;
    for versions in crates.values_mut() {
        versions.sort();
        for pair in versions.windows(2) {
            let [(_, older), (_, newer)] = pair else { continue };
            pairs += 1;
            if pairs <= PAIRS_MAX {
                changed_texts(older, newer, &mut steps)?;
            }
        }
    }
    println!("  texts: {} files that changed, of {} pairs of versions", steps.len(), pairs.min(PAIRS_MAX));
    Ok(steps)
}

/// `serde_json-1.0.154` as its name and its numbers.
fn name_and_version(folder: &str) -> Option<(String, Vec<u64>)> {
    let (name, version) = folder.rsplit_once('-')?;
    let numbers = version.split('+').next()?.split('.').map(|part| part.parse().ok());
    Some((name.to_owned(), numbers.collect::<Option<_>>()?))
}

/// What is in a folder, sorted; nothing of what is no folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, BenchError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    Ok(entries)
}

fn changed_texts(older: &Path, newer: &Path, steps: &mut Vec<Step>) -> Result<(), BenchError> {
    for path in entries(newer)? {
        let Some(name) = path.file_name() else { continue };
        let before = older.join(name);
        if path.is_dir() {
            changed_texts(&before, &path, steps)?;
        } else if before.is_file() && path.extension().is_some_and(|kind| kind == "rs" || kind == "md") {
            let (base, result) = (fs::read(&path)?, fs::read(&before)?);
            if base != result && !result.is_empty() {
                steps.push(Step { base, result });
            }
        }
    }
    Ok(())
}
