//! The keeper: one background thread per log that makes spares ready, writes the idle mark, honours `max_delay`, and
//! leads when nobody else does. It is never on a commit's path, unless there is no spare.
//!
//! Invariants:
//! * At most one spare is ready; only the keeper makes one, so nobody writes zeros twice.
//! * The keeper never waits for leadership while a leader may wait for the keeper: it gives up soon and tries
//!   again later; leading itself, it makes the spare itself.
//! * Every request for a spare is answered: with a spare, with the error of an attempt that began after the request, or
//!   by the keeper's end.

use std::path::PathBuf;
use std::time::Duration;

use keepstone_types::lock_rank;
use keepstone_vfs::{IoError, VfsFile, VfsLock};

use crate::sync::thread::{self, JoinHandle, ThreadId};
use crate::sync::{Arc, AtomicBool, AtomicU64, Condvar, Mutex, OnceLock, Ordering};
use crate::zeroed::Spare;

/// What the keeper is asked for.
#[derive(Debug, Default)]
pub(crate) struct KeeperState {
    pub(crate) stop: bool,
    /// The thread has ended.
    ended: bool,
    spare: Option<Spare>,
    /// Length of the next spare.
    pub(crate) spare_len: u64,
    /// Requests for a spare, and the last that has been tried.
    asked: u64,
    tried: u64,
    failure: Option<IoError>,
    /// Segments that may become spares.
    pub(crate) recycled: Vec<PathBuf>,
    /// Something is queued and nobody waits for it.
    lead: bool,
    /// A file whose seal is to be synced.
    seal: Option<Arc<dyn VfsFile>>,
    /// When to look at the clock again.
    tick: Option<Duration>,
    pub(crate) thread: Option<JoinHandle<()>>,
    pub(crate) lock: Option<Box<dyn VfsLock>>,
}

/// The keeper's side of the log.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) state: Mutex<KeeperState>,
    /// Wakes the keeper.
    bell: Condvar,
    /// Wakes those who wait for a spare.
    answered: Condvar,
    /// When the keeper looks at the clock by itself, in microseconds; the largest number: never.
    due_micros: AtomicU64,
    /// The keeper's thread.
    id: OnceLock<ThreadId>,
    /// There is no such thread: whoever tends the log is the keeper.
    by_caller: bool,
    /// Somebody tends the log now.
    tended: AtomicBool,
}

/// What the keeper does next.
#[derive(Debug)]
pub(crate) enum Job {
    Stop,
    Lead,
    SyncSeal(Arc<dyn VfsFile>),
    MakeSpare { attempt: u64, len: u64, from: Option<PathBuf> },
    Remove(Vec<PathBuf>),
    Tick,
}

/// No spare, and why.
#[derive(Debug)]
pub(crate) enum NoSpare {
    Failed(IoError),
    KeeperEnded,
}

