//! What history as chains costs and saves, beside the same store that keeps older versions whole: folding, pages, and
//! reading so many versions back.
//!
//! Files are in memory, so that folding is judged by its work alone; on a disk the fewer pages count for it.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keepstone_mvcc_temporal::{
    CheckpointOptions, Database, DatabaseOptions, Durability, HistoryCoding, Read as _, Retention, Snapshot,
};
use keepstone_types::Version;
use keepstone_vfs::MemoryVfs;

use crate::harness::{BenchError, Bound, Report, as_float, in_turns, median, median_step, per_round};
use crate::history_codec::corpus;
use crate::workload::{TABLE, commit_rows, key, open, scramble, value};

/// Bytes of the pages that the stores have.
const PAGE_BYTES: u64 = 8_192;
/// Rows that are updated, and updates of a round.
const ROWS: u64 = 20_000;
const UPDATES: u64 = 20_000;
/// Vectors, and versions of each.
const VECTORS: u64 = 200;
const VERSIONS: u64 = 16;
/// Bits that flip in a version: 2 % of a fingerprint.
const FLIPPED: u64 = 328;
/// Versions of the rows that are read back.
const DEEP: u64 = 1_100;
/// Reads that are timed as one, and how often.
const READS: u32 = 32;
const TIMINGS: usize = 60;

/// The sides: chains, and whole values.
const SIDES: [(&str, HistoryCoding); 2] =
    [("chains", HistoryCoding::Chains), ("whole", HistoryCoding::Whole)];

/// What is folded, a part at a time: rows by number.
type Parts = Vec<Vec<(u64, Vec<u8>)>>;

/// A workload: what is there before, and what displaces it; bounds on the time to fold and on the pages that history takes.
struct Workload {
    name: &'static str,
    before: Vec<(u64, Vec<u8>)>,
    parts: Parts,
    time: Bound,
    pages: Bound,
}

fn options(coding: HistoryCoding, retention: Retention) -> DatabaseOptions {
    let checkpoint = CheckpointOptions::default().age(Duration::ZERO).idle(Duration::ZERO).memory_bytes(0);
    let options = DatabaseOptions::default().checkpoint(checkpoint).durability(Durability::None);
    options.history(coding).retention(retention).cache_bytes(256_u64 << 20)
}

fn store(coding: HistoryCoding, retention: Retention) -> Result<Database, BenchError> {
    open(Arc::new(MemoryVfs::new()), Path::new("/store"), options(coding, retention))
}

fn commit(database: &Database, rows: &[(u64, Vec<u8>)]) -> Result<(), BenchError> {
    let mut txn = database.begin()?;
    for (row, value) in rows {
        txn.put(TABLE, key(*row), value.as_slice())?;
    }
    txn.commit()?;
    Ok(())
}

/// The time that folding takes.
fn fold(database: &Database) -> Result<f64, BenchError> {
    let start = Instant::now();
    database.checkpoint()?;
    Ok(start.elapsed().as_secs_f64())
}

fn used_bytes(database: &Database) -> f64 {
    as_float(database.stats().pages.used_slots * PAGE_BYTES)
}

/// Random updates of values that do not compress.
fn noise() -> Workload {
    let part = |round: u64| {
        (0..UPDATES)
            .map(|number| (scramble(number ^ (round << 40)) % ROWS, value(number ^ (round << 32))))
            .collect()
    };
    Workload {
        name: "150 bytes of noise",
        before: (0..ROWS).map(|row| (row, value(row))).collect(),
        parts: (1..4).map(part).collect(),
        time: Bound::AtMost(1.5),
        pages: Bound::AtMost(1.02),
    }
}

/// Flips so many bits of a fingerprint, at places that a seed says.
fn flip(bits: &mut [u8], seed: u64, count: u64) {
    for flip in 0..count {
        let place = usize::try_from(scramble(seed << 32 | flip) % (2_048 * 8)).unwrap_or_default();
        if let Some(byte) = bits.get_mut(place / 8) {
            *byte ^= 1 << (place % 8);
        }
    }
}

