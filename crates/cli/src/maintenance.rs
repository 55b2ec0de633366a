//! The commands that change how a store lies on disk and not what it says: init, checkpoint, compact, gc.

use keepstone::{Durability, Existence, Parity};

use crate::args::{DurabilityName, GcArgs, InitArgs, JsonOnly, ParityName};
use crate::exit::Outcome;
use crate::json::{self, Object};
use crate::output::{self, Progress, bytes, count, duration, thousands};
use crate::session::{self, Session};

/// Creates a store.
pub(crate) fn init(session: &Session, args: &InitArgs) -> Outcome {
    let mut options = session::options()?.existence(Existence::Create);
    if let Some(name) = args.durability {
        options = options.durability(durability(name));
    }
    if let Some(page_size) = args.page_size {
        options = options.page_size(page_size);
    }
    if let Some(retention) = args.retention {
        options = options.retention(retention);
    }
    if let Some(name) = args.parity {
        options = options.parity(parity(name));
    }
    let store = session.open_as(&options)?;
    output::say(format_args!("created the store {}", session.dir.display()))?;
    Ok(store.close()?)
}

/// What the setting is called.
pub(crate) const fn parity(name: ParityName) -> Parity {
    match name {
        ParityName::Off => Parity::Off,
        ParityName::Xor => Parity::Xor,
    }
}

const fn durability(name: DurabilityName) -> Durability {
    match name {
        DurabilityName::Full => Durability::Full,
        DurabilityName::Normal => Durability::Normal,
        DurabilityName::Relaxed => Durability::RELAXED,
        DurabilityName::None => Durability::None,
    }
}

/// Folds the log into the page file.
pub(crate) fn checkpoint(session: &Session, args: &JsonOnly) -> Outcome {
    let store = session.open()?;
    let progress = Progress::counting("folding");
    let report = store.checkpoint()?;
    drop(progress);
    if args.json {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.plain("log_bytes", report.log_bytes);
        object.plain("page_bytes", report.page_bytes);
        object.plain("rows", report.rows);
        json::write_seconds(object.field("seconds"), report.elapsed);
        object.text("version", &report.folded_version);
        object.plain("written_bytes", report.written_bytes);
        object.end();
        output::say(line)?;
    } else {
        output::say(format_args!(
            "folded {} through version {} ({}); the page file has {}, the log {}",
            count(report.rows, "row", "rows"),
            report.folded_version,
            duration(report.elapsed),
            bytes(report.page_bytes),
            bytes(report.log_bytes),
        ))?;
    }
    Ok(store.close()?)
}

/// Drops what nothing keeps and shortens the page file.
pub(crate) fn compact(session: &Session, args: &JsonOnly) -> Outcome {
    let store = session.open()?;
    let progress = Progress::counting("compacting");
    let report = store.compact()?;
    drop(progress);
    if args.json {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.plain("bytes_after", report.bytes_after);
        object.plain("bytes_before", report.bytes_before);
        object.plain("pruned_commits", report.pruned_commits);
        object.plain("pruned_rows", report.pruned_rows);
        object.plain("reclaimed_bytes", report.reclaimed_bytes);
        json::write_seconds(object.field("seconds"), report.elapsed);
        object.end();
        output::say(line)?;
    } else {
        output::say(format_args!(
            "the page file has {}, it had {}; {} and {} went ({})",
            bytes(report.bytes_after),
            bytes(report.bytes_before),
            count(report.pruned_rows, "older row", "older rows"),
            count(report.pruned_commits, "commit", "commits"),
            duration(report.elapsed),
        ))?;
    }
    Ok(store.close()?)
}

/// Looks for pages that nothing leads to.
pub(crate) fn gc(session: &Session, args: &GcArgs) -> Outcome {
    let store = if args.apply { session.open()? } else { session.open_to_read()? };
    let progress = Progress::counting("reading pages");
    let report = store.gc(!args.apply)?;
    drop(progress);
    if args.json {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.plain("applied", args.apply);
        object.plain("findings", report.findings);
        object.plain("freed", report.freed);
        object.plain("reachable", report.reachable);
        object.plain("rebuilt", report.rebuilt);
        json::write_seconds(object.field("seconds"), report.elapsed);
        object.end();
        output::say(line)?;
    } else {
        let reachable = count(report.reachable, "page is", "pages are");
        let verdict = match (report.findings, report.rebuilt) {
            (0, _) => "the free-space map agrees: nothing to collect".to_owned(),
            (findings, true) => format!(
                "the free-space map differed in {}, was made anew and freed {}",
                count(findings, "place", "places"),
                count(report.freed, "page", "pages")
            ),
            (findings, false) => format!(
                "the free-space map differs in {}; nothing was changed: `keepstone gc --apply` makes it anew",
                thousands(findings)
            ),
        };
        output::say(format_args!("{reachable} in use; {verdict} ({})", duration(report.elapsed)))?;
    }
    Ok(store.close()?)
}
