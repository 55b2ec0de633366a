//! The main job on real input: read, store, ask, update, look back, be killed, recover, prove, be
//! damaged, heal, check, tell.

mod checkpoint;
mod crash;
mod damage;
mod lock_file;
mod questions;
mod run;
mod source;
mod summary;

pub(crate) use run::run;
