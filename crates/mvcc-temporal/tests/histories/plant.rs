//! Anomalies planted in a history that has none, one of each class: the checker must name it.
//!
//! A recorded history is edited in one or two places, so that what is planted stands among thousands of transactions
//! that are as they should be.

use std::collections::BTreeMap;

use crate::audit::History;
use crate::record::{Key, Mark, Outcome, Step, Transaction};

/// A class of anomalies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// Two transactions overwrite each other, each the other's first at one key (G0).
    DirtyWrite,
    /// What was read was given up (G1a).
    AbortedRead,
    /// What was read was overwritten by its own writer (G1b).
    IntermediateRead,
    /// Two transactions each read what the other wrote (G1c).
    CircularInformationFlow,
    /// A transaction sees one write of another and misses the second (G-single).
    ReadSkew,
    /// Two transactions read the same version of a key and both write it (P4).
    LostUpdate,
    /// Two readers see two writers in opposite orders (G-nonadjacent).
    LongFork,
    /// A transaction reads a key twice, or its own write, and finds something else.
    UnrepeatedRead,
    /// Two transactions each overwrite what the other read (G2-item).
    WriteSkew,
    /// Two transactions each create what the other read as absent (G2).
    WriteSkewOverAbsent,
    /// Two writers whose order only a reader makes impossible (Fekete, O'Neil, O'Neil 2004).
    ReadOnlyAnomaly,
    /// A read that misses what was acknowledged before it began.
    StaleRead,
}

impl Plant {
    pub(crate) const ALL: [Self; 12] = [
        Self::DirtyWrite,
        Self::AbortedRead,
        Self::IntermediateRead,
        Self::CircularInformationFlow,
        Self::ReadSkew,
        Self::LostUpdate,
        Self::LongFork,
        Self::UnrepeatedRead,
        Self::WriteSkew,
        Self::WriteSkewOverAbsent,
        Self::ReadOnlyAnomaly,
        Self::StaleRead,
    ];

    /// What the checker calls it, or how that ends.
    const fn name(self) -> &'static str {
        match self {
            Self::DirtyWrite => "G0",
            Self::AbortedRead => "G1a",
            Self::IntermediateRead => "G1b",
            Self::CircularInformationFlow => "G1c",
            Self::ReadSkew => "G-single-item",
            Self::LostUpdate => "lost-update",
            Self::LongFork => "G-nonadjacent-item",
            Self::UnrepeatedRead => "internal",
            Self::WriteSkew | Self::WriteSkewOverAbsent | Self::ReadOnlyAnomaly => "G2-item",
            // Of which kind depends on what else lies on the way from the missed write to the read.
            Self::StaleRead => "-realtime",
        }
    }

    pub(crate) fn is_named(self, name: &str) -> bool {
        name == self.name() || (self == Self::StaleRead && name.ends_with(self.name()))
    }

    /// The models, weakest first, that allow it: of `read-committed`, `snapshot-isolation`, `serializable` and
    /// `strict-serializable` the first so many.
    pub(crate) const fn allowed_by(self) -> usize {
        match self {
            Self::DirtyWrite | Self::AbortedRead | Self::IntermediateRead | Self::CircularInformationFlow => {
                0
            }
            Self::ReadSkew | Self::LostUpdate | Self::LongFork | Self::UnrepeatedRead => 1,
            Self::WriteSkew | Self::WriteSkewOverAbsent | Self::ReadOnlyAnomaly => 2,
            Self::StaleRead => 3,
        }
    }

    /// The history with the anomaly; `None` when it offers no place for it.
    pub(crate) fn plant(self, history: &History) -> Option<History> {
        let mut planted = history.clone();
        let bed = Bed::new(history);
        match self {
            Self::DirtyWrite => {
                let (key, first, second) = bed.overwrites_of_both()?;
                let order = planted.orders.get_mut(&key)?;
                let places = [first, second].map(|mark| order.iter().position(|other| *other == mark));
                order.swap(places[0]?, places[1]?);
            }
            Self::AbortedRead => {
                let (reader, key, found, instead) = bed.reads_of_what_was_also_given_up()?;
                planted.transactions[reader].reread(key, found, Some(instead));
            }
            Self::IntermediateRead => {
                let (reader, key, mark) = bed.reads().find(|(_, key, mark)| bed.wrote_once(*key, *mark))?;
                let fresh = Mark::from(u32::MAX);
                let steps = &mut planted.transactions[bed.writer[&(key, mark)]].steps;
                let at = steps.iter().position(|step| *step == Step::Write { key, mark })?;
                steps.insert(at, Step::Write { key, mark: fresh });
                planted.transactions[reader].reread(key, Some(mark), Some(fresh));
            }
            Self::CircularInformationFlow => {
                let (writer, key, mark) = bed.writers_whose_reader_writes()?;
                planted.transactions[writer].also_read(key, Some(mark));
            }
            Self::ReadSkew => {
                let (reader, key, before) = bed.readers_of_half()?;
                planted.transactions[reader].also_read(key, before);
            }
            Self::LostUpdate => {
                let (second, key, found, before) = bed.updates_of_updates()?;
                planted.transactions[second].reread(key, Some(found), before);
            }
            Self::UnrepeatedRead => {
                let (transaction, step, instead) = bed.second_looks()?;
                planted.transactions[transaction].steps[step] = instead;
            }
            Self::LongFork => {
                let ([x, y], [one, two]) = (bed.neighbours(false)?, bed.lone_readers()?);
                planted.transactions[one].steps = vec![x.after(), y.before()];
                planted.transactions[two].steps = vec![x.before(), y.after()];
            }
            Self::WriteSkew | Self::WriteSkewOverAbsent => {
                let [x, y] = bed.neighbours(self == Self::WriteSkewOverAbsent)?;
                planted.transactions[x.transaction].also_read(y.key, y.before);
                planted.transactions[y.transaction].also_read(x.key, x.before);
            }
            Self::ReadOnlyAnomaly => {
                let ([deposit, withdrawal], [report, _]) = (bed.neighbours(false)?, bed.lone_readers()?);
                planted.transactions[withdrawal.transaction].also_read(deposit.key, deposit.before);
                planted.transactions[report].steps = vec![deposit.after(), withdrawal.before()];
            }
            Self::StaleRead => {
                let (reader, key, found, before) = bed.late_readers()?;
                planted.transactions[reader].reread(key, Some(found), Some(before));
            }
        }
        Some(planted)
    }
}

