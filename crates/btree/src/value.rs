//! Values as they are handed in, as they stand in cells, and as they are handed out.
#![deny(clippy::arithmetic_side_effects)]

use std::fmt;

use keepstone_pager::{Page, PageRead, PageWrite};
use keepstone_types::ValueRef;
use keepstone_types::wire::put_varint;

use crate::chain::{self, CHAIN_HEAD_LEN, Chain};
use crate::error::TreeError;
use crate::keys::Wrong;
use crate::layout::{disk_len, memory_len, take_varint, varint_len};
use crate::leaf::cut;
use crate::limits::{VALUE_LEN_MAX, inline_len_max, shared_len_min};

/// A value in a tree. Valid after anything that happens to the tree, as far as its pages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The value itself.
    Inline(ValueRef),
    /// A value in pages of its own.
    Chain(Chain),
}

impl Stored {
    /// Bytes of the value.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(value) => disk_len(value.len()),
            Self::Chain(chain) => chain.len(),
        }
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the value begins with, without reading a page: at least the first 16 bytes of it, or all of a shorter one.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        match self {
            Self::Inline(value) => value,
            Self::Chain(chain) => chain.head(),
        }
    }

    /// The whole value.
    ///
    /// # Errors
    /// When a page of it cannot be read or is damaged.
    pub fn load(&self, pages: &(impl PageRead + ?Sized)) -> Result<ValueRef, TreeError> {
        match self {
            Self::Inline(value) => Ok(value.clone()),
            Self::Chain(chain) => chain::load(pages, chain),
        }
    }
}

/// A value where it stands: in its leaf, for as long as that is looked at. Looking copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    page: &'a Page,
    /// Where an inline value, or the reference to a chain, begins in the payload.
    at: usize,
    body: Body<'a>,
}

impl<'a> Found<'a> {
    pub(crate) const fn new(page: &'a Page, at: usize, body: Body<'a>) -> Self {
        Self { page, at, body }
    }

