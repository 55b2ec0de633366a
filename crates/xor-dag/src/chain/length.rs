//! How long a run may be, and the rule that keeps it so.

use std::fmt;

/// The most entries of a run: a keyframe and the deltas that hang on it. At least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainLength(u16);

impl ChainLength {
    /// Sixteen: the deltas of a text are a twentieth of it, so that longer runs save little and cost reads.
    pub const DEFAULT: Self = Self(16);

    /// `None` for zero.
    #[must_use]
    pub const fn new(entries: u16) -> Option<Self> {
        if entries == 0 { None } else { Some(Self(entries)) }
    }

    /// Entries of a run, at most.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Deltas of a run, at most.
    #[must_use]
    pub const fn deltas(self) -> u16 {
        self.0.saturating_sub(1)
    }

    /// Whether an entry may be a delta against the next newer one: `ahead` deltas lead from a keyframe to that, and
    /// `behind` deltas hang on the entry, one on another.
    ///
    /// By this rule alone no run is ever longer than allowed. An entry that becomes a delta joins the run of the newer one,
    /// which then has a keyframe, `ahead` deltas, the entry, and `behind` deltas. One that becomes a keyframe begins a
    /// run that is shorter than the one it was in. Nothing else makes a run longer.
    #[must_use]
    pub const fn allows(self, ahead: u16, behind: u16) -> bool {
        match ahead.checked_add(behind) {
            Some(deltas) => deltas < self.deltas(),
            None => false,
        }
    }
}

impl Default for ChainLength {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for ChainLength {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_is_allowed_exactly_while_the_run_that_it_joins_has_room() {
        assert_eq!(ChainLength::new(0), None);
        for max in 1..20 {
            let length = ChainLength::new(max).unwrap();
            assert_eq!((length.get(), length.deltas()), (max, max - 1));
            for ahead in 0..25 {
                for behind in 0..25 {
                    let run = ["keyframe"].len() + usize::from(ahead) + ["entry"].len() + usize::from(behind);
                    assert_eq!(
                        length.allows(ahead, behind),
                        run <= usize::from(max),
                        "{ahead} {behind} {max}"
                    );
                }
            }
        }
        assert!(!ChainLength::new(u16::MAX).unwrap().allows(u16::MAX, u16::MAX));
    }

    /// Every order of displacements and removals of a small chain, by lengths of runs alone.
    #[test]
    fn no_order_of_changes_makes_a_run_too_long() {
        fn runs_fit(chain: &[bool], max: usize) -> bool {
            chain.split(|is_delta| !is_delta).all(|deltas| deltas.len() < max)
        }
        fn deltas(chain: impl Iterator<Item = bool>) -> u16 {
            u16::try_from(chain.take_while(|is_delta| *is_delta).count()).unwrap()
        }
        fn explore(chain: &[bool], steps: usize, length: ChainLength, seen: &mut usize) {
            *seen += 1;
            assert!(chain.first() != Some(&true) && runs_fit(chain, length.get().into()), "{chain:?}");
            if steps == 0 {
                return;
            }
            // A new newest entry: the one before is coded against it.
            let mut next = chain.to_vec();
            next.insert(0, false);
            if next.len() > 1 {
                next[1] = length.allows(0, deltas(next[2..].iter().copied()));
            }
            explore(&next, steps - 1, length, seen);
            // An entry goes: what hung on it is coded against what is in its place now.
            for gone in 0..chain.len() {
                let hung = chain.get(gone + 1).copied().unwrap_or(false);
                let mut next = chain.to_vec();
                next.remove(gone);
                if hung {
                    let ahead = deltas(next[..gone].iter().rev().copied());
                    let behind = deltas(next[gone + 1..].iter().copied());
                    next[gone] = gone > 0 && length.allows(ahead, behind);
                }
                explore(&next, steps - 1, length, seen);
            }
        }
        for max in 1..=4 {
            let mut seen = 0;
            explore(&[], 8, ChainLength::new(max).unwrap(), &mut seen);
            assert!(seen > 1_000, "{seen}");
        }
    }
}
