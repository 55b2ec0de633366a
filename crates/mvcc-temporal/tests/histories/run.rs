//! Runs transactions of many threads against a store, with crashes in between, and writes them down.
//!
//! The disk is the simulated one. A crash is either the death of the process (what was written is there) or the loss of
//! power (what was not synced is lost, kept or torn), and it comes in two ways: between two transactions of one thread,
//! while the others are in the middle of theirs and one commit was handed over and not waited for; or at a write or sync
//! of the disk, where the store notices, says so, and is read from a little longer. A store that is opened on what is
//! left goes on with the history.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use keepstone_mvcc_temporal::{
    CommitError, Database, DatabaseOptions, Isolation, Read, Snapshot, Txn, TxnOptions,
};
use keepstone_types::{SystemClock, Version};
use keepstone_vfs::Vfs;
use keepstone_vfs::simulated::{Dice, Fault, SimulatedDisk, Tearing};

use crate::flawed::Flaw;
use crate::random::Random;
use crate::record::{Key, Mark, Outcome, Step, Transaction};
use crate::workload::{Call, HOT, breathe, plan, read_call, write_call};

const DIR: &str = "/store";

/// After so many transactions all threads turn to the next pair of fresh keys.
const FRESH_FOR: u64 = 64;

/// Transactions of each thread in a store whose disk has failed: what they read must be there afterwards.
const LOOKS_AT_A_FAILED_STORE: u32 = 4;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) isolation: Isolation,
    pub(crate) threads: u16,
    pub(crate) transactions: u64,
    pub(crate) crashes: u64,
    /// Hot and cold keys.
    pub(crate) keys: Key,
    /// What the store is made to do wrong.
    pub(crate) flaw: Option<Flaw>,
}

impl Plan {
    pub(crate) fn new(isolation: Isolation, seed: u64, transactions: u64) -> Self {
        // One key in the cold part for every 64 transactions, so that each is read while absent and written often.
        let cold = u16::try_from(transactions / 64).unwrap_or(u16::MAX).clamp(64, 4_000);
        let threads = u16::try_from(4 + (seed >> 16) % 5).unwrap();
        let crashes = (transactions / 5_000).max(3);
        Self { seed, isolation, threads, transactions, crashes, keys: HOT + cold, flaw: None }
    }

    /// The pair of fresh keys, behind the others, when so many transactions were begun.
    fn fresh(&self, begun: u64) -> Key {
        self.keys + 2 * Key::try_from(begun / FRESH_FOR).unwrap()
    }

    /// The end of all keys.
    pub(crate) fn keys_end(&self) -> Key {
        self.fresh(self.transactions) + 2
    }
}

/// What was written down, and the store as it was found at the end.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) database: Database,
    pub(crate) crashes: u64,
}

/// What the threads of one life of the store share.
struct Life<'a> {
    plan: &'a Plan,
    database: &'a Database,
    disk: &'a SimulatedDisk,
    /// Gives every beginning and end a place.
    ticks: &'a AtomicU64,
    /// Transactions that were begun, and that ended, in all lives.
    begun: &'a AtomicU64,
    ended: &'a AtomicU64,
    /// The store dies when so many have ended.
    dies_at: u64,
    way: Death,
    dead: &'a AtomicBool,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// It is closed.
    Closed,
    /// Between two transactions of a thread. Whether what was handed over is synced before.
    Between { synced: bool },
    /// At one of the next changes of the disk.
    AtTheDisk,
}

/// One thread through all lives.
struct Worker {
    process: i64,
    random: Random,
    marks: Mark,
    transactions: Vec<Transaction>,
    /// How many of them are from earlier lives.
    settled: usize,
    /// For a flaw: a version that was read before.
    stale: Option<Version>,
}

impl Worker {
    fn new(plan: &Plan, process: u16) -> Self {
        // The thread is in the upper bits, so that no mark is given twice.
        let marks = Mark::from(process) << 40;
        let random = Random::new(plan.seed, u64::from(process));
        let process = i64::from(process);
        Self { process, random, marks, transactions: Vec::new(), settled: 0, stale: None }
    }

    fn mark(&mut self) -> Mark {
        self.marks += 1;
        self.marks
    }

    /// Runs transactions until there are enough or the store dies; whoever makes it die returns what is found then.
    fn live(&mut self, life: &Life<'_>) -> Option<SimulatedDisk> {
        let mut looks_left = if life.way == Death::AtTheDisk { LOOKS_AT_A_FAILED_STORE } else { 0 };
        loop {
            if life.dead.load(Ordering::SeqCst) {
                if looks_left == 0 {
                    return None;
                }
                looks_left -= 1;
            }
            if life.begun.fetch_add(1, Ordering::SeqCst) >= life.plan.transactions {
                return None;
            }
            self.record(life, Self::transact);
            if life.ended.fetch_add(1, Ordering::SeqCst) + 1 != life.dies_at {
                continue;
            }
            if life.way == Death::AtTheDisk {
                let next = life.disk.changes() + u64::from(self.random.below(4));
                life.disk.inject(Fault::PowerOff(next));
            } else {
                return Some(self.die(life));
            }
        }
    }

