//! Checksums of everything on disk: 64-bit XXH3 (Yann Collet's xxHash, version 0.8), seeded with where the bytes belong.
//!
//! The seed ties bytes to their place: the same bytes in another store, another file or another life of a file do not
//! verify. A checksum finds accidents, not forgery.

use twox_hash::XxHash3_64;

use crate::StoreId;

/// XXH3 of `bytes` without a seed.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// XXH3 of `bytes` with a seed, usually from [`seed`].
#[must_use]
pub fn checksum_seeded(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// The seed for bytes that belong to the `number`-th thing of a store: a segment, a side file, a page.
#[must_use]
pub fn seed(store: StoreId, number: u64) -> u64 {
    let mut place = [0_u8; 24];
    let (id, rest) = place.split_at_mut(16);
    id.copy_from_slice(&store.to_bytes());
    rest.copy_from_slice(&number.to_le_bytes());
    checksum(&place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference value of XXH3-64 for no input, from the xxHash specification's test vectors.
    #[test]
    fn is_xxh3() {
        assert_eq!(checksum(b""), 0x2D06_8005_38D3_94C2);
    }

    #[test]
    fn every_part_of_the_place_counts() {
        let here = seed(StoreId::from_bytes([1; 16]), 7);
        assert_ne!(here, seed(StoreId::from_bytes([2; 16]), 7));
        assert_ne!(here, seed(StoreId::from_bytes([1; 16]), 8));
        assert_ne!(checksum_seeded(here, b"x"), checksum_seeded(here ^ 1, b"x"));
    }
}
