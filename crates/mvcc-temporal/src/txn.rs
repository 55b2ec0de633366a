//! Transactions: a private view, private writes, and what was read, until `commit` or drop.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use keepstone_types::{StoreId, Timestamp, ValueRef, Version, lock_rank};
use keepstone_wal::Durability;

use crate::branches::{BranchPart, branch_key, tagged, untagged};
use crate::catalog::{TABLE_PREFIX, Table, TableId, numbered_key, parse_table_row, table_key, table_value};
use crate::commit::path::{Intent, Submitted, commit, submit};
use crate::database::Handle;
use crate::error::{CommitError, ReadError};
use crate::key_range::KeyRange;
use crate::limits::VALUE_LEN_MAX;
use crate::read::{Read, VersionedValue, sealed};
use crate::read_set::{ReadSet, ScanTrace};
use crate::readers::Registration;
use crate::scan::{Scan, ScanSource};
use crate::sync::{Arc, Mutex, Ordering};
use crate::write_set::WriteSet;

/// What a transaction is protected from. README.md has a table with a test per line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Each call sees the newest committed version; writes are blind and never conflict. No dirty reads or writes, but
    /// reads may not repeat and updates may be lost.
    ReadCommitted,
    /// All calls see one version. Of two transactions that write one key the first to commit wins. Write skew is
    /// possible.
    Snapshot,
    /// As [`Snapshot`](Isolation::Snapshot), and a commit since then to anything that was read, found or absent, by key
    /// or within a scanned range, is a conflict. The outcome is that of some order, one after the other.
    #[default]
    Serializable,
}

/// How a transaction is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxnOptions {
    /// What it is protected from.
    pub isolation: Isolation,
    /// The durability of its commit; never less than the store's own.
    pub durability: Option<Durability>,
}

impl TxnOptions {
    /// Sets [`isolation`](Self#structfield.isolation).
    #[must_use]
    pub const fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets [`durability`](Self#structfield.durability).
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

/// What a commit made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The version: the new one, or the one that was read when nothing was written.
    pub version: Version,
    /// When that version was committed; the epoch for version 0.
    pub time: Timestamp,
    /// Rows written, the store's own included; 0 when nothing was, and no version was made.
    pub rows: u64,
}

/// A transaction. It reads its own writes, ranges included. Dropping it rolls back: nothing of it was ever visible.
#[must_use = "dropping a transaction rolls it back"]
pub struct Txn {
    inner: Arc<Handle>,
    id: u64,
    options: TxnOptions,
    /// The version it began at.
    began: Arc<Registration>,
    /// The branch that it reads and writes.
    branch: Option<BranchPart>,
    writes: WriteSet,
    reads: Mutex<ReadSet>,
    /// Tables that the view does not have, whose catalog row is among the writes.
    made: BTreeSet<TableId>,
    /// Whether any commit since the view is a conflict.
    everything: bool,
    /// Whether the end was counted already.
    ended: bool,
}

impl fmt::Debug for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Txn");
        shown.field("id", &self.id).field("isolation", &self.options.isolation);
        shown.field("version", &self.began.version()).finish_non_exhaustive()
    }
}

impl Txn {
    pub(crate) fn begin(inner: &Arc<Handle>, options: TxnOptions) -> Result<Self, ReadError> {
        let shared = &inner.shared;
        shared.must_be_open()?;
        shared.must_be_same_process()?;
        let began = shared.hold_newest()?;
        Ok(Self::new(inner, options, began, None))
    }

    /// Begins on a branch, which is there at the version that is held. Whether it is when the transaction commits counts at
    /// every isolation.
    pub(crate) fn begin_on(
        inner: &Arc<Handle>,
        options: TxnOptions,
        began: Arc<Registration>,
        part: BranchPart,
    ) -> Result<Self, ReadError> {
        inner.shared.must_be_same_process()?;
        let info = Arc::clone(&part.info);
        let txn = Self::new(inner, options, began, Some(part));
        txn.depend_on_branch(&info.name);
        Ok(txn)
    }

    fn new(
        inner: &Arc<Handle>,
        options: TxnOptions,
        began: Arc<Registration>,
        branch: Option<BranchPart>,
    ) -> Self {
        let shared = &inner.shared;
        shared.counters.begun.add(1);
        shared.counters.open_transactions.add(1);
        Self {
            inner: Arc::clone(inner),
            id: shared.next_txn.fetch_add(1, Ordering::Relaxed),
            options,
            began,
            branch,
            writes: WriteSet::default(),
            reads: Mutex::new(lock_rank::MVCC_READ_SET, ReadSet::default()),
            made: BTreeSet::new(),
            everything: false,
            ended: false,
        }
    }

