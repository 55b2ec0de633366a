//! The command that reads every page from the disk, holds it against its parity, and rebuilds what is damaged.

use std::ops::ControlFlow;

use keepstone::{ScrubOptions, ScrubReport};

use crate::args::ScrubArgs;
use crate::exit::{Code, Failure, HELP_WITH_LOSS, Outcome};
use crate::json::{self, Object};
use crate::maintenance::parity;
use crate::output::{self, Output, Progress, bytes, count, duration};
use crate::session::Session;

/// Runs the command.
pub(crate) fn run(session: &Session, args: &ScrubArgs) -> Outcome {
    let writes = !args.dry_run || args.parity.is_some();
    let store = if writes { session.open()? } else { session.open_to_read()? };
    let progress = Progress::counting("scrubbing");
    if let Some(name) = args.parity {
        store.set_parity(parity(name))?;
    }
    let options =
        ScrubOptions::default().bytes_per_second(args.rate.saturating_mul(1_000_000)).dry_run(args.dry_run);
    let report = store.scrub(&options, |_| ControlFlow::Continue(()))?;
    drop(progress);
    if args.json {
        output::say(scrub_json(&report))?;
    } else {
        print(&report)?;
    }
    store.close()?;
    let left = report.finding_count.saturating_sub(if args.dry_run { 0 } else { report.repaired });
    match report.findings.first() {
        Some(first) if report.unrepairable > 0 || (args.dry_run && left > 0) => {
            Err(Failure::new(Code::Damage, "the store is damaged")
                .place(session.dir.display())
                .found(first)
                .help(what_helps(session, &report)))
        }
        _ => Ok(()),
    }
}

fn what_helps(session: &Session, report: &ScrubReport) -> String {
    if report.unrepairable > 0 {
        HELP_WITH_LOSS.to_owned()
    } else {
        format!("nothing stored is lost: keepstone -s {} scrub", session.dir.display())
    }
}

fn print(report: &ScrubReport) -> Outcome {
    let mut output = Output::new();
    for finding in &report.findings {
        output.line(format_args!("found: {}", output::printable(finding)))?;
    }
    let past = if report.past_cache { "" } else { ", through the system's cache" };
    output.line(format_args!(
        "read {} ({}{past}, {}): {}, {} rebuilt, {} beyond repair",
        count(report.pages, "page", "pages"),
        bytes(report.bytes),
        duration(report.elapsed),
        count(report.finding_count, "thing is wrong", "things are wrong"),
        report.repaired,
        report.unrepairable,
    ))?;
    output.flush()
}

fn scrub_json(report: &ScrubReport) -> String {
    let mut line = String::new();
    let mut object = Object::begin(&mut line);
    object.plain("bytes", report.bytes);
    object.plain("complete", report.complete);
    object.plain("finding_count", report.finding_count);
    json::write_list(object.field("findings"), &report.findings, |out, finding| {
        json::write_text(out, finding)
    });
    object.plain("pages", report.pages);
    object.plain("past_cache", report.past_cache);
    object.plain("repaired", report.repaired);
    json::write_seconds(object.field("seconds"), report.elapsed);
    object.plain("unrepairable", report.unrepairable);
    object.end();
    line
}
