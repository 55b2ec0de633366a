//! Scrubbing: every page that is in use or counted is read from the disk and held against what the map, the second copies
//! and the parity say; what is lost is rebuilt and given to the writer.
//!
//! A root is held while a region is read, so nothing that its map counts is written over meanwhile. A group in which
//! something is wrong is read once more, page by page, before it is judged: a repair may just have been under way.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use keepstone_types::{PageId, PageRef, ValueRef};

use super::direct::{DirectFile, bytes_of};
use super::group::{COLUMNS, RegionParity, rows};
use super::members::{Loss, Members, Rebuilt, other_of};
use super::repair::{Mended, Repairs};
use super::{Block, ParityMode};
use crate::bitmap::Bitmap;
use crate::error::PageError;
use crate::file::PageFile;
use crate::header::is_fixed;
use crate::layout::{disk_len, memory_len};
use crate::options::Access;
use crate::page::{PageKind, PageRun};
use crate::region::{REGION_SLOTS, slot_at};
use crate::root::Root;
use crate::slots::Slots;
use crate::space::{MapPage, Space};
use crate::sync::Arc;

/// Findings that a report keeps; more are only counted.
const FINDINGS_KEPT: usize = 1_000;
/// Slots that are read in one go.
const SLOTS_AT_ONCE: u32 = 64;
/// How often the headers are asked for while a generation is being built, and how long is waited between.
const HEADER_TRIES: u32 = 200;
const HEADER_PAUSE: Duration = Duration::from_millis(5);

/// How a file is scrubbed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScrubOptions {
    /// Bytes that are read in a second at most; 0 for no limit.
    pub bytes_per_second: u64,
    /// The region to go on from: [`ScrubReport::next_region`] of a scrub that was stopped. Headers are looked at when it
    /// is 0.
    pub from_region: u32,
    /// Whether what can be rebuilt is written again; otherwise it is only found. Never in a file opened for reading.
    pub repair: bool,
}

impl ScrubOptions {
    /// Sets [`bytes_per_second`](Self::bytes_per_second).
    #[must_use]
    pub const fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = bytes;
        self
    }

    /// Sets [`from_region`](Self::from_region).
    #[must_use]
    pub const fn from_region(mut self, region: u32) -> Self {
        self.from_region = region;
        self
    }

    /// Sets [`repair`](Self::repair).
    #[must_use]
    pub const fn repair(mut self, repair: bool) -> Self {
        self.repair = repair;
        self
    }
}

/// How far a scrub has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubProgress {
    /// Slots that were passed, those of regions before the first included.
    pub slots: u64,
    /// Slots of the file.
    pub of: u64,
    /// Things found so far.
    pub findings: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScrubFinding {
    /// A page that can be rebuilt.
    #[error("page {page} is damaged and can be rebuilt: {found}")]
    Repairable {
        /// Its slot.
        page: PageId,
        /// What is there.
        found: String,
    },
    /// Two pages of a parity group, or both copies of a page of the free-space map.
    #[error(
        "page {page} is damaged ({found}), and so is page {other}, from which it could be rebuilt: {other_found}"
    )]
    TwoLosses {
        /// Its slot.
        page: PageId,
        /// What is there.
        found: String,
        /// The slot of the other.
        other: PageId,
        /// What is there.
        other_found: String,
    },
    /// A page that no parity counts.
    #[error("page {page} is damaged, and no parity is kept of it: {found}")]
    Uncounted {
        /// Its slot.
        page: PageId,
        /// What is there.
        found: String,
    },
    /// A copy of the prologue or of a header.
    #[error("{0}")]
    Header(String),
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Pages that were judged.
    pub pages: u64,
    /// Bytes that were read for it.
    pub bytes: u64,
    /// What is wrong, the first 1,000.
    pub findings: Vec<ScrubFinding>,
    /// How many there are.
    pub finding_count: u64,
    /// Of these, how many cannot be repaired.
    pub unrepairable: u64,
    /// Whether the end of the file was reached.
    pub complete: bool,
    /// The region to go on from.
    pub next_region: u32,
    /// Whether the system's cache was passed by; where the system does not do that, what was judged may be memory.
    pub past_cache: bool,
    /// Whether the headers were looked at; they are not while a generation is being built all the time.
    pub headers: bool,
}

