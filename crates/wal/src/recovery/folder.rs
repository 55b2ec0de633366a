//! What is in a log's folder, and which segments follow each other: everything that is known before a group is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keepstone_types::{Lsn, StoreId};
use keepstone_vfs::{EntryKind, IoError, OpenOptions, Vfs};

use super::image::Image;
use crate::error::{Damage, OpenError};
use crate::group::GROUP_BYTES_MAX;
use crate::layout::{disk_len, memory_len};
use crate::segment::{
    FORMAT, FileRole, HEADER_BLOCK, HEADER_BYTES, HeaderFault, SegmentHeader, role_of, segment_name,
    segment_path,
};

/// Where files go that cannot be healed.
pub(crate) const QUARANTINE: &str = "quarantine";

/// What a folder holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Segment numbers and file lengths.
    pub(crate) segments: BTreeMap<u64, u64>,
    /// Side file numbers and file lengths.
    pub(crate) sides: BTreeMap<u64, u64>,
    pub(crate) scratch: Vec<PathBuf>,
    /// The highest number that any segment or side file has, or had before it was quarantined.
    pub(crate) highest: u64,
}

impl Listing {
    pub(crate) fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Self, IoError> {
        let mut listing = Self::default();
        for entry in vfs.list(dir)?.into_iter().filter(|entry| entry.kind == EntryKind::File) {
            match role_of(&entry.name) {
                Some(FileRole::Segment(number)) => {
                    listing.segments.insert(number, entry.len);
                    listing.highest = listing.highest.max(number);
                }
                Some(FileRole::Side(number)) => {
                    listing.sides.insert(number, entry.len);
                    listing.highest = listing.highest.max(number);
                }
                Some(FileRole::Scratch) => listing.scratch.push(dir.join(&entry.name)),
                None => {}
            }
        }
        match vfs.list(&dir.join(QUARANTINE)) {
            Ok(entries) => {
                for entry in entries {
                    if let Some(FileRole::Segment(number) | FileRole::Side(number)) = role_of(&entry.name) {
                        listing.highest = listing.highest.max(number);
                    }
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(listing)
    }
}

/// A segment whose header was read.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) file_len: u64,
    /// Copies of the header that do not verify: where each begins.
    pub(crate) bad_copies: Vec<u64>,
    /// Copies that verify and are older: a crash came between one and the other.
    pub(crate) stale_copies: Vec<u64>,
}

/// What a segment's header turned out to be.
#[derive(Debug)]
pub(crate) enum Head {
    Good(Member),
    Bad {
        damage: Damage,
        /// The store that it says it belongs to, if it says anything.
        store: Option<StoreId>,
    },
}

/// Reads the header of a segment. Formats and features that are not understood are errors at once, so that nothing is
/// written beside them.
pub(crate) fn read_head(
    vfs: &dyn Vfs,
    dir: &Path,
    number: u64,
    file_len: u64,
    writing: bool,
) -> Result<Head, OpenError> {
    let path = segment_path(dir, number);
    let file = vfs.open(&path, OpenOptions::READ)?;
    let image = Image::read(file.as_ref(), 0, HEADER_BYTES, 512)?;
    let copies: Vec<_> = image.bytes.chunks(HEADER_BLOCK).map(SegmentHeader::decode).collect();
    // A copy that names another segment landed here by mistake: it rules only where no other does.
    let rank = |header: &&SegmentHeader| (header.number == number, header.generation);
    let best = copies.iter().filter_map(|copy| copy.as_ref().ok()).max_by_key(rank);
    let Some(header) = best.copied() else {
        return bad_head(path, &copies).map(|damage| Head::Bad { damage, store: None });
    };
    let unknown = |found: u64, read_only_helps: bool| OpenError::UnknownFeatures {
        file: path.clone(),
        found,
        read_only_helps,
    };
    if header.incompat != 0 {
        return Err(unknown(header.incompat, false));
    }
    if header.read_only_compat != 0 && writing {
        return Err(unknown(header.read_only_compat, true));
    }
    if header.number != number {
        let damage = Damage::new(path, 0, format!("segment {number}"), format!("segment {}", header.number));
        return Ok(Head::Bad { damage, store: Some(header.store) });
    }
    // A copy that could not be read in full may verify all the same, if what was lost is zero; it is written again.
    let lost = |at: u64| {
        let first = memory_len(at).checked_div(image.sector).unwrap_or_default();
        image.lost.iter().skip(first).take(HEADER_BLOCK / 512).any(|lost| *lost)
    };
    let bad = |at: u64, copy: &Result<SegmentHeader, HeaderFault>| *copy != Ok(header) || lost(at);
    let older = |copy: &SegmentHeader| copy.number == number && copy.generation < header.generation;
    let stale =
        |at: u64, copy: &Result<SegmentHeader, HeaderFault>| copy.as_ref().is_ok_and(older) && !lost(at);
    let not_right = || (0_u64..).step_by(HEADER_BLOCK).zip(&copies).filter(|(at, copy)| bad(*at, copy));
    let bad_copies = not_right().filter(|(at, copy)| !stale(*at, copy)).map(|(at, _)| at).collect();
    let stale_copies = not_right().filter(|(at, copy)| stale(*at, copy)).map(|(at, _)| at).collect();
    Ok(Head::Good(Member { path, header, file_len, bad_copies, stale_copies }))
}

fn bad_head(path: PathBuf, copies: &[Result<SegmentHeader, HeaderFault>]) -> Result<Damage, OpenError> {
    let faults = || copies.iter().filter_map(|copy| copy.as_ref().err());
    let newer = faults().find_map(|fault| match fault {
        HeaderFault::Newer(found) => Some(*found),
        _ => None,
    });
    if let Some(found) = newer {
        return Err(OpenError::NewerFormat { file: path, found, supported: FORMAT });
    }
    let found = match faults().next() {
        Some(HeaderFault::Checksum { expected, found }) => {
            format!("one whose checksum is {found:#018x} instead of {expected:#018x}, twice")
        }
        Some(HeaderFault::Field(field)) => format!("a value of `{field}` that no writer gives it"),
        _ => "other bytes, twice".to_owned(),
    };
    Ok(Damage::new(path, 0, "the header of a segment", found))
}

/// The segments that follow each other, first to last, and what does not belong.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) members: Vec<Member>,
    /// Segments that no longer count.
    pub(crate) dead: Vec<u64>,
    /// Where the chain could not be followed.
    pub(crate) fault: Option<ChainFault>,
}

/// Why a chain could not be followed.
#[derive(Debug)]
pub(crate) enum ChainFault {
    Bad(Damage),
    Missing(u64),
}

impl ChainFault {
    pub(crate) fn into_error(self, dir: &Path, next_lsn: u64) -> OpenError {
        let next_lsn = Lsn::new(next_lsn);
        match self {
            Self::Bad(damage) => OpenError::Damaged { damage: Box::new(damage), next_lsn },
            Self::Missing(number) => OpenError::MissingSegment {
                dir: dir.to_path_buf(),
                number,
                expected: segment_name(number),
                next_lsn,
            },
        }
    }
}

/// Whether nothing before a segment is missed: it is the first, or what came before was released.
fn may_be_first(header: &SegmentHeader, released: u64) -> bool {
    header.predecessor == 0 || header.end_lsn <= released
}

/// Follows the segments. Of two that name one predecessor, the higher number wins.
pub(crate) fn chain(heads: BTreeMap<u64, Head>, released: u64) -> Chain {
    match follow_back(&heads, released) {
        Ok(numbers) => into_chain(heads, &numbers, None),
        Err(fault) => {
            let numbers = follow_on(&heads, released);
            into_chain(heads, &numbers, Some(fault))
        }
    }
}

/// From the highest number back to the first.
fn follow_back(heads: &BTreeMap<u64, Head>, released: u64) -> Result<Vec<u64>, ChainFault> {
    let mut numbers = Vec::new();
    let mut next = heads.last_key_value().map(|(number, _)| *number);
    while let Some(number) = next {
        match heads.get(&number) {
            Some(Head::Good(member)) => {
                numbers.push(number);
                let header = &member.header;
                let there = heads.contains_key(&header.predecessor);
                next = Some(header.predecessor).filter(|_| there || !may_be_first(header, released));
            }
            Some(Head::Bad { damage, .. }) => return Err(ChainFault::Bad(damage.clone())),
            None => return Err(ChainFault::Missing(number)),
        }
    }
    numbers.reverse();
    Ok(numbers)
}

/// From the first on, as far as it goes: the prefix that is there.
fn follow_on(heads: &BTreeMap<u64, Head>, released: u64) -> Vec<u64> {
    let good = || {
        heads.iter().filter_map(|(number, head)| match head {
            Head::Good(member) => Some((*number, &member.header)),
            Head::Bad { .. } => None,
        })
    };
    let first = good().find(|(_, header)| {
        may_be_first(header, released) && !matches!(heads.get(&header.predecessor), Some(Head::Bad { .. }))
    });
    let mut numbers: Vec<u64> = first.iter().map(|(number, _)| *number).collect();
    while let Some(last) = numbers.last() {
        let next = good().filter(|(_, header)| header.predecessor == *last).map(|(number, _)| number).max();
        match next {
            Some(next) => numbers.push(next),
            None => break,
        }
    }
    numbers
}

fn into_chain(heads: BTreeMap<u64, Head>, numbers: &[u64], fault: Option<ChainFault>) -> Chain {
    let mut chain = Chain { members: Vec::new(), dead: Vec::new(), fault };
    for (number, head) in heads {
        match head {
            Head::Good(member) if numbers.contains(&number) => chain.members.push(member),
            _ => chain.dead.push(number),
        }
    }
    chain
}

/// Every segment belongs to one store: the one asked for, or the last segment's.
pub(crate) fn one_store(
    heads: &BTreeMap<u64, Head>,
    asked: Option<StoreId>,
    known: Option<StoreId>,
) -> Result<Option<StoreId>, OpenError> {
    let named = heads.values().filter_map(|head| match head {
        Head::Good(member) => Some((&member.path, member.header.store)),
        Head::Bad { damage, store } => store.map(|store| (&damage.file, store)),
    });
    let expected = asked.or(known).or(named.clone().next_back().map(|(_, store)| store));
    match (expected, named.rev().find(|(_, store)| Some(*store) != expected)) {
        (Some(expected), Some((file, found))) => {
            Err(OpenError::ForeignStore { file: file.clone(), expected, found })
        }
        _ => Ok(expected),
    }
}

/// Bytes of a segment that are read into memory: what its header says, which was checked against its bound, but no more
/// than its file has and the group that may begin there. What lies beyond is lost in any case.
pub(crate) fn image_of(vfs: &dyn Vfs, member: &Member) -> Result<Image, IoError> {
    let file = vfs.open(&member.path, OpenOptions::READ)?;
    let sector = usize::try_from(member.header.sector).unwrap_or(HEADER_BLOCK);
    let there = member.file_len.saturating_add(disk_len(GROUP_BYTES_MAX));
    let len = member.header.length.min(there).next_multiple_of(disk_len(HEADER_BLOCK));
    Image::read(file.as_ref(), 0, len, sector)
}
