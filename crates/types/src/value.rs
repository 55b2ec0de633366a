//! Bytes as they are handed out: owned, counted, cheap to clone, valid after anything that happens to the store.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, RangeBounds};

use bytes::{Bytes, BytesMut};

/// An owned view of a byte string. Cloning and slicing take no memory.
#[derive(Clone)]
pub struct ValueRef(View);

/// What a view is. A short string that was copied costs no memory of its own and no count that threads share.
#[derive(Clone)]
enum View {
    Held { len: u8, bytes: [u8; ValueRef::HELD_LEN_MAX] },
    Counted(Bytes),
}

impl View {
    /// So many of these bytes.
    #[inline]
    fn held(parts: &[&[u8]]) -> Option<Self> {
        let mut bytes = [0; ValueRef::HELD_LEN_MAX];
        let mut len = 0_usize;
        for part in parts {
            let end = len.checked_add(part.len())?;
            bytes.get_mut(len..end)?.copy_from_slice(part);
            len = end;
        }
        Some(Self::Held { len: u8::try_from(len).ok()?, bytes })
    }
}

impl ValueRef {
    /// A string of so many bytes at most, copied, is held in the view itself: most keys are.
    pub const HELD_LEN_MAX: usize = 38;

    /// The empty byte string.
    #[must_use]
    pub const fn empty() -> Self {
        Self(View::Counted(Bytes::new()))
    }

    /// A copy of `bytes`.
    #[inline]
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(View::held(&[bytes]).unwrap_or_else(|| View::Counted(Bytes::copy_from_slice(bytes))))
    }

    /// The part of this view that `range` covers, sharing the same memory unless it is in the view itself; `None` when it
    /// reaches past the end.
    #[inline]
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Option<Self> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let part = self.get(bounds)?;
        match &self.0 {
            View::Held { .. } => View::held(&[part]).map(Self),
            View::Counted(bytes) => Some(Self(View::Counted(bytes.slice_ref(part)))),
        }
    }

    /// The bytes as a vector of one's own.
    #[must_use]
    pub fn into_owned(self) -> Vec<u8> {
        match self.0 {
            View::Held { .. } => self.to_vec(),
            View::Counted(bytes) => bytes.into(),
        }
    }
}

impl Default for ValueRef {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for ValueRef {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ValueRef {}

impl PartialOrd for ValueRef {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ValueRef {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for ValueRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Deref for ValueRef {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            View::Held { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            View::Counted(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for ValueRef {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for ValueRef {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for ValueRef {
    fn from(bytes: Vec<u8>) -> Self {
        Self(View::Counted(bytes.into()))
    }
}

impl From<&[u8]> for ValueRef {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl PartialEq<[u8]> for ValueRef {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for ValueRef {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == other[..]
    }
}

impl fmt::Debug for ValueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Bytes::copy_from_slice(self), f)
    }
}

/// Memory that byte strings are copied to, one behind the other, each handed out as a part of it: a count for each, but no
/// memory of its own.
#[derive(Debug, Default)]
pub struct ValueChunk(BytesMut);

impl ValueChunk {
    /// Room for so many bytes, beside which parts are handed out.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// Bytes for which there is room.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.capacity().saturating_sub(self.0.len())
    }

    /// A copy of what the parts are when they stand one behind the other. It keeps the whole chunk, unless it is short enough
    /// to be held in the view itself. Without room for it, it gets memory of its own.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]]) -> ValueRef {
        match View::held(parts) {
            Some(held) => ValueRef(held),
            None => self.push_long(parts),
        }
    }

    fn push_long(&mut self, parts: &[&[u8]]) -> ValueRef {
        let len = parts.iter().fold(0_usize, |len, part| len.saturating_add(part.len()));
        if len > self.free() {
            return ValueRef::from(parts.concat());
        }
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
        ValueRef(View::Counted(self.0.split().freeze()))
    }
}

/// Puts many small byte strings into few blocks of memory. They are freed block by block: an allocator that has to merge
/// hundreds of thousands of small pieces stalls whoever asks it for a large one next.
///
/// A block is no larger than what was put into those before it, so little stays empty. It lives as long as any of its
/// strings. What is held in the view itself needs no block.
#[derive(Debug, Default)]
pub struct Packer {
    block: ValueChunk,
    packed_bytes: usize,
}

/// Bytes of a block at most.
const BLOCK_LEN_MAX: usize = 16 << 10;
/// Longer strings are left where they are.
const PACKED_LEN_MAX: usize = 1 << 10;
/// Bytes that are packed before the first block is made.
const UNPACKED_BYTES: usize = 1 << 10;

impl Packer {
    /// The same bytes, in a block when they are few, in the view itself when they are very few.
    #[must_use]
    pub fn pack(&mut self, bytes: ValueRef) -> ValueRef {
        let len = bytes.len();
        if len > PACKED_LEN_MAX || matches!(bytes.0, View::Held { .. }) {
            return bytes;
        }
        if let Some(held) = View::held(&[&bytes]) {
            return ValueRef(held);
        }
        let before = self.packed_bytes;
        self.packed_bytes = before.saturating_add(len);
        if before < UNPACKED_BYTES {
            return bytes;
        }
        if self.block.free() < len {
            self.block = ValueChunk::with_capacity(before.clamp(PACKED_LEN_MAX, BLOCK_LEN_MAX));
        }
        self.block.push(&[&bytes])
    }

