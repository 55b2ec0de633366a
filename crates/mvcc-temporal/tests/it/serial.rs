//! Serializability against an oracle: what every transaction read must be what it would have read had all of them run one
//! after the other, in the order of their versions. The oracle is shown to refuse what snapshot isolation lets through.
//!
//! Beside it a model of all three levels, for transactions of all of them at once: from which version each call may
//! answer, which commits must have been refused, and that what was refused had a reason.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use keepstone_mvcc_temporal::{CommitError, Database, Isolation, Read, Txn, TxnOptions, WriteError};
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

/// A row of one of two tables.
type Place = (u8, u8);

const TABLES: [&str; 2] = ["one", "two"];

const KEYS: u8 = 8;

/// What one version holds.
type State = BTreeMap<Place, Vec<u8>>;

/// What a call asked and found.
#[derive(Clone, Debug)]
enum Answer {
    Get(Place, Option<Vec<u8>>),
    /// At most `take` rows of the keys `from..to` of a table, from either end.
    Scan {
        table: u8,
        from: u8,
        to: u8,
        take: usize,
        from_the_back: bool,
        rows: Vec<(Place, Vec<u8>)>,
    },
}

/// An answer, the versions it may be from, and what the transaction had written by then.
#[derive(Clone, Debug)]
struct Seen {
    versions: (Version, Version),
    own: BTreeMap<Place, Option<Vec<u8>>>,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum End {
    Committed(Version),
    Refused { place: Place, by: Version },
    RolledBack,
}

/// A transaction of any level.
#[derive(Clone, Debug)]
struct Program {
    isolation: Isolation,
    view: Version,
    seen: Vec<Seen>,
    writes: BTreeMap<Place, Option<Vec<u8>>>,
    end: End,
}

impl Answer {
    /// Whether a state with the transaction's own writes gives this answer.
    fn fits(&self, state: &State, own: &BTreeMap<Place, Option<Vec<u8>>>) -> bool {
        let mut state = state.clone();
        change(&mut state, own);
        match self {
            Self::Get(place, found) => state.get(place) == found.as_ref(),
            Self::Scan { table, from, to, take, from_the_back, rows } => {
                let range = state.range((*table, *from)..(*table, *to));
                let all = range.map(|(place, value)| (*place, value.clone()));
                let expected: Vec<_> =
                    if *from_the_back { all.rev().take(*take).collect() } else { all.take(*take).collect() };
                expected == *rows
            }
        }
    }

    /// What the answer depends on: whether a write to this place could change it.
    fn covers(&self, place: Place) -> bool {
        match self {
            Self::Get(read, _) => *read == place,
            Self::Scan { table, from, to, .. } => *table == place.0 && (*from..*to).contains(&place.1),
        }
    }
}

fn change(state: &mut State, writes: &BTreeMap<Place, Option<Vec<u8>>>) {
    for (place, value) in writes {
        match value {
            Some(value) => drop(state.insert(*place, value.clone())),
            None => drop(state.remove(place)),
        }
    }
}

/// The states of all versions, made by replaying the commits one by one.
fn states(programs: &[Program]) -> BTreeMap<Version, State> {
    let commits: BTreeMap<Version, &Program> = programs
        .iter()
        .filter_map(|program| match program.end {
            End::Committed(version) if !program.writes.is_empty() => Some((version, program)),
            _ => None,
        })
        .collect();
    let mut states = BTreeMap::from([(Version::ZERO, State::new())]);
    let mut state = State::new();
    for (version, program) in commits {
        change(&mut state, &program.writes);
        states.insert(version, state.clone());
    }
    states
}

/// The first transaction that its level does not allow, or that was refused without a reason.
fn first_deviation(programs: &[Program]) -> Option<String> {
    let states = states(programs);
    let wrote: BTreeMap<Version, &BTreeMap<Place, Option<Vec<u8>>>> = programs
        .iter()
        .filter_map(|program| match program.end {
            End::Committed(version) => Some((version, &program.writes)),
            _ => None,
        })
        .filter(|(_, writes)| !writes.is_empty())
        .collect();
    let wrong = |program: &&Program| {
        // Each call sees one version that was there while it ran, and never an older one than the call before.
        let mut last = Version::ZERO;
        for seen in &program.seen {
            let (from, to) = seen.versions;
            let mut fitting = states.range(from.max(last).min(to)..=to);
            match fitting.find(|(_, state)| seen.answer.fits(state, &seen.own)) {
                Some((version, _)) if program.isolation == Isolation::ReadCommitted => last = *version,
                Some(_) => {}
                None => return true,
            }
        }
        match program.end {
            End::RolledBack => false,
            End::Refused { place, by } => {
                let reads = program.seen.iter().any(|seen| seen.answer.covers(place));
                let concerns = program.writes.contains_key(&place)
                    || (reads && program.isolation == Isolation::Serializable);
                !(by > program.view
                    && wrote.get(&by).is_some_and(|writes| writes.contains_key(&place))
                    && concerns)
            }
            End::Committed(_) if program.writes.is_empty() => false,
            End::Committed(version) => {
                let mut since = wrote.range(program.view.next().unwrap()..version);
                let overwrites =
                    since.any(|(_, writes)| program.writes.keys().any(|place| writes.contains_key(place)));
                let before = &states.range(..version).next_back().unwrap().1;
                let serial = program.seen.iter().all(|seen| seen.answer.fits(before, &seen.own));
                match program.isolation {
                    Isolation::Serializable => overwrites || !serial,
                    Isolation::Snapshot => overwrites,
                    _ => false,
                }
            }
        }
    };
    programs.iter().find(wrong).map(|program| format!("{program:?}"))
}

/// Runs one random transaction.
struct Runner<'a> {
    database: &'a Database,
    random: Random,
    label: Vec<u8>,
}

