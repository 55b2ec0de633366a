//! The command that reads everything from disk, reports what is damaged, and repairs what can be repaired.

use keepstone::{CheckReport, OpenError, RecoveryReport, Store};

use crate::args::CheckArgs;
use crate::exit::{Code, Failure, HELP_WITH_LOSS, Outcome};
use crate::json::{self, Object};
use crate::output::{self, Output, Progress, count};
use crate::session::{self, Session};

/// Runs the command.
pub(crate) fn run(session: &Session, args: &CheckArgs) -> Outcome {
    let progress = Progress::counting("checking");
    let mut repaired = Vec::new();
    let store = match session.try_open_to_read()? {
        Err(error) if error.is_damage() && args.repair && is_log_damage(&error) => {
            repaired.push(error.to_string());
            session.open_as(&session::repairing_options()?)?
        }
        Err(error) if error.is_damage() => {
            let dir = session.dir.display();
            let is_log_damage = is_log_damage(&error);
            let failure = Failure::from(error);
            return Err(if is_log_damage && !args.repair {
                failure.help(format!("keepstone -s {dir} check --repair"))
            } else {
                failure
            });
        }
        other => other?,
    };
    let recovery = store.recovery();
    repaired.extend(recovery.healed.iter().cloned());
    repaired.extend(recovery.quarantined.iter().map(|file| format!("put aside {}", file.display())));
    let report = match args.repair && !store.is_read_only() {
        true => {
            let done = store.repair()?;
            repaired.extend(done.repaired());
            done.after
        }
        false => store.check()?,
    };
    drop(progress);
    let damages = damages_of(&report);
    if args.json {
        output::say(check_json(&report, &damages, &repaired))?;
    } else {
        print(&report, &damages, &repaired)?;
    }
    let is_read_only = store.is_read_only();
    store.close()?;
    match damages.first() {
        None if !lost_something(&recovery) => Ok(()),
        None => Err(Failure::new(Code::Damage, "the store was damaged; what is left of it is sound")
            .place(session.dir.display())
            .found(count(recovery.quarantined.len(), "file put aside", "files put aside"))),
        Some(first) => Err(Failure::new(Code::Damage, "the store is damaged")
            .place(session.dir.display())
            .found(first)
            .help(what_helps(session, &report, is_read_only))),
    }
}

/// Whether cutting the log may help. Whatever else is wrong, it would only lose more.
fn is_log_damage(error: &OpenError) -> bool {
    !matches!(
        error,
        OpenError::Pages { .. }
            | OpenError::PagesBehind { .. }
            | OpenError::LogBehind { .. }
            | OpenError::MissingRecords { .. }
    )
}

fn what_helps(session: &Session, report: &CheckReport, is_read_only: bool) -> String {
    if !report.loses_nothing() {
        return HELP_WITH_LOSS.to_owned();
    }
    let repair = format!("nothing stored is lost: keepstone -s {} check --repair", session.dir.display());
    if is_read_only { format!("{repair}, when no other process writes") } else { repair }
}

fn print(report: &CheckReport, damages: &[String], repaired: &[String]) -> Outcome {
    let mut output = Output::new();
    repaired
        .iter()
        .try_for_each(|line| output.line(format_args!("repaired: {}", output::printable(line))))?;
    damages.iter().try_for_each(|line| output.line(format_args!("damage: {}", output::printable(line))))?;
    if report.rows_unchecked > 0 {
        let rows = count(report.rows_unchecked, "row", "rows");
        output.line(format_args!("not held against others: {rows}, because of damaged pages"))?;
    }
    output.line(format_args!("{}: {}", checked(report), verdict(damages.len())))?;
    output.flush()
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
        "checked {} with {}, {}, {} and {}",
        count(report.commits, "commit", "commits"),
        count(report.rows, "row", "rows"),
        count(report.pages, "page", "pages"),
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
    object.plain("pages", report.pages);
    object.plain("parity_groups", report.parity_groups);
    json::write_list(object.field("repaired"), repaired, |out, repair| json::write_text(out, repair));
    object.plain("rows", report.rows);
    object.plain("rows_unchecked", report.rows_unchecked);
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
