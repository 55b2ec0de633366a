//! A real store, each of whose pages is damaged in turn in five ways: every damage is found, everything reads as before without
//! a repair, and after it the file is what it was. Two losses of a group are reported with both pages, and nothing is guessed.
//!
//! `KEEPSTONE_DAMAGE_NODES` makes the store larger.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keepstone::{
    Access, Direction, Fingerprint, MemoryVfs, NodePatch, OpenError, Parity, Read, ReadError, ScrubOptions,
    ScrubReport, Store, StoreOptions,
};
use keepstone_vfs::{OpenOptions, Vfs, VfsFileExt};

use crate::{Disk, assert_sound};

const PAGE: usize = 4_096;
/// Slots that lie so far apart are in one group.
const GROUPS: usize = 32;
/// Where a page says what it is, and the kind of a leaf.
const KIND_AT: usize = 14;
const KIND_LEAF: u8 = 16;
/// Prologue and headers.
const FIXED: [usize; 6] = [0, 1, 2, 61, 62, 63];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Bit,
    Sector,
    Swapped,
    Overwritten,
    /// A write that never arrived: what was there before.
    Lost,
}

const DAMAGES: [Damage; 5] =
    [Damage::Bit, Damage::Sector, Damage::Swapped, Damage::Overwritten, Damage::Lost];

fn options() -> StoreOptions {
    StoreOptions::new()
        .parity(Parity::Xor)
        .page_size(4_096)
        .cache_bytes(1 << 20)
        .checkpoint_memory_bytes(0)
        .checkpoint_log_bytes(0)
        .checkpoint_age(Duration::ZERO)
        .checkpoint_idle(Duration::ZERO)
}

fn nodes_wanted() -> u64 {
    std::env::var("KEEPSTONE_DAMAGE_NODES").map_or(70, |nodes| nodes.parse().unwrap())
}

/// Bytes that no damage leaves as they are.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| step()).collect()
}

fn key(number: u64) -> String {
    format!("node {number:05}")
}

fn write(store: &Store, numbers: impl Iterator<Item = u64> + Clone, round: u64) {
    let nodes = store.collection::<Vec<u8>>("nodes").unwrap();
    let put = |txn: &mut _, number: u64| {
        let seed = number << 8 | round;
        // Some bodies have pages of their own.
        let len = if number.is_multiple_of(23) { 14_000 } else { 120 };
        let numbers = noise(seed + 2, 32);
        let patch = NodePatch::body(noise(seed, len))
            .fingerprint(Fingerprint::from_bytes(noise(seed + 1, 64)).unwrap())
            .embedding(numbers.into_iter().map(f32::from).collect::<Vec<f32>>());
        nodes.put_node(txn, &key(number), &patch)?;
        nodes.link(txn, &key(number), "next", &key(number + 1), 0.5).map(drop)
    };
    store.write(|txn| numbers.clone().try_for_each(|number| put(txn, number))).unwrap();
    store.checkpoint().unwrap();
}

/// A closed store with older versions, a branch, large values and dead pages; and its page file one checkpoint earlier.
fn made() -> (MemoryVfs, Vec<u8>) {
    made_of(nodes_wanted())
}

fn made_of(all: u64) -> (MemoryVfs, Vec<u8>) {
    let disk = Disk::new();
    let store = disk.open_as(&options()).unwrap();
    for round in 0..3 {
        write(&store, (0..all).filter(|number| round == 0 || number % 5 == round), round);
    }
    store.compact().unwrap();
    let branch = store.fork("branch", store.visible_version()).unwrap();
    let nodes = store.collection::<Vec<u8>>("nodes").unwrap();
    branch.write(|txn| nodes.put(txn, "on the branch", &noise(1, 5_000)).map(drop)).unwrap();
    store.checkpoint().unwrap();
    let before = pages_of(&disk.vfs);
    write(&store, (0..all).step_by(7), 9);
    store.checkpoint().unwrap();
    store.close().unwrap();
    (disk.vfs.snapshot(), before)
}

fn pages_of(vfs: &MemoryVfs) -> Vec<u8> {
    let file = vfs.open(Path::new("/store/pages"), OpenOptions::READ).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    // The store may cut the end of its file in between.
    let got = file.read_up_to_at(&mut bytes, 0).unwrap();
    bytes.truncate(got);
    bytes
}

fn put_slot(vfs: &MemoryVfs, slot: usize, page: &[u8]) {
    let file = vfs.open(Path::new("/store/pages"), OpenOptions::WRITE).unwrap();
    file.write_all_at(page, (slot * PAGE) as u64).unwrap();
}

fn slot_of(bytes: &[u8], slot: usize) -> &[u8] {
    bytes.get(slot * PAGE..(slot + 1) * PAGE).unwrap_or_default()
}

