//! Building a run: rows that come in order, written as they come, with a bounded part of them in memory.

use keepstone_btree::{Builder, Fill, NewValue, Prefix, TreeError, TreeRoot};
use keepstone_pager::{
    Page, PageError, PageFile, PageKind, PageRead, PageRun, PageWrite, PageWriter, UnverifiedPage,
};
use keepstone_types::{Generation, PageId, PageRef, ValueRef};
use keepstone_vfs::IoError;

use super::{DELETED, LIVE, RunFolder, place};
use crate::catalog::TableId;
use crate::error::{CommitError, ReadError};
use crate::key_range::KeyRange;
use crate::runs::{Run, RunRef};
use crate::sync::{Arc, AtomicBool};

/// Bytes of pages that are held in memory before they are written.
const DIRTY_BYTES_MAX: u64 = 8 << 20;

/// Why a run was not written or not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Open(#[from] keepstone_pager::OpenError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<RunError> for CommitError {
    fn from(error: RunError) -> Self {
        let is_full = match &error {
            RunError::Io(error) | RunError::Open(keepstone_pager::OpenError::Io(error)) => {
                error.is_out_of_space()
            }
            RunError::Tree(TreeError::Page(error)) | RunError::Page(error) => {
                matches!(error, PageError::OutOfSpace { .. })
            }
            _ => false,
        };
        match error {
            RunError::Read(error) => error.into(),
            error if is_full => Self::OutOfSpace { source: error.into() },
            error => Self::Runs { source: error.into() },
        }
    }
}

/// A page file that is being filled: what was written is committed whenever it is much, so that a run of any size takes
/// little memory. A commit waits until no slot is reserved and unwritten, because it would give such slots back.
struct Filling {
    pages: PageFile,
    writer: PageWriter,
    reserved: u64,
}

impl Filling {
    fn new(pages: PageFile) -> Result<Self, PageError> {
        let writer = pages.begin()?;
        Ok(Self { pages, writer, reserved: 0 })
    }

    /// Commits what there is and goes on with the next generation.
    fn commit(self) -> Result<Self, PageError> {
        self.writer.commit(&[])?;
        Self::new(self.pages)
    }
}

/// [`Filling`] as a builder sees it; there is none after a failed commit.
struct Pages(Option<Filling>);

impl Pages {
    fn filling(&self) -> Result<&Filling, PageError> {
        self.0.as_ref().ok_or(PageError::Poisoned)
    }

    fn filling_mut(&mut self) -> Result<&mut Filling, PageError> {
        self.0.as_mut().ok_or(PageError::Poisoned)
    }

    fn commit(&mut self) -> Result<(), PageError> {
        let filling = self.0.take().ok_or(PageError::Poisoned)?;
        self.0 = Some(filling.commit()?);
        Ok(())
    }
}

impl PageRead for Pages {
    fn payload_len(&self) -> usize {
        self.0.as_ref().map_or(0, |filling| filling.writer.payload_len())
    }

    fn read(&self, at: PageRef) -> Result<Page, PageError> {
        self.filling()?.writer.read(at)
    }

    fn read_run(&self, run: PageRun) -> Result<Vec<UnverifiedPage>, PageError> {
        self.filling()?.writer.read_run(run)
    }
}

impl PageWrite for Pages {
    fn generation(&self) -> Generation {
        self.0.as_ref().map_or(Generation::ZERO, |filling| filling.writer.generation())
    }

    fn allocate(&mut self, want: u32) -> Result<PageRun, PageError> {
        let filling = self.filling_mut()?;
        let run = filling.writer.allocate(want)?;
        filling.reserved = filling.reserved.saturating_add(run.count.into());
        Ok(run)
    }

    fn write(&mut self, page: PageId, kind: PageKind, payload: &[u8]) -> Result<PageRef, PageError> {
        let filling = self.filling_mut()?;
        let at = filling.writer.write(page, kind, payload)?;
        filling.reserved = filling.reserved.saturating_sub(1);
        if filling.reserved == 0 && filling.writer.dirty_bytes() >= DIRTY_BYTES_MAX {
            self.commit()?;
        }
        Ok(at)
    }

    fn free(&mut self, page: PageId, birth: Generation) -> Result<(), PageError> {
        self.filling_mut()?.writer.free(page, birth)
    }
}

/// Takes the rows of a run in ascending order of table and key.
pub(crate) struct RunSink<'a> {
    builder: Builder<'a, Pages>,
    bytes: u64,
    /// The first key and the last of each table so far.
    spans: Vec<(TableId, ValueRef, ValueRef)>,
}

impl RunSink<'_> {
    /// Adds a row; no value is a deletion.
    pub(crate) fn push(
        &mut self,
        table: TableId,
        key: &ValueRef,
        value: Option<&ValueRef>,
    ) -> Result<(), RunError> {
        let len = key.len().saturating_add(value.map_or(0, |value| value.len()));
        let mark = if value.is_some() { LIVE } else { DELETED };
        let body = value.cloned().unwrap_or_else(ValueRef::empty);
        let value = NewValue::Bytes { prefix: Prefix::new(&[mark]).unwrap_or_default(), body };
        self.builder.push(&place(table, key), value)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        match self.spans.last_mut().filter(|(last, _, _)| *last == table) {
            Some((_, _, last)) => *last = key.clone(),
            None => self.spans.push((table, key.clone(), key.clone())),
        }
        Ok(())
    }
}

impl RunFolder {
    /// Builds a run of the rows that `fill` adds. Its file is on stable storage when this returns, name included.
    pub(crate) fn build(
        self: &Arc<Self>,
        fill: impl FnOnce(&mut RunSink<'_>) -> Result<(), RunError>,
    ) -> Result<Arc<Run>, RunError> {
        let (number, path) = self.next_file()?;
        match self.build_in(&path, fill) {
            Ok((pages, root, bytes, spans)) => Ok(Arc::new(Run {
                folder: Arc::clone(self),
                path,
                pages,
                reference: RunRef { number, bytes, root },
                spans,
                is_attached: AtomicBool::new(false),
            })),
            Err(error) => {
                self.discard(&path);
                Err(error)
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "the parts of a run, named by the only caller")]
    fn build_in(
        &self,
        path: &std::path::Path,
        fill: impl FnOnce(&mut RunSink<'_>) -> Result<(), RunError>,
    ) -> Result<(PageFile, TreeRoot, u64, Vec<(TableId, KeyRange)>), RunError> {
        let file = self.create(path)?;
        let mut pages = Pages(Some(Filling::new(file.clone())?));
        let mut sink = RunSink { builder: Builder::new(&mut pages, Fill::FULL), bytes: 0, spans: Vec::new() };
        fill(&mut sink)?;
        let RunSink { builder, bytes, spans } = sink;
        let root = builder.finish()?;
        pages.commit()?;
        // Gives the generation back that was begun behind the last.
        drop(pages);
        let range = |(table, first, last)| {
            (table, KeyRange { from: std::ops::Bound::Included(first), to: std::ops::Bound::Included(last) })
        };
        Ok((file, root, bytes, spans.into_iter().map(range).collect()))
    }
}
