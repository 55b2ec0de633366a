//! The thread that decides when to checkpoint, and how fast.
//!
//! It sleeps without a timer while nothing is waiting to be folded, and is woken by the next commit. While something is, it
//! looks again after each of the controller's pauses. It holds the store only while it works, so a store whose last
//! handle is dropped is closed, and the thread ends.

use std::time::Duration;

use keepstone_types::{Timestamp, lock_rank};

use super::{Checkpointer, Reason, run};
use crate::branches::clear_discarded;
use crate::database::Inner;
use crate::options::CheckpointOptions;
use crate::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering, Weak, thread};

/// Rows that are not worth a checkpoint, however old they are.
const HANDFUL_ROWS: u64 = 256;
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);
/// How long the thread leaves a disk alone that just refused.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What wakes the thread.
#[derive(Debug)]
pub(crate) struct Alarm {
    state: Mutex<AlarmState>,
    bell: Condvar,
    /// The next commit shall ring.
    listening: AtomicBool,
}

#[derive(Debug, Default)]
struct AlarmState {
    rung: bool,
    ended: bool,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(lock_rank::MVCC_CHECKPOINT_ALARM, AlarmState::default()),
            bell: Condvar::new(),
            listening: AtomicBool::new(false),
        }
    }

    /// Something was committed: wakes the thread if it listens. Costs a load otherwise.
    pub(crate) fn committed(&self) {
        if self.listening.load(Ordering::SeqCst) && self.listening.swap(false, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// From now on a commit rings, once. Who listens first and looks afterwards misses none: what is not seen rings.
    fn listen(&self) {
        self.listening.store(true, Ordering::SeqCst);
    }

    fn ring(&self) {
        self.state.lock().rung = true;
        self.bell.notify_one();
    }

    /// Ends the thread.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.bell.notify_one();
    }

    /// Waits, for a commit too if it is listened for; false when the thread is to end.
    fn wait(&self, time: Duration, until_a_commit: bool) -> bool {
        if !until_a_commit {
            self.listening.store(false, Ordering::SeqCst);
        }
        let mut state = self.state.lock();
        state.rung &= until_a_commit;
        if !state.rung && !state.ended {
            self.bell.wait_for(&mut state, time);
        }
        state.rung = false;
        self.listening.store(false, Ordering::SeqCst);
        !state.ended
    }
}

/// What is waiting to be folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) log_bytes: u64,
    /// Time of the oldest commit that is not folded, and of the newest.
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) newest: Option<Timestamp>,
    /// A checkpoint is half done.
    pub(crate) is_half_done: bool,
}

impl Waiting {
    pub(crate) fn of(inner: &Inner) -> Self {
        let layers = inner.shared.stack.current();
        let (rows, bytes) = layers.size();
        let oldest = layers.memtables().iter().rev().find_map(|memtable| memtable.commits().first());
        let newest = layers.memtables().iter().find_map(|memtable| memtable.commits().last());
        Self {
            rows,
            bytes,
            log_bytes: inner.log.stats().segment_bytes,
            oldest: oldest.map(|commit| commit.time()),
            newest: newest.map(|commit| commit.time()),
            is_half_done: layers.memtables().len() > 1,
        }
    }
}

/// Whether it is time for a checkpoint.
pub(crate) fn is_due(options: &CheckpointOptions, waiting: &Waiting, now: Timestamp) -> bool {
    let passed = |bytes: u64, limit: u64| limit > 0 && bytes >= limit;
    let (Some(oldest), Some(newest)) = (waiting.oldest, waiting.newest) else { return false };
    if waiting.is_half_done
        || passed(waiting.bytes, options.memory_bytes)
        || passed(waiting.log_bytes, options.log_bytes)
    {
        return true;
    }
    let since = |time: Timestamp, limit: Duration| !limit.is_zero() && now >= time.plus(limit);
    waiting.rows >= HANDFUL_ROWS && (since(oldest, options.age) || since(newest, options.idle))
}

/// Whether it is time for a checkpoint of a store. Only who folds sees what is half done as it is: from beside another
/// checkpoint everything looks so.
pub(crate) fn is_due_now(inner: &Inner) -> bool {
    is_due(&inner.checkpointer.options, &Waiting::of(inner), inner.shared.clock.now())
}

/// Starts the thread of a store.
pub(crate) fn start(inner: &Arc<Inner>) -> std::io::Result<()> {
    let (weak, alarm) = (Arc::downgrade(inner), Arc::clone(&inner.shared.alarm));
    let spawned =
        thread::Builder::new().name("keepstone-checkpoint".to_owned()).spawn(move || watch(&weak, &alarm));
    spawned.map(drop)
}

