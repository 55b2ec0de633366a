//! A file of checksummed pages with atomic commits, snapshots for readers, and a free-space map that checks itself.
//!
//! **Concept.** A [`PageFile`] is slots of one size. A page is read by its [`PageRef`](keepstone_types::PageRef), which
//! proves its content; a [`PageWriter`] builds the next *generation*: it puts pages into free slots and frees others, and
//! [`commit`](PageWriter::commit) makes all of it durable at once. A [`Root`] is a generation that was committed, with a
//! few bytes that say where the layer above begins. [`PageRead`] and [`PageWrite`] are what trees stand on; [`MemoryPages`]
//! implements them without a file.
//!
//! **Guarantees.** After a crash at any point the newest generation that was acknowledged is there, whole, or one that was
//! being committed. If its header is lost in both copies, the generation before is there, and says so. What a held root
//! leads to is not written over. A failed or full disk before the header is written takes nothing; a failed sync poisons
//! the file until it is opened again. No read gives a page other than the one that is referred to. Nothing is written to a
//! file that is not understood. Opening reads six blocks, whatever the size of the file.
//!
//! **Limits.** One writer at a time, in one process. New pages are held in memory until the commit, and of every region of
//! 1,024 slots that was written to, some 600 bytes, and 3 KiB more with parity. Of a group of 32 pages one is rebuilt, two are
//! not; without parity (the default) a damaged page is reported. A file has less than 2^42 slots. Slots that a reader holds are known to this process only.
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use keepstone_pager::{PageFile, PageFileOptions, PageKind, PageRead, PageWriteExt};
//! use keepstone_types::StoreId;
//! use keepstone_vfs::MemoryVfs;
//!
//! let (vfs, store) = (Arc::new(MemoryVfs::new()), StoreId::from_bytes([7; 16]));
//! let file = PageFile::create(vfs, Path::new("/pages"), store, PageFileOptions::default())?;
//! let mut writer = file.begin()?;
//! let at = writer.put(PageKind::FIRST_FREE, b"kept")?;
//! let root = writer.commit(&at.to_bytes())?;
//! assert_eq!((root.generation().get(), root.meta()), (2, &at.to_bytes()[..]));
//! assert!(file.read(at)?.payload().starts_with(b"kept"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod access;
mod audit;
mod bitmap;
mod cache;
mod directory;
mod error;
mod file;
#[cfg(test)]
mod format_doc;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod layout;
mod memory;
mod open;
mod options;
mod page;
mod parity;
mod prologue;
mod region;
mod report;
mod root;
mod slots;
mod space;
mod stats;
mod sync;
mod tending;
mod usage;
mod writer;
#[doc(hidden)]
pub mod wrong;

pub use access::{PageRead, PageWrite, PageWriteExt, UnverifiedPage};
pub use audit::{Audit, AuditFinding, AuditReport, RebuildReport};
pub use error::{OpenError, PageError};
pub use file::PageFile;
pub use header::META_LEN_MAX;
pub use layout::PageSize;
pub use memory::MemoryPages;
pub use options::{Access, PageFileOptions};
pub use page::{Page, PageKind, PageRun};
pub use parity::{Parity, ScrubFinding, ScrubOptions, ScrubProgress, ScrubReport};
pub use report::OpenReport;
pub use root::Root;
pub use stats::PageStats;
pub use usage::SlotUsage;
pub use writer::PageWriter;