/// Everything that can be read: each node of the newest version, of an older one and of the branch, with its links.
fn content(store: &Store) -> Result<BTreeMap<String, String>, ReadError> {
    let mut content = BTreeMap::new();
    read_into(&mut content, "now", store, store)?;
    let versions = store.visible_version().sequence();
    let older = store.at(keepstone::Version::from_parts(keepstone::Timeline::FIRST, versions / 2).unwrap())?;
    read_into(&mut content, "then", store, &older)?;
    read_into(&mut content, "branch", store, &store.branch("branch")?)?;
    Ok(content)
}

fn read_into(
    content: &mut BTreeMap<String, String>,
    name: &str,
    store: &Store,
    reader: &impl Read,
) -> Result<(), ReadError> {
    let nodes = store.collection::<Vec<u8>>("nodes").unwrap();
    for node in nodes.iter(reader) {
        let node = node?;
        let links = nodes.links(reader, &node.key, Direction::In);
        let links = links.map(|link| link.map(|link| link.key)).collect::<Result<Vec<_>, _>>()?;
        let seen = format!("{:?} {:?} {:?} {links:?}", node.body, node.fingerprint, node.embedding);
        content.insert(format!("{name} {}", node.key), seen);
    }
    Ok(())
}

fn open(vfs: &MemoryVfs) -> Store {
    open_as(vfs, &options())
}

fn open_as(vfs: &MemoryVfs, options: &StoreOptions) -> Store {
    try_open(vfs, options).unwrap()
}

fn try_open(vfs: &MemoryVfs, options: &StoreOptions) -> Result<Store, OpenError> {
    let disk = Disk { vfs: Arc::new(vfs.clone()), ..Disk::new() };
    disk.open_as(options)
}

/// Whether a finding says that a page is damaged.
fn names(finding: &str, slot: usize) -> bool {
    let [first, second] = [format!("page {slot} is damaged"), format!("so is page {slot},")];
    finding.starts_with(&first) || finding.contains(&second)
}

fn scrub(store: &Store) -> ScrubReport {
    store.scrub(&ScrubOptions::default(), |_| ControlFlow::Continue(())).unwrap()
}

/// What is in a slot after a damage; `other` is the page that is mixed up with it, `before` the file at an earlier time.
fn changed(how: Damage, bytes: &[u8], before: &[u8], (slot, other): (usize, usize)) -> Vec<u8> {
    let mut page = slot_of(bytes, slot).to_vec();
    match how {
        Damage::Bit => page[(slot * 131 + 7) % PAGE] ^= 1 << (slot % 8),
        Damage::Sector => page[slot % 8 * 512..][..512].fill(0),
        Damage::Swapped | Damage::Overwritten => page = slot_of(bytes, other).to_vec(),
        Damage::Lost => match slot_of(before, slot) {
            [] => page.fill(0),
            old => page = old.to_vec(),
        },
    }
    page
}

/// Damages a slot in a copy; gives the slots that changed, none if this damage changes nothing.
fn damaged(
    whole: &MemoryVfs,
    bytes: &[u8],
    before: &[u8],
    slot: usize,
    how: Damage,
) -> (MemoryVfs, Vec<usize>) {
    let vfs = whole.snapshot();
    let page = slot_of(bytes, slot);
    let mut slots = vec![slot];
    // Another page with content, in another group.
    let slots_of_file = bytes.len() / PAGE;
    let other = (1..slots_of_file).map(|step| (slot + step * 37) % slots_of_file);
    let mut other =
        other.filter(|other| other % GROUPS != slot % GROUPS && slot_of(bytes, *other)[KIND_AT] >= KIND_LEAF);
    let other = other.find(|other| !FIXED.contains(other)).unwrap();
    let changed = changed(how, bytes, before, (slot, other));
    if how == Damage::Swapped {
        put_slot(&vfs, other, page);
        slots.push(other);
    }
    if changed == page {
        slots.clear();
    }
    put_slot(&vfs, slot, &changed);
    (vfs, slots)
}

