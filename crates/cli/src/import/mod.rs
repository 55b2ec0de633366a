//! Reading nodes and links into the store.

pub(crate) mod apply;
pub(crate) mod cargo_metadata;
pub(crate) mod input;
pub(crate) mod line;
pub(crate) mod run;
