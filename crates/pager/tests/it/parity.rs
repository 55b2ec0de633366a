//! Parity: what is lost is rebuilt, what cannot be is said, and what stands on the disk is what is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keepstone_pager::{
    Access, AuditFinding, PageError, PageFile, PageFileOptions, PageRead, PageWrite, PageWriteExt, Parity,
    ScrubFinding, ScrubOptions, ScrubReport,
};
use keepstone_types::sync::Mutex;
use keepstone_types::{Generation, PageRef, lock_rank};
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
    assert!(report.complete && report.headers);
    report
}

fn assert_whole(file: &PageFile) {
    let report = scrub(file, false);
    assert_eq!(report.findings, []);
}

/// A page of noise: no damage leaves it as it is.
fn full(tag: u64) -> Vec<u8> {
    let mut dice = Dice::new(tag);
    (0..PAGE / 8 - 5).flat_map(|_| dice.draw().to_le_bytes()).collect()
}

fn reads_full(file: &PageFile, at: PageRef, tag: u64) -> bool {
    file.read(at).unwrap_or_else(|error| panic!("{error}")).payload() == full(tag)
}

/// Pages with numbers.
type Live = Vec<(PageRef, u64)>;

fn refs(live: &Live) -> Vec<PageRef> {
    live.iter().map(|(at, _)| *at).collect()
}

