//! From what a crash left to a log that can be appended to.
//!
//! Two steps, never mixed. [`examine`] reads everything and decides; whatever cannot be understood is an error there,
//! and nothing has been written. [`resume`](repair::resume) then writes: heals, copies what is past the proven mark to
//! a fresh segment, moves away what cannot be healed.

pub(crate) mod folder;
pub(crate) mod heal;
pub(crate) mod image;
pub(crate) mod repair;
pub(crate) mod scan;

use std::collections::BTreeMap;
use std::path::Path;

use keepstone_types::{Lsn, StoreId, Timeline};
use keepstone_vfs::Vfs;

use self::folder::{Chain, ChainFault, Head, Listing, Member, chain, image_of, one_store, read_head};
use self::image::Image;
use self::scan::{NamedEnd, Scan, Stop, Subject, beyond};
use crate::error::{Damage, OpenError};
use crate::group::Proven;
use crate::options::{Access, LogOptions, Recovery};
use crate::pins::{PinsFile, Reach};
use crate::segment::HEADER_BYTES;
use crate::side_file;

/// Where a log is and how it is opened.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) vfs: &'a dyn Vfs,
    pub(crate) dir: &'a Path,
    pub(crate) options: &'a LogOptions,
}

/// A segment that is kept, with what it holds.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) member: Member,
    pub(crate) scan: Scan,
}

/// What was found, and is understood.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) listing: Listing,
    pub(crate) store: StoreId,
    /// Segments in order. With `broken`, the groups of the last one are kept and its file is not.
    pub(crate) kept: Vec<Kept>,
    /// The bytes of the last one.
    pub(crate) last_image: Option<Image>,
    /// The last of `kept` is damaged after its groups.
    pub(crate) broken: bool,
    /// Something durable is gone: what follows is on a new timeline.
    pub(crate) shortened: bool,
    /// Segments that no longer count: they are moved away.
    pub(crate) quarantine: Vec<u64>,
    /// Segments that no longer count and hold only what was released: they are removed.
    pub(crate) spent: Vec<u64>,
    /// The highest LSN that a segment to be moved away begins with.
    pub(crate) lost_lsn: u64,
    /// The latest timeline in what is moved away.
    pub(crate) lost_timeline: Timeline,
}

impl Examined {
    /// The LSN of the last record, or what the first header says came before it.
    pub(crate) fn last_lsn(&self) -> u64 {
        let found = self.kept.iter().rev().find_map(|kept| kept.scan.last_lsn());
        found.or(self.kept.first().map(|first| first.member.header.end_lsn)).unwrap_or(0)
    }

    /// The last segment, if there is any.
    pub(crate) fn last(&self) -> Option<&Kept> {
        self.kept.last()
    }

    /// Through where the log is proven to have been durable.
    pub(crate) fn proven(&self) -> Proven {
        self.last().map_or(Proven::default(), |last| last.scan.proven)
    }

    /// Whether the last thing in the log is a clean close.
    pub(crate) fn is_clean(&self) -> bool {
        let closed = |last: &Kept| {
            last.scan.stop == Stop::End && last.scan.groups.last().is_some_and(|group| group.clean_close)
        };
        !self.shortened && self.last().is_some_and(closed)
    }
}

