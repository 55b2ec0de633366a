//! Readers share no lock: the rate of point reads by many threads against one, beside a running writer.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepstone_mvcc_temporal::{Database, Read as _};
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, in_turns, median, per_round, rate, side_by_side};
use crate::workload::{TABLE, commit_rows, key, open, scramble, untimed_checkpoints};

const ROWS: u64 = 100_000;

/// How often `step` is done in a second by so many threads; each does it 64 times between two looks at the clock.
pub(crate) fn rate_of(
    threads: u64,
    time: Duration,
    step: impl Fn(u64) -> Result<(), BenchError> + Sync,
) -> Result<f64, BenchError> {
    let start = Instant::now();
    let done = thread::scope(|scope| -> Result<u32, BenchError> {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let step = &step;
                scope.spawn(move || -> Result<u32, BenchError> {
                    let mut done = 0;
                    let mut at = scramble(thread);
                    while start.elapsed() < time {
                        for _ in 0..64 {
                            at = scramble(at);
                            step(at)?;
                        }
                        done += 64;
                    }
                    Ok(done)
                })
            })
            .collect();
        let mut total = 0;
        for worker in workers {
            total += worker.join().map_err(|_| "a thread panicked")??;
        }
        Ok(total)
    })?;
    Ok(rate(done, start.elapsed()))
}

/// Point reads per second.
fn read_rate(database: &Database, threads: u64, time: Duration) -> Result<f64, BenchError> {
    rate_of(threads, time, |at| {
        let found = database.get(TABLE, key(at % ROWS))?;
        black_box(found.ok_or("a row is missing")?);
        Ok(())
    })
}

/// Steps per second of a loop that shares nothing and only computes, about as long as a read.
fn compute_rate(threads: u64, time: Duration) -> Result<f64, BenchError> {
    rate_of(threads, time, |at| {
        black_box((0..500).fold(at, |number, _| scramble(number)));
        Ok(())
    })
}

/// Point reads by so many threads as there are cores and more, against one, and how a loop that only computes gains by
/// the same threads: what that cannot, the machine does not have.
fn scaling(state: &str, database: &Database, rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let cores = u32::try_from(thread::available_parallelism()?.get())?;
    let time = Duration::from_millis(200);
    let mut sides: Vec<_> = [1_u32, 2, 4, 8, 16, 32]
        .into_iter()
        .flat_map(|threads| [(threads, true), (threads, false)])
        .collect();
    let rates = in_turns(rounds, &mut sides, |(threads, is_read), _| match is_read {
        true => read_rate(database, u64::from(*threads), time),
        false => compute_rate(u64::from(*threads), time),
    })?;
    let [one, one_computing, ..] = rates.as_slice() else { return Ok(()) };
    println!("  {state}: one thread {:.0} reads/s", median(one.clone()));
    for ((threads, _), rates) in sides.iter().step_by(2).zip(rates.chunks(2)).skip(1) {
        let [reads, computing] = rates else { continue };
        let bound = if *threads <= cores { Bound::AtLeast(0.8) } else { Bound::Printed };
        let (gain, possible) = (per_round(reads, one), per_round(computing, one_computing));
        println!(
            "  {state}: {threads} threads read {:.2} × one, compute {:.2} ×",
            median(gain.clone()),
            median(possible.clone())
        );
        let name = format!("{state}, gain of {threads} threads ÷ gain in computing");
        report.ratio(&name, median(per_round(&gain, &possible)), bound);
    }
    Ok(())
}

/// One to 32 threads, in memory and settled; then beside a writer that commits all the time.
pub(crate) fn threads(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let database = open(Arc::new(OsVfs::new()), &dir.path().join("store"), untimed_checkpoints())?;
    for from in (0..ROWS).step_by(1_000) {
        commit_rows(&database, from, 1_000)?;
    }
    let time = Duration::from_millis(300);
    for state in ["in memory", "settled"] {
        scaling(state, &database, rounds, report)?;
        database.checkpoint()?;
    }

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
