//! What is written down of a transaction while it runs: what its caller asked, and what came back.

use keepstone_types::Version;

/// A key. There are few, so that a scan can be written down as a read of every key in its range.
pub(crate) type Key = u16;

/// What a write leaves behind, a deletion included. Never given twice, so a read names its writer.
pub(crate) type Mark = u64;

/// One read or write of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `None`: nobody ever wrote the key. Otherwise the mark of the value, or of the deletion, that was found.
    Read { key: Key, found: Option<Mark> },
    /// A value or a deletion.
    Write { key: Key, mark: Mark },
}

/// How a transaction ended, as far as its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Committed as this version.
    Wrote(Version),
    /// Committed without writes; this version was read.
    Read(Version),
    /// The commit was refused.
    Refused,
    /// The disk had failed before, and the store took no more commits.
    TooLate,
    /// The caller gave it up.
    RolledBack,
    /// The process died before there was an answer.
    Unanswered,
}

/// A transaction as its caller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// The thread.
    pub(crate) process: i64,
    /// When it was begun and when it had ended, on a counter that all threads share.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) outcome: Outcome,
}

impl Transaction {
    /// The keys it wrote, each with the mark it left there last, in the order of their first writes.
    pub(crate) fn writes(&self) -> Vec<(Key, Mark)> {
        let mut writes: Vec<(Key, Mark)> = Vec::new();
        for step in &self.steps {
            let Step::Write { key, mark } = *step else { continue };
            match writes.iter_mut().find(|(written, _)| *written == key) {
                Some(write) => write.1 = mark,
                None => writes.push((key, mark)),
            }
        }
        writes
    }

    /// The mark that it left at a key last.
    pub(crate) fn wrote(&self, key: Key) -> Option<Mark> {
        self.writes().into_iter().find(|(written, _)| *written == key).map(|(_, mark)| mark)
    }

    /// What it read of others: the first read of each key that it had not written before.
    pub(crate) fn reads(&self) -> Vec<(Key, Option<Mark>)> {
        let mut seen: Vec<Key> = Vec::new();
        let mut reads = Vec::new();
        for step in &self.steps {
            let (Step::Read { key, .. } | Step::Write { key, .. }) = *step;
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            if let Step::Read { found, .. } = *step {
                reads.push((key, found));
            }
        }
        reads
    }

    /// Whether it read or wrote a key.
    pub(crate) fn touches(&self, key: Key) -> bool {
        self.steps.iter().any(|step| {
            let (Step::Read { key: touched, .. } | Step::Write { key: touched, .. }) = step;
            *touched == key
        })
    }

    pub(crate) fn is_committed(&self) -> bool {
        matches!(self.outcome, Outcome::Wrote(_) | Outcome::Read(_))
    }

    /// The version it made.
    pub(crate) fn made(&self) -> Option<Version> {
        match self.outcome {
            Outcome::Wrote(version) => Some(version),
            _ => None,
        }
    }

    /// Whether the two ran at the same time.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.begun < other.ended && other.begun < self.ended
    }
}
