//! A reader that is held for minutes while everything it reads is overwritten at full speed: what it reads stays exact, and
//! memory and files stay within its allowance. Past the allowance its next call fails, and one checkpoint later what was
//! kept for it is gone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepstone_mvcc_temporal::{
    Database, DatabaseOptions, KeyRange, Read as _, ReadError, ReaderAllowance, Retention, Snapshot,
};
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, as_float, bytes_below};
use crate::process;
use crate::workload::{TABLE, key, open, scramble, value};

/// Rows that are read and overwritten.
const ROWS: u64 = 200_000;
const WRITERS: u64 = 2;
/// Rows of a commit.
const COMMIT_ROWS: u64 = 20;
/// How long the load runs without a reader, and how long one is held.
const ALONE: Duration = Duration::from_secs(45);
const HELD: Duration = Duration::from_secs(185);
/// How long a reader may take to be ended after it has used its allowance, at most, before this gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The value that a row had when the reader began.
fn first_value(row: u64) -> Vec<u8> {
    value(row)
}

/// Overwrites random rows until told to stop; gives the commits and the longest.
fn overwrite(database: &Database, seed: u64, stop: &AtomicBool) -> Result<(u64, Duration), BenchError> {
    let (mut at, mut commits, mut longest) = (scramble(seed), 0, Duration::ZERO);
    while !stop.load(Ordering::Acquire) {
        let mut txn = database.begin()?;
        for _ in 0..COMMIT_ROWS {
            at = scramble(at);
            txn.put(TABLE, key(at % ROWS), value(at | 1 << 63))?;
        }
        let start = Instant::now();
        match txn.commit() {
            Ok(_) => commits += 1,
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
        longest = longest.max(start.elapsed());
    }
    Ok((commits, longest))
}

/// The most that was seen while the load ran.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    resident: u64,
    files: u64,
    log: u64,
}

impl Peak {
    fn look(&mut self, database: &Database) -> Result<(), BenchError> {
        self.resident = self.resident.max(process::memory_bytes("VmRSS")?);
        self.files = self.files.max(bytes_below(database.dir(), std::fs::Metadata::len)?);
        self.log = self.log.max(database.stats().log.segment_bytes);
        Ok(())
    }

    fn print(&self, when: &str) {
        let [resident, files, log] = [self.resident, self.files, self.log].map(|bytes| bytes >> 20);
        println!("  {when}: at most {resident} MiB resident, {files} MiB of files, {log} MiB of it log");
    }
}

/// Runs `watch` while everything is overwritten; gives what it gave.
fn under_load<T>(
    database: &Database,
    watch: impl FnOnce() -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    thread::scope(|scope| {
        let stop = &stop;
        let writers: Vec<_> =
            (0..WRITERS).map(|seed| scope.spawn(move || overwrite(database, seed, stop))).collect();
        let watched = watch();
        stop.store(true, Ordering::Release);
        let (mut commits, mut longest) = (0, Duration::ZERO);
        for writer in writers {
            let (done, took) = writer.join().map_err(|_| "a writer panicked")??;
            commits += done;
            longest = longest.max(took);
        }
        let per_second = as_float(commits) / start.elapsed().as_secs_f64();
        println!(
            "  load: {per_second:.0} commits/s of {COMMIT_ROWS} rows, the longest took {:.0} ms",
            longest.as_secs_f64() * 1e3
        );
        watched
    })
}

