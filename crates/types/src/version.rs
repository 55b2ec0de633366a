//! Versions: the number of a commit, and the timeline that keeps a number from ever meaning two contents.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The timeline of a version: it changes when recovery had to cut something, so that no number is given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(u16);

impl Timeline {
    /// The timeline of a store that never lost anything.
    pub const FIRST: Self = Self(0);
    /// The last timeline; a store that needs another one must be exported.
    pub const LAST: Self = Self(u16::MAX);

    /// The timeline with this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The timeline after this one, unless this is the last.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version a commit made: 16 bits of timeline above 48 bits of sequence. Later commits compare greater. Version 0
/// is the empty store before its first commit.
///
/// Prints as `17` on the first timeline and as `2:17` on timeline 2, and parses from the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

const SEQUENCE_BITS: u32 = 48;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;

impl Version {
    /// The empty store before the first commit.
    pub const ZERO: Self = Self(0);
    /// Above every version.
    pub const MAX: Self = Self(u64::MAX);
    /// The largest sequence number within a timeline.
    pub const SEQUENCE_MAX: u64 = SEQUENCE_MASK;

    /// A version from its two parts; `None` when the sequence exceeds [`Version::SEQUENCE_MAX`].
    #[must_use]
    pub const fn from_parts(timeline: Timeline, sequence: u64) -> Option<Self> {
        if sequence > SEQUENCE_MASK {
            return None;
        }
        Some(Self(((timeline.0 as u64) << SEQUENCE_BITS) | sequence))
    }

    /// A version from its stored form.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The stored form: timeline in the top 16 bits, sequence below.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.0
    }

    /// The timeline.
    #[must_use]
    pub fn timeline(self) -> Timeline {
        Timeline(u16::try_from(self.0 >> SEQUENCE_BITS).unwrap_or(u16::MAX))
    }

    /// The place within the timeline; dense, and continued across a change of timeline.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0 & SEQUENCE_MASK
    }

    /// The next version on the same timeline, unless the sequence is exhausted.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        if self.sequence() == SEQUENCE_MASK { None } else { Some(Self(self.0 + 1)) }
    }

    /// The greatest number below this one, whether a commit made it or not; `None` for [`Version::ZERO`].
    #[must_use]
    pub const fn before(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The same sequence on another timeline.
    #[must_use]
    pub const fn on(self, timeline: Timeline) -> Self {
        Self(((timeline.0 as u64) << SEQUENCE_BITS) | self.sequence())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.timeline() {
            Timeline::FIRST => self.sequence().to_string(),
            timeline => format!("{timeline}:{}", self.sequence()),
        };
        f.pad(&text)
    }
}

/// A text that is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a version: expected a number such as 17, or TIMELINE:NUMBER such as 2:17")]
pub struct ParseVersionError {
    /// What was found.
    pub text: String,
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseVersionError { text: text.to_owned() };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (timeline, sequence) = match text.split_once(':') {
            Some((timeline, sequence)) if digits(timeline) => {
                (timeline.parse().map_err(|_: ParseIntError| error())?, sequence)
            }
            Some(_) => return Err(error()),
            None => (0, text),
        };
        if !digits(sequence) {
            return Err(error());
        }
        let sequence = sequence.parse().map_err(|_: ParseIntError| error())?;
        Self::from_parts(Timeline(timeline), sequence).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        for (raw, text) in
            [(0, "0"), (17, "17"), ((2 << 48) | 17, "2:17"), (u64::MAX, "65535:281474976710655")]
        {
            let version = Version::from_raw(raw);
            assert_eq!(version.to_string(), text);
            assert_eq!(text.parse(), Ok(version));
        }
    }

    #[test]
    fn refuses_what_is_not_a_version() {
        for text in ["", ":", "1:", ":1", "x", "-1", "+1", " 1", "1:2:3", "65536:1", "281474976710656", "0x1"]
        {
            let found: Result<Version, _> = text.parse();
            assert_eq!(found, Err(ParseVersionError { text: text.to_owned() }), "{text:?}");
        }
    }

    #[test]
    fn a_later_timeline_is_later() {
        let old = Version::from_parts(Timeline::FIRST, Version::SEQUENCE_MAX).unwrap();
        let new = Version::from_parts(Timeline::new(1), 0).unwrap();
        assert!(new > old);
        assert_eq!(old.next(), None);
        assert_eq!(new.next(), Version::from_parts(Timeline::new(1), 1));
    }
}
