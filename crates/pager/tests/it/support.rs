//! What the tests share.

use std::path::Path;
use std::sync::Arc;

use keepstone_pager::{
    Access, Audit, AuditReport, OpenError, PageError, PageFile, PageFileOptions, PageKind, PageRead,
    PageSize, PageWrite, PageWriteExt,
};
use keepstone_types::{Generation, PageRef, StoreId};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFileExt};

/// Where the page file of a test is.
pub(crate) const FILE: &str = "/pages";

pub(crate) const KIND: PageKind = PageKind::FIRST_FREE;

pub(crate) fn store() -> StoreId {
    StoreId::from_bytes([7; 16])
}

pub(crate) fn small() -> PageFileOptions {
    PageFileOptions::default().page_size(PageSize::KIB_4).cache_bytes(1 << 20)
}

pub(crate) fn create_on(disk: &Arc<dyn Vfs>) -> PageFile {
    PageFile::create(Arc::clone(disk), Path::new(FILE), store(), small()).unwrap()
}

pub(crate) fn create() -> (MemoryVfs, PageFile) {
    let disk = MemoryVfs::new();
    let file = create_on(&vfs(&disk));
    (disk, file)
}

pub(crate) fn vfs(disk: &MemoryVfs) -> Arc<dyn Vfs> {
    Arc::new(disk.clone())
}

pub(crate) fn open_on(disk: &Arc<dyn Vfs>, access: Access) -> Result<PageFile, OpenError> {
    PageFile::open(Arc::clone(disk), Path::new(FILE), store(), small(), access, Generation::ZERO)
}

pub(crate) fn open(disk: &MemoryVfs) -> Result<PageFile, OpenError> {
    open_on(&vfs(disk), Access::Write)
}

/// What a page with this number holds.
pub(crate) fn payload(tag: u64) -> Vec<u8> {
    tag.to_le_bytes().repeat(3)
}

/// Whether a page reads as the one with this number.
pub(crate) fn reads(pages: &impl PageRead, at: PageRef, tag: u64) -> Result<bool, PageError> {
    let page = pages.read(at)?;
    Ok(page.payload()[..24] == payload(tag) && page.payload()[24..].iter().all(|byte| *byte == 0))
}

/// Commits pages with these numbers.
pub(crate) fn commit(file: &PageFile, tags: std::ops::Range<u64>) -> Vec<PageRef> {
    let mut writer = file.begin().unwrap();
    let pages = tags.map(|tag| writer.put(KIND, &payload(tag)).unwrap()).collect();
    writer.commit(b"").unwrap();
    pages
}

/// Commits a generation that does without pages.
pub(crate) fn commit_freeing(file: &PageFile, pages: &[PageRef]) {
    let mut writer = file.begin().unwrap();
    for at in pages {
        writer.free(at.page, at.birth).unwrap();
    }
    writer.commit(b"").unwrap();
}

pub(crate) fn audit(file: &PageFile, pages: &[PageRef]) -> AuditReport {
    file.audit::<PageError>(|audit| mark(audit, pages)).unwrap()
}

pub(crate) fn mark(audit: &mut Audit, pages: &[PageRef]) -> Result<(), PageError> {
    for at in pages {
        audit.mark(*at);
    }
    Ok(())
}

/// Fails unless the map says exactly what is reachable.
pub(crate) fn assert_sound(file: &PageFile, pages: &[PageRef]) {
    assert_eq!(audit(file, pages).findings, []);
}

pub(crate) fn bytes(disk: &dyn Vfs) -> Vec<u8> {
    disk.read_file(Path::new(FILE), 1 << 30).unwrap()
}

pub(crate) fn overwrite(disk: &dyn Vfs, offset: usize, bytes: &[u8]) {
    disk.open(Path::new(FILE), OpenOptions::WRITE).unwrap().write_all_at(bytes, offset as u64).unwrap();
}

/// Slots of the two copies of a generation's header.
pub(crate) fn header_slots(generation: u64) -> [usize; 2] {
    if generation.is_multiple_of(2) { [1, 62] } else { [2, 63] }
}
