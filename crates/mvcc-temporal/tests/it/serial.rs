//! Serializability against an oracle: what every transaction read must be what it would have read had all of them run one
//! after the other, in the order of their versions. The oracle is shown to refuse what snapshot isolation lets through.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use keepstone_mvcc_temporal::{Database, Isolation, Read, TxnOptions, WriteError};
use keepstone_types::Version;

use crate::support::{T, memory, on_both, with_isolation};

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// What a transaction saw and did.
#[derive(Debug)]
struct Trace {
    /// Its place in the order: the version it made, or read when it wrote nothing; writers come before readers of it.
    place: (Version, bool),
    gets: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    scans: Vec<(u8, u8, Rows)>,
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Replays the transactions one by one; says which of them read what it could not have read.
fn first_anomaly(mut traces: Vec<Trace>) -> Option<String> {
    traces.sort_by_key(|trace| trace.place);
    let mut content = Content::new();
    for trace in traces {
        for (key, value) in &trace.gets {
            if content.get(key) != value.as_ref() {
                return Some(format!(
                    "{:?} got {value:?} at {key:?}, expected {:?}",
                    trace.place,
                    content.get(key)
                ));
            }
        }
        for (from, to, rows) in &trace.scans {
            let range = content.range(vec![*from]..vec![*to]);
            let expected: Vec<_> = range.map(|(key, value)| (key.clone(), value.clone())).collect();
            if *rows != expected {
                return Some(format!("{:?} scanned {rows:?}, expected {expected:?}", trace.place));
            }
        }
        for (key, value) in trace.writes {
            match value {
                Some(value) => drop(content.insert(key, value)),
                None => drop(content.remove(&key)),
            }
        }
    }
    None
}

/// A small generator: what varies between threads and rounds is what matters, not its quality (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u8) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u8::try_from(self.0 % u64::from(end)).unwrap()
    }
}

/// Runs a random transaction until it commits.
fn run_one(database: &Database, random: &mut Random, label: &[u8]) -> Trace {
    let plan: Vec<[u8; 3]> =
        (0..=random.below(4)).map(|_| [random.below(4), random.below(8), random.below(8)]).collect();
    let mut trace =
        Trace { place: (Version::ZERO, false), gets: Vec::new(), scans: Vec::new(), writes: Vec::new() };
    let done = database.write_with(TxnOptions::default(), |txn| {
        trace.gets.clear();
        trace.scans.clear();
        trace.writes.clear();
        for [what, a, b] in &plan {
            // Only what the transaction did not write itself is a read of the store.
            let own = |key: u8| trace.writes.iter().any(|(written, _)| *written == [key]);
            match what {
                0 if !own(*a) => {
                    let found = txn.get(T, [*a])?.map(|value| value.to_vec());
                    trace.gets.push((vec![*a], found));
                }
                1 if a <= b && !(*a..*b).any(own) => {
                    let mut rows = Vec::new();
                    let scan = txn.scan(T, [*a]..[*b])?;
                    for row in scan {
                        let (key, value) = row?;
                        rows.push((key.to_vec(), value.to_vec()));
                    }
                    trace.scans.push((*a, *b, rows));
                }
                2 => {
                    txn.delete(T, [*a])?;
                    trace.writes.push((vec![*a], None));
                }
                _ => {
                    txn.put(T, [*a], label)?;
                    trace.writes.push((vec![*a], Some(label.to_vec())));
                }
            }
        }
        thread::yield_now();
        Ok::<_, WriteError>(txn.version())
    });
    let done = done.unwrap();
    trace.place = done.version.map_or((done.value, true), |version| (version, false));
    trace
}

#[test]
fn random_transactions_of_many_threads_are_serializable() {
    on_both(|database| {
        let barrier = Barrier::new(6);
        let traces: Vec<Trace> = thread::scope(|scope| {
            let threads: Vec<_> = (0..6_u64)
                .map(|seed| {
                    let (database, barrier) = (&database, &barrier);
                    scope.spawn(move || {
                        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (seed << 8) ^ 1);
                        barrier.wait();
                        (0..120_u64)
                            .map(|round| run_one(database, &mut random, format!("{seed}/{round}").as_bytes()))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(traces.len(), 720);
        assert_eq!(first_anomaly(traces), None);
        assert!(database.check().unwrap().is_sound());
    });
}

/// Two transactions that each read what the other writes.
fn skew(isolation: Isolation) -> Vec<Trace> {
    let database = memory();
    let (mut one, mut two) = (with_isolation(&database, isolation), with_isolation(&database, isolation));
    let mut traces = Vec::new();
    let reads = (two.get(T, [1]).unwrap(), one.get(T, [2]).unwrap());
    assert_eq!(reads, (None, None));
    one.put(T, [1], b"one".as_slice()).unwrap();
    two.put(T, [2], b"two".as_slice()).unwrap();
    for (txn, read, written) in [(one, 2, 1), (two, 1, 2)] {
        let value = if written == 1 { b"one" } else { b"two" };
        if let Ok(receipt) = txn.commit() {
            traces.push(Trace {
                place: (receipt.version, false),
                gets: vec![(vec![read], None)],
                scans: Vec::new(),
                writes: vec![(vec![written], Some(value.to_vec()))],
            });
        }
    }
    traces
}

#[test]
fn the_oracle_refuses_write_skew() {
    let anomaly = first_anomaly(skew(Isolation::Snapshot)).unwrap();
    assert!(anomaly.contains("expected Some"), "{anomaly}");
    let serializable = skew(Isolation::Serializable);
    assert_eq!(serializable.len(), 1);
    assert_eq!(first_anomaly(serializable), None);
}
