//! A whole small file, as a page file wrote it, changed by somebody else: bytes anywhere, checksums put right or not.
//!
//! What is checked, whatever was changed:
//! * Opening never panics, and for reading it writes nothing.
//! * What opens reads each page as it was written, or says that it is damaged.
//! * The audit, the scrub and the writer never panic, and a repair takes nothing; what the writer commits is there when the file is opened again.
//! * A map made anew from what is reachable is sound.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arbitrary::{Result, Unstructured};
use keepstone_types::checksum::{checksum, checksum_seeded};
use keepstone_types::{Generation, PageRef, StoreId};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFileExt};

use crate::access::{PageRead, PageWrite, PageWriteExt};
use crate::error::PageError;
use crate::file::PageFile;
use crate::header::{self, HEADER_LEN, HEADER_SLOTS};
use crate::layout::{self, PageSize, header_seed, page_seed};
use crate::options::{Access, PageFileOptions};
use crate::page::PageKind;
use crate::parity::{Parity, ScrubOptions};
use crate::prologue::{self, PROLOGUE_SLOTS};
use crate::{directory, region};

const FILE: &str = "/pages";
const PAGE: usize = 4_096;
const KIND: PageKind = PageKind::FIRST_FREE;

/// A file of a few generations, and the pages of its newest.
struct Base {
    bytes: Vec<u8>,
    pages: Vec<PageRef>,
    directory: usize,
    region: usize,
}

fn store() -> StoreId {
    StoreId::from_bytes([7; 16])
}

fn options() -> PageFileOptions {
    PageFileOptions::default().page_size(PageSize::KIB_4).cache_bytes(0).max_pages(4_096).parity(Parity::Xor)
}

fn payload(tag: usize) -> Vec<u8> {
    u64::try_from(tag).unwrap().to_le_bytes().repeat(4)
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let disk = MemoryVfs::new();
        let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
        let file = PageFile::create(Arc::clone(&shared), Path::new(FILE), store(), options()).unwrap();
        let mut pages = Vec::new();
        for round in 0..3 {
            let mut writer = file.begin().unwrap();
            if round > 0 {
                let old: PageRef = pages.pop().unwrap();
                writer.free(old.page, old.birth).unwrap();
            }
            for _ in 0..5 {
                pages.push(writer.put(KIND, &payload(pages.len())).unwrap());
            }
            writer.commit(b"meta").unwrap();
        }
        let bytes = disk.read_file(Path::new(FILE), 1 << 20).unwrap();
        let root = file.root();
        let directory = usize::try_from(root.header().directory.page.get()).unwrap();
        let node = &bytes[directory * PAGE + layout::PAGE_HEADER_LEN + directory::NODE_HEADER_LEN..];
        let region = usize::from(u16::from_le_bytes([node[0], node[1]]));
        Base { bytes, pages, directory, region }
    })
}

pub(super) fn file(input: &[u8]) {
    let mut bytes = base().bytes.clone();
    // What is short of bytes is changed less.
    change(&mut Unstructured::new(input), &mut bytes).unwrap_or_default();
    check(&bytes);
}

fn change(input: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    for _ in 0..input.int_in_range(0..=6)? {
        let slot = match input.int_in_range(0..=9)? {
            0 => base().directory,
            1 => base().region,
            number @ 2..=5 => HEADER_SLOTS
                .map(|slots| slots.map(|slot| usize::try_from(slot).unwrap()))
                .concat()[number - 2],
            6 => *input.choose(&[0, 61])?,
            _ => input.int_in_range(0..=bytes.len() / PAGE)?,
        };
        let offset = if input.arbitrary()? {
            input.int_in_range(0..=127)?
        } else {
            input.int_in_range(0..=PAGE - 1)?
        };
        let new: &[u8] = input.arbitrary()?;
        for (to, from) in bytes.iter_mut().skip(slot * PAGE + offset).zip(new) {
            *to = *from;
        }
        if input.arbitrary()? {
            seal(bytes);
        }
    }
    if input.ratio(1, 8)? {
        bytes.truncate(input.int_in_range(0..=bytes.len())?);
    }
    Ok(())
}

/// Puts every checksum right that leads to the map: prologue, region, directory, headers.
fn seal(bytes: &mut [u8]) {
    for slot in PROLOGUE_SLOTS {
        let Some(block) = block_mut(bytes, usize::try_from(slot).unwrap()) else { continue };
        let sum = checksum(&block[..prologue::CHECKSUM.offset]);
        prologue::CHECKSUM.put(block, &sum.to_le_bytes());
    }
    let (region_at, directory_at) = (base().region, base().directory);
    let Some(region_sum) = seal_page(bytes, region_at) else { return };
    let entry = layout::PAGE_HEADER_LEN + directory::NODE_HEADER_LEN + directory::AT.offset + 12;
    bytes[directory_at * PAGE + entry..][..8].copy_from_slice(&region_sum.to_le_bytes());
    let free = layout::PAGE_HEADER_LEN + directory::NODE_HEADER_LEN + directory::FREE.offset;
    let used = region::USED_COUNT.u16(&bytes[region_at * PAGE + layout::PAGE_HEADER_LEN..]);
    let count = 1_024_u64.saturating_sub(used.into());
    bytes[directory_at * PAGE + free..][..8].copy_from_slice(&count.to_le_bytes());
    let Some(directory_sum) = seal_page(bytes, directory_at) else { return };
    for slot in HEADER_SLOTS.concat() {
        let Some(block) = block_mut(bytes, usize::try_from(slot).unwrap()) else { continue };
        let at = header::DIRECTORY.bytes(block);
        if at[..6] == u64::try_from(directory_at).unwrap().to_le_bytes()[..6] {
            block[header::DIRECTORY.offset + 12..][..8].copy_from_slice(&directory_sum.to_le_bytes());
        }
        let sum = checksum_seeded(header_seed(store()), &block[..header::CHECKSUM.offset]);
        header::CHECKSUM.put(block, &sum.to_le_bytes());
    }
}