#[test]
fn every_page_is_had_back_from_every_damage() {
    let (whole, before) = made();
    let bytes = pages_of(&whole);
    let store = open(&whole.snapshot());
    assert_sound(&store);
    let expected = content(&store).unwrap();
    let in_use = store.check().unwrap().pages;
    drop(store);
    let (mut tally, mut two_losses, mut moved) = (BTreeMap::<Damage, [u64; 3]>::new(), 0_u64, 0_u64);
    let mut needed = BTreeSet::new();
    for slot in 0..bytes.len() / PAGE {
        let mut is_free = false;
        for how in DAMAGES {
            if is_free && how != Damage::Swapped {
                continue;
            }
            let (vfs, slots) = damaged(&whole, &bytes, &before, slot, how);
            let [made, found, healed] = tally.entry(how).or_default();
            *made += u64::from(!slots.is_empty());
            // Nobody repairs in a store that is opened to read.
            let reader = open_as(&vfs.snapshot(), &options().access(Access::ReadOnly));
            let read = content(&reader);
            let seen = scrub(&reader);
            drop(reader);
            if seen.unrepairable > 0 {
                // A parity page and a page of its group were swapped with each other: no damage of one page.
                let named = |slot: &usize| seen.findings.iter().any(|finding| names(finding, *slot));
                assert!(how == Damage::Swapped && slots.iter().all(named), "slot {slot}, {how:?}: {seen:?}");
                two_losses += 1;
                continue;
            }
            assert_eq!(read.unwrap(), expected, "slot {slot}, {how:?}: read without a repair");
            *found += u64::from(seen.finding_count > 0);
            is_free |= how == Damage::Bit && seen.finding_count == 0;
            if how == Damage::Bit && seen.finding_count > 0 {
                needed.insert(slot);
            }
            let store = open(&vfs);
            let report = scrub(&store);
            assert_eq!(report.unrepairable, 0, "slot {slot}, {how:?}: {report:?}");
            let again = scrub(&store);
            assert_eq!(again.finding_count, 0, "slot {slot}, {how:?}: {again:?}");
            assert_eq!(content(&store).unwrap(), expected, "slot {slot}, {how:?}");
            assert_sound(&store);
            drop(store);
            let after = pages_of(&vfs);
            // A slot in which nobody found damage is free; one that a new generation does without may stay as it is.
            let is_same = |slot: usize| slot_of(&after, slot) == slot_of(&bytes, slot);
            let is_new = ![1, 2].into_iter().all(is_same) && !slots.iter().any(|slot| FIXED.contains(slot));
            moved += u64::from(is_new);
            let found_in = slots
                .iter()
                .filter(|slot| !is_new && seen.findings.iter().any(|finding| names(finding, **slot)));
            for slot in found_in {
                assert!(is_same(*slot), "slot {slot}, {how:?} is not what it was");
            }
            *healed += u64::from(seen.finding_count > 0);
        }
    }
    println!(
        "{in_use} of {} pages in use; made, found, healed: {tally:?}; {two_losses} swaps within a group, {moved} new generations meanwhile",
        bytes.len() / PAGE
    );
    // What was found was healed, or the test had ended. What was not found is free: all of it is destroyed at once.
    let vfs = whole.snapshot();
    for slot in (0..bytes.len() / PAGE).filter(|slot| !needed.contains(slot)) {
        assert!(!FIXED.contains(&slot), "slot {slot}");
        put_slot(&vfs, slot, &noise(slot as u64, PAGE));
    }
    let store = open(&vfs);
    assert_eq!(content(&store).unwrap(), expected);
    assert_sound(&store);
    assert_eq!(scrub(&store).finding_count, 0);
    let [_, found, healed] = tally[&Damage::Bit];
    assert!(found == needed.len() as u64 && healed == found && found >= in_use, "{tally:?}");
    assert!(two_losses * 20 < in_use && moved * 5 < in_use, "{two_losses}, {moved}");
}

/// Two pages of a group are lost: both are named, nothing is written to them, and all that does not need them is read.
#[test]
fn two_losses_of_a_group_are_named_and_the_rest_is_read() {
    // Large enough that most groups have two leaves.
    let (whole, before) = made_of(nodes_wanted() * 3);
    let bytes = pages_of(&whole);
    let expected = content(&open(&whole.snapshot())).unwrap();
    let is_leaf = |slot: &usize| slot_of(&bytes, *slot)[KIND_AT] == KIND_LEAF;
    let (mut pairs, mut rest) = (0, 0);
    for column in 0..GROUPS {
        let slots: Vec<usize> = (64 + column..bytes.len() / PAGE).step_by(GROUPS).filter(is_leaf).collect();
        let Some([first, second]) = slots.first_chunk::<2>() else { continue };
        for how in [Damage::Bit, Damage::Sector, Damage::Overwritten] {
            let (vfs, _) = damaged(&whole, &bytes, &before, *first, how);
            let mut page = slot_of(&bytes, *second).to_vec();
            page[1_000] ^= 1;
            put_slot(&vfs, *second, &page);
            let damaged_bytes = pages_of(&vfs);
            let store = match try_open(&vfs, &options()) {
                Ok(store) => store,
                Err(error) => {
                    // Both are needed to open the store.
                    let error = error.to_string();
                    assert!(error.contains(&format!("page {first}")), "{first} and {second}: {error}");
                    assert!(error.contains(&format!("page {second}")), "{first} and {second}: {error}");
                    continue;
                }
            };
            let report = scrub(&store);
            if report.unrepairable == 0 {
                // One of them was free, or in another region.
                assert!(report.finding_count <= 1 || bytes.len() / PAGE > 1_024, "{report:?}");
                continue;
            }
            pairs += 1;
            let named = |slot: &usize| report.findings.iter().any(|finding| names(finding, *slot));
            assert!(named(first) && named(second), "{first} and {second}: {report:?}");
            let nodes = store.collection::<Vec<u8>>("nodes");
            let Ok(nodes) = nodes else { continue };
            for (name, seen) in
                expected.iter().filter_map(|(name, seen)| Some((name.strip_prefix("now ")?, seen)))
            {
                match nodes.node(&store, name) {
                    Ok(node) => {
                        let node = node.unwrap();
                        assert!(
                            seen.starts_with(&format!("{:?} {:?}", node.body, node.fingerprint)),
                            "{name}"
                        );
                        rest += 1;
                    }
                    Err(ReadError::DamagedFile { .. }) => {}
                    Err(error) => panic!("{name}: {error}"),
                }
            }
            drop(store);
            let after = pages_of(&vfs);
            for slot in [first, second] {
                assert_eq!(slot_of(&after, *slot), slot_of(&damaged_bytes, *slot), "nothing is guessed");
            }
        }
    }
    println!("{pairs} pairs, {rest} nodes read beside them");
    assert!(pairs >= 10 && rest > pairs * 50, "{pairs}, {rest}");
}