/// A time of the monotonic clock in microseconds.
pub(crate) fn micros_of(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl KeeperState {
    /// What cannot wait until a spare is made.
    fn urgent(&mut self, now: &dyn Fn() -> Duration) -> Option<Job> {
        if std::mem::take(&mut self.lead) {
            return Some(Job::Lead);
        }
        self.tick.is_some_and(|tick| tick <= now()).then_some(Job::Tick)
    }

    /// The next thing to do, if there is any.
    fn job(&mut self, now: &dyn Fn() -> Duration) -> Option<Job> {
        if self.stop {
            return Some(Job::Stop);
        }
        if let Some(urgent) = self.urgent(now) {
            return Some(urgent);
        }
        if let Some(file) = self.seal.take() {
            return Some(Job::SyncSeal(file));
        }
        if let Some(wanted) = self.wanted_spare() {
            return Some(wanted);
        }
        let left_over = self.spare.is_some() && !self.recycled.is_empty();
        left_over.then(|| Job::Remove(std::mem::take(&mut self.recycled)))
    }

    /// A spare that was asked for and has not been tried since.
    fn wanted_spare(&mut self) -> Option<Job> {
        let wanted = self.spare.is_none() && self.tried < self.asked;
        wanted.then(|| Job::MakeSpare { attempt: self.asked, len: self.spare_len, from: self.recycled.pop() })
    }
}

impl Keeper {
    /// What cannot wait until a spare is made.
    pub(crate) fn urgent_job(&self, now: &dyn Fn() -> Duration) -> Option<Job> {
        self.state.lock().urgent(now)
    }

    pub(crate) fn new(spare_len: u64, lock: Option<Box<dyn VfsLock>>, by_caller: bool) -> Self {
        // The first spare is asked for before anybody needs it.
        let state = KeeperState { spare_len, asked: 1, lock, ..KeeperState::default() };
        Self {
            state: Mutex::new(lock_rank::LOG_KEEPER, state),
            bell: Condvar::new(),
            answered: Condvar::new(),
            due_micros: AtomicU64::new(u64::MAX),
            id: OnceLock::new(),
            by_caller,
            tended: AtomicBool::new(false),
        }
    }

    /// Says that the calling thread is the keeper.
    pub(crate) fn begin(&self) {
        self.id.get_or_init(|| thread::current().id());
    }

    /// Whether the calling thread is the keeper.
    pub(crate) fn is_keeper(&self) -> bool {
        self.by_caller || self.id.get() == Some(&thread::current().id())
    }

    /// The spare, if one is ready; the next is asked for.
    pub(crate) fn take_ready(&self) -> Option<Spare> {
        let mut state = self.state.lock();
        state.asked = state.asked.max(state.tried.saturating_add(1));
        state.spare.take()
    }

    /// Takes a spare back that could not be used; gives the one that is too many.
    pub(crate) fn give_back(&self, unused: Spare) -> Option<Spare> {
        self.state.lock().spare.replace(unused)
    }

    /// Takes the spare, waiting for one to be made if there is none, and asks for the next.
    pub(crate) fn take_spare(&self) -> Result<Spare, NoSpare> {
        let mut state = self.state.lock();
        state.asked = state.asked.saturating_add(1);
        let request = state.asked;
        self.bell.notify_one();
        loop {
            if let Some(spare) = state.spare.take() {
                state.asked = state.asked.max(state.tried.saturating_add(1));
                self.bell.notify_one();
                return Ok(spare);
            }
            if state.ended {
                return Err(NoSpare::KeeperEnded);
            }
            if state.tried >= request {
                if let Some(failure) = &state.failure {
                    return Err(NoSpare::Failed(failure.duplicate()));
                }
                state.asked = state.asked.saturating_add(1);
                self.bell.notify_one();
            }
            self.answered.wait(&mut state);
        }
    }

    /// The answer to an attempt. A spare that was given back meanwhile is one too many, and becomes the next or goes.
    pub(crate) fn answer(&self, attempt: u64, made: Result<Spare, IoError>) {
        let mut state = self.state.lock();
        state.tried = state.tried.max(attempt);
        match made {
            Ok(spare) => {
                let displaced = state.spare.replace(spare);
                state.recycled.extend(displaced.map(|spare| spare.path));
                state.failure = None;
            }
            Err(error) => state.failure = Some(error),
        }
        drop(state);
        self.answered.notify_all();
    }

    /// Asks the keeper to lead, because nobody waits for what is queued.
    pub(crate) fn ask_to_lead(&self) {
        self.state.lock().lead = true;
        self.bell.notify_one();
    }

    /// Asks the keeper to sync a seal.
    pub(crate) fn sync_seal(&self, file: Arc<dyn VfsFile>) {
        self.state.lock().seal = Some(file);
        self.bell.notify_one();
    }

    /// Files that may become spares.
    pub(crate) fn recycle(&self, paths: Vec<PathBuf>) {
        self.state.lock().recycled.extend(paths);
        self.bell.notify_one();
    }

    /// Has the keeper look at the clock in `delay`, unless it will by then anyway. One wake-up per idle-to-busy change.
    pub(crate) fn tick_in(&self, now: Duration, delay: Duration) {
        let at = now.saturating_add(delay);
        if self.due_micros.fetch_min(micros_of(at), Ordering::AcqRel) <= micros_of(at) {
            return;
        }
        let mut state = self.state.lock();
        state.tick = Some(state.tick.map_or(at, |tick| tick.min(at)));
        drop(state);
        self.bell.notify_one();
    }

    /// The keeper looks at the clock now; who wants it to look again must say so from here on.
    pub(crate) fn begin_tick(&self) {
        let mut state = self.state.lock();
        state.tick = None;
        // Whoever relied on this tick has said before what there is to look at.
        self.due_micros.swap(u64::MAX, Ordering::AcqRel);
    }

    /// The keeper itself wants to look at the clock again.
    pub(crate) fn tick_at(&self, at: Duration) {
        let mut state = self.state.lock();
        state.tick = Some(state.tick.map_or(at, |tick| tick.min(at)));
        self.due_micros.fetch_min(micros_of(at), Ordering::AcqRel);
    }

    /// Tells the keeper to end.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.bell.notify_one();
    }

    /// The keeper has ended: nobody may wait for it.
    pub(crate) fn ended(&self) {
        self.state.lock().ended = true;
        self.answered.notify_all();
    }

    /// Begins to tend the log in place of a thread; false when there is a thread, or somebody tends it already.
    pub(crate) fn begin_tending(&self) -> bool {
        self.by_caller && !self.tended.swap(true, Ordering::AcqRel)
    }

    /// The caller tends the log no more.
    pub(crate) fn end_tending(&self) {
        self.tended.store(false, Ordering::Release);
    }

    /// Something to do, if there is any.
    pub(crate) fn job(&self, now: &dyn Fn() -> Duration) -> Option<Job> {
        self.state.lock().job(now)
    }

    /// Waits for something to do.
    pub(crate) fn next_job(&self, now: &dyn Fn() -> Duration) -> Job {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.job(now) {
                return job;
            }
            match state.tick.map(|tick| tick.saturating_sub(now())) {
                Some(left) => {
                    // With a clock that stands still this is how often it is looked at.
                    self.bell.wait_for(&mut state, left.min(Duration::from_secs(1)));
                }
                None => self.bell.wait(&mut state),
            }
        }
    }
}
