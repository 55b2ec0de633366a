//! The only place in Keepstone that touches files.
//!
//! [`Vfs`] and [`VfsFile`] are all that the product needs of a disk: positioned reads and writes, syncs of data and of
//! names, an exclusive lock. [`OsVfs`] is the operating system, [`MemoryVfs`] a file tree in memory, and
//! [`SimulatedDisk`](simulated::SimulatedDisk) a disk that loses power. Everything above takes an `Arc<dyn Vfs>`, so each
//! can stand in for the others.
//!
//! **Guarantees.** Every error keeps path and operation. Nothing is buffered in this crate: what `write_at` accepted has
//! reached the system. **Limits.** Paths that are not UTF-8 are listed with replacement characters.
//!
//! ```
//! use std::path::Path;
//! use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFileExt};
//!
//! let disk = MemoryVfs::new();
//! disk.create_dir(Path::new("/store"))?;
//! let file = disk.open(Path::new("/store/a"), OpenOptions::CREATE_NEW)?;
//! file.write_all_at(b"kept", 0)?;
//! file.sync_data()?;
//! disk.sync_dir(Path::new("/store"))?;
//! assert_eq!(disk.read_file(Path::new("/store/a"), 1_024)?, b"kept");
//! # Ok::<(), keepstone_vfs::IoError>(())
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod aligned;
mod error;
mod file_system;
mod lock_registry;
mod memory;
mod os;
pub mod simulated;
mod sync;

pub use aligned::AlignedBuffer;
pub use error::{IoError, IoOperation, LockError};
pub use file_system::{
    DirEntry, EntryKind, OpenMode, OpenOptions, Vfs, VfsExt, VfsFile, VfsFileExt, VfsLock, Volume, WriteMode,
};
pub use memory::MemoryVfs;
pub use os::OsVfs;