/// Fingerprints of which a few bits flip from version to version.
fn fingerprints() -> Workload {
    let flipped = |vector: u64, version: u64| {
        let mut bits: Vec<u8> =
            (0..256).flat_map(|part| scramble(vector << 16 | part).to_le_bytes()).collect();
        flip(&mut bits, vector, version * FLIPPED);
        bits
    };
    let part = |version| (0..VECTORS).map(|vector| (vector, flipped(vector, version))).collect();
    Workload {
        name: "fingerprints, 2 % of bits",
        before: part(0),
        parts: (1..VERSIONS).map(part).collect(),
        time: Bound::Printed,
        pages: Bound::AtMost(0.35),
    }
}

/// Texts that people changed: each file as it was, then as it became.
fn texts() -> Result<Workload, BenchError> {
    let steps = corpus::texts()?;
    let steps = || (0_u64..).zip(steps.iter().filter(|step| step.result.len() <= 64 << 10));
    Ok(Workload {
        name: "texts",
        before: steps().map(|(row, step)| (row, step.result.clone())).collect(),
        parts: vec![steps().map(|(row, step)| (row, step.base.clone())).collect()],
        time: Bound::Printed,
        pages: Bound::AtMost(0.35),
    })
}

/// Both sides of each workload.
pub(crate) fn coding(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    for workload in [noise(), fingerprints(), texts()?] {
        if workload.before.is_empty() {
            println!("  {}: nothing to take them from", workload.name);
            continue;
        }
        beside_whole(&workload, rounds, report)?;
    }
    loading(rounds, report)
}

fn beside_whole(workload: &Workload, rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let mut bytes = [0.0; 2];
    let mut sides: Vec<_> = SIDES.iter().zip(&mut bytes).collect();
    let figures = in_turns(rounds, &mut sides, |((_, coding), bytes), _| {
        let database = store(*coding, Retention::Forever)?;
        commit(&database, &workload.before)?;
        database.checkpoint()?;
        let before = used_bytes(&database);
        let mut time = 0.0;
        for part in &workload.parts {
            commit(&database, part)?;
            time += fold(&database)?;
        }
        **bytes = used_bytes(&database) - before;
        database.close()?;
        Ok(time)
    })?;
    let versions = as_float(u64::try_from(workload.parts.iter().map(Vec::len).sum::<usize>())?);
    for (((name, _), times), bytes) in SIDES.iter().zip(&figures).zip(bytes) {
        let (micros, bytes) = (median(times.clone()) * 1e6 / versions, bytes / versions);
        println!(
            "  {}, {name}: {micros:.2} µs to fold a version, {bytes:.0} bytes of pages more",
            workload.name
        );
    }
    let [chains, whole] = figures.as_slice() else { return Ok(()) };
    report.ratio(
        &format!("time to fold, chains ÷ whole, {}", workload.name),
        median(per_round(chains, whole)),
        workload.time,
    );
    let [chains, whole] = bytes;
    report.ratio(&format!("pages, chains ÷ whole, {}", workload.name), chains / whole, workload.pages);
    Ok(())
}

/// Loading rows, and random updates of them, with and without history.
fn loading(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let workload = noise();
    let mut sides = [
        (HistoryCoding::Chains, Retention::default(), false),
        (HistoryCoding::Whole, Retention::default(), false),
        (HistoryCoding::Chains, Retention::default(), true),
        (HistoryCoding::Chains, Retention::None, true),
    ];
    let figures = in_turns(rounds, &mut sides, |(coding, retention, updates), _| {
        let database = store(*coding, *retention)?;
        let start = Instant::now();
        commit_rows(&database, 0, 5 * ROWS)?;
        database.checkpoint()?;
        let loaded = start.elapsed();
        for part in workload.parts.iter().filter(|_| *updates) {
            commit(&database, part)?;
            database.checkpoint()?;
        }
        let time = if *updates { start.elapsed() - loaded } else { loaded };
        database.close()?;
        Ok(time.as_secs_f64())
    })?;
    let [chains, whole, kept, none] = figures.as_slice() else { return Ok(()) };
    for (name, times, beside, bound) in [
        ("loading, chains ÷ whole", chains, whole, Bound::AtMost(1.1)),
        ("random updates, seven days ÷ no retention", kept, none, Bound::Printed),
    ] {
        report.ratio(name, median(per_round(times, beside)), bound);
    }
    Ok(())
}

