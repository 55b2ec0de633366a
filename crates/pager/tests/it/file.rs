//! Reading and committing as they should go.

use std::sync::Arc;

use keepstone_pager::{
    META_LEN_MAX, PageError, PageKind, PageRead, PageRun, PageWrite, PageWriteExt, PageWriter,
};
use keepstone_testkit::fault_disk::FaultDisk;
use keepstone_types::{Generation, PageRef};
use keepstone_vfs::{MemoryVfs, Vfs};

use crate::support::*;

#[test]
fn what_is_not_committed_is_seen_by_the_writer_alone() {
    let (_disk, file) = create();
    let mut writer = file.begin().unwrap();
    let at = writer.put(KIND, &payload(1)).unwrap();
    assert_eq!((writer.dirty_bytes(), at.birth), (4_096, writer.generation()));
    assert!(reads(&writer, at, 1).unwrap());
    assert!(matches!(file.read(at), Err(PageError::Damaged { .. })));
    drop(writer);
    assert_eq!(file.root().generation().get(), 1);
    assert!(matches!(file.read(at), Err(PageError::Damaged { .. })));
    let mut writer = file.begin().unwrap();
    let again = writer.put(KIND, &payload(1)).unwrap();
    assert_eq!(again, at, "everything is as it was, free slots included");
    let root = writer.commit(b"meta").unwrap();
    assert_eq!((root.generation().get(), root.meta()), (2, &b"meta"[..]));
    assert!(reads(&file, at, 1).unwrap());
    assert_eq!(file.stats().cache_hits, 1, "new pages are in the cache");
    assert_sound(&file, &[at]);
}

#[test]
fn a_slot_is_used_again_two_generations_later_and_the_old_reference_says_so() {
    let (_disk, file) = create();
    let old = commit(&file, 1..2)[0];
    commit_freeing(&file, &[old]);
    // The header of the generation before still leads there.
    let next = commit(&file, 2..3)[0];
    assert_ne!(next.page, old.page);
    assert!(reads(&file, old, 1).unwrap());
    let after = commit(&file, 3..20);
    assert!(after.iter().any(|at| at.page == old.page));
    assert!(matches!(file.read(old), Err(PageError::Superseded { at }) if at == old));
}

#[test]
fn what_a_root_leads_to_is_kept_while_it_is_held() {
    let (_disk, file) = create();
    let old = commit(&file, 0..30);
    let root = file.root();
    commit_freeing(&file, &old);
    let mut pages = Vec::new();
    for round in 0..20 {
        pages.extend(commit(&file, round * 10..round * 10 + 10));
        for (tag, at) in old.iter().enumerate() {
            assert!(reads(&file, *at, tag as u64).unwrap());
        }
    }
    assert!(pages.iter().all(|at| old.iter().all(|old| old.page != at.page)));
    assert_eq!(root.generation(), old[0].birth);
    drop(root);
    let now = commit(&file, 0..30);
    assert!(now.iter().all(|at| old.iter().any(|old| old.page == at.page)), "the file does not grow");
}

#[test]
fn a_page_that_its_own_generation_frees_is_gone_at_once() {
    let (_disk, file) = create();
    let mut writer = file.begin().unwrap();
    let first = writer.put(KIND, &payload(1)).unwrap();
    writer.free(first.page, first.birth).unwrap();
    assert!(writer.read(first).is_err());
    let second = writer.put(KIND, &payload(2)).unwrap();
    assert_eq!(second.page, first.page);
    writer.commit(b"").unwrap();
    assert!(reads(&file, second, 2).unwrap());
    assert_sound(&file, &[second]);
}

