//! Choosing one of the mistakes that a crate has built in for its tests to catch, on one thread and for a while.

use std::cell::Cell;
use std::fmt;
use std::thread::LocalKey;

/// The mistake that a thread makes now, if any: a thread-local of the crate whose mistakes they are.
pub struct Chosen<W>(Cell<Option<W>>);

impl<W> fmt::Debug for Chosen<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen").finish_non_exhaustive()
    }
}

impl<W: Copy + PartialEq + 'static> Chosen<W> {
    /// None.
    #[must_use]
    pub const fn none() -> Self {
        Self(Cell::new(None))
    }

    /// Makes one mistake on this thread while `work` runs; it is taken back however the work ends.
    pub fn with<T>(chosen: &'static LocalKey<Self>, mistake: W, work: impl FnOnce() -> T) -> T {
        let _reset = Reset(chosen);
        chosen.with(|chosen| chosen.0.set(Some(mistake)));
        work()
    }

    /// Whether this thread makes a mistake now.
    pub fn is(chosen: &'static LocalKey<Self>, mistake: W) -> bool {
        chosen.with(|chosen| chosen.0.get() == Some(mistake))
    }
}

struct Reset<W: 'static>(&'static LocalKey<Chosen<W>>);

impl<W> Drop for Reset<W> {
    fn drop(&mut self) {
        self.0.with(|chosen| chosen.0.set(None));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    thread_local! {
        static CHOSEN: Chosen<u8> = const { Chosen::none() };
    }

    #[test]
    fn a_mistake_is_made_on_one_thread_until_the_work_ends() {
        assert!(!Chosen::is(&CHOSEN, 1));
        let other = Chosen::with(&CHOSEN, 1, || {
            assert!(Chosen::is(&CHOSEN, 1) && !Chosen::is(&CHOSEN, 2));
            std::thread::spawn(|| Chosen::is(&CHOSEN, 1)).join().unwrap()
        });
        assert!(!other && !Chosen::is(&CHOSEN, 1));
        let panicked = catch_unwind(AssertUnwindSafe(|| Chosen::with(&CHOSEN, 2, || panic!("on purpose"))));
        assert!(panicked.is_err() && !Chosen::is(&CHOSEN, 2));
    }
}
