//! The members of a group as a generation counts them: read, summed, and one of them rebuilt from the others.

use keepstone_types::{PageId, PageRef, ValueRef};

use super::group::{Block, Group, RegionParity, place_in, rows, tag};
use crate::error::PageError;
use crate::layout::Place;
use crate::page::{Page, PageKind};
use crate::region::slot_at;
use crate::slots::Slots;
use crate::sync::Arc;

/// A group, and where to read it.
#[derive(Debug)]
pub(crate) struct Members {
    slots: Arc<Slots>,
    region: u32,
    column: usize,
    group: Group,
    parity: Arc<RegionParity>,
}

/// A page of a group that is not what the group counts, and what is there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) page: PageId,
    pub(crate) found: String,
}

/// A page, and the bytes of its slot.
#[derive(Clone, Debug)]
pub(crate) struct Rebuilt {
    pub(crate) at: PageRef,
    pub(crate) kind: PageKind,
    pub(crate) bytes: ValueRef,
}

impl Rebuilt {
    pub(crate) fn page(&self) -> Page {
        Place::page_of(self.at, self.kind, &self.bytes)
    }
}

impl Members {
    pub(crate) fn new(slots: Arc<Slots>, region: u32, column: usize, parity: Arc<RegionParity>) -> Self {
        Self { slots, region, column, group: parity.group(column), parity }
    }

    pub(crate) const fn group(&self) -> Group {
        self.group
    }

    pub(crate) fn slot(&self, row: usize) -> PageId {
        slot_at(self.region, place_in(self.column, row))
    }

    /// Whether a sound page is the member of a row, as far as its tag says.
    pub(crate) fn is_member(&self, row: usize, at: PageRef) -> bool {
        at.page == self.slot(row) && tag(at.checksum) == self.parity.tag(place_in(self.column, row))
    }

    fn read(&self, page: PageId) -> Result<(PageRef, Page), Loss> {
        let loss = |found: String| Loss { page, found };
        let slot = self.slots.read_slot(page).map_err(|error| loss(error.to_string()))?;
        let (at, kind) = slot.judge().map_err(|fault| loss(fault.to_string()))?;
        if at.page != page {
            return Err(loss(format!("{at} of kind {kind}")));
        }
        Ok((at, Place::page_of(at, kind, &slot.bytes)))
    }

    /// A member, if it is sound and the one that is counted.
    pub(crate) fn member(&self, row: usize) -> Result<Page, Loss> {
        let (at, page) = self.read(self.slot(row))?;
        if self.is_member(row, at) {
            return Ok(page);
        }
        Err(Loss {
            page: at.page,
            found: format!("{at} of kind {}, which is another than was counted", page.kind()),
        })
    }

    /// The parity page.
    pub(crate) fn parity_page(&self) -> Result<Page, Loss> {
        let place = self.group.place.unwrap_or_default();
        let (at, page) = self.read(place)?;
        if page.kind() == PageKind::PARITY && at.birth == self.group.generation {
            return Ok(page);
        }
        Err(Loss { page: place, found: format!("{at} of kind {}", page.kind()) })
    }

    /// The XOR of members that are all there, or what is lost of them.
    pub(crate) fn sum(&self, mask: u32) -> Result<Block, Vec<Loss>> {
        self.sum_with(mask, &|_| None)
    }

    /// As [`sum`](Self::sum); those that are `known` are not read.
    pub(crate) fn sum_with(
        &self,
        mask: u32,
        known: &dyn Fn(usize) -> Option<Page>,
    ) -> Result<Block, Vec<Loss>> {
        let mut block = Block::zero(self.slots.place.page_size.payload_len());
        let mut losses = Vec::new();
        for row in rows(mask) {
            match known(row).map_or_else(|| self.member(row), Ok) {
                Ok(page) => block.add(page.reference(), page.kind(), page.payload()),
                Err(loss) => losses.push(loss),
            }
        }
        if losses.is_empty() { Ok(block) } else { Err(losses) }
    }

    /// What the group comes to: its parity page, or if that is lost, its members, when their headers prove them.
    pub(crate) fn block(&self) -> Result<Block, Vec<Loss>> {
        let lost = match self.parity_page() {
            Ok(page) => return Ok(Block { payload: page.payload().to_vec(), sum: self.group.sum }),
            Err(lost) => lost,
        };
        self.counted().map_err(|losses| std::iter::once(lost).chain(losses).collect())
    }

    /// The XOR of all members, when their headers prove that they are those that are counted.
    fn counted(&self) -> Result<Block, Vec<Loss>> {
        let block = self.sum(self.group.mask)?;
        if block.sum == self.group.sum {
            return Ok(block);
        }
        let found = "members that are not those that were counted".to_owned();
        Err(vec![Loss { page: self.group.place.unwrap_or_default(), found }])
    }

    /// The parity page as it was written, from its members.
    pub(crate) fn parity_again(&self) -> Result<Rebuilt, Vec<Loss>> {
        let block = self.counted()?;
        let (page, kind) = (self.group.place.unwrap_or_default(), PageKind::PARITY);
        let (at, bytes) = self.slots.place.encode(page, self.group.generation, kind, &block.payload);
        Ok(Rebuilt { at, kind, bytes })
    }

    /// A member from all the others and the parity page, proved by the checksum that the group counts.
    pub(crate) fn rebuild(&self, row: usize) -> Result<Rebuilt, Vec<Loss>> {
        let parity = self.parity_page();
        let others = self.sum(self.group.mask & !(1 << row));
        match (parity, others) {
            (Ok(parity), Ok(others)) => self.prove(row, parity.payload(), others).map_err(|loss| vec![loss]),
            (Err(loss), Ok(_)) => Err(vec![loss]),
            (Ok(_), Err(losses)) => Err(losses),
            (Err(loss), Err(mut losses)) => {
                losses.push(loss);
                Err(losses)
            }
        }
    }

    /// A member from the XOR of the others, if it is what the group counts.
    pub(crate) fn prove(&self, row: usize, parity: &[u8], mut others: Block) -> Result<Rebuilt, Loss> {
        keepstone_xor_dag::parity::xor_into(&mut others.payload, parity);
        let own = self.group.sum.and_not(others.sum);
        let kind = PageKind::new(own.kinds);
        let birth = keepstone_types::Generation::new(own.births).unwrap_or_default();
        let (at, bytes) = self.slots.place.encode(self.slot(row), birth, kind, &others.payload);
        if at.checksum == own.checksums && self.is_member(row, at) {
            return Ok(Rebuilt { at, kind, bytes });
        }
        let page = self.group.place.unwrap_or_default();
        Err(Loss {
            page,
            found: "another page of the group, or its parity, is not what was counted".to_owned(),
        })
    }
}

/// The other page that keeps one of a group from being rebuilt.
pub(crate) fn other_of(page: PageId, losses: Vec<Loss>) -> Loss {
    let nothing = || Loss { page, found: "nothing that it could be rebuilt from".to_owned() };
    losses.into_iter().find(|other| other.page != page).unwrap_or_else(nothing)
}

/// The error for a page that is lost together with another of its group.
pub(crate) fn two_losses(slots: &Slots, page: PageId, found: String, others: Vec<Loss>) -> PageError {
    let other = other_of(page, others);
    PageError::TwoLosses {
        file: slots.place.file.clone(),
        page,
        offset: slots.place.offset(page),
        found,
        other: other.page,
        other_found: other.found,
    }
}
