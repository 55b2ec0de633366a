//! Reading one of many versions of a key: in memory and in the page file, the time grows with their logarithm at most.

use std::hint::black_box;
use std::sync::Arc;

use keepstone_mvcc_temporal::{Database, Read as _, Snapshot};
use keepstone_types::Version;
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, in_turns, median, median_step, per_round};
use crate::workload::{TABLE, commit_rows, key, open, untimed_checkpoints, value};

/// Versions of the key that has many.
const MANY: u64 = 10_000;
/// Versions of the key that has few.
const FEW: u64 = 100;
/// Rows beside them.
const ROWS: u64 = 20_000;
/// Reads that are timed as one, and how often.
const READS: u32 = 64;
const TIMINGS: usize = 100;
/// A hundred times as many versions: twice the logarithm; more steps leave the cache of the processor.
const GROWTH: Bound = Bound::AtMost(4.0);

/// A reading of one version of one key.
struct Reading {
    name: &'static str,
    key: [u8; 24],
    snapshot: Snapshot,
}

/// Overwrites a row again and again; gives the versions that were made.
fn overwrite(database: &Database, row: u64, count: u64) -> Result<Vec<Version>, BenchError> {
    let mut versions = Vec::new();
    for turn in 0..count {
        let mut txn = database.begin()?;
        txn.put(TABLE, key(row), value(turn))?;
        versions.push(txn.commit()?.version);
    }
    Ok(versions)
}

/// The oldest, middle and newest of 10,000 versions beside those of 100, before and after a checkpoint.
pub(crate) fn of_one_key(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let database = open(Arc::new(OsVfs::new()), &dir.path().join("store"), untimed_checkpoints())?;
    commit_rows(&database, 0, ROWS)?;
    let (few, many) = (overwrite(&database, 1, FEW)?, overwrite(&database, 2, MANY)?);
    let mut readings = Vec::new();
    for (name, row, versions, place) in [
        ("oldest of 100", 1, &few, 0),
        ("oldest", 2, &many, 0),
        ("middle", 2, &many, many.len() / 2),
        ("newest", 2, &many, many.len() - 1),
    ] {
        let version = *versions.get(place).ok_or("a version is missing")?;
        readings.push(Reading { name, key: key(row), snapshot: database.snapshot_at(version)? });
    }
    for state in ["in memory", "settled"] {
        let figures = in_turns(rounds, &mut readings, |reading, _| {
            let time = median_step(TIMINGS, |_| {
                for _ in 0..READS {
                    let found = reading.snapshot.get(TABLE, reading.key)?;
                    black_box(found.ok_or("a version is missing")?);
                }
                Ok(())
            })?;
            Ok(time / f64::from(READS))
        })?;
        for (reading, times) in readings.iter().zip(&figures) {
            println!("  {state}, {}: {:.2} µs", reading.name, median(times.clone()) * 1e6);
        }
        let [of_few, oldest, middle, newest] = figures.as_slice() else { continue };
        for (name, times, beside, bound) in [
            ("oldest of 10,000 ÷ oldest of 100", oldest, of_few, GROWTH),
            ("oldest ÷ newest", oldest, newest, Bound::Printed),
            ("middle ÷ newest", middle, newest, Bound::Printed),
        ] {
            report.ratio(&format!("{state}, {name}"), median(per_round(times, beside)), bound);
        }
        database.checkpoint()?;
    }
    drop(readings);
    database.close()?;
    Ok(())
}
