//! Holding the free-space map against what is reachable and parity against what it counts, and making the map anew.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use keepstone_types::{PageId, PageRef};

use crate::bitmap::Bitmap;
use crate::error::PageError;
use crate::file::PageFile;
use crate::header::is_fixed;
use crate::parity::{Loss, ParityMode, ScrubOptions, verify_region};
use crate::region::{REGION_SLOTS, part_below, place_of, region_of, slot_at};
use crate::root::Root;
use crate::slots::Slots;
use crate::space::{Draft, Space};
use crate::sync::Arc;
use crate::writer::PageWriter;

/// Findings that a report keeps; more are only counted.
const FINDINGS_KEPT: usize = 1_000;

/// Something that is wrong with the free-space map or with parity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditFinding {
    /// Two references lead to one slot.
    #[error("page {0} is reached twice")]
    ReachedTwice(PageId),
    /// A reference leads out of the file.
    #[error("page {0} is reached and lies behind the end of the file")]
    BehindEnd(PageId),
    /// In use, and nothing leads there.
    #[error("page {0} is in use and cannot be reached")]
    Orphan(PageId),
    /// Reached, and free: it would be given to another page.
    #[error("page {0} can be reached and counts as free")]
    Lost(PageId),
    /// A page that parity counts, or a parity page, is not what it was when it was counted.
    #[error("page {page}, of the parity group of column {column} in region {region}: {found}")]
    Parity {
        /// Its slot.
        page: PageId,
        /// The region of the group: slots `region` · 1,024 and the 1,023 that follow.
        region: u32,
        /// Its column: every 32nd slot of the region, counted from this one.
        column: usize,
        /// What is there.
        found: String,
    },
    /// In use, and no parity counts it, although all pages of the file are to be counted.
    #[error("page {0} is in use and counted by no parity")]
    Uncounted(PageId),
    /// A page of the map is damaged.
    #[error("{0}")]
    Map(String),
    /// The header's count of slots in use is not that of the regions.
    #[error("the header counts {expected} slots in use, the regions {found}")]
    UsedCount {
        /// The header's.
        expected: u64,
        /// That of the regions.
        found: u64,
    },
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditReport {
    /// What is wrong, the first 1,000.
    pub findings: Vec<AuditFinding>,
    /// How many there are.
    pub finding_count: u64,
    /// Slots that can be reached, the file's own included.
    pub reachable: u64,
    /// Parity groups that were added up.
    pub parity_groups: u64,
}

/// What making the map anew did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RebuildReport {
    /// Slots that can be reached, the file's own included.
    pub used: u64,
    /// Slots that cannot; they are given away from the generation after the next on.
    pub freed: u64,
}

/// Takes note of what can be reached from a root. Memory: one bit per slot.
#[derive(Debug)]
pub struct Audit {
    root: Arc<Root>,
    reached: BTreeMap<u32, Bitmap>,
    /// Of these, the file's own, which no parity counts.
    own: BTreeMap<u32, Bitmap>,
    report: AuditReport,
}

impl Audit {
    fn new(root: Arc<Root>) -> Self {
        let (reached, own) = (BTreeMap::new(), BTreeMap::new());
        let mut audit = Self { root, reached, own, report: AuditReport::default() };
        for slot in (0..64).filter(|slot| is_fixed(*slot)) {
            audit.reach_own(PageId::new(slot).unwrap_or_default());
        }
        audit
    }

    /// The root that is audited: what is marked is what it leads to. It is held until the audit ends.
    #[must_use]
    pub const fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// A page can be reached. False, and a finding, when it was marked before or lies behind the end of the file: then
    /// what it leads to need not be followed.
    pub fn mark(&mut self, at: PageRef) -> bool {
        self.reach(at.page)
    }

    /// A page of the file itself can be reached.
    fn reach_own(&mut self, page: PageId) {
        self.own.entry(region_of(page)).or_default().insert(place_of(page));
        self.reach(page);
    }

    fn reach(&mut self, page: PageId) -> bool {
        if page.get() >= self.root.header().slots {
            self.find(AuditFinding::BehindEnd(page));
            return false;
        }
        let fresh = self.reached.entry(region_of(page)).or_default().insert(place_of(page));
        if fresh {
            self.report.reachable = self.report.reachable.saturating_add(1);
        } else {
            self.find(AuditFinding::ReachedTwice(page));
        }
        fresh
    }

    fn find(&mut self, finding: AuditFinding) {
        self.report.finding_count = self.report.finding_count.saturating_add(1);
        if self.report.findings.len() < FINDINGS_KEPT {
            self.report.findings.push(finding);
        }
    }

