//! Parity: what is lost is rebuilt, what cannot be is said, and what stands on the disk is what is said of it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keepstone_pager::{
    Access, PageError, PageFile, PageFileOptions, PageRead, PageWrite, PageWriteExt, Parity, ScrubFinding,
    ScrubOptions, ScrubReport,
};
use keepstone_types::{Generation, PageRef};
use keepstone_vfs::simulated::{Choose, Dice};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsFileExt};

use crate::support::*;

const PAGE: usize = 4_096;

fn options() -> PageFileOptions {
    small().parity(Parity::Xor).cache_bytes(0)
}

fn create_with_parity() -> (MemoryVfs, PageFile) {
    let disk = MemoryVfs::new();
    let file = PageFile::create(vfs(&disk), Path::new(FILE), store(), options()).unwrap();
    (disk, file)
}

fn open_as(disk: &MemoryVfs, access: Access) -> PageFile {
    let file = PageFile::open(vfs(disk), Path::new(FILE), store(), options(), access, Generation::ZERO);
    file.unwrap()
}

fn scrub(file: &PageFile, repair: bool) -> ScrubReport {
    let report = file.scrub(&ScrubOptions::default().repair(repair), |_| ControlFlow::Continue(())).unwrap();
    assert!(report.complete && report.headers == (report.headers));
    report
}

fn assert_whole(file: &PageFile) {
    let report = scrub(file, false);
    assert_eq!(report.findings, []);
}

/// Pages with numbers.
type Live = Vec<(PageRef, u64)>;

fn refs(live: &Live) -> Vec<PageRef> {
    live.iter().map(|(at, _)| *at).collect()
}

fn assert_reads(file: &PageFile, live: &Live) {
    for (at, tag) in live {
        assert!(reads(file, *at, *tag).unwrap(), "{at}");
    }
}

/// Changes a share of the pages, at random, and adds some.
fn churn(file: &PageFile, live: &mut Live, dice: &mut Dice, changed: u64, added: u64, tag: &mut u64) {
    let mut writer = file.begin().unwrap();
    for _ in 0..changed.min(live.len() as u64) {
        let place = dice.choose(live.len() as u64) as usize;
        let (old, _) = live[place];
        if old.birth == writer.generation() {
            continue;
        }
        writer.free(old.page, old.birth).unwrap();
        *tag += 1;
        live[place] = (writer.put(KIND, &payload(*tag)).unwrap(), *tag);
    }
    for _ in 0..added {
        *tag += 1;
        live.push((writer.put(KIND, &payload(*tag)).unwrap(), *tag));
    }
    writer.commit(b"").unwrap();
}

/// A file with several regions and many generations behind it: full and half-empty groups, dead members, old parity.
fn aged(seed: u64) -> (MemoryVfs, PageFile, Live) {
    let (disk, file) = create_with_parity();
    let (mut live, mut tag, mut dice) = (Live::new(), 0, Dice::new(seed));
    churn(&file, &mut live, &mut dice, 0, 700, &mut tag);
    for _ in 0..30 {
        churn(&file, &mut live, &mut dice, 60, 8, &mut tag);
    }
    (disk, file, live)
}

#[test]
fn parity_is_whole_after_every_commit() {
    for seed in 0..6 {
        let (disk, file) = create_with_parity();
        let (mut live, mut tag, mut dice) = (Live::new(), 0, Dice::new(seed));
        let mut held = Vec::new();
        for round in 0..60 {
            let (changed, added) = (dice.choose(80), dice.choose(60));
            churn(&file, &mut live, &mut dice, changed, added, &mut tag);
            if dice.one_in(6) {
                let count = dice.choose(live.len() as u64) as usize;
                let gone = live.split_off(live.len() - count);
                commit_freeing(&file, &refs(&gone));
            }
            match dice.choose(12) {
                0 => held.push(file.root()),
                1 => held.clear(),
                2 => drop(file.shrink().unwrap()),
                3 => file.reserve(dice.choose(50)).unwrap(),
                4 => drop(file.rebuild_free_space::<PageError>(|audit| mark(audit, &refs(&live))).unwrap()),
                _ => {}
            }
            assert_whole(&file);
            assert_sound(&file, &refs(&live));
            assert_whole(&open_as(&disk.snapshot(), Access::ReadOnly));
            if round % 10 == 0 {
                assert_reads(&open_as(&disk.snapshot(), Access::Write), &live);
            }
        }
        assert!(file.stats().parity_pages_written > 100, "{:?}", file.stats());
    }
}

