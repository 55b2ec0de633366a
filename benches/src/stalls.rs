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
use crate::process::ThreadTimes;
use crate::workload::{TABLE, commit_rows, key, open, scramble, untimed_checkpoints, value};

/// Rows that are read, settled.
const ROWS: u64 = 100_000;
/// Rows of the large commit: 100 MB of keys and values.
const COMMITTED_ROWS: u64 = 575_000;
/// How long the loops run that nobody ends.
const ALONE: Duration = Duration::from_secs(2);

/// Reads between two looks at what the kernel counts.
const READS: u64 = 16;

/// Where the time of a few reads went.
#[derive(Clone, Copy, Debug, Default)]
struct Stall {
    /// On a processor.
    ran: Duration,
    /// Ready to run, while others did: the scheduler's doing.
    queued: Duration,
    /// On a lock or a disk: the store's doing.
    blocked: Duration,
}

/// The reads of a loop.
#[derive(Debug)]
struct Reads {
    /// Of each, in microseconds, sorted.
    times: Vec<f64>,
    /// The most of each kind, over a few reads.
    ran_max: Duration,
    queued_max: Duration,
    blocked_max: Duration,
}

/// Times reads until `done`.
fn read_until(database: &Database, done: &dyn Fn() -> bool) -> Result<Reads, BenchError> {
    let mut times = Vec::with_capacity(1 << 22);
    let mut most = Stall::default();
    let mut counted = ThreadTimes::new()?;
    let (mut at, mut before, mut began) = (scramble(0), counted.now()?, Instant::now());
    while !done() {
        for _ in 0..READS {
            at = scramble(at);
            let key = key(at % ROWS);
            let start = Instant::now();
            let found = database.get(TABLE, key)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            black_box(found.ok_or("a row is missing")?);
        }
        let (now, all) = (counted.now()?, began.elapsed());
        let (ran, queued) = (now.ran.saturating_sub(before.ran), now.queued.saturating_sub(before.queued));
        let blocked = all.saturating_sub(ran).saturating_sub(queued);
        most.ran = most.ran.max(ran);
        most.queued = most.queued.max(queued);
        most.blocked = most.blocked.max(blocked);
        (before, began) = (now, Instant::now());
    }
    times.sort_by(f64::total_cmp);
    Ok(Reads { times, ran_max: most.ran, queued_max: most.queued, blocked_max: most.blocked })
}

/// Times reads while `work` runs on another thread.
fn beside(
    database: &Database,
    work: impl FnOnce() -> Result<(), BenchError> + Send,
) -> Result<Reads, BenchError> {
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
    let figures = |reads: &Reads| [0.5, 0.999, 1.0].map(|part| percentile(&reads.times, part));
    for (name, reads) in [
        ("alone", &alone),
        ("beside a computing thread", &computing),
        ("beside a 100 MB commit", &committing),
        ("beside its checkpoint", &folding),
    ] {
        let [median, high, max] = figures(reads);
        println!(
            "  a read {name}: median {median:.1} µs, p99.9 {high:.1} µs, max {max:.0} µs, of {}",
            reads.times.len()
        );
        let [ran, queued, blocked] =
            [reads.ran_max, reads.queued_max, reads.blocked_max].map(|time| time.as_secs_f64() * 1e3);
        println!(
            "    of {READS} reads at most {ran:.2} ms on a processor, {queued:.1} ms in its queue, {blocked:.2} ms blocked"
        );
    }
    let [_, high_computing, max_computing] = figures(&computing);
    for (name, reads) in [("a 100 MB commit", &committing), ("its checkpoint", &folding)] {
        let [_, high, max] = figures(reads);
        report.ratio(
            &format!("p99.9 of reads beside {name} ÷ computing"),
            high / high_computing,
            Bound::Printed,
        );
        report.ratio(&format!("p99.9 of reads beside {name}, in ms"), high / 1e3, Bound::AtMost(1.0));
        report.ratio(&format!("longest read beside {name} ÷ computing"), max / max_computing, Bound::Printed);
        // The kernel counts time on a processor by the tick, so a stall of the store's own shows where it is far above that.
        let name = format!("longest time of a few reads on a processor beside {name} ÷ computing");
        let ran = reads.ran_max.as_secs_f64() / computing.ran_max.as_secs_f64();
        report.ratio(&name, ran, Bound::AtMost(4.0));
    }
    database.close()?;
    Ok(())
}
