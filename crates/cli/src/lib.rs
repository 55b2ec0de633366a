//! The `keepstone` command as a library: one function, [`run`], and behind it everything that the program is made of. See
//! the [README](https://docs.rs/crate/keepstone-cli) for what the command does and `args` for what can be typed.
//!
//! It is a library so that what reads foreign bytes, an import above all, can be reached by tests and fuzzers; it is not
//! meant to be built upon.

mod args;
mod at;
mod branch;
mod check;
mod command;
mod crate_graph;
mod demo;
mod exit;
mod export;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod import;
mod json;
mod link;
mod maintenance;
mod node;
mod output;
mod scrub;
mod session;
mod snapshot;
mod stats;
mod versions;

pub use command::run;