    /// The number of this transaction within the process; errors name it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// What it is protected from.
    #[must_use]
    pub const fn isolation(&self) -> Isolation {
        self.options.isolation
    }

    /// Whether anything was written.
    #[must_use]
    pub fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// The version that the next call reads.
    #[must_use]
    pub fn version(&self) -> Version {
        match self.options.isolation {
            Isolation::ReadCommitted => self.inner.shared.visible(),
            Isolation::Snapshot | Isolation::Serializable => self.began.version(),
        }
    }

    /// Makes every commit since the view a conflict, whatever it wrote.
    pub(crate) fn depend_on_everything(&mut self) {
        self.everything = true;
    }

    /// Makes a commit that discards a branch a conflict.
    pub(crate) fn depend_on_branch(&self, name: &str) {
        self.reads.lock().add_key(TableId::SYSTEM, &branch_key(name));
    }

    /// Whether it reads and writes a branch.
    pub(crate) const fn is_on_branch(&self) -> bool {
        self.branch.is_some()
    }

    /// What it is a transaction of.
    pub(crate) const fn store(&self) -> &Arc<Handle> {
        &self.inner
    }

    /// The version it began at, held.
    pub(crate) const fn began(&self) -> &Arc<Registration> {
        &self.began
    }

    /// Holds the version that the next call reads.
    fn hold_current(&self) -> Result<Arc<Registration>, ReadError> {
        match self.options.isolation {
            Isolation::ReadCommitted => {
                let held = self.inner.shared.hold_newest()?;
                if let Some(branch) = &self.branch {
                    let stack = &self.inner.shared.stack;
                    stack.with(|layers| branch.must_exist(layers, held.version()))?;
                }
                Ok(held)
            }
            Isolation::Snapshot | Isolation::Serializable => Ok(Arc::clone(&self.began)),
        }
    }

    fn records_reads(&self) -> bool {
        self.options.isolation == Isolation::Serializable
    }