/// What can happen to a page on the disk.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Bit,
    Sector,
    Swap,
    Other,
    Old,
}

const DAMAGES: [Damage; 5] = [Damage::Bit, Damage::Sector, Damage::Swap, Damage::Other, Damage::Old];

/// Damages one slot of the bytes of a file; false where that changes nothing. `old` is an earlier image of the file. A
/// swap damages the other slot too: it is one that nobody needs.
fn damage(now: &mut [u8], slot: usize, how: Damage, old: &[u8], idle: usize, dice: &mut Dice) -> bool {
    let before = now[slot * PAGE..][..PAGE].to_vec();
    match how {
        Damage::Bit => now[slot * PAGE + dice.choose(PAGE as u64) as usize] ^= 1 << dice.choose(8),
        Damage::Sector => now[slot * PAGE + 512 * dice.choose(8) as usize..][..512].fill(0),
        Damage::Swap => {
            let (low, high) = (slot.min(idle), slot.max(idle));
            let (head, tail) = now.split_at_mut(high * PAGE);
            head[low * PAGE..][..PAGE].swap_with_slice(&mut tail[..PAGE]);
        }
        Damage::Other => {
            let other = (slot + 64) % (now.len() / PAGE);
            now.copy_within(other * PAGE..(other + 1) * PAGE, slot * PAGE);
        }
        Damage::Old => {
            let old = old.get(slot * PAGE..(slot + 1) * PAGE).unwrap_or(&[0; PAGE]).to_vec();
            now[slot * PAGE..][..PAGE].copy_from_slice(&old);
        }
    }
    before != now[slot * PAGE..][..PAGE]
}

fn image_of(bytes: &[u8]) -> MemoryVfs {
    let disk = MemoryVfs::new();
    let file = disk.open(Path::new(FILE), OpenOptions::CREATE_NEW).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    disk
}

fn kind_at(bytes: &[u8], slot: usize) -> u8 {
    if [0, 61].contains(&slot) {
        return 200;
    }
    if [1, 2, 62, 63].contains(&slot) { 201 } else { bytes[slot * PAGE + 14] }
}

/// The slots in which a change is found: all that a scrub calls damaged when nothing but they are overwritten.
fn is_needed(file_bytes: &[u8], slot: usize) -> bool {
    let mut changed = file_bytes.to_vec();
    changed[slot * PAGE..][..PAGE].iter_mut().for_each(|byte| *byte ^= 0x55);
    let report = scrub(&open_as(&image_of(&changed), Access::ReadOnly), false);
    report.finding_count > 0
}

