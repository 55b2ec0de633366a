//! One snapshot file: written once from its head to its trailer, and read row by row.
//!
//! Invariants:
//! * Rows ascend by table number and key. Whoever reads them relies on it, and it is verified.
//! * Nothing is believed before it is verified: the head by its checksum, then trailer and index, then each block. No more
//!   memory is taken than the file has bytes for, a block, and one value.

use std::path::Path;

use keepstone_types::layout::{disk_len, memory_len};
use keepstone_types::wire::put_varint;
use keepstone_vfs::{OpenOptions, Vfs, VfsFile, VfsFileExt};
use keepstone_xor_dag::delta::{Encoder, decode_into};

use super::blocks::{BlockReader, BlockWriter, sealed};
use super::content::Content;
use super::error::{SnapshotFileError, damaged};
use super::head::{HEAD_LEN, Head};
use super::trailer::{TRAILER_LEN, TableEntry, Trailer, decode_index, encode_index, index_sum};
use crate::catalog::TableId;
use crate::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::sync::Arc;

/// What stands before a row, or before the rows of a table.
const TABLE: u8 = 1;
const PLAIN: u8 = 2;
const CODED: u8 = 3;
const DELETED: u8 = 4;
/// A coded value is never longer than the plain one: the plain one is taken then.
const CODED_LEN_MAX: usize = VALUE_LEN_MAX;
/// Values shorter than this are not worth the head of a delta.
const CODED_LEN_MIN: usize = 32;

/// What seals the head.
fn head_seal(head: &[u8; HEAD_LEN]) -> u64 {
    let sum = head.last_chunk().copied().map_or(0, u64::from_le_bytes);
    sealed(0, sum)
}

/// Writes a snapshot file. What is there before [`finish`](FileWriter::finish) is no snapshot.
pub(super) struct FileWriter {
    file: Arc<dyn VfsFile>,
    head: Head,
    blocks: BlockWriter,
    tables: Vec<TableEntry>,
    /// Which of the tables has its rows written; none before the first row.
    current: Option<usize>,
    encoder: Encoder,
    coded: Vec<u8>,
    framed: Vec<u8>,
}

impl FileWriter {
    /// Begins a file that must not be there. `tables` are those of the version, ascending by number.
    pub(super) fn create(
        vfs: &dyn Vfs,
        path: &Path,
        head: Head,
        tables: &[(TableId, Arc<str>)],
    ) -> Result<Self, SnapshotFileError> {
        let file = vfs.open(path, OpenOptions::CREATE_NEW)?;
        let bytes = head.encode();
        file.write_all_at(&bytes, 0)?;
        let blocks = BlockWriter::new(Arc::clone(&file), head.file_id, disk_len(HEAD_LEN), head_seal(&bytes));
        let entry = |(number, name): &(TableId, Arc<str>)| TableEntry {
            number: *number,
            name: Arc::clone(name),
            puts: 0,
            deletions: 0,
        };
        let tables = tables.iter().map(entry).collect();
        let (coded, framed) = (Vec::new(), Vec::new());
        Ok(Self { file, head, blocks, tables, current: None, encoder: Encoder::new(), coded, framed })
    }

    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    /// The name of a table of the version.
    pub(super) fn table_name(&self, number: TableId) -> Option<Arc<str>> {
        let at = self.tables.binary_search_by_key(&number, |table| table.number).ok()?;
        self.tables.get(at).map(|table| Arc::clone(&table.name))
    }

    /// Begins the rows of a table when they are not begun.
    fn enter(&mut self, number: TableId) -> Result<Option<&mut TableEntry>, SnapshotFileError> {
        let found = self.tables.binary_search_by_key(&number, |table| table.number).ok();
        if found != self.current {
            self.framed.clear();
            self.framed.push(TABLE);
            put_varint(&mut self.framed, number.get().into());
            self.blocks.put(&self.framed)?;
            self.current = found;
        }
        Ok(found.and_then(|at| self.tables.get_mut(at)))
    }

    fn frame(&mut self, tag: u8, key: &[u8], value_len: Option<usize>) -> Result<(), SnapshotFileError> {
        self.framed.clear();
        self.framed.push(tag);
        put_varint(&mut self.framed, disk_len(key.len()));
        self.framed.extend_from_slice(key);
        if let Some(len) = value_len {
            put_varint(&mut self.framed, disk_len(len));
        }
        self.blocks.put(&self.framed)
    }

