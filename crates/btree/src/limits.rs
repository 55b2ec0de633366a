//! What a tree can hold, as functions of the payload of its pages.
//!
//! The bounds on keys and on values in cells guarantee that an inner page always has room for four children and a leaf
//! for two rows, so every split makes progress. The guarantee is checked for every payload at compile time.

use crate::error::TreeError;
use crate::keys::{HEAD_LEN, OFFSET_LEN};
use crate::layout::varint_len;
use crate::{chain, inner, leaf};

/// The shortest payload of a page that a tree stands on, in bytes.
pub const PAYLOAD_LEN_MIN: usize = 320;
/// The longest payload of a page that a tree stands on, in bytes.
pub const PAYLOAD_LEN_MAX: usize = 65_535;
/// The longest value: 1 GiB.
pub const VALUE_LEN_MAX: u64 = 1 << 30;
/// The most levels of a tree. Four children a page would name more rows than 64 bits can with half of it.
pub const HEIGHT_MAX: u8 = 64;

/// The longest key in a tree on pages of this payload: a fifth of it.
#[must_use]
pub const fn key_len_max(payload_len: usize) -> usize {
    payload_len / 5
}

/// The longest value that stands in a leaf; longer ones have pages of their own. Two sevenths of the payload, so that three
/// vectors of 2,048 bytes share a page of 8 KiB; on small pages what two rows with the longest keys leave.
#[must_use]
pub const fn inline_len_max(payload_len: usize) -> usize {
    let row = payload_len.saturating_sub(leaf::HEADER_LEN) / 2;
    let room = row.saturating_sub(key_cost_max(payload_len)).saturating_sub(VALUE_LEN_LEN);
    let most = payload_len / 7 * 2;
    if most < room { most } else { room }
}

/// Bytes that the longest key takes in a page.
const fn key_cost_max(payload_len: usize) -> usize {
    let len = key_len_max(payload_len);
    HEAD_LEN + OFFSET_LEN + varint_len(len as u64) + len.saturating_sub(HEAD_LEN)
}

/// From this length on, a value that is handed out shares the memory of its page instead of being copied.
pub(crate) const fn shared_len_min(payload_len: usize) -> usize {
    payload_len / 8
}

/// Bytes that a page must at least have used, or it is put together with a neighbour when both fit one page.
pub(crate) const fn used_len_min(payload_len: usize) -> usize {
    payload_len / 4
}

/// The most bytes of a stored value length.
const VALUE_LEN_LEN: usize = varint_len(VALUE_LEN_MAX << 1 | 1);

const _: () = {
    let mut payload_len = PAYLOAD_LEN_MIN;
    while payload_len <= PAYLOAD_LEN_MAX {
        let key = key_cost_max(payload_len);
        let inline_len = inline_len_max(payload_len);
        let inline = varint_len((inline_len as u64) << 1) + inline_len;
        let chain = VALUE_LEN_LEN + chain::CELL_LEN;
        let value = if inline > chain { inline } else { chain };
        assert!(leaf::HEADER_LEN + 2 * (key + value) <= payload_len, "a leaf holds two rows");
        assert!(
            inner::HEADER_LEN + 4 * inner::CHILD_LEN + 3 * key <= payload_len,
            "an inner page holds four children"
        );
        assert!(inline_len > chain::CHAIN_HEAD_LEN, "a value in pages of its own is longer than its head");
        assert!(inline_len >= payload_len / 4, "a value of a quarter stands in a leaf");
        payload_len += 1;
    }
};

/// Fails unless a tree can stand on pages of this payload.
pub(crate) fn check_payload_len(payload_len: usize) -> Result<(), TreeError> {
    if (PAYLOAD_LEN_MIN..=PAYLOAD_LEN_MAX).contains(&payload_len) {
        return Ok(());
    }
    Err(TreeError::PageLen { found: payload_len, min: PAYLOAD_LEN_MIN, max: PAYLOAD_LEN_MAX })
}

/// How full pages are made, in percent of the payload: by a [`Builder`](crate::Builder), and where [`merge`](crate::merge)
/// appends to a page or adds many rows in one place. From 50 to 100; 100 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill(u8);

impl Fill {
    /// As full as rows allow.
    pub const FULL: Self = Self(100);

    /// So many percent; `None` below 50 and above 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Option<Self> {
        if percent < 50 || percent > 100 { None } else { Some(Self(percent)) }
    }

    /// The percentage.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Bytes of a payload that are to be used.
    pub(crate) fn of(self, payload_len: usize) -> usize {
        payload_len.saturating_mul(usize::from(self.0)) / 100
    }
}

impl Default for Fill {
    fn default() -> Self {
        Self::FULL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_is_a_percentage_of_at_least_a_half() {
        for (percent, expected) in [(49, None), (50, Some(50)), (100, Some(100)), (101, None)] {
            assert_eq!(Fill::percent(percent).map(Fill::get), expected);
        }
        assert_eq!(Fill::percent(90).unwrap().of(4_056), 3_650);
    }

    #[test]
    fn only_some_payloads_carry_a_tree() {
        for (len, good) in [(319, false), (320, true), (4_056, true), (65_535, true), (65_536, false)] {
            assert_eq!(check_payload_len(len).is_ok(), good, "{len}");
        }
    }
}