impl Runner<'_> {
    fn answer(&mut self, reader: &impl Read) -> Answer {
        let (table, key) = (self.random.below(2), self.random.below(KEYS));
        let name = TABLES[usize::from(table)];
        if self.random.below(2) == 0 {
            let found = reader.get(name, [key]).unwrap().map(|value| value.to_vec());
            return Answer::Get((table, key), found);
        }
        let (from, to) = (key, (key + 1 + self.random.below(4)).min(KEYS));
        let take = if self.random.below(2) == 0 { 1 } else { usize::MAX };
        let from_the_back = self.random.below(2) == 0;
        let mut scan = reader.scan(name, [from]..[to]).unwrap();
        let next = || if from_the_back { scan.next_back() } else { scan.next() };
        let rows = std::iter::from_fn(next).take(take).map(|row| row.unwrap());
        let rows = rows.map(|(key, value)| ((table, key[0]), value.to_vec())).collect();
        Answer::Scan { table, from, to, take, from_the_back, rows }
    }

    fn write(&mut self, txn: &mut Txn, writes: &mut BTreeMap<Place, Option<Vec<u8>>>) {
        let (table, key) = (self.random.below(2), self.random.below(KEYS));
        let name = TABLES[usize::from(table)];
        let value = (self.random.below(4) > 0).then(|| self.label.clone());
        match &value {
            Some(value) => txn.put(name, [key], value.as_slice()).unwrap(),
            None => txn.delete(name, [key]).unwrap(),
        }
        writes.insert((table, key), value);
    }

    fn run(&mut self, isolation: Isolation) -> Program {
        let mut txn = with_isolation(self.database, isolation);
        let view = txn.version();
        let (mut seen, mut writes) = (Vec::new(), BTreeMap::new());
        for _ in 0..=self.random.below(6) {
            let own = writes.clone();
            match self.random.below(5) {
                0 | 1 => self.write(&mut txn, &mut writes),
                2 if isolation != Isolation::Serializable => {
                    // What was then, beside what is.
                    let then = self.database.snapshot().unwrap();
                    let versions = (then.version(), then.version());
                    seen.push(Seen { versions, own: BTreeMap::new(), answer: self.answer(&then) });
                }
                _ if isolation == Isolation::ReadCommitted => {
                    let from = self.database.visible_version();
                    let answer = self.answer(&txn);
                    seen.push(Seen { versions: (from, self.database.visible_version()), own, answer });
                }
                _ => seen.push(Seen { versions: (view, view), own, answer: self.answer(&txn) }),
            }
            thread::yield_now();
        }
        if self.random.below(20) == 0 {
            return Program { isolation, view, seen, writes, end: End::RolledBack };
        }
        let end = match txn.commit() {
            Ok(receipt) => End::Committed(receipt.version),
            Err(CommitError::Conflict { table, key, version, .. }) => {
                let table = TABLES.iter().position(|name| **name == *table).unwrap();
                End::Refused { place: (u8::try_from(table).unwrap(), key[0]), by: version }
            }
            Err(error) => panic!("{error}"),
        };
        Program { isolation, view, seen, writes, end }
    }
}

/// Runs programs of all three levels beside each other.
fn programs(database: &Database, threads: u64, rounds: u64) -> Vec<Program> {
    // Both tables are there from the first version on, so that making them is no conflict.
    let mut first = Runner { database, random: Random(1), label: b"first".to_vec() };
    let mut txn = database.begin().unwrap();
    let mut writes = BTreeMap::new();
    for (table, name) in (0..).zip(TABLES) {
        txn.put(name, [0], first.label.as_slice()).unwrap();
        writes.insert((table, 0), Some(first.label.clone()));
    }
    let end = End::Committed(txn.commit().unwrap().version);
    let (isolation, view) = (Isolation::Serializable, Version::ZERO);
    let made = Program { isolation, view, seen: Vec::new(), writes, end };
    let looked = first.run(Isolation::Snapshot);
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    let ran: Vec<Program> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let random = Random(0x2545_F491_4F6C_DD1D ^ (thread << 16));
                    let mut runner = Runner { database, random, label: Vec::new() };
                    barrier.wait();
                    let mut ran = Vec::new();
                    for round in 0..rounds {
                        runner.label = format!("{thread}/{round}").into_bytes();
                        let levels = [Isolation::ReadCommitted, Isolation::Snapshot, Isolation::Serializable];
                        let level = levels[usize::from(runner.random.below(3))];
                        ran.push(runner.run(level));
                    }
                    ran
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    [made, looked].into_iter().chain(ran).collect()
}

