//! The form `runs`: bytes to skip, bytes to put in their place, and so on to the last change.
//!
//! The cheapest form for changes in place: a field of a record, a page, what is appended to a list. What follows the last
//! run is as in the base; what is beyond the end of the base is always in a run.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::layout::{disk_len, memory_len};
use keepstone_types::wire::{Reader, put_varint};

use super::{DeltaError, Form};

/// Unchanged bytes that are cheaper within a run than between two.
const GAP_MAX: usize = 2;

/// Bytes that are compared at once where nothing changed.
const STRIDE: usize = 32;

/// The runs of changed bytes, each as (begin, end), in order and not empty.
pub(crate) struct Runs<'a> {
    base: &'a [u8],
    result: &'a [u8],
    at: usize,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(base: &'a [u8], result: &'a [u8]) -> Self {
        Self { base, result, at: 0 }
    }

    fn differs(&self, at: usize) -> bool {
        self.base.get(at) != self.result.get(at)
    }

    /// The first changed byte at or after `at`, or the end of the result.
    fn next_change(&self, mut at: usize) -> usize {
        let stride =
            |bytes: &'a [u8], at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<STRIDE>());
        while let (Some(base), Some(result)) = (stride(self.base, at), stride(self.result, at)) {
            if base != result {
                break;
            }
            at = at.saturating_add(STRIDE);
        }
        while at < self.result.len() && !self.differs(at) {
            at = at.saturating_add(1);
        }
        at
    }
}

impl Iterator for Runs<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let begin = self.next_change(self.at);
        let (mut end, mut gap) = (begin, 0_usize);
        let mut at = begin;
        while at < self.result.len() && gap <= GAP_MAX {
            if at >= self.base.len() {
                // All that is beyond the base is new.
                (at, end) = (self.result.len(), self.result.len());
                break;
            }
            if self.differs(at) {
                (end, gap) = (at.saturating_add(1), 0);
            } else {
                gap = gap.saturating_add(1);
            }
            at = at.saturating_add(1);
        }
        self.at = at;
        (end > begin).then_some((begin, end))
    }
}

/// Bytes of a number in LEB128 form.
pub(crate) fn varint_len(value: usize) -> usize {
    let bits = usize::BITS.saturating_sub(value.leading_zeros()).max(1);
    memory_len(u64::from(bits.div_ceil(7)))
}

/// What the runs tell of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RunsCost {
    /// Bytes of the payload.
    pub(crate) payload: usize,
    /// Bytes of the longest run.
    pub(crate) longest: usize,
}

/// What the form would cost, exactly; or, as soon as that is `limit` or more, what it costs up to there.
pub(crate) fn cost(base: &[u8], result: &[u8], limit: usize) -> RunsCost {
    let mut cost = RunsCost::default();
    let mut last = 0;
    for (begin, end) in Runs::new(base, result) {
        let (skip, count) = (begin.saturating_sub(last), end.saturating_sub(begin));
        cost.payload = cost.payload.saturating_add(varint_len(skip)).saturating_add(varint_len(count));
        cost.payload = cost.payload.saturating_add(count);
        cost.longest = cost.longest.max(count);
        last = end;
        if cost.payload >= limit {
            break;
        }
    }
    cost
}

/// Appends the payload.
pub(crate) fn encode(base: &[u8], result: &[u8], out: &mut Vec<u8>) {
    let mut last = 0;
    for (begin, end) in Runs::new(base, result) {
        let run = result.get(begin..end).unwrap_or_default();
        put_varint(out, disk_len(begin.saturating_sub(last)));
        put_varint(out, disk_len(run.len()));
        out.extend_from_slice(run);
        last = end;
    }
}

const fn malformed(what: &'static str) -> DeltaError {
    DeltaError::Malformed { form: Form::Runs, what }
}

