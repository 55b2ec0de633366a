//! Mistakes that a checkpoint can make, each built in on purpose, so that the tests can show that they would be caught; and
//! a place between two slices where a test may look.
//!
//! Only with the feature `wrong-variants`, and only in a thread that asks for one: without the feature every question
//! here is answered `false` when the crate is compiled.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// A header says that rows are folded of which the log is not on stable storage.
    FlipBeforeLogSync,
    /// What a slice displaces is pruned at once instead of after the checkpoint.
    PruneDuringFold,
    /// The log is released as soon as the newest header can do without it, although the one before cannot.
    ReleasePastFallback,
    /// What a slice displaces does not go to history.
    DisplacedForgotten,
    /// A run goes as soon as the newest header has what is in it, although the one before has not.
    RunRemovedEarly,
    /// The version below a branch is pruned like any other.
    BaseForgotten,
    /// Discarding a branch leaves no note that its rows are still to go.
    NoteForgotten,
    /// What a delta hangs on is pruned in a slice, and the delta made anew in the next.
    BasePrunedApart,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::FlipBeforeLogSync,
        Self::PruneDuringFold,
        Self::ReleasePastFallback,
        Self::DisplacedForgotten,
        Self::RunRemovedEarly,
        Self::BaseForgotten,
        Self::NoteForgotten,
        Self::BasePrunedApart,
    ];
}

#[cfg(feature = "wrong-variants")]
mod chosen {
    use std::cell::RefCell;
    use std::rc::Rc;

    use keepstone_types::mistake::Chosen;

    use super::Wrong;

    type Look = Rc<dyn Fn()>;

    thread_local! {
        static CHOSEN: Chosen<Wrong> = const { Chosen::none() };
        static LOOK: RefCell<Option<Look>> = const { RefCell::new(None) };
    }

    /// Stops looking, however the work ends.
    struct Blind;

    impl Drop for Blind {
        fn drop(&mut self) {
            LOOK.with_borrow_mut(Option::take);
        }
    }

    /// Makes one mistake on this thread while `work` runs.
    pub fn with<T>(wrong: Wrong, work: impl FnOnce() -> T) -> T {
        Chosen::with(&CHOSEN, wrong, work)
    }

    pub(crate) fn is(wrong: Wrong) -> bool {
        Chosen::is(&CHOSEN, wrong)
    }

    /// Calls `look` after every slice that a checkpoint on this thread publishes while `work` runs.
    pub fn looking<T>(look: impl Fn() + 'static, work: impl FnOnce() -> T) -> T {
        let _blind = Blind;
        LOOK.with_borrow_mut(|place| *place = Some(Rc::new(look)));
        work()
    }

    pub(crate) fn published() {
        let look = LOOK.with_borrow(Clone::clone);
        if let Some(look) = look {
            look();
        }
    }
}

#[cfg(not(feature = "wrong-variants"))]
mod chosen {
    use super::Wrong;

    pub(crate) const fn is(_wrong: Wrong) -> bool {
        false
    }

    pub(crate) const fn published() {}
}

pub(crate) use chosen::{is, published};
#[cfg(feature = "wrong-variants")]
pub use chosen::{looking, with};
