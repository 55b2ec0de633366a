//! Codes the entries of a chain one by one, for a store that keeps them in a table of its own.
//!
//! Such a store has the newest value whole. When another displaces it, it is coded against that ([`RowCoder::code`]) and
//! becomes the newest row of history. All that has to be remembered from one time to the next is a number per item: how many
//! deltas hang on its newest value, one on another ([`CodedRow::hanging_on_newer`]). It may be kept too high, never too low.
//!
//! When rows go, the next older one hangs on nothing; [`RowCoder::recode`] makes it anew. It takes the place that the last row
//! that goes had in its run, keyframe or delta, so that no run grows and the number above stays as it is. (Were it to join the
//! run before instead, more would hang on the newest value than was counted, and a later displacement would make that
//! run too long.)

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

    /// Replaces `row` by what is to be kept of `value` when the rows between it and `newer` go: the value of the next newer
    /// row that stays, or the newest. `gone_keyframe` says whether one of those that go is a keyframe; the row is one then.
    ///
    /// A row that is a keyframe itself need not be made anew.
    pub fn recode(
        &mut self,
        value: &[u8],
        newer: Option<&[u8]>,
        gone_keyframe: bool,
        row: &mut Vec<u8>,
    ) -> Form {
        self.encoder.encode(newer.filter(|_| !gone_keyframe), value, row)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Need, Unwind};
    use super::*;

    /// What a store keeps of one item: the newest value whole, and rows of older ones, newest first, with their versions.
    struct Item {
        coder: RowCoder,
        newest: Vec<u8>,
        hanging: u16,
        rows: Vec<(u32, Vec<u8>)>,
    }

    fn is_whole(row: &[u8]) -> bool {
        crate::delta::inspect(row).unwrap().form.is_whole()
    }

    fn value(version: u32) -> Vec<u8> {
        let mut value = b"what all versions have in common, ".repeat(8);
        value.extend(version.wrapping_mul(0x9E37_79B9).to_le_bytes());
        value
    }

    impl Item {
        fn new(length: u16) -> Self {
            let coder = RowCoder::new(ChainLength::new(length).unwrap());
            Self { coder, newest: value(0), hanging: 0, rows: Vec::new() }
        }

        fn change(&mut self, version: u32) {
            let displaced = std::mem::replace(&mut self.newest, value(version));
            let newer = Newer { value: &self.newest, ahead: 0 };
            let mut row = Vec::new();
            self.hanging = self.coder.code(&displaced, Some(newer), self.hanging, &mut row).hanging_on_newer;
            self.rows.insert(0, (version - 1, row));
        }

        /// The value of a row, and the deltas that lead to it.
        fn read(&self, at: usize) -> (Vec<u8>, u16) {
            let (mut unwind, mut out) = (Unwind::new(self.coder.length()), Vec::new());
            for (_, row) in self.rows[..=at].iter().rev() {
                if unwind.push(row).unwrap() == Need::Nothing {
                    break;
                }
            }
            unwind.value(Some(&self.newest), 1 << 20, &mut out).unwrap();
            (out, unwind.deltas())
        }

        /// Removes rows; the older one is made anew, by what can be seen from there alone.
        fn prune(&mut self, rows: std::ops::Range<usize>) {
            let older = self.rows.get(rows.end).map(|_| self.read(rows.end).0);
            let newer =
                rows.start.checked_sub(1).map_or_else(|| self.newest.clone(), |newer| self.read(newer).0);
            let gone_keyframe = self.rows.drain(rows.clone()).any(|(_, row)| is_whole(&row));
            let (Some(older), Some((_, row))) = (older, self.rows.get_mut(rows.start)) else { return };
            if !is_whole(row) {
                self.coder.recode(&older, Some(&newer), gone_keyframe, row);
            }
        }

        fn check(&self) {
            for (at, (version, _)) in self.rows.iter().enumerate() {
                let (found, deltas) = self.read(at);
                assert_eq!(found, value(*version));
                assert!(deltas <= self.coder.length().deltas());
            }
        }
    }

    #[test]
    fn ten_thousand_versions_read_in_at_most_sixteen_steps() {
        let mut item = Item::new(16);
        (1..=10_000).for_each(|version| item.change(version));
        item.check();
        let keyframes =
            item.rows.iter().filter(|(_, row)| crate::delta::inspect(row).unwrap().form.is_whole());
        assert_eq!(keyframes.count(), 10_000 / 16);
    }

    #[test]
    fn rows_that_are_pruned_in_any_order_leave_the_others_readable() {
        for length in 1..7 {
            for stride in [1, 3, 7, 11] {
                let mut item = Item::new(length);
                for version in 1..=60 {
                    item.change(version);
                    if version % 3 == 0 {
                        let at = usize::try_from(version).unwrap() * stride % item.rows.len();
                        item.prune(at..item.rows.len().min(at + stride / 3 + 1));
                    }
                    item.check();
                }
                while !item.rows.is_empty() {
                    let at = stride % item.rows.len();
                    item.prune(at..at + 1);
                    item.check();
                }
            }
        }
    }

    #[test]
    fn a_value_that_no_delta_makes_shorter_is_a_keyframe_on_which_nothing_hangs() {
        let mut row = Vec::new();
        let mut coder = RowCoder::default();
        let newer = Some(Newer { value: b"short", ahead: 0 });
        let coded = coder.code(b"other", newer, 3, &mut row);
        assert_eq!(coded, CodedRow { form: Form::Whole, hanging_on_newer: 0 });
        let long = value(1);
        let coded = coder.code(&long, Some(Newer { value: &long, ahead: 0 }), 14, &mut row);
        assert_eq!((coded.form, coded.hanging_on_newer), (Form::Runs, 15));
        let coded = coder.code(&long, Some(Newer { value: &long, ahead: 0 }), 15, &mut row);
        assert_eq!((coded.form.is_whole(), coded.hanging_on_newer), (true, 0));
        assert!(coder.code(&long, None, 0, &mut row).form.is_whole(), "behind a deletion");
    }
}
