//! A segmented write-ahead log: group commit with one write and one sync, healing, exact recovery, pins.
//!
//! **Concept.** A [`Record`] gets an [`Lsn`](keepstone_types::Lsn) when it is queued. Whoever finds nobody leading takes
//! everything queued to the disk as one *group*: one write over blocks that were written before, one sync. Groups are
//! chained by their checksums through *segments*. Used alone, [`Log::append`] is all there is; a layer above implements
//! [`LogSink`] and is called at each step of a record's way.
//!
//! **Guarantees.** With [`Durability::Normal`] and [`Durability::Full`] what was acknowledged is there after a crash at
//! any point. Queue order is LSN order is the order of publication. No LSN is given to two records that were ever
//! acknowledged or seen. One lost or rotten sector per group is rebuilt; more are reported, never cut, if anything proves
//! that the group was durable. A failed sync is never taken back: the log takes no more records until it is opened again.
//! A full disk, before anything is written, is an error after which work goes on. Nothing is written to a log that is not
//! understood.
//!
//! **Limits.** The last group before a crash is provable only by a later one or by the idle mark, 5 ms after it. A group
//! has at most 1 MiB; a larger payload goes to a side file of at most 1 GiB, which no XOR sector protects. A batch longer
//! than a group takes several, so that its end may be lost in a crash where its beginning is not. One process writes.
//!
//! ```
//! use keepstone_types::Lsn;
//! use keepstone_wal::{Log, LogOptions, Record, RecordKind, Replayed};
//!
//! let dir = tempfile::tempdir()?;
//! let log = Log::open(dir.path().join("log"), LogOptions::default())?;
//! let first = log.append(Record::new(RecordKind::WRITE, b"kept".to_vec()))?;
//! assert_eq!((first, log.durable_lsn()), (Lsn::FIRST, Lsn::FIRST));
//!
//! let Some(Replayed::Record(record)) = log.read_from(first)?.next().transpose()? else { panic!() };
//! assert_eq!(record.payload, b"kept");
//! log.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod background;
mod catalog;
mod entry;
mod error;
#[cfg(test)]
mod format_doc;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod keeper;
mod layout;
mod leader;
mod log;
mod open;
mod options;
mod pins;
mod queue;
mod reader;
mod record;
mod recovery;
mod report;
mod segment;
mod side_file;
mod sink;
mod stats;
mod sync;
mod tail;
mod verify;
mod writer;
#[doc(hidden)]
pub mod wrong;
mod zeroed;

pub use entry::{Entry, EntryError};
pub use error::{
    AppendError, CallerError, CloseError, CommitError, Damage, OpenError, OptionsError, PinError,
    PoisonCause, ReadError, Repair,
};
pub use log::{Log, Replay, Ticket};
pub use options::{Access, Durability, LogOptions, Recovery, Tending};
pub use pins::{Pin, PinInfo};
pub use reader::LogReader;
pub use record::{Record, RecordKind};
pub use report::{RecoveryReport, Replayed, ReplayedRecord, TimelineChange};
pub use sink::{LogSink, NoSink};
pub use stats::LogStats;
