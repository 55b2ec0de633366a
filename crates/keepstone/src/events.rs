//! What a store tells those who listen: typed events in a bounded queue each.
//!
//! Invariants:
//! * While nobody listens, nothing is built or allocated: one relaxed load is all it costs.
//! * A full queue drops the new event and counts it. No listener ever holds up a writer, and no code of a listener runs
//!   under a lock: listeners take events from their queue when they like.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use keepstone_types::{Timestamp, Version, lock_rank};

use crate::stats::{Operation, ReconcilerStats};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering, RwLock};

/// Something that happened in a store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A commit is durable and visible.
    Committed {
        /// The version it made.
        version: Version,
        /// Its commit time.
        time: Timestamp,
        /// How long the commit took.
        took: Duration,
    },
    /// A commit failed.
    CommitFailed {
        /// The stable name of the error's kind.
        kind: &'static str,
        /// How long the commit took.
        took: Duration,
    },
    /// A read of one or many nodes or links.
    Query {
        /// Which.
        operation: Operation,
        /// How long it took; for an iterator, until it was made.
        took: Duration,
    },
    /// Numbers, at most once per interval; made by the first commit after it.
    Metrics {
        /// The newest version.
        version: Version,
        /// Commits since the store was opened, by this handle and its clones.
        commits: u64,
        /// Commits that failed since the store was opened.
        commits_failed: u64,
    },
    /// Row versions went from memory and the log into the page file, or could not. Those that a call asked for are told
    /// at its end; those that happened by themselves at the first commit after the interval of the metrics, or when
    /// statistics are asked for.
    Checkpoint {
        /// Whether it was done; a failed one may have folded a part.
        done: bool,
        /// Row versions folded.
        rows: u64,
        /// Bytes written to the page file.
        bytes: u64,
        /// How long the call took; `None` when it happened by itself.
        took: Option<Duration>,
    },
    /// What waits to be folded was predicted to pass 70 % of the memory for it. Told as checkpoints that happened by
    /// themselves are.
    Pressure {
        /// What the controller sees now.
        reconciler: ReconcilerStats,
    },
    /// A threshold was passed: upwards an alert begins, downwards it ends.
    Alert {
        /// What is measured.
        metric: &'static str,
        /// Whether the alert begins.
        begins: bool,
        /// What was measured.
        value_ms: u64,
        /// The threshold passed.
        threshold_ms: u64,
    },
}

/// The queue of one listener.
#[derive(Debug)]
struct Queue {
    max: usize,
    events: Mutex<VecDeque<Event>>,
    arrived: Condvar,
    dropped: AtomicU64,
}

/// A listener's end: events arrive from when it was made until it is dropped.
///
/// ```
/// use std::time::Duration;
/// use keepstone::{Event, Store};
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let events = store.events();
/// let notes = store.collection::<String>("notes")?;
/// store.write(|txn| notes.put(txn, "first", &"hello".to_string()))?;
/// assert!(events.drain().iter().any(|event| matches!(event, Event::Committed { .. })));
/// assert_eq!(events.dropped(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Events {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
}

impl Events {
    /// The oldest event that was not taken yet.
    #[must_use]
    pub fn next_now(&self) -> Option<Event> {
        self.queue.events.lock().pop_front()
    }

    /// The oldest event that was not taken yet; waits for one for at most `timeout`.
    #[must_use]
    pub fn next_within(&self, timeout: Duration) -> Option<Event> {
        let mut events = self.queue.events.lock();
        // A wake-up without an event starts the wait again.
        while events.is_empty() && !self.queue.arrived.wait_for(&mut events, timeout) {}
        events.pop_front()
    }

    /// All events that were not taken yet, oldest first.
    #[must_use]
    pub fn drain(&self) -> Vec<Event> {
        std::mem::take(&mut *self.queue.events.lock()).into()
    }

    /// Events that found the queue full and were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut queues = self.hub.queues.write();
        queues.retain(|queue| !std::ptr::eq(queue.as_ptr(), Arc::as_ptr(&self.queue)));
        self.hub.listening.store(queues.len(), Ordering::Relaxed);
    }
}

/// A store's end: hands events to everyone who listens.
#[derive(Debug)]
pub(crate) struct Hub {
    listening: AtomicUsize,
    queues: RwLock<Vec<Weak<Queue>>>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            listening: AtomicUsize::new(0),
            queues: RwLock::new(lock_rank::KEEPSTONE_LISTENERS, Vec::new()),
        }
    }

    /// Whether anyone listens.
    pub(crate) fn is_on(&self) -> bool {
        self.listening.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn listen(self: &Arc<Self>, max: usize) -> Events {
        let queue = Arc::new(Queue {
            max,
            events: Mutex::new(lock_rank::KEEPSTONE_EVENTS, VecDeque::new()),
            arrived: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let mut queues = self.queues.write();
        queues.push(Arc::downgrade(&queue));
        self.listening.store(queues.len(), Ordering::Relaxed);
        drop(queues);
        Events { hub: Arc::clone(self), queue }
    }

    /// Hands the event that `build` makes to everyone who listens; `build` does not run when nobody does.
    pub(crate) fn emit(&self, build: impl FnOnce() -> Event) {
        if !self.is_on() {
            return;
        }
        let event = build();
        for queue in self.queues.read().iter().filter_map(Weak::upgrade) {
            let mut events = queue.events.lock();
            if events.len() < queue.max {
                events.push_back(event.clone());
                drop(events);
                queue.arrived.notify_one();
            } else {
                drop(events);
                queue.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(commits: u64) -> Event {
        Event::Metrics { version: Version::ZERO, commits, commits_failed: 0 }
    }

    #[test]
    fn nothing_is_built_while_nobody_listens() {
        let hub = Arc::new(Hub::new());
        let mut built = 0;
        hub.emit(|| {
            built += 1;
            event(0)
        });
        drop(hub.listen(4));
        hub.emit(|| {
            built += 1;
            event(0)
        });
        assert_eq!(built, 0);
    }

    #[test]
    fn each_listener_has_a_bounded_queue_and_drops_are_counted() {
        let hub = Arc::new(Hub::new());
        let (small, large) = (hub.listen(2), hub.listen(10));
        (0..5).for_each(|commits| hub.emit(|| event(commits)));
        assert_eq!((small.drain(), small.dropped()), (vec![event(0), event(1)], 3));
        assert_eq!((large.drain().len(), large.dropped()), (5, 0));
        drop(small);
        hub.emit(|| event(7));
        assert_eq!(large.next_within(Duration::ZERO), Some(event(7)));
        assert_eq!(large.next_now(), None);
    }

    #[test]
    fn a_waiting_listener_is_woken() {
        let hub = Arc::new(Hub::new());
        let events = hub.listen(4);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| events.next_within(Duration::from_secs(60)));
            hub.emit(|| event(1));
            assert_eq!(waiting.join().unwrap(), Some(event(1)));
        });
    }
}
