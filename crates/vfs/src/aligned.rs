//! A byte buffer whose address is a multiple of a sector, as direct writing asks for, without unsafe code: the vector is
//! a little longer than asked, and the buffer begins at the first aligned byte.

/// A zeroed buffer with an aligned address that can grow.
#[derive(Debug)]
pub struct AlignedBuffer {
    raw: Vec<u8>,
    start: usize,
    len: usize,
    alignment: usize,
}

impl AlignedBuffer {
    /// A buffer of `len` zero bytes at an address that is a multiple of `alignment` (a power of two; anything else is
    /// taken as the next one).
    #[must_use]
    pub fn zeroed(len: usize, alignment: usize) -> Self {
        let alignment = alignment.max(1).next_power_of_two();
        let raw = vec![0_u8; len.saturating_add(alignment)];
        let start = Self::aligned_start(&raw, alignment);
        Self { raw, start, len, alignment }
    }

    fn aligned_start(raw: &[u8], alignment: usize) -> usize {
        let beyond = raw.as_ptr().addr() & alignment.saturating_sub(1);
        if beyond == 0 { 0 } else { alignment.saturating_sub(beyond) }
    }

    /// Sets the length. Bytes that were in the buffer stay, new ones are zero; memory is taken only to grow past what
    /// the buffer once held.
    pub fn resize(&mut self, len: usize) {
        if self.start.saturating_add(len) > self.raw.len() {
            let mut grown = Self::zeroed(len.max(self.len.saturating_mul(2)), self.alignment);
            grown.len = self.len;
            grown.as_mut_slice().copy_from_slice(self.as_slice());
            *self = grown;
        }
        let previous = std::mem::replace(&mut self.len, len);
        if let Some(fresh) = self.as_mut_slice().get_mut(previous..) {
            fresh.fill(0);
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.raw.get(self.start..).and_then(|bytes| bytes.get(..self.len)).unwrap_or_default()
    }

    /// The bytes, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.raw.get_mut(self.start..).and_then(|bytes| bytes.get_mut(..self.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_aligned_and_keeps_its_bytes_while_growing() {
        let mut buffer = AlignedBuffer::zeroed(10, 4_096);
        buffer.as_mut_slice().fill(7);
        for len in [4_096, 5_000, 100_000] {
            buffer.resize(len);
            assert_eq!(buffer.as_slice().len(), len);
            assert_eq!(buffer.as_slice().as_ptr().addr() % 4_096, 0);
            assert_eq!(buffer.as_slice()[..10], [7; 10]);
            assert!(buffer.as_slice()[10..].iter().all(|byte| *byte == 0));
        }
        buffer.resize(3);
        buffer.resize(20);
        assert_eq!(buffer.as_slice()[..4], [7, 7, 7, 0], "what was cut comes back as zeros");
    }
}
