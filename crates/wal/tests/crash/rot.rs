//! Rot, everywhere: every sector of every file of a small log flips a bit, reads as zero or cannot be read; then two
//! sectors of one group.

use std::path::PathBuf;

use keepstone_types::{CodecId, Timeline};
use keepstone_vfs::simulated::{Choose, Dice, Fault, SimulatedDisk};
use keepstone_wal::{Access, Log, LogOptions, OpenError, Record, RecordKind, Recovery, Repair};

use crate::fixture::{
    Act, Group, HEADERS, Life, Records, SECTOR, Segment, bytes_of, folder, is_untouched, options,
    proven_sequence, read_all, replay, segments,
};

/// Groups of one sector and of many, a side file, marks, and a second segment.
const ACTS: [Act; 15] = [
    Act::Append(10),
    Act::Batch(&[100, 700, 30]),
    Act::Idle,
    Act::Append(3_000),
    Act::OwnerMark(7),
    Act::Append(60_000),
    Act::Append(20_000),
    Act::Append(40_000),
    Act::Append(30_000),
    Act::Append(25_000),
    Act::Idle,
    Act::Append(1_000),
    Act::Append(9_000),
    Act::Batch(&[5, 400]),
    Act::Append(300),
];

/// A log that nothing writes to any more.
struct Base {
    disk: SimulatedDisk,
    options: LogOptions,
    sector: usize,
    records: Records,
    segments: Vec<Segment>,
    proven: u64,
    clean: bool,
}

/// What a byte of a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    /// A group of the chain, and whether anything says that it was synced.
    Group(Group, bool),
    /// Behind the last group of a segment.
    Behind,
}

/// How bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Flip,
    Zero,
    Unreadable,
}

const EVERY_WAY: [How; 3] = [How::Flip, How::Zero, How::Unreadable];

impl Base {
    fn new(sector: u32, clean: bool) -> Self {
        let mut life = Life::of(options(sector), 1, &ACTS);
        if clean {
            life.act(Act::Close).unwrap();
        }
        let disk = life.found();
        let sector = sector as usize;
        let segments = segments(&disk, sector);
        assert!(segments.len() >= 2 && segments.iter().all(|segment| segment.groups.len() >= 3));
        let proven = proven_sequence(&segments);
        let (options, records) = (life.options.clone(), life.records.clone());
        Self { disk, options, sector, records, segments, proven, clean }
    }

    /// Both sector sizes, closed in order and not.
    fn all() -> impl Iterator<Item = Self> {
        [(512, true), (512, false), (4_096, true), (4_096, false)]
            .into_iter()
            .map(|(sector, clean)| Self::new(sector, clean))
    }

    fn fork(&self) -> SimulatedDisk {
        self.disk.kill(9)
    }

    fn reading(&self) -> LogOptions {
        self.options.clone().access(Access::ReadOnly)
    }

    fn is_last(&self, index: usize) -> bool {
        index + 1 == self.segments.len()
    }

    fn place(&self, index: usize, at: usize) -> Place {
        if at < HEADERS {
            return Place::Header;
        }
        let group = self.segments[index].groups.iter().find(|group| (group.at..group.end()).contains(&at));
        let end = self.segments.get(index + 1).map_or(u64::MAX, |next| next.predecessor_end);
        match group {
            Some(group) if group.sequence <= end => Place::Group(*group, group.sequence <= self.proven),
            _ => Place::Behind,
        }
    }

    /// The groups of the chain, each with the index of its segment and whether it is proven.
    fn groups(&self) -> Vec<(usize, Group, bool)> {
        let all = self
            .segments
            .iter()
            .enumerate()
            .flat_map(|(index, segment)| segment.groups.iter().map(move |group| (index, *group)));
        let in_chain = all.filter_map(|(index, group)| match self.place(index, group.at) {
            Place::Group(group, proven) => Some((index, group, proven)),
            _ => None,
        });
        in_chain.collect()
    }

    /// Hurts some bytes of a segment; false when nothing is different then.
    fn hurt(
        &self,
        disk: &SimulatedDisk,
        index: usize,
        at: usize,
        len: usize,
        how: How,
        dice: &mut Dice,
    ) -> bool {
        let Segment { path, bytes, .. } = &self.segments[index];
        match how {
            How::Flip => {
                let byte = at as u64 + dice.choose(len as u64);
                assert!(disk.rot(path, byte, &[1 << dice.choose(8)]));
            }
            How::Zero => {
                if bytes[at..at + len].iter().all(|byte| *byte == 0) {
                    return false;
                }
                sectors(at, len).for_each(|sector| assert!(disk.zero_sector(path, sector)));
            }
            How::Unreadable => {
                sectors(at, len).for_each(|sector| disk.inject(Fault::BadSector(path.clone(), sector)));
            }
        }
        true
    }
}

