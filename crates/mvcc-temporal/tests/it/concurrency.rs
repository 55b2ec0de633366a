//! Many threads: exact counters, readers beside writers, the bank that never loses a coin, tables made by all at once,
//! and a hundred threads in a store that is closed under them.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use keepstone_mvcc_temporal::{Database, Isolation, Read, ReadError, WriteError};
use keepstone_types::Version;

use crate::support::{MemoryStore, T, add, get, keys, memory, number, on_both, on_disk, with_isolation};

#[test]
fn sixteen_threads_count_exactly() {
    const THREADS: i64 = 16;
    const ROUNDS: i64 = 60;
    let (_dir, database) = on_disk();
    let barrier = Barrier::new(16);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..ROUNDS {
                    database.write(|txn| add(txn, "counter", 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(number(&database, "counter"), THREADS * ROUNDS);
    // Each increment is a version of its own, with every number exactly once.
    let history: Vec<_> =
        database.history(T, "counter").unwrap().map(|entry| entry.unwrap().value.unwrap()).collect();
    let values: Vec<_> =
        history.iter().map(|value| i64::from_le_bytes(value[..].try_into().unwrap())).collect();
    assert_eq!(values, (1..=THREADS * ROUNDS).rev().collect::<Vec<_>>());
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn readers_see_whole_versions_while_writers_write() {
    on_both(|database| {
        const ACCOUNTS: usize = 20;
        database
            .write(|txn| {
                (0..ACCOUNTS).try_for_each(|account| add(txn, &format!("{account:02}"), 100).map(drop))
            })
            .unwrap();
        let stop = AtomicBool::new(false);
        let reads = AtomicU64::new(0);
        thread::scope(|scope| {
            for reader in 0..3 {
                let (database, stop, reads) = (&database, &stop, &reads);
                scope.spawn(move || {
                    let mut newest = database.visible_version();
                    while !stop.load(Ordering::SeqCst) {
                        let snapshot = database.snapshot().unwrap();
                        assert!(snapshot.version() >= newest, "visible versions never fall");
                        newest = snapshot.version();
                        let scan = snapshot.scan(T, ..).unwrap();
                        let rows: Vec<_> = if reader == 0 { scan.rev().collect() } else { scan.collect() };
                        let balances = rows
                            .iter()
                            .map(|row| i64::from_le_bytes(row.as_ref().unwrap().1[..].try_into().unwrap()));
                        assert_eq!(rows.len(), ACCOUNTS);
                        assert_eq!(balances.sum::<i64>(), 2_000, "at version {newest}");
                        reads.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let writers: Vec<_> = (0..3_usize)
                .map(|writer| {
                    let database = &database;
                    scope.spawn(move || {
                        for round in 0..150 {
                            let from = format!("{:02}", (writer * 7 + round) % ACCOUNTS);
                            let to = format!("{:02}", (writer * 3 + round * 5 + 1) % ACCOUNTS);
                            let transfer = database.write(|txn| {
                                add(txn, &from, -1)?;
                                add(txn, &to, 1)
                            });
                            transfer.unwrap();
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            while reads.load(Ordering::SeqCst) < 3 {
                thread::yield_now();
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert!(database.check().unwrap().is_sound());
    });
}

#[test]
fn what_commit_acknowledged_the_next_begin_sees() {
    let database = memory();
    thread::scope(|scope| {
        for writer in 0..8 {
            let database = &database;
            scope.spawn(move || {
                for round in 1..=100 {
                    let key = format!("w{writer}");
                    let mut txn = with_isolation(database, Isolation::Snapshot);
                    txn.put(T, &key, i64::to_le_bytes(round).as_slice()).unwrap();
                    let version = txn.commit().unwrap().version;
                    assert!(database.visible_version() >= version);
                    assert_eq!(number(&database.begin().unwrap(), &key), round);
                    assert!(database.durable_version() >= version);
                }
            });
        }
    });
    let versions: Vec<_> =
        database.commits().unwrap().map(|commit| commit.unwrap().version.sequence()).collect();
    assert_eq!(versions, (1..=800).rev().collect::<Vec<_>>());
}

#[test]
fn all_at_once_make_the_same_table_once() {
    let store = MemoryStore::new();
    let database = store.open();
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for writer in 0..8 {
            let (database, barrier) = (&database, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for table in 0..20 {
                    let mut txn = with_isolation(database, Isolation::Snapshot);
                    txn.put(&format!("table {table}"), format!("{writer}"), b"v".as_slice()).unwrap();
                    txn.commit().expect("makers of one table do not conflict");
                }
            });
        }
    });
    for database in [database, store.killed().open()] {
        assert_eq!(database.tables(&database).unwrap().len(), 20);
        for table in 0..20 {
            assert_eq!(database.scan(&format!("table {table}"), ..).unwrap().count(), 8);
        }
        assert!(database.check().unwrap().is_sound());
    }
}

#[test]
fn serializable_transactions_keep_an_invariant_over_a_range() {
    // Each inserts the next number after the highest it finds: no number twice, none left out.
    let database = memory();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..30 {
                    let insert = database.write(|txn| {
                        let last = txn.scan("list", ..)?.next_back().transpose()?;
                        let next =
                            last.map_or(0, |(key, _)| u32::from_be_bytes(key[..].try_into().unwrap()) + 1);
                        txn.put("list", next.to_be_bytes(), b"v".as_slice())?;
                        Ok::<_, WriteError>(next)
                    });
                    insert.unwrap();
                }
            });
        }
    });
    let numbers: Vec<_> = database.scan("list", ..).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
    let expected: Vec<_> = (0..180_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(numbers, expected);
    let commits = u64::try_from(database.commits().unwrap().count()).unwrap();
    assert_eq!((commits, get(&database, "none"), keys(&database, ..).len()), (180, None, 0));
}

const ACCOUNTS: u8 = 50;

const CROWD_COMMITS: u64 = 1_500;

/// One of a hundred threads; it goes on until the store is closed, and returns what it was told was committed.
struct Crowd<'a> {
    database: &'a Database,
    barrier: &'a Barrier,
    commits: &'a AtomicU64,
}

impl Crowd<'_> {
    /// Moves money and counts; the one whose commit is the last that is wanted closes the store.
    fn commits(&self, thread: u8) -> u64 {
        self.barrier.wait();
        for done in 0_u64.. {
            let account =
                |step: u64| u8::try_from((u64::from(thread) * 7 + done * step) % u64::from(ACCOUNTS));
            let (from, to) = (account(3).unwrap(), account(11).unwrap());
            let moved = self.database.write(|txn| {
                add(txn, &format!("{from:02}"), -1)?;
                add(txn, &format!("{to:02}"), 1)?;
                let own = i64::try_from(done + 1).unwrap();
                txn.put("done", [thread], own.to_le_bytes().as_slice())?;
                Ok::<_, WriteError>(())
            });
            match moved {
                Ok(_) if self.commits.fetch_add(1, Ordering::SeqCst) + 1 == CROWD_COMMITS => {
                    self.database.clone().close().unwrap();
                }
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind().as_str(), "closed", "{error}");
                    return done;
                }
            }
        }
        unreachable!("the store is closed before")
    }

    /// Reads the newest, a snapshot, or an older version: the money is all there.
    fn reads(&self, thread: u8) -> Result<u64, ReadError> {
        self.barrier.wait();
        for done in 0_u64.. {
            let newest = self.database.visible_version();
            let sum = match (u64::from(thread) + done) % 3 {
                0 => total(&self.database.snapshot()?)?,
                1 => total(&self.database.begin()?)?,
                _ => {
                    let back = done % (newest.sequence() + 1);
                    let older = newest.sequence().saturating_sub(back).max(1);
                    let older = Version::from_parts(newest.timeline(), older).unwrap();
                    total(&self.database.snapshot_at(older)?)?
                }
            };
            assert_eq!(sum, 100 * i64::from(ACCOUNTS), "after {newest}, reading {done} of thread {thread}");
        }
        unreachable!("the store is closed before")
    }
}

fn total(reader: &impl Read) -> Result<i64, ReadError> {
    let rows = reader.scan(T, ..)?;
    rows.map(|row| row.map(|(_, value)| i64::from_le_bytes(value[..].try_into().unwrap()))).sum()
}

#[test]
fn a_hundred_threads_commit_and_read_until_one_of_them_closes_the_store() {
    const WRITERS: u8 = 50;
    const READERS: u8 = 50;
    let store = MemoryStore::new();
    let (dir, on_disk) = on_disk();
    let reopen_on_disk = || Database::open(dir.path().join("store"), crate::support::options()).unwrap();
    let reopen_in_memory = || store.open();
    let reopen: [&dyn Fn() -> Database; 2] = [&reopen_on_disk, &reopen_in_memory];
    for (database, reopen) in [on_disk, store.open()].into_iter().zip(reopen) {
        database
            .write(|txn| {
                (0..ACCOUNTS).try_for_each(|account| add(txn, &format!("{account:02}"), 100).map(drop))
            })
            .unwrap();
        let (barrier, commits) = (Barrier::new(usize::from(WRITERS + READERS)), AtomicU64::new(0));
        let crowd = Crowd { database: &database, barrier: &barrier, commits: &commits };
        let acknowledged: Vec<u64> = thread::scope(|scope| {
            let crowd = &crowd;
            let writers: Vec<_> =
                (0..WRITERS).map(|thread| scope.spawn(move || crowd.commits(thread))).collect();
            let readers: Vec<_> =
                (0..READERS).map(|thread| scope.spawn(move || crowd.reads(thread))).collect();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), Err(ReadError::Closed));
            }
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let commits: u64 = acknowledged.iter().sum();
        assert!(commits >= CROWD_COMMITS, "{commits}");
        drop(database);
        let database = reopen();
        assert_eq!(
            database.commits().unwrap().count(),
            usize::try_from(commits + 1).unwrap(),
            "no more and no less"
        );
        assert_eq!(total(&database).unwrap(), 100 * i64::from(ACCOUNTS));
        for (thread, done) in (0_u8..).zip(acknowledged) {
            let found = database.get("done", [thread]).unwrap();
            let found = found.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()));
            assert_eq!(found, done, "thread {thread}");
        }
        assert!(database.check().unwrap().is_sound());
    }
}
