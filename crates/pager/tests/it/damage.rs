//! Damage: found where it is, told from what it is not, mended where there is a copy.

use std::path::Path;
use std::sync::Arc;

use keepstone_pager::{Access, OpenError, PageError, PageFile, PageRead, PageWrite, PageWriteExt};
use keepstone_types::{Generation, PageRef};
use keepstone_vfs::simulated::{Fault, SimulatedDisk};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs};

use crate::support::*;

/// A file of three generations: pages of the second, and one more of the third.
fn filled() -> (MemoryVfs, Vec<PageRef>, Vec<PageRef>) {
    let (disk, file) = create();
    let second = commit(&file, 0..10);
    let mut third = second.clone();
    third.extend(commit(&file, 10..11));
    (disk, second, third)
}

fn assert_holds(file: &PageFile, pages: &[PageRef]) {
    for (tag, at) in pages.iter().enumerate() {
        assert!(reads(file, *at, tag as u64).unwrap());
    }
    assert_sound(file, pages);
}

#[test]
fn one_copy_of_anything_may_be_lost() {
    for (slot, healed) in [
        (0, "the prologue in slot 0"),
        (61, "the prologue in slot 61"),
        (2, "the header in slot 2"),
        (63, "the header in slot 63"),
    ] {
        for change in [vec![0; 4_096], vec![0xA5; 4_096], vec![1]] {
            let (disk, _, pages) = filled();
            let before = bytes(&disk);
            overwrite(&disk, slot * 4_096 + 10, &change[..change.len().min(4_000)]);
            let file = open(&disk).unwrap();
            assert_eq!(file.open_report().healed, [healed]);
            assert!(!file.open_report().fell_back);
            assert_eq!(file.root().generation().get(), 3);
            assert_holds(&file, &pages);
            assert_eq!(bytes(&disk), before, "slot {slot} is as it was");
            assert_eq!(open(&disk).unwrap().open_report().healed, Vec::<String>::new());
        }
    }
}

/// The header of the generation before, one copy or both, is not needed.
#[test]
fn the_older_header_may_be_lost() {
    for slots in [&[1][..], &[62], &[1, 62]] {
        let (disk, _, pages) = filled();
        slots.iter().for_each(|slot| overwrite(&disk, slot * 4_096, &[0; 4_096]));
        let file = open(&disk).unwrap();
        assert_holds(&file, &pages);
        assert_eq!(file.open_report().damaged.len(), slots.len());
        // Mended from its copy; where there is none there is nothing to mend.
        let healed = if slots.len() == 2 { 0 } else { 1 };
        assert_eq!(file.open_report().healed.len(), healed);
        assert_eq!(open(&disk).unwrap().open_report().fell_back, slots.len() == 2);
        assert_eq!(file.open_report().fell_back, slots.len() == 2, "it may have been a newer one");
    }
}

#[test]
fn without_the_newest_header_the_generation_before_is_there() {
    let (disk, second, _) = filled();
    header_slots(3).iter().for_each(|slot| overwrite(&disk, slot * 4_096, &[0; 4_096]));
    let file = open(&disk).unwrap();
    assert_eq!((file.root().generation().get(), file.open_report().fell_back), (2, true));
    assert_holds(&file, &second);
    let mut pages = second;
    for round in 0..4 {
        pages.extend(commit(&file, 10 + round..11 + round));
        assert_holds(&file, &pages);
    }
    let oldest = Generation::new(3).unwrap();
    let (disk, ..) = filled();
    header_slots(3).iter().for_each(|slot| overwrite(&disk, slot * 4_096, &[0; 4_096]));
    let error =
        PageFile::open(vfs(&disk), Path::new(FILE), store(), small(), Access::Write, oldest).unwrap_err();
    let OpenError::NoGeneration { copies, .. } = error else { panic!("{error}") };
    assert_eq!(copies[2..], ["slot 2 holds nothing but zeros", "slot 63 holds nothing but zeros"]);
}

/// A header that cannot be read is not read later either, when its slots are used: it is cleared.
#[test]
fn a_header_that_was_fallen_back_from_does_not_come_back() {
    let disk = SimulatedDisk::new(1);
    let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
    let file = create_on(&shared);
    let second = commit(&file, 0..10);
    commit(&file, 10..30);
    for slot in header_slots(3) {
        disk.inject(Fault::BadSector(FILE.into(), slot as u64 * 8 + 2));
    }
    let file = open_on(&shared, Access::Write).unwrap();
    assert_eq!(file.open_report().healed.len(), 2, "{:?}", file.open_report());
    let mut writer = file.begin().unwrap();
    for tag in 100..120 {
        writer.put(KIND, &payload(tag)).unwrap();
    }
    // Its pages are written over those of the lost generation, and then the power fails.
    disk.inject(Fault::PowerOff(disk.changes() + 2));
    assert!(writer.commit(b"").is_err());
    disk.heal();
    let file = open_on(&shared, Access::Write).unwrap();
    assert_eq!(file.root().generation().get(), 2);
    assert_holds(&file, &second);
}