fn sectors(at: usize, len: usize) -> impl Iterator<Item = u64> {
    (at / SECTOR..(at + len) / SECTOR).map(|sector| sector as u64)
}

fn one_more(log: &Log) -> u64 {
    log.append(Record::with_codec(RecordKind::WRITE, CodecId::RAW, b"more".to_vec())).unwrap().get()
}

/// One sector, or block, is hurt: opened read-only and for writing.
fn check_one(base: &Base, (index, at, len): (usize, usize, usize), how: How, dice: &mut Dice) -> bool {
    let disk = base.fork();
    if !base.hurt(&disk, index, at, len, how, dice) {
        return false;
    }
    let segment = &base.segments[index];
    let place = base.place(index, at);
    let what = format!(
        "{how:?} of {len} at {at} of {}, {place:?}, sectors of {}",
        segment.path.display(),
        base.sector
    );
    let expected = match place {
        Place::Header => Some(at / 4_096 * 4_096),
        Place::Group(..) => Some(at / base.sector * base.sector),
        Place::Behind => None,
    };
    let (log, found) = replay(&disk, &base.reading()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found == base.records, "{what}");
    assert_eq!(disk.changes(), 0, "{what}: read-only writes nothing");
    let healed = |log: &Log, repair: Repair| {
        let healed = &log.recovery().healed_sectors;
        assert!(
            healed.iter().all(|one| one.file == segment.path && one.repair == repair),
            "{what}: {healed:?}"
        );
        let places: Vec<_> = healed.iter().map(|one| one.offset as usize).collect();
        assert!(places.iter().eq(expected.iter()), "{what}: {healed:?}");
    };
    healed(&log, Repair::InMemory);
    let (log, found) = replay(&disk, &base.options).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found == base.records, "{what}");
    healed(&log, Repair::Healed);
    let behind_last = place == Place::Behind && base.is_last(index);
    assert_eq!(log.recovery().timeline_changed, behind_last, "{what}: what is behind the end is cut");
    assert_eq!(log.recovery().clean, base.clean && !behind_last, "{what}");
    if expected.is_some() {
        // Every byte is as it was, and can be read.
        assert!(
            folder(&disk)[&segment.path][..at + len] == segment.bytes[..at + len],
            "{what}: healed on disk"
        );
    }
    assert!(one_more(&log) > *base.records.keys().next_back().unwrap(), "{what}");
    true
}

/// One sector is hurt while the log is in use: `verify` finds and heals it, readers never notice.
fn check_in_use(base: &Base, (index, at, len): (usize, usize, usize), how: How, dice: &mut Dice) {
    let disk = base.fork();
    let (log, _) = replay(&disk, &base.options).unwrap();
    let what = format!("{how:?} of {len} at {at} of segment {index}, sectors of {}", base.sector);
    if !base.hurt(&disk, index, at, len, how, dice) || base.place(index, at) == Place::Behind {
        assert_eq!(log.verify().unwrap(), [], "{what}");
        return;
    }
    assert!(read_all(&log) == base.records, "{what}");
    let found = log.verify().unwrap();
    assert_eq!(found.len(), 1, "{what}: {found:?}");
    assert_eq!((&found[0].file, found[0].repair), (&base.segments[index].path, Repair::Healed), "{what}");
    assert_eq!(log.verify().unwrap(), [], "{what}");
    let (path, bytes) = (&base.segments[index].path, &base.segments[index].bytes);
    assert!(bytes_of(&disk, path)[..at + len] == bytes[..at + len], "{what}");
}

/// Every sector of every segment, and where the sectors of groups are larger every block of that size.
fn units(base: &Base) -> impl Iterator<Item = (usize, usize, usize)> {
    let sizes = match (base.sector, base.clean) {
        (SECTOR, _) => vec![SECTOR],
        (_, true) => vec![SECTOR, base.sector],
        (_, false) => vec![base.sector],
    };
    let lens: Vec<usize> = base.segments.iter().map(|segment| segment.bytes.len()).collect();
    sizes.into_iter().flat_map(move |size| {
        let lens = lens.clone();
        (0..lens.len()).flat_map(move |index| (0..lens[index]).step_by(size).map(move |at| (index, at, size)))
    })
}

#[test]
fn every_sector_of_every_segment_may_rot() {
    let mut checked = 0;
    for base in Base::all() {
        let mut dice = Dice::new(base.sector as u64);
        for unit in units(&base) {
            for how in
                EVERY_WAY.into_iter().filter(|how| *how != How::Flip || unit.2 == SECTOR || !base.clean)
            {
                checked += u64::from(check_one(&base, unit, how, &mut dice));
            }
        }
    }
    println!("rot: {checked} places and ways, each opened read-only and for writing");
    assert!(checked > 4_000, "{checked}");
}

