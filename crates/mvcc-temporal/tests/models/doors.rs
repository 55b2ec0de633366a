//! The gate and the exclusive turn, whose source is included here because they are private.

use keepstone_types::lock_rank::TEST_OUTER;
use keepstone_types::sync::Arc;
use keepstone_types::sync::model::{self, switch, thread};

use crate::gate::{Gate, Turns};
use crate::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, Ordering};

/// A door that people go through and somebody shuts.
trait Door: Send + Sync + 'static {
    /// Goes in, does something, and leaves; false when the door is shut.
    fn pass(&self, inside: &dyn Fn()) -> bool;

    /// Shuts the door and waits until nobody is inside.
    fn shut_and_wait(&self);
}

impl Door for Gate {
    fn pass(&self, inside: &dyn Fn()) -> bool {
        let Some(_pass) = self.enter() else { return false };
        inside();
        true
    }

    fn shut_and_wait(&self) {
        assert!(self.shut());
        self.wait_empty();
    }
}

/// A gate that looks at the door before it counts: what the order in [`Gate::enter`] keeps from happening.
struct LooksFirst {
    inside: AtomicUsize,
    shut: AtomicBool,
    waiting: Mutex<()>,
    left: Condvar,
}

impl Door for LooksFirst {
    fn pass(&self, inside: &dyn Fn()) -> bool {
        if self.shut.load(Ordering::SeqCst) {
            return false;
        }
        self.inside.fetch_add(1, Ordering::SeqCst);
        inside();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if self.shut.load(Ordering::SeqCst) {
            let _order = self.waiting.lock();
            self.left.notify_all();
        }
        true
    }

    fn shut_and_wait(&self) {
        self.shut.store(true, Ordering::SeqCst);
        let mut waiting = self.waiting.lock();
        while self.inside.load(Ordering::SeqCst) > 0 {
            self.left.wait(&mut waiting);
        }
    }
}

/// Three go through a door as long as it is open, while a fourth shuts it.
fn go_through(door: Arc<impl Door>) {
    let inside = Arc::new(AtomicUsize::new(0));
    let people: Vec<_> = (0..3)
        .map(|_| {
            let (door, inside) = (Arc::clone(&door), Arc::clone(&inside));
            thread::spawn(move || {
                let stay = || {
                    inside.fetch_add(1, Ordering::SeqCst);
                    switch();
                    inside.fetch_sub(1, Ordering::SeqCst);
                };
                let _all = (0..2).all(|_| door.pass(&stay));
            })
        })
        .collect();
    door.shut_and_wait();
    assert_eq!(inside.load(Ordering::SeqCst), 0, "somebody is inside a shut gate");
    assert!(!door.pass(&|| {}), "a shut gate lets somebody in");
    for person in people {
        person.join().unwrap();
    }
}

#[test]
fn nobody_is_inside_a_shut_gate() {
    model::check("nobody is inside a shut gate", || go_through(Arc::new(Gate::new())));
}

#[test]
fn a_gate_that_looks_before_it_counts_is_caught() {
    let caught = model::catch("a gate that looks before it counts", || {
        go_through(Arc::new(LooksFirst {
            inside: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
            waiting: Mutex::new(TEST_OUTER, ()),
            left: Condvar::new(),
        }));
    });
    assert!(caught.message.contains("inside a shut gate"), "{caught}");
}

#[test]
fn a_gate_whose_last_guest_leaves_in_silence_is_caught() {
    let caught = model::catch("a gate whose last guest leaves in silence", || {
        model::swallow_notification(1);
        go_through(Arc::new(Gate::new()));
    });
    assert!(caught.message.contains("deadlock"), "{caught}");
}

/// Two take turns, while two others commit.
fn take_turns(turns: &Arc<Turns>) {
    // Commits that were let pass and are under way, and turns that are held.
    let (passing, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let spawn = |act: fn(&Turns, &AtomicUsize, &AtomicUsize)| {
        let (turns, passing, held) = (Arc::clone(turns), Arc::clone(&passing), Arc::clone(&held));
        thread::spawn(move || act(&turns, &passing, &held))
    };
    let commit = |turns: &Turns, passing: &AtomicUsize, held: &AtomicUsize| {
        for _ in 0..2 {
            // Who waits too long goes on without a pass: the turn is then worth less, and nobody hangs.
            let Some(_pass) = turns.pass() else { continue };
            passing.fetch_add(1, Ordering::SeqCst);
            assert_eq!(held.load(Ordering::SeqCst), 0, "a commit is let pass during another's turn");
            passing.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let exclude = |turns: &Turns, passing: &AtomicUsize, held: &AtomicUsize| {
        let Some(_turn) = turns.take() else { return };
        assert_eq!(held.fetch_add(1, Ordering::SeqCst), 0, "two hold the turn");
        assert_eq!(passing.load(Ordering::SeqCst), 0, "a commit is under way in another's turn");
        assert!(turns.take().is_none(), "it has the turn already");
        assert_eq!(passing.load(Ordering::SeqCst), 0, "a commit is under way in another's turn");
        held.fetch_sub(1, Ordering::SeqCst);
    };
    let threads = [spawn(commit), spawn(exclude), spawn(commit), spawn(exclude)];
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(turns.pass().is_some(), "the turn was not given back");
}

#[test]
fn turns_keep_others_out_and_are_given_back() {
    model::check("turns keep others out and are given back", || take_turns(&Arc::new(Turns::new())));
}
