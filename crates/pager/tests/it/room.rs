//! Room kept ready, and room given back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keepstone_pager::{PageError, PageWrite, PageWriteExt};
use keepstone_testkit::fault_disk::FaultDisk;
use keepstone_vfs::simulated::SimulatedDisk;
use keepstone_vfs::{MemoryVfs, Vfs, VfsExt};

use crate::support::*;

#[test]
fn what_was_reserved_takes_commits_on_a_full_disk() {
    let disk = FaultDisk::new(Arc::new(MemoryVfs::new()));
    let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
    let file = create_on(&shared);
    let mut pages = commit(&file, 0..100);
    file.reserve(60).unwrap();
    let free = file.stats().free_slots;
    assert!(free >= 60, "{free}");
    disk.faults().bytes_left.store(0, Ordering::Release);
    // Runs of any length, and pages of the map, within the file.
    let mut writer = file.begin().unwrap();
    writer.keep_within_file(true);
    let mut written = 0;
    while written < 50 {
        let run = writer.allocate(50 - written).unwrap();
        for index in 0..run.count {
            written += 1;
            pages.push(writer.write(run.get(index).unwrap(), KIND, &payload(written.into())).unwrap());
        }
    }
    writer.commit(b"").unwrap();
    assert_sound(&file, &pages);
    let mut writer = file.begin().unwrap();
    for tag in 0..60 {
        writer.put(KIND, &payload(tag)).unwrap();
    }
    assert!(matches!(writer.commit(b""), Err(PageError::OutOfSpace { .. })));
    assert_sound(&file, &pages);
    // Something is deleted, and two generations later there is room again.
    commit_freeing(&file, &pages.split_off(50));
    commit_freeing(&file, &[]);
    pages.extend(commit(&file, 0..60));
    assert_sound(&file, &pages);
}

/// The blocks are written: on a disk that counts them, nothing is taken afterwards.
#[test]
fn reserved_slots_are_blocks_and_not_holes() {
    let disk = SimulatedDisk::new(1);
    let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
    let file = create_on(&shared);
    file.reserve(200).unwrap();
    disk.set_capacity(Some(disk.used()));
    let pages = commit(&file, 0..190);
    assert_sound(&file, &pages);
    // Neither are slots that were given away, skipped and not written.
    disk.set_capacity(None);
    let mut writer = file.begin().unwrap();
    let run = writer.allocate(500).unwrap();
    let last = writer.write(run.get(run.count - 1).unwrap(), KIND, &payload(1)).unwrap();
    writer.commit(b"").unwrap();
    assert!(last.page.get() > 600);
    assert!(disk.used() >= file.stats().file_bytes);
}

#[test]
fn reserving_what_is_free_writes_nothing() {
    let disk = FaultDisk::new(Arc::new(MemoryVfs::new()));
    let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
    let file = create_on(&shared);
    file.reserve(100).unwrap();
    let writes = disk.faults().writes.load(Ordering::Acquire);
    file.reserve(100).unwrap();
    assert_eq!(disk.faults().writes.load(Ordering::Acquire), writes);
    let mut writer = file.begin().unwrap();
    assert!(matches!(file.reserve(1), Err(PageError::WriterBusy)));
    let at = writer.put(KIND, &payload(1)).unwrap();
    writer.commit(b"").unwrap();
    assert_sound(&file, &[at]);
}

fn file_len(disk: &MemoryVfs) -> u64 {
    disk.entry(Path::new(FILE)).unwrap().unwrap().len / 4_096
}

#[test]
fn a_file_shrinks_to_what_it_needs_and_no_further() {
    let (disk, file) = create();
    let kept = commit(&file, 0..20);
    let gone = commit(&file, 20..3_000);
    let root = file.root();
    let meta = root.meta().to_vec();
    assert_eq!(file.shrink().unwrap(), 0, "everything is in use");
    commit_freeing(&file, &gone);
    assert!(file.shrink().unwrap() < 10, "a root that is held needs nearly all of it");
    assert!(gone.iter().enumerate().all(|(tag, at)| reads(&file, *at, tag as u64 + 20).unwrap()));
    drop(root);
    let before = file_len(&disk);
    let cut = file.shrink().unwrap();
    assert!(cut > 2_900, "{cut}");
    assert!(file_len(&disk) < 120 && file_len(&disk) + cut == before, "{} slots", file_len(&disk));
    assert_eq!(file.root().meta(), meta);
    assert_sound(&file, &kept);
    // The generation before does not need what was cut either.
    let newest = file.root().generation().get();
    let lost = disk.snapshot();
    header_slots(newest).iter().for_each(|slot| overwrite(&lost, slot * 4_096, &[0; 4_096]));
    let before = open(&lost).unwrap();
    assert_eq!(before.root().generation().get(), newest - 1);
    assert_sound(&before, &kept);
    let mut pages = kept;
    for round in 0..5 {
        pages.extend(commit(&file, round * 300..round * 300 + 300));
        assert_sound(&file, &pages);
        assert_sound(&open(&disk.snapshot()).unwrap(), &pages);
    }
}
