//! The store beside redb and fjall, on the same rows in the same run.
//!
//! What is equal: the rows and their order; every commit is on stable storage when it returns (`Durability::Normal`,
//! `Durability::Immediate`, `PersistMode::SyncData`); a cache of 64 MiB; memtables of 64 MiB where there are any (the
//! default of both); reads and ranges through one view per round (a snapshot, a read transaction, a snapshot). All else
//! is the default, but for our checkpoints by age and idleness, which would run in the others' turns: they are off.
//!
//! *Settled* means that nothing waits to be moved: after our checkpoint; for fjall after its memtable is flushed and
//! compacted; redb always is.

mod engine;
mod fjall;
mod keepstone;
mod reading;
mod redb;
mod writing;

use std::fs;
use std::path::Path;

use keepstone_mvcc_temporal::Retention;

use crate::Scale;
use crate::harness::{BenchError, Bound, Report, bytes_below, median, number, per_round};
use crate::workload::{Row, rows};
use engine::Engine;

/// Bytes of each store's cache.
const CACHE_BYTES: usize = 64 << 20;
/// Rows of a bulk commit.
const BULK_ROWS: usize = 10_000;
/// Rows of a batch.
const BATCH_ROWS: usize = 1_000;
/// Rows of the full run.
pub(crate) const FULL_ROWS: usize = 1_000_000;
/// Rows that are written onto the settled store, and rows that are removed, at most.
const CHANGED_ROWS: usize = 100_000;

/// Against redb nothing may take longer.
const BESIDE_REDB: Bound = Bound::AtMost(1.0);
/// Writes may take this many times what fjall, which only appends, takes.
const WRITES_BESIDE_FJALL: Bound = Bound::AtMost(1.3);

type Maker = fn(&Path) -> Result<Box<dyn Engine>, BenchError>;

/// The sides: ours first, as they are judged; the others after them.
const SIDES: [(&str, Maker); 4] = [
    ("Keepstone", |dir| keepstone::Keepstone::create(dir, Retention::default())),
    ("Keepstone without history", |dir| keepstone::Keepstone::create(dir, Retention::None)),
    ("redb", redb::Redb::create),
    ("fjall", fjall::Fjall::create),
];

/// A store and its folder.
struct Side {
    name: &'static str,
    folder: tempfile::TempDir,
    engine: Box<dyn Engine>,
}

impl Side {
    fn create(name: &'static str, make: Maker) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir_in(".")?;
        let engine = make(folder.path())?;
        Ok(Self { name, folder, engine })
    }

    fn create_all() -> Result<Vec<Self>, BenchError> {
        SIDES.iter().map(|(name, make)| Self::create(name, *make)).collect()
    }
}

/// The rows that are loaded, and those that come after.
struct Rows {
    bulk: Vec<Row>,
    next: u64,
}

impl Rows {
    fn new(count: usize) -> Result<Self, BenchError> {
        let next = u64::try_from(count)?;
        Ok(Self { bulk: rows(0..next), next })
    }

    /// Rows that no store has.
    fn fresh(&mut self, count: usize) -> Result<Vec<Row>, BenchError> {
        let from = self.next;
        self.next = from.saturating_add(u64::try_from(count)?);
        Ok(rows(from..self.next))
    }

    /// So many rows are changed on the settled store.
    fn changed(&self) -> usize {
        (self.bulk.len() / 2).min(CHANGED_ROWS)
    }
}

/// Loading, commits, reads, ranges and removals, then what is on disk.
pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), BenchError> {
    let mut rows = Rows::new(scale.rows)?;
    println!("  {} rows of 24 + 150 bytes; the full run has {FULL_ROWS}", scale.rows);
    let rounds = scale.rounds.max(1);
    let mut sides = writing::bulk(rounds.min(3), &rows, report)?;
    writing::commits(rounds, &mut sides, &mut rows, report)?;
    for side in &mut sides {
        side.engine.settle()?;
    }
    let stored = rows.bulk.len();
    reading::gets("settled", rounds, &mut sides, &rows.bulk, report)?;
    reading::ranges("settled", rounds, &mut sides, &rows.bulk, report)?;

    let fresh = rows.fresh(rows.changed())?;
    for side in &mut sides {
        fresh.chunks(BATCH_ROWS).try_for_each(|batch| side.engine.put(batch))?;
    }
    rows.bulk.extend(fresh);
    reading::gets("unsettled", rounds, &mut sides, &rows.bulk, report)?;
    reading::ranges("unsettled", rounds, &mut sides, &rows.bulk, report)?;

    for side in &mut sides {
        side.engine.settle()?;
    }
    rows.bulk.truncate(stored);
    let removed = rows.changed();
    writing::removals(rounds.min(5), &mut sides, rows.bulk.get(..removed).unwrap_or_default(), report)?;
    sizes(sides, rows.next.saturating_sub(u64::try_from(removed)?), report)
}

/// Prints what each side took, and judges ours beside each of the others.
fn judge(
    report: &mut Report,
    what: &str,
    figures: &[Vec<f64>],
    show: impl Fn(f64) -> String,
    [beside_redb, beside_fjall]: [Bound; 2],
) {
    let shown: Vec<_> = SIDES
        .iter()
        .zip(figures)
        .map(|((name, _), figures)| format!("{name} {}", show(median(figures.clone()))))
        .collect();
    println!("  {what}: {}", shown.join(", "));
    let [ours, without, redb, fjall] = figures else { return };
    for (name, ours, bounded) in [("", ours, true), (" (no history)", without, false)] {
        for (peer, theirs, bound) in [("redb", redb, beside_redb), ("fjall", fjall, beside_fjall)] {
            let bound = if bounded { bound } else { Bound::Printed };
            report.ratio(&format!("{what}{name} ÷ {peer}"), median(per_round(ours, theirs)), bound);
        }
    }
}

/// Bytes on disk, settled and then compacted; closes the stores.
fn sizes(mut sides: Vec<Side>, rows: u64, report: &mut Report) -> Result<(), BenchError> {
    let rows = number(rows)?;
    for (what, is_compacted) in [("bytes per row, settled", false), ("bytes per row, compacted", true)] {
        let (mut measured, mut figures) = (Vec::new(), Vec::new());
        for side in sides {
            let Side { name, folder, mut engine } = side;
            engine.settle()?;
            if is_compacted {
                engine = engine.compact()?;
            }
            let bytes = number(bytes_below(folder.path(), bytes_on_disk)?)?;
            println!("  {what}: {name} {:.1} MB", bytes / 1e6);
            figures.push(vec![bytes / rows]);
            measured.push(Side { name, folder, engine });
        }
        judge(report, what, &figures, |bytes| format!("{bytes:.0}"), [Bound::Printed; 2]);
        sides = measured;
    }
    sides.into_iter().try_for_each(|side| side.engine.close())
}

/// What is allocated: a file may be longer than what was written to it.
#[cfg(unix)]
fn bytes_on_disk(file: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(file).saturating_mul(512)
}

#[cfg(not(unix))]
fn bytes_on_disk(file: &fs::Metadata) -> u64 {
    file.len()
}
