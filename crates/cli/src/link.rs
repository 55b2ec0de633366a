//! The commands on links: link, unlink, links.

use keepstone::{ChangeError, Direction, Link, WriteError};

use crate::args::{LinkArgs, LinksArgs, UnlinkArgs};
use crate::exit::{Failure, Outcome};
use crate::json::{self, Object};
use crate::node::no_node;
use crate::output::{Align, Output, Table};
use crate::session::{self, Session};

/// Links one node to another.
pub(crate) fn link(session: &Session, args: &LinkArgs) -> Outcome {
    let store = session.open()?;
    let collection = session.open_collection(&store)?;
    let committed =
        session.write(&store, |txn| collection.link(txn, &args.key, &args.verb, &args.to, args.weight));
    let committed = committed.map_err(|error| match error {
        WriteError::Change(ChangeError::NotFound { .. }) => {
            let put = format!("keepstone -s {} put {:?}", session.dir.display(), args.key);
            no_node(session, &args.key).help(format!("a link starts from a node: {put}"))
        }
        other => Failure::from(other),
    })?;
    session::finish(store, &committed)
}

/// Removes a link.
pub(crate) fn unlink(session: &Session, args: &UnlinkArgs) -> Outcome {
    let store = session.open()?;
    let collection = session.open_collection(&store)?;
    let missing = || {
        let UnlinkArgs { key, verb, to } = args;
        Failure::not_found(format!("there is no link {key:?} {verb:?} {to:?}"))
            .place(session.dir.display())
            .help(format!("keepstone -s {} links {key:?} --out", session.dir.display()))
    };
    let committed = session.write(&store, |txn| collection.unlink(txn, &args.key, &args.verb, &args.to));
    let committed = committed.map_err(|error| match error {
        WriteError::Change(ChangeError::NotFound { .. }) => missing(),
        other => Failure::from(other),
    })?;
    if !committed.value {
        return Err(missing());
    }
    session::finish(store, &committed)
}

/// Shows the links of a node.
pub(crate) fn links(session: &Session, args: &LinksArgs) -> Outcome {
    let store = session.open_to_read()?;
    let view = session.view(&store, args.read.at.as_deref())?;
    let collection = session.open_collection(&store)?;
    let mut found: Vec<(Direction, Link)> = Vec::new();
    let mut is_known = collection.node(&view, &args.key)?.is_some();
    for (direction, left_out) in [(Direction::Out, args.incoming), (Direction::In, args.outgoing)] {
        for link in collection.links(&view, &args.key, direction) {
            let link = link?;
            // What is linked to may have no node of its own yet.
            is_known = true;
            if !left_out && args.verb.as_ref().is_none_or(|verb| *verb == link.verb) {
                found.push((direction, link));
            }
        }
    }
    if !is_known {
        return Err(no_node(session, &args.key));
    }
    found.sort_by(|(a, x), (b, y)| {
        let order = |direction: &Direction| *direction == Direction::In;
        (order(a), &x.verb, &x.key).cmp(&(order(b), &y.verb, &y.key))
    });
    if args.json {
        print_json(&found)?
    } else {
        print_table(&found)?
    }
    Ok(store.close()?)
}

const fn name_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "out",
        Direction::In => "in",
    }
}

fn print_table(found: &[(Direction, Link)]) -> Outcome {
    let columns =
        [("WAY", Align::Left), ("VERB", Align::Left), ("KEY", Align::Left), ("WEIGHT", Align::Right)];
    let mut table = Table::new(columns);
    for (direction, link) in found {
        let key = if link.written { link.key.clone() } else { format!("{} (not written)", link.key) };
        table.row([name_of(*direction).to_owned(), link.verb.clone(), key, link.weight.to_string()]);
    }
    table.print()
}

fn print_json(found: &[(Direction, Link)]) -> Outcome {
    let mut output = Output::new();
    for (direction, link) in found {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.text("key", &link.key);
        object.text("verb", &link.verb);
        object.text("way", name_of(*direction));
        json::write_f64(object.field("weight"), link.weight);
        object.plain("written", link.written);
        object.end();
        output.line(line)?;
    }
    output.flush()
}
