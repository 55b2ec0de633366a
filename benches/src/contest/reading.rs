//! Point reads and short ranges, from random places.

use super::engine::View;
use super::{BESIDE_REDB, Side, judge};
use crate::harness::{BenchError, Bound, Report, in_turns, micros, number, seconds_of};
use crate::workload::{Row, scramble};

/// Point reads of a turn.
const GETS: usize = 20_000;
/// Ranges of a turn.
const RANGES: usize = 4_000;
/// Rows of a range.
const RANGE_ROWS: usize = 10;

/// Reads of rows that are there.
pub(super) fn gets(
    state: &str,
    rounds: usize,
    sides: &mut [Side],
    rows: &[Row],
    report: &mut Report,
) -> Result<(), BenchError> {
    let figures = reads(GETS, rounds, sides, rows, |view, row| {
        let len = view.get(&row.key)?;
        len.ok_or_else(|| "a row is missing".into())
    })?;
    judge(report, &format!("a read, {state}"), &figures, micros, [BESIDE_REDB, Bound::Printed]);
    Ok(())
}

/// Ranges of ten rows from rows that are there.
pub(super) fn ranges(
    state: &str,
    rounds: usize,
    sides: &mut [Side],
    rows: &[Row],
    report: &mut Report,
) -> Result<(), BenchError> {
    let figures = reads(RANGES, rounds, sides, rows, |view, row| view.range(&row.key, RANGE_ROWS))?;
    let what = format!("a range of {RANGE_ROWS} rows, {state}");
    judge(report, &what, &figures, micros, [BESIDE_REDB, Bound::Printed]);
    Ok(())
}

/// Reads at the same random places on all sides, which must give the same number of bytes. The first round of each warms
/// its cache and does not count.
fn reads(
    count: usize,
    rounds: usize,
    sides: &mut [Side],
    rows: &[Row],
    read: impl Fn(&dyn View, &Row) -> Result<usize, BenchError>,
) -> Result<Vec<Vec<f64>>, BenchError> {
    let mut expected: Vec<Option<usize>> = vec![None; rounds + 1];
    let len = u64::try_from(rows.len())?;
    let mut figures = in_turns(rounds + 1, sides, |side, round| {
        let view = side.engine.view()?;
        let mut at = scramble(u64::try_from(round)?);
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            at = scramble(at);
            places.extend(rows.get(usize::try_from(at % len)?));
        }
        let mut bytes = 0;
        let time = seconds_of(|| {
            for row in &places {
                bytes += read(&*view, row)?;
            }
            Ok(())
        })?;
        if let Some(expected) = expected.get_mut(round) {
            let of_first = *expected.get_or_insert(bytes);
            if of_first != bytes {
                return Err(format!("{}: expected {of_first} bytes, found {bytes}", side.name).into());
            }
        }
        Ok(time / number(count)?)
    })?;
    figures.iter_mut().for_each(|times| drop(times.drain(..1)));
    Ok(figures)
}
