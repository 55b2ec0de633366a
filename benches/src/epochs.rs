//! Entering and leaving an epoch, beside `crossbeam_epoch::pin`.

use std::hint::black_box;
use std::time::Duration;

use keepstone_epoch::Epochs;

use crate::harness::{BenchError, Bound, Report, in_turns, median, per_round};
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
        report.ratio(&name, median(per_round(ours, theirs)), Bound::Printed);
    }
    Ok(())
}
