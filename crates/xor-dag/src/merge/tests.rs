//! The merge against its reference: all small cases, very many random ones, and what must be symmetric.

use super::reference::{self, Kind};
use super::*;

fn strategy(kind: Kind) -> Strategy<'static> {
    match kind {
        Kind::LastWins => Strategy::LastWins,
        Kind::FirstWins => Strategy::FirstWins,
        Kind::Xor => Strategy::Xor,
        Kind::Reject => Strategy::Reject,
    }
}

fn ours(base: Side<'_>, first: Side<'_>, last: Side<'_>, kind: Kind) -> Result<Option<Vec<u8>>, Conflict> {
    merge(base, first, last, strategy(kind)).map(|merged| merged.map(Cow::into_owned))
}

/// What a conflict says when the sides change places.
fn mirrored(conflict: Conflict) -> Conflict {
    match conflict {
        Conflict::LengthsDiffer { base, first, last } => {
            Conflict::LengthsDiffer { base, first: last, last: first }
        }
        other => other,
    }
}

fn check(base: Side<'_>, first: Side<'_>, last: Side<'_>) {
    for kind in [Kind::LastWins, Kind::FirstWins, Kind::Xor, Kind::Reject] {
        let found = ours(base, first, last, kind);
        assert_eq!(found, reference::merge(base, first, last, kind), "{base:?} {first:?} {last:?} {kind:?}");
    }
    let swapped = |kind| ours(base, last, first, kind).map_err(mirrored);
    assert_eq!(ours(base, first, last, Kind::Xor), swapped(Kind::Xor), "both changes at once have no order");
    assert_eq!(ours(base, first, last, Kind::Reject), swapped(Kind::Reject));
    assert_eq!(ours(base, first, last, Kind::LastWins), swapped(Kind::FirstWins), "the other way round");
    let mut asked = 0;
    let mut decide = |_: Side<'_>, _: Side<'_>, _: Side<'_>| {
        asked += 1;
        Ok(Some(b"decided".to_vec()))
    };
    let decided = merge(base, first, last, Strategy::Custom(&mut decide)).unwrap();
    let is_open = ours(base, first, last, Kind::Reject) == Err(Conflict::Rejected);
    assert_eq!(asked, usize::from(is_open), "asked exactly where nothing else decides");
    let expected =
        if is_open { Ok(Some(b"decided".to_vec())) } else { ours(base, first, last, Kind::Reject) };
    assert_eq!(Ok(decided.map(Cow::into_owned)), expected);
}

/// All values of up to two bytes of which the three lowest bits are used, and that there is none.
fn small_values() -> Vec<Option<Vec<u8>>> {
    let one = (0_u8..8).map(|byte| vec![byte]);
    let two = (0_u8..8).flat_map(|low| (0_u8..8).map(move |high| vec![low, high]));
    [None, Some(Vec::new())].into_iter().chain(one.chain(two).map(Some)).collect()
}

#[test]
fn every_case_of_up_to_two_bytes_of_three_bits() {
    let values = small_values();
    for base in &values {
        for first in &values {
            for last in &values {
                check(base.as_deref(), first.as_deref(), last.as_deref());
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// A few changes of a value, seldom of its length, seldom its end.
    fn changed(&mut self, value: &[u8]) -> Option<Vec<u8>> {
        let mut value = value.to_vec();
        for _ in 0..self.below(5) {
            let len = value.len();
            match self.below(24) {
                0 => return None,
                1 => value.truncate(self.below(len + 1)),
                2 => value.push(7),
                _ if len > 0 => value[self.below(len)] ^= 1 << self.below(8),
                _ => {}
            }
        }
        Some(value)
    }
}

#[test]
fn two_hundred_thousand_random_cases() {
    let mut random = Random(2_026);
    let (mut merged, mut overlaps) = (0, 0);
    for _ in 0..200_000 {
        let len = random.below(40);
        let base: Vec<u8> = (0..len).map(|_| random.next().to_le_bytes()[0]).collect();
        let (first, last) = (random.changed(&base), random.changed(&base));
        let base = (random.below(20) > 0).then_some(base.as_slice());
        check(base, first.as_deref(), last.as_deref());
        match ours(base, first.as_deref(), last.as_deref(), Kind::Xor) {
            Ok(Some(value)) if Some(&value) != first.as_ref() && Some(&value) != last.as_ref() => merged += 1,
            Err(Conflict::Overlap { .. }) => overlaps += 1,
            _ => {}
        }
    }
    assert!(merged > 50_000 && overlaps > 1_000, "{merged} merged, {overlaps} overlaps");
}

#[test]
fn every_bit_of_a_long_value_is_looked_at() {
    let base = vec![0x5A; 21];
    for bit in 0..21 * 8 {
        let mut first = base.clone();
        first[bit / 8] ^= 1 << (bit % 8);
        let mut last = first.clone();
        last[20] ^= if bit == 167 { 1 } else { 0x80 };
        let expected = Conflict::Overlap { first_bit: u64::try_from(bit).unwrap(), bits: 1 };
        assert_eq!(ours(Some(&base), Some(&first), Some(&last), Kind::Xor), Err(expected));
    }
}

#[test]
fn sides_that_win_are_not_copied_and_a_caller_can_refuse() {
    let merged = merge(Some(b"a"), Some(b"b"), Some(b"c"), Strategy::LastWins).unwrap();
    assert!(matches!(merged, Some(Cow::Borrowed(b"c"))));
    let mut refuse = |_: Side<'_>, _: Side<'_>, _: Side<'_>| Err(Conflict::Custom("not today".to_owned()));
    let refused = merge(Some(b"a"), Some(b"b"), Some(b"c"), Strategy::Custom(&mut refuse)).unwrap_err();
    assert_eq!(refused.to_string(), "not today");
}
