//! A mistake that a page file can make, built in on purpose, so that the tests can show that it would be caught.
//!
//! Only with the feature `wrong-variants`, and only in a thread that asks for it: without the feature every question
//! here is answered `false` when the crate is compiled.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// A slot is used again one flip early: freed by a generation, it is given away while the next one is built.
    EarlyReuse,
    /// A slot that parity counts is given away as soon as nobody needs its page.
    MemberReuse,
    /// A slot is excluded from parity without its page being taken out of it.
    Unverified,
    /// A new page is counted in the parity of another group than its own.
    WrongBlock,
    /// A rebuilt page is written although its slot was given to another page meanwhile.
    RepairDeadPage,
}

impl Wrong {
    /// Those that a sweep catches; the others have tests of their own.
    pub const SWEPT: [Self; 4] = [Self::EarlyReuse, Self::MemberReuse, Self::Unverified, Self::WrongBlock];
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
