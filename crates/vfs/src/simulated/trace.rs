//! A recorded run, and the walk through it that stops anywhere to make crash images.

use std::sync::Arc;

use super::choose::{Choose, Dice};
use super::disk::SimulatedDisk;
use super::event::Event;
use super::image::Tearing;
use super::platter::Platter;

/// What happened to a disk: its state at first, and every change since.
#[derive(Clone, Debug)]
pub struct Trace {
    pub(super) base: Platter,
    pub(super) events: Arc<Vec<Event>>,
}

impl Trace {
    /// Every change and note, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Begins to walk through it.
    #[must_use]
    pub fn replay(&self) -> Replay {
        Replay { platter: self.base.clone(), events: Arc::clone(&self.events), done: 0 }
    }
}

/// A walk through a trace. It stands between two events.
#[derive(Clone, Debug)]
pub struct Replay {
    platter: Platter,
    events: Arc<Vec<Event>>,
    done: usize,
}

impl Replay {
    /// Goes past the next event and gives it; `None` at the end.
    pub fn step(&mut self) -> Option<&Event> {
        let event = self.events.get(self.done)?;
        self.done = self.done.saturating_add(1);
        self.platter.apply(event);
        Some(event)
    }

    /// How many events lie behind.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.done
    }

    /// Whether a power loss here has more than one outcome.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        self.platter.is_undecided()
    }

    /// How many things a power loss here decides: names, lengths, sectors.
    #[must_use]
    pub fn open_questions(&self) -> u64 {
        self.platter.open_questions()
    }

    /// The disk that is found after the power failed here. Its own faults are drawn from `seed`.
    #[must_use]
    pub fn power_loss(&self, tearing: Tearing, choose: &mut dyn Choose, seed: u64) -> SimulatedDisk {
        SimulatedDisk::of(self.platter.after_power_loss(tearing, choose), Dice::new(seed))
    }

    /// The disk that is found after the process was killed here and the system went on: everything written is seen, and
    /// what was not synced is still not stable.
    #[must_use]
    pub fn kill(&self, seed: u64) -> SimulatedDisk {
        SimulatedDisk::of(self.platter.clone(), Dice::new(seed))
    }
}
