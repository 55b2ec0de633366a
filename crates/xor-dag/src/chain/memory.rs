//! A whole chain in memory: what can be said of chains as a list of entries.
//!
//! Invariants, held by [`Chain::check_invariants`]:
//! * The newest entry is a keyframe or a deletion.
//! * A delta's base is the entry before it, the next newer one; so no deletion is before a delta.
//! * No run has more entries than allowed.
//! * Every entry reads as it was pushed, until it is pruned.

use super::{ChainError, ChainLength, Newer, RowCoder, Unwind};
use crate::delta::{ValueInfo, inspect};

/// The versions of one item, newest first, each with a label of the caller's.
#[derive(Debug)]
pub struct Chain<L> {
    coder: RowCoder,
    entries: Vec<Entry<L>>,
}

#[derive(Clone, Debug)]
struct Entry<L> {
    label: L,
    /// The coded value; none for a deletion.
    row: Option<Vec<u8>>,
}

impl<L: Clone> Chain<L> {
    /// A chain without entries, whose runs have at most `length`.
    #[must_use]
    pub fn new(length: ChainLength) -> Self {
        Self { coder: RowCoder::new(length), entries: Vec::new() }
    }

    /// Entries, deletions included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The labels, newest first.
    pub fn labels(&self) -> impl Iterator<Item = &L> {
        self.entries.iter().map(|entry| &entry.label)
    }

    /// Bytes that the entries take.
    #[must_use]
    pub fn coded_len(&self) -> usize {
        self.entries.iter().filter_map(|entry| entry.row.as_ref()).map(Vec::len).sum()
    }

    /// Adds a newer entry: a value, or a deletion. The one that was the newest is coded against it.
    ///
    /// # Errors
    /// [`ChainError`] when what was the newest is damaged; the chain is as before.
    pub fn push(&mut self, label: L, value: Option<&[u8]>) -> Result<(), ChainError> {
        let recoded = match (value, self.entries.is_empty()) {
            (Some(value), false) => match self.reconstruct(0)? {
                Some(displaced) => {
                    let behind = deltas_of(self.entries.get(1..).unwrap_or_default());
                    Some(coded(&mut self.coder, &displaced, Some(Newer { value, ahead: 0 }), behind))
                }
                None => None,
            },
            // The newest entry is a keyframe already: it can be so before a deletion.
            _ => None,
        };
        if let (Some(entry), Some(row)) = (self.entries.first_mut(), recoded) {
            entry.row = Some(row);
        }
        let row = value.map(|value| coded(&mut self.coder, value, None, 0));
        self.entries.insert(0, Entry { label, row });
        Ok(())
    }

    /// The value of an entry, 0 being the newest; `None` for a deletion.
    ///
    /// # Errors
    /// [`ChainError`] when there is no such entry, or it or what it hangs on is damaged.
    pub fn reconstruct(&self, at: usize) -> Result<Option<Vec<u8>>, ChainError> {
        let entries = self.entries.len();
        let entry = self.entries.get(at).ok_or(ChainError::NoEntry { at, entries })?;
        if entry.row.is_none() {
            return Ok(None);
        }
        let mut unwind = Unwind::new(self.coder.length());
        for entry in self.entries.iter().take(at.saturating_add(1)).rev() {
            let Some(row) = &entry.row else { break };
            if unwind.push(row)? == super::Need::Nothing {
                break;
            }
        }
        let mut value = Vec::new();
        unwind.value(None, usize::MAX, &mut value)?;
        Ok(Some(value))
    }

