//! Opening after a kill: a small and a large settled store, each with an equal tail of log that is not folded, written by a
//! process that is killed with SIGKILL. The size of the page file must not matter; the tail costs its replay.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use keepstone_mvcc_temporal::{CheckpointOptions, Database, DatabaseOptions, Read as _};
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, as_float, in_turns, median, per_round};
use crate::process;
use crate::workload::{TABLE, commit_rows, key, open, scramble};

/// Bytes of keys and values of the two stores.
const SMALL_BYTES: u64 = 500_000_000;
const LARGE_BYTES: u64 = 4_000_000_000;
/// A row of the settled part: as wide as rows get before their values leave the leaf.
const SETTLED_ROW_BYTES: u64 = 1_000;
const SETTLED_TABLE: &str = "settled";
/// Bytes of keys and values of the tail, and rows of each of its commits.
const TAIL_BYTES: u64 = 64 << 20;
const TAIL_ROW_BYTES: u64 = 174;
const TAIL_COMMIT_ROWS: u64 = 50;

fn options() -> DatabaseOptions {
    // Nothing is folded unasked: the tail stays as it is from one opening to the next.
    let checkpoint = CheckpointOptions::default().memory_bytes(0).log_bytes(0);
    let checkpoint = checkpoint.age(std::time::Duration::ZERO).idle(std::time::Duration::ZERO);
    DatabaseOptions::default().checkpoint(checkpoint)
}

fn open_in(dir: &str) -> Result<Database, BenchError> {
    open(Arc::new(OsVfs::new()), Path::new(dir), options())
}

/// `fill DIR BYTES`, `tail DIR` or `open DIR`.
pub(crate) fn child(words: &[String]) -> Result<(), BenchError> {
    match words {
        [what, dir, bytes] if what == "fill" => fill(dir, bytes.parse()?),
        [what, dir] if what == "tail" => write_tail(dir),
        [what, dir] if what == "open" => time_opening(dir),
        _ => Err("expected fill, tail or open, and a folder".into()),
    }
}

/// A settled store, closed in order.
fn fill(dir: &str, bytes: u64) -> Result<(), BenchError> {
    let database = open_in(dir)?;
    let value: Vec<u8> = (0..SETTLED_ROW_BYTES / 8).flat_map(|part| scramble(part).to_le_bytes()).collect();
    for from in (0..bytes / SETTLED_ROW_BYTES).step_by(50_000) {
        let mut txn = database.begin()?;
        for number in from..(from + 50_000).min(bytes / SETTLED_ROW_BYTES) {
            txn.put(SETTLED_TABLE, number.to_be_bytes(), value.as_slice())?;
        }
        txn.commit()?;
        database.checkpoint()?;
    }
    database.close()?;
    Ok(())
}

/// Writes the tail, says so, and goes on with lone rows until it is killed.
fn write_tail(dir: &str) -> Result<(), BenchError> {
    let database = open_in(dir)?;
    let mut row = 0;
    while row * TAIL_ROW_BYTES < TAIL_BYTES {
        commit_rows(&database, row, TAIL_COMMIT_ROWS)?;
        row += TAIL_COMMIT_ROWS;
    }
    println!("rows {row}");
    loop {
        commit_rows(&database, row, 1)?;
        row += 1;
    }
}

/// Opens, says how long that took and what was replayed, and ends without closing.
fn time_opening(dir: &str) -> Result<(), BenchError> {
    let start = Instant::now();
    let database = open_in(dir)?;
    println!("seconds {}", start.elapsed().as_secs_f64());
    let stats = database.stats();
    println!("rows {}", stats.memtable_rows);
    println!("log-bytes {}", stats.log.segment_bytes);
    println!("page-bytes {}", stats.pages.file_bytes);
    let last = stats.memtable_rows.checked_sub(1);
    let is_there = match last {
        Some(last) => database.get(TABLE, key(last.min(TAIL_BYTES / TAIL_ROW_BYTES)))?.is_some(),
        None => database.get(SETTLED_TABLE, 0_u64.to_be_bytes())?.is_some(),
    };
    if !is_there {
        return Err("a row that was acknowledged is missing".into());
    }
    std::process::exit(0);
}

