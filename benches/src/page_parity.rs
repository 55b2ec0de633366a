//! What parity of pages costs: loading in order and changing rows at random, with and without it, each until everything is
//! folded into the page file; the latency of commits beside it; and the bytes it takes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use keepstone_mvcc_temporal::Database;
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

/// With parity or without.
struct Side {
    parity: bool,
    round: usize,
}

/// Seconds to load, seconds to change, seconds of a commit, bytes of the page file after loading.
struct Figures {
    load: f64,
    change: f64,
    commit: f64,
    bytes: u64,
}

fn side(dir: &Path, parity: bool) -> Result<Figures, BenchError> {
    let database = open(Arc::new(OsVfs::new()), dir, untimed_checkpoints().parity(parity))?;
    let start = Instant::now();
    for from in (0..ROWS).step_by(10_000) {
        commit_rows(&database, from, 10_000)?;
    }
    database.checkpoint()?;
    let load = start.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(dir.join("pages"))?.len();
    let loaded = database.stats().pages;
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
    let pages = database.stats().pages;
    let written = (
        pages.pages_written - loaded.pages_written,
        pages.parity_pages_written - loaded.parity_pages_written,
    );
    println!("    parity {parity}: loaded {loaded:?}");
    println!("    parity {parity}: changed: {written:?} pages written, of parity; {pages:?}");
    let commit = one_by_one(&database)?;
    Ok(Figures { load, change, commit, bytes })
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
    compare("seconds to load in order", |side| side.load, Bound::AtMost(1.10));
    compare("seconds to change at random", |side| side.change, Bound::AtMost(1.15));
    compare("microseconds of a commit", |side| side.commit * 1e6, Bound::AtMost(1.05));
    compare("bytes after loading", |side| as_float(side.bytes), Bound::AtMost(1.06));
    Ok(())
}