    /// Removes the entries that are not to be kept and gives their number. What hung on them is coded anew against what
    /// is before it then, or becomes a keyframe, so that every entry that is kept reads as before.
    ///
    /// # Errors
    /// [`ChainError`] when what is kept cannot be read; the chain is as before.
    pub fn prune(&mut self, mut keep: impl FnMut(&L) -> bool) -> Result<usize, ChainError> {
        let kept: Vec<usize> = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| keep(&entry.label))
            .map(|(at, _)| at)
            .collect();
        let length = self.coder.length();
        self.rebuild(&kept, length)
    }

    /// Codes the chain anew where its runs are longer than `length`, which holds from now on: shorter runs make reads
    /// shorter, longer ones the chain.
    ///
    /// # Errors
    /// [`ChainError`] when an entry cannot be read; the chain is as before.
    pub fn consolidate(&mut self, length: ChainLength) -> Result<(), ChainError> {
        let all: Vec<usize> = (0..self.entries.len()).collect();
        self.rebuild(&all, length).map(|_| ())
    }

    /// Makes the chain be those of its entries, in runs of at most `length`, from the newest on.
    fn rebuild(&mut self, kept: &[usize], length: ChainLength) -> Result<usize, ChainError> {
        let mut coder = RowCoder::new(length);
        let mut entries: Vec<Entry<L>> = Vec::with_capacity(kept.len());
        let mut before = Before::default();
        for at in kept.iter().copied() {
            let Some(Entry { label, row }) = self.entries.get(at) else { continue };
            let hangs_on = if is_delta(row.as_deref()) { at.checked_sub(1) } else { None };
            let stays = hangs_on.is_none()
                || hangs_on == before.at && before.ahead.is_some_and(|ahead| ahead < length.deltas());
            let row = if stays { row.clone() } else { self.recoded(&mut coder, at, before)? };
            let ahead = row.as_deref().map(|row| match before.ahead {
                Some(ahead) if is_delta(Some(row)) => ahead.saturating_add(1),
                _ => 0,
            });
            before = Before { at: Some(at), ahead };
            entries.push(Entry { label: label.clone(), row });
        }
        let removed = self.entries.len().saturating_sub(entries.len());
        (self.coder, self.entries) = (coder, entries);
        Ok(removed)
    }

    /// The row of an entry that no longer hangs on the one it was made against.
    fn recoded(
        &self,
        coder: &mut RowCoder,
        at: usize,
        before: Before,
    ) -> Result<Option<Vec<u8>>, ChainError> {
        let Some(value) = self.reconstruct(at)? else { return Ok(None) };
        let base = before.at.map(|at| self.reconstruct(at)).transpose()?.flatten();
        let newer = base.as_deref().zip(before.ahead).map(|(value, ahead)| Newer { value, ahead });
        let behind = deltas_of(self.entries.get(at.saturating_add(1)..).unwrap_or_default());
        Ok(Some(coded(coder, &value, newer, behind)))
    }

    /// Reads every entry and holds the chain against its invariants; gives what is wrong.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut run = 0;
        let mut newer: Option<ValueInfo> = None;
        for (at, entry) in self.entries.iter().enumerate() {
            let Some(row) = &entry.row else {
                (run, newer) = (0, None);
                continue;
            };
            let info = inspect(row).map_err(|error| format!("entry {at}: {error}"))?;
            run = if info.base.is_some() { run + 1 } else { 1 };
            if info.base.is_some() && info.base != newer {
                return Err(format!("entry {at} hangs on {:?}, and before it is {newer:?}", info.base));
            }
            if run > self.coder.length().get() {
                return Err(format!(
                    "entry {at} is number {run} of its run of at most {}",
                    self.coder.length()
                ));
            }
            newer = Some(info.result);
            self.reconstruct(at).map_err(|error| format!("entry {at}: {error}"))?;
        }
        Ok(())
    }
}

/// The entry before: where it stood, and the deltas that lead from its keyframe to it; of a deletion, none.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    at: Option<usize>,
    ahead: Option<u16>,
}

fn coded(coder: &mut RowCoder, value: &[u8], newer: Option<Newer<'_>>, behind: u16) -> Vec<u8> {
    let mut row = Vec::new();
    let _hanging = coder.code(value, newer, behind, &mut row);
    row
}

fn is_delta(row: Option<&[u8]>) -> bool {
    row.and_then(|row| inspect(row).ok()).is_some_and(|info| info.base.is_some())
}

