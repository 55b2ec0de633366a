//! A disk that loses power, fills up, rots and lies, exactly as its seed says.
//!
//! [`SimulatedDisk`] is a [`Vfs`](crate::Vfs) in memory that keeps, of every file, what a reader sees and what is on
//! stable storage, and between the two every write that was not synced. Each operation is recorded with its content in a
//! [`Trace`]; a [`Replay`] walks the trace again and can be stopped anywhere to make a *crash image*: another disk that
//! holds what would be found if the power had failed there. Which unsynced sectors and names an image keeps is decided by
//! a [`Choose`]: [`Dice`] draws, [`Odometer`] goes through all of them.
//!
//! What is modelled:
//! * Unsynced bytes are lost, kept or torn at 512 bytes, in any order; a sector that was being written may hold noise; a
//!   length that was not synced is old, new or between.
//! * A name that was created, renamed or removed is durable after its folder was synced. Until then names that have
//!   nothing to do with each other are kept or lost independently; a rename is kept whole or not at all.
//! * A sync that fails keeps some sectors and drops the others for good: a later sync does not bring them back.
//! * Writes that are lost after their sync, land elsewhere, or land twice ([`WriteFate`]); they show after a crash.
//! * Synced bits that rot, sectors that read as zero or not at all, short reads and writes, a disk of limited size.
//! * Time: each operation moves a [`ManualClock`](keepstone_types::ManualClock) by what it would take.
//!
//! What is not: a write that damages a sector it does not touch, and a sync that reports success without having synced.

mod choose;
mod content;
mod disk;
mod event;
mod fault;
mod image;
mod names;
mod platter;
mod trace;

pub use choose::{Choose, Dice, Odometer};
pub use disk::{Delays, SimulatedDisk};
pub use event::{Event, Payload, WriteFate};
pub use fault::{FailedSync, Fault};
pub use image::Tearing;
pub use trace::{Replay, Trace};

/// The unit in which unsynced writes are torn, in bytes.
pub const TEAR: usize = 512;
