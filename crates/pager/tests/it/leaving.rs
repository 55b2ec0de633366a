//! Dead pages that leave parity in the generation that frees them, what memory knows of those that leave, and pages that are
//! written while parity is made.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use keepstone_pager::{
    PageError, PageFile, PageFileOptions, PageRead, PageWrite, PageWriteExt, Parity, ScrubOptions,
};
use keepstone_types::PageRef;
use keepstone_vfs::simulated::{Choose, Dice, FailedSync, Fault, SimulatedDisk};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsFileExt};

use crate::support::*;

const PAGE: u64 = 4_096;

fn create(options: PageFileOptions) -> (MemoryVfs, PageFile) {
    let disk = MemoryVfs::new();
    let file = PageFile::create(vfs(&disk), Path::new(FILE), store(), options.parity(Parity::Xor)).unwrap();
    (disk, file)
}

/// Rewrites so many pages, drawn at random.
fn change(file: &PageFile, live: &mut [PageRef], dice: &mut Dice, count: u64) {
    let mut writer = file.begin().unwrap();
    for _ in 0..count {
        let place = dice.choose(live.len() as u64) as usize;
        if live[place].birth < writer.generation() {
            writer.free(live[place].page, live[place].birth).unwrap();
            live[place] = writer.put(KIND, &payload(dice.draw())).unwrap();
        }
    }
    writer.commit(b"").unwrap();
}

fn findings(file: &PageFile) -> u64 {
    let options = ScrubOptions::default().repair(false);
    file.scrub(&options, |_| ControlFlow::Continue(())).unwrap().finding_count
}

/// What the newest parity counts no more is counted by that of the root that leads to it.
#[test]
fn a_page_that_left_at_once_is_healed_for_who_holds_its_root() {
    let (disk, file) = create(small().cache_bytes(0));
    let mut dice = Dice::new(4);
    let mut live = commit(&file, 0..900);
    (0..20).for_each(|_| change(&file, &mut live, &mut dice, 60));
    let (root, before) = (file.root(), live.clone());
    change(&file, &mut live, &mut dice, 120);
    let bytes = disk.open(Path::new(FILE), OpenOptions::WRITE).unwrap();
    let gone: Vec<PageRef> = before.into_iter().filter(|at| !live.contains(at)).collect();
    let mut left = 0;
    for at in &gone {
        let (offset, mut whole) = (at.page.get() * PAGE + 99, [0]);
        bytes.read_exact_at(&mut whole, offset).unwrap();
        bytes.write_all_at(&[whole[0] ^ 1], offset).unwrap();
        file.read(*at).unwrap_or_else(|error| panic!("{at} of {}: {error}", root.generation()));
        left += u64::from(findings(&file) == 0);
        bytes.write_all_at(&whole, offset).unwrap();
    }
    println!("{left} of {} pages left in the generation that freed them", gone.len());
    assert!(left > 10 && gone.len() > 100, "{left} of {}", gone.len());
    assert_eq!(findings(&file), 0);
}

/// Many pages are written while their parity is made: whichever write or sync fails, the generation is taken back or the file
/// takes no more, and what was there is there.
#[test]
fn a_disk_that_fails_while_parity_is_made_takes_the_generation_back() {
    let begun = |disk: &SimulatedDisk| {
        let options = small().parity(Parity::Xor).cache_bytes(0);
        let file = PageFile::create(Arc::new(disk.clone()), Path::new(FILE), store(), options).unwrap();
        let mut live = commit(&file, 0..600);
        let mut dice = Dice::new(8);
        (0..6).for_each(|_| change(&file, &mut live, &mut dice, 90));
        file.reserve(400).unwrap();
        let mut writer = file.begin().unwrap();
        writer.keep_within_file(true);
        let new: Vec<PageRef> = (0..200).map(|tag| writer.put(KIND, &payload(tag)).unwrap()).collect();
        (file, live, writer, new)
    };
    let steps = {
        let disk = SimulatedDisk::new(3);
        let (_file, _, writer, _) = begun(&disk);
        let before = disk.changes();
        writer.commit(b"").unwrap();
        disk.changes() - before
    };
    assert!(steps > 20, "{steps} changes of the disk");
    let (mut taken_back, mut poisoned) = (0, 0);
    for step in 0..steps {
        for sync in [false, true] {
            let disk = SimulatedDisk::new(3);
            let (file, live, writer, new) = begun(&disk);
            let at = disk.changes() + step;
            disk.inject(if sync {
                Fault::FailSync(at, FailedSync { reads_back: true })
            } else {
                Fault::FailWrite(at)
            });
            let done = writer.commit(b"");
            live.iter().for_each(|at| drop(file.read(*at).unwrap()));
            match (done, file.begin()) {
                (Ok(_), _) => new.iter().for_each(|at| drop(file.read(*at).unwrap())),
                (Err(_), Err(PageError::Poisoned)) => poisoned += 1,
                (Err(_), again) => {
                    drop(again.unwrap());
                    assert_eq!(findings(&file), 0, "step {step}");
                    let again = commit(&file, 1_000..1_200);
                    again.iter().for_each(|at| drop(file.read(*at).unwrap()));
                    taken_back += 1;
                }
            }
            assert_eq!(findings(&file), 0, "step {step}");
        }
    }
    println!("{steps} steps: {taken_back} generations taken back, {poisoned} files poisoned");
    assert!(taken_back > 10 && poisoned >= 2, "{taken_back}, {poisoned}");
}

#[test]
fn what_memory_has_is_not_read_to_be_taken_out() {
    let read = |cache_bytes: u64| {
        let (_disk, file) = create(small().cache_bytes(cache_bytes));
        let (mut dice, mut live) = (Dice::new(5), commit(&file, 0..900));
        (0..30).for_each(|_| change(&file, &mut live, &mut dice, 60));
        assert_eq!(findings(&file), 0);
        file.stats().parity_pages_read
    };
    let (without, with) = (read(0), read(16 << 20));
    // The parity page itself is read, once for each group that changes.
    assert!(with * 2 < without, "{with} pages read with all of them in memory, {without} with none");
}

#[test]
fn everybody_who_has_slots_is_counted() {
    let (_disk, file) = create(small());
    let mut dice = Dice::new(6);
    let mut live = commit(&file, 0..10);
    // A few pages do not make a long file.
    assert!(file.stats().file_bytes / PAGE < 256, "{:?}", file.stats());
    live.extend(commit(&file, 10..2_000));
    for _ in 0..12 {
        change(&file, &mut live, &mut dice, 90);
        let (usage, stats) = (file.slot_usage().unwrap(), file.stats());
        assert_eq!((usage.pages, usage.slots()), (live.len() as u64, stats.file_bytes / PAGE));
        assert_eq!(usage.pages + usage.map + usage.twins + usage.parity, stats.used_slots);
        assert!(usage.twins > 0 && usage.parity >= usage.pages / 32, "{usage:?}");
    }
    let stats = file.slot_usage().unwrap();
    file.set_parity(Parity::Off).unwrap();
    let off = file.slot_usage().unwrap();
    assert_eq!((off.pages, off.parity, off.dead), (stats.pages, 0, 0));
}
