//! Histories of many threads, with crashes in between, held by a checker that knows nothing of this store.
//!
//! Threads run random transactions on few hot and many cold keys, and write down what they asked and what they got. The
//! store dies in the middle, by the death of the process or by the loss of power, is opened again and goes on. At the
//! end the store's own history of every key gives the order of versions, `audit` holds what was acknowledged against
//! what is there, and `adya` looks for anomalies. That it would find them is shown twice: by planting each class in a
//! history that has none, and by stores that do something wrong.
//!
//! `KEEPSTONE_ISOLATION_TRANSACTIONS` says how many transactions run at `Serializable`; the two other levels take an
//! eighth of it each (60,000 unless said otherwise). `KEEPSTONE_ISOLATION_SEED` gives other programs; threads interleave
//! as they like, so a seed repeats what is asked and not what comes of it. Each test prints its count as a line of
//! JSON; `cargo xtask isolation --transactions 2000000` runs the long way and adds them up.
//!
//! What is not checked here: predicates over more keys than are known, as the checker knows keys only; transactions of
//! different levels beside each other; branches of time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its counts"
)]

mod audit;
mod checker;
mod flawed;
mod plant;
mod random;
mod record;
mod run;
mod tally;
mod workload;

use std::env;
use std::time::Instant;

use keepstone_mvcc_temporal::Isolation;

use crate::audit::{History, audit};
use crate::checker::{Subject, Verdict};
use crate::flawed::Flaw;
use crate::plant::Plant;
use crate::run::{Plan, run};
use crate::tally::Tally;

const TRANSACTIONS_DEFAULT: u64 = 60_000;

const SEED_DEFAULT: u64 = 0x1505;

/// A history is short enough to be replayed after each of its crashes in little time.
const HISTORY_MAX: u64 = 100_000;

/// Models from the weakest to the strongest, for what is planted.
const MODELS: [&str; 4] = ["read-committed", "snapshot-isolation", SERIALIZABLE, STRICT_SERIALIZABLE];

/// The levels have their own names at the checker; all of them include that what was acknowledged is seen.
const SERIALIZABLE: &str = "serializable";
const STRICT_SERIALIZABLE: &str = "strict-serializable";
const STRONG_SNAPSHOT: &str = "strong-snapshot-isolation";
const STRONG_READ_COMMITTED: &str = "strong-read-committed";

