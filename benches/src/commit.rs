//! What a durable commit costs: against a bare loop of the same bytes, sixteen committers against one, level by level.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepstone_mvcc_temporal::{Database, DatabaseOptions, Durability};
use keepstone_testkit::slow_disk::SlowDisk;
use keepstone_vfs::{OpenOptions, OsVfs, Vfs, VfsFile, VfsFileExt};

use crate::harness::{BenchError, Bound, Report, median_step, micros, rate, side_by_side};
use crate::workload::{commit_rows, open};

/// Bytes of a lone commit in the log: one sector of records and the XOR sector.
const PADDED_BYTES: usize = 8_192;
const COMMITS_PER_ROUND: usize = 300;

/// A file written ahead and synced, and the next offset to overwrite.
struct BareLoop {
    file: Arc<dyn VfsFile>,
    offset: u64,
    bytes: Vec<u8>,
}

const BARE_FILE_BYTES: u64 = 16 << 20;

impl BareLoop {
    fn new(dir: &Path) -> Result<Self, BenchError> {
        let file = OsVfs::new().open(&dir.join("bare"), OpenOptions::CREATE_NEW)?;
        let zeros = vec![0_u8; 256 << 10];
        for offset in (0..BARE_FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
            file.sync_all()?;
        }
        Ok(Self { file, offset: 0, bytes: vec![0x5A; PADDED_BYTES] })
    }

    fn step(&mut self) -> Result<(), BenchError> {
        self.file.write_all_at(&self.bytes, self.offset)?;
        self.file.sync_data()?;
        self.offset = (self.offset + u64::try_from(PADDED_BYTES)?) % BARE_FILE_BYTES;
        Ok(())
    }
}

/// One row in one commit beside the same padded bytes and one `fdatasync`.
pub(crate) fn latency(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let mut bare = BareLoop::new(dir.path())?;
    let database = open(Arc::new(OsVfs::new()), &dir.path().join("store"), DatabaseOptions::default())?;
    let mut next = 0;
    let (ratio, ours, theirs) = side_by_side(
        rounds,
        || {
            median_step(COMMITS_PER_ROUND, |_| {
                next += 1;
                commit_rows(&database, next, 1)
            })
        },
        || median_step(COMMITS_PER_ROUND, |_| bare.step()),
    )?;
    println!("  one durable commit {}, bare write and sync {}", micros(ours), micros(theirs));
    report.ratio("commit ÷ bare write + fdatasync (median)", ratio, Bound::AtMost(1.2));
    database.close()?;
    Ok(())
}

/// Durable one-row commits per second with `threads` committers within `time`.
fn commit_rate(database: &Database, threads: u64, time: Duration) -> Result<f64, BenchError> {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    let start = Instant::now();
    let done = thread::scope(|scope| -> Result<u32, BenchError> {
        let committers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> Result<u32, BenchError> {
                    let mut done = 0;
                    while start.elapsed() < time {
                        commit_rows(database, NEXT.fetch_add(1, Ordering::Relaxed), 1)?;
                        done += 1;
                    }
                    Ok(done)
                })
            })
            .collect();
        let mut total = 0;
        for committer in committers {
            total += committer.join().map_err(|_| "a committer panicked")??;
        }
        Ok(total)
    })?;
    Ok(rate(done, start.elapsed()))
}

/// Sixteen committers against one, where a sync takes 1 ms and on the machine's own disk.
pub(crate) fn groups(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let own: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    // Memory under the slow disk: what is measured is the gathering of groups, not a second, real sync.
    let slow: Arc<dyn Vfs> = Arc::new(SlowDisk::new(Arc::new(OsVfs::new()), Duration::from_millis(1)));
    let shared_memory = Path::new("/dev/shm");
    let slow_place = if shared_memory.is_dir() { shared_memory } else { Path::new(".") };
    for (name, vfs, place, bound) in [
        ("16 committers ÷ 1, sync of 1 ms", slow, slow_place, Bound::AtLeast(10.0)),
        ("16 committers ÷ 1, own disk", own, Path::new("."), Bound::AtLeast(3.0)),
    ] {
        let dir = tempfile::tempdir_in(place)?;
        let database = open(vfs, &dir.path().join("store"), DatabaseOptions::default())?;
        let time = Duration::from_millis(600);
        let (ratio, many, one) =
            side_by_side(rounds, || commit_rate(&database, 16, time), || commit_rate(&database, 1, time))?;
        println!("  {name}: {many:.0} and {one:.0} commits/s");
        report.ratio(name, ratio, bound);
        database.close()?;
    }
    Ok(())
}

/// `Normal` beside `None`: batches of 1,000 rows must keep 0.8 of the rate; a lone commit and sixteen are printed.
pub(crate) fn levels(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    // What is compared is a sync among a millisecond of work: with fewer rounds the median itself is noise.
    let rounds = rounds.max(15);
    let dir = tempfile::tempdir_in(".")?;
    let at = |name: &str, durability| {
        let options = DatabaseOptions::default().durability(durability);
        open(Arc::new(OsVfs::new()), &dir.path().join(name), options)
    };
    let (normal, none) = (at("normal", Durability::Normal)?, at("none", Durability::None)?);
    let mut next = 0;
    let mut batch = |database: &Database, rows: u64, count: usize| {
        median_step(count, |_| {
            next += rows;
            commit_rows(database, next, rows)
        })
    };
    let batches = std::cell::RefCell::new(&mut batch);
    for (name, rows, count, bound) in [
        ("rate of Normal ÷ None, batches of 1,000 rows", 1_000, 20, Bound::AtLeast(0.8)),
        ("rate of Normal ÷ None, lone one-row commits", 1, COMMITS_PER_ROUND, Bound::Printed),
    ] {
        let (ratio, without, with) = side_by_side(
            rounds,
            || (batches.borrow_mut())(&none, rows, count),
            || (batches.borrow_mut())(&normal, rows, count),
        )?;
        println!("  {rows} rows: Normal {}, None {}", micros(with), micros(without));
        report.ratio(name, ratio, bound);
    }
    let time = Duration::from_millis(400);
    let (ratio, ..) =
        side_by_side(rounds, || commit_rate(&normal, 16, time), || commit_rate(&none, 16, time))?;
    report.ratio("rate of Normal ÷ None, 16 committers", ratio, Bound::Printed);
    normal.close()?;
    none.close()?;
    Ok(())
}
