//! Reads one entry of a chain: from its row towards newer ones to a keyframe, and back by decoding.

use super::{ChainError, ChainLength};
use crate::delta::{DeltaError, DeltaInfo, decode_into, inspect, is_within, proved, verified, yield_result};

/// What has to be pushed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a delta needs the next newer row"]
pub enum Need {
    /// Nothing: the last row is a keyframe.
    Nothing,
    /// The next newer row, or the whole newest value.
    Newer,
}

/// The rows from the one that is to be read to its keyframe, and the memory that decoding takes, kept between reads.
///
/// ```
/// use keepstone_xor_dag::chain::{ChainLength, Need, Newer, RowCoder, Unwind};
///
/// // The item was `one`, then `two`, and is now `three`, which is kept whole.
/// let (one, two, three) = (b"one and more of it".repeat(9), b"two and more of it".repeat(9), b"three of it".repeat(9));
/// let mut coder = RowCoder::new(ChainLength::DEFAULT);
/// let (mut row_of_one, mut row_of_two) = (Vec::new(), Vec::new());
/// let first = coder.code(&one, Some(Newer { value: &two, ahead: 0 }), 0, &mut row_of_one);
/// let second = coder.code(&two, Some(Newer { value: &three, ahead: 0 }), first.hanging_on_newer, &mut row_of_two);
/// assert_eq!(second.hanging_on_newer, 2);
///
/// let (mut unwind, mut out) = (Unwind::new(coder.length()), Vec::new());
/// assert_eq!(unwind.push(&row_of_one)?, Need::Newer);
/// assert_eq!(unwind.push(&row_of_two)?, Need::Newer);
/// unwind.value(Some(&three), 1 << 20, &mut out)?;
/// assert_eq!(out, one);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Unwind<R> {
    length: ChainLength,
    rows: Vec<(R, DeltaInfo)>,
    is_complete: bool,
    spare: Vec<u8>,
}

impl<R: AsRef<[u8]>> Unwind<R> {
    /// Reads chains whose runs have at most `length` entries.
    #[must_use]
    pub fn new(length: ChainLength) -> Self {
        Self { length, rows: Vec::new(), is_complete: false, spare: Vec::new() }
    }

