//! Creating and opening a page file.
//!
//! Opening reads the prologue and the four copies of headers, nothing else. For writing, it then makes durable what it
//! found, because a killed process may have left it in the system's cache only, or a failed sync may have left there what
//! never reached the disk:
//!
//! * The file and its name are synced. A header leads only to what was synced before it was written, so the pages are
//!   durable whatever becomes of the header.
//! * A copy of the prologue that is not whole is written again from the other, which is synced by then.
//! * Both copies of the header that is used are written again, one after the other, each synced before the next, and the
//!   one that is not whole first. So at every moment a copy that was acknowledged is whole, and at the end both are on
//!   the disk, not only in a cache that counts them as written.
//! * Copies of the other header that are not whole are mended from each other, or cleared.

use std::path::{Path, PathBuf};

use keepstone_types::{Generation, PageId, StoreId};
use keepstone_vfs::{OpenOptions, Vfs, VfsFile, VfsFileExt};

use crate::directory::Shape;
use crate::error::{OpenError, PageError};
use crate::file::{Inner, PageFile};
use crate::header::{FIXED_END, HEADER_LEN, HEADER_SLOTS, Header, HeaderFault, is_fixed};
use crate::layout::{PageSize, Place, disk_len, header_seed};
use crate::options::{Access, PageFileOptions};
use crate::parity::{ParityState, Repairs};
use crate::prologue::{
    FORMAT, KNOWN_READ_ONLY_COMPAT, PROLOGUE_LEN, PROLOGUE_SLOTS, Prologue, PrologueFault,
};
use crate::region::{place_of, slot_at};
use crate::report::OpenReport;
use crate::root::Root;
use crate::slots::Slots;
use crate::space::{Draft, Space};
use crate::stats::Counters;
use crate::sync::Arc;

impl PageFile {
    /// Creates a page file whose first generation, 1, holds nothing and has empty meta. It is durable, name included, when
    /// this returns. A crash before that may leave a file that does not open: whoever creates one gives it its final name
    /// afterwards, or tries again.
    ///
    /// # Errors
    /// [`OpenError::Option`], or the disk's own error, also when there is such a file.
    pub fn create(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        store: StoreId,
        options: PageFileOptions,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let file = vfs.open(path, OpenOptions::CREATE_NEW)?;
        let slots = slots_of(file, path, options.page_size, store, Access::Write);
        let first = first_generation(&slots, options.parity.into()).map_err(|error| match error {
            PageError::Io(error) | PageError::OutOfSpace { source: error } => OpenError::Io(error),
            other => OpenError::NoGeneration {
                file: path.to_path_buf(),
                oldest: Generation::ZERO,
                copies: vec![other.to_string()],
            },
        })?;
        let (header, space) = first;
        let prologue = Prologue::new(options.page_size, store).encode();
        for slot in PROLOGUE_SLOTS {
            slots.file.write_all_at(&prologue, slot_offset(options.page_size, slot))?;
        }
        slots.sync()?;
        let seed = header_seed(store);
        let block = header.encode(seed);
        for slot in Header::copies(header.generation) {
            slots.file.write_all_at(&block, slot_offset(options.page_size, slot))?;
        }
        slots.sync()?;
        vfs.sync_dir(folder_of(path))?;
        let generation = header.generation;
        let report = OpenReport { generation, generations: vec![generation], ..OpenReport::default() };
        let inner = Inner::new(
            (vfs, slots, store),
            seed,
            Root::new(header),
            space,
            (&options, Access::Write),
            report,
        );
        Ok(Self::of(inner))
    }

    /// Opens a page file at its newest generation that is whole and not older than `oldest`. With [`Access::Write`] what was
    /// found is made durable, and copies that are not whole are mended.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing is written to a file that is not understood.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        store: StoreId,
        options: PageFileOptions,
        access: Access,
        oldest: Generation,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let mode = if access == Access::Write { OpenOptions::WRITE } else { OpenOptions::READ };
        let file = vfs.open(path, mode)?;
        let found = Found::read(&*file, path, store, access, oldest)?;
        let slots = slots_of(file, path, found.page_size, store, access);
        let healed = if access == Access::Write {
            slots.sync()?;
            vfs.sync_dir(folder_of(path))?;
            found.mend(&slots)?
        } else {
            Vec::new()
        };
        let space = Space::of(Arc::clone(&slots), &found.header, slots.in_file()?);
        let report = OpenReport { healed, ..found.report };
        let root = Root::new(found.header);
        Ok(Self::of(Inner::new(
            (vfs, slots, store),
            header_seed(store),
            root,
            space,
            (&options, access),
            report,
        )))
    }
}

