//! How a page file is created and opened.

use crate::error::OpenError;
use crate::header::FIXED_END;
use crate::layout::PageSize;
use crate::parity::Parity;
use crate::region::{REGION_SLOTS, REGIONS_MAX};

/// The most slots of a file: 2^42 − 1,024.
pub(crate) const PAGES_LIMIT: u64 = REGIONS_MAX * REGION_SLOTS;
/// The fewest slots a file may be limited to.
const PAGES_MIN: u64 = FIXED_END + 64;

/// What may be done with an open file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Reading and committing; what is damaged and can be healed is.
    #[default]
    Write,
    /// Reading. Nothing is written, whatever is found.
    ReadOnly,
}

/// How a page file is created and opened. Bounds are checked by [`PageFile::create`](crate::PageFile::create) and
/// [`PageFile::open`](crate::PageFile::open).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PageFileOptions {
    /// Bytes of a slot in a file that is created; an existing file says itself. Default 8,192.
    pub page_size: PageSize,
    /// Bytes of memory for the cache, its index included; 0 for none. Default 64 MiB.
    pub cache_bytes: u64,
    /// The most slots the file may have, 128 to 2^42 − 1,024 (the default).
    pub max_pages: u64,
    /// Whether a file that is created keeps parity; an existing file says itself, and
    /// [`PageFile::set_parity`](crate::PageFile::set_parity) changes it.
    pub parity: Parity,
}

impl Default for PageFileOptions {
    fn default() -> Self {
        Self {
            page_size: PageSize::default(),
            cache_bytes: 64 << 20,
            max_pages: PAGES_LIMIT,
            parity: Parity::default(),
        }
    }
}

impl PageFileOptions {
    /// Sets [`page_size`](Self::page_size).
    #[must_use]
    pub const fn page_size(mut self, size: PageSize) -> Self {
        self.page_size = size;
        self
    }

    /// Sets [`cache_bytes`](Self::cache_bytes).
    #[must_use]
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets [`max_pages`](Self::max_pages).
    #[must_use]
    pub const fn max_pages(mut self, pages: u64) -> Self {
        self.max_pages = pages;
        self
    }

    /// Sets [`parity`](Self::parity).
    #[must_use]
    pub const fn parity(mut self, parity: Parity) -> Self {
        self.parity = parity;
        self
    }

    /// Fails when an option is out of bounds.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if (PAGES_MIN..=PAGES_LIMIT).contains(&self.max_pages) {
            return Ok(());
        }
        let expected = format!("{PAGES_MIN} to {PAGES_LIMIT}");
        Err(OpenError::Option { option: "max_pages", expected, found: self.max_pages })
    }
}