    /// Bytes of the value.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.body.value_len()
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Stored::head`].
    #[inline]
    #[must_use]
    pub fn head(&self) -> &'a [u8] {
        self.body.head()
    }

    /// The whole value; `None` when it has pages of its own.
    #[inline]
    #[must_use]
    pub const fn inline(&self) -> Option<&'a [u8]> {
        if self.body.is_chain() { None } else { Some(self.body.data()) }
    }

    /// An inline value behind its first `skip` bytes, sharing the memory of the page; `None` when it is to be copied: one so
    /// small that it should not hold a page, or shorter than `skip`. `None` for a value with pages of its own.
    #[inline]
    #[must_use]
    pub fn shared(&self, skip: usize) -> Option<ValueRef> {
        let len = self.inline()?.len();
        if len < shared_len_min(self.page.payload().len()) || len < skip {
            return None;
        }
        self.page.share(self.at.saturating_add(skip)..self.at.saturating_add(len))
    }

    /// An inline value behind its first `skip` bytes, sharing the memory of the page, however small it is: for who takes
    /// rows that stand side by side. `None` for one shorter than `skip`, and for a value with pages of its own.
    #[inline]
    #[must_use]
    pub fn part(&self, skip: usize) -> Option<ValueRef> {
        let len = self.inline()?.len();
        self.page.share(self.at.saturating_add(skip)..self.at.saturating_add(len))
    }

    /// The value to keep: a small one is copied, a larger one shares the memory of its page.
    ///
    /// # Errors
    /// When the leaf is damaged.
    pub fn stored(&self) -> Result<Stored, TreeError> {
        match self.inline() {
            Some(value) => Ok(Stored::Inline(self.shared(0).unwrap_or_else(|| ValueRef::copy_from(value)))),
            None => self.body.chain().map(Stored::Chain).ok_or_else(|| cut(self.page)),
        }
    }
}

/// At most 16 bytes in front of a value, held without memory of their own.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefix {
    len: u8,
    bytes: [u8; Self::LEN_MAX],
}

impl Prefix {
    /// No bytes.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; Self::LEN_MAX] };
    /// The most bytes.
    pub const LEN_MAX: usize = 16;

    /// These bytes; `None` when they are more than [`Prefix::LEN_MAX`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut prefix = Self { len: u8::try_from(bytes.len()).ok()?, bytes: [0; Self::LEN_MAX] };
        prefix.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(prefix)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// What becomes of a key.
#[derive(Clone, Debug)]
pub enum NewValue {
    /// The row goes.
    Delete,
    /// The value is `prefix`, then `body`.
    Bytes {
        /// What stands in front, so that a large body need not be copied to put something before it.
        prefix: Prefix,
        /// The rest.
        body: ValueRef,
    },
    /// The value is one that stands in pages of the same file: its pages are used, not copied.
    Stored(Stored),
}

impl NewValue {
    /// A value without a prefix.
    #[must_use]
    pub const fn bytes(body: ValueRef) -> Self {
        Self::Bytes { prefix: Prefix::EMPTY, body }
    }

    /// Bytes of the value; 0 for none.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Delete => 0,
            Self::Bytes { prefix, body } => disk_len(body.len()).saturating_add(u64::from(prefix.len)),
            Self::Stored(stored) => stored.len(),
        }
    }

    /// Whether there is no value, or one without bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fails when the value is longer than any tree holds.
    pub(crate) fn check_len(&self) -> Result<(), TreeError> {
        let len = self.len();
        if len > VALUE_LEN_MAX {
            return Err(TreeError::ValueTooLong { len, max: VALUE_LEN_MAX });
        }
        Ok(())
    }

    /// Puts the value into `body` as a cell holds it. A value too long for a cell is written to pages of its own.
    /// `false` for a deletion.
    pub(crate) fn encode<W: PageWrite + ?Sized>(
        &self,
        pages: &mut W,
        body: &mut Vec<u8>,
    ) -> Result<bool, TreeError> {
        self.check_len()?;
        body.clear();
        let (prefix, rest): (&[u8], &[u8]) = match self {
            Self::Delete => return Ok(false),
            Self::Bytes { prefix, body } => (prefix.as_bytes(), body),
            Self::Stored(Stored::Inline(value)) => (&[], value),
            Self::Stored(Stored::Chain(chain)) => {
                put_chain(body, chain);
                return Ok(true);
            }
        };
        let len = prefix.len().saturating_add(rest.len());
        if len > inline_len_max(pages.payload_len()) {
            put_chain(body, &chain::write(pages, prefix, rest)?);
        } else {
            put_varint(body, disk_len(len) << 1);
            body.extend_from_slice(prefix);
            body.extend_from_slice(rest);
        }
        Ok(true)
    }
}

fn put_chain(body: &mut Vec<u8>, chain: &Chain) {
    put_varint(body, chain.len() << 1 | 1);
    body.extend_from_slice(&chain.to_cell());
}

/// A value as it stands in a cell: its length, with a bit for "in pages of its own", then the value or where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'a> {
    /// The length, times two, and the bit.
    number: u64,
    data: &'a [u8],
}

impl<'a> Body<'a> {
    /// The body that `bytes` begin with, and how long it is.
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let (number, rest) = take_varint(bytes)?;
        let data_len = if number & 1 == 0 { memory_len(number >> 1) } else { chain::CELL_LEN };
        let body = Self { number, data: rest.get(..data_len)? };
        if body.is_chain() {
            body.chain()?;
        }
        Some((body, bytes.len().saturating_sub(rest.len()).saturating_add(data_len)))
    }

    /// A body that was parsed before.
    #[inline]
    pub(crate) const fn again(number: u64, data: &'a [u8]) -> Self {
        Self { number, data }
    }

    /// The stored length: the length of the value times two, plus one for a chain.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// What stands behind the length: the value, or where it is.
    pub(crate) const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether the value has pages of its own.
    pub(crate) const fn is_chain(&self) -> bool {
        self.number & 1 == 1
    }

    /// The pages of the value, if it has pages of its own.
    pub(crate) fn chain(&self) -> Option<Chain> {
        if self.is_chain() { Chain::from_cell(self.value_len(), self.data) } else { None }
    }

    /// Bytes of the value.
    pub(crate) const fn value_len(&self) -> u64 {
        self.number >> 1
    }

    /// What the value begins with.
    #[inline]
    pub(crate) fn head(&self) -> &'a [u8] {
        if self.is_chain() { chain::CELL_HEAD.bytes(self.data) } else { self.data }
    }

    /// Holds a body against what a writer makes; `stored` is its stored form.
    pub(crate) fn check(&self, stored: &[u8], inline_max: usize) -> Result<(), Wrong> {
        let len = self.value_len();
        let (least, most) = if self.is_chain() {
            (disk_len(CHAIN_HEAD_LEN).saturating_add(1), VALUE_LEN_MAX)
        } else {
            (0, disk_len(inline_max))
        };
        if !(least..=most).contains(&len) {
            return Err(("length of a value", format!("{least} to {most}"), len.to_string()));
        }
        let len_len = stored.len().saturating_sub(self.data.len());
        if len_len != varint_len(self.number) {
            return Err(("length of a value", "its shortest form".to_owned(), format!("{len_len} bytes")));
        }
        Ok(())
    }
}

/// A key and what becomes of it.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The key.
    pub key: ValueRef,
    /// What becomes of it.
    pub value: NewValue,
}

/// What to do with an edit, given what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The edit is made. The pages of an old value are freed.
    Replace,
    /// The edit is made. The pages of an old value are not freed: the caller stores it elsewhere, as
    /// [`NewValue::Stored`].
    ReplaceKeepingOld,
    /// What stands there stays.
    Skip,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_sixteen_bytes() {
        for len in [0, 1, 16] {
            let bytes = vec![7; len];
            assert_eq!(Prefix::new(&bytes).unwrap().as_bytes(), bytes);
        }
        assert_eq!(Prefix::new(&[0; 17]), None);
    }

    #[test]
    fn bodies_that_reach_too_far_are_none() {
        let (body, len) = Body::parse(&[4, 8, 9, 7]).unwrap();
        assert_eq!((body.data(), body.is_chain(), len), (&[8, 9][..], false, 3));
        for bytes in
            [&[][..], &[4, 8], &[5, 8, 9], &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]]
        {
            assert!(Body::parse(bytes).is_none(), "{bytes:?}");
        }
    }
}
