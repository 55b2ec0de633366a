//! The 16-bit address view: a small, fixed space of places beside the nodes' ids.
//!
//! * **Surface**, `00:00` to `0f:ff`: fixed operations that read a number, see [`SurfaceOperation`]. Most of the surface is
//!   empty.
//! * **Fluid**, `10:00` to `7f:ff`: working memory. An entry names a node until it expires by the store's clock; for a
//!   snapshot the clock stands still.
//! * **Nodes**, `80:00` to `ff:ff`: an entry names a node until it is cleared or the node is deleted.

use std::time::Duration;

use keepstone_mvcc_temporal::KeyRange;
use keepstone_types::{Address, AddressRegion, NodeId, Timestamp};

use crate::change::hold;
use crate::error::ReadError;
use crate::error::change::ChangeError;
use crate::layout::{self, AddressRow, KeyEntry};
use crate::read::{Read, Row, Source, damaged};
use crate::stats::Operation;
use crate::store::Store;
use crate::txn::Txn;

/// What a surface address reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SurfaceOperation {
    /// `00:00`: the version that is read, in its stored form.
    Version,
    /// `00:01`: the newest version on stable storage, in its stored form.
    DurableVersion,
    /// `00:02`: the moment at which expiry is judged, in microseconds since 1970.
    Now,
    /// `00:03`: the number of collections.
    Collections,
    /// `00:04`: the number of entries in working memory that have not expired.
    FluidEntries,
    /// `00:05`: the number of entries that name nodes for good.
    NodeEntries,
}

impl SurfaceOperation {
    /// All of them, in the order of their addresses.
    pub const ALL: [Self; 6] = [
        Self::Version,
        Self::DurableVersion,
        Self::Now,
        Self::Collections,
        Self::FluidEntries,
        Self::NodeEntries,
    ];

    /// Where it is.
    #[must_use]
    pub const fn address(self) -> Address {
        Address::new(
            0,
            match self {
                Self::Version => 0,
                Self::DurableVersion => 1,
                Self::Now => 2,
                Self::Collections => 3,
                Self::FluidEntries => 4,
                Self::NodeEntries => 5,
            },
        )
    }

    /// The operation at an address.
    #[must_use]
    pub fn at(address: Address) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.address() == address)
    }
}

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressContent {
    /// A surface operation and what it read.
    Surface {
        /// The operation.
        operation: SurfaceOperation,
        /// What it read.
        value: u64,
    },
    /// A node in working memory.
    Fluid {
        /// The node.
        id: NodeId,
        /// When the entry expires.
        expires: Timestamp,
    },
    /// A node, for good.
    Node {
        /// The node.
        id: NodeId,
    },
}

impl AddressContent {
    /// The node, unless it is a surface operation.
    #[must_use]
    pub const fn id(&self) -> Option<NodeId> {
        match self {
            Self::Surface { .. } => None,
            Self::Fluid { id, .. } | Self::Node { id } => Some(*id),
        }
    }
}

fn expect_region(address: Address, expected: AddressRegion) -> Result<(), ChangeError> {
    let found = address.region();
    if found == expected { Ok(()) } else { Err(ChangeError::Address { address, found, expected }) }
}

/// A row of `addresses` as address and entry.
fn parse(row: Row) -> Result<(Address, AddressRow), ReadError> {
    let (row, value) = row?;
    let parsed = layout::parse_address_row(&row).zip(AddressRow::decode(&value));
    parsed.ok_or_else(|| damaged(layout::ADDRESSES, &row, "it is not an address, an id and an expiry"))
}

impl Source<'_> {
    /// The entry at an address, an expired one too.
    fn address_entry(&self, address: Address) -> Result<Option<AddressRow>, ReadError> {
        let row = layout::address_row(address);
        let Some(value) = self.get(layout::ADDRESSES, &row)? else {
            return Ok(None);
        };
        let entry = AddressRow::decode(&value);
        entry.map(Some).ok_or_else(|| damaged(layout::ADDRESSES, &row, "it is not an id and an expiry"))
    }

    fn entries(&self, first: Address, last: Address) -> Result<Vec<(Address, AddressRow)>, ReadError> {
        use std::ops::Bound::Included;
        let (first, last) = (layout::address_row(first), layout::address_row(last));
        let rows = self.scan(layout::ADDRESSES, KeyRange::between(Included(&first), Included(&last)))?;
        let now = self.now();
        let live = |entry: &Result<(Address, AddressRow), ReadError>| match entry {
            Ok((_, entry)) => !is_expired(entry, now),
            Err(_) => true,
        };
        rows.map(parse).filter(live).collect()
    }
}