/// How many deltas a list begins with.
fn deltas_of<L>(entries: &[Entry<L>]) -> u16 {
    let deltas = entries.iter().take_while(|entry| is_delta(entry.row.as_deref())).count();
    u16::try_from(deltas).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// A new value that differs from the last one by these bytes at this place, or a new one altogether.
        Change(prop::sample::Index, Vec<u8>),
        Create(Vec<u8>),
        Delete,
        /// Keeps those whose bit is set.
        Prune(u64),
        Consolidate(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            12 => (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..12))
                .prop_map(|(at, bytes)| Step::Change(at, bytes)),
            1 => prop::collection::vec(any::<u8>(), 0..150).prop_map(Step::Create),
            1 => Just(Step::Delete),
            2 => any::<u64>().prop_map(|bits| Step::Prune(bits | bits >> 7)),
            1 => (1_u16..9).prop_map(Step::Consolidate),
        ];
        prop::collection::vec(step, 1..80)
    }

    fn check(chain: &Chain<u32>, expected: &[(u32, Option<Vec<u8>>)]) {
        chain.check_invariants().unwrap();
        assert_eq!(
            chain.labels().copied().collect::<Vec<_>>(),
            expected.iter().map(|(label, _)| *label).collect::<Vec<_>>()
        );
        for (at, (label, value)) in expected.iter().enumerate() {
            assert_eq!(chain.reconstruct(at).unwrap(), *value, "entry {at}, {label}");
        }
        let entries = expected.len();
        assert_eq!(chain.reconstruct(entries), Err(ChainError::NoEntry { at: entries, entries }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Against a plain list of values.
        #[test]
        fn every_entry_reads_as_it_was_pushed_through_any_program(steps in steps(), length in 1_u16..9) {
            let mut chain = Chain::new(ChainLength::new(length).unwrap());
            let mut expected: Vec<(u32, Option<Vec<u8>>)> = Vec::new();
            for (label, step) in (0..).zip(steps) {
                let newest = expected.first().and_then(|(_, value)| value.clone());
                match step {
                    Step::Change(at, bytes) => {
                        let mut value = newest.unwrap_or_else(|| vec![9; 100]);
                        let at = at.index(value.len() + 1);
                        let end = value.len().min(at + bytes.len());
                        value.splice(at..end, bytes);
                        chain.push(label, Some(&value)).unwrap();
                        expected.insert(0, (label, Some(value)));
                    }
                    Step::Create(value) => {
                        chain.push(label, Some(&value)).unwrap();
                        expected.insert(0, (label, Some(value)));
                    }
                    Step::Delete => {
                        chain.push(label, None).unwrap();
                        expected.insert(0, (label, None));
                    }
                    Step::Prune(bits) => {
                        let keep = |label: &u32| bits >> (label % 64) & 1 == 1;
                        let before = expected.len();
                        expected.retain(|(label, _)| keep(label));
                        prop_assert_eq!(chain.prune(keep), Ok(before - expected.len()));
                    }
                    Step::Consolidate(length) => chain.consolidate(ChainLength::new(length).unwrap()).unwrap(),
                }
                check(&chain, &expected);
            }
        }
    }

    fn long_chain(length: u16, entries: u32) -> Chain<u32> {
        let mut chain = Chain::new(ChainLength::new(length).unwrap());
        for number in 0..entries {
            let mut value = vec![5; 400];
            value[..4].copy_from_slice(&number.to_le_bytes());
            chain.push(number, Some(&value)).unwrap();
        }
        chain
    }

    fn runs(chain: &Chain<u32>) -> Vec<usize> {
        let mut runs = Vec::new();
        for entry in &chain.entries {
            match runs.last_mut() {
                Some(run) if is_delta(entry.row.as_deref()) => *run += 1,
                _ => runs.push(1),
            }
        }
        runs
    }

    #[test]
    fn runs_are_as_long_as_allowed_and_consolidating_shortens_them() {
        let mut chain = long_chain(16, 100);
        assert_eq!(runs(&chain), [4, 16, 16, 16, 16, 16, 16]);
        chain.consolidate(ChainLength::new(5).unwrap()).unwrap();
        assert!(runs(&chain).iter().all(|run| *run <= 5), "{:?}", runs(&chain));
        assert!(runs(&chain).len() <= 27);
        chain.check_invariants().unwrap();
    }

    #[test]
    fn pruning_everything_but_one_leaves_one_keyframe() {
        for kept in 0..40 {
            let mut chain = long_chain(16, 40);
            let value = chain.reconstruct(39 - kept).unwrap();
            assert_eq!(chain.prune(|label| usize::try_from(*label).unwrap() == kept), Ok(39));
            assert_eq!((chain.len(), chain.reconstruct(0).unwrap()), (1, value));
            chain.check_invariants().unwrap();
        }
    }

    #[test]
    fn a_damaged_entry_leaves_the_chain_as_it_was() {
        let mut chain = long_chain(16, 10);
        chain.entries[5].row.as_mut().unwrap()[20] ^= 1;
        let rows =
            |chain: &Chain<u32>| chain.entries.iter().map(|entry| entry.row.clone()).collect::<Vec<_>>();
        let before = rows(&chain);
        assert!(chain.check_invariants().is_err());
        assert!(chain.reconstruct(4).is_ok() && chain.reconstruct(6).is_err());
        assert!(matches!(chain.prune(|label| *label != 3), Err(ChainError::Entry { .. })));
        assert!(chain.consolidate(ChainLength::new(2).unwrap()).is_err());
        assert_eq!(rows(&chain), before);
    }
}
