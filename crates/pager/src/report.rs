//! What opening a page file found.

use keepstone_types::Generation;

/// What opening found, and what it mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// The generation that was opened.
    pub generation: Generation,
    /// Generations whose header is whole, each once, newest first.
    pub generations: Vec<Generation>,
    /// Whether the other header, which may have been of a newer generation, is not whole in any copy: after a crash within
    /// a commit, or when a header is damaged. The generation before is then read as it was. Zeros in place of the second generation are
    /// taken for a file that has only had its first.
    pub fell_back: bool,
    /// Copies of the prologue and of the header that were not whole, and are again. Empty when opened for reading only.
    pub healed: Vec<String>,
    /// Copies that were not whole, or not of the generation that was opened, and how they were found.
    pub damaged: Vec<String>,
}