/// A flag that is raised when this goes.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Damage of all five kinds strikes while nodes are read, written and folded: what is read is right, and a scrub heals all.
#[test]
fn damage_under_load_is_healed_under_load() {
    let (vfs, _) = made();
    let store = open(&vfs);
    let expected = Arc::new(content(&store).unwrap());
    let done = AtomicBool::new(false);
    let (reads, commits) = (AtomicU64::new(0), AtomicU64::new(0));
    let all = nodes_wanted();
    let mut struck = BTreeMap::<Damage, u64>::new();
    let mut found = 0;
    std::thread::scope(|scope| {
        // Also when something below fails: or the threads would go on for ever, and nobody see why.
        let _end = Raised(&done);
        for reader in 0..2 {
            let (store, expected, done, reads) = (&store, &expected, &done, &reads);
            scope.spawn(move || {
                let nodes = store.collection::<Vec<u8>>("nodes").unwrap();
                for number in (reader..all).cycle().step_by(3) {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let node =
                        nodes.node(store, &key(number)).unwrap_or_else(|error| panic!("{error}")).unwrap();
                    let seen = &expected[&format!("now {}", key(number))];
                    assert!(seen.starts_with(&format!("{:?} {:?}", node.body, node.fingerprint)), "{number}");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            let others = store.collection::<Vec<u8>>("others").unwrap();
            for round in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let put = |txn: &mut _| others.put(txn, &key(round % 50), &noise(round, 700)).map(drop);
                store.write(put).unwrap();
                commits.fetch_add(1, Ordering::Relaxed);
                if round % 20 == 0 {
                    store.checkpoint().unwrap();
                }
            }
        });
        for (strike, how) in (0..60_u64).zip(DAMAGES.into_iter().cycle()) {
            let bytes = pages_of(&vfs);
            let leaves: Vec<usize> = (64..bytes.len() / PAGE)
                .filter(|slot| slot_of(&bytes, *slot)[KIND_AT] >= KIND_LEAF)
                .collect();
            let slot = leaves[noise(strike, 8)[0] as usize * leaves.len() / 256];
            let other = *leaves.iter().find(|other| **other % GROUPS != slot % GROUPS).unwrap();
            if how == Damage::Swapped {
                put_slot(&vfs, other, slot_of(&bytes, slot));
            }
            // What is lost is lost as if nothing had ever been written there.
            put_slot(&vfs, slot, &changed(how, &bytes, &[], (slot, other)));
            *struck.entry(how).or_default() += 1;
            // Until the next strike all is well again, whoever found it.
            let healed = (0..50).any(|_| {
                let report = scrub(&store);
                assert_eq!(report.unrepairable, 0, "{how:?} of {slot}: {report:?}");
                found += report.finding_count;
                report.finding_count == 0
            });
            assert!(healed, "{how:?} of {slot}");
        }
    });
    let (reads, commits) = (reads.into_inner(), commits.into_inner());
    println!("{struck:?} struck, {found} found by scrubs, {reads} reads and {commits} commits beside");
    assert!(reads > 100 && commits > 100, "{reads}, {commits}");
    assert_sound(&store);
    let after: BTreeSet<_> = content(&store).unwrap().into_iter().collect();
    assert!(
        expected
            .iter()
            .all(|(name, seen)| name.starts_with("then") || after.contains(&(name.clone(), seen.clone())))
    );
}