#[test]
fn programs_of_all_levels_beside_each_other_do_what_each_level_promises() {
    on_both(|database| {
        let programs = programs(&database, 8, 250);
        assert_eq!(programs.len(), 2_002);
        assert_eq!(first_deviation(&programs), None);
        let count = |of: fn(&Program) -> bool| programs.iter().filter(|program| of(program)).count();
        let refused = count(|program| matches!(program.end, End::Refused { .. }));
        let committed =
            count(|program| matches!(program.end, End::Committed(_)) && !program.writes.is_empty());
        assert!(refused > 20 && committed > 500, "{refused} refused, {committed} committed");
        let stored = TABLES.iter().zip(0_u8..).flat_map(|(name, table)| {
            let rows: Vec<_> = database.scan(name, ..).unwrap().map(|row| row.unwrap()).collect();
            rows.into_iter().map(move |(key, value)| ((table, key[0]), value.to_vec()))
        });
        let states = states(&programs);
        assert_eq!(stored.collect::<State>(), *states.last_key_value().unwrap().1);
        assert_eq!(states.len(), committed + 1, "each commit is a version of its own");
    });
}

#[test]
fn the_model_refuses_what_a_weaker_level_allows() {
    // Each is what really happens at one level, called another.
    let place = (0, 1);
    let seen = |versions: (u64, u64), value: Option<&str>| Seen {
        versions: (Version::from_raw(versions.0), Version::from_raw(versions.1)),
        own: BTreeMap::new(),
        answer: Answer::Get(place, value.map(|value| value.as_bytes().to_vec())),
    };
    let program = |isolation, view, seen, wrote: Option<(Place, &str)>, version| Program {
        isolation,
        view: Version::from_raw(view),
        seen,
        writes: wrote.into_iter().map(|(place, value)| (place, Some(value.as_bytes().to_vec()))).collect(),
        end: End::Committed(Version::from_raw(version)),
    };
    let a = program(Isolation::Serializable, 0, vec![], Some((place, "a")), 1);
    let b = program(Isolation::Serializable, 1, vec![], Some((place, "b")), 2);
    let cases: [(&str, Program, bool); 7] = [
        ("repeated", program(Isolation::Snapshot, 1, vec![seen((1, 1), Some("a"))], None, 1), true),
        ("not repeatable", program(Isolation::Snapshot, 1, vec![seen((1, 1), Some("b"))], None, 1), false),
        (
            "backwards",
            program(
                Isolation::ReadCommitted,
                1,
                vec![seen((1, 2), Some("b")), seen((1, 2), Some("a"))],
                None,
                2,
            ),
            false,
        ),
        (
            "forwards",
            program(
                Isolation::ReadCommitted,
                1,
                vec![seen((1, 2), Some("a")), seen((1, 2), Some("b"))],
                None,
                2,
            ),
            true,
        ),
        (
            "dirty",
            program(Isolation::ReadCommitted, 1, vec![seen((1, 2), Some("c"))], Some((place, "c")), 3),
            false,
        ),
        (
            "lost update",
            program(Isolation::Snapshot, 1, vec![seen((1, 1), Some("a"))], Some((place, "c")), 3),
            false,
        ),
        (
            "skew",
            program(Isolation::Serializable, 1, vec![seen((1, 1), Some("a"))], Some(((0, 2), "c")), 3),
            false,
        ),
    ];
    for (name, case, allowed) in cases {
        let deviation = first_deviation(&[a.clone(), b.clone(), case]);
        assert_eq!(deviation.is_none(), allowed, "{name}: {deviation:?}");
    }
    let skew = program(Isolation::Snapshot, 1, vec![seen((1, 1), Some("a"))], Some(((0, 2), "c")), 3);
    assert_eq!(
        first_deviation(&[a.clone(), b.clone(), skew.clone()]),
        None,
        "snapshot isolation allows skew"
    );
    let refused =
        |by: u64, place| Program { end: End::Refused { place, by: Version::from_raw(by) }, ..skew.clone() };
    assert!(
        first_deviation(&[a.clone(), b.clone(), refused(2, place)]).is_some(),
        "a read is no reason at that level"
    );
    let serializable = Program { isolation: Isolation::Serializable, ..refused(2, place) };
    assert_eq!(first_deviation(&[a.clone(), b.clone(), serializable.clone()]), None);
    let early = Program { end: End::Refused { place, by: Version::from_raw(1) }, ..serializable };
    assert!(first_deviation(&[a, b, early]).is_some(), "what the view has is no reason");
}