impl Transaction {
    /// Changes what every read of a key found.
    fn reread(&mut self, key: Key, found: Option<Mark>, instead: Option<Mark>) {
        for step in &mut self.steps {
            if *step == (Step::Read { key, found }) {
                *step = Step::Read { key, found: instead };
            }
        }
    }

    fn also_read(&mut self, key: Key, found: Option<Mark>) {
        self.steps.insert(0, Step::Read { key, found });
    }
}

/// A write and what it replaced.
#[derive(Clone, Copy, Debug)]
struct Change {
    transaction: usize,
    key: Key,
    mark: Mark,
    before: Option<Mark>,
}

impl Change {
    fn after(&self) -> Step {
        Step::Read { key: self.key, found: Some(self.mark) }
    }

    fn before(&self) -> Step {
        Step::Read { key: self.key, found: self.before }
    }
}

/// Where to plant.
struct Bed<'a> {
    history: &'a History,
    predecessors: BTreeMap<(Key, Mark), Mark>,
    /// Which transaction left a mark.
    writer: BTreeMap<(Key, Mark), usize>,
}

impl<'a> Bed<'a> {
    fn new(history: &'a History) -> Self {
        let writers = history.transactions.iter().enumerate().filter(|(_, one)| one.made().is_some());
        let marks =
            writers.flat_map(|(place, one)| one.writes().into_iter().map(move |write| (write, place)));
        Self { history, predecessors: history.predecessors(), writer: marks.collect() }
    }

