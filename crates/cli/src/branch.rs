//! The commands on branches: list, create, show, diff, merge, discard.

use keepstone::{MergeConflict, MergeError, MergeStrategy};

use crate::args::{
    BranchArgs, BranchCommand, BranchCreateArgs, BranchDiffArgs, BranchMergeArgs, BranchName, JsonOnly,
    StrategyName,
};
use crate::at::rfc3339;
use crate::exit::{Failure, Outcome};
use crate::json::Object;
use crate::output::{self, Align, Output, Table, printable, thousands};
use crate::session::{self, Session};
use crate::versions::print_changes;

/// Does what a command on branches says.
pub(crate) fn run(session: &Session, command: &BranchCommand) -> Outcome {
    match command {
        BranchCommand::List(args) => list(session, args),
        BranchCommand::Create(args) => create(session, args),
        BranchCommand::Show(args) => show(session, args),
        BranchCommand::Diff(args) => diff(session, args),
        BranchCommand::Merge(args) => merge(session, args),
        BranchCommand::Discard(args) => discard(session, args),
    }
}

fn list(session: &Session, args: &JsonOnly) -> Outcome {
    let store = session.open_to_read()?;
    let columns = [("BRANCH", Align::Left), ("FORKED AT", Align::Right), ("TIME", Align::Left)];
    let mut table = Table::new(columns);
    let mut output = Output::new();
    for branch in store.branches()? {
        let (base, time) = (branch.base.to_string(), rfc3339(branch.forked));
        if args.json {
            let mut line = String::new();
            let mut object = Object::begin(&mut line);
            object.text("base", &base);
            object.text("branch", &branch.name);
            object.text("time", &time);
            object.end();
            output.line(line)?;
        } else {
            table.row([branch.name, base, time]);
        }
    }
    output.flush()?;
    table.print()?;
    Ok(store.close()?)
}

fn create(session: &Session, args: &BranchCreateArgs) -> Outcome {
    let store = session.open()?;
    let version = match args.at.as_deref() {
        Some(at) => session::resolve(&store, at)?,
        None => store.visible_version(),
    };
    store.fork(&args.name, version)?;
    output::say(format_args!("{} is forked at version {version}", printable(&args.name)))?;
    Ok(store.close()?)
}

fn show(session: &Session, args: &BranchArgs) -> Outcome {
    let store = session.open_to_read()?;
    let branch = store.branch(&args.name)?;
    let (changed, conflicts) = (branch.diff()?.len(), branch.conflicts()?.len());
    let (base, time) = (branch.base().to_string(), rfc3339(branch.forked()));
    if args.json {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.text("base", &base);
        object.text("branch", branch.name());
        object.plain("changed", changed);
        object.plain("conflicts", conflicts);
        object.text("time", &time);
        object.end();
        output::say(line)?;
    } else {
        let count = |count: usize| thousands(u64::try_from(count).unwrap_or(u64::MAX));
        let mut table = Table::new([("BRANCH", Align::Left), ("", Align::Left)]);
        table.row(["name".to_owned(), branch.name().to_owned()]);
        table.row(["forked at version".to_owned(), base]);
        table.row(["forked".to_owned(), time]);
        table.row(["nodes changed".to_owned(), count(changed)]);
        table.row(["in conflict with the store".to_owned(), count(conflicts)]);
        table.print()?;
    }
    Ok(store.close()?)
}

fn diff(session: &Session, args: &BranchDiffArgs) -> Outcome {
    let store = session.open_to_read()?;
    let branch = store.branch(&args.name)?;
    if args.conflicts {
        let is_asked_for = |conflict: &MergeConflict| {
            session.collection.as_ref().is_none_or(|only| *only == conflict.collection)
        };
        let found: Vec<_> = branch.conflicts()?.into_iter().filter(is_asked_for).collect();
        print_conflicts(&found, args.json)?;
    } else {
        print_changes(session, branch.diff()?, args.json)?;
    }
    Ok(store.close()?)
}

fn print_conflicts(found: &[MergeConflict], json: bool) -> Outcome {
    let columns =
        [("CONFLICT", Align::Left), ("COLLECTION", Align::Left), ("KEY", Align::Left), ("", Align::Left)];
    let mut table = Table::new(columns);
    let mut output = Output::new();
    for conflict in found {
        if json {
            let [base, main, branch] = conflict.there;
            let mut line = String::new();
            let mut object = Object::begin(&mut line);
            object.plain("base", base);
            object.plain("branch", branch);
            object.text("collection", &conflict.collection);
            object.text("conflict", conflict.kind.as_str());
            object.text("detail", &conflict.detail);
            object.text("key", &conflict.key);
            object.plain("main", main);
            object.end();
            output.line(line)?;
        } else {
            let kind = conflict.kind.as_str().to_owned();
            table.row([kind, conflict.collection.clone(), conflict.key.clone(), conflict.detail.clone()]);
        }
    }
    output.flush()?;
    table.print()
}

fn merge(session: &Session, args: &BranchMergeArgs) -> Outcome {
    let store = session.open()?;
    let branch = store.branch(&args.name)?;
    let strategy = match args.strategy {
        StrategyName::Reject => MergeStrategy::Reject,
        StrategyName::Last => MergeStrategy::LastWins,
        StrategyName::First => MergeStrategy::FirstWins,
        StrategyName::Xor => MergeStrategy::ThreeWayXor,
    };
    let report = match branch.merge(strategy) {
        Ok(report) => report,
        Err(MergeError::Conflicts(found)) => {
            print_conflicts(&found.listed, args.json)?;
            let what = format!("the branch {:?} is not merged: {} in conflict", args.name, found.count);
            let help = "change the branch, or choose --strategy last, first or xor";
            return Err(Failure::error(what).place(session.dir.display()).help(help));
        }
        Err(MergeError::Commit(error)) => return Err(error.into()),
        Err(MergeError::Change(error)) => return Err(error.into()),
        Err(other) => return Err(Failure::error(other.to_string())),
    };
    let version = report.version.unwrap_or_else(|| store.visible_version());
    if args.discard {
        branch.discard()?;
    }
    if args.json {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.plain("decided", report.decided);
        object.plain("rows", report.rows);
        object.text("version", &version.to_string());
        object.end();
        output::say(line)?;
    } else {
        output::say(format_args!("version {version}"))?;
    }
    Ok(store.close()?)
}

fn discard(session: &Session, args: &BranchName) -> Outcome {
    let store = session.open()?;
    store.branch(&args.name)?.discard()?;
    output::say(format_args!("{} is discarded", printable(&args.name)))?;
    Ok(store.close()?)
}
