//! Checking a store: what is on disk against what is in memory, every page, and every invariant of the tables (see
//! `layout.rs`).

use std::collections::BTreeMap;
use std::fmt;

use keepstone_mvcc_temporal::KeyRange;
use keepstone_types::{Fingerprint, NodeId, ValueRef};
use serde::Serialize;

use crate::catalog::CollectionRecord;
use crate::error::ReadError;
use crate::error::map::read_error;
use crate::layout::{self, AddressRow, CollectionId, KeyEntry};
use crate::read::{Reader as _, Source};
use crate::record::NodeRecord;
use crate::store::Store;

/// Where the layer below finds what is wrong with what it keeps beside the rows: the free-space map, and parity.
const BESIDE_ROWS: [&str; 2] = ["the free-space map", "parity"];
/// Findings that are listed; more are only counted.
const FINDINGS_MAX: usize = 1_000;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Where.
    pub place: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Whether the content could be rebuilt, so that nothing is lost.
    pub healed: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let healed = if self.healed { " (healed)" } else { "" };
        write!(f, "{}: expected {}, found {}{healed}", self.place, self.expected, self.found)
    }
}

/// What [`Store::check`] looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// Commits on disk, those in the page file included.
    pub commits: u64,
    /// Row versions on disk, those in the page file included.
    pub rows: u64,
    /// Pages of the page file that are in use.
    pub pages: u64,
    /// Parity groups that were added up; none where no parity is kept.
    pub parity_groups: u64,
    /// Named versions.
    pub tags: u64,
    /// Collections.
    pub collections: u64,
    /// Nodes.
    pub nodes: u64,
    /// Ids reserved for targets of links that nobody has written yet.
    pub reserved: u64,
    /// Links.
    pub links: u64,
    /// Fingerprints.
    pub fingerprints: u64,
    /// Embeddings.
    pub embeddings: u64,
    /// Entries at addresses, expired ones included.
    pub addresses: u64,
    /// What is wrong; empty for a sound store.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub findings_unlisted: u64,
    /// Rows that could not be held against others because those are on damaged pages, which are findings of their own.
    pub rows_unchecked: u64,
}

impl CheckReport {
    /// Whether nothing was found that is lost or wrong; what was healed does not count.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings_unlisted == 0 && self.findings.iter().all(|finding| finding.healed)
    }

    /// Whether something is wrong, and all of it is the free-space map or parity: nothing that was stored is lost, and
    /// [`Store::repair`] sets it right.
    #[must_use]
    pub fn loses_nothing(&self) -> bool {
        let mut wrong = self.findings.iter().filter(|finding| !finding.healed).peekable();
        self.findings_unlisted == 0
            && wrong.peek().is_some()
            && wrong.all(|finding| BESIDE_ROWS.contains(&&*finding.place))
    }

    fn push(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_unlisted = self.findings_unlisted.saturating_add(1);
        }
    }
}

impl Store {
    /// Reads everything that is on disk again: the log is held against memory, every page of every tree and every row in it
    /// is read, the free-space map is held against what can be reached, and parity against the pages it counts. Then every node, link and address of the newest
    /// version is held against the others. Commits may go on meanwhile.
    ///
    /// # Errors
    /// When the store is closed, or the disk cannot be read. What is wrong is not an error but a [`Finding`].
    pub fn check(&self) -> Result<CheckReport, ReadError> {
        let below = self.inner.database.check().map_err(read_error)?;
        let mut report = CheckReport {
            commits: below.commits,
            rows: below.rows,
            pages: self.inner.database.stats().pages.used_slots,
            parity_groups: below.parity_groups,
            tags: below.names,
            findings_unlisted: below.findings_unlisted,
            ..CheckReport::default()
        };
        for finding in below.findings {
            report.push(Finding {
                place: finding.place,
                expected: finding.expected,
                found: finding.found,
                healed: finding.healed,
            });
        }
        let snapshot = self.snapshot()?;
        let mut tables = Tables { source: snapshot.source()?, collections: BTreeMap::new(), report };
        tables.check_collections()?;
        if tables.report.rows_unchecked > 0 {
            // Without all collections every node would seem to be in none.
            return Ok(tables.report);
        }
        tables.check_keys()?;
        tables.check_nodes()?;
        tables.check_vectors()?;
        tables.check_links()?;
        tables.check_addresses()?;
        Ok(tables.report)
    }
}

/// The tables of one version under check.
struct Tables<'a> {
    source: Source<'a>,
    collections: BTreeMap<CollectionId, CollectionRecord>,
    report: CheckReport,
}

