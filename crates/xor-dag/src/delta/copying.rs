//! What both forms of copies promise, as tests of either.

use proptest::prelude::*;

use super::edits::edits;
use super::matcher::{Copied, Matcher};
use super::{DeltaError, copies, parts};

type Encode = fn(&[u8], &[u8], &[Copied], usize, &mut Vec<u8>) -> bool;
type Decode = fn(&[u8], &[u8], usize, &mut Vec<u8>) -> Result<(), DeltaError>;

/// Both ways of a form of copies.
pub(super) struct Copying {
    encode: Encode,
    decode: Decode,
}

/// Range-coded.
pub(super) const COPIES: Copying = Copying { encode: copies::encode, decode: copies::decode };
/// In whole bytes.
const PARTS: Copying = Copying { encode: parts::encode, decode: parts::decode };

impl Copying {
    /// Bytes of the payload of a result that comes back, and not for less.
    pub(super) fn round_trip(&self, base: &[u8], result: &[u8]) -> usize {
        let (mut copies, mut payload, mut out) = (Vec::new(), Vec::new(), Vec::new());
        Matcher::default().find(base, result, &mut copies);
        assert!((self.encode)(base, result, &copies, usize::MAX, &mut payload));
        (self.decode)(&payload, base, result.len(), &mut out).unwrap();
        assert_eq!(out, result);
        let mut again = Vec::new();
        assert!(!(self.encode)(base, result, &copies, payload.len(), &mut again), "no shorter than it is");
        again.clear();
        assert!((self.encode)(base, result, &copies, payload.len() + 1, &mut again));
        assert_eq!(again, payload);
        payload.len()
    }

    /// Any bytes decode to so many bytes, or to an error and no more than these.
    fn decodes_or_fails(&self, payload: &[u8], base: &[u8], len: usize) {
        let mut out = Vec::new();
        if (self.decode)(payload, base, len, &mut out).is_ok() {
            assert_eq!(out.len(), len);
        }
        assert!(out.len() <= len);
    }
}

proptest! {
    #[test]
    fn values_come_back((base, result) in edits(0_u8..6)) {
        COPIES.round_trip(&base, &result);
        let len = PARTS.round_trip(&base, &result);
        prop_assert!(len <= result.len() + 5, "{len} bytes for {}", result.len());
    }

    #[test]
    fn any_bytes_decode_to_an_error_or_to_so_many_bytes(
        payload in prop::collection::vec(any::<u8>(), 0..60),
        base in prop::collection::vec(any::<u8>(), 0..60),
        len in 0_usize..5_000,
    ) {
        COPIES.decodes_or_fails(&payload, &base, len);
        PARTS.decodes_or_fails(&payload, &base, len);
    }
}
