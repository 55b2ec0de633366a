//! Bytes as they are handed out: owned, counted, cheap to clone, valid after anything that happens to the store.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Deref, RangeBounds};

use bytes::Bytes;

/// An owned view of a byte string. Cloning and slicing copy no bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueRef(Bytes);

impl ValueRef {
    /// The empty byte string.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Bytes::new())
    }

    /// A copy of `bytes`.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// The part of this view that `range` covers, sharing the same memory; `None` when it reaches past the end.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Option<Self> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        self.0.get(bounds)?;
        Some(Self(self.0.slice(bounds)))
    }

    /// The bytes as a vector of one's own.
    #[must_use]
    pub fn into_owned(self) -> Vec<u8> {
        self.0.into()
    }
}

impl Deref for ValueRef {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ValueRef {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for ValueRef {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for ValueRef {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for ValueRef {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl PartialEq<[u8]> for ValueRef {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for ValueRef {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.0 == other[..]
    }
}

impl fmt::Debug for ValueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_memory_and_know_their_bounds() {
        let value = ValueRef::from(b"keepstone".to_vec());
        let part = value.slice(4..).unwrap();
        assert_eq!(part, b"stone");
        assert_eq!(part.as_ptr(), value[4..].as_ptr());
        assert_eq!(value.slice(..10), None);
        assert_eq!(part.into_owned(), b"stone");
    }
}
