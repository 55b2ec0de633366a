//! Roots: what was committed, held by whoever reads it.

use keepstone_types::Generation;

use crate::header::Header;

/// A committed generation. While it is held, no page that can be reached from it is given to another.
#[derive(Debug)]
pub struct Root {
    header: Header,
}

impl Root {
    pub(crate) const fn new(header: Header) -> Self {
        Self { header }
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// Its number.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.header.generation
    }

    /// What the commit carried for the layer above.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.header.meta
    }
}