fn number(name: &str, default: u64) -> u64 {
    let given = env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn seed() -> u64 {
    number("KEEPSTONE_ISOLATION_SEED", SEED_DEFAULT)
}

/// Runs and audits histories of so many transactions together, gives each to `judge`, and prints the count.
fn histories(
    isolation: Isolation,
    transactions: u64,
    mut judge: impl FnMut(&Subject) -> Vec<Verdict>,
) -> Tally {
    let (started, seed) = (Instant::now(), seed());
    let count = transactions.div_ceil(HISTORY_MAX).max(2);
    let mut tally = Tally::default();
    for history in 0..count {
        let seed = seed.wrapping_add(history << 16);
        let run = run(Plan::new(isolation, seed, transactions / count));
        tally.add(&run);
        let audited = audit(&run);
        let case = format!("{isolation:?}, history {history}, seed {seed}");
        assert_eq!(audited.findings, Vec::<String>::new(), "{case}");
        println!("{case}: {} transactions, {} crashes", run.transactions.len(), run.crashes);
        tally.found += audited.found;
        tally.not_found += audited.not_found;
        for verdict in judge(&Subject::new(&audited.history)) {
            assert!(verdict.valid, "{case}: {:?}: {}", verdict.anomalies, verdict.explanation);
        }
    }
    tally.print(&format!("{isolation:?}"), seed, started.elapsed());
    assert!(tally.committed * 2 > tally.transactions, "less than half committed: {tally:?}");
    assert!(tally.crashes >= count * 3, "{tally:?}");
    assert!(tally.found >= count, "each history has a commit that was stored and not answered: {tally:?}");
    tally
}

#[test]
fn serializable_histories_have_no_anomaly() {
    let transactions = number("KEEPSTONE_ISOLATION_TRANSACTIONS", TRANSACTIONS_DEFAULT);
    let tally =
        histories(Isolation::Serializable, transactions, |subject| vec![subject.check(STRICT_SERIALIZABLE)]);
    assert!(tally.transactions >= transactions / 2 * 2);
    assert!(tally.conflicts * 50 > tally.transactions, "too few conflicts to show anything: {tally:?}");
}

#[test]
fn snapshot_histories_have_write_skew_and_nothing_worse() {
    let transactions = number("KEEPSTONE_ISOLATION_TRANSACTIONS", TRANSACTIONS_DEFAULT) / 8;
    let tally = histories(Isolation::Snapshot, transactions, |subject| {
        let skewed = subject.check(SERIALIZABLE);
        assert_eq!((skewed.valid, skewed.anomalies), (false, vec!["G2-item".to_owned()]));
        vec![subject.check(STRONG_SNAPSHOT)]
    });
    assert!(tally.conflicts * 100 > tally.transactions, "too few conflicts to show anything: {tally:?}");
}

#[test]
fn read_committed_histories_have_what_is_allowed_and_nothing_worse() {
    let transactions = number("KEEPSTONE_ISOLATION_TRANSACTIONS", TRANSACTIONS_DEFAULT) / 8;
    let tally = histories(Isolation::ReadCommitted, transactions, |subject| {
        let allowed = subject.check_with_versions(STRICT_SERIALIZABLE);
        for anomaly in ["internal", "lost-update", "G-single-item"] {
            assert!(
                allowed.anomalies.iter().any(|found| found == anomaly),
                "{anomaly}: {:?}",
                allowed.anomalies
            );
        }
        vec![subject.check_with_versions(STRONG_READ_COMMITTED)]
    });
    assert_eq!(tally.conflicts, 0, "blind writes never conflict");
}

/// A history without anomalies to plant some in: short, with many keys that are written for the first time.
fn sound_history() -> History {
    let run = run(Plan { keys: 2_000, ..Plan::new(Isolation::Serializable, seed(), 6_000) });
    let audited = audit(&run);
    assert_eq!(audited.findings, Vec::<String>::new());
    let verdict = Subject::new(&audited.history).check(STRICT_SERIALIZABLE);
    assert!(verdict.valid, "{verdict:?}");
    audited.history
}

#[test]
fn every_planted_anomaly_is_named_and_refused_by_the_models_that_exclude_it() {
    let (started, history) = (Instant::now(), sound_history());
    let mut tally = Tally::default();
    for plant in Plant::ALL {
        let planted = plant.plant(&history).unwrap_or_else(|| panic!("{plant:?}: no place for it"));
        let subject = Subject::new(&planted);
        for (place, model) in MODELS.into_iter().enumerate() {
            let verdict = subject.check(model);
            let allowed = place < plant.allowed_by();
            assert_eq!(verdict.valid, allowed, "{plant:?}, {model}: {verdict:?}");
            let named = verdict.anomalies.iter().any(|name| plant.is_named(name));
            assert_eq!(named, !allowed, "{plant:?}, {model}: {verdict:?}");
        }
        tally.planted_caught += 1;
    }
    tally.print("planted", seed(), started.elapsed());
}

/// What a store with a flaw makes of a history: what the audit finds, and what the checker names.
fn flawed(flaw: Flaw) -> (Vec<String>, Verdict) {
    let mut plan = Plan { flaw: Some(flaw), ..Plan::new(Isolation::Serializable, seed(), 3_000) };
    plan.crashes = if flaw == Flaw::CrashesForget { 3 } else { 0 };
    let audited = audit(&run(plan));
    (audited.findings, Subject::new(&audited.history).check(STRICT_SERIALIZABLE))
}

#[test]
fn stores_that_do_something_wrong_are_found_out() {
    let started = Instant::now();
    let mut tally = Tally::default();
    for (flaw, finding, anomaly) in [
        (Flaw::ScansUnchecked, None, "G2-item"),
        (Flaw::ConflictsIgnored, None, "lost-update"),
        (Flaw::RefusedCommitsStored, Some("given up, yet there"), "G1a"),
        (Flaw::CommitsInHalves, Some("torn"), "G-single-item"),
        (Flaw::SnapshotsAreOld, None, "-realtime"),
        (Flaw::CrashesForget, Some("lost"), "G-single-item"),
    ] {
        let (findings, verdict) = flawed(flaw);
        match finding {
            Some(kind) => {
                assert!(findings.iter().any(|found| found.starts_with(kind)), "{flaw:?}: {findings:?}")
            }
            None => assert_eq!(findings, Vec::<String>::new(), "{flaw:?}"),
        }
        assert!(verdict.anomalies.iter().any(|name| name.contains(anomaly)), "{flaw:?}: {verdict:?}");
        assert!(!verdict.valid);
        tally.planted_caught += 1;
    }
    tally.print("flawed", seed(), started.elapsed());
}
