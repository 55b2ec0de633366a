//! The end of a snapshot file: the index of its tables, and a trailer with what all of it adds up to. `FORMAT.md` draws them.
#![deny(clippy::arithmetic_side_effects)]

use std::path::Path;

use keepstone_types::StoreId;
use keepstone_types::checksum::{checksum_seeded, seed};
use keepstone_types::layout::{Field, disk_len, is_zero};
use keepstone_types::wire::{Reader, Truncated, put_varint};

use super::blocks::Written;
use super::content::Content;
use super::error::{SnapshotFileError, damaged};
use crate::catalog::{TableId, check_table_name};
use crate::limits::TABLES_MAX;
use crate::sync::Arc;

const MAGIC: &[u8; 8] = b"SNAPEND\n";

const MAGIC_FIELD: Field = Field::first("magic", 8, "magic, the text `SNAPEND` and a line feed");
const BLOCKS: Field = MAGIC_FIELD.then("blocks", 8, "blocks");
const STREAM: Field = BLOCKS.then("stream", 8, "bytes of the stream in them");
const END: Field = STREAM.then("end", 8, "the first byte behind the blocks, where the index begins");
const INDEX_LEN: Field = END.then("index length", 8, "bytes of the index; the trailer follows");
const INDEX_SUM: Field =
    INDEX_LEN.then("index checksum", 8, "XXH3-64 of the index, seeded as the first block's");
const SEAL: Field = INDEX_SUM.then(
    "seal",
    8,
    "seal: from 0 on, XXH3-64 of each checksum of head and blocks, seeded with the one before",
);
const PUTS: Field = SEAL.then("puts", 8, "rows in the file that have a value");
const DELETIONS: Field = PUTS.then("deletions", 8, "rows in the file that are deletions; 0 in a full one");
const ROWS: Field = DELETIONS.then("rows", 8, "rows of the version");
const SUM: Field = ROWS.then("sum", 8, "sum of the checksums of the rows of the version");
const TABLES: Field = SUM.then("tables", 4, "tables of the version");
const RESERVED: Field = TABLES.then("reserved", 4, "reserved, zero");
const CHECKSUM: Field =
    RESERVED.then("checksum", 8, "XXH3-64 of all bytes of the trailer before, seeded alike");

/// Bytes of the trailer.
pub(super) const TRAILER_LEN: usize = 104;
const _: () = assert!(CHECKSUM.end() == TRAILER_LEN);

#[cfg(test)]
pub(crate) const TRAILER_FIELDS: [Field; 14] = [
    MAGIC_FIELD,
    BLOCKS,
    STREAM,
    END,
    INDEX_LEN,
    INDEX_SUM,
    SEAL,
    PUTS,
    DELETIONS,
    ROWS,
    SUM,
    TABLES,
    RESERVED,
    CHECKSUM,
];

/// A table of the version, and how many of its rows are in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub(super) number: TableId,
    pub(super) name: Arc<str>,
    pub(super) puts: u64,
    pub(super) deletions: u64,
}

/// What the trailer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) written: Written,
    pub(super) index_len: u64,
    pub(super) index_sum: u64,
    pub(super) puts: u64,
    pub(super) deletions: u64,
    pub(super) content: Content,
    pub(super) tables: u32,
}

/// The seed of index and trailer.
fn seed_of(file_id: [u8; 16]) -> u64 {
    seed(StoreId::from_bytes(file_id), 0)
}

impl Trailer {
    pub(super) fn encode(&self, file_id: [u8; 16]) -> [u8; TRAILER_LEN] {
        let mut out = [0_u8; TRAILER_LEN];
        MAGIC_FIELD.put(&mut out, MAGIC);
        let Written { blocks, stream_len, seal, end } = self.written;
        for (field, number) in [
            (BLOCKS, blocks),
            (STREAM, stream_len),
            (END, end),
            (INDEX_LEN, self.index_len),
            (INDEX_SUM, self.index_sum),
            (SEAL, seal),
            (PUTS, self.puts),
            (DELETIONS, self.deletions),
            (ROWS, self.content.rows),
            (SUM, self.content.sum),
        ] {
            field.put(&mut out, &number.to_le_bytes());
        }
        TABLES.put(&mut out, &self.tables.to_le_bytes());
        let sum = checksum_seeded(seed_of(file_id), out.get(..CHECKSUM.offset).unwrap_or_default());
        CHECKSUM.put(&mut out, &sum.to_le_bytes());
        out
    }