    /// Holds the map of the root against what was marked, and its parity against what that counts.
    fn compare(mut self, slots: &Arc<Slots>) -> Result<AuditReport, PageError> {
        let root = Arc::clone(&self.root);
        let header = root.header();
        let mut space = Space::of(Arc::clone(slots), header, header.slots);
        let (regions, nodes) = match space.map_pages() {
            Ok(pages) => pages,
            Err(PageError::Io(error)) => return Err(PageError::Io(error)),
            Err(error) => {
                self.find(AuditFinding::Map(error.to_string()));
                return Ok(self.report);
            }
        };
        for (at, twin) in regions.iter().map(|(_, at)| at).chain(nodes.iter().map(|(_, at)| at)) {
            self.reach_own(at.page);
            if let Some(twin) = twin {
                self.reach_own(*twin);
            }
        }
        for region in 0..header.regions {
            // Damage is found below.
            let parity = space.region(region).ok().and_then(|region| region.parity.clone());
            let places: Vec<_> = parity
                .iter()
                .flat_map(|parity| parity.groups())
                .filter_map(|(_, group)| group.place)
                .collect();
            for place in places {
                self.reach_own(place);
            }
        }
        let (mut used, mut whole) = (0_u64, true);
        for region in 0..header.regions {
            self.compare_parity(&mut space, slots, region)?;
        }
        for (region, at) in regions {
            let free = space.free_of(region)?;
            match space.region_page(region, at, free) {
                Ok(page) => {
                    used = used.saturating_add(page.used.count());
                    self.compare_region(region, page.used);
                }
                Err(PageError::Io(error)) => return Err(PageError::Io(error)),
                Err(error) => {
                    whole = false;
                    self.find(AuditFinding::Map(error.to_string()));
                }
            }
        }
        if whole && used != header.used {
            self.find(AuditFinding::UsedCount { expected: header.used, found: used });
        }
        Ok(self.report)
    }

    fn compare_parity(&mut self, space: &mut Space, slots: &Slots, region: u32) -> Result<(), PageError> {
        let own = self.own.get(&region).copied().unwrap_or_default();
        let root = Arc::clone(&self.root);
        let verified = verify_region(space, slots, root.header(), region, own)?;
        self.report.parity_groups = self.report.parity_groups.saturating_add(verified.groups);
        for (column, Loss { page, found }) in verified.wrong {
            self.find(AuditFinding::Parity { page, region, column, found });
        }
        for page in verified.uncounted {
            self.find(AuditFinding::Uncounted(page));
        }
        Ok(())
    }

    fn compare_region(&mut self, region: u32, used: Bitmap) {
        let reached = self.reached.get(&region).copied().unwrap_or_default();
        for place in used.without(reached).iter() {
            self.find(AuditFinding::Orphan(slot_at(region, place)));
        }
        for place in reached.without(used).iter() {
            self.find(AuditFinding::Lost(slot_at(region, place)));
        }
    }
}

impl PageFile {
    /// Holds the free-space map of the newest root against what can be reached, and its parity against the pages that it counts. `reachable` marks every page of the layer
    /// above that the root leads to; the pages of the map itself are marked here. Commits may go on meanwhile.
    ///
    /// # Errors
    /// What `reachable` fails with, or the disk's own error. Damage to the map is a finding.
    pub fn audit<E: From<PageError>>(
        &self,
        reachable: impl FnOnce(&mut Audit) -> Result<(), E>,
    ) -> Result<AuditReport, E> {
        let mut audit = Audit::new(self.root());
        reachable(&mut audit)?;
        Ok(audit.compare(&self.inner.slots)?)
    }

    /// Makes the free-space map anew from what can be reached from the newest root, in a commit of its own; the meta stays.
    /// The old map is not read, except to repair before what its parity can, for parity begins anew with the map. It is written behind the end of the file, because what the header before the newest one
    /// still needs is not known; for the same reason everything that cannot be reached is pending: held until the
    /// generation after this one is durable, when no header is left that could lead there.
    ///
    /// # Errors
    /// What `reachable` fails with, or as a commit; the old map is then still in place. A page that is marked twice is
    /// counted once.
    pub fn rebuild_free_space<E: From<PageError>>(
        &self,
        reachable: impl FnOnce(&mut Audit) -> Result<(), E>,
    ) -> Result<RebuildReport, E> {
        self.repair_all()?;
        let writer = self.begin()?;
        let mut audit = Audit::new(self.root());
        reachable(&mut audit)?;
        Ok(self.rebuilt(writer, &audit)?)
    }

    /// Parity begins anew with the map, so what the parity of today can rebuild is rebuilt while it lasts.
    fn repair_all(&self) -> Result<(), PageError> {
        if self.root().header().parity.mode == ParityMode::Off {
            return Ok(());
        }
        match self.scrub(&ScrubOptions::default().repair(true), |_| ControlFlow::Continue(())) {
            Err(error @ (PageError::Io(_) | PageError::Poisoned)) => Err(error),
            // Where the map cannot be read nothing leads to the parity.
            _ => Ok(()),
        }
    }

    fn rebuilt(&self, mut writer: PageWriter, audit: &Audit) -> Result<RebuildReport, PageError> {
        let root = audit.root();
        let file_slots = self.inner.slots.file.len()?.div_ceil(self.page_size().bytes().into());
        // No header leads behind the end of the file, unless it was cut; then what is marked there is kept all the same.
        let last =
            audit.reached.iter().next_back().and_then(|(region, bits)| Some(slot_at(*region, bits.last()?)));
        let end = file_slots.max(last.map_or(0, |last| last.get().saturating_add(1)));
        let mut blank = Space::blank(Arc::clone(&self.inner.slots), root.generation());
        blank.set_parity(root.header().parity.anew());
        blank.note_written(end);
        let mut draft = Draft::new(blank, writer.generation_number(), self.inner.max_pages);
        for region in 0..u32::try_from(end.div_ceil(REGION_SLOTS)).unwrap_or(u32::MAX) {
            let reached = audit.reached.get(&region).copied().unwrap_or_default();
            draft.fill(region, reached.and(part_below(region, end)), end)?;
        }
        let placed = draft.place_map(0)?;
        let report = RebuildReport { used: placed.used, freed: placed.pending };
        writer.replace_draft(draft);
        writer.commit_placed(placed, root.meta())?;
        Ok(report)
    }
}
