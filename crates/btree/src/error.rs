//! What can go wrong. Each error says what, where, expected and found.

use keepstone_pager::{PageError, PageRead};
use keepstone_types::{PageId, wire};

/// Why a tree could not be read or built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A page could not be read or written, or is of another kind than its place in the tree says.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A page with the right checksum whose content no writer produces, or that does not fit the pages around it.
    #[error(
        "page {page} of a tree is damaged: {what}: expected {expected}, found {found}; `keepstone check` tells more"
    )]
    Damaged {
        /// The slot.
        page: PageId,
        /// Which part of it.
        what: &'static str,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The stored form of a root that no writer produces.
    #[error(
        "the root of a tree is damaged: {what}: expected {expected}, found {found}; `keepstone check` tells more"
    )]
    Root {
        /// Which part of it.
        what: &'static str,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The stored form of a root that ends early.
    #[error("the root of a tree is cut short: {0}")]
    RootCut(#[from] wire::Truncated),
    /// A key longer than pages of this size can hold.
    #[error("a key has {len} bytes, at most {max} fit pages of this size; shorten it or use larger pages")]
    KeyTooLong {
        /// Bytes of the key.
        len: usize,
        /// The most that it may have.
        max: usize,
    },
    /// A value longer than any tree holds.
    #[error("a value has {len} bytes, expected at most {max}; store it in parts")]
    ValueTooLong {
        /// Bytes of the value.
        len: u64,
        /// The most that it may have.
        max: u64,
    },
    /// Keys that were to ascend do not.
    #[error("keys must ascend strictly: expected a key after {before}, found {found}")]
    Order {
        /// The key before.
        before: String,
        /// The key that should be greater.
        found: String,
    },
    /// Pages on which no tree can stand.
    #[error(
        "a page has {found} bytes of payload, expected {min} to {max}; create the store with another page size"
    )]
    PageLen {
        /// Bytes of payload.
        found: usize,
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
    },
    /// More levels than a tree may have.
    #[error("the tree would have {found} levels, expected at most {max}; copy it into a fresh one")]
    TooHigh {
        /// Levels.
        found: u8,
        /// The most.
        max: u8,
    },
}

impl TreeError {
    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Page(error) => error.is_damage(),
            Self::Damaged { .. } | Self::Root { .. } | Self::RootCut(_) => true,
            _ => false,
        }
    }

    /// A page whose content no writer produces.
    #[cold]
    pub(crate) fn damaged(
        page: PageId,
        what: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Damaged { page, what, expected: expected.into(), found: found.into() }
    }

    /// A part of a page that reaches past the bytes in use, or is not well formed.
    #[cold]
    pub(crate) fn cut(page: PageId, what: &'static str) -> Self {
        let (expected, found) = crate::keys::WELL_FORMED;
        Self::damaged(page, what, expected, found)
    }

    /// A key where a greater one was expected.
    #[cold]
    pub(crate) fn order(before: &[u8], found: &[u8]) -> Self {
        Self::Order { before: printed(before), found: printed(found) }
    }
}

/// A key as it stands in a message: escaped, and cut after 48 bytes.
pub(crate) fn printed(key: &[u8]) -> String {
    let shown = key.get(..48).unwrap_or(key).escape_ascii();
    let more = if key.len() > 48 { format!("… ({} bytes)", key.len()) } else { String::new() };
    format!("\"{shown}\"{more}")
}

/// Fails when a key is longer than the pages can hold.
pub(crate) fn check_key(pages: &(impl PageRead + ?Sized), key: &[u8]) -> Result<(), TreeError> {
    let max = crate::limits::key_len_max(pages.payload_len());
    if key.len() > max {
        return Err(TreeError::KeyTooLong { len: key.len(), max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_keys_that_people_can_read_and_have_a_bound() {
        let long = [0xFF; 4_000];
        let message = TreeError::order(b"b\n", &long).to_string();
        assert!(message.contains("after \"b\\n\", found \"\\xff"), "{message}");
        assert!(message.ends_with("… (4000 bytes)") && message.len() < 400, "{message}");
    }

    #[test]
    fn damage_is_told_from_misuse() {
        assert!(TreeError::cut(PageId::ZERO, "cell").is_damage());
        assert!(!TreeError::KeyTooLong { len: 9, max: 8 }.is_damage());
        assert!(!TreeError::from(PageError::Poisoned).is_damage());
    }
}