fn slots_of(
    file: Arc<dyn VfsFile>,
    path: &Path,
    page_size: PageSize,
    store: StoreId,
    access: Access,
) -> Arc<Slots> {
    let place = Arc::new(Place::new(path.to_path_buf(), page_size, store));
    Arc::new(Slots {
        file,
        place,
        counters: Arc::<Counters>::default(),
        repairs: Repairs::new(access == Access::Write),
    })
}

fn slot_offset(page_size: PageSize, slot: u64) -> u64 {
    slot.saturating_mul(page_size.bytes().into())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes the free-space map of an empty file: the slots of prologue and headers, and its own pages.
fn first_generation(slots: &Arc<Slots>, parity: ParityState) -> Result<(Header, Space), PageError> {
    let generation = Generation::ZERO.plus(1).unwrap_or_default();
    let mut blank = Space::blank(Arc::clone(slots), Generation::ZERO);
    blank.set_parity(parity);
    let mut draft = Draft::new(blank, generation, crate::options::PAGES_LIMIT);
    let mut fixed = crate::bitmap::Bitmap::EMPTY;
    for slot in (0..FIXED_END).filter(|slot| is_fixed(*slot)) {
        fixed.insert(place_of(PageId::new(slot).unwrap_or(slot_at(0, 0))));
    }
    draft.fill(0, fixed, 0)?;
    let mut placed = draft.place_map(FIXED_END)?;
    let header = placed.header(generation, &[]);
    placed.pages.sort_unstable_by_key(|(page, _)| *page);
    slots.write_zeros(0, placed.end).map_err(PageError::of_write)?;
    slots.write(&placed.pages).map_err(PageError::of_write)?;
    Ok((header, draft.applied(placed)))
}

/// A copy of the header: its slot, and what is there.
type Copy = (u64, Result<Header, HeaderFault>);

/// What opening found.
struct Found {
    page_size: PageSize,
    prologue: Prologue,
    /// Slots of copies of the prologue that are not whole.
    torn_prologues: Vec<u64>,
    header: Header,
    /// The copies of the header that is used.
    copies: Vec<Copy>,
    /// Those of the other.
    others: Vec<Copy>,
    report: OpenReport,
}

/// Up to `len` bytes at an offset; fewer at the end of the file, and none where they cannot be read.
fn block_at(file: &dyn VfsFile, offset: u64, len: usize) -> Result<Vec<u8>, String> {
    let mut block = vec![0; len];
    let got = file.read_up_to_at(&mut block, offset).map_err(|error| error.to_string())?;
    block.truncate(got);
    Ok(block)
}

impl Found {
    fn read(
        file: &dyn VfsFile,
        path: &Path,
        store: StoreId,
        access: Access,
        oldest: Generation,
    ) -> Result<Self, OpenError> {
        let (prologue, torn) = read_prologue(file, path)?;
        let path_buf = || path.to_path_buf();
        if prologue.store != store {
            return Err(OpenError::OtherStore { file: path_buf(), expected: store, found: prologue.store });
        }
        let unknown = prologue.read_only_compat & !KNOWN_READ_ONLY_COMPAT;
        if access == Access::Write && unknown != 0 {
            return Err(OpenError::Features { file: path_buf(), bits: unknown, writing: true });
        }
        let copies = read_headers(file, prologue.page_size, header_seed(store));
        let whole = copies.iter().filter_map(|(_, copy)| copy.as_ref().ok());
        let mut generations: Vec<Generation> = whole.clone().map(|header| header.generation).collect();
        generations.sort_unstable_by(|left, right| right.cmp(left));
        generations.dedup();
        let newest =
            whole.max_by_key(|header| header.generation).filter(|header| header.generation >= oldest);
        let Some(header) = newest.cloned() else {
            let copies = copies.iter().map(describe).collect();
            return Err(OpenError::NoGeneration { file: path_buf(), oldest, copies });
        };
        let own = Header::copies(header.generation);
        let other: Vec<&Copy> = copies.iter().filter(|(slot, _)| !own.contains(slot)).collect();
        // Before the second generation the other copies were never written.
        let empty = |(_, copy): &&Copy| matches!(copy, Err(HeaderFault::Zeros));
        // Of two that differ one was not written: a later one, at some time, and not the older.
        let older = newest_of(other.iter().copied()).cloned();
        let never_written = header.generation.get() == 1 && other.iter().all(empty);
        let fell_back = !never_written && other.iter().all(|(_, copy)| copy.is_err());
        let is_used = |copy: &Copy| copy.1.as_ref().is_ok_and(|found| *found == header);
        let not_whole = |(slot, copy): &&Copy| {
            if own.contains(slot) {
                !is_used(&(*slot, copy.clone()))
            } else {
                (copy.is_err() || copy.as_ref().ok() != older.as_ref()) && !never_written
            }
        };
        let mut damaged: Vec<String> =
            torn.iter().map(|slot| format!("slot {slot} holds no copy of the prologue")).collect();
        damaged.extend(copies.iter().filter(not_whole).map(describe));
        let generation = header.generation;
        let report = OpenReport { generation, generations, fell_back, healed: Vec::new(), damaged };
        let (copies, others) = copies.into_iter().partition(|(slot, _)| own.contains(slot));
        let (page_size, torn_prologues) = (prologue.page_size, torn);
        Ok(Self { page_size, prologue, torn_prologues, header, copies, others, report })
    }

    /// Makes every copy whole and durable; says which were not whole.
    fn mend(&self, slots: &Slots) -> Result<Vec<String>, OpenError> {
        let mut healed = Vec::new();
        let prologue = self.prologue.encode();
        for slot in &self.torn_prologues {
            slots.file.write_all_at(&prologue, slot_offset(self.page_size, *slot))?;
            slots.sync()?;
            healed.push(format!("the prologue in slot {slot}"));
        }
        let block = self.header.encode(header_seed(self.prologue.store));
        let is_whole = |copy: &&Copy| copy.1.as_ref().is_ok_and(|found| *found == self.header);
        let (whole, torn): (Vec<&Copy>, Vec<&Copy>) = self.copies.iter().partition(is_whole);
        for (slot, _) in torn.iter().chain(&whole) {
            slots.file.write_all_at(&block, slot_offset(self.page_size, *slot))?;
            slots.sync()?;
        }
        healed.extend(torn.iter().map(|(slot, _)| format!("the header in slot {slot}")));
        healed.extend(self.mend_others(slots)?);
        Ok(healed)
    }

    /// Copies of the other header that are not whole are written again from the one that is, or else cleared: a copy that
    /// could not be read now and can be read another time must not come back once slots of its generation are used.
    fn mend_others(&self, slots: &Slots) -> Result<Vec<String>, OpenError> {
        let whole = newest_of(self.others.iter());
        let block = match whole {
            Some(header) => header.encode(header_seed(self.prologue.store)),
            None => vec![0; HEADER_LEN],
        };
        let mut mended = Vec::new();
        for (slot, copy) in &self.others {
            let what = match (copy, whole) {
                (Ok(copy), Some(whole)) if copy == whole => continue,
                (Err(HeaderFault::Zeros), None) => continue,
                (_, Some(_)) => format!("the older header in slot {slot}"),
                (_, None) => format!("slot {slot}, cleared of what was left of a header"),
            };
            slots.file.write_all_at(&block, slot_offset(self.page_size, *slot))?;
            mended.push(what);
        }
        if !mended.is_empty() {
            slots.sync()?;
        }
        Ok(mended)
    }
}

/// How the copies of prologue and headers differ from what they must be, while nobody commits; mended if asked for.
pub(crate) fn check_headers(inner: &Inner, file: &dyn VfsFile, mend: bool) -> Result<Vec<String>, PageError> {
    let (path, root) = (inner.slots.place.file.as_path(), inner.root());
    let mut found = match Found::read(file, path, inner.store, inner.access, root.generation()) {
        Ok(found) => found,
        Err(OpenError::Io(error)) => return Err(PageError::Io(error)),
        // No copy of the newest header, or of the prologue: the one in memory is what they were.
        Err(error) => return Ok(vec![error.to_string()]),
    };
    // What was left of a header that was not whole was cleared when the file was opened, and is no damage.
    if found.others.iter().all(|(_, copy)| matches!(copy, Err(HeaderFault::Zeros))) {
        let cleared: Vec<String> = found.others.iter().map(describe).collect();
        found.report.damaged.retain(|what| !cleared.contains(what));
    }
    if mend && !found.report.damaged.is_empty() {
        match found.mend(&inner.slots) {
            Err(OpenError::Io(error)) => {
                inner.poison();
                return Err(PageError::Io(error));
            }
            Ok(_) | Err(_) => inner.counters().repaired_pages.add(disk_len(found.report.damaged.len())),
        }
    }
    Ok(found.report.damaged)
}

/// The newest of some copies.
fn newest_of<'c>(copies: impl Iterator<Item = &'c Copy>) -> Option<&'c Header> {
    copies.filter_map(|(_, copy)| copy.as_ref().ok()).max_by_key(|header| header.generation)
}