fn is_expired(entry: &AddressRow, now: Timestamp) -> bool {
    entry.expires.is_some_and(|expires| expires <= now)
}

const FLUID_FIRST: Address = Address::from_number(0x1000);
const FLUID_LAST: Address = Address::from_number(0x7FFF);
const NODE_FIRST: Address = Address::from_number(0x8000);
const NODE_LAST: Address = Address::from_number(0xFFFF);

/// The address view.
///
/// ```
/// use std::time::Duration;
/// use keepstone::{Address, AddressContent, Store};
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let notes = store.collection::<String>("notes")?;
/// let thought = Address::new(0x10, 0x00);
/// let kept = Address::new(0x80, 0x00);
/// let id = store.write(|txn| {
///     let id = notes.put(txn, "idea", &"a stone that keeps".to_string())?;
///     store.address_put_for(txn, thought, id, Duration::from_secs(60))?;
///     Ok(id)
/// })?.value;
/// assert_eq!(store.address(&store, thought)?.and_then(|found| found.id()), Some(id));
///
/// store.write(|txn| store.address_promote(txn, thought, kept))?;
/// assert_eq!(store.address(&store, thought)?, None);
/// assert_eq!(store.address(&store, kept)?, Some(AddressContent::Node { id }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Store {
    /// What is at an address; `None` when it is empty, expired, or a surface address without an operation.
    ///
    /// # Errors
    /// When the reader is of another store or has ended, or a row is damaged.
    pub fn address(&self, reader: &impl Read, address: Address) -> Result<Option<AddressContent>, ReadError> {
        self.inner.measure(Operation::Address, || {
            let source = reader.source()?;
            source.expect_store(self.inner.store_id)?;
            if address.region() == AddressRegion::Surface {
                let Some(operation) = SurfaceOperation::at(address) else {
                    return Ok(None);
                };
                let value = self.surface(&source, operation)?;
                return Ok(Some(AddressContent::Surface { operation, value }));
            }
            let entry = source.address_entry(address)?.filter(|entry| !is_expired(entry, source.now()));
            Ok(entry.map(content))
        })
    }

    fn surface(&self, source: &Source<'_>, operation: SurfaceOperation) -> Result<u64, ReadError> {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        Ok(match operation {
            SurfaceOperation::Version => source.version().to_raw(),
            SurfaceOperation::DurableVersion => self.durable_version().to_raw(),
            SurfaceOperation::Now => source.now().as_micros(),
            SurfaceOperation::Collections => {
                let rows = source.scan(layout::COLLECTIONS, KeyRange::all())?;
                count(rows.collect::<Result<Vec<_>, _>>()?.len())
            }
            SurfaceOperation::FluidEntries => count(source.entries(FLUID_FIRST, FLUID_LAST)?.len()),
            SurfaceOperation::NodeEntries => count(source.entries(NODE_FIRST, NODE_LAST)?.len()),
        })
    }

    /// Every entry of working memory and of the node addresses that has not expired, by address.
    ///
    /// # Errors
    /// As [`address`](Store::address).
    pub fn addresses(&self, reader: &impl Read) -> Result<Vec<(Address, AddressContent)>, ReadError> {
        let source = reader.source()?;
        source.expect_store(self.inner.store_id)?;
        let entries = source.entries(FLUID_FIRST, NODE_LAST)?;
        Ok(entries.into_iter().map(|(address, entry)| (address, content(entry))).collect())
    }

    /// Puts a node at a node address, in the place of what was there; returns the node that was.
    ///
    /// # Errors
    /// [`ChangeError::Address`] for an address of another kind, [`ChangeError::UnknownId`] when there is no such node.
    pub fn address_put(
        &self,
        txn: &mut Txn,
        address: Address,
        id: NodeId,
    ) -> Result<Option<NodeId>, ChangeError> {
        expect_region(address, AddressRegion::Node)?;
        self.place(txn, address, AddressRow { id, expires: None })
    }

    /// Puts a node into working memory for a time, in the place of what was there; returns the node that was.
    ///
    /// # Errors
    /// As [`address_put`](Store::address_put), for fluid addresses.
    pub fn address_put_for(
        &self,
        txn: &mut Txn,
        address: Address,
        id: NodeId,
        time: Duration,
    ) -> Result<Option<NodeId>, ChangeError> {
        expect_region(address, AddressRegion::Fluid)?;
        let expires = Some(self.inner.clock.now().plus(time));
        self.place(txn, address, AddressRow { id, expires })
    }

    /// Moves a node out of working memory to a node address, for good; returns the node.
    ///
    /// # Errors
    /// [`ChangeError::AddressEmpty`] when nothing is there or it has expired; else as
    /// [`address_put`](Store::address_put).
    pub fn address_promote(&self, txn: &mut Txn, from: Address, to: Address) -> Result<NodeId, ChangeError> {
        expect_region(from, AddressRegion::Fluid)?;
        expect_region(to, AddressRegion::Node)?;
        self.carry(txn, from, to, None)
    }

    /// Moves a node from a node address into working memory, for a time; returns the node.
    ///
    /// # Errors
    /// As [`address_promote`](Store::address_promote).
    pub fn address_demote(
        &self,
        txn: &mut Txn,
        from: Address,
        to: Address,
        time: Duration,
    ) -> Result<NodeId, ChangeError> {
        expect_region(from, AddressRegion::Node)?;
        expect_region(to, AddressRegion::Fluid)?;
        self.carry(txn, from, to, Some(self.inner.clock.now().plus(time)))
    }

    /// Empties an address; false when nothing was there or it had expired.
    ///
    /// # Errors
    /// [`ChangeError::Address`] for a surface address.
    pub fn address_clear(&self, txn: &mut Txn, address: Address) -> Result<bool, ChangeError> {
        self.expect_txn(txn)?;
        if address.region() == AddressRegion::Surface {
            expect_region(address, AddressRegion::Node)?;
        }
        txn.change(|txn| {
            let Some(entry) = txn.view().address_entry(address)? else {
                return Ok(false);
            };
            let was_live = !is_expired(&entry, txn.view().now());
            remove(txn, address, entry)?;
            Ok(was_live)
        })
    }

    /// Removes what has expired from working memory and says how many entries that were. Expired entries are never
    /// seen; this gives their rows back.
    ///
    /// # Errors
    /// When a row is damaged or the transaction cannot take the change.
    pub fn addresses_sweep(&self, txn: &mut Txn) -> Result<u64, ChangeError> {
        self.expect_txn(txn)?;
        txn.change(|txn| {
            let now = txn.view().now();
            let rows = txn.view().scan(layout::ADDRESSES, KeyRange::all())?;
            let entries = rows.map(parse).collect::<Result<Vec<_>, _>>()?;
            let mut removed = 0_u64;
            for (address, entry) in entries.into_iter().filter(|(_, entry)| is_expired(entry, now)) {
                remove(txn, address, entry)?;
                removed = removed.saturating_add(1);
            }
            Ok(removed)
        })
    }

    fn expect_txn(&self, txn: &Txn) -> Result<(), ChangeError> {
        let (expected, found) = (txn.store_id(), self.inner.store_id);
        if expected == found { Ok(()) } else { Err(ChangeError::WrongStore { expected, found }) }
    }

    fn place(
        &self,
        txn: &mut Txn,
        address: Address,
        entry: AddressRow,
    ) -> Result<Option<NodeId>, ChangeError> {
        self.expect_txn(txn)?;
        self.inner.measure(Operation::Address, || {
            txn.change(|txn| {
                let id = entry.id;
                let record = txn.view().record(id)?.filter(|record| !record.reserved);
                let record = record.ok_or(ChangeError::UnknownId { id })?;
                hold(txn, record.collection, &record.key, KeyEntry { id, reserved: false })?;
                let before = txn.view().address_entry(address)?;
                if let Some(before) = before {
                    remove(txn, address, before)?;
                }
                txn.put_row(layout::ADDRESSES, &layout::address_row(address), entry.encode())?;
                txn.put_row(layout::ADDRESSES_OF, &layout::address_of_row(id, address), Vec::new())?;
                let now = txn.view().now();
                Ok(before.filter(|before| !is_expired(before, now)).map(|before| before.id))
            })
        })
    }

    fn carry(
        &self,
        txn: &mut Txn,
        from: Address,
        to: Address,
        expires: Option<Timestamp>,
    ) -> Result<NodeId, ChangeError> {
        self.expect_txn(txn)?;
        let now = txn.view().now();
        let entry = txn.view().address_entry(from)?.filter(|entry| !is_expired(entry, now));
        let entry = entry.ok_or(ChangeError::AddressEmpty { address: from })?;
        txn.change(|txn| {
            remove(txn, from, entry)?;
            self.place(txn, to, AddressRow { id: entry.id, expires })?;
            Ok(entry.id)
        })
    }
}

fn content(entry: AddressRow) -> AddressContent {
    match entry.expires {
        Some(expires) => AddressContent::Fluid { id: entry.id, expires },
        None => AddressContent::Node { id: entry.id },
    }
}

fn remove(txn: &mut Txn, address: Address, entry: AddressRow) -> Result<(), ChangeError> {
    txn.delete_row(layout::ADDRESSES, &layout::address_row(address))?;
    txn.delete_row(layout::ADDRESSES_OF, &layout::address_of_row(entry.id, address))
}
