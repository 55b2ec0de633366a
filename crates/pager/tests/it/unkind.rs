//! Disks that are full or fail: what is committed stays, and work goes on or is refused.

use std::sync::Arc;

use keepstone_pager::{Access, PageError, PageFile, PageRead, PageWrite, PageWriteExt, Root};
use keepstone_types::PageRef;
use keepstone_vfs::Vfs;
use keepstone_vfs::simulated::{Dice, FailedSync, Fault, SimulatedDisk, Tearing};

use crate::support::*;

fn disk_with_pages() -> (SimulatedDisk, Arc<dyn Vfs>, PageFile, Vec<PageRef>) {
    let disk = SimulatedDisk::new(1);
    let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
    let file = create_on(&shared);
    let pages = commit(&file, 0..48);
    (disk, shared, file, pages)
}

/// Replaces one page and writes others far apart, so that there is more than one write.
fn change(file: &PageFile, pages: &mut Vec<PageRef>) -> Result<Arc<Root>, PageError> {
    let mut writer = file.begin()?;
    let mut after = pages.clone();
    let old = after.remove(0);
    writer.free(old.page, old.birth)?;
    for tag in 0..8 {
        let run = writer.allocate(3)?;
        after.push(writer.write(run.first, KIND, &payload(100 + tag))?);
    }
    *pages = after;
    writer.commit(b"changed")
}

#[test]
fn a_write_that_fails_before_the_header_takes_everything_back() {
    let (mut refused, mut poisoned) = (0, 0);
    for number in 0..40 {
        let (disk, shared, file, mut pages) = disk_with_pages();
        let before = pages.clone();
        disk.inject(Fault::FailWrite(disk.changes() + number));
        match change(&file, &mut pages) {
            Ok(_) => {
                assert!(number > 4, "the fault struck nothing");
                break;
            }
            Err(PageError::Io(_)) if file.is_poisoned() => {
                poisoned += 1;
                assert!(matches!(file.begin(), Err(PageError::Poisoned)));
                assert!(file.read(before[1]).is_ok());
                // The outcome is not known: a copy of the header may be there.
                let file = open_on(&shared, Access::Write).unwrap();
                let is_there = file.root().generation().get() == 3;
                assert_sound(&file, if is_there { &pages } else { &before });
            }
            Err(PageError::Io(_)) => {
                refused += 1;
                assert_eq!(file.root().generation().get(), 2);
                assert_sound(&file, &before);
                pages = before;
                change(&file, &mut pages).unwrap();
                assert_sound(&file, &pages);
                assert_sound(&open_on(&shared, Access::Write).unwrap(), &pages);
            }
            Err(error) => panic!("write {number}: {error}"),
        }
    }
    assert!(
        refused >= 3 && poisoned == 3,
        "{refused} writes of pages, {poisoned} headers, once asked for at the sync before"
    );
}

#[test]
fn a_full_disk_takes_everything_back() {
    let mut refused = 0;
    for room in 0..40 {
        let (disk, shared, file, mut pages) = disk_with_pages();
        let before = pages.clone();
        disk.set_capacity(Some(disk.used() + room * 4_096));
        match change(&file, &mut pages) {
            Ok(_) => break,
            Err(PageError::OutOfSpace { source }) => {
                refused += 1;
                assert!(source.is_out_of_space());
                assert!(!file.is_poisoned());
                assert_sound(&file, &before);
                assert_sound(&open_on(&shared, Access::Write).unwrap(), &before);
                disk.set_capacity(None);
                pages = before;
                change(&file, &mut pages).unwrap();
                assert_sound(&file, &pages);
            }
            Err(error) => panic!("room {room}: {error}"),
        }
    }
    assert!(refused > 10, "{refused} sizes of disk were too small");
}