fn assert_reads(file: &PageFile, live: &Live) {
    for (at, tag) in live {
        assert!(reads_full(file, *at, *tag), "{at}");
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
        live[place] = (writer.put(KIND, &full(*tag)).unwrap(), *tag);
    }
    for _ in 0..added {
        *tag += 1;
        live.push((writer.put(KIND, &full(*tag)).unwrap(), *tag));
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

/// The slots that a scrub calls damaged when all of these are overwritten: those that are needed.
fn needed_of(whole: &[u8], slots: &[usize]) -> BTreeSet<usize> {
    let mut now = whole.to_vec();
    for slot in slots {
        now[slot * PAGE..][..PAGE].iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    let report = scrub(&open_as(&image_of(&now), Access::ReadOnly), false);
    let found = |finding: &ScrubFinding| match finding {
        ScrubFinding::Repairable { page, .. } => page.get() as usize,
        other => panic!("{other}"),
    };
    assert_eq!(report.finding_count, report.findings.len() as u64);
    report.findings.iter().map(found).collect()
}

/// Every page of a file that is needed, in sets of which each group has at most one.
fn sets_of_single_losses(whole: &[u8]) -> Vec<(u8, Vec<usize>)> {
    let slots = whole.len() / PAGE;
    let of_kind = |kinds: std::ops::RangeInclusive<u8>| -> Vec<usize> {
        (64..slots).chain(3..61).filter(|slot| kinds.contains(&whole[slot * PAGE + 14])).collect()
    };
    let mut sets: Vec<(u8, Vec<usize>)> = Vec::new();
    for row in 0..32 {
        let members = of_kind(16..=255).into_iter().filter(|slot| slot / 32 % 32 == row).collect::<Vec<_>>();
        sets.push((16, needed_of(whole, &members).into_iter().collect()));
    }
    sets.push((3, needed_of(whole, &of_kind(3..=3)).into_iter().collect()));
    for kind in [1, 2] {
        for slot in of_kind(kind..=kind) {
            sets.push((kind, needed_of(whole, &[slot]).into_iter().collect()));
        }
    }
    sets.extend([0, 61].map(|slot| (200, vec![slot])));
    sets.extend([1, 2, 62, 63].map(|slot| (201, vec![slot])));
    sets.retain(|(_, set)| !set.is_empty());
    sets
}

/// Every page, whatever it is, and whatever happens to it: found, read all the same, repaired, and the file is byte for byte
/// as it was.
#[test]
fn every_page_is_healed_of_every_damage() {
    let (disk, file, mut live) = aged(11);
    let old = bytes(&disk);
    let (mut tag, mut dice) = (1 << 40, Dice::new(5));
    // Everything is rewritten at least once, so that an old image of nearly every slot is another page.
    for _ in 0..12 {
        churn(&file, &mut live, &mut dice, 400, 0, &mut tag);
    }
    let dead = file.stats().dead_slots;
    drop(file);
    // Opening writes both copies of the header again, so nothing else changes below.
    drop(open_as(&disk, Access::Write));
    let whole = bytes(&disk);
    assert_whole(&open_as(&disk, Access::ReadOnly));
    let sets = sets_of_single_losses(&whole);
    let by_slot: BTreeMap<usize, (PageRef, u64)> =
        live.iter().map(|(at, tag)| (at.page.get() as usize, (*at, *tag))).collect();
    let members: BTreeSet<usize> =
        sets.iter().filter(|(kind, _)| *kind == 16).flat_map(|(_, set)| set.clone()).collect();
    assert!(by_slot.keys().all(|slot| members.contains(slot)), "every page of the layer above is counted");
    assert!(dead > 0 && members.len() as u64 > live.len() as u64, "and dead ones, {dead}, are");
    let (mut healed, mut unchanged) = (BTreeMap::<u8, u64>::new(), 0);
    for (kind, set) in &sets {
        for how in DAMAGES {
            let mut now = whole.clone();
            // Behind the end there are pages of other slots, to be swapped with.
            let tail = now.len() / PAGE;
            now.extend_from_slice(&whole[64 * PAGE..][..set.len() * PAGE]);
            let struck: Vec<usize> = set
                .iter()
                .enumerate()
                .filter(|(nth, slot)| damage(&mut now, **slot, how, &old, tail + nth, &mut dice))
                .map(|(_, slot)| *slot)
                .collect();
            unchanged += set.len() - struck.len();
            if struck.is_empty() {
                continue;
            }
            let copy = image_of(&now);
            if *kind < 200 {
                let file = open_as(&copy, Access::ReadOnly);
                for (at, tag) in struck.iter().filter_map(|slot| by_slot.get(slot)) {
                    assert!(reads_full(&file, *at, *tag), "{how:?} of {at}");
                }
                assert!(bytes(&copy) == now, "nothing is written by who may only read");
                let report = scrub(&file, false);
                let found = report.findings.iter().map(|finding| match finding {
                    ScrubFinding::Repairable { page, .. } => page.get() as usize,
                    other => panic!("{how:?} of kind {kind}: {other}"),
                });
                assert_eq!(
                    found.collect::<BTreeSet<_>>(),
                    struck.iter().copied().collect(),
                    "{how:?} of kind {kind}"
                );
            }
            let file = open_as(&copy, Access::Write);
            let found = scrub(&file, true).finding_count + file.open_report().healed.len() as u64;
            assert_eq!(
                found,
                struck.len() as u64,
                "{how:?} of {struck:?} of kind {kind}: {:?}",
                file.open_report()
            );
            assert_whole(&file);
            drop(file);
            assert!(bytes(&copy)[..whole.len()] == whole, "{how:?} of kind {kind} is healed byte for byte");
            *healed.entry(*kind).or_default() += struck.len() as u64;
        }
    }
    println!("damages healed by kind: {healed:?}; {unchanged} changed nothing");
    assert_eq!(healed.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 16, 200, 201]);
}

/// Members of one group, in pairs: both are named, nothing is guessed, nothing is written, the rest reads.
#[test]
fn two_losses_in_a_group_are_reported_with_both_pages() {
    let (disk, file, live) = aged(3);
    drop(file);
    let mut whole = bytes(&disk);
    let mut dice = Dice::new(4);
    // The slots behind the end: nobody needs them, and a swap brings in zeros.
    let mut pairs = 0;
    let mut idle = whole.len() / PAGE;
    whole.resize(whole.len() + 2_000 * PAGE, 0);
    for (place, (first, _)) in live.iter().enumerate().step_by(7) {
        let same = |at: &PageRef| {
            at.page.get() / 1_024 == first.page.get() / 1_024 && at.page.get() % 32 == first.page.get() % 32
        };
        let Some((second, _)) = live[place + 1..].iter().find(|(at, _)| same(at)) else { continue };
        pairs += 1;
        let how = DAMAGES[pairs % 5];
        let mut now = whole.clone();
        for (half, at) in [first, second].into_iter().enumerate() {
            assert!(
                damage(&mut now, at.page.get() as usize, how, &[], idle + half, &mut dice)
                    || matches!(how, Damage::Swap)
            );
        }
        idle += 2;
        let copy = image_of(&now);
        let file = open_as(&copy, Access::Write);
        let broken = [first.page, second.page];
        for (at, tag) in &live {
            match file.read(*at) {
                Ok(_) => assert!(reads_full(&file, *at, *tag)),
                Err(PageError::TwoLosses { page, other, .. }) => {
                    let message = file.read(*at).unwrap_err().to_string();
                    assert!(
                        broken.contains(&page) && broken.contains(&other) && page != other,
                        "{how:?} of {broken:?}: {message}"
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

/// Pages are damaged while readers read and a writer commits: every read is right, and at the end everything is repaired.
#[test]
fn what_is_damaged_under_load_is_healed_under_load() {
    const READERS: usize = 4;
    let (disk, file, mut live) = aged(21);
    let published = Arc::new(Mutex::new(lock_rank::MVCC_LAYERS, (file.root(), live.clone())));
    let (done, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let (file, published) = (file.clone(), Arc::clone(&published));
            let (done, read) = (Arc::clone(&done), Arc::clone(&read));
            std::thread::spawn(move || {
                let mut dice = Dice::new(number as u64);
                while !done.load(Ordering::Acquire) {
                    let (_root, live) = published.lock().clone();
                    for _ in 0..50 {
                        let (at, tag) = live[dice.choose(live.len() as u64) as usize];
                        assert!(reads_full(&file, at, tag), "{at}");
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let scrubber = {
        let (file, done) = (file.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut rounds = 0;
            while !done.load(Ordering::Acquire) {
                let options = ScrubOptions::default().repair(true);
                let report = file.scrub(&options, |_| ControlFlow::Continue(())).unwrap();
                assert_eq!(report.unrepairable, 0, "{report:?}");
                rounds += 1;
            }
            rounds
        })
    };
    let (mut tag, mut dice, mut struck) = (1 << 40, Dice::new(77), 0);
    for _ in 0..60 {
        // Who repairs holds the writer for a moment: nobody is refused for that.
        churn(&file, &mut live, &mut dice, 40, 0, &mut tag);
        *published.lock() = (file.root(), live.clone());
        // One page of the newest generation; a second in its group is only struck when the first is whole again.
        let (at, _) = live[dice.choose(live.len() as u64) as usize];
        overwrite(&disk, at.page.get() as usize * PAGE + 100, &[0xEE; 300]);
        struck += 1;
        while !is_whole_on_disk(&disk, at) {
            // The writer's next generation writes what readers and the scrubber have found.
            file.repair().unwrap();
            file.read(at).unwrap();
        }
    }
    done.store(true, Ordering::Release);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let rounds = scrubber.join().unwrap();
    assert_reads(&file, &live);
    assert_whole(&file);
    let stats = file.stats();
    println!("{struck} pages struck, {} reads, {rounds} scrubs, {stats:?}", read.load(Ordering::Relaxed));
    assert!(stats.repaired_pages >= struck && stats.unrepairable_pages == 0 && stats.failed_repairs == 0);
}

/// Every group is added up by an audit, which names the page that is not what was counted.
#[test]
fn an_audit_adds_up_every_group() {
    let (disk, file, live) = aged(5);
    let sound = audit(&file, &refs(&live));
    assert!(sound.findings.is_empty() && sound.parity_groups > 30, "{sound:?}");
    let whole = bytes(&disk);
    let (mut members, mut parities) = (0, 0);
    // All but the prologue and the headers.
    for slot in (3..61).chain(64..whole.len() / PAGE) {
        let damaged = image_of(&whole);
        overwrite(&damaged, slot * PAGE + 900, &[!whole[slot * PAGE + 900]]);
        let found = audit(&open_as(&damaged, Access::ReadOnly), &refs(&live));
        let is_live = live.iter().any(|(at, _)| at.page.get() == slot as u64);
        let kind = whole[slot * PAGE + 14];
        let named = |finding: &AuditFinding| match finding {
            AuditFinding::Parity { page, region, column, .. } => {
                // A member names its own group; a parity page that of its members.
                let own = (slot as u32 / 1_024, slot % 32);
                page.get() == slot as u64 && ((*region, *column) == own) == is_live
            }
            _ => false,
        };
        members += u64::from(is_live);
        parities += u64::from(kind == 3 && found.findings.iter().any(named));
        assert!(!is_live || found.findings.iter().any(named), "slot {slot}: {found:?}");
    }
    assert!(members == live.len() as u64 && parities >= sound.parity_groups, "{members}, {parities}");
}

/// With the map parity begins anew, so what it can rebuild is rebuilt before, whether somebody reads it or not.
#[test]
fn a_map_that_is_made_anew_loses_nothing_that_parity_had() {
    let (disk, _, live) = aged(6);
    let whole = bytes(&disk);
    for (at, tag) in live.iter().step_by(9) {
        let damaged = image_of(&whole);
        overwrite(&damaged, at.page.get() as usize * PAGE + 300, &[0xEE; 300]);
        let file = open_as(&damaged, Access::Write);
        file.rebuild_free_space::<PageError>(|audit| mark(audit, &refs(&live))).unwrap();
        assert!(reads_full(&file, *at, *tag), "{at}");
        while !file.set_parity(Parity::Xor).map(|()| true).unwrap() {}
        assert_eq!(audit(&file, &refs(&live)).findings, []);
    }
}

fn is_whole_on_disk(disk: &MemoryVfs, at: PageRef) -> bool {
    let slot = disk.open(Path::new(FILE), OpenOptions::READ).unwrap();
    let mut page = [0; PAGE];
    slot.read_exact_at(&mut page, at.page.get() * PAGE as u64).unwrap();
    page[100..400] != [0xEE; 300]
}

/// On, off and on again, step by step, with commits between, opened again after each: nothing is lost, and what is counted is
/// right at every step.
#[test]
fn parity_is_turned_on_and_off_while_the_file_is_in_use() {
    let disk = MemoryVfs::new();
    let off = small().cache_bytes(0);
    let file = PageFile::create(vfs(&disk), Path::new(FILE), store(), off).unwrap();
    let (mut live, mut tag, mut dice) = (Live::new(), 0, Dice::new(1));
    churn(&file, &mut live, &mut dice, 0, 3_000, &mut tag);
    for _ in 0..5 {
        churn(&file, &mut live, &mut dice, 200, 0, &mut tag);
    }
    let mut file = file;
    for parity in [Parity::Xor, Parity::Off, Parity::Xor] {
        let root = file.root();
        file.set_parity(parity).unwrap();
        assert!(file.root().generation() > root.generation());
        assert_eq!(file.parity(), parity);
        drop(root);
        assert_whole(&file);
        assert_sound(&file, &refs(&live));
        let kept = file.stats();
        for _ in 0..6 {
            churn(&file, &mut live, &mut dice, 100, 10, &mut tag);
            assert_whole(&file);
            assert_sound(&file, &refs(&live));
        }
        drop(file);
        file = open_as(&disk, Access::Write);
        assert_eq!(file.parity(), parity);
        assert_reads(&file, &live);
        for (at, tag) in live.iter().step_by(101) {
            let copy = disk.snapshot();
            overwrite(&copy, at.page.get() as usize * PAGE + 200, &[0x5A; 64]);
            let read = open_as(&copy, Access::ReadOnly);
            match parity {
                Parity::Xor => assert!(reads_full(&read, *at, *tag)),
                _ => assert!(matches!(read.read(*at), Err(PageError::Damaged { .. }))),
            }
        }
        assert!(parity == Parity::Xor || kept.dead_slots == 0, "{kept:?}");
    }
}

/// Parity takes a thirty-second of what it protects, and the second copies of the map two pages of a thousand.
#[test]
fn parity_takes_a_thirty_second() {
    let (_, file) = create_with_parity();
    let (mut live, mut tag, mut dice) = (Live::new(), 0, Dice::new(1));
    let pages = 30_000;
    churn(&file, &mut live, &mut dice, 0, pages, &mut tag);
    assert_whole(&file);
    let extra = file.stats().used_slots - pages;
    assert!(extra <= pages / 32 + pages / 512 + 50, "{extra} slots beside {pages} pages");
    assert!(file.stats().file_bytes / PAGE as u64 <= pages + pages / 32 + pages / 512 + 1_100);
}

/// A scrub goes at the pace it is given, says how far it is, stops when asked and goes on from there.
#[test]
fn a_scrub_is_paced_and_resumed() {
    let (_disk, file, _) = aged(9);
    let bytes = scrub(&file, false).bytes;
    let began = std::time::Instant::now();
    let options = ScrubOptions::default().bytes_per_second(bytes * 4);
    let mut last = 0;
    let report = file.scrub(&options, |progress| {
        assert!(progress.slots >= last && progress.slots <= progress.of);
        last = progress.slots;
        ControlFlow::Continue(())
    });
    assert!(report.unwrap().complete && last * PAGE as u64 == file.stats().file_bytes);
    assert!(began.elapsed() >= std::time::Duration::from_millis(240), "{:?}", began.elapsed());
    let mut reads = 0;
    let stopped = file.scrub(&ScrubOptions::default(), |_| {
        reads += 1;
        if reads == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let stopped = stopped.unwrap();
    assert!(!stopped.complete && stopped.next_region == 1, "{stopped:?}");
    let options = ScrubOptions::default().from_region(stopped.next_region);
    let rest = file.scrub(&options, |_| ControlFlow::Continue(())).unwrap();
    assert!(rest.complete && !rest.headers && rest.bytes < bytes);
}

/// The disk itself is read, not what the system keeps of it in memory.
#[test]
fn a_scrub_reads_past_the_cache_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    let vfs: Arc<dyn Vfs> = Arc::new(keepstone_vfs::OsVfs::new());
    let file = PageFile::create(Arc::clone(&vfs), &path, store(), options()).unwrap();
    let (mut live, mut tag, mut dice) = (Live::new(), 0, Dice::new(1));
    churn(&file, &mut live, &mut dice, 0, 300, &mut tag);
    let report = scrub(&file, true);
    assert_eq!(report.findings, []);
    println!("past the cache of the system: {}", report.past_cache);
    let at = live[7].0;
    let other = vfs.open(&path, OpenOptions::WRITE).unwrap();
    other.write_all_at(&[1; 64], at.page.get() * PAGE as u64 + 77).unwrap();
    assert_eq!(scrub(&file, true).finding_count, 1);
    assert_whole(&file);
}

/// Random changes reach a size that stays, and write few parity pages: dead members leave as fast as pages die.
#[test]
fn random_changes_reach_a_steady_size() {
    let (_disk, file) = create_with_parity();
    let (mut live, mut tag, mut dice) = (Live::new(), 0, Dice::new(21));
    churn(&file, &mut live, &mut dice, 0, 700, &mut tag);
    for _ in 0..60 {
        churn(&file, &mut live, &mut dice, 60, 0, &mut tag);
    }
    let stats = file.stats();
    println!("{stats:?}");
    assert!(stats.file_bytes / PAGE as u64 <= 1_400, "{stats:?}");
    assert!(stats.parity_pages_written <= 60 * 60 / 4, "{stats:?}");
}
