//! The commands on one node: get, put, delete, history.

use std::io::{self, Read as _};

use keepstone::{HistoryEntry, NodePatch, Timestamp, Version};
use serde_json::Value;

use crate::args::{HistoryArgs, KeyAt, KeyOnly, PutArgs};
use crate::at::rfc3339;
use crate::exit::{Failure, Outcome};
use crate::export;
use crate::json::{self, Object};
use crate::output::{self, Align, Output, Table, shortened};
use crate::session::{self, Session};

/// So much of a body is shown in a table, in characters.
const BODY_SHOWN_MAX: usize = 60;

/// Prints a node as a JSON line.
pub(crate) fn get(session: &Session, args: &KeyAt) -> Outcome {
    let store = session.open_to_read()?;
    let view = session.view(&store, args.read.at.as_deref())?;
    let collection = session.open_collection(&store)?;
    let node = collection.node(&view, &args.key)?.ok_or_else(|| {
        let failure = no_node(session, &args.key);
        if let Some(at) = &args.read.at { failure.place(format!("at {at}")) } else { failure }
    })?;
    output::say(export::line_of(&view, session.collection_name(), &collection, &node)?)?;
    Ok(store.close()?)
}

/// The failure that there is no such node.
pub(crate) fn no_node(session: &Session, key: &str) -> Failure {
    let name = session.collection_name();
    let failure = Failure::not_found(format!("there is no node {key:?} in collection {name:?}"));
    failure.place(session.dir.display())
}

/// Writes the body of a node.
pub(crate) fn put(session: &Session, args: &PutArgs) -> Outcome {
    let patch = match args.json.as_deref() {
        None => NodePatch::new(),
        Some("-") => {
            let mut text = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut text);
            read.map_err(|error| Failure::io("cannot read standard input", &error))?;
            NodePatch::body(body(&text)?)
        }
        Some(text) => NodePatch::body(body(text.as_bytes())?),
    };
    let store = if session.branch.is_some() { session.open()? } else { session.open_or_create()? };
    let collection = session.open_collection(&store)?;
    let committed = session.write(&store, |txn| collection.put_node(txn, &args.key, &patch))?;
    session::finish(store, &committed)
}

fn body(text: &[u8]) -> Outcome<Value> {
    json::parse(text).map_err(|error| {
        let help = "a text needs its own quotes, as in '\"granite\"'";
        Failure::error("the body is refused").place(error).help(help)
    })
}

/// Deletes a node.
pub(crate) fn delete(session: &Session, args: &KeyOnly) -> Outcome {
    let store = session.open()?;
    let collection = session.open_collection(&store)?;
    let committed = session.write(&store, |txn| collection.delete(txn, &args.key))?;
    if !committed.value {
        return Err(no_node(session, &args.key));
    }
    session::finish(store, &committed)
}

/// Shows what a node was, newest first.
pub(crate) fn history(session: &Session, args: &HistoryArgs) -> Outcome {
    let store = session.open_to_read()?;
    let collection = session.open_collection(&store)?;
    let columns = [
        ("VERSION", Align::Right),
        ("TIME", Align::Left),
        ("CHANGE", Align::Left),
        ("LABEL", Align::Left),
        ("BODY", Align::Left),
    ];
    let mut table = Table::new(columns);
    let mut output = Output::new();
    let oldest_kept = store.stats().oldest_version.parse().unwrap_or(Version::ZERO);
    let mut entries = collection.history(&store, &args.key).peekable();
    if entries.peek().is_none() {
        return Err(no_node(session, &args.key));
    }
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if args.json {
            output.line(json_entry(&entry))?;
        } else {
            // What was there at the oldest version that is kept was made then or before.
            let is_first =
                entries.peek().is_none() && (entry.version > oldest_kept || oldest_kept == Version::ZERO);
            table.row(row(&entry, is_first));
        }
    }
    output.flush()?;
    table.print()?;
    Ok(store.close()?)
}

/// The time of an entry; those of versions below the oldest that is kept are gone.
fn time_of(entry: &HistoryEntry<Value>) -> Option<String> {
    (entry.time != Timestamp::EPOCH).then(|| rfc3339(entry.time))
}

fn row(entry: &HistoryEntry<Value>, is_first: bool) -> [String; 5] {
    let node = entry.node.as_ref();
    let change = match (node, is_first) {
        (None, _) => "deleted",
        (Some(_), true) => "created",
        (Some(_), false) => "written",
    };
    let body = node.and_then(|node| node.body.as_ref()).map(json::text).unwrap_or_default();
    [
        entry.version.to_string(),
        time_of(entry).unwrap_or_else(|| "before what is kept".to_owned()),
        change.to_owned(),
        node.and_then(|node| node.label.clone()).unwrap_or_default(),
        shortened(&body, BODY_SHOWN_MAX),
    ]
}

fn json_entry(entry: &HistoryEntry<Value>) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    match &entry.node {
        None => object.plain("deleted", true),
        Some(node) => {
            if let Some(body) = &node.body {
                json::write(object.field("body"), body);
            }
            if let Some(label) = &node.label {
                object.text("label", label);
            }
        }
    }
    match time_of(entry) {
        Some(time) => object.text("time", &time),
        None => object.plain("time", "null"),
    }
    object.text("version", &entry.version.to_string());
    object.end();
    out
}
