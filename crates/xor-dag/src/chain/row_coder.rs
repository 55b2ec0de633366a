//! Codes the entries of a chain one by one, for a store that keeps them in a table of its own.
//!
//! Such a store has the newest value whole. When another displaces it, it is coded against that ([`RowCoder::code`]) and
//! becomes the newest row of history. All that has to be remembered from one time to the next is a number per item: how many
//! deltas hang on its newest value, one on another ([`CodedRow::hanging_on_newer`]). It may be kept too high, never too low.
//!
//! When a row goes, the next older one hangs on nothing. [`RowCoder::code`] makes it anew, against the next newer row that
//! stays; `ahead` is then what [`Unwind`](super::Unwind) counted on the way to that row's keyframe.

use super::ChainLength;
use crate::delta::{Encoder, Form};

/// The next newer value, against which an older one may be coded.
#[derive(Clone, Copy, Debug)]
pub struct Newer<'a> {
    /// Its bytes.
    pub value: &'a [u8],
    /// Deltas that lead from a keyframe to it: 0 when it is there whole.
    pub ahead: u16,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the number of deltas that hang on the newer value has to be kept"]
pub struct CodedRow {
    /// The form of its row.
    pub form: Form,
    /// Deltas that now hang on the newer value: to be given as `behind` when that is displaced in its turn.
    pub hanging_on_newer: u16,
}

/// Codes values against those that displace them, and decides which become keyframes.
#[derive(Debug, Default)]
pub struct RowCoder {
    length: ChainLength,
    encoder: Encoder,
}

impl RowCoder {
    /// A coder that makes runs of at most `length` entries.
    #[must_use]
    pub fn new(length: ChainLength) -> Self {
        Self { length, encoder: Encoder::new() }
    }

    /// The length of runs.
    #[must_use]
    pub fn length(&self) -> ChainLength {
        self.length
    }

    /// Replaces `row` by what is to be kept of `value`, on which `behind` deltas hang, one on another.
    ///
    /// Without a newer value, because there is none or it is a deletion, it is a keyframe; also where a run would become too
    /// long, and where a delta would save nothing.
    pub fn code(
        &mut self,
        value: &[u8],
        newer: Option<Newer<'_>>,
        behind: u16,
        row: &mut Vec<u8>,
    ) -> CodedRow {
        let base = newer.filter(|newer| self.length.allows(newer.ahead, behind)).map(|newer| newer.value);
        let form = self.encoder.encode(base, value, row);
        let hanging_on_newer = if form.is_whole() { 0 } else { behind.saturating_add(1) };
        CodedRow { form, hanging_on_newer }
    }
}