#[test]
fn a_sync_that_fails_poisons_and_reads_go_on() {
    for (number, reads_back) in [(0, true), (0, false), (1, true), (1, false)] {
        let (disk, shared, file, mut pages) = disk_with_pages();
        let before = pages.clone();
        // The second sync is the one behind the header.
        let changes = disk.changes();
        let syncs_at = |number: u64| if number == 0 { changes } else { changes + 4 };
        let held = file.root();
        let fault = Fault::FailSync(syncs_at(number), FailedSync { reads_back });
        disk.inject(fault);
        let failed = change(&file, &mut pages);
        assert!(matches!(failed, Err(PageError::Io(_))), "{failed:?}");
        assert!(file.is_poisoned() && matches!(file.begin(), Err(PageError::Poisoned)));
        assert!(matches!(file.shrink(), Err(PageError::Poisoned)));
        assert_eq!(file.root().generation(), held.generation());
        for (tag, at) in before.iter().enumerate() {
            assert!(reads(&file, *at, tag as u64).unwrap());
        }
        disk.heal();
        let file = open_on(&shared, Access::Write).unwrap();
        let is_there = file.root().generation().get() == 3;
        assert!(number == 1 || !is_there, "a header is written behind the first sync");
        let mut found = if is_there { pages } else { before };
        assert_sound(&file, &found);
        // What opening has shown is on the disk, not only in a cache that counts it as written.
        let lost: Arc<dyn Vfs> = Arc::new(disk.power_loss(Tearing::LoseAll, &mut Dice::new(1), 1));
        let again = open_on(&lost, Access::Write).unwrap();
        assert_eq!(again.root().generation(), file.root().generation(), "sync {number}, {reads_back}");
        assert_sound(&again, &found);
        let after = change(&file, &mut found).unwrap();
        assert_eq!(after.meta(), b"changed");
    }
}

/// Every change that opening makes may fail; then it is opened again, and nothing is missing.
#[test]
fn an_opening_that_fails_can_be_tried_again() {
    let mut failed = 0;
    for number in 0..20 {
        for sync in [true, false] {
            let (disk, shared, file, pages) = disk_with_pages();
            drop(file);
            // A copy of each to be healed.
            assert!(disk.zero_sector(FILE.as_ref(), 0) && disk.zero_sector(FILE.as_ref(), 62 * 8));
            let at = disk.changes() + number;
            disk.inject(if sync {
                Fault::FailSync(at, FailedSync { reads_back: number % 2 == 0 })
            } else {
                Fault::FailWrite(at)
            });
            let first = open_on(&shared, Access::Write);
            failed += u64::from(first.is_err());
            drop(first);
            disk.heal();
            let lost: Arc<dyn Vfs> = Arc::new(disk.power_loss(Tearing::Noise, &mut Dice::new(number), 1));
            for disk in [&lost, &shared] {
                assert_sound(&open_on(disk, Access::Write).unwrap(), &pages);
            }
        }
    }
    assert!(failed > 10, "{failed} openings failed");
}

#[test]
fn a_sector_that_cannot_be_read_is_an_error_of_the_disk_or_healed_from_the_copy() {
    let (disk, shared, file, pages) = disk_with_pages();
    let at = pages[4];
    drop(file);
    for slot in [0, 1, at.page.get()] {
        disk.inject(Fault::BadSector(FILE.into(), slot * 8 + 1));
    }
    let file = open_on(&shared, Access::Write).unwrap();
    assert_eq!(file.open_report().healed, ["the prologue in slot 0", "the header in slot 1"]);
    assert!(matches!(file.read(at), Err(PageError::Io(_))));
    assert!(file.read(pages[3]).is_ok());
    disk.heal();
    assert!(file.read(at).is_ok());
}

#[test]
fn dropping_a_writer_that_failed_leaves_the_map_as_it_was() {
    let (_disk, _shared, file, pages) = disk_with_pages();
    let stats = file.stats();
    let mut writer = file.begin().unwrap();
    for at in &pages {
        writer.free(at.page, at.birth).unwrap();
    }
    for tag in 0..50 {
        writer.put(KIND, &payload(tag)).unwrap();
    }
    drop(writer);
    let after = file.stats();
    assert_eq!((after.used_slots, after.file_bytes), (stats.used_slots, stats.file_bytes));
    assert_sound(&file, &pages);
}