    fn transaction(&self, place: usize) -> &'a Transaction {
        &self.history.transactions[place]
    }

    fn before(&self, key: Key, mark: Mark) -> Option<Mark> {
        self.predecessors.get(&(key, mark)).copied()
    }

    /// What the committed read of others, where somebody had written it.
    fn reads(&self) -> impl Iterator<Item = (usize, Key, Mark)> {
        let committed = self.history.transactions.iter().enumerate().filter(|(_, one)| one.is_committed());
        let reads = committed.flat_map(|(place, one)| {
            one.reads().into_iter().filter_map(move |(key, found)| Some((place, key, found?)))
        });
        reads.filter(|(_, key, mark)| self.writer.contains_key(&(*key, *mark)))
    }

    /// Whether the writer of a mark wrote the key only once.
    fn wrote_once(&self, key: Key, mark: Mark) -> bool {
        let steps = &self.transaction(self.writer[&(key, mark)]).steps;
        steps.iter().filter(|step| matches!(step, Step::Write { key: other, .. } if *other == key)).count()
            == 1
    }

    /// A key where one mark follows another, and both writers write a second key in the same order, neither reading any.
    fn overwrites_of_both(&self) -> Option<(Key, Mark, Mark)> {
        let blind = |one: &Transaction, key: Key| !one.reads().iter().any(|(read, _)| *read == key);
        self.predecessors.iter().find_map(|((key, second), first)| {
            let places = [*first, *second].map(|mark| self.writer.get(&(*key, mark)).copied());
            let [one, two] = [self.transaction(places[0]?), self.transaction(places[1]?)];
            let other = one.writes().into_iter().any(|(shared, _)| {
                shared != *key && two.wrote(shared).is_some() && blind(one, shared) && blind(two, shared)
            });
            (other && blind(one, *key) && blind(two, *key)).then_some((*key, *first, *second))
        })
    }

    fn reads_of_what_was_also_given_up(&self) -> Option<(usize, Key, Option<Mark>, Mark)> {
        let given_up = self.history.transactions.iter();
        let given_up = given_up.filter(|one| matches!(one.outcome, Outcome::Refused | Outcome::RolledBack));
        let marks: BTreeMap<Key, Mark> = given_up.flat_map(Transaction::writes).collect();
        self.reads().find_map(|(reader, key, found)| Some((reader, key, Some(found), *marks.get(&key)?)))
    }

    /// Somebody reads what a transaction wrote, and writes a key which that one does not touch.
    fn writers_whose_reader_writes(&self) -> Option<(usize, Key, Mark)> {
        self.reads().find_map(|(reader, key, mark)| {
            let writer = self.writer[&(key, mark)];
            let writes = self.transaction(reader).writes();
            let (key, mark) = writes.into_iter().find(|(key, _)| !self.transaction(writer).touches(*key))?;
            (self.writer.get(&(key, mark)) == Some(&reader)).then_some((writer, key, mark))
        })
    }

    /// A reader of one write of a transaction that wrote another key too; and what that had held before.
    fn readers_of_half(&self) -> Option<(usize, Key, Option<Mark>)> {
        self.reads().find_map(|(reader, key, mark)| {
            let writes = self.transaction(self.writer[&(key, mark)]).writes();
            let (missed, mark) =
                writes.into_iter().find(|(other, _)| !self.transaction(reader).touches(*other))?;
            Some((reader, missed, self.before(missed, mark)))
        })
    }

    /// Two transactions in a row that read a key and wrote it: the second, what it found, and what the first found.
    fn updates_of_updates(&self) -> Option<(usize, Key, Mark, Option<Mark>)> {
        self.reads().find_map(|(second, key, mark)| {
            self.transaction(second).made().and(self.transaction(second).wrote(key))?;
            let first = self.transaction(self.writer[&(key, mark)]);
            let (_, before) = first.reads().into_iter().find(|(read, _)| *read == key)?;
            Some((second, key, mark, before))
        })
    }

    /// A read of a key that the transaction had read or written before, and another answer to it.
    fn second_looks(&self) -> Option<(usize, usize, Step)> {
        let committed = self.history.transactions.iter().enumerate().filter(|(_, one)| one.is_committed());
        committed.into_iter().find_map(|(place, one)| {
            one.steps.iter().enumerate().find_map(|(at, step)| {
                let Step::Read { key, found } = *step else { return None };
                let known = one.steps[..at].iter().any(|earlier| {
                    let (Step::Read { key: other, .. } | Step::Write { key: other, .. }) = earlier;
                    *other == key
                });
                let instead = self.history.orders[&key].iter().copied().find(|mark| found != Some(*mark))?;
                known.then_some((place, at, Step::Read { key, found: Some(instead) }))
            })
        })
    }

    /// Two transactions that ran at the same time, made successive versions, and touched nothing in common. With
    /// `absent`, keys that nobody had written before.
    fn neighbours(&self, absent: bool) -> Option<[Change; 2]> {
        let made = |(place, one): (usize, &Transaction)| Some((one.made()?, place));
        let versions: BTreeMap<_, _> =
            self.history.transactions.iter().enumerate().filter_map(made).collect();
        versions.iter().find_map(|(version, first)| {
            let second = versions.get(&version.next()?)?;
            let [one, two] = [self.transaction(*first), self.transaction(*second)];
            let apart = one.steps.iter().all(|step| {
                let (Step::Read { key, .. } | Step::Write { key, .. }) = step;
                !two.touches(*key)
            });
            if !apart || !one.overlaps(two) {
                return None;
            }
            let change = |place: usize| {
                let changes = self.transaction(place).writes().into_iter().map(|(key, mark)| Change {
                    transaction: place,
                    key,
                    mark,
                    before: self.before(key, mark),
                });
                changes.into_iter().find(|change| change.before.is_none() == absent)
            };
            Some([change(*first)?, change(*second)?])
        })
    }

    /// Two transactions that only read.
    fn lone_readers(&self) -> Option<[usize; 2]> {
        let mut readers = (0..self.history.transactions.len())
            .filter(|place| matches!(self.transaction(*place).outcome, Outcome::Read(_)));
        Some([readers.next()?, readers.next()?])
    }

    /// A transaction whose only step reads what was acknowledged before it began; and what had been there before.
    fn late_readers(&self) -> Option<(usize, Key, Mark, Mark)> {
        self.reads().find_map(|(reader, key, mark)| {
            let (one, writer) = (self.transaction(reader), self.transaction(self.writer[&(key, mark)]));
            let late = one.steps.len() == 1 && writer.ended < one.begun;
            let before = self.before(key, mark)?;
            late.then_some((reader, key, mark, before))
        })
    }
}
