//! How the layer above reads and writes pages: two small traits, implemented by the page file and by memory.

use keepstone_types::{Generation, PageId, PageRef};

use crate::error::PageError;
use crate::page::{Page, PageKind, PageRun};

/// Reads pages by verified reference. What one reference leads to never changes.
pub trait PageRead: Send + Sync {
    /// Bytes of payload in every page.
    fn payload_len(&self) -> usize;

    /// The page that a reference leads to, from memory or from disk, verified.
    ///
    /// # Errors
    /// [`PageError::Damaged`] when what is there is not what the reference says, [`PageError::Superseded`] when the slot
    /// was given to a newer page since, or the disk's own error.
    fn read(&self, at: PageRef) -> Result<Page, PageError>;

    /// Slots that stand one after the other, read in one go and past the cache, from memory where they are not on disk
    /// yet. Nothing is verified: [`UnverifiedPage::verify`] does, once the reference is known. Fewer pages than asked for
    /// may come, at least one.
    ///
    /// # Errors
    /// The disk's own error.
    fn read_run(&self, run: PageRun) -> Result<Vec<UnverifiedPage>, PageError>;
}

/// Builds the next generation of pages. Nothing that is there is changed: pages are written to slots that are free, and
/// slots are freed for generations to come.
pub trait PageWrite: PageRead {
    /// The generation that is being built.
    fn generation(&self) -> Generation;

    /// Reserves slots that stand one after the other: as many as `want` if there is such a run near, fewer otherwise, at
    /// least one. What is reserved and not written when the generation is committed is free again.
    ///
    /// # Errors
    /// [`PageError::Full`] when the file has reached its limit.
    fn allocate(&mut self, want: u32) -> Result<PageRun, PageError>;

    /// Gives a reserved slot its content, once. A payload shorter than [`PageRead::payload_len`] is filled up with zeros.
    ///
    /// # Errors
    /// When the slot is not reserved or the payload too long ([`PageError::Misuse`]), or the disk refuses.
    fn write(&mut self, page: PageId, kind: PageKind, payload: &[u8]) -> Result<PageRef, PageError>;

    /// Says that the generation being built does without a page. A page of this same generation is gone at once; that of
    /// an older one stays until nobody can read it any more.
    ///
    /// # Errors
    /// [`PageError::Misuse`] when the slot is not in use.
    fn free(&mut self, page: PageId, birth: Generation) -> Result<(), PageError>;
}

/// Convenience on any [`PageWrite`].
pub trait PageWriteExt: PageWrite {
    /// Writes a page into a slot of its own.
    ///
    /// # Errors
    /// As [`PageWrite::allocate`] and [`PageWrite::write`].
    fn put(&mut self, kind: PageKind, payload: &[u8]) -> Result<PageRef, PageError> {
        let run = self.allocate(1)?;
        self.write(run.first, kind, payload)
    }
}

impl<W: PageWrite + ?Sized> PageWriteExt for W {}

/// A page as it was read, before anything is known of its content.
#[derive(Clone, Debug)]
pub struct UnverifiedPage {
    pub(crate) state: Unverified,
}

/// Where an unverified page came from.
#[derive(Clone, Debug)]
pub(crate) enum Unverified {
    /// The bytes of a slot, whole or cut short by the end of the file, and how to judge them.
    Slot(crate::layout::SlotBytes),
    /// From memory, where it was verified already.
    Page(Page),
    /// The slot holds nothing.
    Missing,
}

impl UnverifiedPage {
    /// The page, if its content is what the reference says.
    ///
    /// # Errors
    /// As [`PageRead::read`]. The page may still be readable through [`PageRead::read`], which repairs where it can.
    pub fn verify(self, at: PageRef) -> Result<Page, PageError> {
        match self.state {
            Unverified::Slot(bytes) => bytes.verify(at),
            Unverified::Page(page) if page.reference() == at => Ok(page),
            Unverified::Page(page) => Err(PageError::not_as_referenced(at, page.reference())),
            Unverified::Missing => Err(PageError::missing(at)),
        }
    }
}
