//! Iterators over nodes, keys and links: owned, double-ended, ended by their first error.
//!
//! Over a store or snapshot each item is read when it is asked for, from the one view that the iterator holds. A
//! transaction cannot be held, and remembers every row that is read anyway: its items are read when the iterator is made.

use keepstone_mvcc_temporal::KeyRange;
use keepstone_types::{NodeId, ValueRef};
use serde::de::DeserializeOwned;

use crate::error::ReadError;
use crate::layout::{self, CollectionId, KeyEntry};
use crate::link::{Direction, Link};
use crate::node::Node;
use crate::read::{Row, Rows, Source, damaged};

/// Which end of an iterator is asked.
#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

fn take<I: DoubleEndedIterator>(items: &mut I, end: End) -> Option<I::Item> {
    match end {
        End::Front => items.next(),
        End::Back => items.next_back(),
    }
}

/// Items read one by one from rows of a view, or all at once.
#[derive(Debug)]
enum Items<I> {
    Lazy(Box<(Source<'static>, Rows)>),
    Ready(std::vec::IntoIter<Result<I, ReadError>>),
}

impl<I> Items<I> {
    /// Rows of a view, and how one becomes an item, or none.
    fn new(
        source: &Source<'_>,
        mut rows: Rows,
        mut read: impl FnMut(&Source<'_>, Row) -> Result<Option<I>, ReadError>,
    ) -> Self {
        match source.detached() {
            Some(source) => Self::Lazy(Box::new((source, rows))),
            None => {
                let items = rows.by_ref().filter_map(|row| read(source, row).transpose());
                Self::Ready(items.collect::<Vec<_>>().into_iter())
            }
        }
    }

    fn failed(error: ReadError) -> Self {
        Self::Ready(vec![Err(error)].into_iter())
    }

    /// The next item; after an error there is none.
    fn take(
        &mut self,
        end: End,
        mut read: impl FnMut(&Source<'_>, Row) -> Result<Option<I>, ReadError>,
    ) -> Option<Result<I, ReadError>> {
        let item = match self {
            Self::Ready(items) => take(items, end),
            Self::Lazy(lazy) => loop {
                let (source, rows) = &mut **lazy;
                match read(source, take(rows, end)?).transpose() {
                    None => {}
                    item => break item,
                }
            },
        };
        if matches!(item, Some(Err(_))) {
            *self = Self::Ready(Vec::new().into_iter());
        }
        item
    }
}

/// A row of `keys` as key and entry.
fn parse_key(row: Row) -> Result<(String, KeyEntry), ReadError> {
    let (row, value) = row?;
    let parsed = layout::parse_key_row(&row).zip(KeyEntry::decode(&value));
    let ((_, key), entry) =
        parsed.ok_or_else(|| damaged(layout::KEYS, &row, "it is not a key, a state and an id"))?;
    Ok((key.to_owned(), entry))
}

/// Nodes in byte order of their keys; see [`Collection::iter`](crate::Collection::iter).
#[derive(Debug)]
pub struct Nodes<T> {
    collection: String,
    items: Items<Node<T>>,
}

impl<T: DeserializeOwned> Nodes<T> {
    pub(crate) fn new(source: &Source<'_>, collection: &str, range: KeyRange) -> Result<Self, ReadError> {
        let rows = source.scan(layout::KEYS, range)?;
        let items = Items::new(source, rows, |source, row| Self::read(source, collection, row));
        Ok(Self { collection: collection.to_owned(), items })
    }

    pub(crate) fn failed(error: ReadError) -> Self {
        Self { collection: String::new(), items: Items::failed(error) }
    }

    fn read(source: &Source<'_>, collection: &str, row: Row) -> Result<Option<Node<T>>, ReadError> {
        let (_, entry) = parse_key(row)?;
        if entry.reserved {
            return Ok(None);
        }
        source.node(collection, entry.id, source.expect_record(entry.id)?).map(Some)
    }

    fn take(&mut self, end: End) -> Option<Result<Node<T>, ReadError>> {
        let collection = &self.collection;
        self.items.take(end, |source, row| Self::read(source, collection, row))
    }
}

impl<T: DeserializeOwned> Iterator for Nodes<T> {
    type Item = Result<Node<T>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(End::Front)
    }
}

impl<T: DeserializeOwned> DoubleEndedIterator for Nodes<T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(End::Back)
    }
}

impl<T: DeserializeOwned> std::iter::FusedIterator for Nodes<T> {}

/// Keys in byte order; see [`Collection::keys`](crate::Collection::keys).
#[derive(Debug)]
pub struct Keys {
    rows: Option<Rows>,
    error: Option<ReadError>,
}

impl Keys {
    pub(crate) fn new(rows: Result<Rows, ReadError>) -> Self {
        match rows {
            Ok(rows) => Self { rows: Some(rows), error: None },
            Err(error) => Self { rows: None, error: Some(error) },
        }
    }

