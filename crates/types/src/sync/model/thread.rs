//! Threads of the product under a checker. One that panics ends, and whoever joins it is told, as with the standard
//! library's; threads that a test spawns with [`spawn`] fail the test.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use shuttle::thread::{
    JoinHandle as TestHandle, Result, Thread, ThreadId, current, sleep, spawn, yield_now,
};

/// How a thread is started.
#[derive(Debug, Default)]
pub struct Builder(shuttle::thread::Builder);

/// A thread of the product's own.
#[derive(Debug)]
pub struct JoinHandle<T>(TestHandle<Result<T>>);

impl Builder {
    /// A thread without a name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the thread.
    #[must_use]
    pub fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// Never, in a model.
    pub fn spawn<F, T>(self, act: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.0.spawn(move || catch_unwind(AssertUnwindSafe(act))).map(JoinHandle)
    }
}

impl<T> JoinHandle<T> {
    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.0.thread()
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// What it panicked with, if it did.
    pub fn join(self) -> Result<T> {
        self.0.join().and_then(|ended| ended)
    }
}