    /// Forgets the rows, to read another entry.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.is_complete = false;
    }

    /// Deltas that lead from the keyframe to the entry that is read: what `ahead` is for an entry that is coded against it.
    #[must_use]
    pub fn deltas(&self) -> u16 {
        let keyframe = usize::from(self.is_complete);
        u16::try_from(self.rows.len().saturating_sub(keyframe)).unwrap_or(u16::MAX)
    }

    /// Adds the row that is to be read, then the next newer one, and so on while one is needed. A row behind a keyframe
    /// is not kept.
    ///
    /// # Errors
    /// [`ChainError::Entry`] for a row that is damaged, [`ChainError::ChainTooLong`] when this is one delta too many. The
    /// row is not kept then.
    pub fn push(&mut self, row: R) -> Result<Need, ChainError> {
        if self.is_complete {
            return Ok(Need::Nothing);
        }
        let entry = self.rows.len();
        let info = inspect(row.as_ref()).map_err(|source| ChainError::Entry { entry, source })?;
        if !info.form.is_whole() && entry >= usize::from(self.length.deltas()) {
            let (length, max) = (entry.saturating_add(2), usize::from(self.length.get()));
            return Err(ChainError::ChainTooLong { length, max });
        }
        self.rows.push((row, info));
        self.is_complete = info.form.is_whole();
        Ok(if self.is_complete { Need::Nothing } else { Need::Newer })
    }

    /// Replaces `out` by the value of the first row that was pushed; each value on the way has at most `max_len` bytes.
    ///
    /// `newest` is the whole value that the last row hangs on; it is not looked at when that is a keyframe. Without
    /// any row it is the value.
    ///
    /// # Errors
    /// [`ChainError`], and `out` is empty.
    pub fn value(
        &mut self,
        newest: Option<&[u8]>,
        max_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ChainError> {
        out.clear();
        let newest = newest.filter(|_| !self.is_complete);
        match (newest, self.rows.is_empty()) {
            (Some(value), true) => {
                out.extend_from_slice(value);
                return Ok(());
            }
            (None, _) if !self.is_complete => {
                return Err(ChainError::NoKeyframe { length: self.rows.len() });
            }
            _ => {}
        }
        // Which row is wrong is looked for only when one is.
        if self.quickly(newest, max_len, out).is_ok() {
            return Ok(());
        }
        self.step_by_step(newest, max_len, out)
    }

    /// Holds against their checksums what the chain begins with and what it ends with; between them, that each row names
    /// the result before it as its base. (A wrong value between them that leads to the right one is not noticed. Who
    /// checks a store decodes each row by itself.)
    fn quickly(
        &mut self,
        newest: Option<&[u8]>,
        max_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DeltaError> {
        let mut result = None;
        self.decode_rows(newest, out, |_, (row, info), base, out| {
            is_within(*info, max_len)?;
            let payload = row.len().checked_sub(info.payload_length).and_then(|head| row.get(head..));
            let base = match info.base {
                None => &[],
                expected if expected == result => base.unwrap_or_default(),
                Some(expected) => verified(expected, base)?,
            };
            out.clear();
            result = Some(info.result);
            yield_result(*info, payload.unwrap_or_default(), base, out)
        })?;
        result.map_or(Ok(()), |result| proved(result, out))
    }

    fn step_by_step(
        &mut self,
        newest: Option<&[u8]>,
        max_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ChainError> {
        self.decode_rows(newest, out, |entry, (row, _), base, out| {
            decode_into(row, base, out, max_len).map_err(|source| ChainError::Entry { entry, source })
        })
    }

    /// Decodes the rows in the order in which one hangs on the other, each by the value before it into `out`.
    fn decode_rows<E>(
        &mut self,
        newest: Option<&[u8]>,
        out: &mut Vec<u8>,
        mut decode: impl FnMut(usize, (&[u8], &DeltaInfo), Option<&[u8]>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut first = Some(newest);
        for (entry, (row, info)) in self.rows.iter().enumerate().rev() {
            std::mem::swap(&mut self.spare, out);
            let base = first.take().unwrap_or(Some(&self.spare));
            decode(entry, (row.as_ref(), info), base, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::{DeltaError, Encoder, ValueInfo, forge};

    fn delta(base: Option<&[u8]>, result: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new().encode(base, result, &mut out);
        out
    }

    #[test]
    fn a_missing_keyframe_a_missing_row_and_damage_are_told_apart() {
        let values: Vec<Vec<u8>> = (0..5).map(|number: u8| [&[7; 60][..], &[number]].concat()).collect();
        let rows: Vec<Vec<u8>> = values.windows(2).map(|pair| delta(Some(&pair[1]), &pair[0])).collect();
        let mut unwind = Unwind::new(ChainLength::new(4).unwrap());
        let mut out = Vec::new();
        assert_eq!(unwind.value(None, 100, &mut out), Err(ChainError::NoKeyframe { length: 0 }));
        unwind.value(Some(b"newest"), 100, &mut out).unwrap();
        assert_eq!(out, b"newest");
        for row in &rows[..3] {
            assert_eq!(unwind.push(row), Ok(Need::Newer));
        }
        assert_eq!(unwind.push(&rows[3]), Err(ChainError::ChainTooLong { length: 5, max: 4 }));
        assert_eq!(unwind.value(None, 100, &mut out), Err(ChainError::NoKeyframe { length: 3 }));
        unwind.value(Some(&values[3]), 100, &mut out).unwrap();
        assert_eq!((out.as_slice(), unwind.deltas()), (&values[0][..], 3));
        let wrong = unwind.value(Some(&values[4]), 100, &mut out);
        assert!(matches!(wrong, Err(ChainError::Entry { entry: 2, source: DeltaError::WrongBase { .. } })));
        assert!(out.is_empty());
        unwind.clear();
        let mut damaged = rows[1].clone();
        damaged[9] ^= 4;
        assert_eq!(unwind.push(&rows[0]), Ok(Need::Newer));
        assert!(matches!(unwind.push(&damaged), Err(ChainError::Entry { entry: 1, .. })));
        let keyframe = delta(None, &values[1]);
        assert_eq!(unwind.push(&keyframe), Ok(Need::Nothing));
        assert_eq!((unwind.push(&rows[3]), unwind.deltas()), (Ok(Need::Nothing), 1));
        unwind.value(Some(b"not looked at"), 100, &mut out).unwrap();
        assert_eq!(out, values[0]);
        assert!(matches!(unwind.value(None, 60, &mut out), Err(ChainError::Entry { entry: 1, .. })));
    }

    #[test]
    fn a_row_that_leads_elsewhere_is_named_though_its_seal_is_right() {
        // Each change is in a place of its own, so that no later one puts a wrong one right.
        let changed = |value: &[u8], place: usize| {
            let mut changed = value.to_vec();
            changed[place * 20..][..9].fill(b'x');
            changed
        };
        let mut values = vec![vec![7; 600]];
        (0..4).for_each(|place| values.push(changed(&values[place], place)));
        let rows: Vec<Vec<u8>> = values.windows(2).map(|pair| delta(Some(&pair[1]), &pair[0])).collect();
        for wrong in 0..rows.len() {
            // The payload of another change, behind a head that says this one.
            let (base, result) = (&values[wrong + 1], &values[wrong]);
            let other = delta(Some(base), &changed(result, 25));
            let info = inspect(&other).unwrap();
            let payload = &other[other.len() - info.payload_length..];
            let mut rows = rows.clone();
            rows[wrong] = forge::delta(info.form, base, ValueInfo::of(result), payload);
            let mut unwind = Unwind::new(ChainLength::new(9).unwrap());
            for row in &rows {
                assert_eq!(unwind.push(row), Ok(Need::Newer));
            }
            let mut out = Vec::new();
            let found = unwind.value(Some(&values[4]), 1_000, &mut out);
            let Err(ChainError::Entry { entry, source: DeltaError::WrongResult { .. } }) = found else {
                panic!("{found:?}");
            };
            assert_eq!((entry, out.as_slice()), (wrong, &[][..]));
        }
    }
}
