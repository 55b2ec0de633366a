//! Edits for property tests: a base, and a result of pieces of it with new bytes between them.

use std::ops::Range;

use proptest::prelude::*;

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