    /// Bytes that were packed into blocks since the beginning, whatever became of them.
    #[must_use]
    pub const fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_strings_share_few_blocks() {
        let mut packer = Packer::default();
        let text = |number: usize| format!("value {number:044}").into_bytes();
        let values: Vec<ValueRef> =
            (0..10_000).map(|number| packer.pack(ValueRef::from(text(number)))).collect();
        for (number, value) in values.iter().enumerate() {
            assert_eq!(**value, text(number));
        }
        let follows = |pair: &[ValueRef]| pair[0].as_ptr().wrapping_add(pair[0].len()) == pair[1].as_ptr();
        let breaks = values.windows(2).filter(|pair| !follows(pair)).count();
        assert!(breaks <= UNPACKED_BYTES / 50 + 10_000 * 50 / (BLOCK_LEN_MAX - 50) + 10, "{breaks} blocks");
        let long = ValueRef::from(vec![1; PACKED_LEN_MAX + 1]);
        assert_eq!(packer.pack(long.clone()).as_ptr(), long.as_ptr(), "what is long stays where it is");
        assert_eq!(packer.packed_bytes(), 500_000);
        for value in [ValueRef::copy_from(b"short"), ValueRef::from(b"short".to_vec())] {
            assert!(matches!(packer.pack(value).0, View::Held { .. }));
        }
        assert_eq!(packer.packed_bytes(), 500_000);
    }

    #[test]
    fn slices_share_memory_and_know_their_bounds() {
        let value = ValueRef::from(b"keepstone".to_vec());
        let part = value.slice(4..).unwrap();
        assert_eq!(part, b"stone");
        assert_eq!(part.as_ptr(), value[4..].as_ptr());
        assert_eq!(value.slice(..10), None);
        assert_eq!(part.into_owned(), b"stone");
    }

    #[test]
    fn parts_of_a_chunk_outlive_it_and_what_does_not_fit_has_its_own_memory() {
        let (first, second) = ([1; 30], [2; 40]);
        let mut chunk = ValueChunk::with_capacity(100);
        let one = chunk.push(&[&first, b"", &second[..20]]);
        let two = chunk.push(&[&second]);
        assert_eq!(two.as_ptr(), one.as_ptr().wrapping_add(50));
        let free = chunk.free();
        let (short, long) = (chunk.push(&[b"keep", b"stone"]), chunk.push(&[&[7; 101]]));
        assert_eq!(chunk.free(), free, "neither is in the chunk");
        drop(chunk);
        assert_eq!(one, ValueRef::from([&first[..], &second[..20]].concat()));
        assert_eq!((&*two, &*short, &*long), (&second[..], &b"keepstone"[..], &[7; 101][..]));
    }

    #[test]
    fn strings_of_every_length_are_the_same_however_they_were_made() {
        for len in 0..3 * ValueRef::HELD_LEN_MAX {
            let bytes: Vec<u8> = (0..=u8::MAX).take(len).collect();
            let copied = ValueRef::copy_from(&bytes);
            let counted = ValueRef::from(bytes.clone());
            assert_eq!(matches!(copied.0, View::Held { .. }), len <= ValueRef::HELD_LEN_MAX);
            assert_eq!((&copied, copied.cmp(&counted)), (&counted, Ordering::Equal));
            assert_eq!(format!("{copied:?}"), format!("{:?}", Bytes::from(bytes.clone())));
            for range in [0..len, len / 3..len / 2, len..len] {
                let part = bytes.get(range.clone()).map(ValueRef::copy_from);
                assert_eq!(copied.slice(range.clone()), part);
                assert_eq!(counted.slice(range), part);
            }
            assert_eq!((copied.slice(..=len), counted.slice(1..len + 1)), (None, None));
            assert_eq!((copied.clone().into_owned(), counted.into_owned()), (bytes.clone(), bytes));
        }
    }
}