fn watch(store: &Weak<Inner>, alarm: &Alarm) {
    let mut pause = Duration::ZERO;
    let mut until_a_commit = false;
    let mut settled = 0;
    while alarm.wait(pause, until_a_commit) {
        let Some(inner) = store.upgrade() else { return };
        (pause, until_a_commit) = look(&inner, &mut settled);
    }
}

/// Gives back what checkpoints needed when nothing was committed for a while after the last of them: once, so `settled` is
/// how many there had been the last time. Says how long to wait then.
fn settle(inner: &Inner, is_still: bool, settled: &mut u64) -> Duration {
    let (checkpoints, idle) = (inner.checkpointer.checkpoints.get(), inner.checkpointer.options.idle);
    if *settled == checkpoints || idle.is_zero() || !super::room::is_too_much(inner) {
        return SLEEP_MAX;
    }
    if !is_still {
        return idle;
    }
    *settled = checkpoints;
    // What keeps it from that is told by whatever needs the disk next.
    super::settle(inner).unwrap_or_default();
    SLEEP_MAX
}

/// Looks once, works if it is time, and says how long to wait then, and whether a commit should end the wait.
pub(super) fn look(inner: &Inner, settled: &mut u64) -> (Duration, bool) {
    let Ok(_call) = inner.shared.enter() else { return (SLEEP_MAX, false) };
    let checkpointer: &Checkpointer = &inner.checkpointer;
    let waiting = Waiting::of(inner);
    checkpointer.observe(inner, waiting.bytes);
    checkpointer.let_go(None);
    // A disk that fails is told to who reads.
    super::prune::watch_readers(inner).unwrap_or_default();
    let now = inner.shared.clock.now();
    if is_due(&checkpointer.options, &waiting, now) {
        // What is left of branches that were discarded goes when there is a way.
        clear_discarded(inner).unwrap_or_default();
        if run(inner, Reason::Due).is_err() {
            return (PAUSE_AFTER_FAILURE, false);
        }
    }
    inner.shared.alarm.listen();
    let left = Waiting::of(inner);
    let pause = checkpointer.pause();
    if left.newest.is_none() {
        return (settle(inner, waiting.newest.is_none(), settled), true);
    }
    if left.newest == waiting.newest && left.rows < HANDFUL_ROWS {
        // Nobody writes, and what there is may wait.
        return (SLEEP_MAX, true);
    }
    (pause, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// A commit between the look and the sleep wakes the thread too.
    #[test]
    fn a_commit_after_the_look_rings() {
        let alarm = Alarm::new();
        let long = Duration::from_secs(3_600);
        let started = std::time::Instant::now();
        alarm.listen();
        alarm.committed();
        assert!(alarm.wait(long, true), "it has rung, once");
        alarm.committed();
        assert!(!alarm.state.lock().rung, "nobody listens");
        alarm.listen();
        alarm.committed();
        alarm.wait(Duration::from_micros(1), false);
        assert!(!alarm.state.lock().rung, "a pause is not ended, and not remembered, by a commit");
        alarm.end();
        assert!(!alarm.wait(long, true));
        assert!(started.elapsed() < long);
    }

    #[test]
    fn every_trigger_works_and_zero_turns_it_off() {
        let options = CheckpointOptions {
            memory_bytes: 1_000,
            log_bytes: 2_000,
            age: Duration::from_secs(100),
            idle: Duration::from_secs(10),
            slice_keys: 1,
        };
        let off = CheckpointOptions {
            memory_bytes: 0,
            log_bytes: 0,
            age: Duration::ZERO,
            idle: Duration::ZERO,
            slice_keys: 1,
        };
        let some =
            Waiting { rows: 300, oldest: Some(seconds(0)), newest: Some(seconds(50)), ..Waiting::default() };
        let few = Waiting { rows: 3, ..some };
        for (what, waiting, now, expected) in [
            ("nothing", Waiting::default(), 1_000, false),
            ("little and young", some, 55, false),
            ("memory", Waiting { bytes: 1_000, ..few }, 55, true),
            ("log", Waiting { log_bytes: 2_000, ..few }, 55, true),
            ("half done", Waiting { is_half_done: true, ..few }, 55, true),
            ("idle", some, 60, true),
            ("age", Waiting { newest: Some(seconds(95)), ..some }, 100, true),
            ("a handful", few, 1_000, false),
        ] {
            assert_eq!(is_due(&options, &waiting, seconds(now)), expected, "{what}");
            let is_half_done = waiting.is_half_done;
            assert_eq!(is_due(&off, &waiting, seconds(now)), is_half_done, "{what}, turned off");
        }
    }
}