/// Reads the folder and everything in it. `None` when there is no log.
pub(crate) fn examine(site: Site<'_>, pins: Option<&PinsFile>) -> Result<Option<Examined>, OpenError> {
    let mut listing = Listing::read(site.vfs, site.dir)?;
    // What a pin holds is missed when it is missing, released or not.
    let released = pins.map_or(0, PinsFile::gone);
    let reach = pins.map_or(Reach::default(), |pins| pins.reach);
    listing.highest = listing.highest.max(reach.segment);
    if listing.segments.is_empty() {
        if pins.is_none() && listing.sides.is_empty() && !site.options.must_exist {
            return Ok(None);
        }
        // A log was here: its segments are missing. Not even a prefix is left, so this is no case for Recovery::Prefix.
        return Err(ChainFault::Missing(1).into_error(site.dir, released.saturating_add(1)));
    }
    let writing = site.options.access == Access::Write;
    let mut heads = BTreeMap::new();
    for (number, len) in &listing.segments {
        heads.insert(*number, read_head(site.vfs, site.dir, *number, *len, writing)?);
    }
    let good = |head: &Head| match head {
        Head::Good(member) => Some(member.clone()),
        Head::Bad { .. } => None,
    };
    let members: Vec<Member> = heads.values().filter_map(good).collect();
    let store = one_store(&heads, site.options.store_id, pins.map(|pins| pins.store))?;
    let all = members;
    let last_number = heads.last_key_value().map_or(0, |(number, _)| *number);
    let Chain { members, dead, fault } = chain(heads, released);
    let fault = fault.or((last_number < reach.segment).then_some(ChainFault::Missing(reach.segment)));
    let (mut lost_lsn, mut lost_timeline, mut spent) = (0, Timeline::FIRST, Vec::new());
    for member in all.iter().filter(|member| dead.contains(&member.header.number)) {
        let (lsn, timeline) = reach_of(site, member)?;
        (lost_lsn, lost_timeline) = (lsn.max(lost_lsn), timeline.max(lost_timeline));
        spent.extend((lsn <= released).then_some(member.header.number));
    }
    // What cannot be read says nothing of the timeline that it began, or was on.
    let (lost_lsn, lost_timeline) = (lost_lsn.max(reach.next_lsn), lost_timeline.max(reach.timeline));
    let store = store.unwrap_or(StoreId::from_bytes([0; 16]));
    let mut examined = Examined {
        listing,
        store,
        kept: Vec::new(),
        last_image: None,
        broken: false,
        shortened: fault.is_some(),
        quarantine: dead.into_iter().filter(|number| !spent.contains(number)).collect(),
        spent,
        lost_lsn,
        lost_timeline,
    };
    scan_members(site, members, fault.is_some(), &mut examined)?;
    // Where nothing is left, there is no prefix to keep, and no timeline to go on from.
    let refused = site.options.recovery == Recovery::Strict || examined.kept.is_empty();
    if let Some(fault) = fault.filter(|_| refused) {
        let next = examined.last().map_or(1, |last| last.scan.end.next_lsn);
        return Err(fault.into_error(site.dir, next));
    }
    Ok(Some(examined))
}

/// The highest LSN and timeline in a segment that is moved away, so that neither is given again.
fn reach_of(site: Site<'_>, member: &Member) -> Result<(u64, Timeline), OpenError> {
    let image = image_of(site.vfs, member)?;
    let (within, timeline) = beyond(&image, &member.header, HEADER_BYTES);
    Ok((within.max(member.header.first_lsn.saturating_sub(1)), timeline))
}

fn scan_members(
    site: Site<'_>,
    members: Vec<Member>,
    successor_gone: bool,
    examined: &mut Examined,
) -> Result<(), OpenError> {
    let ends: Vec<_> =
        members.iter().skip(1).map(|next| Some(NamedEnd::of(&next.header))).chain([None]).collect();
    for (member, named_end) in members.into_iter().zip(ends) {
        if examined.broken {
            let (lsn, timeline) = reach_of(site, &member)?;
            examined.lost_lsn = examined.lost_lsn.max(lsn);
            examined.lost_timeline = examined.lost_timeline.max(timeline);
            examined.quarantine.push(member.header.number);
            continue;
        }
        let mut image = image_of(site.vfs, &member)?;
        let subject = Subject {
            path: &member.path,
            header: &member.header,
            named_end,
            successor_gone,
            known_durable: if named_end.is_some() { 0 } else { site.options.known_durable.get() },
            file_len: member.file_len,
        };
        let mut scan = subject.scan(&mut image)?;
        let side_damage = check_sides(site, examined.store, &member, &mut scan)?;
        let scan_damage = match &scan.stop {
            Stop::Damaged(damage) => Some(damage.clone()),
            Stop::End | Stop::Torn { .. } => None,
        };
        if let Some(damage) = side_damage.or(scan_damage) {
            if site.options.recovery == Recovery::Strict {
                let next_lsn = Lsn::new(scan.end.next_lsn);
                return Err(OpenError::Damaged { damage: Box::new(damage), next_lsn });
            }
            (examined.broken, examined.shortened) = (true, true);
            let (lsn, timeline) = beyond(&image, &member.header, scan.end_offset);
            examined.lost_lsn = examined.lost_lsn.max(scan.proven.lsn).max(lsn);
            examined.lost_timeline = examined.lost_timeline.max(timeline);
            examined.quarantine.push(member.header.number);
        }
        examined.kept.push(Kept { member, scan });
        examined.last_image = Some(image);
    }
    Ok(())
}

/// Verifies the side files that a segment's records name. At the first damaged one, the scan is cut before its group.
fn check_sides(
    site: Site<'_>,
    store: StoreId,
    member: &Member,
    scan: &mut Scan,
) -> Result<Option<Damage>, OpenError> {
    let mut found = None;
    for (group, side) in &scan.sides {
        if let Err(damage) = side_file::read(site.vfs, site.dir, store, *side, &[])? {
            found = Some((*group, damage));
            break;
        }
    }
    let Some((group, damage)) = found else { return Ok(None) };
    scan.truncate(group, &member.header);
    Ok(Some(damage))
}
