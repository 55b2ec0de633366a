//! Crash sweeps: run a random program on a [`SimulatedDisk`], cut the power at every change of the disk in every way
//! that is legal (or a sample of them), open what is found, and hold it against a naive model.
//!
//! The parts: a [`Subject`] is what is swept; it generates steps, runs them, and keeps a [`Ledger`] of what it attempted
//! and what was promised when. [`sweep`] makes the crash images, opens each through the same subject, cuts the power a
//! second time while that recovers, and shortens a program that fails. Everything is a function of the seed.
//!
//! [`SimulatedDisk`]: keepstone_vfs::simulated::SimulatedDisk

mod ledger;
mod run;
mod shrink;
mod sweep;
mod tally;

pub use ledger::{Crash, Ledger};
pub use run::run;
pub use sweep::{Plan, Report, Subject, World, sweep, sweep_program};
pub use tally::{Failure, FailureKind, Tally};