    fn take(&mut self, end: End) -> Option<Result<String, ReadError>> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        loop {
            match parse_key(take(self.rows.as_mut()?, end)?) {
                Ok((_, entry)) if entry.reserved => {}
                Ok((key, _)) => return Some(Ok(key)),
                Err(error) => {
                    self.rows = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Iterator for Keys {
    type Item = Result<String, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(End::Front)
    }
}

impl DoubleEndedIterator for Keys {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(End::Back)
    }
}

impl std::iter::FusedIterator for Keys {}

/// Links sorted by verb and then by the id at the other end; see [`Collection::links`](crate::Collection::links).
#[derive(Debug)]
pub struct Links {
    items: Items<Link>,
    reader: LinkReader,
}

/// Reads rows of one link table.
#[derive(Debug)]
struct LinkReader {
    table: &'static str,
    /// The collection of the last link: mostly the next has the same.
    last: Option<(CollectionId, String)>,
}

impl LinkReader {
    fn read(&mut self, source: &Source<'_>, row: Row) -> Result<Option<Link>, ReadError> {
        let (row, value) = row?;
        let (verb, far, weight) = parse_link(self.table, &row, &value)?;
        let record = source.expect_record(far)?;
        let collection = match &self.last {
            Some((id, name)) if *id == record.collection => name.clone(),
            _ => source.collection_name(record.collection)?,
        };
        self.last = Some((record.collection, collection.clone()));
        let written = !record.reserved;
        Ok(Some(Link { collection, key: record.key, verb, weight, id: far, written }))
    }
}

/// A row of a link table as verb, far end and weight.
pub(crate) fn parse_link(
    table: &'static str,
    row: &[u8],
    value: &ValueRef,
) -> Result<(String, NodeId, f64), ReadError> {
    let parsed = layout::parse_link_row(row).zip(layout::parse_weight(value));
    let ((_, verb, far), weight) =
        parsed.ok_or_else(|| damaged(table, row, "it is not a link and a weight"))?;
    Ok((verb, far, weight))
}

/// The table that holds the links of a direction, with the node first.
pub(crate) const fn link_table(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => layout::LINKS_OUT,
        Direction::In => layout::LINKS_IN,
    }
}

impl Links {
    pub(crate) fn new(
        source: &Source<'_>,
        near: NodeId,
        direction: Direction,
        verb: Option<&str>,
    ) -> Result<Self, ReadError> {
        let mut reader = LinkReader { table: link_table(direction), last: None };
        let rows = source.scan(reader.table, KeyRange::prefix(layout::link_prefix(near, verb)))?;
        let items = Items::new(source, rows, |source, row| reader.read(source, row));
        Ok(Self { items, reader })
    }

    pub(crate) fn none() -> Self {
        Self::ready(Items::Ready(Vec::new().into_iter()))
    }

    pub(crate) fn failed(error: ReadError) -> Self {
        Self::ready(Items::failed(error))
    }

    fn ready(items: Items<Link>) -> Self {
        Self { items, reader: LinkReader { table: layout::LINKS_OUT, last: None } }
    }

    fn take(&mut self, end: End) -> Option<Result<Link, ReadError>> {
        let reader = &mut self.reader;
        self.items.take(end, |source, row| reader.read(source, row))
    }
}

impl Iterator for Links {
    type Item = Result<Link, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(End::Front)
    }
}

impl DoubleEndedIterator for Links {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(End::Back)
    }
}

impl std::iter::FusedIterator for Links {}
