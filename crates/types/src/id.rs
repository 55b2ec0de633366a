//! Ids of 128 bits: of nodes, made in time order or from content, and of stores.

use std::fmt;
use std::str::FromStr;

use crate::Timestamp;

/// A text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// Not 32 characters; nothing is padded or cut.
    #[error("an id has exactly 32 hexadecimal digits, found {found} characters in {text:?}")]
    Length {
        /// Characters found.
        found: usize,
        /// The text, cut after 64 characters.
        text: String,
    },
    /// A character that is not a hexadecimal digit.
    #[error("an id has exactly 32 hexadecimal digits, found {found:?} at place {place} (counted from 0)")]
    Digit {
        /// The character.
        found: char,
        /// Its place.
        place: usize,
    },
}

fn parse_hex(text: &str) -> Result<[u8; 16], ParseIdError> {
    let found = text.chars().count();
    if found != 32 {
        return Err(ParseIdError::Length { found, text: text.chars().take(64).collect() });
    }
    let mut value = 0_u128;
    for (place, found) in text.chars().enumerate() {
        let digit = found.to_digit(16).ok_or(ParseIdError::Digit { found, place })?;
        value = (value << 4) | u128::from(digit);
    }
    Ok(value.to_be_bytes())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes, most significant first.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes, most significant first; they sort as the id does.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            /// 32 hexadecimal digits in lower case.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id! {
    /// The id of a node.
    ///
    /// Made by [`TimeOrderedIds`], so that nodes written one after another lie one after another, or by
    /// [`NodeId::of_content`]. Parses from exactly 32 hexadecimal digits.
    NodeId
}

id! {
    /// The id of a store, drawn at random when it is created; it is mixed into every checksum on disk.
    StoreId
}

impl NodeId {
    /// The id of a content: the first 128 bits of its BLAKE3 hash. Equal contents have equal ids.
    #[must_use]
    pub fn of_content(content: &[u8]) -> Self {
        let hash = blake3::hash(content);
        let mut id = [0_u8; 16];
        id.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        Self(id)
    }
}

/// Makes ids that sort by the time they were made: 48 bits of milliseconds, a 16-bit counter, 64 random bits.
///
/// Within one maker every id is greater than the one before, also when the clock jumps back or more than 65,536 ids
/// are made in a millisecond (the milliseconds then run ahead of the clock).
#[derive(Debug, Default)]
pub struct TimeOrderedIds {
    last_prefix: u64,
}

impl TimeOrderedIds {
    /// A maker of ids that has made none.
    #[must_use]
    pub const fn new() -> Self {
        Self { last_prefix: 0 }
    }

    /// The next id, from the time of day and 64 random bits.
    #[must_use]
    pub fn next(&mut self, now: Timestamp, random: u64) -> NodeId {
        let from_clock = (now.as_micros() / 1_000) << 16;
        self.last_prefix = from_clock.max(self.last_prefix.saturating_add(1));
        NodeId(((u128::from(self.last_prefix) << 64) | u128::from(random)).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_32_hex_digits_are_an_id() {
        let check = |text: &str| text.parse::<NodeId>().unwrap_err();
        assert_eq!(check(""), ParseIdError::Length { found: 0, text: String::new() });
        assert!(matches!(check("0011"), ParseIdError::Length { found: 4, .. }));
        assert!(matches!(check(&"0".repeat(33)), ParseIdError::Length { found: 33, .. }));
        let bad = format!("{}g{}", "0".repeat(7), "0".repeat(24));
        assert_eq!(check(&bad), ParseIdError::Digit { found: 'g', place: 7 });
        assert!(matches!(
            check(&format!("+{}", "0".repeat(31))),
            ParseIdError::Digit { found: '+', place: 0 }
        ));
    }

    #[test]
    fn a_content_id_is_truncated_blake3() {
        // The first 16 bytes of the published BLAKE3 hash of no input.
        assert_eq!(NodeId::of_content(b"").to_string(), "af1349b9f5f9a1a6a0404dea36dcc949");
        assert_ne!(NodeId::of_content(b"a"), NodeId::of_content(b"b"));
    }

    #[test]
    fn ids_ascend_when_the_clock_stands_or_jumps_back() {
        let mut ids = TimeOrderedIds::new();
        let times = [10_000_u64, 10_000, 9_000, 10_000, 5_000_000, 0];
        let made: Vec<_> = times
            .iter()
            .map(|micros| ids.next(Timestamp::from_micros(*micros), u64::MAX - *micros))
            .collect();
        assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
    }

    proptest! {
        #[test]
        fn hex_round_trips_and_sorts_as_the_bytes(a: [u8; 16], b: [u8; 16]) {
            let (a, b) = (NodeId::from_bytes(a), NodeId::from_bytes(b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.to_string().to_uppercase().parse(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }

        #[test]
        fn a_text_of_another_length_is_never_an_id(text in "[0-9a-f]{0,80}") {
            prop_assert_eq!(text.parse::<NodeId>().is_ok(), text.len() == 32);
        }

        #[test]
        fn equal_contents_have_equal_ids(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(NodeId::of_content(&a) == NodeId::of_content(&b), a == b);
        }
    }
}
