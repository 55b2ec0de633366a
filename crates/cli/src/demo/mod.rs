//! The main job on real input: read, store, ask, update, look back, be killed, recover, prove, check, tell.

mod checkpoint;
mod crash;
mod lock_file;
mod questions;
mod run;
mod source;
mod summary;

pub(crate) use run::run;
