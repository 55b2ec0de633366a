//! Mistakes that can be made with epochs, each built in on purpose, so that the models can show that they would be caught.
//!
//! Only with the feature `wrong-variants`, and only in a thread that asks for one: without the feature every question
//! here is answered `false` when the crate is compiled.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// Who enters takes the epoch from before it was counted, and does not look again.
    EnterWithoutLookingAgain,
    /// Who submits is not counted while what it submits is on its way.
    SubmitterUncounted,
    /// What landed in the current epoch counts as due.
    CurrentEpochStolen,
    /// A second thief takes a batch while the first has one.
    TwoThieves,
    /// A thief that panics keeps the turn.
    TurnKeptByPanic,
    /// What a thief that panics has not come to is dropped.
    RestLostByPanic,
    /// Who takes a slot of a further block does not say first that the block is there.
    FurtherBlockUnannounced,
    /// Entering is ordered by acquire and release only.
    WeakEnter,
    /// A thief's look at epoch and slots is ordered by acquire only.
    WeakLook,
    /// Landing in an epoch is not ordered behind what the submitter did.
    WeakLanding,
    /// What one thief found over is told to the next without what made it so.
    WeakOver,
    /// Leaving is not ordered behind what the reader did.
    WeakLeave,
}

#[cfg(feature = "wrong-variants")]
mod chosen {
    use keepstone_types::mistake::Chosen;

    use super::Wrong;

    thread_local! {
        static CHOSEN: Chosen<Wrong> = const { Chosen::none() };
    }

    /// Makes one mistake on this thread while `work` runs.
    pub fn with<T>(wrong: Wrong, work: impl FnOnce() -> T) -> T {
        Chosen::with(&CHOSEN, wrong, work)
    }

    pub(crate) fn is(wrong: Wrong) -> bool {
        Chosen::is(&CHOSEN, wrong)
    }
}

#[cfg(not(feature = "wrong-variants"))]
mod chosen {
    use super::Wrong;

    pub(crate) const fn is(_wrong: Wrong) -> bool {
        false
    }
}

pub(crate) use chosen::is;
#[cfg(feature = "wrong-variants")]
pub use chosen::with;