    /// Reads the trailer of a file of `file_len` bytes whose blocks begin at `begin`.
    pub(super) fn decode(
        path: &Path,
        file_id: [u8; 16],
        (begin, file_len): (u64, u64),
        bytes: &[u8; TRAILER_LEN],
    ) -> Result<Self, SnapshotFileError> {
        let start = file_len.saturating_sub(disk_len(TRAILER_LEN));
        let fail = |field: Field, expected: String, found: String| {
            damaged(path, start.saturating_add(disk_len(field.offset)), field.name, expected, found)
        };
        if MAGIC_FIELD.bytes(bytes) != MAGIC {
            let found = MAGIC_FIELD.bytes(bytes).escape_ascii().to_string();
            let expected = format!("{} at the end of a file that is whole", MAGIC.escape_ascii());
            return Err(fail(MAGIC_FIELD, expected, found));
        }
        let expected = checksum_seeded(seed_of(file_id), bytes.get(..CHECKSUM.offset).unwrap_or_default());
        let found = CHECKSUM.u64(bytes);
        if expected != found {
            return Err(fail(CHECKSUM, format!("{expected:016x}"), format!("{found:016x}")));
        }
        if !is_zero(RESERVED.bytes(bytes)) {
            return Err(fail(RESERVED, "zeros".to_owned(), "others".to_owned()));
        }
        let written = Written {
            blocks: BLOCKS.u64(bytes),
            stream_len: STREAM.u64(bytes),
            seal: SEAL.u64(bytes),
            end: END.u64(bytes),
        };
        let index_len = INDEX_LEN.u64(bytes);
        let ends = written.end.checked_add(index_len) == Some(start) && written.end >= begin;
        if !ends || written.stream_len > written.end.saturating_sub(begin) {
            return Err(fail(
                END,
                format!("blocks and index from byte {begin} to {start}"),
                format!("{written:?}"),
            ));
        }
        Ok(Self {
            written,
            index_len,
            index_sum: INDEX_SUM.u64(bytes),
            puts: PUTS.u64(bytes),
            deletions: DELETIONS.u64(bytes),
            content: Content { rows: ROWS.u64(bytes), sum: SUM.u64(bytes) },
            tables: TABLES.u32(bytes),
        })
    }
}

/// The checksum of an index.
pub(super) fn index_sum(file_id: [u8; 16], index: &[u8]) -> u64 {
    checksum_seeded(seed_of(file_id), index)
}

/// The bytes of an index.
pub(super) fn encode_index(tables: &[TableEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    for table in tables {
        put_varint(&mut out, table.number.get().into());
        put_varint(&mut out, table.puts);
        put_varint(&mut out, table.deletions);
        put_varint(&mut out, disk_len(table.name.len()));
        out.extend_from_slice(table.name.as_bytes());
    }
    out
}

/// The tables of an index that begins at a byte of a file.
pub(super) fn decode_index(
    path: &Path,
    file_id: [u8; 16],
    trailer: &Trailer,
    bytes: &[u8],
) -> Result<Vec<TableEntry>, SnapshotFileError> {
    let fail =
        |what, expected: String, found: String| damaged(path, trailer.written.end, what, expected, found);
    let (expected, found) = (trailer.index_sum, index_sum(file_id, bytes));
    if expected != found {
        return Err(fail("the index", format!("checksum {expected:016x}"), format!("{found:016x}")));
    }
    let mut tables: Vec<TableEntry> = Vec::new();
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let at = reader.offset();
        let table = decode_table(&mut reader)
            .map_err(|error| fail("the index", "a table".to_owned(), error.to_string()))?;
        let ascends = tables.last().is_none_or(|last| last.number < table.number);
        if !ascends || !table.number.is_user() || check_table_name(&table.name).is_err() {
            let expected = "numbers that ascend, and names".to_owned();
            return Err(fail("the index", expected, format!("table {} at byte {at}", table.number.get())));
        }
        tables.push(table);
    }
    let count = |of: fn(&TableEntry) -> u64| tables.iter().map(of).fold(0, u64::saturating_add);
    let found = (tables.len(), count(|table| table.puts), count(|table| table.deletions));
    let expected = (usize::try_from(trailer.tables).unwrap_or(usize::MAX), trailer.puts, trailer.deletions);
    if found != expected || tables.len() > TABLES_MAX {
        return Err(fail("the index", format!("tables, rows, deletions {expected:?}"), format!("{found:?}")));
    }
    Ok(tables)
}

fn decode_table(reader: &mut Reader<'_>) -> Result<TableEntry, Truncated> {
    let no_number = Truncated { offset: reader.offset(), wanted: 4, found: 10 };
    let number = TableId::new(u32::try_from(reader.varint()?).map_err(|_| no_number)?);
    let (puts, deletions) = (reader.varint()?, reader.varint()?);
    let len = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    let name = std::str::from_utf8(reader.bytes(len)?).map_err(|_| no_number)?;
    Ok(TableEntry { number, name: Arc::from(name), puts, deletions })
}
