//! Random transactions: what one does, and how it is run and written down.
//!
//! Two tables belong together. `LIVE` holds the rows. A deletion there also leaves its mark in `DEAD` under the same key,
//! so a reader that finds nothing in `LIVE` can tell which deletion it was. Writing a row does not touch `DEAD`: that a
//! key was created since it was read as absent can only be noticed at `LIVE`. The one exception is a key that the same
//! transaction wrote before: a deletion that it takes back must not be left in `DEAD`, where a reader that sees another
//! version with each call (`ReadCommitted`) would find it.

use std::collections::BTreeMap;
use std::thread;

use keepstone_mvcc_temporal::{Read, ReadError, Txn};

use crate::random::Random;
use crate::record::{Key, Mark, Step};

pub(crate) const LIVE: &str = "live";
pub(crate) const DEAD: &str = "dead";

/// Keys that every thread wants.
pub(crate) const HOT: Key = 6;

/// Bytes of a key in the store; big-endian, so that the keys are scanned in the order of their numbers.
pub(crate) const fn stored(key: Key) -> [u8; 2] {
    key.to_be_bytes()
}

pub(crate) fn mark_of(bytes: &[u8]) -> Mark {
    Mark::from_le_bytes(bytes.try_into().unwrap())
}

/// One call of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Get(Key),
    Put(Key),
    Delete(Key),
    /// Rows of `from..to`, at most `take` of them, from either end.
    Scan {
        from: Key,
        to: Key,
        take: usize,
        from_the_back: bool,
    },
}

fn key(random: &mut Random, keys: Key) -> Key {
    if random.one_in(3) { random.below(HOT) } else { HOT + random.below(keys - HOT) }
}

fn read(random: &mut Random, keys: Key) -> Call {
    if !random.one_in(4) {
        return Call::Get(key(random, keys));
    }
    let from = key(random, keys);
    let to = (from + 2 + random.below(4)).min(keys);
    let take = if random.one_in(3) { 1 + usize::from(random.below(2)) } else { usize::MAX };
    Call::Scan { from, to, take, from_the_back: random.one_in(2) }
}

fn write(random: &mut Random, key: Key, deletions: u16) -> Call {
    if random.one_in(deletions) { Call::Delete(key) } else { Call::Put(key) }
}

/// Reads two keys that every thread wants and writes one of them: what makes write skew. As often as not both are absent.
fn plan_of_a_pair(random: &mut Random, fresh: Key) -> Vec<Call> {
    let first = if random.one_in(2) { fresh } else { 2 * random.below(HOT / 2) };
    let mut calls = if random.one_in(3) {
        vec![Call::Scan { from: first, to: first + 2, take: usize::MAX, from_the_back: random.one_in(2) }]
    } else {
        vec![Call::Get(first), Call::Get(first + 1)]
    };
    let written = first + random.below(2);
    calls.push(write(random, written, 2));
    calls
}

/// What a transaction will do: about a third only read. `fresh` and the next are keys that nobody wrote until lately.
pub(crate) fn plan(random: &mut Random, keys: Key, fresh: Key) -> Vec<Call> {
    if random.one_in(6) {
        return plan_of_a_pair(random, fresh);
    }
    let mut calls: Vec<Call> = (0..random.below(3)).map(|_| read(random, keys)).collect();
    if random.one_in(3) {
        calls.push(read(random, keys));
        return calls;
    }
    for _ in 0..=random.below(3) {
        let key = key(random, keys);
        if random.one_in(3) {
            calls.push(Call::Get(key));
        }
        calls.push(write(random, key, 5));
        if random.one_in(5) {
            calls.push(read(random, keys));
        }
    }
    calls
}

/// The mark at a key: of its value, or of the deletion that left it absent.
fn look(reader: &impl Read, key: Key) -> Result<Option<Mark>, ReadError> {
    let found = match reader.get(LIVE, stored(key))? {
        Some(found) => Some(found),
        None => reader.get(DEAD, stored(key))?,
    };
    Ok(found.map(|bytes| mark_of(&bytes)))
}

/// Scans; every key that the rows taken tell about is a read, the absent ones too.
fn scan(
    reader: &impl Read,
    range: std::ops::Range<Key>,
    take: usize,
    from_the_back: bool,
) -> Result<Vec<Step>, ReadError> {
    let mut found = BTreeMap::new();
    let mut rows = reader.scan(LIVE, stored(range.start)..stored(range.end))?;
    let mut covered = range;
    while found.len() < take {
        let row = if from_the_back { rows.next_back() } else { rows.next() };
        let Some((key, value)) = row.transpose()? else { break };
        let key = Key::from_be_bytes(key[..].try_into().unwrap());
        found.insert(key, mark_of(&value));
        if found.len() == take {
            covered = if from_the_back { key..covered.end } else { covered.start..key + 1 };
        }
    }
    for row in reader.scan(DEAD, stored(covered.start)..stored(covered.end))? {
        let (key, mark) = row?;
        found.entry(Key::from_be_bytes(key[..].try_into().unwrap())).or_insert(mark_of(&mark));
    }
    Ok(covered.map(|key| Step::Read { key, found: found.get(&key).copied() }).collect())
}

/// Makes a reading call.
pub(crate) fn read_call(reader: &impl Read, call: Call, steps: &mut Vec<Step>) -> Result<(), ReadError> {
    match call {
        Call::Get(key) => steps.push(Step::Read { key, found: look(reader, key)? }),
        Call::Scan { from, to, take, from_the_back } => {
            steps.extend(scan(reader, from..to, take, from_the_back)?);
        }
        Call::Put(_) | Call::Delete(_) => {}
    }
    Ok(())
}

/// Makes a writing call.
pub(crate) fn write_call(txn: &mut Txn, call: Call, mark: Mark, steps: &mut Vec<Step>) {
    let (Call::Put(key) | Call::Delete(key)) = call else { return };
    let (bytes, is_deletion) = (mark.to_le_bytes(), matches!(call, Call::Delete(_)));
    if is_deletion {
        txn.delete(LIVE, stored(key)).unwrap();
    } else {
        txn.put(LIVE, stored(key), bytes.as_slice()).unwrap();
    }
    let again = steps.iter().any(|step| matches!(step, Step::Write { key: other, .. } if *other == key));
    if is_deletion || again {
        txn.put(DEAD, stored(key), bytes.as_slice()).unwrap();
    }
    steps.push(Step::Write { key, mark });
}

/// Lets another thread in, now and then.
pub(crate) fn breathe(random: &mut Random) {
    if random.one_in(8) {
        thread::yield_now();
    }
}
