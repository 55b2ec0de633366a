//! The commands on versions: versions, diff, tag, rollback.

use std::collections::BTreeMap;

use keepstone::{At, ChangeKind, NodeChange, Version};

use crate::args::{DiffArgs, RollbackArgs, TagArgs, VersionsArgs};
use crate::at::{self, rfc3339};
use crate::exit::{Code, Failure, Outcome};
use crate::json::{self, Object};
use crate::output::{self, Align, Output, Table, thousands};
use crate::session::{self, Session};

/// Lists the commits, newest first.
pub(crate) fn versions(session: &Session, args: &VersionsArgs) -> Outcome {
    let store = session.open_to_read()?;
    let mut names: BTreeMap<Version, Vec<String>> = BTreeMap::new();
    for tag in store.tags()? {
        names.entry(tag.version).or_default().push(tag.name);
    }
    let columns =
        [("VERSION", Align::Right), ("TIME", Align::Left), ("ROWS", Align::Right), ("NAMES", Align::Left)];
    let mut table = Table::new(columns);
    let mut output = Output::new();
    for commit in store.versions()?.take(args.limit.unwrap_or(usize::MAX)) {
        let commit = commit?;
        let names = names.get(&commit.version).map(Vec::as_slice).unwrap_or_default();
        if args.json {
            let mut line = String::new();
            let mut object = Object::begin(&mut line);
            json::write_list(object.field("names"), names, |out, name| json::write_text(out, name));
            object.plain("rows", commit.rows);
            object.text("time", &rfc3339(commit.time));
            object.text("version", &commit.version.to_string());
            object.end();
            output.line(line)?;
        } else {
            let (version, time) = (commit.version.to_string(), rfc3339(commit.time));
            table.row([version, time, thousands(commit.rows), names.join(", ")]);
        }
    }
    output.flush()?;
    table.print()?;
    Ok(store.close()?)
}

/// Shows which nodes differ between two versions.
pub(crate) fn diff(session: &Session, args: &DiffArgs) -> Outcome {
    let store = session.open_to_read()?;
    let from = session::resolve(&store, &args.from)?;
    let to = session::resolve(&store, &args.to)?;
    print_changes(session, store.diff(from, to)?, args.json)?;
    Ok(store.close()?)
}

/// Prints which nodes differ, or those of one collection.
pub(crate) fn print_changes(session: &Session, changes: Vec<NodeChange>, json: bool) -> Outcome {
    let columns = [("CHANGE", Align::Left), ("COLLECTION", Align::Left), ("KEY", Align::Left)];
    let mut table = Table::new(columns);
    let mut output = Output::new();
    let is_asked_for = |collection: &str| session.collection.as_ref().is_none_or(|only| only == collection);
    for change in changes.into_iter().filter(|change| is_asked_for(&change.collection)) {
        let kind = name_of(change.kind);
        if json {
            let mut line = String::new();
            let mut object = Object::begin(&mut line);
            object.text("change", kind);
            object.text("collection", &change.collection);
            object.text("key", &change.key);
            object.end();
            output.line(line)?;
        } else {
            table.row([kind.to_owned(), change.collection, change.key]);
        }
    }
    output.flush()?;
    table.print()
}

const fn name_of(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Created => "created",
        ChangeKind::Updated => "updated",
        ChangeKind::Deleted => "deleted",
        ChangeKind::LinksChanged => "links",
        _ => "changed",
    }
}

/// Gives a version a name.
pub(crate) fn tag(session: &Session, args: &TagArgs) -> Outcome {
    if !matches!(at::parse(&args.name), At::Name(_)) {
        return Err(Failure::new(Code::Usage, format!("{:?} cannot be a name", args.name))
            .expected("something that is neither a version nor a time"));
    }
    let store = session.open()?;
    let version = match args.at.as_deref() {
        Some(at) => session::resolve(&store, at)?,
        None => store.visible_version(),
    };
    store.tag(&args.name, version)?;
    output::say(format_args!("{} is version {version}", output::printable(&args.name)))?;
    Ok(store.close()?)
}

/// Makes a new version with the content of an old one.
pub(crate) fn rollback(session: &Session, args: &RollbackArgs) -> Outcome {
    let store = session.open()?;
    let old = session::resolve(&store, &args.at)?;
    let receipt = store.rollback_to(old)?;
    let new = receipt.version.unwrap_or_else(|| store.visible_version());
    output::say(format_args!("version {new} has the content of version {old}"))?;
    Ok(store.close()?)
}