/// A scrub under way.
struct Scrub<'f> {
    file: &'f PageFile,
    /// The file past the cache.
    slots: Arc<Slots>,
    options: ScrubOptions,
    began: Instant,
    report: ScrubReport,
}

/// What a group was found to be.
enum Verdict {
    Whole,
    Lost(Loss, Mended, Rebuilt),
    Two(Loss, Loss),
}

impl PageFile {
    /// Reads every page that is in use or that parity counts past the system's cache, and holds it against everything that
    /// is known of it; see [`ScrubReport`]. Runs beside readers and the writer. `progress` is called after each read and
    /// can end the scrub.
    ///
    /// # Errors
    /// Where the map itself cannot be read. Damage is a finding.
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        mut progress: impl FnMut(&ScrubProgress) -> ControlFlow<()>,
    ) -> Result<ScrubReport, PageError> {
        let (file, past_cache) = DirectFile::open(&*self.inner.vfs, self.path(), &self.inner.slots.file);
        let slots = Arc::new(Slots {
            file,
            place: Arc::clone(&self.inner.slots.place),
            counters: Arc::clone(&self.inner.slots.counters),
            repairs: Repairs::new(false),
        });
        let report = ScrubReport { past_cache, next_region: options.from_region, ..ScrubReport::default() };
        let mut scrub = Scrub { file: self, slots, options: options.clone(), began: Instant::now(), report };
        if options.from_region == 0 {
            scrub.headers()?;
            let root = self.root();
            scrub.nodes(&root)?;
        }
        scrub.regions(&mut progress)?;
        if options.repair {
            scrub.write_repairs()?;
        }
        Ok(scrub.report)
    }
}

