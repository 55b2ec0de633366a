//! The command that shows what a store holds and does: every counter, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use keepstone::{ReconcilerStats, Stats, Store};
use serde_json::Value;

use crate::args::JsonOnly;
use crate::exit::Outcome;
use crate::json;
use crate::output::{self, Align, Output, Table, bytes, count, duration, thousands};
use crate::session::{self, Session};

/// Runs the command.
pub(crate) fn run(session: &Session, args: &JsonOnly) -> Outcome {
    let store = session.open_to_read()?;
    let view = store.snapshot()?;
    let mut collections = Vec::new();
    for info in store.collections(&view)? {
        let nodes = session::open_collection(&store, &info.name)?.len(&view)?;
        collections.push((info.name, nodes));
    }
    drop(view);
    let (stats, reconciler) = (store.stats(), store.reconciler_stats());
    let mut value = serde_json::to_value(&stats).unwrap_or_default();
    if args.json {
        if let Some(object) = value.as_object_mut() {
            let collections =
                collections.iter().map(|(name, nodes)| serde_json::json!({"name": name, "nodes": nodes}));
            object.insert("collections".to_owned(), collections.collect());
            object.insert("durability".to_owned(), store.durability().to_string().into());
            object.insert("id".to_owned(), store.id().to_string().into());
            object.insert("read_only".to_owned(), store.is_read_only().into());
            object.insert("reconciler".to_owned(), serde_json::to_value(reconciler).unwrap_or_default());
        }
        output::say(json::text(&value))?;
    } else {
        let tables = [
            facts(session, &store, &stats, &reconciler),
            collections_table(&collections),
            counters(&value),
            named("PAGES", &stats.pages),
            named("LOG", &stats.log),
            latencies(&stats),
        ];
        print(tables)?;
    }
    Ok(store.close()?)
}

fn print(tables: [Vec<String>; 6]) -> Outcome {
    let mut output = Output::new();
    let mut is_first = true;
    for lines in tables.into_iter().filter(|lines| !lines.is_empty()) {
        if !std::mem::take(&mut is_first) {
            output.line("")?;
        }
        lines.into_iter().try_for_each(|line| output.line(line))?;
    }
    output.flush()
}

fn facts(session: &Session, store: &Store, stats: &Stats, reconciler: &ReconcilerStats) -> Vec<String> {
    let number = |name: &str| stats.pages.get(name).copied().unwrap_or_default();
    let mut facts = Table::new([("STORE", Align::Left), ("", Align::Left)]);
    let mut fact = |name: &str, value: String| facts.row([name.to_owned(), value]);
    fact("folder", session.dir.display().to_string());
    fact("id", store.id().to_string());
    fact(
        "open",
        if store.is_read_only() { "read-only, another process writes" } else { "for writing" }.to_owned(),
    );
    fact("durability", store.durability().to_string());
    fact("version", stats.version.clone());
    fact("versions", format!("{} made, kept from {} on", thousands(stats.versions), stats.oldest_version));
    fact(
        "page file",
        format!(
            "{} through version {}, {} in all with {}",
            count(stats.page_rows, "row", "rows"),
            stats.folded_version,
            bytes(number("file_bytes")),
            count(stats.history_rows, "older row", "older rows"),
        ),
    );
    fact("log", bytes(stats.log.get("segment_bytes").copied().unwrap_or_default()));
    fact(
        "in memory",
        format!("{} in about {}", count(stats.memory_rows, "row", "rows"), bytes(stats.memory_bytes)),
    );
    fact(
        "page cache",
        format!(
            "{}, {} and {}",
            bytes(number("cache_bytes")),
            count(number("cache_hits"), "hit", "hits"),
            count(number("cache_misses"), "miss", "misses"),
        ),
    );
    let lag = match reconciler.estimated_lag {
        Duration::ZERO => "nothing waits".to_owned(),
        lag => format!("folded in about {}", duration(lag)),
    };
    fact("folding", format!("{:?}, {lag}", reconciler.recommendation).to_lowercase());
    facts.lines(0)
}

fn collections_table(collections: &[(String, u64)]) -> Vec<String> {
    let mut nodes = Table::new([("COLLECTION", Align::Left), ("NODES", Align::Right)]);
    collections.iter().for_each(|(name, number)| nodes.row([name.clone(), thousands(*number)]));
    nodes.lines(0)
}

/// Every plain number of the statistics by the name that `--json` gives it.
fn counters(stats: &Value) -> Vec<String> {
    let mut table = Table::new([("SINCE IT WAS OPENED", Align::Left), ("", Align::Right)]);
    let numbers: BTreeMap<&String, u64> = stats
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name, value.as_u64()?)))
        .collect();
    numbers.into_iter().for_each(|(name, number)| table.row([name.clone(), thousands(number)]));
    table.lines(0)
}

fn named(heading: &'static str, numbers: &BTreeMap<&'static str, u64>) -> Vec<String> {
    let mut table = Table::new([(heading, Align::Left), ("", Align::Right)]);
    numbers.iter().for_each(|(name, number)| table.row([(*name).to_owned(), thousands(*number)]));
    table.lines(0)
}

fn latencies(stats: &Stats) -> Vec<String> {
    let columns = [
        ("LATENCY", Align::Left),
        ("COUNT", Align::Right),
        ("P50", Align::Right),
        ("P95", Align::Right),
        ("P99", Align::Right),
        ("P99.9", Align::Right),
        ("MAX", Align::Right),
    ];
    let mut table = Table::new(columns);
    let time = |nanos| duration(Duration::from_nanos(nanos));
    for (name, found) in &stats.latencies {
        let [p50, p95, p99] = [found.p50_ns, found.p95_ns, found.p99_ns].map(time);
        let (p999, max) = (time(found.p999_ns), time(found.max_ns));
        table.row([(*name).to_owned(), thousands(found.count), p50, p95, p99, p999, max]);
    }
    table.lines(0)
}