#[test]
fn without_any_header_or_prologue_nothing_is_opened() {
    let (disk, ..) = filled();
    [1, 2, 62, 63].iter().for_each(|slot| overwrite(&disk, slot * 4_096, &[0; 4_096]));
    assert!(matches!(open(&disk), Err(OpenError::NoGeneration { .. })));
    let (disk, ..) = filled();
    [0, 61].iter().for_each(|slot| overwrite(&disk, slot * 4_096, &[0; 4_096]));
    assert!(matches!(open(&disk), Err(OpenError::NotAPageFile { .. })));
    let (disk, ..) = filled();
    [0, 61].iter().for_each(|slot| overwrite(&disk, slot * 4_096 + 100, &[3]));
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, OpenError::Prologue { .. }) && error.to_string().contains("checksum"), "{error}");
}

#[test]
fn a_file_that_was_cut_is_found_where_something_is_missing() {
    let (disk, _, pages) = filled();
    let len = bytes(&disk).len() as u64;
    let file = disk.open(Path::new(FILE), OpenOptions::WRITE).unwrap();
    let mut missing = 0;
    for cut in [len - 1, len - 4_096, 63 * 4_096 + 100, 62 * 4_096, 10 * 4_096 + 5, 4_096 * 2 + 1, 4_097] {
        file.set_len(cut).unwrap();
        match open(&disk.snapshot()) {
            Ok(file) => {
                for at in &pages {
                    let is_there = (at.page.get() + 1) * 4_096 <= cut;
                    missing += u64::from(!is_there);
                    assert_eq!(file.read(*at).is_ok(), is_there, "{at} after {cut}");
                }
            }
            Err(error) => {
                assert!(cut < 8_192 && matches!(error, OpenError::NoGeneration { .. }), "{cut}: {error}")
            }
        }
    }
    assert!(missing > 10, "{missing} pages were missing");
    file.set_len(10).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::NotAPageFile { .. })));
}

/// Where the page of a kind is that was written last.
fn page_of_kind(disk: &MemoryVfs, kind: u8) -> usize {
    let bytes = bytes(disk);
    let of_kind = (0..bytes.len() / 4_096)
        .filter(|slot| bytes[slot * 4_096 + 14] == kind && bytes[slot * 4_096 + 15] == 0);
    let is_page = |slot: &usize| bytes[slot * 4_096 + 16..][..6] == (*slot as u64).to_le_bytes()[..6];
    of_kind.filter(is_page).max_by_key(|slot| bytes[slot * 4_096 + 8]).unwrap()
}

#[test]
fn every_byte_of_the_free_space_map_that_changes_is_found_when_it_is_used_and_the_map_is_made_anew() {
    for (kind, part) in [(1, "region 0"), (2, "node 0 of level 0")] {
        let (disk, _, pages) = filled();
        let slot = page_of_kind(&disk, kind);
        for byte in 0..4_096 {
            let before = bytes(&disk)[slot * 4_096 + byte];
            overwrite(&disk, slot * 4_096 + byte, &[before ^ 0x40]);
            let file = open(&disk).unwrap();
            assert!(reads(&file, pages[3], 3).unwrap(), "reading does not need the map");
            let mut writer = file.begin().unwrap();
            match writer.allocate(1).unwrap_err() {
                PageError::FreeSpace { page, part: found, .. } => {
                    assert_eq!((page.get() as usize, found.as_str()), (slot, part), "byte {byte}");
                }
                error => panic!("byte {byte}: {error}"),
            }
            drop(writer);
            if byte % 64 == 0 {
                assert_eq!(audit(&file, &pages).finding_count, 1);
                let copy = disk.snapshot();
                let file = open(&copy).unwrap();
                let report = file.rebuild_free_space::<PageError>(|audit| mark(audit, &pages)).unwrap();
                assert_eq!(report.used, 6 + 11 + 2);
                assert_holds(&file, &pages);
                let mut all = pages.clone();
                for round in 11..15 {
                    all.extend(commit(&file, round..round + 1));
                    assert_holds(&file, &all);
                    assert_holds(&open(&copy.snapshot()).unwrap(), &all);
                }
            }
            overwrite(&disk, slot * 4_096 + byte, &[before]);
        }
    }
}

/// The map is made anew, and then the header of that commit is lost: the generation before is whole.
#[test]
fn making_the_map_anew_takes_nothing_from_the_generation_before() {
    let (disk, file) = create();
    let first = commit(&file, 0..10);
    let mut second = first[..5].to_vec();
    commit_freeing(&file, &first[5..]);
    file.rebuild_free_space::<PageError>(|audit| mark(audit, &second)).unwrap();
    let lost = disk.snapshot();
    header_slots(4).iter().for_each(|slot| overwrite(&lost, slot * 4_096, &[0; 4_096]));
    assert_holds(&open(&lost).unwrap(), &second);
    second.extend(commit(&file, 5..40));
    let lost = disk.snapshot();
    header_slots(5).iter().for_each(|slot| overwrite(&lost, slot * 4_096, &[0; 4_096]));
    assert_holds(&open(&lost).unwrap(), &second[..5]);
}
