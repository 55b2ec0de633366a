//! Creating and opening: what is refused, and that nothing is written to what is not understood.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keepstone_pager::{
    Access, OpenError, PageError, PageFile, PageFileOptions, PageRead, PageSize, PageWriteExt,
};
use keepstone_testkit::fault_disk::FaultDisk;
use keepstone_types::checksum::checksum;
use keepstone_types::{Generation, StoreId};
use keepstone_vfs::{MemoryVfs, Vfs};

use crate::support::*;

#[test]
fn every_page_size_is_created_and_opened() {
    for size in PageSize::ALL {
        let disk = MemoryVfs::new();
        let options = PageFileOptions::default().page_size(size);
        let file = PageFile::create(vfs(&disk), Path::new(FILE), store(), options).unwrap();
        assert_eq!((file.root().generation().get(), file.root().meta()), (1, &b""[..]));
        let pages = commit(&file, 0..50);
        // Options of an existing file do not matter: it says itself what its pages are.
        let file = open(&disk).unwrap();
        assert_eq!((file.page_size(), file.payload_len()), (size, size.bytes() as usize - 40));
        for (tag, at) in pages.iter().enumerate() {
            assert!(reads(&file, *at, tag as u64).unwrap());
        }
        assert_sound(&file, &pages);
        assert_eq!(file.open_report().generation.get(), 2);
        assert!(!file.open_report().fell_back && file.open_report().damaged.is_empty());
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let disk = MemoryVfs::new();
    let missing = open(&disk).unwrap_err();
    assert!(matches!(&missing, OpenError::Io(error) if error.is_not_found()));
    let _file = create_on(&vfs(&disk));
    let again = PageFile::create(vfs(&disk), Path::new(FILE), store(), small()).unwrap_err();
    assert!(again.to_string().contains("cannot open /pages"), "{again}");
    let options = small().max_pages(100);
    let error =
        PageFile::open(vfs(&disk), Path::new(FILE), store(), options, Access::Write, Generation::ZERO)
            .unwrap_err();
    assert!(matches!(error, OpenError::Option { option: "max_pages", found: 100, .. }));
}

/// Changes both copies of the prologue, checksums put right.
fn forge(disk: &MemoryVfs, at: usize, value: &[u8]) {
    for slot in [0, 61] {
        let mut block = bytes(disk)[slot * 4_096..][..4_096].to_vec();
        block[at..at + value.len()].copy_from_slice(value);
        let sum = checksum(&block[..4_088]);
        block[4_088..].copy_from_slice(&sum.to_le_bytes());
        overwrite(disk, slot * 4_096, &block);
    }
}

#[test]
fn nothing_is_written_to_a_file_that_is_not_understood() {
    type Expected = fn(&OpenError) -> bool;
    let cases: [(usize, &[u8], Expected); 7] = [
        (0, b"SOMETHIN", |error| matches!(error, OpenError::NotAPageFile { .. })),
        (8, &[1, 0, 0, 0], |error| matches!(error, OpenError::NewerFormat { known: 0, found: 1, .. })),
        (12, &[0, 8, 0, 0], |error| matches!(error, OpenError::PageSize { found: 2_048, .. })),
        (24, &[4], |error| matches!(error, OpenError::Features { bits: 4, writing: true, .. })),
        (32, &[2], |error| matches!(error, OpenError::Features { bits: 2, writing: false, .. })),
        (
            40,
            &[9; 16],
            |error| matches!(error, OpenError::OtherStore { found, .. } if *found == StoreId::from_bytes([9; 16])),
        ),
        (62, &[1], |error| {
            matches!(error, OpenError::Setting { field: "cipher id", expected: 0, found: 1, .. })
        }),
    ];
    for (at, value, expected) in cases {
        let (disk, _file) = create();
        forge(&disk, at, value);
        let before = bytes(&disk);
        let error = open(&disk).unwrap_err();
        assert!(expected(&error), "byte {at}: {error}");
        assert!(error.to_string().starts_with("/pages: "), "{error}");
        assert_eq!(bytes(&disk), before, "byte {at}");
        let reading = open_on(&vfs(&disk), Access::ReadOnly);
        assert_eq!(reading.is_ok(), at == 24, "byte {at}");
    }
}

#[test]
fn opened_for_reading_nothing_is_written() {
    let memory = MemoryVfs::new();
    let disk = FaultDisk::new(Arc::new(memory.clone()));
    let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
    let pages = commit(&create_on(&shared), 0..20);
    overwrite(&memory, 2 * 4_096, &[0; 4_096]);
    overwrite(&memory, 62 * 4_096, &[0; 4_096]);
    overwrite(&memory, 0, &[0; 4_096]);
    let before = (
        bytes(&memory),
        disk.faults().writes.load(Ordering::Acquire),
        disk.faults().syncs.load(Ordering::Acquire),
    );
    let file = open_on(&shared, Access::ReadOnly).unwrap();
    for (tag, at) in pages.iter().enumerate() {
        assert!(reads(&file, *at, tag as u64).unwrap());
    }
    assert_sound(&file, &pages);
    assert!(matches!(file.begin(), Err(PageError::ReadOnly { .. })));
    assert!(matches!(file.reserve(5), Err(PageError::ReadOnly { .. })));
    assert!(matches!(file.shrink(), Err(PageError::ReadOnly { .. })));
    let report = file.open_report();
    assert_eq!((report.healed.len(), report.damaged.len()), (0, 3), "{report:?}");
    let after = (
        bytes(&memory),
        disk.faults().writes.load(Ordering::Acquire),
        disk.faults().syncs.load(Ordering::Acquire),
    );
    assert!(before == after, "nothing was written or synced");
}

#[test]
fn a_generation_that_is_too_old_is_refused() {
    let (disk, file) = create();
    commit(&file, 0..1);
    let open = |oldest: u64| {
        let oldest = Generation::new(oldest).unwrap();
        PageFile::open(vfs(&disk), Path::new(FILE), store(), small(), Access::Write, oldest)
    };
    assert_eq!(open(2).unwrap().root().generation().get(), 2);
    let error = open(3).unwrap_err();
    let OpenError::NoGeneration { oldest, copies, .. } = &error else { panic!("{error}") };
    assert_eq!((oldest.get(), copies.len()), (3, 4));
    assert!(copies.contains(&"slot 62 holds generation 2".to_owned()), "{copies:?}");
}

#[test]
fn the_limit_of_pages_is_kept() {
    let disk = MemoryVfs::new();
    let options = small().max_pages(200);
    let file = PageFile::create(vfs(&disk), Path::new(FILE), store(), options).unwrap();
    let mut writer = file.begin().unwrap();
    let mut pages = Vec::new();
    let error = loop {
        match writer.put(KIND, &payload(pages.len() as u64)) {
            Ok(at) => pages.push(at),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PageError::Full { pages: 200 }), "{error}");
    assert_eq!(pages.len(), 192);
    // The map needs two places of its own.
    assert!(matches!(writer.commit(b""), Err(PageError::Full { .. })));
    assert_sound(&file, &[]);
    assert!(matches!(file.reserve(193), Err(PageError::Full { .. })));
    let pages = commit(&file, 0..190);
    assert_sound(&file, &pages);
}
