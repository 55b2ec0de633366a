//! The rows of a snapshot file as a stream of bytes in blocks, each with its length and checksum.
//!
//! A block is at most 256 KiB, and all but the last are that long; rows go on from one to the next. A checksum is seeded with
//! the file's random id and the block's number, so that a block of another file, or of another place, never verifies. Both
//! sides hold one block.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::StoreId;
use keepstone_types::checksum::{checksum_seeded, seed};
use keepstone_types::layout::{disk_len, memory_len};
use keepstone_vfs::{VfsFile, VfsFileExt};

use super::error::{SnapshotFileError, damaged};
use crate::sync::Arc;

/// Bytes of the stream in a block, at most.
pub(super) const BLOCK_LEN: usize = 256 << 10;
/// Bytes before the stream's: their number.
const LENGTH_LEN: usize = 4;
/// Bytes behind the stream's: the checksum of length and content.
const SUM_LEN: usize = 8;
/// Bytes of a block that are not the stream's.
const FRAME_LEN: u64 = 12;
const _: () = assert!(LENGTH_LEN + SUM_LEN == 12);

/// The seal so far with one more checksum under it.
pub(super) fn sealed(seal: u64, sum: u64) -> u64 {
    checksum_seeded(seal, &sum.to_le_bytes())
}

fn sum_of(file_id: [u8; 16], number: u64, framed: &[u8]) -> u64 {
    checksum_seeded(seed(StoreId::from_bytes(file_id), number), framed)
}

/// What was written: where the stream ends, and what is under the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) blocks: u64,
    pub(super) stream_len: u64,
    pub(super) seal: u64,
    /// The first byte behind the last block.
    pub(super) end: u64,
}

/// Writes a stream as blocks.
#[derive(Debug)]
pub(super) struct BlockWriter {
    file: Arc<dyn VfsFile>,
    file_id: [u8; 16],
    written: Written,
    /// The block so far, behind room for its length.
    block: Vec<u8>,
}