/// What a copy of a header was found to be.
fn describe((slot, copy): &Copy) -> String {
    match copy {
        Ok(header) => format!("slot {slot} holds generation {}", header.generation),
        Err(fault) => format!("slot {slot} holds {fault}"),
    }
}

fn read_headers(file: &dyn VfsFile, page_size: PageSize, seed: u64) -> Vec<Copy> {
    let mut copies = Vec::with_capacity(4);
    for (odd, slots) in [false, true].into_iter().zip(HEADER_SLOTS) {
        for slot in slots {
            let block = block_at(file, slot_offset(page_size, slot), HEADER_LEN);
            let copy =
                block.map_err(HeaderFault::Unreadable).and_then(|block| Header::decode(&block, seed, odd));
            let shape = Shape::of(page_size.payload_len());
            let copy = match copy {
                Ok(header) if header.height != shape.height(header.regions) => {
                    Err(HeaderFault::Field("height"))
                }
                copy => copy,
            };
            copies.push((slot, copy));
        }
    }
    copies
}

/// The prologue, and the slots of copies that are not whole.
fn read_prologue(file: &dyn VfsFile, path: &Path) -> Result<(Prologue, Vec<u64>), OpenError> {
    let [first_slot, second_slot] = PROLOGUE_SLOTS;
    let decode = |offset: u64| match block_at(file, offset, PROLOGUE_LEN) {
        Ok(block) => Prologue::decode(&block).map_err(CopyFault::Fault),
        Err(error) => Err(CopyFault::Unreadable(error)),
    };
    let first = decode(0);
    if let Err(CopyFault::Fault(fault)) = first
        && fault.is_understood()
    {
        return Err(refused(fault, path.to_path_buf()));
    }
    // Where the second copy is depends on the size of pages, which the first says; else each place is looked at.
    let sizes = first.as_ref().map_or(PageSize::ALL.to_vec(), |prologue| vec![prologue.page_size]);
    let mut second = Err(CopyFault::Fault(PrologueFault::Magic));
    for size in sizes {
        let found = decode(slot_offset(size, second_slot));
        match found {
            Ok(prologue) if prologue.page_size == size => {
                second = Ok(prologue);
                break;
            }
            Ok(_) => {}
            Err(CopyFault::Fault(PrologueFault::Magic)) => {}
            Err(fault) => second = Err(fault),
        }
    }
    match (first, second) {
        (Ok(first), Ok(second)) if first == second => Ok((first, Vec::new())),
        (Ok(first), Ok(_)) => Err(OpenError::Prologue {
            file: path.to_path_buf(),
            first: format!("one of store {}", first.store),
            second: "another one".to_owned(),
        }),
        (Ok(first), Err(_)) => Ok((first, vec![second_slot])),
        (Err(_), Ok(second)) => Ok((second, vec![first_slot])),
        (Err(first), Err(second)) => Err(neither(&first, second, path.to_path_buf())),
    }
}

