//! Pages in memory: for trees that need no file, and for tests of what stands on pages.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_types::checksum::checksum;
use keepstone_types::{Generation, PageId, PageRef, ValueRef};

use crate::access::{PageRead, PageWrite, Unverified, UnverifiedPage};
use crate::error::PageError;
use crate::page::{Page, PageKind, PageRun};

/// Pages held in memory. Freed pages are gone when the generation after the one that freed them is begun.
#[derive(Debug)]
pub struct MemoryPages {
    payload_len: usize,
    generation: Generation,
    pages: BTreeMap<PageId, Page>,
    reserved: BTreeSet<PageId>,
    free: BTreeSet<PageId>,
    /// Freed by the generation being built: still there for readers of the one before.
    leaving: BTreeSet<PageId>,
    end: PageId,
}

impl MemoryPages {
    /// No pages, with the given bytes of payload in each; the first generation is being built.
    #[must_use]
    pub fn new(payload_len: usize) -> Self {
        Self {
            payload_len,
            generation: Generation::ZERO.plus(1).unwrap_or_default(),
            pages: BTreeMap::new(),
            reserved: BTreeSet::new(),
            free: BTreeSet::new(),
            leaving: BTreeSet::new(),
            end: PageId::ZERO,
        }
    }

    /// Ends the generation being built and begins the next: what it freed is gone.
    pub fn next_generation(&mut self) {
        self.generation = self.generation.plus(1).unwrap_or(self.generation);
        self.free.append(&mut self.reserved);
        for page in std::mem::take(&mut self.leaving) {
            self.pages.remove(&page);
            self.free.insert(page);
        }
    }

    /// The slots that hold a page which the generation being built has not freed.
    pub fn live(&self) -> impl Iterator<Item = PageId> + '_ {
        self.pages.keys().filter(|page| !self.leaving.contains(page)).copied()
    }
}

impl PageRead for MemoryPages {
    fn payload_len(&self) -> usize {
        self.payload_len
    }

    fn read(&self, at: PageRef) -> Result<Page, PageError> {
        match self.pages.get(&at.page) {
            Some(page) if page.reference() == at => Ok(page.clone()),
            Some(page) => Err(PageError::not_as_referenced(at, page.reference())),
            None => Err(PageError::missing(at)),
        }
    }

    fn read_run(&self, run: PageRun) -> Result<Vec<UnverifiedPage>, PageError> {
        let slots = (0..run.count).filter_map(|index| run.get(index));
        let state = |slot: PageId| {
            self.pages.get(&slot).map_or(Unverified::Missing, |page| Unverified::Page(page.clone()))
        };
        Ok(slots.map(|slot| UnverifiedPage { state: state(slot) }).collect())
    }
}

impl PageWrite for MemoryPages {
    fn generation(&self) -> Generation {
        self.generation
    }

    fn allocate(&mut self, want: u32) -> Result<PageRun, PageError> {
        if want <= 1
            && let Some(page) = self.free.pop_first()
        {
            self.reserved.insert(page);
            return Ok(PageRun { first: page, count: 1 });
        }
        let (first, count) = (self.end, want.max(1));
        let full = PageError::Full { pages: PageId::MAX.get() };
        self.end = self.end.plus(count.into()).ok_or(full)?;
        let run = PageRun { first, count };
        self.reserved.extend((0..count).filter_map(|index| run.get(index)));
        Ok(run)
    }

    fn write(&mut self, page: PageId, kind: PageKind, payload: &[u8]) -> Result<PageRef, PageError> {
        if payload.len() > self.payload_len {
            return Err(PageError::Misuse { page, what: "its payload is longer than a page" });
        }
        if !self.reserved.remove(&page) {
            return Err(PageError::Misuse { page, what: "it is written without being reserved" });
        }
        let mut bytes = payload.to_vec();
        bytes.resize(self.payload_len, 0);
        let reference = PageRef { page, birth: self.generation, checksum: checksum(&bytes) };
        self.pages.insert(page, Page::verified(reference, kind, ValueRef::from(bytes)));
        Ok(reference)
    }

    fn free(&mut self, page: PageId, birth: Generation) -> Result<(), PageError> {
        let found = self.pages.get(&page).filter(|found| found.reference().birth == birth);
        if found.is_none() || self.leaving.contains(&page) {
            return Err(PageError::Misuse { page, what: "it is freed without being in use" });
        }
        if birth == self.generation {
            self.pages.remove(&page);
            self.free.insert(page);
        } else {
            self.leaving.insert(page);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::PageWriteExt;

    #[test]
    fn what_is_freed_stays_until_the_generation_ends() {
        let mut pages = MemoryPages::new(8);
        let first = pages.put(PageKind::FIRST_FREE, b"kept").unwrap();
        pages.next_generation();
        pages.free(first.page, first.birth).unwrap();
        assert_eq!(pages.read(first).unwrap().payload(), b"kept\0\0\0\0");
        assert!(pages.free(first.page, first.birth).is_err(), "it is freed already");
        let second = pages.put(PageKind::FIRST_FREE, b"new").unwrap();
        assert_ne!(second.page, first.page);
        pages.next_generation();
        assert!(matches!(pages.read(first), Err(PageError::Damaged { .. })));
        let third = pages.put(PageKind::FIRST_FREE, b"newer").unwrap();
        assert_eq!(third.page, first.page);
        assert!(matches!(pages.read(first), Err(PageError::Superseded { .. })));
        assert!(pages.write(third.page, PageKind::FIRST_FREE, b"twice").is_err());
    }

    #[test]
    fn runs_are_contiguous_and_verified_one_by_one() {
        let mut pages = MemoryPages::new(4);
        let run = pages.allocate(3).unwrap();
        let mut references = Vec::new();
        for index in 0..run.count {
            references.push(pages.write(run.get(index).unwrap(), PageKind::FIRST_FREE, &[7]).unwrap());
        }
        let read = pages.read_run(run).unwrap();
        assert_eq!(read.len(), 3);
        for (page, reference) in read.into_iter().zip(references) {
            assert_eq!(page.verify(reference).unwrap().payload(), [7, 0, 0, 0]);
        }
    }
}
