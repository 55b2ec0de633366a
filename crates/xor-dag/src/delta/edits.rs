//! Edits for property tests: a base, and a result of pieces of it with new bytes between them; and what both forms of copies
//! promise.

use std::ops::Range;

use proptest::prelude::*;

use super::DeltaError;
use super::matcher::{Copied, Matcher};

type Encode = fn(&[u8], &[u8], &[Copied], usize, &mut Vec<u8>) -> bool;
type Decode = fn(&[u8], &[u8], usize, &mut Vec<u8>) -> Result<(), DeltaError>;

/// Both ways of a form of copies.
pub(super) struct Copying {
    pub(super) encode: Encode,
    pub(super) decode: Decode,
}

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
    pub(super) fn decodes_or_fails(&self, payload: &[u8], base: &[u8], len: usize) {
        let mut out = Vec::new();
        if (self.decode)(payload, base, len, &mut out).is_ok() {
            assert_eq!(out.len(), len);
        }
        assert!(out.len() <= len);
    }
}

/// A base of bytes below an end, and what an edit makes of it.
pub(super) fn edits(bytes: Range<u8>) -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let base = prop::collection::vec(bytes, 0..600);
    let parts = prop::collection::vec((any::<prop::sample::Index>(), 0_usize..200, any::<u8>()), 0..12);
    (base, parts).prop_map(|(base, parts)| {
        let mut result = Vec::new();
        for (at, len, new) in parts {
            let at = at.index(base.len() + 1);
            result.extend_from_slice(&base[at..base.len().min(at + len)]);
            result.push(new);
        }
        (base, result)
    })
}