/// One of the two stores.
struct Side {
    name: &'static str,
    dir: String,
}

impl Side {
    fn run(&self, what: &str) -> Result<Vec<String>, BenchError> {
        process::finish(process::start(&["opening", what, &self.dir], None)?)
    }

    /// Lets a child write the tail, and kills it.
    fn kill_a_writer(&self) -> Result<(), BenchError> {
        let mut child = process::start(&["opening", "tail", &self.dir], None)?;
        let said = child.stdout.take().map(|pipe| BufReader::new(pipe).lines().next());
        child.kill()?;
        child.wait()?;
        match said {
            Some(Some(Ok(line))) if line.starts_with("rows ") => Ok(()),
            _ => Err("the writer ended before it had written the tail".into()),
        }
    }
}

/// Opens both in turns; gives the seconds by side and round.
fn time(rounds: usize, sides: &mut [Side], is_cold: bool) -> Result<Vec<Vec<f64>>, BenchError> {
    in_turns(rounds, sides, |side, _| {
        if is_cold {
            process::drop_caches(Path::new(&side.dir))?;
        }
        process::figure(&side.run("open")?, "seconds")
    })
}

/// Both stores, with and without a tail, from the disk and from the operating system's memory.
pub(crate) fn after_a_kill(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let home = tempfile::tempdir_in(".")?;
    let mut sides = Vec::new();
    for (name, bytes) in [("0.5 GB", SMALL_BYTES), ("4 GB", LARGE_BYTES)] {
        let dir = home.path().join(name.replace(' ', "-"));
        let dir = dir.to_str().ok_or("the folder has no name in Unicode")?.to_owned();
        let side = Side { name, dir };
        let filled = Instant::now();
        let child = process::start(&["opening", "fill", &side.dir, &bytes.to_string()], None)?;
        process::finish(child)?;
        println!("  {name} filled and settled in {:.0} s", filled.elapsed().as_secs_f64());
        sides.push(side);
    }
    let mut of_state = Vec::new();
    for (state, has_tail) in [("no tail", false), ("a tail of 64 MiB", true)] {
        if has_tail {
            sides.iter().try_for_each(Side::kill_a_writer)?;
            // The first opening finds out what is durable; those that are timed find the same.
            for side in &sides {
                let first = process::figure(&side.run("open")?, "seconds")?;
                println!("  {}, {state}: the first opening after the kill {:.1} ms", side.name, first * 1e3);
            }
        }
        for is_cold in [true, false] {
            let cache = if is_cold { "cold" } else { "warm" };
            let figures = time(rounds, &mut sides, is_cold)?;
            let [small, large] = figures.as_slice() else { return Err("two sides are timed".into()) };
            println!(
                "  {state}, {cache}: 0.5 GB opens in {:.1} ms, 4 GB in {:.1} ms",
                median(small.clone()) * 1e3,
                median(large.clone()) * 1e3
            );
            let ratio = median(per_round(large, small));
            report.ratio(&format!("opening 4 GB ÷ 0.5 GB, {state}, {cache}"), ratio, Bound::AtMost(1.3));
            of_state.push(median(large.clone()));
        }
    }
    let [_, without, _, with] = of_state.as_slice() else { return Err("four states are timed".into()) };
    for side in &sides {
        let lines = side.run("open")?;
        let [rows, pages] = ["rows", "page-bytes"].map(|name| process::figure(&lines, name));
        let (rows, seconds) = (rows?, with - without);
        println!("  {}: a page file of {:.2} GB", side.name, pages? / 1e9);
        println!(
            "  replay: {rows:.0} rows in {:.0} ms, {:.0} MB/s of keys and values, {:.0} rows/s",
            seconds * 1e3,
            rows * as_float(TAIL_ROW_BYTES) / seconds / 1e6,
            rows / seconds
        );
    }
    Ok(())
}
