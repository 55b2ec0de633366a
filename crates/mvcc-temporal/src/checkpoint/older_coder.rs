//! What is kept of a value when it becomes an older version: an entry of a chain where that is shorter, else all of it.

use keepstone_btree::NewValue;
use keepstone_types::{ValueRef, Version};
use keepstone_xor_dag::chain::{Newer, RowCoder};

use super::likeness::may_be_shorter;
use crate::ground::older::RUN_LENGTH;
use crate::ground::row;
use crate::options::HistoryCoding;

/// Bytes of a value that may become an entry or the base of one, at most. A read may have to decode seven others of its length
/// first, and pages of its own move into history as they are.
pub(crate) const CODED_LEN_MAX: usize = 256 << 10;
/// The head of an entry alone takes as much as a value of this length.
const CODED_LEN_MIN: usize = 32;
/// A shorter value that has nothing in common with the next is not compressed by itself: that takes longer than folding it.
const COMPRESSED_LEN_MIN: usize = 1 << 10;
/// Bytes of an entry before its delta: its form, and how many deltas begin there.
const ENTRY_HEAD_LEN: usize = 2;

/// An entry of a chain.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its row.
    pub(crate) row: NewValue,
    /// Deltas that begin there, one on another; 0 for a keyframe.
    pub(crate) deltas: u8,
}

/// Codes values that become older ones.
#[derive(Debug)]
pub(crate) struct OlderCoder {
    coder: RowCoder,
    coding: HistoryCoding,
    entry: Vec<u8>,
}

impl OlderCoder {
    pub(crate) fn new(coding: HistoryCoding) -> Self {
        Self { coder: RowCoder::new(RUN_LENGTH), coding, entry: Vec::new() }
    }

    /// Whether a value of so many bytes may become an entry.
    pub(crate) fn takes(&self, len: usize) -> bool {
        self.coding == HistoryCoding::Chains && (CODED_LEN_MIN..=CODED_LEN_MAX).contains(&len)
    }

    /// The entry for a value that `newer` displaces, if that is worth it. `behind` says how many deltas hang on the value;
    /// it is asked only where one more may.
    pub(crate) fn code<E>(
        &mut self,
        version: Version,
        value: &[u8],
        newer: Option<&[u8]>,
        behind: impl FnOnce() -> Result<u8, E>,
    ) -> Result<Option<Entry>, E> {
        if !self.takes(value.len()) {
            return Ok(None);
        }
        let newer = newer.filter(|newer| newer.len() <= CODED_LEN_MAX);
        let base = newer.filter(|newer| may_be_shorter(value, newer));
        if base.is_none() && newer.is_some() && value.len() < COMPRESSED_LEN_MIN {
            return Ok(None);
        }
        let base = base.map(|value| Newer { value, ahead: 0 });
        let first = self.coder.code(value, base, 0, &mut self.entry);
        if !self.is_worth_it(value) {
            return Ok(None);
        }
        let mut deltas = first.hanging_on_newer;
        if deltas > 0 {
            let behind = u16::from(behind()?);
            deltas = behind.saturating_add(1);
            if !self.coder.length().allows(0, behind) {
                deltas = self.coder.code(value, base, behind, &mut self.entry).hanging_on_newer;
                if !self.is_worth_it(value) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(self.entry(version, u8::try_from(deltas).unwrap_or(u8::MAX))))
    }

    /// The row for the value of a delta at which so many begin, when rows between it and `newer` go; `gone_keyframe` says whether
    /// one of these needs no other row. The row takes the place in its run that the last of them had, so that what is known of
    /// the runs stays true.
    pub(crate) fn recode(
        &mut self,
        version: Version,
        (value, deltas): (&ValueRef, u8),
        newer: Option<&[u8]>,
        gone_keyframe: bool,
    ) -> Entry {
        let newer = newer.filter(|newer| newer.len() <= CODED_LEN_MAX);
        let form = self.coder.recode(value, newer, gone_keyframe, &mut self.entry);
        if self.is_worth_it(value) {
            return self.entry(version, if form.is_whole() { 0 } else { deltas });
        }
        let row = NewValue::Bytes { prefix: row::prefix(version, false), body: value.clone() };
        Entry { row, deltas: 0 }
    }

    /// Whether the entry that was made last saves a sixteenth of the value.
    fn is_worth_it(&self, value: &[u8]) -> bool {
        let len = self.entry.len().saturating_add(ENTRY_HEAD_LEN);
        len.saturating_add(value.len() / 16) <= value.len()
    }

    fn entry(&self, version: Version, deltas: u8) -> Entry {
        let body = ValueRef::copy_from(&self.entry);
        Entry { row: NewValue::Bytes { prefix: row::entry_prefix(version, deltas), body }, deltas }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        };
        (0..len).map(|_| step()).collect()
    }

    fn deltas(coder: &mut OlderCoder, value: &[u8], newer: Option<&[u8]>, behind: u8) -> Option<u8> {
        let asked = || Ok::<_, ()>(behind);
        coder.code(Version::from_raw(5), value, newer, asked).unwrap().map(|entry| entry.deltas)
    }

    #[test]
    fn the_shortest_is_kept_and_runs_end_at_a_keyframe() {
        let mut coder = OlderCoder::new(HistoryCoding::Chains);
        let text = b"A sentence that is there more than once. ".repeat(20);
        let changed = [&text[..], b"And an end."].concat();
        for (behind, expected) in [(0, 1), (3, 4), (6, 7), (7, 0), (255, 0)] {
            assert_eq!(deltas(&mut coder, &text, Some(&changed), behind), Some(expected), "{behind}");
        }
        assert_eq!(deltas(&mut coder, &text, None, 3), Some(0), "a keyframe, compressed");
        assert_eq!(deltas(&mut coder, &noise(1, 150), Some(&noise(2, 150)), 0), None);
        assert_eq!(deltas(&mut coder, &noise(1, 150), None, 0), None);
        assert_eq!(deltas(&mut coder, &[7; 31], Some(&[7; 31]), 0), None, "tiny");
        let (most, more) = (noise(3, CODED_LEN_MAX), noise(3, CODED_LEN_MAX + 1));
        assert_eq!(deltas(&mut coder, &most, Some(&most), 0), Some(1));
        assert_eq!(deltas(&mut coder, &most, Some(&more), 0), None, "its base is too large");
        assert_eq!(deltas(&mut coder, &more, Some(&more), 0), None);
        let mut whole = OlderCoder::new(HistoryCoding::Whole);
        assert_eq!(deltas(&mut whole, &text, Some(&changed), 0), None);
    }

    #[test]
    fn what_is_made_anew_takes_the_place_of_what_goes() {
        let mut coder = OlderCoder::new(HistoryCoding::Chains);
        let value = ValueRef::from(noise(1, 400));
        let mut near = value.to_vec();
        near[7] ^= 1;
        let mut recode = |newer, gone| coder.recode(Version::from_raw(5), (&value, 6), newer, gone).deltas;
        assert_eq!(recode(Some(&near[..]), false), 6);
        assert_eq!(recode(Some(&near[..]), true), 0);
        assert_eq!(recode(None, false), 0);
        assert_eq!(recode(Some(&noise(2, 400)[..]), false), 0, "whole, where a delta is no shorter");
    }
}