    /// Writes a row, against what it was before when there is that and it makes it shorter.
    pub(super) fn put(
        &mut self,
        table: TableId,
        key: &[u8],
        before: Option<&[u8]>,
        value: &[u8],
    ) -> Result<(), SnapshotFileError> {
        if let Some(table) = self.enter(table)? {
            table.puts = table.puts.saturating_add(1);
        }
        if value.len() >= CODED_LEN_MIN {
            let mut coded = std::mem::take(&mut self.coded);
            coded.clear();
            let _form = self.encoder.encode(before, value, &mut coded);
            let is_shorter = coded.len() < value.len();
            let written = if is_shorter {
                self.frame(CODED, key, Some(coded.len())).and_then(|()| self.blocks.put(&coded))
            } else {
                Ok(())
            };
            self.coded = coded;
            written?;
            if is_shorter {
                return Ok(());
            }
        }
        self.frame(PLAIN, key, Some(value.len()))?;
        self.blocks.put(value)
    }

    /// Writes that a row is gone.
    pub(super) fn delete(&mut self, table: TableId, key: &[u8]) -> Result<(), SnapshotFileError> {
        if let Some(table) = self.enter(table)? {
            table.deletions = table.deletions.saturating_add(1);
        }
        self.frame(DELETED, key, None)
    }

    /// Ends the file and makes its bytes durable.
    pub(super) fn finish(self, content: Content) -> Result<(), SnapshotFileError> {
        let Self { file, head, blocks, tables, .. } = self;
        let written = blocks.finish()?;
        let index = encode_index(&tables);
        let count = |of: fn(&TableEntry) -> u64| tables.iter().map(of).fold(0, u64::saturating_add);
        let trailer = Trailer {
            written,
            index_len: disk_len(index.len()),
            index_sum: index_sum(head.file_id, &index),
            puts: count(|table| table.puts),
            deletions: count(|table| table.deletions),
            content,
            tables: u32::try_from(tables.len()).unwrap_or(u32::MAX),
        };
        let mut end = index;
        end.extend_from_slice(&trailer.encode(head.file_id));
        file.write_all_at(&end, written.end)?;
        file.sync_all()?;
        Ok(())
    }
}

/// A file whose head, index and trailer are verified.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    file: Arc<dyn VfsFile>,
    pub(super) head: Head,
    pub(super) trailer: Trailer,
    pub(super) tables: Vec<TableEntry>,
    pub(super) len: u64,
    seal: u64,
}

impl OpenFile {
    pub(super) fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self, SnapshotFileError> {
        let file = vfs.open(path, OpenOptions::READ)?;
        let len = file.len()?;
        let (head_len, trailer_len) = (disk_len(HEAD_LEN), disk_len(TRAILER_LEN));
        let least = head_len.saturating_add(trailer_len);
        if len < least {
            return Err(damaged(path, len, "the length", format!("at least {least} bytes"), len));
        }
        let mut head_bytes = [0; HEAD_LEN];
        file.read_exact_at(&mut head_bytes, 0)?;
        let head = Head::decode(path, &head_bytes)?;
        let mut bytes = [0; TRAILER_LEN];
        file.read_exact_at(&mut bytes, len.saturating_sub(trailer_len))?;
        let trailer = Trailer::decode(path, head.file_id, (head_len, len), &bytes)?;
        // It lies within the file, as the trailer was held to.
        let mut index = vec![0; memory_len(trailer.index_len)];
        file.read_exact_at(&mut index, trailer.written.end)?;
        let tables = decode_index(path, head.file_id, &trailer, &index)?;
        let seal = head_seal(&head_bytes);
        Ok(Self { file, head, trailer, tables, len, seal })
    }

    /// The rows of the file, from the first.
    pub(super) fn rows(&self) -> RowReader {
        let begin = (disk_len(HEAD_LEN), self.seal);
        let blocks = BlockReader::new(Arc::clone(&self.file), self.head.file_id, begin, self.trailer.written);
        RowReader {
            blocks,
            counts: self.tables.iter().map(|table| (table.number, table.puts, table.deletions)).collect(),
            is_full: self.head.parent.is_none(),
            table: None,
            key: Vec::new(),
            form: None,
            coded: Vec::new(),
        }
    }
}

/// How the row that a reader is at has its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain(usize),
    Coded(usize),
    Deleted,
}