/// Why there is no copy of the prologue at a place.
#[derive(Debug)]
enum CopyFault {
    Fault(PrologueFault),
    Unreadable(String),
}

impl std::fmt::Display for CopyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Unreadable(error) => f.write_str(error),
        }
    }
}

fn neither(first: &CopyFault, second: CopyFault, file: PathBuf) -> OpenError {
    let is_foreign = |fault: &CopyFault| matches!(fault, CopyFault::Fault(PrologueFault::Magic));
    match second {
        CopyFault::Fault(fault) if fault.is_understood() => refused(fault, file),
        second if is_foreign(first) && is_foreign(&second) => OpenError::NotAPageFile { file },
        second => OpenError::Prologue { file, first: first.to_string(), second: second.to_string() },
    }
}

/// The error for a prologue that is whole and not for this build.
fn refused(fault: PrologueFault, file: PathBuf) -> OpenError {
    match fault {
        PrologueFault::Newer(found) => OpenError::NewerFormat { file, known: FORMAT, found },
        PrologueFault::Features(bits) => OpenError::Features { file, bits, writing: false },
        PrologueFault::PageSize(found) => OpenError::PageSize { file, found },
        PrologueFault::Field { field, expected, found } => {
            OpenError::Setting { file, field, expected, found }
        }
        PrologueFault::Reserved => {
            OpenError::Setting { file, field: "reserved bytes", expected: 0, found: 1 }
        }
        PrologueFault::Magic | PrologueFault::Checksum { .. } => OpenError::NotAPageFile { file },
    }
}