impl BlockWriter {
    /// Begins at `offset` of a file, under a seal that has what is before it.
    pub(super) fn new(file: Arc<dyn VfsFile>, file_id: [u8; 16], offset: u64, seal: u64) -> Self {
        let written = Written { blocks: 0, stream_len: 0, seal, end: offset };
        let mut block = Vec::with_capacity(BLOCK_LEN.saturating_add(LENGTH_LEN).saturating_add(SUM_LEN));
        block.extend_from_slice(&[0; LENGTH_LEN]);
        Self { file, file_id, written, block }
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), SnapshotFileError> {
        while !bytes.is_empty() {
            let room = BLOCK_LEN.saturating_add(LENGTH_LEN).saturating_sub(self.block.len());
            let (now, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.block.extend_from_slice(now);
            bytes = rest;
            if now.len() == room {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SnapshotFileError> {
        let len = self.block.len().saturating_sub(LENGTH_LEN);
        let length = u32::try_from(len).unwrap_or(u32::MAX);
        if let Some(field) = self.block.first_chunk_mut::<LENGTH_LEN>() {
            *field = length.to_le_bytes();
        }
        let sum = sum_of(self.file_id, self.written.blocks, &self.block);
        self.block.extend_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&self.block, self.written.end)?;
        let Written { blocks, stream_len, seal, end } = self.written;
        self.written = Written {
            blocks: blocks.saturating_add(1),
            stream_len: stream_len.saturating_add(u64::from(length)),
            seal: sealed(seal, sum),
            end: end.saturating_add(disk_len(self.block.len())),
        };
        self.block.truncate(LENGTH_LEN);
        Ok(())
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) -> Result<Written, SnapshotFileError> {
        if self.block.len() > LENGTH_LEN {
            self.flush()?;
        }
        Ok(self.written)
    }
}

/// Reads a stream from blocks, each verified before any byte of it is handed out.
#[derive(Debug)]
pub(super) struct BlockReader {
    file: Arc<dyn VfsFile>,
    file_id: [u8; 16],
    /// What was written, as the trailer says.
    expected: Written,
    /// What was read so far; `stream_len` counts what was handed out.
    read: Written,
    block: Vec<u8>,
    /// Bytes of the block that were handed out.
    taken: usize,
}

impl BlockReader {
    pub(super) fn new(
        file: Arc<dyn VfsFile>,
        file_id: [u8; 16],
        (offset, seal): (u64, u64),
        expected: Written,
    ) -> Self {
        let read = Written { blocks: 0, stream_len: 0, seal, end: offset };
        Self { file, file_id, expected, read, block: Vec::new(), taken: 0 }
    }

    /// Bytes of the stream that were not handed out.
    pub(super) fn left(&self) -> u64 {
        self.expected.stream_len.saturating_sub(self.read.stream_len)
    }

    /// Damage where the reader is.
    pub(super) fn fail(
        &self,
        what: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> SnapshotFileError {
        let behind = disk_len(self.block.len().saturating_sub(self.taken)).saturating_add(disk_len(SUM_LEN));
        damaged(self.file.path(), self.read.end.saturating_sub(behind), what, expected, found)
    }

    fn next_block(&mut self) -> Result<(), SnapshotFileError> {
        let start = self.read.end;
        let fail =
            |what, expected: String, found: String| damaged(self.file.path(), start, what, expected, found);
        let room = self.expected.end.saturating_sub(start);
        let mut length = [0; LENGTH_LEN];
        if room <= FRAME_LEN {
            return Err(fail(
                "the end of the blocks",
                format!("another block, {} bytes are missing", self.left()),
                format!("{room} bytes"),
            ));
        }
        self.file.read_exact_at(&mut length, start)?;
        let len = memory_len(u32::from_le_bytes(length).into());
        let end = start.saturating_add(disk_len(len)).saturating_add(FRAME_LEN);
        let is_last = end == self.expected.end;
        if len == 0 || len > BLOCK_LEN || end > self.expected.end || (len < BLOCK_LEN && !is_last) {
            let expected = format!("{BLOCK_LEN} bytes, or what is left of {room}");
            return Err(fail("the length of a block", expected, len.to_string()));
        }
        let mut block = std::mem::take(&mut self.block);
        block.clear();
        block.resize(len.saturating_add(LENGTH_LEN).saturating_add(SUM_LEN), 0);
        self.file.read_exact_at(&mut block, start)?;
        let sum = block.split_off(len.saturating_add(LENGTH_LEN));
        let found = u64::from_le_bytes(sum.as_slice().try_into().unwrap_or_default());
        let expected = sum_of(self.file_id, self.read.blocks, &block);
        if found != expected {
            return Err(fail("a block's checksum", format!("{expected:016x}"), format!("{found:016x}")));
        }
        self.read.seal = sealed(self.read.seal, found);
        self.read.blocks = self.read.blocks.saturating_add(1);
        self.read.end = end;
        (self.block, self.taken) = (block, LENGTH_LEN);
        Ok(())
    }

    /// What is left of the block, or the next one.
    fn available(&mut self) -> Result<&[u8], SnapshotFileError> {
        if self.taken >= self.block.len() {
            self.next_block()?;
        }
        Ok(self.block.get(self.taken..).unwrap_or_default())
    }

    fn took(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count);
        self.read.stream_len = self.read.stream_len.saturating_add(disk_len(count));
    }

    /// Hands out the next bytes of the stream, piece by piece.
    fn take(&mut self, mut count: usize, mut to: impl FnMut(&[u8])) -> Result<(), SnapshotFileError> {
        if disk_len(count) > self.left() {
            return Err(self.fail("the rows", format!("{count} more bytes"), self.left()));
        }
        while count > 0 {
            let piece = self.available()?;
            let piece = piece.get(..count).unwrap_or(piece);
            to(piece);
            let len = piece.len();
            self.took(len);
            count = count.saturating_sub(len);
        }
        Ok(())
    }

    /// Appends the next bytes; memory is taken only for what the file has.
    pub(super) fn append(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), SnapshotFileError> {
        self.take(count, |piece| out.extend_from_slice(piece))
    }

    /// Passes over the next bytes; they are verified all the same.
    pub(super) fn skip(&mut self, count: usize) -> Result<(), SnapshotFileError> {
        self.take(count, |_| {})
    }

    pub(super) fn u8(&mut self) -> Result<u8, SnapshotFileError> {
        let mut byte = 0;
        self.take(1, |piece| byte = piece.first().copied().unwrap_or_default())?;
        Ok(byte)
    }

    /// A LEB128 number of at most 63 bits.
    pub(super) fn varint(&mut self) -> Result<u64, SnapshotFileError> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.fail("a number", "at most nine bytes", "more"))
    }

    /// Everything was read, and is what was sealed.
    pub(super) fn finish(&self) -> Result<(), SnapshotFileError> {
        if self.read == self.expected {
            return Ok(());
        }
        Err(self.fail("the end of the rows", format!("{:?}", self.expected), format!("{:?}", self.read)))
    }
}