/// Makes the value of a version.
type Make<'a> = dyn Fn(u64) -> Vec<u8> + 'a;

/// A row of many versions, one of which is read.
struct Reading {
    row: u64,
    name: String,
    snapshot: Snapshot,
}

/// Reading so many versions back, beside the newest. Runs of deltas end somewhere, so each distance is read at eighteen
/// neighbouring places, and the dearest counts.
///
/// What is kept whole is to cost no more than three times the newest at any depth. Of entries decoding costs more than the
/// whole read of the newest, which hands out the memory of its page: their bounds hold what was reached.
pub(crate) fn depths(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let text = |version: u64| {
        let line = |line: u64| {
            let changed = if scramble(line ^ (version << 20)).is_multiple_of(24) { version } else { 0 };
            format!("Line {line} says {:x}, and {changed}.\n", scramble(line))
        };
        (0..60).map(line).collect::<String>().into_bytes()
    };
    let vectors = fingerprints();
    let fingerprint = |version: u64| {
        let mut bits = vectors.before.first().map(|(_, bits)| bits.clone()).unwrap_or_default();
        flip(&mut bits, version, FLIPPED);
        bits
    };
    let kinds: [(&str, &Make<'_>, HistoryCoding, f64); 5] = [
        ("150 bytes of noise", &value, HistoryCoding::Chains, 3.0),
        ("a text of 2 KB", &text, HistoryCoding::Chains, 16.0),
        ("a text kept whole", &text, HistoryCoding::Whole, 3.0),
        ("a fingerprint", &fingerprint, HistoryCoding::Chains, 32.0),
        ("a fingerprint kept whole", &fingerprint, HistoryCoding::Whole, 3.0),
    ];
    for kind in kinds {
        of_kind(kind, rounds, report)?;
    }
    Ok(())
}

fn of_kind(
    (name, make, coding, most): (&str, &Make<'_>, HistoryCoding, f64),
    rounds: usize,
    report: &mut Report,
) -> Result<(), BenchError> {
    let database = store(coding, Retention::Forever)?;
    commit_rows(&database, 1_000, ROWS)?;
    let mut versions: Vec<Version> = Vec::new();
    for turn in 0..DEEP {
        let mut txn = database.begin()?;
        txn.put(TABLE, key(1), make(turn))?;
        versions.push(txn.commit()?.version);
    }
    database.checkpoint()?;
    let mut readings = Vec::new();
    for (distance, places) in [(0, 1), (1, 1), (10, 1), (100, 18), (1_000, 18)] {
        for place in distance..distance + places {
            let version = versions.iter().rev().nth(place).ok_or("a version is missing")?;
            let name = format!("{name}, {distance} back");
            readings.push(Reading { row: 1, name, snapshot: database.snapshot_at(*version)? });
        }
    }
    let figures = in_turns(rounds, &mut readings, |reading, _| {
        let time = median_step(TIMINGS, |_| {
            for _ in 0..READS {
                black_box(reading.snapshot.get(TABLE, key(reading.row))?.ok_or("a version is missing")?);
            }
            Ok(())
        })?;
        Ok(time / f64::from(READS))
    })?;
    let Some((newest, _)) = figures.split_first() else { return Ok(()) };
    let newest_micros = median(newest.clone()) * 1e6;
    println!("  {name}, newest: {newest_micros:.2} µs");
    let rest = || readings.iter().zip(&figures).skip(1);
    let mut names: Vec<_> = rest().map(|(reading, _)| &reading.name).collect();
    names.dedup();
    for name in names {
        let ratios = rest().filter(|(reading, _)| reading.name == *name);
        let mut ratios: Vec<f64> = ratios.map(|(_, times)| median(per_round(times, newest))).collect();
        ratios.sort_by(f64::total_cmp);
        let dearest = ratios.last().copied().unwrap_or_default();
        if ratios.len() > 1 {
            let all = format!("{name} ÷ newest, median of {}", ratios.len());
            report.ratio(&all, median(ratios), Bound::Printed);
        }
        report.ratio(&format!("{name} ÷ newest, the dearest"), dearest, Bound::AtMost(most));
        println!("    {:.2} µs", dearest * newest_micros);
    }
    drop(readings);
    database.close()?;
    Ok(())
}
