//! The commands that look after a store: init, check, stats, and those that wait for the page file.

use keepstone::{CheckReport, Durability, Existence, RecoveryReport, Stats, Store};

use crate::args::{CheckArgs, DurabilityName, InitArgs, JsonOnly};
use crate::exit::{Code, Failure, Outcome};
use crate::json::{self, Object};
use crate::output::{self, Align, Output, Progress, Table, count, thousands};
use crate::session::{self, Session};

/// Creates a store.
pub(crate) fn init(session: &Session, args: &InitArgs) -> Outcome {
    let later = [("--page-size", args.page_size.is_some()), ("--retention", args.retention.is_some())];
    if let Some((name, _)) = later.iter().find(|(_, given)| *given) {
        return Err(needs_page_file(&format!("init {name}")));
    }
    let mut options = session::options()?.existence(Existence::Create);
    if let Some(name) = args.durability {
        options = options.durability(durability(name));
    }
    let store = session.open_as(&options)?;
    output::say(format_args!("created the store {}", session.dir.display()))?;
    Ok(store.close()?)
}

const fn durability(name: DurabilityName) -> Durability {
    match name {
        DurabilityName::Full => Durability::Full,
        DurabilityName::Normal => Durability::Normal,
        DurabilityName::Relaxed => Durability::RELAXED,
        DurabilityName::None => Durability::None,
    }
}

/// What a command that is not there yet answers.
pub(crate) fn needs_page_file(what: &str) -> Failure {
    Failure::error(format!("{what} needs the page file, which this version does not have yet"))
        .found("a store that is its log: every version is kept, nothing is folded or reclaimed")
        .help("see docs/limits.md")
}

/// Reads everything from disk and reports what is damaged.
pub(crate) fn check(session: &Session, args: &CheckArgs) -> Outcome {
    let progress = Progress::counting("checking");
    let mut repaired = Vec::new();
    let store = match session.open_to_read() {
        Err(failure) if failure.code() == Code::Damage && args.repair => {
            repaired.push(failure.to_string());
            session.open_as(&session::repairing_options()?)?
        }
        Err(failure) if failure.code() == Code::Damage => {
            let repair = format!("keepstone -s {} check --repair", session.dir.display());
            return Err(failure.help(repair));
        }
        other => other?,
    };
    let recovery = store.recovery();
    let report = store.check()?;
    drop(progress);
    repaired.extend(recovery.healed.iter().cloned());
    repaired.extend(recovery.quarantined.iter().map(|file| format!("put aside {}", file.display())));
    let damages = damages_of(&report);
    if args.json {
        output::say(check_json(&report, &damages, &repaired))?;
    } else {
        let mut output = Output::new();
        repaired
            .iter()
            .try_for_each(|line| output.line(format_args!("repaired: {}", output::printable(line))))?;
        damages
            .iter()
            .try_for_each(|line| output.line(format_args!("damage: {}", output::printable(line))))?;
        output.line(format_args!("{}: {}", checked(&report), verdict(damages.len())))?;
        output.flush()?;
    }
    store.close()?;
    match damages.first() {
        None if repaired.is_empty() || !lost_something(&recovery) => Ok(()),
        None => Err(Failure::new(Code::Damage, "the store was damaged; what is left of it is sound")
            .place(session.dir.display())
            .found(count(recovery.quarantined.len(), "file put aside", "files put aside"))),
        Some(first) => Err(Failure::new(Code::Damage, "the store is damaged")
            .place(session.dir.display())
            .found(first)
            .help("restore a copy, or export what can be read: keepstone export")),
    }
}

/// Whether repairing put something aside, rather than rebuilding it.
fn lost_something(recovery: &RecoveryReport) -> bool {
    !recovery.quarantined.is_empty()
}

fn verdict(damages: usize) -> String {
    if damages == 0 { "no damage".to_owned() } else { count(damages, "damage", "damages") }
}

fn checked(report: &CheckReport) -> String {
    format!(
        "checked {} with {}, {} and {}",
        count(report.commits, "commit", "commits"),
        count(report.rows, "row", "rows"),
        count(report.nodes, "node", "nodes"),
        count(report.links, "link", "links"),
    )
}

fn check_json(report: &CheckReport, damages: &[String], repaired: &[String]) -> String {
    let mut line = String::new();
    let mut object = Object::begin(&mut line);
    object.plain("collections", report.collections);
    object.plain("commits", report.commits);
    json::write_list(object.field("damages"), damages, |out, damage| json::write_text(out, damage));
    object.plain("links", report.links);
    object.plain("nodes", report.nodes);
    json::write_list(object.field("repaired"), repaired, |out, repair| json::write_text(out, repair));
    object.plain("rows", report.rows);
    object.end();
    line
}

/// What a check of the store finds wrong; what could be rebuilt is not wrong.
pub(crate) fn damages(store: &Store) -> Outcome<Vec<String>> {
    Ok(damages_of(&store.check()?))
}

fn damages_of(report: &CheckReport) -> Vec<String> {
    let found = report.findings.iter().filter(|finding| !finding.healed).map(ToString::to_string);
    let more = Some(report.findings_unlisted).filter(|more| *more > 0).map(|more| format!("and {more} more"));
    found.chain(more).collect()
}

/// Shows what the store holds and does.
pub(crate) fn stats(session: &Session, args: &JsonOnly) -> Outcome {
    let store = session.open_to_read()?;
    let view = store.snapshot()?;
    let mut collections = Vec::new();
    for info in store.collections(&view)? {
        let nodes = session::open_collection(&store, &info.name)?.len(&view)?;
        collections.push((info.name, nodes));
    }
    let stats = store.stats();
    if args.json {
        let mut value = serde_json::to_value(&stats).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            let collections =
                collections.iter().map(|(name, nodes)| serde_json::json!({"name": name, "nodes": nodes}));
            object.insert("collections".to_owned(), collections.collect());
            object.insert("id".to_owned(), store.id().to_string().into());
            object.insert("read_only".to_owned(), store.is_read_only().into());
        }
        output::say(json::text(&value))?;
    } else {
        print_stats(session, &store, &stats, &collections)?;
    }
    Ok(store.close()?)
}

fn print_stats(session: &Session, store: &Store, stats: &Stats, collections: &[(String, u64)]) -> Outcome {
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
    fact("versions", thousands(stats.versions));
    fact(
        "in memory",
        format!("{} in about {}", count(stats.memory_rows, "row", "rows"), bytes(stats.memory_bytes)),
    );
    let mut nodes = Table::new([("COLLECTION", Align::Left), ("NODES", Align::Right)]);
    collections.iter().for_each(|(name, number)| nodes.row([name.clone(), thousands(*number)]));
    let mut log = Table::new([("LOG", Align::Left), ("", Align::Right)]);
    stats.log.iter().for_each(|(name, number)| log.row([(*name).to_owned(), thousands(*number)]));
    let mut output = Output::new();
    for (place, lines) in [facts.lines(0), nodes.lines(0), log.lines(0)].into_iter().enumerate() {
        if place > 0 && !lines.is_empty() {
            output.line("")?;
        }
        lines.into_iter().try_for_each(|line| output.line(line))?;
    }
    output.flush()
}

fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}
