//! Ten million small nodes through the facade, in a process that has 1 GiB with the pages of its files: that it ends, how
//! fast, how long a committer waited, how large the store is, and what a point read costs cold and warm.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use keepstone::{Collection, Store, StoreOptions};
use serde::{Deserialize, Serialize};

use crate::harness::{BenchError, Bound, Report, as_float, bytes_below, percentile};
use crate::process::{self, MemoryGroup, ThreadTimes};
use crate::workload::scramble;

const NODES: u64 = 10_000_000;
/// Nodes of a run that shows the shape, by `KEEPSTONE_BENCH_NODES`.
const NODES_VARIABLE: &str = "KEEPSTONE_BENCH_NODES";
const LIMIT_BYTES: u64 = 1 << 30;
/// Nodes of a commit, as `keepstone import` has them.
const BATCH: u64 = 1_000;
/// Reads that are timed, cold and warm.
const READS: u64 = 20_000;

/// A small body.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Body {
    number: u64,
    text: String,
}

fn key(number: u64) -> String {
    format!("node-{:016x}", scramble(number))
}

fn body(number: u64) -> Body {
    Body { number, text: format!("{:016x}{:016x}", scramble(number ^ 1 << 40), scramble(number ^ 1 << 41)) }
}

/// Bytes of a node's key and encoded body.
fn raw_bytes(nodes: u64) -> Result<u64, BenchError> {
    let one = key(1).len() + rmp_serde::to_vec_named(&body(NODES))?.len();
    Ok(nodes * u64::try_from(one)?)
}

fn open(dir: &str) -> Result<(Store, Collection<Body>), BenchError> {
    let store = StoreOptions::new().open(Path::new(dir))?;
    let collection = store.collection::<Body>("nodes")?;
    Ok((store, collection))
}

/// `import DIR NODES` or `read DIR NODES`.
pub(crate) fn child(words: &[String]) -> Result<(), BenchError> {
    match words {
        [what, dir, nodes] if what == "import" => import(dir, nodes.parse()?),
        [what, dir, nodes] if what == "read" => read(dir, nodes.parse()?),
        _ => Err("expected import or read, a folder and a number of nodes".into()),
    }
}

fn import(dir: &str, nodes: u64) -> Result<(), BenchError> {
    let (store, collection) = open(dir)?;
    let (start, mut counted) = (Instant::now(), ThreadTimes::new()?);
    let before = counted.now()?;
    let (mut longest, mut times) = (Duration::ZERO, Vec::new());
    let mut told = start;
    for from in (0..nodes).step_by(usize::try_from(BATCH)?) {
        let began = Instant::now();
        let mut txn = store.begin()?;
        for number in from..(from + BATCH).min(nodes) {
            collection.put(&mut txn, &key(number), &body(number))?;
        }
        let committing = Instant::now();
        txn.commit()?;
        longest = longest.max(committing.elapsed());
        times.push(began.elapsed().as_secs_f64());
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let (stats, resident) = (store.stats(), process::memory_bytes("VmRSS")? >> 20);
            writeln!(
                io::stderr(),
                "    {:>4.0} s: {from} nodes, {resident} MiB resident, {} MiB not folded, {} slices, {} slowed, longest commit {:.3} s",
                start.elapsed().as_secs_f64(),
                stats.memory_bytes >> 20,
                stats.checkpoint_slices,
                stats.slowed,
                longest.as_secs_f64()
            )?;
        }
    }
    println!("seconds {}", start.elapsed().as_secs_f64());
    let after = counted.now()?;
    println!("queued {}", after.queued.saturating_sub(before.queued).as_secs_f64());
    println!("writer {}", after.ran.saturating_sub(before.ran).as_secs_f64());
    println!("processor {}", process::processor_time()?.as_secs_f64());
    times.sort_by(f64::total_cmp);
    println!("batch-median {}", percentile(&times, 0.5));
    println!("batch-p99 {}", percentile(&times, 0.99));
    println!("longest-commit {}", longest.as_secs_f64());
    let stats = store.stats();
    println!("slowed {}", stats.slowed);
    println!("slices {}", stats.checkpoint_slices);
    let closing = Instant::now();
    store.checkpoint()?;
    store.close()?;
    println!("closing {}", closing.elapsed().as_secs_f64());
    println!("resident-max {}", process::memory_bytes("VmHWM")?);
    Ok(())
}

