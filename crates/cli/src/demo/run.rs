//! The demo from beginning to end.

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use keepstone::{Existence, NodePatch, Snapshot, Store, StoreOptions, Version};
use serde_json::Value;

use super::checkpoint;
use super::crash::{self, Killed};
use super::damage;
use super::questions::Graph;
use super::source::{self, Source};
use super::summary::{Numbers, Page};
use crate::args::{COLLECTION_DEFAULT, DemoArgs};
use crate::at::rfc3339;
use crate::check;
use crate::exit::{Code, Failure, Outcome};
use crate::export;
use crate::import::apply::Target;
use crate::import::input::Numbered;
use crate::output::{self, Align, Table, count, duration, shortened, thousands};
use crate::session::{self, JsonCollection};

/// Crates in one commit.
const CRATES_PER_COMMIT: usize = 16;

/// Crates that are changed, one commit each.
const CRATES_REVIEWED: usize = 12;

/// The name of the version that is looked back at.
const AS_READ: &str = "as-read";

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Outcome {
    let started = Instant::now();
    let here = env::current_dir().map_err(|error| Failure::io("the current folder is unknown", &error))?;
    let source = source::read(&here, &mut |line| output::remark(line));
    // Removed when it goes out of scope, also when a step fails.
    let folder = tempfile::Builder::new().prefix("keepstone-demo-").tempdir();
    let folder = folder.map_err(|error| Failure::io("no folder for the temporary store", &error))?;
    let dir = folder.path().join("store");
    let mut page = Page::default();
    let told = Story::tell(&dir, &source, &mut page)?;
    output::remark("killing a process in the middle of committing ...");
    let killed = crash::kill_while_committing(&dir, notes(&source))?;
    let numbers = aftermath(&dir, &source, &told, &killed, started, &mut page)?;
    folder.close().map_err(|error| Failure::io("the temporary store cannot be removed", &error))?;
    if args.json {
        output::say(numbers.json())?;
    } else {
        print(&page, &numbers)?;
    }
    match numbers.broken_promise() {
        None => Ok(()),
        Some(promise) if numbers.check_errors > 0 => Err(Failure::new(Code::Damage, promise)),
        Some(promise) => Err(Failure::error(promise)),
    }
}

fn print(page: &Page, numbers: &Numbers) -> Outcome {
    let mut out = output::Output::new();
    out.line("Keepstone demo: the crates of a workspace as a store of nodes, links and versions")?;
    for line in page.lines() {
        out.line(output::printable(&line))?;
    }
    out.line("")?;
    let verdict = match numbers.broken_promise() {
        None => "Every promise held.".to_owned(),
        Some(promise) => format!("A PROMISE IS BROKEN: {promise}."),
    };
    out.line(format_args!(
        "{verdict} {} in all; the store was temporary and is gone.",
        duration(numbers.elapsed)
    ))?;
    out.flush()
}

/// Short texts for the process that is killed to store.
fn notes(source: &Source) -> Vec<String> {
    let note = |(key, found): (&String, &crate::crate_graph::Crate)| {
        let text = found.readme.as_deref().or(found.description.as_deref()).unwrap_or_default();
        format!("{key}: {}", shortened(text, 600))
    };
    source.graph.crates.iter().map(note).collect()
}

/// What happened before the crash.
struct Story {
    commits: u64,
    /// The version after everything was read, and its export.
    as_read: Version,
    content_as_read: String,
    time_travel_equal: bool,
}

impl Story {
    fn tell(dir: &Path, source: &Source, page: &mut Page) -> Outcome<Self> {
        let store = StoreOptions::default().existence(Existence::Create).open(dir)?;
        let crates = session::open_collection(&store, COLLECTION_DEFAULT)?;
        let mut commits = store_crates(&store, source, page)?;
        let as_read = store.visible_version();
        store.tag(AS_READ, as_read)?;
        let then = store.snapshot()?;
        let content_as_read = crates_of(&store, &then)?;
        let graph = Graph::read(&crates, &then)?;
        answer(&graph, page);
        commits += update(&store, &crates, &graph, page)?;
        let time_travel_equal = look_back(&store, as_read, &content_as_read, page)?;
        if let Some((key, _)) = graph.most_needed(1).first() {
            show_history(&store, &crates, key, page)?;
        }
        store.close()?;
        Ok(Self { commits, as_read, content_as_read, time_travel_equal })
    }
}

