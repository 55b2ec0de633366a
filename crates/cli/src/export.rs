//! The export: one canonical JSON line for each node, ordered by collection and key.
//!
//! Fields stand in the order of their names, absent ones are left out, links in the order of verb and key, numbers with
//! the fewest digits: equal content, equal bytes. Each line is a valid import line.

use keepstone::{Direction, Link, Node, ReadError, Snapshot, Store};
use serde_json::Value;

use crate::args::ReadAt;
use crate::exit::Outcome;
use crate::json::{self, Object};
use crate::output::{Output, Progress};
use crate::session::{self, JsonCollection, Session};

/// What a node has unless something else was said; not written out.
const NUMBER_DEFAULT: f32 = 1.0;

/// Runs the command.
pub(crate) fn run(session: &Session, args: &ReadAt) -> Outcome {
    let store = session.open_to_read()?;
    let view = session.view(&store, args.at.as_deref())?;
    let progress = Progress::counting("exporting nodes");
    let mut output = Output::new();
    for_each_line(&store, &view, session.collection.as_deref(), |line| {
        progress.add(1);
        output.line(line)
    })?;
    output.flush()?;
    drop(progress);
    Ok(store.close()?)
}

/// Hands over every line of a view, or those of one collection.
pub(crate) fn for_each_line(
    store: &Store,
    view: &Snapshot,
    only: Option<&str>,
    mut take: impl FnMut(&str) -> Outcome,
) -> Outcome {
    let names = store.collections(view)?.into_iter().map(|collection| collection.name);
    let mut names: Vec<String> = names.filter(|name| only.is_none_or(|only| only == name)).collect();
    names.sort_unstable();
    let mut line = String::new();
    for name in names {
        let collection = session::open_collection(store, &name)?;
        for node in collection.iter(view) {
            let node = node?;
            line.clear();
            write_node(&mut line, &name, &node, links_out(&collection, view, &node.key)?);
            take(&line)?;
        }
    }
    Ok(())
}

/// The line of one node.
pub(crate) fn line_of(
    view: &Snapshot,
    name: &str,
    collection: &JsonCollection,
    node: &Node<Value>,
) -> Outcome<String> {
    let mut line = String::new();
    write_node(&mut line, name, node, links_out(collection, view, &node.key)?);
    Ok(line)
}

fn links_out(collection: &JsonCollection, view: &Snapshot, key: &str) -> Result<Vec<Link>, ReadError> {
    collection.links(view, key, Direction::Out).collect()
}

fn write_node(out: &mut String, collection: &str, node: &Node<Value>, mut links: Vec<Link>) {
    let mut object = Object::begin(out);
    if let Some(body) = &node.body {
        json::write(object.field("body"), body);
    }
    json::write_text(object.field("collection"), collection);
    if node.confidence.to_bits() != NUMBER_DEFAULT.to_bits() {
        json::write_f32(object.field("confidence"), node.confidence);
    }
    if let Some(embedding) = &node.embedding {
        json::write_list(object.field("embedding"), embedding, |out, number| json::write_f32(out, *number));
    }
    if let Some(fingerprint) = &node.fingerprint {
        json::write_text(object.field("fingerprint"), &fingerprint.to_hex());
    }
    json::write_text(object.field("key"), &node.key);
    if let Some(label) = &node.label {
        json::write_text(object.field("label"), label);
    }
    if !links.is_empty() {
        links.sort_unstable_by(|a, b| (&a.verb, &a.key).cmp(&(&b.verb, &b.key)));
        json::write_list(object.field("links"), &links, write_link);
    }
    if node.strength.to_bits() != NUMBER_DEFAULT.to_bits() {
        json::write_f32(object.field("strength"), node.strength);
    }
    object.end();
}

fn write_link(out: &mut String, link: &Link) {
    let mut object = Object::begin(out);
    json::write_text(object.field("to"), &link.key);
    json::write_text(object.field("verb"), &link.verb);
    json::write_f64(object.field("weight"), link.weight);
    object.end();
}
