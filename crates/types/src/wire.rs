//! Reading and writing fixed-width little-endian fields with every bound checked.
//!
//! Decoders of on-disk bytes are written with [`Reader`]: it never indexes, never allocates, and says where the bytes
//! ended.

/// Bytes that ended before a field did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end early: wanted {wanted} at offset {offset}, found {found}")]
pub struct Truncated {
    /// Where the field began.
    pub offset: usize,
    /// Bytes that the field has.
    pub wanted: usize,
    /// Bytes that were left.
    pub found: usize,
}

/// A cursor over borrowed bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What was not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Truncated`] when fewer are left.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Truncated {
            offset: self.offset,
            wanted: len,
            found: self.rest.len(),
        })?;
        self.rest = rest;
        self.offset = self.offset.saturating_add(len);
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`Truncated`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let mut field = [0_u8; N];
        field.copy_from_slice(self.bytes(N)?);
        Ok(field)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// The next two bytes, little-endian.
    ///
    /// # Errors
    /// [`Truncated`] when fewer are left.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes, little-endian.
    ///
    /// # Errors
    /// [`Truncated`] when fewer are left.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes, little-endian.
    ///
    /// # Errors
    /// [`Truncated`] when fewer are left.
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// An unsigned number in LEB128 form: seven bits a byte, least significant first, at most ten bytes.
    ///
    /// # Errors
    /// [`Truncated`] when the bytes end inside the number or the number exceeds 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Truncated> {
        if let Some((byte, rest)) = self.rest.split_first().filter(|(byte, _)| **byte < 0x80) {
            (self.offset, self.rest) = (self.offset.saturating_add(1), rest);
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Truncated> {
        let start = self.clone();
        self.varint_or_wanted().map_err(|wanted| {
            *self = start;
            Truncated { offset: self.offset, wanted, found: self.rest.len() }
        })
    }

    /// The number, or how many bytes it wanted; it may have moved then.
    fn varint_or_wanted(&mut self) -> Result<u64, usize> {
        let len = self.rest.len();
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8().map_err(|_| len.saturating_add(1))?;
            let bits = u64::from(byte & 0x7F);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                break;
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(10)
    }
}

/// Appends `value` in LEB128 form, as [`Reader::varint`] reads it.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7F).unwrap_or(0x7F);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Bytes that [`put_varint`] appends for `value`.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    let mut rest = value >> 7;
    let mut len: usize = 1;
    while rest > 0 {
        rest >>= 7;
        len = len.saturating_add(1);
    }
    len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn says_where_the_bytes_ended() {
        let mut reader = Reader::new(&[1, 0, 2]);
        assert_eq!(reader.u16(), Ok(1));
        assert_eq!(reader.u64(), Err(Truncated { offset: 2, wanted: 8, found: 1 }));
        assert_eq!(reader.u8(), Ok(2));
        assert!(reader.is_empty());
    }

    #[test]
    fn a_varint_that_is_cut_moves_nothing_and_says_where_it_began() {
        let mut reader = Reader::new(&[7, 0xFF, 0xFF]);
        assert_eq!(reader.varint(), Ok(7));
        assert_eq!(reader.varint(), Err(Truncated { offset: 1, wanted: 3, found: 2 }));
        assert_eq!(reader.rest(), [0xFF, 0xFF]);
    }

    #[test]
    fn a_varint_of_more_than_64_bits_is_refused() {
        assert!(Reader::new(&[0xFF; 11]).varint().is_err());
        assert!(Reader::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2]).varint().is_err());
    }

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.is_empty());
        }
    }
}
