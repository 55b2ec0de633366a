//! Where copies are taken from: what the forms of copies, coded and plain, say alike.
//!
//! A text that was edited goes on in its base where it left off, or as far on as the result has come since. Both have a
//! name of their own; anywhere else is said as a distance.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::layout::{disk_len, memory_len};

/// Bytes of the result for which memory is taken before they are there.
pub(crate) const RESERVE_MAX: usize = 1 << 20;

/// From where a copy is taken: a place in the base, or how far back in the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Base(usize),
    Back(usize),
}

impl Source {
    /// The source of a copy that begins at `at` in the result, by its place in base and result one behind the other.
    pub(crate) const fn of(base: &[u8], at: usize, place: usize) -> Self {
        match place.checked_sub(base.len()) {
            Some(in_result) => Self::Back(at.saturating_sub(in_result)),
            None => Self::Base(place),
        }
    }
}

/// From where a copy is taken, by how that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// From the base, at the last copy's end: something was inserted.
    Next,
    /// From the base, as far on as the result has come since: something was replaced.
    Across,
    /// From the base, elsewhere.
    Base,
    /// From the result.
    Result,
}

impl Place {
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Next => 0,
            Self::Across => 1,
            Self::Base => 2,
            Self::Result => 3,
        }
    }

    /// The place with that index; those beyond are the last.
    pub(crate) const fn at(index: usize) -> Self {
        match index {
            0 => Self::Next,
            1 => Self::Across,
            2 => Self::Base,
            _ => Self::Result,
        }
    }

    /// Whether a number goes with it: a distance.
    pub(crate) const fn has_number(self) -> bool {
        matches!(self, Self::Base | Self::Result)
    }
}

/// How far a result has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Where the last copy from the base ended there.
    base_end: usize,
    /// Bytes of the result since.
    since: usize,
}

impl Way {
    pub(crate) const NEW: Self = Self { base_end: 0, since: 0 };

    const fn across(self) -> usize {
        self.base_end.saturating_add(self.since)
    }

    /// How a source is said, and the number that goes with it: 0 where none does.
    pub(crate) fn place_of(self, source: Source) -> (Place, u64) {
        match source {
            Source::Base(at) if at == self.base_end => (Place::Next, 0),
            Source::Base(at) if at == self.across() => (Place::Across, 0),
            Source::Base(at) => (Place::Base, zigzag(disk_len(at), disk_len(self.base_end))),
            Source::Back(back) => (Place::Result, disk_len(back)),
        }
    }

    /// The source that is said so.
    pub(crate) fn source(self, place: Place, number: u64) -> Source {
        match place {
            Place::Next => Source::Base(self.base_end),
            Place::Across => Source::Base(self.across()),
            Place::Base => Source::Base(memory_len(unzigzag(number, disk_len(self.base_end)))),
            Place::Result => Source::Back(memory_len(number)),
        }
    }

    /// Notes so many new bytes.
    pub(crate) fn wrote(&mut self, len: usize) {
        self.since = self.since.saturating_add(len);
    }

    /// Notes a copy.
    pub(crate) fn copied(&mut self, source: Source, len: usize) {
        match source {
            Source::Base(at) => (self.base_end, self.since) = (at.saturating_add(len), 0),
            Source::Back(_) => self.wrote(len),
        }
    }
}

/// `at` seen from `from`, small numbers for what is near in either direction.
fn zigzag(at: u64, from: u64) -> u64 {
    match at.checked_sub(from) {
        Some(ahead) => ahead.saturating_mul(2),
        None => from.saturating_sub(at).saturating_mul(2).saturating_sub(1),
    }
}

/// The place that [`zigzag`] saw; one before the beginning becomes one that no base has.
fn unzigzag(offset: u64, from: u64) -> u64 {
    if offset.is_multiple_of(2) {
        from.saturating_add(offset / 2)
    } else {
        from.checked_sub(offset.div_ceil(2)).unwrap_or(u64::MAX)
    }
}

/// Appends a copy to the result; `None` when not all of it is there.
pub(crate) fn copy(base: &[u8], source: Source, count: usize, out: &mut Vec<u8>) -> Option<()> {
    match source {
        Source::Base(at) => out.extend_from_slice(base.get(at..at.checked_add(count)?)?),
        Source::Back(back) => {
            let begin = out.len().checked_sub(back).filter(|_| back > 0)?;
            // A copy that overlaps itself repeats what is between; each round there is twice as much of it.
            let mut left = count;
            while left > 0 {
                let there = out.len().saturating_sub(begin).min(left);
                out.extend_from_within(begin..begin.checked_add(there)?);
                left = left.saturating_sub(there);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn zigzag_has_an_inverse(at in 0_u64..1 << 33, from in 0_u64..1 << 33) {
            prop_assert_eq!(unzigzag(zigzag(at, from), from), at);
        }

        #[test]
        fn a_source_is_found_again(
            steps in prop::collection::vec((any::<bool>(), 0_usize..1 << 20, 0_usize..999, 1_usize..999), 1..9),
        ) {
            let mut way = Way::NEW;
            for (of_base, at, new, len) in steps {
                let source = if of_base { Source::Base(at) } else { Source::Back(at) };
                way.wrote(new);
                let (place, number) = way.place_of(source);
                prop_assert_eq!((Place::at(place.index()), way.source(place, number)), (place, source));
                way.copied(source, len);
                prop_assert_eq!(way.place_of(Source::Base(way.base_end)), (Place::Next, 0));
            }
        }
    }

    #[test]
    fn places_near_by_are_small_numbers() {
        assert_eq!([9, 10, 11, 8].map(|at| zigzag(at, 10)), [1, 0, 2, 3]);
        assert_eq!(unzigzag(23, 10), u64::MAX, "before the beginning");
    }
}
