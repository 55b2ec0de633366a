//! What the store says of itself at the end, held against what the callers were told.
//!
//! The store's history of every key gives the order of its versions. From it follows what became of the transactions
//! that got no answer, and what no checker of isolation asks: that what was acknowledged is there, at the version that
//! was acknowledged, whole, and that nothing else is.

use std::collections::BTreeMap;

use keepstone_mvcc_temporal::Database;
use keepstone_types::Version;

use crate::record::{Key, Mark, Outcome, Transaction};
use crate::run::Run;
use crate::workload::{DEAD, LIVE, mark_of, stored};

/// A history whose transactions all have an end, and the order in which each key got its marks, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) orders: BTreeMap<Key, Vec<Mark>>,
}

/// What the audit says.
#[derive(Debug)]
pub(crate) struct Audited {
    pub(crate) history: History,
    /// What is wrong.
    pub(crate) findings: Vec<String>,
    /// Transactions without an answer that were found, and that were not.
    pub(crate) found: u64,
    pub(crate) not_found: u64,
}

/// Where every mark stands.
type Places = BTreeMap<(Key, Mark), Version>;

/// The marks of a key with their versions, oldest first.
fn versions(database: &Database, key: Key) -> Vec<(Version, Option<Mark>)> {
    let entries = |table| {
        let entries = database.history(table, stored(key)).unwrap();
        entries.map(|entry| entry.unwrap()).map(|entry| (entry.version, entry.value))
    };
    let deletions: BTreeMap<Version, Mark> =
        entries(DEAD).filter_map(|(version, mark)| Some((version, mark_of(&mark?)))).collect();
    let mut marks: Vec<_> = entries(LIVE)
        .map(|(version, value)| {
            let mark = value.map(|value| mark_of(&value));
            (version, mark.or_else(|| deletions.get(&version).copied()))
        })
        .collect();
    marks.reverse();
    marks
}

fn places(database: &Database, keys: Key, findings: &mut Vec<String>) -> (Places, BTreeMap<Key, Vec<Mark>>) {
    let (mut places, mut orders) = (Places::new(), BTreeMap::new());
    for key in 0..keys {
        let order: &mut Vec<Mark> = orders.entry(key).or_default();
        for (version, mark) in versions(database, key) {
            let Some(mark) = mark else {
                findings.push(format!("key {key}: the deletion at version {version} left no mark"));
                continue;
            };
            order.push(mark);
            if let Some(other) = places.insert((key, mark), version) {
                findings.push(format!("key {key}: mark {mark} stands at versions {other} and {version}"));
            }
        }
    }
    (places, orders)
}

/// Settles one transaction; what it left is taken out of `places`.
fn settle(transaction: &mut Transaction, places: &mut Places) -> Result<(), String> {
    let wrote = transaction.writes();
    let at: Vec<Option<Version>> = wrote.iter().map(|(key, mark)| places.remove(&(*key, *mark))).collect();
    let there: Vec<Version> = at.iter().copied().flatten().collect();
    let whole = there.len() == at.len() && there.iter().all(|version| Some(version) == there.first());
    let shown = || format!("{:?} left {at:?} of {:?}", transaction.outcome, transaction.steps);
    match transaction.outcome {
        Outcome::Wrote(version) if there.is_empty() => Err(format!("lost: {version}: {}", shown())),
        Outcome::Wrote(_) | Outcome::Unanswered if !there.is_empty() && !whole => {
            Err(format!("torn: {}", shown()))
        }
        Outcome::Wrote(version) if there.first() != Some(&version) => Err(format!("elsewhere: {}", shown())),
        Outcome::Refused | Outcome::TooLate | Outcome::RolledBack if !there.is_empty() => {
            Err(format!("given up, yet there: {}", shown()))
        }
        Outcome::Unanswered => {
            // Without writes nothing tells whether it counts; it is left out.
            transaction.outcome = match there.first() {
                Some(version) => Outcome::Wrote(*version),
                None if wrote.is_empty() => Outcome::Unanswered,
                None => Outcome::Refused,
            };
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Audits a run.
pub(crate) fn audit(run: &Run) -> Audited {
    let mut findings = Vec::new();
    let (mut places, orders) = places(&run.database, run.plan.keys_end(), &mut findings);
    let mut transactions = run.transactions.clone();
    let (mut found, mut not_found) = (0, 0);
    for transaction in &mut transactions {
        let unanswered = transaction.outcome == Outcome::Unanswered;
        findings.extend(settle(transaction, &mut places).err());
        if unanswered {
            found += u64::from(transaction.made().is_some());
            not_found += u64::from(transaction.outcome == Outcome::Refused);
        }
    }
    // What an answered transaction overwrote itself, and what nobody wrote.
    findings.extend(places.iter().map(|((key, mark), version)| {
        format!("key {key}: mark {mark} at version {version} should never have been stored")
    }));
    transactions.sort_by_key(|transaction| transaction.ended);
    Audited { history: History { transactions, orders }, findings, found, not_found }
}

impl History {
    /// What stood at each key before a mark.
    pub(crate) fn predecessors(&self) -> BTreeMap<(Key, Mark), Mark> {
        let pairs = self
            .orders
            .iter()
            .flat_map(|(key, order)| order.windows(2).map(move |pair| ((*key, pair[1]), pair[0])));
        pairs.collect()
    }
}