/// Appends the result of `len` bytes to an empty `out`; no more is taken than base and payload have.
pub(crate) fn decode(payload: &[u8], base: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), DeltaError> {
    if len > base.len().saturating_add(payload.len()) {
        return Err(malformed("a result no longer than base and payload together"));
    }
    out.reserve(len);
    let mut reader = Reader::new(payload);
    let copy_until = |out: &mut Vec<u8>, end: usize| match base.get(out.len()..end) {
        Some(unchanged) if end <= len => {
            out.extend_from_slice(unchanged);
            Ok(())
        }
        _ => Err(malformed("unchanged bytes within base and result")),
    };
    while !reader.is_empty() {
        let cut = |_| malformed("a whole run");
        let skip = memory_len(reader.varint().map_err(cut)?);
        let count = memory_len(reader.varint().map_err(cut)?);
        let run = reader.bytes(count).map_err(cut)?;
        let end = out.len().saturating_add(skip);
        copy_until(out, end)?;
        if run.is_empty() || run.len() > len.saturating_sub(out.len()) {
            return Err(malformed("a run that is not empty and ends within the result"));
        }
        out.extend_from_slice(run);
    }
    // A last run may end where the base has ended before.
    if out.len() < len { copy_until(out, len) } else { Ok(()) }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// The reference: runs of bytes that differ, joined over gaps of up to two.
    fn reference(base: &[u8], result: &[u8]) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for at in (0..result.len()).filter(|at| base.get(*at) != Some(&result[*at])) {
            match runs.last_mut() {
                Some((_, end)) if at - *end <= GAP_MAX => *end = at + 1,
                _ => runs.push((at, at + 1)),
            }
        }
        runs
    }

    #[test]
    fn the_runs_are_those_of_the_reference_for_every_pattern_of_ten_bytes() {
        for pattern in 0_u32..1 << 10 {
            for (base_len, result_len) in [(10, 10), (7, 10), (10, 6), (0, 10), (10, 0)] {
                let base = vec![0_u8; base_len];
                let result: Vec<u8> = (0..result_len).map(|at| u8::from(pattern >> at & 1 == 1)).collect();
                let runs: Vec<_> = Runs::new(&base, &result).collect();
                // Beyond the base everything is new, so a gap there is no gap.
                assert_eq!(runs, reference(&base, &result), "{pattern:b} {base_len} {result_len}");
                let (mut payload, mut out) = (Vec::new(), Vec::new());
                encode(&base, &result, &mut payload);
                assert_eq!(cost(&base, &result, usize::MAX).payload, payload.len());
                assert_eq!(
                    cost(&base, &result, usize::MAX).longest,
                    runs.iter().map(|(a, b)| b - a).max().unwrap_or(0)
                );
                decode(&payload, &base, result_len, &mut out).unwrap();
                assert_eq!(out, result);
            }
        }
    }

    #[test]
    fn runs_two_bytes_apart_are_one_and_three_bytes_apart_are_two() {
        let runs = |result: &[u8]| Runs::new(&[0; 8], result).collect::<Vec<_>>();
        assert_eq!(runs(&[0, 1, 0, 0, 1, 0, 0, 0]), [(1, 5)]);
        assert_eq!(runs(&[0, 1, 0, 0, 0, 1, 0, 0]), [(1, 2), (5, 6)]);
    }

    #[test]
    fn a_single_change_is_found_at_every_place() {
        for len in [1, 31, 32, 33, 64, 100] {
            let base = vec![7; len];
            for at in 0..len {
                let mut result = base.clone();
                result[at] = 8;
                assert_eq!(Runs::new(&base, &result).collect::<Vec<_>>(), [(at, at + 1)]);
            }
            assert_eq!(Runs::new(&base, &base).next(), None);
        }
    }

    #[test]
    fn lengths_of_varints_are_those_written() {
        for value in (0..64).flat_map(|bit| [1_usize << bit, (1 << bit) - 1, 3 << bit >> 1]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, disk_len(value));
            assert_eq!(varint_len(value), bytes.len(), "{value}");
        }
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let refused = |payload: &[u8], base: &[u8], len| {
            let mut out = Vec::new();
            matches!(decode(payload, base, len, &mut out), Err(DeltaError::Malformed { .. }))
        };
        assert!(!refused(&[], b"abc", 3));
        assert!(refused(&[], b"abc", 4), "longer than what there is");
        assert!(refused(&[0], b"abc", 3), "half a run");
        assert!(refused(&[0, 2, 1], b"abc", 3), "fewer literals than said");
        assert!(refused(&[0, 0], b"abc", 3), "an empty run");
        assert!(refused(&[4, 1, 9], b"abc", 5), "unchanged bytes that are not there");
        assert!(refused(&[3, 1, 9], b"abcd", 3), "a run beyond the result");
        assert!(!refused(&[2, 1, 9], b"abcd", 3));
        let mut huge = Vec::new();
        put_varint(&mut huge, u64::MAX);
        huge.extend([1, 1]);
        assert!(refused(&huge, b"abcd", 3));
    }
}
