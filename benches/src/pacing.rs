//! The controller that paces folding, beside a fixed interval of 10 ms: on simulated loads, where nothing depends on the
//! machine, and on a real store; and what it makes committers wait, as a curve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepstone_mvcc_temporal::simulation::{self, Interval, Load};
use keepstone_mvcc_temporal::{CheckpointOptions, Database, DatabaseOptions, LogOptions, Tending};
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, as_float, median, percentile};
use crate::process::{self, ThreadTimes};
use crate::workload::{commit_rows, open};

const INTERVAL: Duration = Duration::from_millis(10);
/// A slice of the simulation: half a millisecond, so that what is compared is the interval.
const SLICE_TIME: Duration = Duration::from_micros(500);
const IDLE: Duration = Duration::from_secs(5);
const BURST: Duration = Duration::from_secs(6);
/// Rows of each commit of the burst.
const BURST_ROWS: u64 = 500;
/// Rows of each commit on the real curve, and the memory that starts a checkpoint: half the budget.
const CURVE_ROWS: u64 = 1_000;
const CURVE_BYTES: u64 = 24 << 20;
/// Steps of the curve, in percent of the budget, and where it ends.
const CURVE_STEP: u32 = 10;
const CURVE_END: u32 = 200;

/// Simulated loads, a real store, and the curve.
pub(crate) fn controller(report: &mut Report) -> Result<(), BenchError> {
    simulated(report);
    memory(report);
    idle(report)?;
    burst()?;
    curve(report)
}

/// The pure controller on its loads.
fn simulated(report: &mut Report) {
    println!("  simulated: slices of a hundredth of the budget, half a millisecond each");
    for load in Load::ALL {
        let [ours, fixed] = [Interval::Adaptive, Interval::Fixed(INTERVAL)]
            .map(|interval| simulation::queue(load, interval, SLICE_TIME));
        let text = |outcome: &simulation::Outcome| {
            format!(
                "lag {:>5.0} ms in the mean, {:>5.0} at most, {:>4.0} % of the budget, {:>5.1} wake-ups/s",
                outcome.lag_mean.as_secs_f64() * 1e3,
                outcome.lag_max.as_secs_f64() * 1e3,
                outcome.utilisation_max * 100.0,
                outcome.wakeups_per_second
            )
        };
        println!("  {:<8} adaptive {}", format!("{load:?}"), text(&ours));
        println!("  {:<8} 10 ms    {}", "", text(&fixed));
        let lag =
            |of: fn(&simulation::Outcome) -> Duration| of(&ours).as_secs_f64() / of(&fixed).as_secs_f64();
        match load {
            Load::Idle => {
                let ratio = ours.wakeups_per_second / fixed.wakeups_per_second;
                report.ratio("simulated, idle: wake-ups ÷ those of 10 ms", ratio, Bound::AtMost(0.2));
            }
            Load::Burst => {
                for (what, ratio) in
                    [("longest", lag(|found| found.lag_max)), ("mean", lag(|found| found.lag_mean))]
                {
                    report.ratio(
                        &format!("simulated, burst: {what} lag ÷ that of 10 ms"),
                        ratio,
                        Bound::AtMost(0.1),
                    );
                }
            }
            other => {
                let name = format!("simulated, {other:?}: mean lag ÷ that of 10 ms");
                report.ratio(&name, lag(|found| found.lag_mean), Bound::Printed);
            }
        }
    }
}

/// How far memory fills when committers write as fast as they are let, whatever their number and the size of commits.
fn memory(report: &mut Report) {
    println!(
        "  simulated: committers as fast as they are let, folding 20 MB/s; memory at most, and what is written of what is folded"
    );
    let mut most = 0.0_f64;
    for committers in [1, 16, 64] {
        for kilobytes in [1, 100, 1_000] {
            let (deepest, written) = simulation::store(committers, kilobytes * 1_000, 20_000_000);
            println!(
                "  {committers:>3} × {kilobytes:>5} KB: {:>4.0} % of the budget, {:>4.0} %",
                deepest * 100.0,
                written * 100.0
            );
            most = most.max(deepest);
        }
    }
    report.ratio("simulated, most memory ÷ budget", most, Bound::AtMost(2.0));
}

/// Wakes each 10 ms and folds what there is, until told to stop.
fn fixed_interval(database: &Database, stop: &AtomicBool) -> Result<u64, BenchError> {
    let mut checkpoints = 0;
    while !stop.load(Ordering::Acquire) {
        thread::sleep(INTERVAL);
        if database.reconciler_stats().depth_bytes > 0 {
            database.checkpoint()?;
            checkpoints += 1;
        }
    }
    Ok(checkpoints)
}

/// Runs `work` on a store that folds by itself, or by a thread with a fixed interval.
fn on_a_store<T>(
    is_adaptive: bool,
    work: impl FnOnce(&Database) -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let off =
        CheckpointOptions::default().memory_bytes(0).log_bytes(0).age(Duration::ZERO).idle(Duration::ZERO);
    let options = DatabaseOptions::default();
    let options = if is_adaptive { options } else { options.checkpoint(off) };
    let database = open(Arc::new(OsVfs::new()), &dir.path().join("store"), options)?;
    let stop = AtomicBool::new(is_adaptive);
    let done = thread::scope(|scope| {
        let folding = scope.spawn(|| fixed_interval(&database, &stop));
        let done = work(&database);
        stop.store(true, Ordering::Release);
        folding.join().map_err(|_| "the folding thread panicked")??;
        done
    })?;
    database.close()?;
    Ok(done)
}