#[test]
fn every_sector_may_rot_while_the_log_is_in_use() {
    for base in [Base::new(512, true), Base::new(4_096, true)] {
        let mut dice = Dice::new(base.sector as u64);
        let used =
            base.segments.iter().map(|segment| segment.groups.last().unwrap().end()).collect::<Vec<_>>();
        for unit in units(&base).filter(|(index, at, _)| *at < used[*index] + 4 * SECTOR) {
            let how = EVERY_WAY[dice.choose(3) as usize];
            check_in_use(&base, unit, how, &mut dice);
        }
    }
}

#[test]
fn a_sector_of_every_group_and_a_copy_of_every_header_may_rot_at_once() {
    for base in Base::all() {
        for (round, how) in EVERY_WAY.into_iter().cycle().take(30).enumerate() {
            let (disk, mut dice) = (base.fork(), Dice::new(round as u64));
            let mut hurt = 0;
            for (index, group, _) in base.groups() {
                let at = group.at + dice.choose((group.len / base.sector) as u64) as usize * base.sector;
                hurt += usize::from(base.hurt(&disk, index, at, base.sector, how, &mut dice));
            }
            for index in 0..base.segments.len() {
                let copy = dice.choose(2) as usize * 4_096;
                hurt += usize::from(base.hurt(&disk, index, copy, 4_096, how, &mut dice));
            }
            assert!(replay(&disk, &base.reading()).unwrap().1 == base.records);
            let (log, found) = replay(&disk, &base.options).unwrap();
            assert!(found == base.records && !log.recovery().timeline_changed);
            assert_eq!(log.recovery().healed_sectors.len(), hurt, "{how:?}, round {round}");
            for (segment, index) in base.segments.iter().zip(0..) {
                let end = base.groups().iter().rfind(|(of, ..)| *of == index).unwrap().1.end();
                assert!(bytes_of(&disk, &segment.path)[..end] == segment.bytes[..end]);
            }
        }
    }
}

/// Whether nothing can be lost by reading these sectors of a group as zeros.
fn hold_nothing(base: &Base, index: usize, group: Group, hurt: &[usize]) -> bool {
    let data = hurt.iter().filter(|at| **at + base.sector < group.end());
    data.into_iter()
        .all(|at| base.segments[index].bytes[*at..*at + base.sector].iter().all(|byte| *byte == 0))
}

/// Two sectors of a group are hurt, which is one more than can be rebuilt.
fn check_two(
    base: &Base,
    (index, group, proven): (usize, Group, bool),
    pair: [usize; 2],
    how: How,
    dice: &mut Dice,
) {
    let disk = base.fork();
    let hurt = pair.map(|at| base.hurt(&disk, index, at, base.sector, how, dice));
    if hurt != [true; 2] || (how == How::Unreadable && hold_nothing(base, index, group, &pair)) {
        // One sector at most has lost anything.
        assert!(replay(&disk, &base.options).unwrap().1 == base.records);
        return;
    }
    let path = &base.segments[index].path;
    let what = format!("{how:?} of {pair:?} in {group:?} of {}", path.display());
    let before: Records =
        base.records.range(..group.first_lsn).map(|(lsn, found)| (*lsn, found.clone())).collect();
    let strict = replay(&disk, &base.options.clone().access(Access::ReadOnly));
    assert_eq!(disk.changes(), 0, "{what}");
    if !proven {
        // Taken for a torn write. Nothing that is shown is anything but what was written.
        assert!(strict.unwrap().1 == before, "{what}");
        let (log, found) = replay(&disk, &base.options).unwrap();
        assert!(found == before, "{what}");
        let leaves_no_trace = how == How::Zero && group.len == 2 * base.sector;
        assert_eq!(log.recovery().timeline_changed, !leaves_no_trace, "{what}");
        return;
    }
    assert_eq!(strict.unwrap_err().kind(), "damaged", "{what}");
    check_reported(base, &disk, (path.clone(), group.at), &what);
    let (log, found) = replay(&disk, &base.options.clone().recovery(Recovery::Prefix)).unwrap();
    assert!(found == before, "{what}");
    assert_eq!(log.recovery().timeline, Timeline::new(1), "{what}");
    assert!(one_more(&log) > *base.records.keys().next_back().unwrap(), "{what}");
}

/// Opening for writing is refused with this place, and changes no byte of any file.
fn check_reported(base: &Base, disk: &SimulatedDisk, place: (PathBuf, usize), what: &str) {
    let error = replay(disk, &base.options).unwrap_err();
    let OpenError::Damaged { damage, .. } = &error else { panic!("{what}: {error}") };
    assert_eq!((&damage.file, damage.offset as usize), (&place.0, place.1), "{what}: {error}");
    assert!(is_untouched(disk), "{what}: nothing is written");
}

