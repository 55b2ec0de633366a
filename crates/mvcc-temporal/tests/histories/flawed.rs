//! Stores that do something wrong on purpose: each flaw must be seen in the histories that it makes.

use keepstone_mvcc_temporal::{Database, Isolation, Txn, TxnOptions};

use crate::record::{Key, Mark, Outcome, Step};
use crate::workload::{Call, write_call};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// What was scanned is not held against the commits since.
    ScansUnchecked,
    /// A commit that lost the race is stored nevertheless.
    ConflictsIgnored,
    /// A commit that was refused is stored nevertheless.
    RefusedCommitsStored,
    /// What a transaction writes becomes visible in two steps.
    CommitsInHalves,
    /// A snapshot may be older than what was acknowledged before it was taken.
    SnapshotsAreOld,
    /// After a crash the store is found as it was at the crash before.
    CrashesForget,
}

/// What a call would have to be to leave such a step; the flawed ways to commit do not tell deletions from values.
fn store(database: &Database, writes: &[(Key, Mark)]) -> Outcome {
    let mut txn = database.begin_with(TxnOptions::default().isolation(Isolation::ReadCommitted)).unwrap();
    for (key, mark) in writes {
        write_call(&mut txn, Call::Put(*key), *mark, &mut Vec::new());
    }
    Outcome::Wrote(txn.commit().unwrap().version)
}

fn writes(steps: &[Step]) -> Vec<(Key, Mark)> {
    let mut writes = std::collections::BTreeMap::new();
    for step in steps {
        if let Step::Write { key, mark } = *step {
            writes.insert(key, mark);
        }
    }
    writes.into_iter().collect()
}

/// What becomes of a refused commit.
pub(crate) fn after_refusal(flaw: Option<Flaw>, database: &Database, steps: &[Step]) -> Outcome {
    match flaw {
        Some(Flaw::ConflictsIgnored) => store(database, &writes(steps)),
        Some(Flaw::RefusedCommitsStored) => {
            store(database, &writes(steps));
            Outcome::Refused
        }
        _ => Outcome::Refused,
    }
}

/// Commits one half of the writes and then the other.
pub(crate) fn commit_in_halves(database: &Database, txn: Txn, steps: &[Step]) -> Outcome {
    drop(txn);
    let writes = writes(steps);
    let (first, second) = writes.split_at(writes.len() / 2);
    if !first.is_empty() {
        store(database, first);
        std::thread::yield_now();
    }
    store(database, second)
}