fn block_mut(bytes: &mut [u8], slot: usize) -> Option<&mut [u8]> {
    bytes.get_mut(slot * PAGE..slot * PAGE + HEADER_LEN)
}

fn seal_page(bytes: &mut [u8], slot: usize) -> Option<u64> {
    let block = block_mut(bytes, slot)?;
    let sum = checksum_seeded(page_seed(store()), &block[layout::CHECKSUM.end()..]);
    layout::CHECKSUM.put(block, &sum.to_le_bytes());
    Some(sum)
}

fn disk_with(bytes: &[u8]) -> (MemoryVfs, Arc<dyn Vfs>) {
    let disk = MemoryVfs::new();
    disk.open(Path::new(FILE), OpenOptions::CREATE_NEW).unwrap().write_all_at(bytes, 0).unwrap();
    let shared: Arc<dyn Vfs> = Arc::new(disk.clone());
    (disk, shared)
}

fn open(disk: &Arc<dyn Vfs>, access: Access) -> Option<PageFile> {
    match PageFile::open(Arc::clone(disk), Path::new(FILE), store(), options(), access, Generation::ZERO) {
        Ok(file) => Some(file),
        Err(error) => {
            assert!(error.to_string().len() < 2_000, "{error}");
            None
        }
    }
}

/// The pages that read as they were written; the others say why not.
fn sound_pages(file: &PageFile) -> Vec<PageRef> {
    let mut sound = Vec::new();
    for (tag, at) in base().pages.iter().enumerate() {
        match file.read(*at) {
            Ok(page) => {
                assert!(page.payload().starts_with(&payload(tag)), "{at} holds another page");
                sound.push(*at);
            }
            Err(error) => {
                let is_known = error.is_damage() || matches!(error, PageError::Superseded { .. });
                assert!(is_known, "{error}");
            }
        }
    }
    sound
}

fn audit(file: &PageFile, pages: &[PageRef]) -> u64 {
    let report = file.audit::<PageError>(|audit| {
        for at in pages {
            audit.mark(*at);
        }
        Ok(())
    });
    report.map_or(1, |report| report.finding_count)
}

/// A scrub ends, whatever it finds.
fn scrub(file: &PageFile, repair: bool) {
    let options = ScrubOptions::default().repair(repair);
    if let Ok(report) = file.scrub(&options, |_| ControlFlow::Continue(())) {
        assert!(report.complete && report.unrepairable <= report.finding_count);
    }
}

fn check(bytes: &[u8]) {
    let (disk, shared) = disk_with(bytes);
    let read_only = open(&shared, Access::ReadOnly);
    if let Some(file) = &read_only {
        let pages = sound_pages(file);
        audit(file, &pages);
        scrub(file, false);
    }
    assert!(disk.read_file(Path::new(FILE), 1 << 20).unwrap() == bytes, "reading changed something");
    let Some(file) = open(&shared, Access::Write) else {
        assert!(read_only.is_none() || disk.read_file(Path::new(FILE), 1 << 20).unwrap() == bytes);
        return;
    };
    let pages = sound_pages(&file);
    scrub(&file, true);
    assert!(sound_pages(&file).len() >= pages.len(), "a repair took nothing");
    writes(&file, &shared);
    // From the same bytes again, the map is made anew.
    let (_disk, shared) = disk_with(bytes);
    let file = open(&shared, Access::Write).expect("it was opened before");
    if file.root().header().slots < 4_096 {
        rebuilds(&file, &shared, pages);
    }
}

fn writes(file: &PageFile, shared: &Arc<dyn Vfs>) {
    let Ok(mut writer) = file.begin() else { return };
    let Ok(at) = writer.put(KIND, b"new") else { return };
    let Ok(root) = writer.commit(b"more") else { return };
    let again = open(shared, Access::ReadOnly).expect("what was committed opens");
    assert_eq!((again.root().generation(), again.root().meta()), (root.generation(), &b"more"[..]));
    assert!(again.read(at).unwrap().payload().starts_with(b"new"));
}

fn rebuilds(file: &PageFile, shared: &Arc<dyn Vfs>, mut pages: Vec<PageRef>) {
    let end = file.root().header().slots;
    pages.retain(|at| at.page.get() < end);
    let rebuilt = file.rebuild_free_space::<PageError>(|audit| {
        pages.iter().for_each(|at| assert!(audit.mark(*at)));
        Ok(())
    });
    match rebuilt {
        Ok(report) => assert!(report.used >= 6),
        // The last generation there is has no next one.
        Err(error) => {
            return assert!(matches!(error, PageError::LastGeneration | PageError::Full { .. }), "{error}");
        }
    }
    assert_eq!(audit(file, &pages), 0, "a map made anew is sound");
    for _ in 0..3 {
        let Ok(mut writer) = file.begin() else { return };
        pages.push(writer.put(KIND, b"new").expect("a sound map has room"));
        writer.commit(b"").expect("a sound map can be committed");
        assert_eq!(audit(file, &pages), 0);
    }
    let again = open(shared, Access::ReadOnly).expect("what was committed opens");
    assert_eq!(audit(&again, &pages), 0);
}