#[test]
fn two_rotten_sectors_of_a_group_are_reported_and_nothing_is_written() {
    let mut checked = 0;
    for base in Base::all() {
        let mut dice = Dice::new(base.sector as u64);
        for (index, group, proven) in base.groups() {
            let count = group.len / base.sector;
            let pairs: Vec<(usize, usize)> = if count <= 8 {
                (0..count).flat_map(|one| (0..one).map(move |two| (one, two))).collect()
            } else {
                let mut any = || dice.choose(count as u64) as usize;
                let drawn: Vec<_> = (0..20).map(|_| (any(), any())).collect();
                drawn
                    .into_iter()
                    .chain([(0, 1), (0, count - 1), (count - 2, count - 1)])
                    .filter(|(one, two)| one != two)
                    .collect()
            };
            for (one, two) in pairs {
                let pair = [one, two].map(|sector| group.at + sector * base.sector);
                for how in EVERY_WAY {
                    check_two(&base, (index, group, proven), pair, how, &mut dice);
                    checked += 1;
                }
            }
        }
    }
    println!("rot: {checked} pairs of sectors");
    assert!(checked > 1_000, "{checked}");
}

/// Rot that takes the last groups takes what proves them too, and is taken for a torn write. In an earlier segment it is
/// not: the header of the next one says where it ended.
#[test]
fn rot_of_the_last_groups_and_of_all_that_proves_them_ends_the_log_before_them() {
    for base in Base::all() {
        for (from, group, _) in base.groups() {
            let (disk, mut dice) = (base.fork(), Dice::new(8));
            let behind =
                base.groups().into_iter().filter(|(of, other, _)| *of == from && other.at >= group.at);
            for (_, other, _) in behind {
                for at in (other.at..other.end()).step_by(base.sector) {
                    assert!(base.hurt(&disk, from, at, base.sector, How::Flip, &mut dice));
                }
            }
            if !base.is_last(from) {
                check_reported(
                    &base,
                    &disk,
                    (base.segments[from].path.clone(), group.at),
                    "an earlier segment",
                );
                continue;
            }
            let (log, found) = replay(&disk, &base.options).unwrap();
            assert!(found.iter().eq(base.records.range(..group.first_lsn)), "{group:?}");
            assert!(log.recovery().timeline_changed, "{group:?}");
        }
    }
}

/// The same bit in two sectors: their XOR says that nothing is wrong.
#[test]
fn the_same_bit_in_two_sectors_is_not_hidden_by_their_xor() {
    for base in Base::all() {
        for (index, group, _) in base.groups().into_iter().filter(|(.., proven)| *proven) {
            let disk = base.fork();
            let path = &base.segments[index].path;
            for at in [group.at, group.end() - base.sector] {
                disk.rot(path, at as u64 + 70, &[4]);
            }
            check_reported(&base, &disk, (path.clone(), group.at), "the same bit twice");
        }
    }
}

#[test]
fn both_copies_of_a_header_are_reported_and_nothing_is_written() {
    for base in Base::all() {
        for index in 0..base.segments.len() {
            for how in EVERY_WAY {
                let (disk, mut dice) = (base.fork(), Dice::new(3));
                for copy in [0, 4_096] {
                    assert!(base.hurt(&disk, index, copy, 4_096, how, &mut dice));
                }
                check_reported(&base, &disk, (base.segments[index].path.clone(), 0), "both copies");
            }
        }
    }
}

/// Files without a second copy: what is wrong with them is said, and nothing is written.
#[test]
fn every_sector_of_a_side_file_and_of_the_pins_is_reported() {
    for base in Base::all() {
        let files = folder(&base.disk);
        let others: Vec<_> = files
            .iter()
            .filter(|(path, bytes)| path.extension().is_none_or(|end| end != "wal") && !bytes.is_empty())
            .collect();
        assert_eq!(others.len(), 2, "a side file and the pins");
        let mut dice = Dice::new(4);
        for (path, bytes) in others {
            for sector in 0..bytes.len().div_ceil(SECTOR) {
                for how in EVERY_WAY {
                    let disk = base.fork();
                    match how {
                        How::Flip => {
                            let within = dice.choose((bytes.len() - sector * SECTOR).min(SECTOR) as u64);
                            disk.rot(path, (sector * SECTOR) as u64 + within, &[1 << dice.choose(8)]);
                        }
                        How::Zero => drop(disk.zero_sector(path, sector as u64)),
                        How::Unreadable => disk.inject(Fault::BadSector((*path).clone(), sector as u64)),
                    }
                    for options in [&base.options, &base.reading()] {
                        let error = replay(&disk, options).unwrap_err();
                        let name = path.file_name().unwrap().to_string_lossy();
                        assert!(error.to_string().contains(&*name), "{error}");
                        assert!(is_untouched(&disk), "{error}");
                    }
                }
            }
        }
    }
}
