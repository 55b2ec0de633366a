//! Readers share no lock: the rate of point reads by many threads against one, beside a running writer.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepstone_mvcc_temporal::{Database, DatabaseOptions, Read as _};
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, rate, side_by_side};
use crate::workload::{TABLE, commit_rows, key, open, scramble};

const ROWS: u64 = 100_000;

fn read_rate(database: &Database, threads: u64, time: Duration) -> Result<f64, BenchError> {
    let start = Instant::now();
    let done = thread::scope(|scope| -> Result<u32, BenchError> {
        let readers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || -> Result<u32, BenchError> {
                    let mut done = 0;
                    let mut at = scramble(thread);
                    while start.elapsed() < time {
                        for _ in 0..64 {
                            at = scramble(at);
                            let found = database.get(TABLE, key(at % ROWS))?;
                            black_box(found.ok_or("a row is missing")?);
                        }
                        done += 64;
                    }
                    Ok(done)
                })
            })
            .collect();
        let mut total = 0;
        for reader in readers {
            total += reader.join().map_err(|_| "a reader panicked")??;
        }
        Ok(total)
    })?;
    Ok(rate(done, start.elapsed()))
}

/// Threads up to the cores, without and with a writer that commits all the time.
pub(crate) fn threads(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let database = open(Arc::new(OsVfs::new()), &dir.path().join("store"), DatabaseOptions::default())?;
    for from in (0..ROWS).step_by(1_000) {
        commit_rows(&database, from, 1_000)?;
    }
    let cores = u32::try_from(thread::available_parallelism()?.get())?;
    let time = Duration::from_millis(400);
    let (ratio, many, one) = side_by_side(
        rounds,
        || read_rate(&database, u64::from(cores), time),
        || read_rate(&database, 1, time),
    )?;
    println!("  {cores} threads {many:.0} reads/s, one {one:.0}");
    report.ratio("reads of all cores ÷ (cores × one)", ratio / f64::from(cores), Bound::AtLeast(0.8));

    let stop = AtomicBool::new(false);
    let (ratio, ..) = thread::scope(|scope| {
        let beside = || {
            stop.store(false, Ordering::Release);
            let writer = scope.spawn(|| -> Result<(), BenchError> {
                let mut next = ROWS;
                while !stop.load(Ordering::Acquire) {
                    next += 1;
                    commit_rows(&database, next, 1)?;
                }
                Ok(())
            });
            let measured = read_rate(&database, 1, time);
            stop.store(true, Ordering::Release);
            writer.join().map_err(|_| "the writer panicked")??;
            measured
        };
        side_by_side(rounds, beside, || read_rate(&database, 1, time))
    })?;
    report.ratio("reads of one beside a committing writer ÷ alone", ratio, Bound::Printed);
    database.close()?;
    Ok(())
}
