//! How long a reader may be held up: each read of a loop is timed while one commit of 100 MB runs, and while a checkpoint
//! folds it, beside the same loop alone and beside a thread that only computes.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepstone_mvcc_temporal::{Database, Read as _};
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, percentile};
use crate::workload::{TABLE, commit_rows, key, open, scramble, untimed_checkpoints, value};

/// Rows that are read, settled.
const ROWS: u64 = 100_000;
/// Rows of the large commit: 100 MB of keys and values.
const COMMITTED_ROWS: u64 = 575_000;
/// How long the loops run that nobody ends.
const ALONE: Duration = Duration::from_secs(2);

/// Times reads until `done`, in microseconds, sorted.
fn read_until(database: &Database, done: &dyn Fn() -> bool) -> Result<Vec<f64>, BenchError> {
    let mut times = Vec::with_capacity(1 << 22);
    let mut at = scramble(0);
    while !done() {
        at = scramble(at);
        let key = key(at % ROWS);
        let start = Instant::now();
        let found = database.get(TABLE, key)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        black_box(found.ok_or("a row is missing")?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Times reads while `work` runs on another thread.
fn beside(
    database: &Database,
    work: impl FnOnce() -> Result<(), BenchError> + Send,
) -> Result<Vec<f64>, BenchError> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let result = work();
            done.store(true, Ordering::Release);
            result
        });
        let times = read_until(database, &|| done.load(Ordering::Acquire));
        worker.join().map_err(|_| "the thread beside the reader panicked")??;
        times
    })
}

/// One reader beside what may hold it up.
pub(crate) fn readers(report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let database = open(Arc::new(OsVfs::new()), &dir.path().join("store"), untimed_checkpoints())?;
    for from in (0..ROWS).step_by(1_000) {
        commit_rows(&database, from, 1_000)?;
    }
    database.checkpoint()?;
    let start = Instant::now();
    let alone = read_until(&database, &|| start.elapsed() > ALONE)?;
    let computing = beside(&database, || {
        let (start, mut number) = (Instant::now(), 0);
        while start.elapsed() < ALONE {
            number = (0..1_000).fold(number, |number, _| black_box(scramble(number)));
        }
        Ok(())
    })?;
    let mut txn = database.begin()?;
    for number in ROWS..ROWS + COMMITTED_ROWS {
        txn.put(TABLE, key(number), value(number))?;
    }
    let committing = beside(&database, || {
        txn.commit()?;
        Ok(())
    })?;
    let slices = database.stats().checkpoint_slices;
    let folding = beside(&database, || Ok(database.checkpoint()?))?;
    let slices = database.stats().checkpoint_slices - slices;
    println!("  the checkpoint took {slices} slices");
    let [of_alone, of_computing, of_committing, of_folding] = [&alone, &computing, &committing, &folding]
        .map(|times| [percentile(times, 0.5), percentile(times, 0.999), percentile(times, 1.0)]);
    for (name, times, [median, high, max]) in [
        ("alone", &alone, of_alone),
        ("beside a computing thread", &computing, of_computing),
        ("beside a 100 MB commit", &committing, of_committing),
        ("beside its checkpoint", &folding, of_folding),
    ] {
        println!(
            "  a read {name}: median {median:.1} µs, p99.9 {high:.1} µs, max {max:.0} µs, of {}",
            times.len()
        );
    }
    let [_, high_computing, max_computing] = of_computing;
    for (name, [_, high, max]) in [("a 100 MB commit", of_committing), ("its checkpoint", of_folding)] {
        report.ratio(
            &format!("p99.9 of reads beside {name} ÷ computing"),
            high / high_computing,
            Bound::Printed,
        );
        report.ratio(&format!("longest read beside {name} ÷ computing"), max / max_computing, Bound::Printed);
    }
    database.close()?;
    Ok(())
}