/// The time on a processor of a process whose store has rows and nothing to do.
fn idle(report: &mut Report) -> Result<(), BenchError> {
    let spent = |is_adaptive| {
        on_a_store(is_adaptive, |database| {
            for from in (0..10_000).step_by(1_000) {
                commit_rows(database, from, 1_000)?;
            }
            database.checkpoint()?;
            thread::sleep(Duration::from_millis(500));
            let before = process::processor_time()?;
            thread::sleep(IDLE);
            Ok(process::processor_time()?.saturating_sub(before).as_secs_f64())
        })
    };
    let (ours, fixed) = (spent(true)?, spent(false)?);
    println!(
        "  a real store, idle for {} s: {:.2} ms on a processor; every 10 ms {:.2} ms",
        IDLE.as_secs(),
        ours * 1e3,
        fixed * 1e3
    );
    report.ratio("real, idle: time on a processor ÷ that of 10 ms", ours / fixed, Bound::AtMost(0.2));
    Ok(())
}

/// One committer as fast as it can: what a fixed interval costs it, and how far folding is behind.
fn burst() -> Result<(), BenchError> {
    for (name, is_adaptive) in [("adaptive", true), ("every 10 ms", false)] {
        on_a_store(is_adaptive, |database| {
            let (start, mut row, mut behind) = (Instant::now(), 0, Vec::new());
            let before = process::processor_time()?;
            while start.elapsed() < BURST {
                commit_rows(database, row, BURST_ROWS)?;
                row += BURST_ROWS;
                behind.push(as_float(database.reconciler_stats().depth_bytes));
            }
            let seconds = start.elapsed().as_secs_f64();
            let spent = process::processor_time()?.saturating_sub(before).as_secs_f64();
            let stats = database.stats();
            behind.sort_by(f64::total_cmp);
            println!(
                "  a real store, burst, {name}: {:.0} rows/s, {:.1} µs on a processor and {:.0} bytes of pages a row; not folded: {:.1} MiB in the median, {:.1} at most",
                as_float(row) / seconds,
                spent * 1e6 / as_float(row),
                if stats.rows_folded == 0 {
                    0.0
                } else {
                    as_float(stats.pages.written_bytes) / as_float(stats.rows_folded)
                },
                median(behind.clone()) / f64::from(1 << 20),
                percentile(&behind, 1.0) / f64::from(1 << 20)
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// Commits into a store that nobody folds, and times them as its memory fills, up to twice its budget.
fn curve(report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let checkpoint = CheckpointOptions::default().memory_bytes(CURVE_BYTES);
    let options =
        DatabaseOptions::default().checkpoint(checkpoint).log(LogOptions::default().tending(Tending::Caller));
    let database = open(Arc::new(OsVfs::new()), &dir.path().join("store"), options)?;
    let (mut row, mut waits, mut longest) = (0, Vec::new(), Duration::ZERO);
    let mut counted = ThreadTimes::new()?;
    println!(
        "  use of the budget, what a commit of {CURVE_ROWS} rows took, and what it was to wait: least, and × its folding"
    );
    for percent in (CURVE_STEP..=CURVE_END).step_by(usize::try_from(CURVE_STEP)?) {
        let mut times = Vec::new();
        while database.reconciler_stats().utilisation * 100.0 < f64::from(percent) {
            let (start, before) = (Instant::now(), counted.now()?);
            commit_rows(&database, row, CURVE_ROWS)?;
            row += CURVE_ROWS;
            // While it was ready and others ran, it did not wait for the store.
            let took = start.elapsed().saturating_sub(counted.now()?.queued.saturating_sub(before.queued));
            longest = longest.max(took);
            times.push(took.as_secs_f64());
            database.tend();
        }
        let (least, cost) = simulation::delay_curve(f64::from(percent) / 100.0);
        times.sort_by(f64::total_cmp);
        // A disk that others use makes single commits slow, and none fast.
        let took = percentile(&times, 0.25);
        println!(
            "  {percent:>4} % {:>9.3} ms {:>9.3} ms {cost:>6.2} ×",
            took * 1e3,
            least.as_secs_f64() * 1e3
        );
        waits.push(took);
    }
    let steps: Vec<f64> = waits.windows(2).filter_map(|pair| Some(pair.last()? - pair.first()?)).collect();
    let last = waits.last().copied().unwrap_or_default();
    // A commit by itself varies: a step back is one by more than a tenth of the longest wait.
    let back = steps.iter().filter(|step| **step < -0.1 * last).count();
    report.ratio(
        "real, steps at which a fuller store waits less",
        as_float(u64::try_from(back)?),
        Bound::AtMost(0.0),
    );
    let steepest = steps.iter().copied().fold(0.0, f64::max) / last;
    report.ratio("real, the steepest step ÷ the wait at twice the budget", steepest, Bound::AtMost(0.25));
    report.ratio("real, the longest commit in seconds", longest.as_secs_f64(), Bound::Printed);
    database.close()?;
    Ok(())
}