    /// Where the row of a key stands that this transaction reads and writes.
    fn place<'k>(&self, table: TableId, key: &'k [u8]) -> (TableId, Cow<'k, [u8]>) {
        match &self.branch {
            None => (table, Cow::Borrowed(key)),
            Some(branch) => (TableId::BRANCHES, Cow::Owned(branch.number().place(table, key).into_owned())),
        }
    }

    /// The table of a name, if a transaction of this process ever wrote to it; otherwise its absence is what was read.
    fn table_to_read(&self, name: &str) -> Option<TableId> {
        let table = self.inner.shared.catalog.id(name);
        if table.is_none() && self.records_reads() {
            let key = table_key(name);
            let (table, place) = self.place(TableId::SYSTEM, &key);
            self.reads.lock().add_key(table, &place);
        }
        table
    }

    /// Writes a row. When the transaction becomes too large for memory, what it wrote before goes to a file beside the store.
    ///
    /// # Errors
    /// When the store is read-only or closed, a name, key or value is out of its limits, or that file cannot be written; the
    /// row is not written then, and what was written before stays.
    pub fn put(
        &mut self,
        table: &str,
        key: impl AsRef<[u8]>,
        value: impl Into<ValueRef>,
    ) -> Result<(), CommitError> {
        self.set(table, key.as_ref(), Some(value.into()))
    }

    /// Deletes a row; a row that is not there is no error, and its history gets a deletion.
    ///
    /// # Errors
    /// As [`put`](Txn::put).
    pub fn delete(&mut self, table: &str, key: impl AsRef<[u8]>) -> Result<(), CommitError> {
        self.set(table, key.as_ref(), None)
    }

    fn set(&mut self, table: &str, key: &[u8], value: Option<ValueRef>) -> Result<(), CommitError> {
        self.must_be_writable()?;
        let max = self.inner.shared.key_len_max;
        if key.len() > max {
            return Err(CommitError::KeyTooLong { len: key.len(), max });
        }
        if let Some(len) = value.as_ref().map(|value| value.len()).filter(|len| *len > VALUE_LEN_MAX) {
            return Err(CommitError::ValueTooLarge { len });
        }
        let table = self.inner.shared.catalog.reserve(table)?;
        self.make_room()?;
        self.write(table.id, key, value)?;
        self.make_table(&table)
    }

    /// Makes a table that may stay without rows.
    pub(crate) fn create_table(&mut self, name: &str) -> Result<(), CommitError> {
        self.must_be_writable()?;
        let table = self.inner.shared.catalog.reserve(name)?;
        self.make_room()?;
        self.make_table(&table)
    }

    /// Writes a row where it stands for this transaction.
    fn write(&mut self, table: TableId, key: &[u8], value: Option<ValueRef>) -> Result<(), CommitError> {
        match &self.branch {
            None => self.writes.set(table, ValueRef::copy_from(key), value),
            Some(branch) => {
                let place = branch.number().place(table, key);
                self.writes.set(TableId::BRANCHES, place, Some(tagged(value.as_deref())))
            }
        }
    }

    /// Writes the catalog row of a table that the view does not have.
    fn make_table(&mut self, table: &Table) -> Result<(), CommitError> {
        let (began, row) = (self.began.version(), Some(table_value(table.id)));
        let exists_at = self.branch.as_ref().map_or(began, |branch| branch.base.version());
        if table.exists_at(exists_at) || !self.made.insert(table.id) {
            return Ok(());
        }
        if self.branch.is_some() && !table.has_number_at(began) {
            self.set_system(&numbered_key(&table.name), row.clone())?;
        }
        self.write(TableId::SYSTEM, &table_key(&table.name), row)
    }

    /// Writes a row of a table by its number, and makes the table where the view does not have it.
    pub(crate) fn set_row(
        &mut self,
        table: TableId,
        key: &[u8],
        value: Option<ValueRef>,
    ) -> Result<(), CommitError> {
        self.must_be_writable()?;
        self.make_room()?;
        self.write(table, key, value)?;
        match self.inner.shared.catalog.table(table) {
            Some(table) => self.make_table(&table),
            None => Ok(()),
        }
    }

    /// Writes to a file what is too much for memory. It is done before a row is added, which is not there if that fails.
    fn make_room(&mut self) -> Result<(), CommitError> {
        self.writes.spill_beyond(self.inner.transaction_memory_bytes, &self.inner.runs)
    }

    /// Writes a row of the store's own table.
    pub(crate) fn set_system(&mut self, key: &[u8], value: Option<ValueRef>) -> Result<(), CommitError> {
        self.must_be_writable()?;
        self.writes.set(TableId::SYSTEM, ValueRef::copy_from(key), value)
    }

    /// Reads a row of the store's own table.
    pub(crate) fn get_system(&self, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        Ok(self.get_row(TableId::SYSTEM, key)?.map(|found| found.value))
    }

    /// Writes a row of a table by its number.
    pub(crate) fn set_by_id(
        &mut self,
        table: TableId,
        key: ValueRef,
        value: Option<ValueRef>,
    ) -> Result<(), CommitError> {
        self.must_be_writable()?;
        self.make_room()?;
        self.writes.set(table, key, value)
    }

    fn must_be_writable(&self) -> Result<(), CommitError> {
        self.inner.shared.must_be_open()?;
        if self.inner.shared.read_only { Err(CommitError::ReadOnly) } else { Ok(()) }
    }

    /// The row of a key as this transaction sees it.
    pub(crate) fn get_row(&self, table: TableId, key: &[u8]) -> Result<Option<VersionedValue>, ReadError> {
        let (place_table, place) = self.place(table, key);
        if let Some(own) = self.writes.get(place_table, &place)? {
            let own = match (own, &self.branch) {
                (Some(value), Some(_)) => untagged(&place, &value)?,
                (own, _) => own,
            };
            return Ok(own.map(|value| VersionedValue { value, version: None }));
        }
        let _call = self.inner.shared.enter()?;
        if self.records_reads() {
            self.reads.lock().add_key(place_table, &place);
        }
        let _reading = self.began.call()?;
        let row = self.inner.shared.stack.with(|layers| {
            let at = match self.options.isolation {
                Isolation::ReadCommitted => layers.visible(),
                Isolation::Snapshot | Isolation::Serializable => self.began.version(),
            };
            match &self.branch {
                None => layers.get(table, key, at),
                Some(branch) => {
                    if self.options.isolation == Isolation::ReadCommitted {
                        branch.must_exist(layers, at)?;
                    }
                    branch.get(layers, table, key, at)
                }
            }
        })?;
        Ok(row.and_then(|row| Some(VersionedValue { value: row.value?, version: Some(row.version) })))
    }

    /// The rows of a table, by its number, as this transaction sees them.
    pub(crate) fn rows(&self, table: Option<TableId>, range: KeyRange) -> Result<Scan, ReadError> {
        let number = self.branch.as_ref().map(BranchPart::number);
        let trace = table.filter(|_| self.records_reads()).map(|table| {
            let trace = Arc::new(ScanTrace::new(table, range.clone(), number));
            self.reads.lock().add_scan(Arc::clone(&trace));
            trace
        });
        let shared = Arc::clone(&self.inner.shared);
        let (held, own, branch) = (self.hold_current()?, self.writes.share(), self.branch.clone());
        Ok(Scan::new(ScanSource { shared, held, branch, own, table, trace }, range))
    }

    /// Commits: returns when the commit is as durable as asked, and visible to whoever begins next. Without writes
    /// nothing is stored and nothing can conflict.
    ///
    /// # Errors
    /// Unless it is [`CommitError::CommitOutcomeUnknown`], nothing of the transaction is or will be in the store.
    pub fn commit(self) -> Result<Receipt, CommitError> {
        let (inner, intent) = self.into_intent();
        commit(&inner, intent)
    }

    /// Hands the commit to the log and returns at once; its place in the order is then fixed.
    ///
    /// # Errors
    /// When the commit is refused: see [`commit`](Txn::commit).
    pub fn submit(self) -> Result<PendingCommit, CommitError> {
        let (inner, intent) = self.into_intent();
        let submitted = submit(&inner, intent)?;
        Ok(PendingCommit { inner, submitted })
    }

    fn into_intent(mut self) -> (Arc<Handle>, Intent) {
        let reads = std::mem::take(&mut *self.reads.lock());
        let intent = Intent {
            txn: self.id,
            isolation: self.options.isolation,
            durability: self.options.durability,
            view: self.version(),
            held: Arc::clone(&self.began),
            reads,
            writes: std::mem::take(&mut self.writes),
            everything: self.everything,
        };
        self.ended = true;
        self.inner.shared.counters.open_transactions.subtract(1);
        (Arc::clone(&self.inner), intent)
    }
}