#[test]
fn runs_are_read_in_one_go_from_memory_and_from_disk() {
    let (_disk, file) = create();
    let mut writer = file.begin().unwrap();
    let run = writer.allocate(20).unwrap();
    assert_eq!(run.count, 20);
    let write = |writer: &mut PageWriter, index: u32| {
        writer.write(run.get(index).unwrap(), KIND, &payload(index.into())).unwrap()
    };
    let mut pages: Vec<PageRef> = (0..20).map(|index| write(&mut writer, index)).collect();
    let all = |pages_of: &dyn PageRead, pages: &[PageRef]| {
        let mut done = 0;
        while done < 20 {
            let rest = PageRun { first: run.get(done).unwrap(), count: 20 - done };
            let read = pages_of.read_run(rest).unwrap();
            assert!(!read.is_empty());
            for page in read {
                let found = page.verify(pages[done as usize]).unwrap();
                assert_eq!(found.payload()[..24], payload(done.into()));
                done += 1;
            }
        }
    };
    all(&writer, &pages);
    writer.commit(b"").unwrap();
    let before = file.stats().pages_read;
    all(&file, &pages);
    assert_eq!(file.stats().pages_read - before, 20, "past the cache");
    // Ten pages become new ones elsewhere; slots of the run are new, on disk, and nothing.
    let mut writer = file.begin().unwrap();
    for at in &pages[5..] {
        writer.free(at.page, at.birth).unwrap();
    }
    all(&writer, &pages);
    let end = PageRun { first: pages[0].page.plus(1_000_000).unwrap(), count: 3 };
    let beyond = writer.read_run(end).unwrap();
    let error =
        beyond.into_iter().next().unwrap().verify(PageRef { page: end.first, ..pages[0] }).unwrap_err();
    assert!(error.to_string().contains("the end of the file"), "{error}");
    pages.truncate(5);
    writer.commit(b"").unwrap();
    assert_sound(&file, &pages);
}

#[test]
fn what_the_layer_above_must_not_do_is_refused() {
    let (_disk, file) = create();
    let at = commit(&file, 1..2)[0];
    let mut writer = file.begin().unwrap();
    let run = writer.allocate(1).unwrap();
    let free = run.first.plus(500).unwrap();
    let long = vec![0; writer.payload_len() + 1];
    let next = Generation::new(9).unwrap();
    let misuses = [
        writer.write(free, KIND, b"").map(drop),
        writer.write(at.page, KIND, b"").map(drop),
        writer.write(run.first, KIND, &long).map(drop),
        writer.write(run.first, PageKind::FREE_SPACE, b"").map(drop),
        writer.free(free, at.birth),
        writer.free(run.first, writer.generation()),
        writer.free(at.page, next),
        writer.free(at.page.plus(1 << 40).unwrap(), at.birth),
        writer.free(keepstone_types::PageId::ZERO, at.birth),
    ];
    for (number, misuse) in misuses.into_iter().enumerate() {
        assert!(matches!(misuse, Err(PageError::Misuse { .. })), "misuse {number}: {misuse:?}");
    }
    writer.write(run.first, KIND, &long[1..]).unwrap();
    let error = writer.commit(&vec![0; META_LEN_MAX + 1]).unwrap_err();
    assert!(matches!(error, PageError::MetaTooLong { len: 1_025, max: 1_024 }));
    assert_eq!(file.root().generation(), at.birth);
    let root = file.begin().unwrap().commit(&vec![5; META_LEN_MAX]).unwrap();
    assert_eq!(root.meta(), vec![5; META_LEN_MAX]);
    assert_sound(&file, &[at]);
}

/// The writer goes to the thread that checkpoints.
#[test]
fn a_writer_can_be_sent() {
    let (_disk, file) = create();
    let mut writer = file.begin().unwrap();
    let at = writer.put(KIND, &payload(4)).unwrap();
    std::thread::spawn(move || writer.commit(b"").unwrap()).join().unwrap();
    assert!(reads(&file, at, 4).unwrap());
}

#[test]
fn neighbours_travel_together_and_a_commit_syncs_twice() {
    let disk = FaultDisk::new(Arc::new(MemoryVfs::new()));
    let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
    let file = create_on(&shared);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Acquire);
    let before = (count(&disk.faults().writes), count(&disk.faults().syncs));
    commit(&file, 0..100);
    let (writes, syncs) = (count(&disk.faults().writes) - before.0, count(&disk.faults().syncs) - before.1);
    assert_eq!(syncs, 2);
    assert!(writes <= 6, "{writes} writes: the pages, those of the map, two copies of the header");
    let stats = file.stats();
    assert_eq!((stats.commits, stats.pages_written), (1, 104), "two of the map when it was created, two now");
}

#[test]
fn memory_of_the_cache_has_a_bound() {
    let (disk, file) = create();
    let pages = commit(&file, 0..2_000);
    drop(file);
    let file = open(&disk).unwrap();
    for _ in 0..3 {
        for (tag, at) in pages.iter().enumerate() {
            assert!(reads(&file, *at, tag as u64).unwrap());
        }
    }
    let stats = file.stats();
    assert!(stats.cache_bytes <= 1 << 20 && stats.cache_entries > 150, "{stats:?}");
    assert!(stats.cache_evictions > 0 && stats.cache_hits + stats.cache_misses == 6_000, "{stats:?}");
}
