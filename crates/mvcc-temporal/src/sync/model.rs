//! Models of what other crates publish without locks: their contract, one step an operation. How they keep it is left out.

use std::ops::Deref;

use keepstone_types::sync::model::OneStep;

use crate::sync::Arc;

/// A published pointer.
#[derive(Debug)]
pub(crate) struct ArcSwap<T>(OneStep<Arc<T>>);

/// What was published when it was loaded.
#[derive(Debug)]
pub(crate) struct Loaded<T>(Arc<T>);

impl<T> Deref for Loaded<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self(OneStep::new(Arc::new(value)))
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        Loaded(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.step(|published| Arc::clone(published))
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        self.0.step(|published| *published = value);
    }
}
