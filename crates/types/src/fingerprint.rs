//! Fingerprints: binary vectors whose distance is the number of bits that differ.

use std::fmt;

/// Bytes that are not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// The number of bits is not a positive multiple of 64, or exceeds the limit.
    #[error("a fingerprint has a multiple of 64 bits, from 64 to {max}; found {found}", max = Fingerprint::BITS_MAX)]
    Bits {
        /// Bits found.
        found: usize,
    },
    /// The text is not hexadecimal.
    #[error(
        "a fingerprint is written in hexadecimal digits, found {found:?} at place {place} (counted from 0)"
    )]
    Digit {
        /// The character.
        found: char,
        /// Its place.
        place: usize,
    },
    /// Two fingerprints of different widths were compared.
    #[error("fingerprints of {left} and {right} bits cannot be compared")]
    Width {
        /// Bits of the one.
        left: usize,
        /// Bits of the other.
        right: usize,
    },
}

/// A binary vector of a multiple of 64 bits, 16,384 by default. Bit `i` is bit `i % 8` of byte `i / 8`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(Box<[u8]>);

impl Fingerprint {
    /// Bits of a fingerprint unless a collection says otherwise.
    pub const BITS_DEFAULT: usize = 16_384;
    /// The widest fingerprint: 1 Mi bits, 128 KiB.
    pub const BITS_MAX: usize = 1 << 20;

    /// The fingerprint with these bytes.
    ///
    /// # Errors
    /// [`FingerprintError::Bits`] unless the length is a multiple of 8 bytes within the limits.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Result<Self, FingerprintError> {
        let bytes = bytes.into();
        let found = bytes.len().saturating_mul(8);
        if bytes.is_empty() || !bytes.len().is_multiple_of(8) || found > Self::BITS_MAX {
            return Err(FingerprintError::Bits { found });
        }
        Ok(Self(bytes))
    }

    /// The fingerprint written as hexadecimal digits, two for each byte.
    ///
    /// # Errors
    /// As [`from_bytes`](Fingerprint::from_bytes), or [`FingerprintError::Digit`].
    pub fn from_hex(text: &str) -> Result<Self, FingerprintError> {
        let found = text.chars().count().saturating_mul(4);
        if !found.is_multiple_of(64) || found > Self::BITS_MAX {
            return Err(FingerprintError::Bits { found });
        }
        let mut bytes = Vec::with_capacity(text.len() / 2);
        let mut high = None;
        for (place, found) in text.chars().enumerate() {
            let digit = found.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let digit = digit.ok_or(FingerprintError::Digit { found, place })?;
            match high.take() {
                None => high = Some(digit << 4),
                Some(high) => bytes.push(high | digit),
            }
        }
        Self::from_bytes(bytes)
    }

    /// The bytes as hexadecimal digits in lower case.
    #[must_use]
    pub fn to_hex(&self) -> String {
        use fmt::Write as _;
        let mut text = String::with_capacity(self.0.len() * 2);
        for byte in &self.0 {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
        }
        text
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The number of bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.0.len() * 8
    }

    /// The number of bits that are set.
    #[must_use]
    pub fn count_ones(&self) -> u32 {
        self.words().map(u64::count_ones).sum()
    }

    /// The number of bits in which two fingerprints of one width differ (Hamming distance).
    ///
    /// # Errors
    /// [`FingerprintError::Width`] when the widths differ.
    pub fn distance(&self, other: &Self) -> Result<u32, FingerprintError> {
        if self.0.len() != other.0.len() {
            return Err(FingerprintError::Width { left: self.bits(), right: other.bits() });
        }
        Ok(self.words().zip(other.words()).map(|(a, b)| (a ^ b).count_ones()).sum())
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        let (words, _) = self.0.as_chunks::<8>();
        words.iter().map(|word| u64::from_le_bytes(*word))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({} bits, {} set)", self.bits(), self.count_ones())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn widths_are_multiples_of_64_within_the_limit() {
        for (bytes, legal) in [(0, false), (7, false), (8, true), (9, false), (2_048, true), (131_072, true)]
        {
            assert_eq!(Fingerprint::from_bytes(vec![0; bytes]).is_ok(), legal, "{bytes} bytes");
        }
        let found = Fingerprint::from_bytes(vec![0; 131_080]);
        assert_eq!(found, Err(FingerprintError::Bits { found: 1_048_640 }));
    }

    #[test]
    fn bad_hex_is_named() {
        let error = Fingerprint::from_hex("000000000000000x").unwrap_err();
        assert_eq!(error, FingerprintError::Digit { found: 'x', place: 15 });
        assert_eq!(Fingerprint::from_hex("000").unwrap_err(), FingerprintError::Bits { found: 12 });
    }

    proptest! {
        #[test]
        fn hex_round_trips(words in proptest::collection::vec(any::<[u8; 8]>(), 1..40)) {
            let print = Fingerprint::from_bytes(words.concat()).unwrap();
            prop_assert_eq!(Fingerprint::from_hex(&print.to_hex()), Ok(print));
        }

        #[test]
        fn distance_counts_bits_one_by_one(pairs in proptest::collection::vec(any::<([u8; 8], [u8; 8])>(), 1..20)) {
            let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let (a, b) = (a.concat(), b.concat());
            let naive: u32 = a.iter().zip(&b).map(|(a, b)| (a ^ b).count_ones()).sum();
            let (a, b) = (Fingerprint::from_bytes(a).unwrap(), Fingerprint::from_bytes(b).unwrap());
            prop_assert_eq!(a.distance(&b), Ok(naive));
            prop_assert_eq!(a.distance(&a), Ok(0));
        }
    }
}
