//! What can go wrong in a chore, said so that whoever reads it knows what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why a chore did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{command}` could not be run: {source}")]
    Spawn { command: String, source: io::Error },
    #[error("`{command}` failed: {status}")]
    Failed { command: String, status: ExitStatus },
    #[error("`{command}` was stopped after {} s: a hang is a failure", limit.as_secs())]
    TimedOut { command: String, limit: Duration },
    #[error("`{command}` was stopped by an interrupt")]
    Interrupted { command: String },
    #[error("the answer of `{command}` is not what was expected: {source}")]
    Json { command: String, source: serde_json::Error },
    #[error("{0} findings, listed above")]
    Untidy(usize),
    #[error("failed: {}", .0.join(", "))]
    Steps(Vec<String>),
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// An I/O error with what was being done, and to which path.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
