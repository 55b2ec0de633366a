//! Three-way merge: two changes of one value, made side by side.
//!
//! | first | last | result |
//! |---|---|---|
//! | unchanged | anything | last |
//! | anything | unchanged | first |
//! | changed | the same change | that |
//! | changed | another change | what the [`Strategy`] says |
//!
//! A value is bytes of any length or nothing: creating, deleting and changing the length are changes like others. So a change
//! of length on one side only is no conflict, and neither is one on both sides with one result. Only
//! [`Strategy::Xor`] looks into values, and only where base and both sides are there with one length: where the bits that
//! each side flipped are apart, both flips are done; a bit that both flipped is a conflict, although they agree on it.
//!
//! ```
//! use keepstone_xor_dag::merge::{Conflict, Strategy, merge};
//!
//! let (base, first, last) = (Some(&[0b0000_u8][..]), Some(&[0b0001_u8][..]), Some(&[0b1000_u8][..]));
//! assert_eq!(merge(base, first, last, Strategy::Xor)?.as_deref(), Some(&[0b1001_u8][..]));
//! assert_eq!(merge(base, first, last, Strategy::LastWins)?.as_deref(), last);
//!
//! let same_bit = merge(base, first, Some(&[0b0011]), Strategy::Xor);
//! assert_eq!(same_bit, Err(Conflict::Overlap { first_bit: 0, bits: 1 }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod conflict;
#[cfg(test)]
mod reference;

use std::borrow::Cow;

use crate::parity::xor_all_into;

pub use conflict::Conflict;

/// What is merged: bytes, or nothing where there is no value.
pub type Side<'a> = Option<&'a [u8]>;

/// The result of a merge: bytes, borrowed where a side is the result, or nothing.
pub type Merged<'a> = Option<Cow<'a, [u8]>>;

/// A decision of the caller: takes base, first and last, and gives the result.
pub type Decide<'f> = &'f mut dyn FnMut(Side<'_>, Side<'_>, Side<'_>) -> Result<Option<Vec<u8>>, Conflict>;

/// What becomes of two changes that differ.
pub enum Strategy<'f> {
    /// The change that was committed last.
    LastWins,
    /// The change that was committed first.
    FirstWins,
    /// Both, where the bits that they flip are apart; a conflict otherwise.
    Xor,
    /// What the caller makes of them. It is not asked where the result is clear without.
    Custom(Decide<'f>),
    /// A conflict, always.
    Reject,
}

impl std::fmt::Debug for Strategy<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::LastWins => "LastWins",
            Self::FirstWins => "FirstWins",
            Self::Xor => "Xor",
            Self::Custom(_) => "Custom",
            Self::Reject => "Reject",
        })
    }
}

/// Merges the changes that led from `base` to `first` and to `last`; the names are those of the order of commits.
///
/// # Errors
/// [`Conflict`], saying why the strategy has no result.
pub fn merge<'a>(
    base: Side<'a>,
    first: Side<'a>,
    last: Side<'a>,
    strategy: Strategy<'_>,
) -> Result<Merged<'a>, Conflict> {
    let whole = |side: Side<'a>| Ok(side.map(Cow::Borrowed));
    if first == last || last == base {
        return whole(first);
    }
    if first == base {
        return whole(last);
    }
    match strategy {
        Strategy::LastWins => whole(last),
        Strategy::FirstWins => whole(first),
        Strategy::Xor => xor(base, first, last).map(|value| Some(Cow::Owned(value))),
        Strategy::Custom(decide) => Ok(decide(base, first, last)?.map(Cow::Owned)),
        Strategy::Reject => Err(Conflict::Rejected),
    }
}

/// Both changes at once, of values that differ from each other and from the base.
fn xor(base: Side<'_>, first: Side<'_>, last: Side<'_>) -> Result<Vec<u8>, Conflict> {
    let (base, first, last) = match (base, first, last) {
        (None, ..) => return Err(Conflict::BothCreated),
        (_, None, _) | (_, _, None) => return Err(Conflict::DeletedAndChanged),
        (Some(base), Some(first), Some(last)) => (base, first, last),
    };
    if base.len() != first.len() || base.len() != last.len() {
        return Err(Conflict::LengthsDiffer { base: base.len(), first: first.len(), last: last.len() });
    }
    let mut overlap = Overlap::default();
    let (base_words, base_tail) = base.as_chunks::<8>();
    let (first_words, first_tail) = first.as_chunks::<8>();
    let (last_words, last_tail) = last.as_chunks::<8>();
    for ((base, first), last) in base_words.iter().zip(first_words).zip(last_words) {
        let [base, first, last] = [base, first, last].map(|word| u64::from_le_bytes(*word));
        overlap.add((first ^ base) & (last ^ base), u64::BITS);
    }
    for ((base, first), last) in base_tail.iter().zip(first_tail).zip(last_tail) {
        overlap.add(u64::from((first ^ base) & (last ^ base)), u8::BITS);
    }
    if overlap.bits > 0 {
        return Err(Conflict::Overlap { first_bit: overlap.first_bit, bits: overlap.bits });
    }
    let mut merged = base.to_vec();
    xor_all_into(&mut merged, &[first, last]);
    Ok(merged)
}

/// Bits that both sides flipped, counted from the beginning.
#[derive(Debug, Default)]
struct Overlap {
    seen: u64,
    first_bit: u64,
    bits: u64,
}

impl Overlap {
    fn add(&mut self, flipped_by_both: u64, width: u32) {
        if flipped_by_both != 0 {
            if self.bits == 0 {
                self.first_bit = self.seen.saturating_add(flipped_by_both.trailing_zeros().into());
            }
            self.bits = self.bits.saturating_add(flipped_by_both.count_ones().into());
        }
        self.seen = self.seen.saturating_add(width.into());
    }
}

#[cfg(test)]
mod tests;