fn read(dir: &str, nodes: u64) -> Result<(), BenchError> {
    let opening = Instant::now();
    let (store, collection) = open(dir)?;
    println!("opening {}", opening.elapsed().as_secs_f64());
    for pass in ["cold", "warm"] {
        let mut times = Vec::new();
        for turn in 0..READS {
            let number = scramble(turn) % nodes;
            let key = key(number);
            let start = Instant::now();
            let found = collection.get(&store, &key)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            if found != Some(body(number)) {
                return Err(format!("{key} reads as {found:?}").into());
            }
        }
        times.sort_by(f64::total_cmp);
        for (name, part) in [("p50", 0.5), ("p95", 0.95), ("max", 1.0)] {
            println!("{pass}-{name} {}", percentile(&times, part));
        }
    }
    store.close()?;
    Ok(())
}

/// Imports, and reads in a second process.
pub(crate) fn in_a_gibibyte(report: &mut Report) -> Result<(), BenchError> {
    let nodes = match std::env::var(NODES_VARIABLE) {
        Ok(text) => text.parse()?,
        Err(_) => NODES,
    };
    let home = tempfile::tempdir_in(".")?;
    let dir = home.path().join("store");
    let dir_text = dir.to_str().ok_or("the folder has no name in Unicode")?;
    let group = MemoryGroup::new(LIMIT_BYTES)?;
    println!("  {nodes} nodes within {} MiB ({})", LIMIT_BYTES >> 20, group.kind());
    let words = |what| ["ten-million", what, dir_text];
    let count = nodes.to_string();
    let start = |what| process::start(&[&words(what)[..], &[&count]].concat(), Some(&group));
    let lines = process::finish(start("import")?)?;
    let figure = |name: &str| process::figure(&lines, name);
    let seconds = figure("seconds")?;
    println!(
        "  imported in {seconds:.1} s: {:.0} nodes/s, {:.0} rows/s; a batch of {BATCH} took {:.1} ms in the median, {:.1} ms at p99",
        as_float(nodes) / seconds,
        as_float(2 * nodes) / seconds,
        figure("batch-median")? * 1e3,
        figure("batch-p99")? * 1e3
    );
    let net = seconds - figure("queued")?;
    println!(
        "  of that {:.1} s the writer was ready and other processes ran; it ran for {:.1} s, all threads for {:.1} s: {:.1} µs a node",
        figure("queued")?,
        figure("writer")?,
        figure("processor")?,
        figure("processor")? * 1e6 / as_float(nodes)
    );
    println!(
        "  the longest commit took {:.0} ms, {} were slowed, {} slices; checkpoint and close took {:.1} s",
        figure("longest-commit")? * 1e3,
        figure("slowed")?,
        figure("slices")?,
        figure("closing")?
    );
    println!(
        "  resident at most {:.0} MiB; the group, with pages of files, at most {} MiB",
        figure("resident-max")? / f64::from(1 << 20),
        group.bytes_max()? >> 20
    );
    let (raw, stored) = (raw_bytes(nodes)?, bytes_below(&dir, std::fs::Metadata::len)?);
    println!("  {} MiB of keys and bodies, {} MiB on disk", raw >> 20, stored >> 20);
    process::drop_caches(&dir)?;
    let reads = process::finish(start("read")?)?;
    println!("  opening took {:.1} ms", process::figure(&reads, "opening")? * 1e3);
    for pass in ["cold", "warm"] {
        let of = |name| process::figure(&reads, &format!("{pass}-{name}"));
        println!(
            "  a {pass} read by key: p50 {:.1} µs, p95 {:.1} µs, max {:.0} µs",
            of("p50")?,
            of("p95")?,
            of("max")?
        );
    }
    report.ratio("nodes imported per second", as_float(nodes) / seconds, Bound::Printed);
    let rate = as_float(nodes) / net;
    report.ratio("nodes imported per second that the writer was let run", rate, Bound::Printed);
    let resident = figure("resident-max")? / as_float(LIMIT_BYTES);
    report.ratio("most resident memory ÷ limit", resident, Bound::AtMost(1.0));
    report.ratio("store ÷ keys and bodies", as_float(stored) / as_float(raw), Bound::Printed);
    let warm = process::figure(&reads, "warm-p50")?;
    report.ratio("cold read ÷ warm read (p50)", process::figure(&reads, "cold-p50")? / warm, Bound::Printed);
    Ok(())
}