impl Scrub<'_> {
    fn find(&mut self, finding: ScrubFinding) {
        self.report.finding_count = self.report.finding_count.saturating_add(1);
        let lost = matches!(finding, ScrubFinding::TwoLosses { .. } | ScrubFinding::Uncounted { .. });
        self.report.unrepairable = self.report.unrepairable.saturating_add(lost.into());
        if self.report.findings.len() < FINDINGS_KEPT {
            self.report.findings.push(finding);
        }
    }

    fn find_lost(&mut self, loss: Loss, what: Mended, at: PageRef, bytes: &ValueRef) {
        self.file.inner.counters().damaged_pages.add(1);
        if self.options.repair {
            self.file.queue_repair(what, at, bytes);
        }
        self.find(ScrubFinding::Repairable { page: loss.page, found: loss.found });
    }

    fn find_two(&mut self, loss: Loss, other: Loss) {
        self.file.inner.counters().unrepairable_pages.add(1);
        self.find(ScrubFinding::TwoLosses {
            page: loss.page,
            found: loss.found,
            other: other.page,
            other_found: other.found,
        });
    }

    /// What waits is written, unless a generation is being built: then its writer, or the next, does it.
    fn write_repairs(&self) -> Result<(), PageError> {
        match self.file.repair() {
            Ok(_) | Err(PageError::WriterBusy | PageError::ReadOnly { .. } | PageError::Poisoned) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, pages: usize) {
        self.report.pages = self.report.pages.saturating_add(disk_len(pages));
        self.file.inner.counters().scrubbed_pages.add(disk_len(pages));
    }

    /// Counts bytes that were read, and waits when they were too many for the time.
    fn pace(&mut self, slots: usize) {
        let bytes = bytes_of(slots, self.slots.place.page_size.bytes());
        self.report.bytes = self.report.bytes.saturating_add(bytes);
        let micros = self.report.bytes.saturating_mul(1_000_000).checked_div(self.options.bytes_per_second);
        let due = Duration::from_micros(micros.unwrap_or(0));
        if let Some(early) = due.checked_sub(self.began.elapsed()) {
            std::thread::sleep(early);
        }
    }

    /// The copies of prologue and headers, while nobody writes any.
    fn headers(&mut self) -> Result<(), PageError> {
        let writable = self.file.inner.access == Access::Write;
        let mut writer = None;
        for _ in 0..HEADER_TRIES {
            match self.file.begin_briefly() {
                Ok(begun) => {
                    writer = Some(begun);
                    break;
                }
                Err(PageError::WriterBusy) => std::thread::sleep(HEADER_PAUSE),
                Err(PageError::ReadOnly { .. } | PageError::Poisoned | PageError::LastGeneration) => break,
                Err(error) => return Err(error),
            }
        }
        if writer.is_none() && writable {
            return Ok(());
        }
        let mend = self.options.repair && writer.is_some();
        let damaged = crate::open::check_headers(&self.file.inner, &*self.slots.file, mend)?;
        drop(writer);
        self.report.headers = true;
        self.pace(6);
        self.note(6);
        for what in damaged {
            self.file.inner.counters().damaged_pages.add(1);
            self.find(ScrubFinding::Header(what));
        }
        Ok(())
    }

    fn space(&self, root: &Root) -> Space {
        Space::of(Arc::clone(&self.slots), root.header(), root.header().slots)
    }

    /// The directory, in both copies.
    fn nodes(&mut self, root: &Root) -> Result<(), PageError> {
        let mut space = self.space(root);
        let (_, nodes) = space.map_pages()?;
        for (_, at) in nodes {
            self.map_page(&space, at, PageKind::FREE_SPACE_DIRECTORY);
        }
        Ok(())
    }

    /// Both copies of a page of the map.
    fn map_page(&mut self, space: &Space, (at, twin): MapPage, kind: PageKind) {
        let first = self.slots.read(at).and_then(|page| page.expect_kind(kind));
        self.pace(2);
        self.note(1 + usize::from(twin.is_some()));
        let Some(twin) = twin else {
            if let Err(error) = first {
                self.find(ScrubFinding::Uncounted { page: at.page, found: error.to_string() });
            }
            return;
        };
        let second = space.read_twin(at, twin, kind);
        match (first, second) {
            (Ok(_), Ok(_)) => {}
            (Err(error), Ok((_, bytes))) => {
                let loss = Loss { page: at.page, found: error.to_string() };
                self.find_lost(loss, Mended::Map, at, &bytes);
            }
            (Ok(page), Err(found)) => {
                let (again, bytes) = self.slots.place.encode(twin, at.birth, kind, page.payload());
                self.find_lost(Loss { page: twin, found }, Mended::Map, again, &bytes);
            }
            (Err(error), Err(other_found)) => self.find_two(
                Loss { page: at.page, found: error.to_string() },
                Loss { page: twin, found: other_found },
            ),
        }
    }

    fn regions(
        &mut self,
        progress: &mut impl FnMut(&ScrubProgress) -> ControlFlow<()>,
    ) -> Result<(), PageError> {
        let mut region = self.options.from_region;
        loop {
            let root = self.file.root();
            if region >= root.header().regions {
                self.report.complete = true;
                return Ok(());
            }
            if self.region(&root, region, progress)?.is_break() {
                return Ok(());
            }
            region = region.saturating_add(1);
            self.report.next_region = region;
        }
    }

    fn region(
        &mut self,
        root: &Arc<Root>,
        region: u32,
        progress: &mut impl FnMut(&ScrubProgress) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, PageError> {
        let mut space = self.space(root);
        let at = space.map_entry(region)?;
        self.map_page(&space, at, PageKind::FREE_SPACE);
        // Both copies lost is a finding already; nothing is known of the region then.
        let Ok(found) = space.region(region) else { return Ok(ControlFlow::Continue(())) };
        let (used, members) = (found.used, found.members);
        let parity = found.parity.clone().unwrap_or_default();
        let state = root.header().parity;
        let counted = state.mode == ParityMode::Xor && state.has_reached_all(root.header().regions);
        let mut sums = Sums::new(self.slots.place.page_size.payload_len());
        let step = memory_len(SLOTS_AT_ONCE.into());
        for place in (0..memory_len(REGION_SLOTS)).step_by(step) {
            let places = place..place + step;
            if places.clone().any(|place| used.has(place) || members.has(place)) {
                let judged = self.slots_of(region, places, (used, members), &parity, &mut sums);
                self.pace(step);
                self.note(judged.count);
                // A parity page or one of the map is judged with what leads to it.
                for (page, found) in judged.unsound.into_iter().filter(|_| !counted) {
                    self.uncounted(&mut space, page, found);
                }
            }
            let end = slot_at(region, 0).get().saturating_add(disk_len(place + step));
            let of = root.header().slots;
            let now = ScrubProgress { slots: end.min(of), of, findings: self.report.finding_count };
            if progress(&now).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.groups(region, &parity, &sums)?;
        Ok(ControlFlow::Continue(()))
    }

    /// Reads some slots of a region: members are summed, others that are in use are only judged.
    fn slots_of(
        &self,
        region: u32,
        places: std::ops::Range<usize>,
        (used, members): (Bitmap, Bitmap),
        parity: &RegionParity,
        sums: &mut Sums,
    ) -> Judged {
        let run = PageRun { first: slot_at(region, places.start), count: SLOTS_AT_ONCE };
        let slots = self.slots.read_run(run).unwrap_or_default();
        let mut judged = Judged::default();
        for (offset, place) in places.enumerate() {
            let page = slot_at(region, place);
            let is_member = members.has(place);
            if !is_member && (!used.has(place) || is_fixed(page.get())) {
                continue;
            }
            judged.count += 1;
            let sound = match slots.get(offset).map(|slot| (slot.judge(), &slot.bytes)) {
                Some((Ok((at, kind)), bytes)) if at.page == page => Ok((at, kind, bytes)),
                Some((Ok((at, _)), _)) => Err(at.to_string()),
                Some((Err(fault), _)) => Err(fault.to_string()),
                None => Err("a slot that could not be read with its neighbours".to_owned()),
            };
            match sound {
                Ok((at, kind, bytes)) if is_member => sums.add(parity, place, at, kind, bytes),
                Ok(_) => {}
                Err(_) if is_member => sums.is_lost(place),
                Err(found) => judged.unsound.push((page, found)),
            }
        }
        judged
    }

    /// Holds what was summed against the parity pages.
    fn groups(&mut self, region: u32, parity: &Arc<RegionParity>, sums: &Sums) -> Result<(), PageError> {
        let before = self.report.finding_count;
        for (column, group) in parity.groups().filter(|(_, group)| group.mask != 0) {
            let members = Members::new(Arc::clone(&self.slots), region, column, Arc::clone(parity));
            self.pace(1);
            self.note(1);
            let whole = sums.block(column, group.mask).is_some_and(|block| {
                members.parity_page().is_ok_and(|page| page.payload() == block.payload)
                    && block.sum == group.sum
            });
            if whole {
                continue;
            }
            match judge_group(&members) {
                Verdict::Whole => {}
                Verdict::Lost(loss, what, rebuilt) => self.find_lost(loss, what, rebuilt.at, &rebuilt.bytes),
                Verdict::Two(loss, other) => self.find_two(loss, other),
            }
        }
        if self.options.repair && self.report.finding_count > before {
            self.write_repairs()?;
        }
        Ok(())
    }

    /// A slot in use that no parity counts, and that holds no sound page: unless the map knows it by another name.
    fn uncounted(&mut self, space: &mut Space, page: PageId, found: String) {
        let is_own = space.is_own_slot(page).unwrap_or(false);
        if !is_own {
            self.find(ScrubFinding::Uncounted { page, found });
        }
    }
}

/// Slots that were read.
#[derive(Default)]
struct Judged {
    count: usize,
    /// Slots in use that parity does not count, and that hold no sound page.
    unsound: Vec<(PageId, String)>,
}

/// The XOR of the members of each group of a region, as far as they were read.
struct Sums {
    blocks: Vec<Block>,
    masks: [u32; COLUMNS],
    lost: Bitmap,
}

impl Sums {
    fn new(payload_len: usize) -> Self {
        Self { blocks: vec![Block::zero(payload_len); COLUMNS], masks: [0; COLUMNS], lost: Bitmap::EMPTY }
    }

    fn add(&mut self, parity: &RegionParity, place: usize, at: PageRef, kind: PageKind, bytes: &ValueRef) {
        let (column, row) = (place % COLUMNS, place / COLUMNS);
        let payload = bytes.get(crate::layout::PAGE_HEADER_LEN..).unwrap_or_default();
        if super::group::tag(at.checksum) != parity.tag(place) {
            self.is_lost(place);
        } else if let (Some(block), Some(mask)) = (self.blocks.get_mut(column), self.masks.get_mut(column)) {
            block.add(at, kind, payload);
            *mask |= 1 << row;
        }
    }

    fn is_lost(&mut self, place: usize) {
        self.lost.insert(place);
    }

    /// The XOR of a group, if all of it was there.
    fn block(&self, column: usize, mask: u32) -> Option<&Block> {
        let whole = self.masks.get(column) == Some(&mask) && self.lost.column(column) == 0;
        self.blocks.get(column).filter(|_| whole)
    }
}

/// Reads a group page by page, and says what of it is lost.
fn judge_group(members: &Members) -> Verdict {
    let group = members.group();
    let mut lost: Vec<(usize, Loss)> = Vec::new();
    for row in rows(group.mask) {
        lost.extend(members.member(row).err().map(|loss| (row, loss)));
    }
    let parity = members.parity_page();
    match (lost.as_slice(), &parity) {
        ([], Err(loss)) => match members.parity_again() {
            Ok(again) => Verdict::Lost(loss.clone(), mended(members), again),
            Err(others) => two(loss.clone(), others),
        },
        ([], Ok(_)) => judge_sums(members),
        ([(row, loss)], Ok(_)) => match members.rebuild(*row) {
            Ok(rebuilt) => Verdict::Lost(loss.clone(), Mended::Member, rebuilt),
            Err(others) => two(loss.clone(), others),
        },
        ([(_, loss)], Err(other)) | ([(_, loss), (_, other), ..], _) => {
            Verdict::Two(loss.clone(), other.clone())
        }
    }
}

fn mended(members: &Members) -> Mended {
    let (region, column) = super::group_of(members.slot(0));
    Mended::Parity(region, column)
}

fn two(loss: Loss, others: Vec<Loss>) -> Verdict {
    let other = other_of(loss.page, others);
    Verdict::Two(loss, other)
}

/// All pages of a group are sound, each by itself. If they do not come to the parity, one is of an earlier life of its
/// slot, and rebuilding each in turn shows which: only the right one proves itself.
fn judge_sums(members: &Members) -> Verdict {
    let group = members.group();
    let Ok(all) = members.sum(group.mask) else { return Verdict::Whole };
    let Ok(parity) = members.parity_page() else { return Verdict::Whole };
    if all.sum == group.sum {
        if all.payload == parity.payload() {
            return Verdict::Whole;
        }
        let loss = Loss { page: parity.reference().page, found: "the parity of other pages".to_owned() };
        return match members.parity_again() {
            Ok(again) => Verdict::Lost(loss, mended(members), again),
            Err(others) => two(loss, others),
        };
    }
    for row in rows(group.mask) {
        let Ok(page) = members.member(row) else { continue };
        let mut others = all.clone();
        others.add(page.reference(), page.kind(), page.payload());
        if let Ok(rebuilt) = members.prove(row, parity.payload(), others)
            && rebuilt.at != page.reference()
        {
            let found = format!("{}, of an earlier life of the slot", page.reference());
            return Verdict::Lost(Loss { page: rebuilt.at.page, found }, Mended::Member, rebuilt);
        }
    }
    let found = "pages that are sound, but not those that were counted".to_owned();
    let first = Loss { page: members.slot(0), found: found.clone() };
    Verdict::Two(first, Loss { page: parity.reference().page, found })
}
