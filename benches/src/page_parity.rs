//! What parity of pages costs: loading in order and changing rows at random, with and without it, each until everything is
//! folded into the page file; the latency of commits beside it; and the bytes it takes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use keepstone_mvcc_temporal::{Database, PageStats, SlotUsage};
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, as_float, in_turns, median, median_step, per_round};
use crate::workload::{TABLE, commit_rows, key, open, scramble, untimed_checkpoints, value};

/// Rows that are loaded.
const ROWS: u64 = 400_000;
/// Rows of one transaction that changes some at random.
const BATCH: u64 = 500;
/// Rows that are changed before they are folded, and how often.
const CHANGED: u64 = 20_000;
const FOLDS: u64 = 12;
/// Commits that are timed one by one.
const TIMED: usize = 2_000;
/// Checkpoints with nothing to fold, after which a store is at rest.
const AT_REST: u32 = 3;
/// Parity pages for each page in use: one for 32, and half a percent.
const PARITY_PART_MAX: f64 = 1.0 / 32.0 + 0.005;
/// What is taken of the figures of a side: who has its slots at rest.
type UsageOf = fn(&Figures) -> SlotUsage;
const PARTS: [(&str, UsageOf); 2] = [("loaded", |side| side.loaded), ("changed", |side| side.changed)];

/// With parity or without.
struct Side {
    parity: bool,
    round: usize,
}

/// Who has the slots, at rest after loading and after changing; seconds of each, and of a commit.
struct Figures {
    load: f64,
    loaded: SlotUsage,
    change: f64,
    changed: SlotUsage,
    commit: f64,
}

/// The slots of a store at which nothing happens: a checkpoint that has nothing to fold gives back what is not needed.
fn at_rest(database: &Database, what: &str) -> Result<SlotUsage, BenchError> {
    let busy = database.slot_usage()?;
    for _ in 0..AT_REST {
        database.checkpoint()?;
    }
    let usage = database.slot_usage()?;
    let held = database.stats().pages.pending_slots;
    println!("      {what}: {busy:?}");
    println!("      at rest: {usage:?}, {held} of the free ones held");
    Ok(usage)
}

fn print_pages(what: &str, before: &PageStats, after: &PageStats) {
    println!(
        "      {what}: {} pages written, {} of them parity; {} read, {} of them for parity; {} commits",
        after.pages_written - before.pages_written,
        after.parity_pages_written - before.parity_pages_written,
        after.pages_read - before.pages_read,
        after.parity_pages_read - before.parity_pages_read,
        after.commits - before.commits,
    );
}

fn side(dir: &Path, parity: bool) -> Result<Figures, BenchError> {
    println!("    parity {}", if parity { "xor" } else { "off" });
    let database = open(Arc::new(OsVfs::new()), dir, untimed_checkpoints().parity(parity))?;
    let start = Instant::now();
    for from in (0..ROWS).step_by(10_000) {
        commit_rows(&database, from, 10_000)?;
    }
    database.checkpoint()?;
    let load = start.elapsed().as_secs_f64();
    let before = database.stats().pages;
    print_pages("loaded", &PageStats::default(), &before);
    let loaded = at_rest(&database, "loaded")?;
    let before = database.stats().pages;
    let start = Instant::now();
    let mut at = 1;
    for fold in 0..FOLDS {
        for _ in 0..CHANGED / BATCH {
            let mut txn = database.begin()?;
            for _ in 0..BATCH {
                at = scramble(at);
                txn.put(TABLE, key(at % ROWS), value(at ^ fold))?;
            }
            txn.commit()?;
        }
        database.checkpoint()?;
    }
    let change = start.elapsed().as_secs_f64();
    print_pages("changed", &before, &database.stats().pages);
    let changed = at_rest(&database, "changed")?;
    let commit = one_by_one(&database)?;
    Ok(Figures { load, loaded, change, changed, commit })
}

fn one_by_one(database: &Database) -> Result<f64, BenchError> {
    let mut at = 7;
    median_step(TIMED, |_| {
        at = scramble(at);
        let mut txn = database.begin()?;
        txn.put(TABLE, key(at % ROWS), value(at))?;
        txn.commit()?;
        Ok(())
    })
}

/// With parity beside without, in turns.
pub(crate) fn cost(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let mut sides = [Side { parity: false, round: 0 }, Side { parity: true, round: 0 }];
    let mut all: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
    in_turns(rounds, &mut sides, |Side { parity, round }, _| {
        *round += 1;
        let place = dir.path().join(format!("{parity}-{round}"));
        let figures = side(&place, *parity)?;
        std::fs::remove_dir_all(&place)?;
        let load = figures.load;
        let [without, with] = &mut all;
        if *parity {
            with.push(figures)
        } else {
            without.push(figures)
        }
        Ok(load)
    })?;
    let [without, with] = &all;
    let mut compare = |name: &str, of: fn(&Figures) -> f64, bound: Bound| {
        let figures = |side: &[Figures]| side.iter().map(of).collect::<Vec<f64>>();
        let (off, on) = (figures(without), figures(with));
        println!("  {name}: {:.4} without, {:.4} with", median(off.clone()), median(on.clone()));
        report.ratio(&format!("{name}, with parity ÷ without"), median(per_round(&on, &off)), bound);
    };
    compare("seconds to load", |side| side.load, Bound::AtMost(1.10));
    compare("seconds to change at random", |side| side.change, Bound::AtMost(1.15));
    compare("microseconds of a commit", |side| side.commit * 1e6, Bound::AtMost(1.10));
    compare("slots at rest, loaded", |side| as_float(side.loaded.slots()), Bound::AtMost(1.06));
    compare("slots at rest, changed", |side| as_float(side.changed.slots()), Bound::AtMost(1.06));
    for (what, of) in PARTS {
        let part = with.iter().map(of).map(|usage| as_float(usage.parity) / as_float(usage.pages));
        let name = format!("parity pages ÷ pages in use, {what}");
        report.ratio(&name, median(part.collect()), Bound::AtMost(PARITY_PART_MAX));
    }
    Ok(())
}
