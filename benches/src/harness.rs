//! Rounds of two sides in turn, medians, and the report with its thresholds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whatever stops a benchmark.
pub(crate) type BenchError = Box<dyn Error + Send + Sync>;

/// What a ratio must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Anything; printed only.
    Printed,
}

/// The ratios of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    ratios: BTreeMap<String, f64>,
    missed: Vec<String>,
}

impl Report {
    /// Notes a ratio and says whether it holds.
    pub(crate) fn ratio(&mut self, name: &str, ratio: f64, bound: Bound) {
        let (holds, text) = match bound {
            Bound::AtMost(limit) => (ratio <= limit, format!("at most {limit:.2}")),
            Bound::AtLeast(limit) => (ratio >= limit, format!("at least {limit:.2}")),
            Bound::Printed => (true, "printed".to_owned()),
        };
        let mark = if holds { "ok" } else { "MISSED" };
        println!("  {name:<58} {ratio:>8.3}   {text:<16} {mark}");
        self.ratios.insert(name.to_owned(), ratio);
        if !holds {
            self.missed.push(format!("{name}: {ratio:.3}, {text}"));
        }
    }

    /// Prints what was missed; true when nothing was.
    pub(crate) fn print_verdict(&self) -> bool {
        println!("\n{} ratios, {} missed", self.ratios.len(), self.missed.len());
        for line in &self.missed {
            println!("  missed: {line}");
        }
        self.missed.is_empty()
    }

    fn file(name: &str) -> PathBuf {
        PathBuf::from("target/bench").join(format!("{name}.json"))
    }

    /// Keeps the ratios under a name.
    pub(crate) fn save(&self, name: &str) -> Result<(), BenchError> {
        fs::create_dir_all("target/bench")?;
        fs::write(Self::file(name), serde_json::to_vec_pretty(&self.ratios)?)?;
        println!("\nkept in {}", Self::file(name).display());
        Ok(())
    }

    /// Prints each ratio beside the one kept under a name.
    pub(crate) fn compare_with(&self, name: &str) -> Result<(), BenchError> {
        let file = Self::file(name);
        let text = fs::read(&file).map_err(|error| {
            format!("no ratios kept as {name} ({}: {error}); run with --save {name} first", file.display())
        })?;
        let before: BTreeMap<String, f64> = serde_json::from_slice(&text)?;
        println!("\nagainst {name}");
        for (row, now) in &self.ratios {
            match before.get(row) {
                Some(then) => {
                    println!("  {row:<58} {then:>8.3} -> {now:>8.3}  ({:+.1} %)", (now / then - 1.0) * 100.0)
                }
                None => println!("  {row:<58}      new -> {now:>8.3}"),
            }
        }
        Ok(())
    }
}

/// Bytes of all files of a folder and below, each as `bytes_of` says.
pub(crate) fn bytes_below(dir: &Path, bytes_of: fn(&fs::Metadata) -> u64) -> Result<u64, BenchError> {
    let mut bytes = 0_u64;
    for entry in fs::read_dir(dir)? {
        let (path, found) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        let more = if found.is_dir() { bytes_below(&path, bytes_of)? } else { bytes_of(&found) };
        bytes = bytes.saturating_add(more);
    }
    Ok(bytes)
}

/// The middle value; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The value below which so great a part of sorted values is; 0 of nothing.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> f64 {
    // What is at the place is the largest of those below it, so counting them needs no conversion of the place itself.
    let len = u32::try_from(sorted.len()).map_or(f64::INFINITY, f64::from);
    let below =
        (1..=sorted.len()).zip(1_u32..).take_while(|(_, rank)| f64::from(*rank) <= len * part).count();
    sorted.get(below.max(1) - 1).copied().unwrap_or_default()
}

/// The median time of `count` runs of `step`, in seconds.
pub(crate) fn median_step(
    count: usize,
    mut step: impl FnMut(usize) -> Result<(), BenchError>,
) -> Result<f64, BenchError> {
    let mut times = Vec::with_capacity(count);
    for turn in 0..count {
        let start = Instant::now();
        step(turn)?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(median(times))
}

/// Runs two sides in turns and gives the median of the ratios `a ÷ b`, with the medians of both.
pub(crate) fn side_by_side(
    rounds: usize,
    mut a: impl FnMut() -> Result<f64, BenchError>,
    mut b: impl FnMut() -> Result<f64, BenchError>,
) -> Result<(f64, f64, f64), BenchError> {
    let (mut of_a, mut of_b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who goes first alternates, so that drift within a round cancels out.
        let (time_a, time_b) = if round % 2 == 0 {
            let first = a()?;
            (first, b()?)
        } else {
            let first = b()?;
            (a()?, first)
        };
        of_a.push(time_a);
        of_b.push(time_b);
        ratios.push(time_a / time_b);
    }
    Ok((median(ratios), median(of_a), median(of_b)))
}

/// Runs any number of sides in turns, a different one first in each round; gives each side's figures by round.
pub(crate) fn in_turns<S>(
    rounds: usize,
    sides: &mut [S],
    mut measure: impl FnMut(&mut S, usize) -> Result<f64, BenchError>,
) -> Result<Vec<Vec<f64>>, BenchError> {
    let mut figures: Vec<Vec<f64>> = sides.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        let mut turns: Vec<_> = sides.iter_mut().zip(&mut figures).collect();
        let first = round % turns.len().max(1);
        turns.rotate_left(first);
        for (side, figures) in turns {
            figures.push(measure(side, round)?);
        }
    }
    Ok(figures)
}

/// The ratios `a ÷ b`, round by round.
pub(crate) fn per_round(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

/// How long a step took, in seconds.
#[cfg(feature = "peers")]
pub(crate) fn seconds_of(step: impl FnOnce() -> Result<(), BenchError>) -> Result<f64, BenchError> {
    let start = Instant::now();
    step()?;
    Ok(start.elapsed().as_secs_f64())
}

/// A count as a float, up to 2^32.
#[cfg(feature = "peers")]
pub(crate) fn number<N>(count: N) -> Result<f64, BenchError>
where
    u32: TryFrom<N, Error: Into<BenchError>>,
{
    u32::try_from(count).map(f64::from).map_err(Into::into)
}

/// A count as a float: of bytes or of rows, where digits beyond 2^53 say nothing.
pub(crate) fn as_float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more digits")]
    let float = count as f64;
    float
}

/// Seconds as microseconds, for printing.
pub(crate) fn micros(seconds: f64) -> String {
    format!("{:.1} µs", seconds * 1e6)
}

/// Units done in `time`, per second.
pub(crate) fn rate(units: u32, time: Duration) -> f64 {
    f64::from(units) / time.as_secs_f64()
}