/// Every page in turn, whatever it is, and whatever happens to it: found, repaired, and the file is byte for byte as it was.
#[test]
fn every_page_is_healed_of_every_damage() {
    let (disk, file, live) = aged(11);
    let old = bytes(&disk);
    let mut live = live;
    let (mut tag, mut dice) = (1 << 40, Dice::new(5));
    // Everything is rewritten at least once, so that an old image of nearly every slot is another page.
    for _ in 0..12 {
        churn(&file, &mut live, &mut dice, 400, 0, &mut tag);
    }
    drop(file);
    // Opening writes both copies of the header again, so nothing else changes below.
    drop(open_as(&disk, Access::Write));
    let whole = bytes(&disk);
    assert_whole(&open_as(&disk, Access::ReadOnly));
    let slots = whole.len() / PAGE;
    let needed: Vec<usize> = (0..slots).filter(|slot| is_needed(&whole, *slot)).collect();
    let idle = (64..slots).find(|slot| !needed.contains(slot)).unwrap();
    let reachable: std::collections::BTreeSet<usize> =
        live.iter().map(|(at, _)| at.page.get() as usize).collect();
    assert!(reachable.iter().all(|slot| needed.contains(slot)), "every page of the layer above is covered");
    let (mut healed, mut unchanged) = (std::collections::BTreeMap::<(u8, bool), u64>::new(), 0);
    for slot in needed {
        for how in DAMAGES {
            let mut now = whole.clone();
            if !damage(&mut now, slot, how, &old, idle, &mut dice) {
                unchanged += 1;
                continue;
            }
            let kind = kind_at(&whole, slot);
            let copy = image_of(&now);
            if kind < 200 {
                // Read without being written, a damaged file reads as it did.
                let file = open_as(&copy, Access::ReadOnly);
                if reachable.contains(&slot) {
                    let (at, tag) = live.iter().find(|(at, _)| at.page.get() as usize == slot).unwrap();
                    assert!(reads(&file, *at, *tag).unwrap(), "{how:?} of page {slot}");
                }
                assert_eq!(bytes(&copy), now, "nothing is written");
                let report = scrub(&file, false);
                assert_eq!(report.finding_count, 1, "{how:?} of page {slot} of kind {kind}: {report:?}");
                assert_eq!(report.unrepairable, 0, "{how:?} of page {slot} of kind {kind}: {report:?}");
            }
            let file = open_as(&copy, Access::Write);
            let found = scrub(&file, true).finding_count + file.open_report().healed.len() as u64;
            assert_eq!(found, 1, "{how:?} of page {slot} of kind {kind}: {:?}", file.open_report());
            assert_whole(&file);
            drop(file);
            let mut after = bytes(&copy);
            // The slot that nobody needs has what the swap brought there.
            after[idle * PAGE..][..PAGE].copy_from_slice(&whole[idle * PAGE..][..PAGE]);
            assert!(after == whole, "{how:?} of page {slot} of kind {kind} is healed byte for byte");
            *healed.entry((kind, reachable.contains(&slot))).or_default() += 1;
        }
    }
    println!("healed by (kind, reachable): {healed:?}; {unchanged} damages changed nothing");
    for kind in [(1, false), (2, false), (3, false), (16, true), (16, false), (200, false), (201, false)] {
        assert!(healed.get(&kind).is_some_and(|count| *count > 4), "{kind:?}: {healed:?}");
    }
}

/// Members of one group, in pairs: both are named, nothing is guessed, nothing is written, the rest reads.
#[test]
fn two_losses_in_a_group_are_reported_with_both_pages() {
    let (disk, file, live) = aged(3);
    drop(file);
    let whole = bytes(&disk);
    let mut dice = Dice::new(4);
    let mut pairs = 0;
    for (place, (first, _)) in live.iter().enumerate().step_by(7) {
        let same = |at: &PageRef| {
            at.page.get() / 1_024 == first.page.get() / 1_024 && at.page.get() % 32 == first.page.get() % 32
        };
        let Some((second, _)) = live[place + 1..].iter().find(|(at, _)| same(at)) else { continue };
        pairs += 1;
        let how = DAMAGES[pairs % 4];
        let mut now = whole.clone();
        for at in [first, second] {
            assert!(
                damage(&mut now, at.page.get() as usize, how, &[], 70, &mut dice)
                    || matches!(how, Damage::Swap)
            );
        }
        let copy = image_of(&now);
        let file = open_as(&copy, Access::Write);
        let broken = [first.page, second.page];
        for (at, tag) in &live {
            match file.read(*at) {
                Ok(_) => assert!(reads(&file, *at, *tag).unwrap()),
                Err(PageError::TwoLosses { page, other, .. }) => {
                    assert!(
                        broken.contains(&page) && broken.contains(&other) && page != other,
                        "{page} {other}"
                    );
                }
                Err(error) => panic!("{how:?}: {error}"),
            }
            assert_eq!(file.read(*at).is_err(), broken.contains(&at.page), "{at}");
        }
        let report = scrub(&file, true);
        let both = report.findings.iter().any(|finding| {
            matches!(finding, ScrubFinding::TwoLosses { page, other, .. } if broken.contains(page) && broken.contains(other))
        });
        assert!(both && report.unrepairable == 1, "{report:?}");
        for at in broken {
            let slot = at.get() as usize * PAGE;
            assert_eq!(bytes(&copy)[slot..][..PAGE], now[slot..][..PAGE], "nothing is guessed");
        }
    }
    assert!(pairs > 20, "{pairs}");
}