/// Whether a read met a damaged row, which is a finding of its own, and what it gave otherwise.
fn undamaged<V>(read: Result<V, ReadError>) -> Result<Option<V>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Tables<'_> {
    fn add(&mut self, table: &str, row: &[u8], expected: impl Into<String>, found: impl Into<String>) {
        let place = format!("row {} of table {table}", row.escape_ascii());
        self.report.push(Finding { place, expected: expected.into(), found: found.into(), healed: false });
    }

    /// Runs `check` on every row of a table that can be read. What is on damaged pages was found there already: it ends the
    /// table, or leaves a row unchecked that needs it.
    fn each(
        &mut self,
        table: &'static str,
        mut check: impl FnMut(&mut Self, &[u8], &ValueRef) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        for row in self.source.scan(table, KeyRange::all())? {
            let checked = row.and_then(|(key, value)| check(self, &key, &value));
            match checked {
                Err(ReadError::DamagedFile { .. }) => {
                    self.report.rows_unchecked = self.report.rows_unchecked.saturating_add(1);
                }
                checked => checked?,
            }
        }
        Ok(())
    }

    fn record(&self, id: NodeId) -> Result<Option<NodeRecord>, ReadError> {
        Ok(undamaged(self.source.record(id))?.flatten())
    }

    /// The row of a node that is written.
    fn live(&self, id: NodeId) -> Result<Option<NodeRecord>, ReadError> {
        Ok(self.record(id)?.filter(|record| !record.reserved))
    }

    fn check_collections(&mut self) -> Result<(), ReadError> {
        self.each(layout::COLLECTIONS, |tables, row, value| {
            match CollectionRecord::decode(value) {
                Ok(record) if CollectionId::of_name(&record.name).key() == row => {
                    let id = CollectionId::of_name(&record.name);
                    tables.collections.insert(id, record);
                    tables.report.collections = tables.report.collections.saturating_add(1);
                }
                Ok(record) => tables.add(layout::COLLECTIONS, row, "the hash of its name", record.name),
                Err(what) => tables.add(layout::COLLECTIONS, row, "a collection", what),
            }
            Ok(())
        })
    }

    fn check_keys(&mut self) -> Result<(), ReadError> {
        self.each(layout::KEYS, |tables, row, value| {
            let parsed = layout::parse_key_row(row).zip(KeyEntry::decode(value));
            let Some(((collection, key), entry)) = parsed else {
                tables.add(layout::KEYS, row, "a key, a state and an id", "other bytes");
                return Ok(());
            };
            match tables.record(entry.id)? {
                Some(record)
                    if record.collection == collection
                        && record.key == key
                        && record.reserved == entry.reserved => {}
                Some(record) => {
                    let found = format!("{:?}, reserved: {}", record.key, record.reserved);
                    tables.add(layout::KEYS, row, format!("node {} to have this key", entry.id), found);
                }
                None => tables.add(layout::KEYS, row, format!("node {}", entry.id), "no such node"),
            }
            Ok(())
        })
    }

    fn check_nodes(&mut self) -> Result<(), ReadError> {
        self.each(layout::NODES, |tables, row, value| {
            let id = layout::parse_id(row);
            let record = NodeRecord::decode(value);
            let (id, record) = match (id, record) {
                (Some(id), Ok(record)) => (id, record),
                (_, Err(what)) => {
                    tables.add(layout::NODES, row, "a node", what);
                    return Ok(());
                }
                (None, _) => {
                    tables.add(layout::NODES, row, "an id of 16 bytes", format!("{} bytes", row.len()));
                    return Ok(());
                }
            };
            let count = match record.reserved {
                true => &mut tables.report.reserved,
                false => &mut tables.report.nodes,
            };
            *count = count.saturating_add(1);
            let entry = undamaged(tables.source.key_entry(record.collection, &record.key))?.flatten();
            if entry != Some(KeyEntry { id, reserved: record.reserved }) {
                tables.add(
                    layout::NODES,
                    row,
                    format!("key {:?} to name it", record.key),
                    format!("{entry:?}"),
                );
            }
            if !tables.collections.contains_key(&record.collection) {
                tables.add(
                    layout::NODES,
                    row,
                    "its collection",
                    format!("none with id {:x}", record.collection.0),
                );
            }
            if let Some(body) = &record.body
                && let Err(error) = crate::body::decode::<serde::de::IgnoredAny>("", &record.key, body)
            {
                tables.add(layout::NODES, row, "a body in MessagePack", error.to_string());
            }
            let named = || tables.source.scan(layout::LINKS_IN, KeyRange::prefix(row))?.next().transpose();
            if record.reserved && named()?.is_none() {
                tables.add(layout::NODES, row, "a link that names the reserved id", "none");
            }
            Ok(())
        })
    }

    fn check_vectors(&mut self) -> Result<(), ReadError> {
        self.each(layout::FINGERPRINTS, |tables, row, value| {
            tables.report.fingerprints = tables.report.fingerprints.saturating_add(1);
            let bits =
                Fingerprint::from_bytes(&**value).ok().and_then(|found| u32::try_from(found.bits()).ok());
            tables.check_vector(layout::FINGERPRINTS, row, bits, |record| record.fingerprint_bits)
        })?;
        self.each(layout::EMBEDDINGS, |tables, row, value| {
            tables.report.embeddings = tables.report.embeddings.saturating_add(1);
            let numbers = layout::parse_embedding(value).and_then(|found| u32::try_from(found.len()).ok());
            tables.check_vector(layout::EMBEDDINGS, row, numbers, |record| record.embedding_dimension)
        })
    }

    fn check_vector(
        &mut self,
        table: &'static str,
        row: &[u8],
        width: Option<u32>,
        expected: fn(&CollectionRecord) -> Option<u32>,
    ) -> Result<(), ReadError> {
        let node = match layout::parse_id(row) {
            Some(id) => self.live(id)?,
            None => None,
        };
        let Some(node) = node else {
            self.add(table, row, "a node", "no such node");
            return Ok(());
        };
        let expected = self.collections.get(&node.collection).and_then(expected);
        if width.is_none() || width != expected {
            self.add(table, row, format!("a width of {expected:?}"), format!("{width:?}"));
        }
        Ok(())
    }

    fn check_links(&mut self) -> Result<(), ReadError> {
        self.each(layout::LINKS_OUT, |tables, row, value| {
            tables.report.links = tables.report.links.saturating_add(1);
            let Some((from, verb, to)) = layout::parse_link_row(row) else {
                tables.add(layout::LINKS_OUT, row, "from, verb, to", "other bytes");
                return Ok(());
            };
            if tables.live(from)?.is_none() {
                tables.add(layout::LINKS_OUT, row, format!("node {from}"), "no such node");
            }
            if tables.record(to)?.is_none() {
                tables.add(layout::LINKS_OUT, row, format!("node or reserved id {to}"), "neither");
            }
            tables.check_mirror(layout::LINKS_OUT, row, layout::LINKS_IN, (to, &verb, from), value)
        })?;
        self.each(layout::LINKS_IN, |tables, row, value| match layout::parse_link_row(row) {
            Some((to, verb, from)) => {
                tables.check_mirror(layout::LINKS_IN, row, layout::LINKS_OUT, (from, &verb, to), value)
            }
            None => {
                tables.add(layout::LINKS_IN, row, "to, verb, from", "other bytes");
                Ok(())
            }
        })
    }

    fn check_mirror(
        &mut self,
        table: &'static str,
        row: &[u8],
        mirror: &'static str,
        link: (NodeId, &str, NodeId),
        weight: &ValueRef,
    ) -> Result<(), ReadError> {
        let found = self.source.get(mirror, &layout::link_row(link.0, link.1, link.2))?;
        if found.as_ref() != Some(weight)
            || layout::parse_weight(weight).is_none_or(|weight| !weight.is_finite())
        {
            let expected = format!("the same finite weight in {mirror}");
            self.add(table, row, expected, format!("{weight:?} and {found:?}"));
        }
        Ok(())
    }

    fn check_addresses(&mut self) -> Result<(), ReadError> {
        self.each(layout::ADDRESSES, |tables, row, value| {
            tables.report.addresses = tables.report.addresses.saturating_add(1);
            let parsed = layout::parse_address_row(row).zip(AddressRow::decode(value));
            let Some((address, entry)) = parsed else {
                tables.add(layout::ADDRESSES, row, "an address, an id and an expiry", "other bytes");
                return Ok(());
            };
            let mirror = layout::address_of_row(entry.id, address);
            if tables.source.get(layout::ADDRESSES_OF, &mirror)?.is_none() || tables.live(entry.id)?.is_none()
            {
                tables.add(layout::ADDRESSES, row, format!("node {} that knows it", entry.id), "none");
            }
            Ok(())
        })?;
        self.each(layout::ADDRESSES_OF, |tables, row, _| {
            let parsed = layout::parse_address_of_row(row);
            let entry = match parsed {
                Some((_, address)) => tables.source.get(layout::ADDRESSES, &layout::address_row(address))?,
                None => None,
            };
            let named = entry.and_then(|entry| AddressRow::decode(&entry)).map(|entry| entry.id);
            if named.is_none() || named != parsed.map(|(id, _)| id) {
                tables.add(layout::ADDRESSES_OF, row, "the address to name it", format!("{named:?}"));
            }
            Ok(())
        })
    }
}
