//! A segmented write-ahead log.

mod background;
mod catalog;
mod error;
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
mod zeroed;

pub use error::{
    AppendError, CallerError, CloseError, CommitError, Damage, OpenError, OptionsError, PinError, PoisonCause,
    ReadError, Repair,
};
pub use log::{Log, Replay, Ticket};
pub use options::{Access, Durability, LogOptions, Recovery};
pub use pins::{Pin, PinInfo};
pub use reader::LogReader;
pub use record::{Record, RecordKind};
pub use report::{RecoveryReport, Replayed, ReplayedRecord, TimelineChange};
pub use sink::{LogSink, NoSink};
pub use stats::LogStats;
