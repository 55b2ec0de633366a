//! The end of the log: where the next group goes, written under the one lock that is held across I/O.

use std::path::Path;
use std::time::Duration;

use keepstone_types::{CodecId, Timeline};
use keepstone_vfs::{AlignedBuffer, IoError, OpenOptions, Vfs, VfsFile, VfsFileExt, WriteMode};

use crate::catalog::SegmentEnd;
use crate::group::{ChainEnd, GroupBuilder, Proven, total_len};
use crate::layout::disk_len;
use crate::queue::Entry;
use crate::record::{RecordKind, stored_len};
use crate::recovery::repair::RESERVED_SECTORS;
use crate::segment::{HEADER_BLOCK, HEADER_BYTES, SegmentHeader};
use crate::sync::Arc;
use crate::wrong::{self, Wrong};
use crate::zeroed::{Spare, give_name, open_segment, write_header};

/// The segment that is appended to.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) header: SegmentHeader,
    seed: u64,
    sector: usize,
    pub(crate) offset: u64,
    pub(crate) end: ChainEnd,
    builder: GroupBuilder,
    /// Everything through it was synced.
    pub(crate) synced: Proven,
    pub(crate) timeline: Timeline,
    mode: WriteMode,
    /// When the segment was begun.
    pub(crate) begun: Duration,
    /// The last group is a clean close: nothing was written since.
    pub(crate) ends_clean: bool,
    pub(crate) asides: Asides,
}

/// Syncs of the tail's file beside the one who leads. One that fails may take with it what the leader wrote meanwhile,
/// and its error with it: the leader's own sync then succeeds and proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Asides {
    pub(crate) begun: u64,
    pub(crate) over: u64,
    pub(crate) failure: Option<IoError>,
}

/// Where a log goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) end: ChainEnd,
    pub(crate) ends_clean: bool,
}

/// What went wrong when a segment was begun.
#[derive(Debug)]
pub(crate) enum RotateError {
    /// Nothing has happened that could not be done again.
    NoRoom(IoError),
    /// What is on the disk is unknown.
    Unknown(IoError),
}

/// A segment that was begun, and the one that ended.
#[derive(Debug)]
pub(crate) struct Rotated {
    pub(crate) ended: u64,
    pub(crate) end: SegmentEnd,
    pub(crate) begun: SegmentHeader,
    /// The file that ended, whose seal is not synced yet.
    pub(crate) old_file: Arc<dyn VfsFile>,
    /// Groups of the old segment were synced now.
    pub(crate) synced: Proven,
}

impl Tail {
    pub(crate) fn new(
        file: Arc<dyn VfsFile>,
        header: SegmentHeader,
        Place { offset, end, ends_clean }: Place,
        timeline: Timeline,
        mode: WriteMode,
        begun: Duration,
    ) -> Self {
        let synced = Proven { lsn: end.next_lsn.saturating_sub(1), sequence: end.sequence };
        let (seed, sector) = (header.seed(), usize::try_from(header.sector).unwrap_or(HEADER_BLOCK));
        let (builder, asides) = (GroupBuilder::new(), Asides::default());
        Self {
            file,
            header,
            seed,
            sector,
            offset,
            end,
            builder,
            synced,
            timeline,
            mode,
            begun,
            ends_clean,
            asides,
        }
    }

