//! Where this crate's locks come from; a model checker replaces them here.

pub(crate) use keepstone_types::sync::{Arc, Mutex};
