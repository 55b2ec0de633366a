//! What a sweep found, and its one line of JSON.

use std::fmt;

/// What can be wrong with a store after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// Something that was promised is gone.
    Lost,
    /// Something is there that was never attempted, was withdrawn, or was gone before; or a number was used again.
    Invented,
    /// The store does not open, does not pass its own check, or takes no commits.
    Unopenable,
    /// A file is left that nothing names.
    Orphan,
    /// A version reads otherwise than it was written.
    WrongRead,
    /// Parity does not count every page in use as it is.
    WrongParity,
    /// A page that was damaged afterwards is not found, or not had back.
    Unhealed,
}

/// A failure, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which kind.
    pub kind: FailureKind,
    /// What was expected and found.
    pub what: String,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }

    /// The store does not open, or not as it must.
    pub fn unopenable(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Unopenable, what)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Counts over sweeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Programs that were run.
    pub workloads: u64,
    /// Crash images that were opened, second crashes included.
    pub images: u64,
    /// Of these, the ones made while an image recovered or went on.
    pub double_crash_images: u64,
    /// Images by what was wrong with them.
    pub lost: u64,
    /// See [`FailureKind::Invented`].
    pub invented: u64,
    /// See [`FailureKind::Unopenable`].
    pub unopenable: u64,
    /// See [`FailureKind::Orphan`].
    pub orphans: u64,
    /// See [`FailureKind::WrongRead`].
    pub wrong_reads: u64,
    /// See [`FailureKind::WrongParity`].
    pub wrong_parity: u64,
    /// See [`FailureKind::Unhealed`].
    pub unhealed: u64,
    /// Wrong variants that a sweep has caught.
    pub canary_caught: u64,
}

impl Tally {
    pub(super) fn count(&mut self, kind: FailureKind) {
        let counter = match kind {
            FailureKind::Lost => &mut self.lost,
            FailureKind::Invented => &mut self.invented,
            FailureKind::Unopenable => &mut self.unopenable,
            FailureKind::Orphan => &mut self.orphans,
            FailureKind::WrongRead => &mut self.wrong_reads,
            FailureKind::WrongParity => &mut self.wrong_parity,
            FailureKind::Unhealed => &mut self.unhealed,
        };
        *counter += 1;
    }

    /// Images with something wrong.
    #[must_use]
    pub fn failures(&self) -> u64 {
        let of_content = self.lost + self.invented + self.unopenable + self.orphans + self.wrong_reads;
        of_content + self.wrong_parity + self.unhealed
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.workloads += other.workloads;
        self.images += other.images;
        self.double_crash_images += other.double_crash_images;
        self.lost += other.lost;
        self.invented += other.invented;
        self.unopenable += other.unopenable;
        self.orphans += other.orphans;
        self.wrong_reads += other.wrong_reads;
        self.wrong_parity += other.wrong_parity;
        self.unhealed += other.unhealed;
        self.canary_caught += other.canary_caught;
    }

    /// The tally as one JSON object, with the seconds that the sweep took.
    #[must_use]
    pub fn to_json(&self, seconds: f64) -> String {
        format!(
            "{{\"workloads\":{},\"images\":{},\"lost\":{},\"invented\":{},\"unopenable\":{},\"orphans\":{},\
             \"wrong_reads\":{},\"wrong_parity\":{},\"unhealed\":{},\"double_crash_images\":{},\"canary_caught\":{},\"seconds\":{seconds:.1}}}",
            self.workloads,
            self.images,
            self.lost,
            self.invented,
            self.unopenable,
            self.orphans,
            self.wrong_reads,
            self.wrong_parity,
            self.unhealed,
            self.double_crash_images,
            self.canary_caught,
        )
    }
}