    /// Runs a transaction and writes it down. Between two transactions death takes back what was answered since.
    fn record<T>(
        &mut self,
        life: &Life<'_>,
        run: impl FnOnce(&mut Self, &Life<'_>, &mut Vec<Step>) -> (Outcome, T),
    ) -> T {
        let mut steps = Vec::new();
        let begun = life.ticks.fetch_add(1, Ordering::SeqCst);
        let (mut outcome, value) = run(self, life, &mut steps);
        let ended = life.ticks.fetch_add(1, Ordering::SeqCst);
        let too_late = life.way != Death::AtTheDisk && life.dead.load(Ordering::SeqCst);
        if too_late && matches!(outcome, Outcome::Wrote(_) | Outcome::Read(_)) {
            outcome = Outcome::Unanswered;
        }
        self.transactions.push(Transaction { process: self.process, begun, ended, steps, outcome });
        value
    }

    /// A transaction without an answer may take effect at any time until the store is opened again, so it has not ended
    /// before that, and a thread of its own is left waiting for it.
    fn leave_open(&mut self, ticks: &AtomicU64) {
        let since = self.settled;
        self.settled = self.transactions.len();
        for transaction in &mut self.transactions[since..] {
            if transaction.outcome == Outcome::Unanswered {
                transaction.ended = ticks.fetch_add(1, Ordering::SeqCst);
                transaction.process = -i64::try_from(transaction.ended).unwrap();
            }
        }
    }

    /// Leaves a commit behind that nobody waits for, and takes what is found then.
    fn die(&mut self, life: &Life<'_>) -> SimulatedDisk {
        life.dead.store(true, Ordering::SeqCst);
        self.record(life, |worker, life, steps| {
            let options = TxnOptions::default().isolation(Isolation::ReadCommitted);
            let mut txn = life.database.begin_with(options).unwrap();
            write_call(&mut txn, Call::Put(life.plan.keys - 1), worker.mark(), steps);
            let pending = txn.submit().unwrap();
            if life.way == (Death::Between { synced: true }) {
                life.database.sync().unwrap();
            }
            let image = worker.image(life.disk);
            drop(pending);
            (Outcome::Unanswered, image)
        })
    }

    fn image(&mut self, disk: &SimulatedDisk) -> SimulatedDisk {
        let (mut dice, seed) = (Dice::new(self.random.next()), self.random.next());
        if self.random.one_in(2) {
            return disk.kill(seed);
        }
        let tearing = Tearing::any(&mut dice);
        disk.power_loss(tearing, &mut dice, seed)
    }

    /// Runs one transaction.
    fn transact(&mut self, life: &Life<'_>, steps: &mut Vec<Step>) -> (Outcome, ()) {
        (self.run(life, steps), ())
    }

    fn run(&mut self, life: &Life<'_>, steps: &mut Vec<Step>) -> Outcome {
        let fresh = life.plan.fresh(life.begun.load(Ordering::SeqCst).min(life.plan.transactions));
        let calls = plan(&mut self.random, life.plan.keys, fresh);
        let only_reads = !calls.iter().any(|call| matches!(call, Call::Put(_) | Call::Delete(_)));
        if only_reads && life.plan.isolation != Isolation::ReadCommitted && self.random.one_in(2) {
            let snapshot = self.snapshot(life);
            return self.look(&snapshot, &calls, steps);
        }
        let mut txn = life.database.begin_with(TxnOptions::default().isolation(life.plan.isolation)).unwrap();
        for call in &calls {
            match life.plan.flaw {
                Some(Flaw::ScansUnchecked) if matches!(call, Call::Scan { .. }) && !txn.has_writes() => {
                    let then = life.database.snapshot_at(txn.version()).unwrap();
                    read_call(&then, *call, steps).unwrap();
                }
                _ => read_call(&txn, *call, steps).unwrap(),
            }
            if matches!(call, Call::Put(_) | Call::Delete(_)) {
                write_call(&mut txn, *call, self.mark(), steps);
            }
            breathe(&mut self.random);
        }
        if self.random.one_in(25) {
            return Outcome::RolledBack;
        }
        self.commit(life, txn, steps)
    }

    fn commit(&mut self, life: &Life<'_>, txn: Txn, steps: &[Step]) -> Outcome {
        if life.plan.flaw == Some(Flaw::CommitsInHalves) && txn.has_writes() {
            return crate::flawed::commit_in_halves(life.database, txn, steps);
        }
        let done = if self.random.one_in(8) {
            txn.submit().and_then(keepstone_mvcc_temporal::PendingCommit::wait)
        } else {
            txn.commit()
        };
        match done {
            Ok(receipt) if receipt.rows == 0 => Outcome::Read(receipt.version),
            Ok(receipt) => Outcome::Wrote(receipt.version),
            Err(CommitError::Conflict { .. } | CommitError::ConflictWindowExceeded { .. }) => {
                crate::flawed::after_refusal(life.plan.flaw, life.database, steps)
            }
            // The disk failed: only of this commit is it open whether it is there, of later ones it is not, nor of one
            // for which no room could be made.
            Err(
                error @ (CommitError::CommitOutcomeUnknown { .. }
                | CommitError::Poisoned { .. }
                | CommitError::Pages { .. }),
            ) if life.way == Death::AtTheDisk => {
                life.dead.store(true, Ordering::SeqCst);
                let unknown = matches!(error, CommitError::CommitOutcomeUnknown { .. });
                if unknown { Outcome::Unanswered } else { Outcome::TooLate }
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A snapshot to read from; with a flaw, one that is older than it should be.
    fn snapshot(&mut self, life: &Life<'_>) -> Snapshot {
        let newest = life.database.snapshot().unwrap();
        if life.plan.flaw != Some(Flaw::SnapshotsAreOld) || !self.random.one_in(4) {
            return newest;
        }
        let before = self.stale.replace(newest.version()).unwrap_or(Version::ZERO);
        life.database.snapshot_at(before).unwrap()
    }

    fn look(&mut self, snapshot: &Snapshot, calls: &[Call], steps: &mut Vec<Step>) -> Outcome {
        for call in calls {
            read_call(snapshot, *call, steps).unwrap();
            breathe(&mut self.random);
        }
        Outcome::Read(snapshot.version())
    }
}

fn open(disk: &SimulatedDisk) -> Database {
    let options = DatabaseOptions::default();
    let log = options.log.clone().segment_bytes_min(1 << 20).segment_bytes_max(16 << 20);
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    Database::open_with(vfs, Arc::new(SystemClock::default()), Path::new(DIR), options.log(log)).unwrap()
}

/// Makes both tables and writes every hot key.
fn fill(database: &Database, worker: &mut Worker, ticks: &AtomicU64) {
    let mut steps = Vec::new();
    let begun = ticks.fetch_add(1, Ordering::SeqCst);
    let mut txn = database.begin().unwrap();
    for key in 0..HOT {
        let call = if key == 0 { Call::Delete(key) } else { Call::Put(key) };
        write_call(&mut txn, call, worker.mark(), &mut steps);
    }
    let outcome = Outcome::Wrote(txn.commit().unwrap().version);
    let ended = ticks.fetch_add(1, Ordering::SeqCst);
    worker.transactions.push(Transaction { process: worker.process, begun, ended, steps, outcome });
}

/// The ways take turns; the last life ends in order.
fn death(plan: &Plan, life: u64) -> Death {
    match life % 3 {
        _ if life > plan.crashes => Death::Closed,
        0 => Death::AtTheDisk,
        turn => Death::Between { synced: turn == 1 },
    }
}

/// Runs a whole history.
pub(crate) fn run(plan: Plan) -> Run {
    let mut disk = SimulatedDisk::new(plan.seed);
    let mut database = open(&disk);
    let mut workers: Vec<Worker> = (1..=plan.threads).map(|process| Worker::new(&plan, process)).collect();
    let (ticks, begun, ended) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    fill(&database, &mut workers[0], &ticks);
    let mut forgotten = disk.kill(plan.seed);
    for life in 1..=plan.crashes + 1 {
        let dead = AtomicBool::new(false);
        let way = death(&plan, life);
        let shared = Life {
            plan: &plan,
            database: &database,
            disk: &disk,
            ticks: &ticks,
            begun: &begun,
            ended: &ended,
            dies_at: life * plan.transactions / (plan.crashes + 1),
            way,
            dead: &dead,
        };
        let images: Vec<SimulatedDisk> = thread::scope(|scope| {
            let threads: Vec<_> =
                workers.iter_mut().map(|worker| scope.spawn(|| worker.live(&shared))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        for worker in &mut workers {
            worker.leave_open(&ticks);
        }
        disk = match way {
            Death::Closed => {
                database.close().unwrap();
                disk.kill(plan.seed)
            }
            Death::Between { .. } => images.into_iter().next().unwrap(),
            Death::AtTheDisk => workers[0].image(&disk),
        };
        if plan.flaw == Some(Flaw::CrashesForget) {
            std::mem::swap(&mut disk, &mut forgotten);
            forgotten = forgotten.kill(plan.seed);
        }
        database = open(&disk);
    }
    let crashes = plan.crashes;
    assert!(database.check().unwrap().is_sound());
    let transactions = workers.into_iter().flat_map(|worker| worker.transactions).collect();
    Run { plan, transactions, database, crashes }
}
