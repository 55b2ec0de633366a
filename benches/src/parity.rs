//! XOR of blocks beside a plain copy of as many bytes: in the cache, and where the memory is the limit.

use std::hint::black_box;
use std::time::Instant;

use keepstone_xor_dag::parity;

use crate::harness::{BenchError, Bound, Report, as_float, in_turns, median, per_round};

/// A page, which stays in the cache.
const SMALL: usize = 4 << 10;

/// More than any cache.
const LARGE: usize = 256 << 20;

/// Bytes that a measurement goes through at least.
const WORK: usize = 256 << 20;

/// Sources of the pass over several.
const SOURCES: usize = 4;

/// A side: its name and what it does to a target with sources.
type Side = (&'static str, fn(&mut [u8], &[&[u8]]));

const SIDES: [Side; 5] = [
    ("copy_from_slice", |target, sources| {
        if let [source, ..] = sources {
            target.copy_from_slice(source);
        }
    }),
    ("xor_into", |target, sources| {
        if let [source, ..] = sources {
            parity::xor_into(target, source);
        }
    }),
    ("four times xor_into", |target, sources| {
        for source in sources {
            parity::xor_into(target, source);
        }
    }),
    ("xor_all_into of four", parity::xor_all_into),
    ("is_zero", |target, _| {
        black_box(parity::is_zero(target));
    }),
];

/// Each operation on a page and on 256 MiB.
pub(crate) fn of_blocks(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    measure("4 KiB", SMALL, rounds, report, [Bound::AtMost(4.0), Bound::AtMost(0.9)])?;
    measure("256 MiB", LARGE, rounds, report, [Bound::AtMost(2.0), Bound::AtMost(0.6)])
}

fn measure(
    name: &str,
    len: usize,
    rounds: usize,
    report: &mut Report,
    [against_copy, against_single]: [Bound; 2],
) -> Result<(), BenchError> {
    // Sources of several large blocks are one block at several offsets, so that the memory needed stays small.
    let shift = 64 * 7;
    let noise: Vec<u8> = (0..len + SOURCES * shift).map(|at| low(at.wrapping_mul(31) >> 3)).collect();
    let sources: Vec<&[u8]> = (0..SOURCES).filter_map(|at| noise.get(at * shift..at * shift + len)).collect();
    let mut target = vec![0_u8; len];
    let mut sides = SIDES;
    let times = in_turns(rounds, &mut sides, |(_, run), _| {
        target.fill(0);
        let start = Instant::now();
        for _ in 0..WORK / len {
            run(black_box(&mut target), black_box(&sources));
        }
        Ok(start.elapsed().as_secs_f64())
    })?;
    for ((side, _), times) in SIDES.iter().zip(&times) {
        let gigabytes = as_float(u64::try_from(WORK)?) / median(times.clone()) / 1e9;
        println!("  {name}: {side:<24} {gigabytes:>7.2} GB/s of the target");
    }
    let [copy, one, single, several, _] = times.as_slice() else { return Err("five sides".into()) };
    report.ratio(&format!("time of xor_into ÷ copy, {name}"), median(per_round(one, copy)), against_copy);
    let ratio = median(per_round(several, single));
    report.ratio(&format!("time of xor_all_into ÷ single passes, {name}"), ratio, against_single);
    Ok(())
}

fn low(number: usize) -> u8 {
    u8::try_from(number & 0xFF).unwrap_or_default()
}
