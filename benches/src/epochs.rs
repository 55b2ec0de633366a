//! Entering and leaving an epoch, and deferring work to its end, beside `crossbeam-epoch`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keepstone_epoch::{Deferred, Epochs};

use crate::harness::{BenchError, Bound, Report, in_turns, median, per_round, side_by_side};
use crate::readers::rate_of;

/// Times that are entered and left in one step.
const IN_A_STEP: u32 = 64;

/// Whose epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Crossbeam,
}

/// Nanoseconds that each of so many threads takes to enter and leave.
fn nanos(side: Side, epochs: &Epochs<u64>, threads: u32, time: Duration) -> Result<f64, BenchError> {
    let rate = rate_of(u64::from(threads), time, |_| {
        for _ in 0..IN_A_STEP {
            match side {
                Side::Ours => drop(black_box(epochs.enter())),
                Side::Crossbeam => drop(black_box(crossbeam_epoch::pin())),
            }
        }
        Ok(())
    })?;
    Ok(1e9 * f64::from(threads) / (rate * f64::from(IN_A_STEP)))
}

/// Closures that were run.
static RAN: AtomicU64 = AtomicU64::new(0);

/// A closure that has to be kept somewhere: it holds a number.
fn counting(number: u64) -> impl FnOnce() + Send + 'static {
    move || {
        RAN.fetch_add(number, Ordering::Relaxed);
    }
}

/// Nanoseconds for a closure that waits for its epoch and runs; an epoch has as many as are entered in a step.
fn nanos_deferred(side: Side, time: Duration) -> Result<f64, BenchError> {
    let epochs = Epochs::new();
    let rate = rate_of(1, time, |_| {
        for number in 0..u64::from(IN_A_STEP) {
            let work = counting(black_box(number));
            match side {
                Side::Ours => drop(black_box(epochs.submit(Deferred::new(work)))),
                Side::Crossbeam => crossbeam_epoch::pin().defer(work),
            }
        }
        if side == Side::Ours {
            epochs.advance();
            epochs.run_due(Deferred::run);
        }
        Ok(())
    })?;
    Ok(1e9 / (rate * f64::from(IN_A_STEP)))
}

/// One thread that defers closures and runs those that are due, as `crossbeam-epoch` does by itself.
pub(crate) fn deferring(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let time = Duration::from_millis(100);
    let (ratio, ours, theirs) =
        side_by_side(rounds, || nanos_deferred(Side::Ours, time), || nanos_deferred(Side::Crossbeam, time))?;
    println!("  {ours:.1} ns for a closure that is deferred and run, crossbeam {theirs:.1} ns");
    report.ratio("defer and run a closure ÷ crossbeam's defer", ratio, Bound::Printed);
    if RAN.load(Ordering::Relaxed) == 0 {
        return Err("no closure ran".into());
    }
    Ok(())
}

/// One to eight threads that only enter and leave.
pub(crate) fn entering(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let epochs = Epochs::new();
    let time = Duration::from_millis(100);
    let threads = [1_u32, 2, 4, 8];
    let mut sides: Vec<_> =
        threads.into_iter().flat_map(|threads| [(threads, Side::Ours), (threads, Side::Crossbeam)]).collect();
    let times = in_turns(rounds, &mut sides, |(threads, side), _| nanos(*side, &epochs, *threads, time))?;
    for (threads, times) in threads.into_iter().zip(times.chunks(2)) {
        let [ours, theirs] = times else { continue };
        println!(
            "  {threads} threads: {:.1} ns to enter and leave, crossbeam {:.1} ns",
            median(ours.clone()),
            median(theirs.clone())
        );
        let name = format!("{threads} threads, enter and leave ÷ crossbeam's pin");
        // With more threads than cores the scheduler is measured too.
        let bound = if threads == 1 { Bound::AtMost(1.25) } else { Bound::Printed };
        report.ratio(&name, median(per_round(ours, theirs)), bound);
    }
    Ok(())
}