/// The canonical export of a view: of one collection, or of all.
pub(super) fn content(store: &Store, view: &Snapshot, only: Option<&str>) -> Outcome<String> {
    let mut text = String::new();
    export::for_each_line(store, view, only, |line| {
        text.push_str(line);
        text.push('\n');
        Ok(())
    })?;
    Ok(text)
}

/// The canonical export of a view, crates only.
fn crates_of(store: &Store, view: &Snapshot) -> Outcome<String> {
    content(store, view, Some(COLLECTION_DEFAULT))
}

/// Stores every crate, a few in each commit; returns the number of commits.
fn store_crates(store: &Store, source: &Source, page: &mut Page) -> Outcome<u64> {
    let mut target = Target::new(store.clone(), COLLECTION_DEFAULT);
    let lines = source.graph.lines();
    let batch: Vec<Numbered> =
        lines.into_iter().zip(1..).map(|(line, number)| Numbered { number, line, bytes: 0 }).collect();
    let mut times = Vec::new();
    for chunk in batch.chunks(CRATES_PER_COMMIT) {
        let began = Instant::now();
        target.commit(chunk)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or(Duration::ZERO);
    let commits = u64::try_from(times.len()).unwrap_or(u64::MAX);
    page.section("What was read and stored");
    page.row("read", format!("from {}", source.origin));
    page.row(
        "stored",
        format!(
            "{} and {}",
            count(source.graph.crates.len(), "crate", "crates"),
            count(source.graph.link_count(), "dependency", "dependencies")
        ),
    );
    page.row(
        "durable",
        format!("{}, {} each (median)", count(commits, "commit", "commits"), duration(median)),
    );
    Ok(commits)
}

/// Asks the store and writes down what it says.
fn answer(graph: &Graph, page: &mut Page) {
    page.section("What the store answers");
    let most = graph.most_needed(5);
    let mut label = "needed most";
    let width = most.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    for (key, direct) in &most {
        let all = graph.dependants(key).len();
        page.row(
            std::mem::take(&mut label),
            format!("{key:<width$}  by {direct:>3} directly, {all:>3} in all"),
        );
    }
    let chain = graph.longest_chain();
    page.row("longest chain", count(chain.len(), "crate", "crates"));
    for part in chain.chunks(4) {
        let is_last = part.last() == chain.last();
        page.row("", format!("{}{}", part.join(" > "), if is_last { "" } else { " >" }));
    }
    let licences = graph.licences();
    let shown: Vec<String> =
        licences.iter().take(4).map(|(name, count)| format!("{name} {}", thousands(*count))).collect();
    let others: u64 = licences.iter().skip(4).map(|(_, count)| count).sum();
    page.row("licences", format!("{}; others {}", shown.join(", "), thousands(others)));
    let doubles = graph.doubles();
    let shown: Vec<String> =
        doubles.iter().take(3).map(|(name, versions)| format!("{name} ({})", versions.join(", "))).collect();
    let rest = if doubles.len() > 3 { ", ..." } else { "" };
    page.row("in several versions", format!("{}: {}{rest}", thousands(doubles.len()), shown.join(", ")));
    if let (number, Some((len, key))) = graph.readmes() {
        let number = count(number, "README", "READMEs");
        page.row("longest README", format!("{key} with {} bytes, of {number}", thousands(len)));
    }
}

/// Changes part of the store, one commit for each change; returns the number of commits.
fn update(store: &Store, crates: &JsonCollection, graph: &Graph, page: &mut Page) -> Outcome<u64> {
    let mut commits = 0;
    for (key, direct) in graph.most_needed(CRATES_REVIEWED) {
        let label = format!("reviewed: {direct} crates rest on it");
        let weight = u32::try_from(direct).map_or(f64::MAX, f64::from);
        store.write(|txn| {
            crates.put_node(txn, key, &NodePatch::<Value>::new().label(&label))?;
            crates.put_node(txn, "review", &NodePatch::new().label("What was reviewed"))?;
            crates.link(txn, "review", "reviewed", key, weight)
        })?;
        commits += 1;
    }
    page.section("What it was");
    page.row("changed", format!("{} reviewed and linked", count(commits, "crate", "crates")));
    if let Some(key) = graph.least_entangled() {
        store.write(|txn| crates.delete(txn, key))?;
        commits += 1;
        page.row("deleted", format!("{key}, with its links both ways"));
    }
    Ok(commits)
}

/// Reads the old version by number, by name and by time, and compares it with what it was, byte by byte.
fn look_back(store: &Store, as_read: Version, content_as_read: &str, page: &mut Page) -> Outcome<bool> {
    let by_name = store.resolve(AS_READ)?;
    let by_time = store.version_info(as_read)?.map(|info| store.resolve(info.time)).transpose()?;
    let mut equal = true;
    for version in [Some(as_read), Some(by_name), by_time] {
        equal &= match version {
            Some(version) => crates_of(store, &store.at(version)?)? == content_as_read,
            None => false,
        };
    }
    let differs = crates_of(store, &store.snapshot()?)? != content_as_read;
    let bytes = thousands(content_as_read.len());
    let verdict = match (equal, differs) {
        (true, true) => format!("equal to the byte ({bytes} bytes), and not what is there now"),
        (true, false) => format!("equal ({bytes} bytes), but so is what is there now"),
        (false, _) => "NOT as it was".to_owned(),
    };
    page.row("looked back", format!("version {as_read}, by number, by name {AS_READ:?} and by time:"));
    page.row("", verdict);
    Ok(equal && differs)
}

fn show_history(store: &Store, crates: &JsonCollection, key: &str, page: &mut Page) -> Outcome {
    let columns = [("VERSION", Align::Right), ("TIME", Align::Left), ("LABEL", Align::Left)];
    let mut table = Table::new(columns);
    for entry in crates.history(store, key) {
        let entry = entry?;
        let label = entry.node.map_or_else(|| "(deleted)".to_owned(), |node| node.label.unwrap_or_default());
        table.row([entry.version.to_string(), rfc3339(entry.time), label]);
    }
    page.row("history", format!("of {key}, newest first"));
    table.lines(0).into_iter().for_each(|line| page.row("", line));
    Ok(())
}

/// What is there after the crash.
fn aftermath(
    dir: &Path,
    source: &Source,
    told: &Story,
    killed: &Killed,
    started: Instant,
    page: &mut Page,
) -> Outcome<Numbers> {
    let reopening = Instant::now();
    let store = StoreOptions::default().existence(Existence::MustExist).open(dir)?;
    let reopened = reopening.elapsed();
    let found = killed.look_for(&store)?;
    let still_equal = crates_of(&store, &store.at(told.as_read)?)? == told.content_as_read;
    let mut damages = check::damages(&store)?;
    page.section("What survives");
    page.row(
        "killed",
        format!(
            "a process with 4 writers, after {} acknowledged commits ({})",
            thousands(found.acked),
            killed.status
        ),
    );
    page.row(
        "recovered",
        format!(
            "in {}: {} of {} acknowledged commits are there, each with its content at its version",
            duration(reopened),
            thousands(found.recovered),
            thousands(found.acked)
        ),
    );
    page.row(
        "",
        format!("{} more had reached the disk before their acknowledgement", thousands(found.unacknowledged)),
    );
    tell_damages("every record read from disk again", &damages, page);
    store.close()?;
    output::remark("folding the log into the page file, and comparing every version ...");
    let folded = checkpoint::fold_and_compare(dir, page)?;
    let store = StoreOptions::default().existence(Existence::MustExist).open(dir)?;
    let found_after = check::damages(&store)?;
    tell_damages("every page read from disk again", &found_after, page);
    damages.extend(found_after);
    store.close()?;
    output::remark("flipping bits in the page file, and having it heal ...");
    let healed = damage::damage_and_heal(dir, page)?;
    Ok(Numbers {
        nodes: u64::try_from(source.graph.crates.len()).unwrap_or(u64::MAX),
        links: u64::try_from(source.graph.link_count()).unwrap_or(u64::MAX),
        commits: told.commits.saturating_add(found.acked),
        versions: folded.versions,
        acked: found.acked,
        recovered: found.recovered,
        lost: found.lost,
        time_travel_equal: told.time_travel_equal && still_equal,
        check_errors: u64::try_from(damages.len()).unwrap_or(u64::MAX),
        folded,
        healed,
        elapsed: started.elapsed(),
    })
}

fn tell_damages(what: &str, damages: &[String], page: &mut Page) {
    match damages.is_empty() {
        true => page.row("checked", format!("{what}: no damage")),
        false => damages.iter().for_each(|damage| page.row("DAMAGE", damage)),
    }
}