/// Reads the rows of a file. It is at a row or at the end; a row's value is read when it is asked for.
#[derive(Debug)]
pub(super) struct RowReader {
    blocks: BlockReader,
    /// Number of each table, and how many rows and deletions of it are still to come.
    counts: Vec<(TableId, u64, u64)>,
    is_full: bool,
    table: Option<TableId>,
    key: Vec<u8>,
    /// `None` before the first row and at the end.
    form: Option<Form>,
    coded: Vec<u8>,
}

impl RowReader {
    /// The row that the reader is at.
    pub(super) fn at(&self) -> Option<(TableId, &[u8])> {
        self.form?;
        Some((self.table?, &self.key))
    }

    /// Goes to the next row, past the value of this one. At the end it verifies that everything came.
    pub(super) fn advance(&mut self) -> Result<(), SnapshotFileError> {
        if let Some(Form::Plain(len) | Form::Coded(len)) = self.form.take() {
            self.blocks.skip(len)?;
        }
        self.advance_behind_value()
    }

    fn advance_behind_value(&mut self) -> Result<(), SnapshotFileError> {
        self.form = None;
        if self.blocks.left() == 0 {
            if let Some(short) = self.counts.iter().find(|(_, puts, deletions)| *puts > 0 || *deletions > 0) {
                return Err(self.blocks.fail(
                    "the rows",
                    format!("{short:?} more (table, rows, deletions)"),
                    "the end",
                ));
            }
            return self.blocks.finish();
        }
        let mut tag = self.blocks.u8()?;
        let mut is_first = false;
        if tag == TABLE {
            let number = u32::try_from(self.blocks.varint()?).map(TableId::new);
            let number = number.ok().filter(|number| self.table.is_none_or(|table| table < *number));
            let Some(number) = number else {
                return Err(self.blocks.fail("a table's number", "one above the last", "another"));
            };
            self.table = Some(number);
            is_first = true;
            tag = self.blocks.u8()?;
        }
        let before = std::mem::take(&mut self.key);
        let len = self.length("a key's length", KEY_LEN_MAX)?;
        self.blocks.append(len, &mut self.key)?;
        if !is_first && self.key <= before {
            return Err(self.blocks.fail("a key", "one above the last", self.key.escape_ascii().to_string()));
        }
        let form = match tag {
            PLAIN => Form::Plain(self.length("a value's length", VALUE_LEN_MAX)?),
            CODED => Form::Coded(self.length("a delta's length", CODED_LEN_MAX)?),
            DELETED if !self.is_full => Form::Deleted,
            other => return Err(self.blocks.fail("a row", "one of the known kinds", other)),
        };
        self.count(form)?;
        self.form = Some(form);
        Ok(())
    }

    fn length(&mut self, what: &'static str, max: usize) -> Result<usize, SnapshotFileError> {
        let length = self.blocks.varint()?;
        let len = usize::try_from(length).ok().filter(|len| *len <= max);
        len.ok_or_else(|| self.blocks.fail(what, format!("at most {max}"), length))
    }

    fn count(&mut self, form: Form) -> Result<(), SnapshotFileError> {
        let at = self.table.and_then(|table| self.counts.binary_search_by_key(&table, |count| count.0).ok());
        let counted = at.and_then(|at| self.counts.get_mut(at)).and_then(|(_, puts, deletions)| {
            let left = if form == Form::Deleted { deletions } else { puts };
            *left = left.checked_sub(1)?;
            Some(())
        });
        counted.ok_or_else(|| self.blocks.fail("a row", "as many as the index says", "one more"))
    }

    /// Reads the row's value into `out`, made against `before` if it needs it, and goes to the next row. False for a
    /// deletion.
    pub(super) fn take(
        &mut self,
        before: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<bool, SnapshotFileError> {
        out.clear();
        let form = self.form.take();
        match form {
            Some(Form::Plain(len)) => self.blocks.append(len, out)?,
            Some(Form::Coded(len)) => {
                let mut coded = std::mem::take(&mut self.coded);
                coded.clear();
                let read = self.blocks.append(len, &mut coded);
                let decoded = read.and_then(|()| {
                    decode_into(&coded, before, out, VALUE_LEN_MAX).map_err(|error| {
                        self.blocks.fail("a coded value", "one made against what the parent has", error)
                    })
                });
                self.coded = coded;
                decoded?;
            }
            Some(Form::Deleted) | None => {}
        }
        self.advance_behind_value()?;
        Ok(matches!(form, Some(Form::Plain(_) | Form::Coded(_))))
    }
}
