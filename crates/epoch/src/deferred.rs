//! Work that is a closure, and is done at the latest when it is dropped.

use std::fmt;

/// A closure that runs once: when it is told to, and otherwise when it is dropped. So `Epochs<Deferred>` loses nothing, even
/// when it is dropped itself.
pub struct Deferred(Option<Box<dyn FnOnce() + Send>>);

impl Deferred {
    /// Work for later.
    #[must_use = "what is dropped runs at once"]
    pub fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(work)))
    }

    /// Does the work.
    pub fn run(mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").finish_non_exhaustive()
    }
}
