//! The folder that runs stand in: their names and numbers, and which of them stay.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keepstone_pager::{Access, OpenError as PagesError, PageFile, PageFileOptions, PageSize, Parity};
use keepstone_types::{Generation, Lsn, StoreId, lock_rank};
use keepstone_vfs::{IoError, Vfs, VfsExt};

use super::{Run, RunError, RunRef};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// The folder within the store's.
pub(crate) const RUNS_DIR: &str = "runs";
/// What the name of a run's file ends in, behind its number in 16 hexadecimal digits.
const EXTENSION: &str = "run";
/// Where files go whose records may have been cut with a damaged part of the log.
const QUARANTINE: &str = "quarantine";
/// Bytes of pages of a run that are kept in memory.
const CACHE_BYTES: u64 = 1 << 20;

/// What becomes of the file of a run that no record of the log names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unnamed {
    /// Nothing: the store is open read-only.
    Stays,
    /// It is removed: its transaction was never committed.
    Goes,
    /// It is put aside: its record may have been among what recovery put aside.
    IsQuarantined,
}

/// The runs of an open store.
#[derive(Debug)]
pub(crate) struct RunFolder {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    store: StoreId,
    page_size: PageSize,
    next: AtomicU64,
    /// Whether the folder is known to be there.
    is_made: AtomicBool,
    /// The runs that records of the log name, and those records.
    attached: Mutex<Vec<(Lsn, u64)>>,
}

fn number_of(name: &str) -> Option<u64> {
    let (stem, extension) = name.rsplit_once('.')?;
    let is_number = stem.len() == 16 && extension == EXTENSION;
    u64::from_str_radix(stem, 16).ok().filter(|_| is_number)
}

impl RunFolder {
    /// The folder of a store in `dir`; nothing is looked at yet.
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: &Path, store: StoreId, page_size: PageSize) -> Self {
        Self {
            vfs,
            dir: dir.join(RUNS_DIR),
            store,
            page_size,
            next: AtomicU64::new(1),
            is_made: AtomicBool::new(false),
            attached: Mutex::new(lock_rank::MVCC_RUNS, Vec::new()),
        }
    }

    pub(crate) fn path_of(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}.{EXTENSION}"))
    }

    fn options(&self) -> PageFileOptions {
        // It is gone as soon as it is folded: what rots until then is found, and not rebuilt.
        PageFileOptions::default().page_size(self.page_size).cache_bytes(CACHE_BYTES).parity(Parity::Off)
    }

    /// The numbers of the files that are there.
    fn numbers(&self) -> Result<Vec<u64>, IoError> {
        match self.vfs.list(&self.dir) {
            Ok(entries) => Ok(entries.iter().filter_map(|entry| number_of(&entry.name)).collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// A number that was not given before, and its file's name.
    pub(super) fn next_file(&self) -> Result<(u64, PathBuf), IoError> {
        if !self.is_made.load(Ordering::Acquire) {
            if !self.vfs.exists(&self.dir)? {
                self.vfs.create_dir(&self.dir)?;
            }
            self.vfs.sync_dir(self.dir.parent().unwrap_or(&self.dir))?;
            self.is_made.store(true, Ordering::Release);
        }
        let number = self.next.fetch_add(1, Ordering::AcqRel);
        Ok((number, self.path_of(number)))
    }

    pub(super) fn create(&self, path: &Path) -> Result<PageFile, PagesError> {
        PageFile::create(Arc::clone(&self.vfs), path, self.store, self.options())
    }

    /// Removes a file that no record names. What cannot be removed now is removed when the store is opened.
    pub(super) fn discard(&self, path: &Path) {
        self.vfs.remove(path).unwrap_or_default();
    }

    /// Opens a run that a record of the log names.
    pub(crate) fn open(self: &Arc<Self>, reference: RunRef) -> Result<Arc<Run>, RunError> {
        let path = self.path_of(reference.number);
        let options = self.options();
        let pages = PageFile::open(
            Arc::clone(&self.vfs),
            &path,
            self.store,
            options,
            Access::ReadOnly,
            Generation::ZERO,
        )?;
        let run = Run {
            folder: Arc::clone(self),
            path,
            pages,
            reference,
            spans: Vec::new(),
            is_attached: AtomicBool::new(true),
        };
        // Its root leads to what the record says, or it is another file.
        let mut cursor = run.tree().cursor();
        cursor.seek_first()?;
        drop(cursor);
        Ok(Arc::new(run))
    }

    /// A record of the log names a run.
    pub(crate) fn note_attached(&self, lsn: Lsn, number: u64) {
        self.next.fetch_max(number.saturating_add(1), Ordering::AcqRel);
        self.attached.lock().push((lsn, number));
    }

    /// Once all records were seen: goes on behind all numbers, and does with the files that no record names as is said.
    pub(crate) fn begin(&self, unnamed: Unnamed) -> Result<(), IoError> {
        let named: BTreeSet<u64> = self.attached.lock().iter().map(|(_, number)| *number).collect();
        for number in self.numbers()? {
            self.next.fetch_max(number.saturating_add(1), Ordering::AcqRel);
            if named.contains(&number) {
                continue;
            }
            let path = self.path_of(number);
            match unnamed {
                Unnamed::Stays => {}
                Unnamed::Goes => self.vfs.remove(&path)?,
                Unnamed::IsQuarantined => {
                    let aside = self.dir.join(QUARANTINE);
                    if !self.vfs.exists(&aside)? {
                        self.vfs.create_dir(&aside)?;
                    }
                    self.vfs.rename(&path, &aside.join(path.file_name().unwrap_or_default()))?;
                    self.vfs.sync_dir(&aside)?;
                    self.vfs.sync_dir(&self.dir)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the runs whose records are at or before `lsn`: every header of the page file has what is in them. What
    /// cannot be removed is tried again the next time.
    pub(crate) fn release(&self, lsn: Lsn) -> Result<(), IoError> {
        let gone: Vec<(Lsn, u64)> =
            self.attached.lock().iter().filter(|(at, _)| *at <= lsn).copied().collect();
        for (_, number) in &gone {
            match self.vfs.remove(&self.path_of(*number)) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        self.attached.lock().retain(|entry| !gone.contains(entry));
        Ok(())
    }
}