impl Drop for Txn {
    fn drop(&mut self) {
        if !self.ended {
            self.inner.shared.counters.rolled_back.add(1);
            self.inner.shared.counters.open_transactions.subtract(1);
        }
    }
}

impl sealed::Sealed for Txn {}

impl Read for Txn {
    fn get_with_version(
        &self,
        table: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<VersionedValue>, ReadError> {
        self.inner.shared.must_be_open()?;
        match self.table_to_read(table) {
            Some(table) => self.get_row(table, key.as_ref()),
            None => Ok(None),
        }
    }

    fn scan(&self, table: &str, range: impl Into<KeyRange>) -> Result<Scan, ReadError> {
        self.inner.shared.must_be_open()?;
        self.rows(self.table_to_read(table), range.into())
    }

    fn version(&self) -> Version {
        Self::version(self)
    }

    fn tables(&self) -> Result<Vec<Arc<str>>, ReadError> {
        self.inner.shared.must_be_open()?;
        let rows = self.rows(Some(TableId::SYSTEM), KeyRange::prefix([TABLE_PREFIX]))?;
        let mut names = Vec::new();
        for row in rows {
            let (key, value) = row?;
            names.extend(parse_table_row(&key, Some(&value)).map(|(name, _)| name));
        }
        Ok(names)
    }

    fn store_id(&self) -> StoreId {
        self.inner.shared.store_id
    }
}

/// A commit that was handed to the log. Dropping it does not take the commit back.
#[must_use = "the commit is known to be durable only after `wait`"]
pub struct PendingCommit {
    inner: Arc<Handle>,
    submitted: Submitted,
}

impl fmt::Debug for PendingCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCommit").finish_non_exhaustive()
    }
}

impl PendingCommit {
    /// Waits until the commit is as durable as asked, and visible.
    ///
    /// # Errors
    /// As [`Txn::commit`].
    pub fn wait(self) -> Result<Receipt, CommitError> {
        self.submitted.wait(&self.inner)
    }
}