/// Reads a row and a short range, and holds them against what they were when the reader began.
fn read_exactly(reader: &Snapshot, at: u64) -> Result<Result<u64, ReadError>, BenchError> {
    let row = at % ROWS;
    match reader.get(TABLE, key(row)) {
        Ok(Some(found)) if *found == *first_value(row) => {}
        Ok(found) => return Err(format!("row {row} reads as {found:?}").into()),
        Err(error) => return Ok(Err(error)),
    }
    if !at.is_multiple_of(256) {
        return Ok(Ok(1));
    }
    let mut seen = 0;
    let scan = match reader.scan(TABLE, KeyRange::from(key(row).to_vec()..)) {
        Ok(scan) => scan,
        Err(error) => return Ok(Err(error)),
    };
    for found in scan.take(50) {
        match found {
            // The value says which row it is of: it was made from the row's number, and the table has no other values.
            Ok((found, value)) if reader.get(TABLE, &found).ok().flatten().as_deref() == Some(&*value) => {
                seen += 1
            }
            Ok((found, _)) => return Err(format!("the range has another value of {found:?}").into()),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(1 + seen))
}

fn fresh(dir: &Path, allowance: ReaderAllowance) -> Result<Database, BenchError> {
    let options = DatabaseOptions::default().retention(Retention::None).readers(allowance);
    let database = open(Arc::new(OsVfs::new()), dir, options)?;
    for from in (0..ROWS).step_by(1_000) {
        let mut txn = database.begin()?;
        for row in from..from + 1_000 {
            txn.put(TABLE, key(row), first_value(row))?;
        }
        txn.commit()?;
    }
    database.checkpoint()?;
    Ok(database)
}

/// Reads until `time` is over or the reader is ended; gives the reads, and what ended them.
fn hold(
    database: &Database,
    reader: &Snapshot,
    time: Duration,
    peak: &mut Peak,
) -> Result<(u64, Option<ReadError>), BenchError> {
    let start = Instant::now();
    let (mut reads, mut at, mut looked) = (0, scramble(7), Instant::now());
    while start.elapsed() < time {
        at = scramble(at);
        match read_exactly(reader, at)? {
            Ok(count) => reads += count,
            Err(error) => return Ok((reads, Some(error))),
        }
        if looked.elapsed() > Duration::from_millis(500) {
            peak.look(database)?;
            looked = Instant::now();
        }
        thread::sleep(Duration::from_micros(500));
    }
    Ok((reads, None))
}

/// Minutes within the allowance.
fn within(dir: &Path, report: &mut Report) -> Result<(), BenchError> {
    let allowance = ReaderAllowance::NORMAL;
    let database = fresh(dir, allowance)?;
    let (mut alone, mut held) = (Peak::default(), Peak::default());
    // The load overwrites what the reader is to see, so it runs on a store of its own first.
    let other = fresh(&dir.with_extension("alone"), allowance)?;
    under_load(&other, || {
        let start = Instant::now();
        while start.elapsed() < ALONE {
            alone.look(&other)?;
            thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    })?;
    alone.print("without a reader");
    other.close()?;
    let reader = database.snapshot()?;
    let reads = AtomicU64::new(0);
    under_load(&database, || match hold(&database, &reader, HELD, &mut held)? {
        (count, None) => {
            reads.store(count, Ordering::Relaxed);
            Ok(())
        }
        (_, Some(error)) => Err(format!("within its allowance the reader was ended: {error}").into()),
    })?;
    held.print(&format!("beside a reader held for {} s", HELD.as_secs()));
    println!(
        "  {} exact reads; {} rows of history at the end",
        reads.into_inner(),
        database.stats().history_rows
    );
    report.ratio(
        "resident beside the reader ÷ without",
        as_float(held.resident) / as_float(alone.resident),
        Bound::AtMost(1.25),
    );
    let grown = held.files.saturating_sub(alone.files);
    let share = as_float(grown) / as_float(allowance.kept_bytes);
    report.ratio("growth of the files ÷ the reader's allowance", share, Bound::AtMost(1.0));
    drop(reader);
    database.close()?;
    Ok(())
}

/// Past the allowance: ended at the next call, and what was kept goes with the next checkpoint.
fn past(dir: &Path, what: &str, allowance: ReaderAllowance, report: &mut Report) -> Result<(), BenchError> {
    let database = fresh(dir, allowance)?;
    let reader = database.snapshot()?;
    let (start, mut peak) = (Instant::now(), Peak::default());
    let ended = under_load(&database, || hold(&database, &reader, PATIENCE, &mut peak))?;
    let took = start.elapsed();
    match ended {
        (reads, Some(ReadError::ReaderAborted)) => {
            println!("  {what}: ended after {:.1} s and {reads} exact reads", took.as_secs_f64());
        }
        (_, other) => return Err(format!("{what}: the reader ended as {other:?}").into()),
    }
    let again = reader.get(TABLE, key(1));
    if !matches!(again, Err(ReadError::ReaderAborted)) {
        return Err(format!("{what}: a later call gives {again:?}").into());
    }
    let before = database.stats();
    database.checkpoint()?;
    let after = database.stats();
    println!(
        "  {what}: one checkpoint takes the log from {} to {} MiB and history from {} to {} rows",
        before.log.segment_bytes >> 20,
        after.log.segment_bytes >> 20,
        before.history_rows,
        after.history_rows
    );
    let left = as_float(after.log.segment_bytes) / as_float(before.log.segment_bytes.max(1));
    report.ratio(&format!("log after one checkpoint ÷ before, {what}"), left, Bound::AtMost(1.0));
    let left = as_float(after.history_rows) / as_float(ROWS);
    // So much of what is overwritten anyway is not worth a look: 65,536 rows.
    report.ratio(&format!("history after one checkpoint ÷ rows, {what}"), left, Bound::AtMost(0.35));
    drop(reader);
    database.close()?;
    Ok(())
}

/// Within the allowance, and past it in bytes and in age.
pub(crate) fn allowances(report: &mut Report) -> Result<(), BenchError> {
    let home = tempfile::tempdir_in(".")?;
    within(&home.path().join("within"), report)?;
    let mut in_bytes = ReaderAllowance::STRICT;
    in_bytes.kept_bytes = 64 << 20;
    past(&home.path().join("bytes"), "past its bytes", in_bytes, report)?;
    let mut in_age = ReaderAllowance::STRICT;
    in_age.age = Duration::from_secs(10);
    past(&home.path().join("age"), "past its age", in_age, report)
}