    /// Whether a group with so many bytes of records fits before the reserve.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.fits(length, RESERVED_SECTORS)
    }

    fn fits(&self, length: usize, reserve: usize) -> bool {
        let needed = total_len(length, self.sector).saturating_add(reserve.saturating_mul(self.sector));
        self.offset.saturating_add(disk_len(needed)) <= self.header.length
    }

    /// Everything written so far.
    pub(crate) fn written(&self) -> Proven {
        Proven { lsn: self.end.next_lsn.saturating_sub(1), sequence: self.end.sequence }
    }

    /// Encodes a group; nothing is written.
    pub(crate) fn encode<I>(&mut self, entries: &[Entry<I>], length: usize) {
        self.builder.begin(length, self.sector);
        for entry in entries {
            let reference = entry.side.map(|side| side.encode());
            let reference = reference.as_ref().map(<[u8; 24]>::as_slice).unwrap_or_default();
            self.builder.push(entry.kind, entry.codec, &entry.inline, reference);
        }
    }

    /// Writes the group that was encoded. Gives its length in bytes.
    pub(crate) fn write_encoded(&mut self) -> Result<u64, IoError> {
        let (bytes, header) = self.builder.finish(self.end, self.synced, self.seed);
        self.file.write_all_at(bytes, self.offset)?;
        let written = disk_len(bytes.len());
        self.offset = self.offset.saturating_add(written);
        self.end = ChainEnd::after(&header);
        self.ends_clean = false;
        Ok(written)
    }

    /// Writes a group with one of the log's own records, if it fits even into the reserve. False when it does not.
    pub(crate) fn write_own(
        &mut self,
        kind: RecordKind,
        payload: &[u8],
        reserve: usize,
    ) -> Result<bool, IoError> {
        let length = stored_len(payload.len());
        if !self.fits(length, reserve) {
            return Ok(false);
        }
        self.builder.begin(length, self.sector);
        self.builder.push(kind, CodecId::RAW, payload, &[]);
        self.write_encoded()?;
        Ok(true)
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self, metadata: bool) -> Result<Proven, IoError> {
        let synced = if metadata {
            self.file.sync_all()
        } else if self.mode == WriteMode::DataSync {
            Ok(())
        } else {
            self.file.sync_data()
        };
        match synced {
            Err(_) if wrong::is(Wrong::SyncRetried) => self.file.sync_data()?,
            synced => synced?,
        }
        self.synced = self.written();
        Ok(self.synced)
    }

    /// Begins a sync beside the one who leads, of everything written so far.
    pub(crate) fn begin_aside(&mut self) -> (Arc<dyn VfsFile>, Proven) {
        self.asides.begun = self.asides.begun.saturating_add(1);
        (Arc::clone(&self.file), self.written())
    }

    /// Ends the segment, everything in which is synced, and begins one in `spare`.
    pub(crate) fn rotate(
        &mut self,
        vfs: &dyn Vfs,
        dir: &Path,
        spare: &Spare,
        (number, sector, relaxed): (u64, u32, bool),
        now: Duration,
    ) -> Result<Rotated, RotateError> {
        let header = SegmentHeader {
            generation: 0,
            number,
            length: spare.len,
            first_lsn: self.end.next_lsn,
            predecessor: self.header.number,
            end_sequence: self.end.sequence,
            end_checksum: self.end.checksum,
            end_lsn: self.end.next_lsn.saturating_sub(1),
            proven: self.synced,
            sector,
            relaxed,
            timeline: self.timeline,
            ..self.header
        };
        let begun = begin(vfs, &spare.path, &header);
        begun.map_err(|error| {
            if error.is_out_of_space() { RotateError::NoRoom(error) } else { RotateError::Unknown(error) }
        })?;
        give_name(vfs, dir, &spare.path, number).map_err(RotateError::Unknown)?;
        let file = open_segment(vfs, dir, number, self.mode).map_err(RotateError::Unknown)?;
        let end = SegmentEnd { sequence: self.end.sequence, next_lsn: self.end.next_lsn };
        let (chain, synced) = (self.end, self.synced);
        // The seal only makes the absence of the new segment noticed; a log without it is whole.
        self.write_own(RecordKind::SEAL, &number.to_le_bytes(), 0).unwrap_or_default();
        let old_file = std::mem::replace(&mut self.file, file);
        let ended = self.header.number;
        self.seed = header.seed();
        self.sector = usize::try_from(sector).unwrap_or(HEADER_BLOCK);
        (self.header, self.offset, self.end, self.begun) = (header, HEADER_BYTES, chain, now);
        Ok(Rotated { ended, end, begun: header, old_file, synced })
    }

    /// Rewrites the header with another owner mark: one copy after the other, so that one is always whole.
    pub(crate) fn set_owner_mark(&mut self, owner_mark: [u8; 16]) -> Result<(), IoError> {
        let generation = self.header.generation.saturating_add(1);
        let header = SegmentHeader { owner_mark, generation, ..self.header };
        let mut buffer = AlignedBuffer::zeroed(HEADER_BLOCK, HEADER_BLOCK);
        buffer.as_mut_slice().copy_from_slice(&header.encode());
        for offset in [0, disk_len(HEADER_BLOCK)] {
            self.file.write_all_at(buffer.as_slice(), offset)?;
            self.file.sync_data()?;
        }
        self.header = header;
        Ok(())
    }
}

fn begin(vfs: &dyn Vfs, path: &Path, header: &SegmentHeader) -> Result<(), IoError> {
    let file = vfs.open(path, OpenOptions::WRITE)?;
    write_header(file.as_ref(), header)
}
