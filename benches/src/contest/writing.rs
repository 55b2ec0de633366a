//! Loading in bulk, durable commits, and removals.

use std::time::Instant;

use super::engine::Engine;
use super::{BATCH_ROWS, BESIDE_REDB, BULK_ROWS, Rows, SIDES, Side, WRITES_BESIDE_FJALL, judge};
use crate::harness::{BenchError, Bound, Report, in_turns, median, micros, number, seconds_of};
use crate::workload::Row;

/// One-row commits of a turn.
const LONE_COMMITS: usize = 200;
/// Batches of a turn.
const BATCHES: usize = 20;

/// What loading took, in seconds.
struct Loading {
    /// Until the last commit returned.
    committed: f64,
    /// Until nothing waited to be moved.
    settled: f64,
}

/// Loads new stores in every round; gives those of the last.
///
/// What is judged is the time in which ours settled, and that in which each of the others committed everything: redb is
/// settled then, and fjall durable. fjall's time to settle is printed beside it.
pub(super) fn bulk(rounds: usize, rows: &Rows, report: &mut Report) -> Result<Vec<Side>, BenchError> {
    let mut sides = Vec::new();
    let mut loads: Vec<Vec<Loading>> = SIDES.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        drop(std::mem::take(&mut sides));
        sides = Side::create_all()?;
        let mut turns: Vec<_> = sides.iter_mut().zip(&mut loads).collect();
        let first = round % turns.len().max(1);
        turns.rotate_left(first);
        for (side, loads) in turns {
            loads.push(load(&*side.engine, &rows.bulk)?);
        }
    }
    let of = |pick: fn(&Loading) -> f64| -> Vec<Vec<f64>> {
        loads.iter().map(|loads| loads.iter().map(pick).collect()).collect()
    };
    let (committed, settled) = (of(|load| load.committed), of(|load| load.settled));
    let judged: Vec<Vec<f64>> = settled.iter().take(2).chain(committed.iter().skip(2)).cloned().collect();
    let show = |seconds: f64| format!("{seconds:.2} s");
    judge(report, "bulk", &judged, show, [BESIDE_REDB, WRITES_BESIDE_FJALL]);
    judge(report, "bulk, until committed", &committed, show, [Bound::Printed; 2]);
    judge(report, "bulk, until settled", &settled, show, [Bound::Printed; 2]);
    Ok(sides)
}

fn load(engine: &dyn Engine, rows: &[Row]) -> Result<Loading, BenchError> {
    let start = Instant::now();
    rows.chunks(BULK_ROWS).try_for_each(|batch| engine.put(batch))?;
    let committed = start.elapsed().as_secs_f64();
    engine.settle()?;
    Ok(Loading { committed, settled: start.elapsed().as_secs_f64() })
}

/// Durable commits of one row, of which the median counts, and of 1,000, of which the mean does: a store that stops
/// now and then to make room is to be seen.
pub(super) fn commits(
    rounds: usize,
    sides: &mut [Side],
    rows: &mut Rows,
    report: &mut Report,
) -> Result<(), BenchError> {
    let bounds = [BESIDE_REDB, WRITES_BESIDE_FJALL];
    let fresh = rows.fresh(rounds * LONE_COMMITS)?;
    let lone = in_turns(rounds, sides, |side, round| {
        let mut times = Vec::with_capacity(LONE_COMMITS);
        for row in fresh.chunks(LONE_COMMITS).nth(round).unwrap_or_default().chunks(1) {
            times.push(seconds_of(|| side.engine.put(row))?);
        }
        Ok(median(times))
    })?;
    judge(report, "a commit of one row", &lone, micros, bounds);

    let fresh = rows.fresh(rounds * BATCHES * BATCH_ROWS)?;
    let batches = in_turns(rounds, sides, |side, round| {
        let mine = fresh.chunks(BATCHES * BATCH_ROWS).nth(round).unwrap_or_default();
        let time = seconds_of(|| mine.chunks(BATCH_ROWS).try_for_each(|batch| side.engine.put(batch)))?;
        // What is left to do is done before the next has its turn.
        side.engine.settle()?;
        Ok(time / number(BATCHES)?)
    })?;
    judge(report, "a commit of 1,000 rows", &batches, micros, bounds);
    Ok(())
}

/// Removes rows in batches, a part of them in each round.
pub(super) fn removals(
    rounds: usize,
    sides: &mut [Side],
    rows: &[Row],
    report: &mut Report,
) -> Result<(), BenchError> {
    let part = rows.len().div_ceil(rounds).next_multiple_of(BATCH_ROWS);
    let mut settling = Vec::new();
    let removed = in_turns(rounds, sides, |side, round| {
        let mine = rows.chunks(part).nth(round).unwrap_or_default();
        let time = seconds_of(|| mine.chunks(BATCH_ROWS).try_for_each(|batch| side.engine.remove(batch)))?;
        settling.push((side.name, seconds_of(|| side.engine.settle())?));
        Ok(time / number(mine.len())?)
    })?;
    judge(report, "a removal in batches of 1,000", &removed, micros, [BESIDE_REDB, WRITES_BESIDE_FJALL]);
    for (name, _) in SIDES {
        let times = settling.iter().filter(|(of, _)| *of == name).map(|(_, time)| *time).collect();
        println!("  settling after {part} removals: {name} {:.0} ms", median(times) * 1e3);
    }
    Ok(())
}
