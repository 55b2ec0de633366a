//! The form `copies`: parts of the base and of the result so far, with what is new between them, range-coded.
//!
//! For texts: an insertion moves all that follows it, which XOR cannot see. The payload is a chain of a count of new bytes,
//! the new bytes, the place and the length of a copy, and so on until the result has its length. New bytes are modelled
//! under the byte before them. (Letting the models learn from the base first saved one per cent of a short text's delta and
//! made it four times as slow to read.)
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::layout::{disk_len, memory_len};

use super::matcher::Copied;
use super::numbers::{Number, Tree};
use super::range_coder::{BitCoder, RangeDecoder, RangeEncoder};
use super::{DeltaError, Form};

/// Groups of bytes under which the next one is modelled.
const CONTEXTS: usize = 8;

/// New bytes after which it is asked whether they are worth coding: noise is not, and takes long.
const PART: usize = 4 << 10;

/// Bytes of the result for which memory is taken before they are there.
const RESERVE_MAX: usize = 1 << 20;

/// From where a copy is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
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
    const ALL: [Self; 4] = [Self::Next, Self::Across, Self::Base, Self::Result];
}

/// What both ways know alike: the models, and how far they have come.
#[derive(Clone, Debug)]
pub(crate) struct Models {
    literals: [Tree<256>; CONTEXTS],
    literal_len: Number,
    place: Tree<4>,
    base_offset: Number,
    result_distance: Number,
    copy_len: [Number; 4],
    /// Where the last copy from the base ended there.
    base_end: usize,
    /// Bytes of the result since.
    since: usize,
    last_byte: u8,
}

impl Models {
    const NEW: Self = Self {
        literals: [Tree::NEW; CONTEXTS],
        literal_len: Number::NEW,
        place: Tree::NEW,
        base_offset: Number::NEW,
        result_distance: Number::NEW,
        copy_len: [Number::NEW; 4],
        base_end: 0,
        since: 0,
        last_byte: 0,
    };

    fn literal(&mut self, coder: &mut impl BitCoder, byte: u8) -> u8 {
        let Some(tree) = self.literals.get_mut(context(self.last_byte)) else { return 0 };
        let byte = u8::try_from(tree.code(coder, usize::from(byte))).unwrap_or_default();
        self.last_byte = byte;
        byte
    }

    fn literal_len(&mut self, coder: &mut impl BitCoder, len: usize) -> usize {
        memory_len(self.literal_len.code(coder, disk_len(len)))
    }

    /// Codes where a copy is taken from: a place in the base, or a distance back in the result.
    fn place(&mut self, coder: &mut impl BitCoder, source: Source) -> Source {
        let across = self.base_end.saturating_add(self.since);
        let place = match source {
            Source::Base(at) if at == self.base_end => Place::Next,
            Source::Base(at) if at == across => Place::Across,
            Source::Base(_) => Place::Base,
            Source::Back(_) => Place::Result,
        };
        let place = self.place.code(coder, Place::ALL.iter().position(|known| *known == place).unwrap_or(0));
        match Place::ALL.get(place) {
            Some(Place::Next) | None => Source::Base(self.base_end),
            Some(Place::Across) => Source::Base(across),
            Some(Place::Base) => {
                let at = if let Source::Base(at) = source { at } else { 0 };
                let offset = zigzag(disk_len(at), disk_len(self.base_end));
                let offset = self.base_offset.code(coder, offset);
                Source::Base(memory_len(unzigzag(offset, disk_len(self.base_end))))
            }
            Some(Place::Result) => {
                let back = if let Source::Back(back) = source { back } else { 0 };
                Source::Back(memory_len(self.result_distance.code(coder, disk_len(back))))
            }
        }
    }

    fn copy_len(&mut self, coder: &mut impl BitCoder, source: Source, len: usize) -> usize {
        let across = self.base_end.saturating_add(self.since);
        let kind = match source {
            Source::Base(at) if at == self.base_end => 0,
            Source::Base(at) if at == across => 1,
            Source::Base(_) => 2,
            Source::Back(_) => 3,
        };
        match self.copy_len.get_mut(kind) {
            Some(number) => memory_len(number.code(coder, disk_len(len))),
            None => 0,
        }
    }

    /// Notes what was done, as both ways see it.
    fn advance(&mut self, literals: usize, source: Source, len: usize, last_byte: u8) {
        self.since = self.since.saturating_add(literals);
        match source {
            Source::Base(at) => (self.base_end, self.since) = (at.saturating_add(len), 0),
            Source::Back(_) => self.since = self.since.saturating_add(len),
        }
        self.last_byte = last_byte;
    }
}

/// From where a copy is taken: a place in the base, or how far back in the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Base(usize),
    Back(usize),
}

/// Small letters, capitals, digits, spaces and so on, roughly: the high three bits.
fn context(byte: u8) -> usize {
    usize::from(byte >> 5)
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

/// Appends the payload, unless it would have `limit` bytes or more, or saved nothing up to some place: then it gives up and
/// says `false`.
pub(crate) fn encode(base: &[u8], result: &[u8], copies: &[Copied], limit: usize, out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    let limit = limit.saturating_add(begin);
    let mut models = Models::NEW;
    let mut coder = RangeEncoder::new(out);
    let mut done = 0;
    let tail = Copied { at: result.len(), source: 0, len: 0 };
    for Copied { at, source, len } in copies.iter().chain([&tail]) {
        let literals = result.get(done..*at).unwrap_or_default();
        models.literal_len(&mut coder, literals.len());
        let mut coded = done;
        for part in literals.chunks(PART) {
            for byte in part {
                models.literal(&mut coder, *byte);
            }
            coded = coded.saturating_add(part.len());
            let is_vain = part.len() == PART && coder.len().saturating_sub(begin) >= coded;
            if is_vain || coder.len() >= limit {
                return false;
            }
        }
        done = at.saturating_add(*len);
        if *len == 0 {
            break;
        }
        let source = match source.checked_sub(base.len()) {
            Some(in_result) => Source::Back(at.saturating_sub(in_result)),
            None => Source::Base(*source),
        };
        // What was written since the last copy counts for where the next is expected.
        models.since = models.since.saturating_add(literals.len());
        models.place(&mut coder, source);
        models.copy_len(&mut coder, source, *len);
        let last = done.checked_sub(1).and_then(|last| result.get(last));
        models.advance(0, source, *len, last.copied().unwrap_or_default());
        if done == result.len() {
            break;
        }
    }
    coder.finish();
    out.len() < limit
}

const fn malformed(what: &'static str) -> DeltaError {
    DeltaError::Malformed { form: Form::Copies, what }
}

/// Appends the result of `len` bytes to an empty `out`, taking memory only as it fills.
pub(crate) fn decode(payload: &[u8], base: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), DeltaError> {
    let mut models = Models::NEW;
    let mut coder = RangeDecoder::new(payload);
    out.reserve(len.min(RESERVE_MAX));
    while out.len() < len {
        let literals = models.literal_len(&mut coder, 0);
        if literals > len.saturating_sub(out.len()) {
            return Err(malformed("new bytes within the result"));
        }
        for _ in 0..literals {
            out.push(models.literal(&mut coder, 0));
            if coder.is_past_the_end() {
                return Err(malformed("as many new bytes as counted"));
            }
        }
        if out.len() == len {
            break;
        }
        models.since = models.since.saturating_add(literals);
        let source = models.place(&mut coder, Source::Base(0));
        let count = models.copy_len(&mut coder, source, 0);
        if count == 0 || count > len.saturating_sub(out.len()) || coder.is_past_the_end() {
            return Err(malformed("a copy that is not empty and ends within the result"));
        }
        copy(base, source, count, out).ok_or(malformed("a copy of what there is"))?;
        models.advance(0, source, count, out.last().copied().unwrap_or_default());
    }
    if coder.is_empty() { Ok(()) } else { Err(malformed("nothing behind the last byte")) }
}

fn copy(base: &[u8], source: Source, count: usize, out: &mut Vec<u8>) -> Option<()> {
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
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::super::matcher::Matcher;
    use super::*;
    use crate::delta::edits::edits;

    fn round_trip(base: &[u8], result: &[u8]) -> usize {
        let (mut copies, mut payload, mut out) = (Vec::new(), Vec::new(), Vec::new());
        Matcher::default().find(base, result, &mut copies);
        assert!(encode(base, result, &copies, usize::MAX, &mut payload));
        decode(&payload, base, result.len(), &mut out).unwrap();
        assert_eq!(out, result);
        let mut again = Vec::new();
        assert!(!encode(base, result, &copies, payload.len(), &mut again), "no shorter than it is");
        again.clear();
        assert!(encode(base, result, &copies, payload.len() + 1, &mut again));
        assert_eq!(again, payload);
        payload.len()
    }

    proptest! {
        #[test]
        fn values_come_back((base, result) in edits(0_u8..6)) {
            round_trip(&base, &result);
        }

        #[test]
        fn any_bytes_decode_to_an_error_or_to_so_many_bytes(
            payload in prop::collection::vec(any::<u8>(), 0..60),
            base in prop::collection::vec(any::<u8>(), 0..60),
            len in 0_usize..5_000,
        ) {
            let mut out = Vec::new();
            if decode(&payload, &base, len, &mut out).is_ok() {
                prop_assert_eq!(out.len(), len);
            }
            prop_assert!(out.len() <= len);
        }

        #[test]
        fn zigzag_has_an_inverse(at in 0_u64..1 << 33, from in 0_u64..1 << 33) {
            prop_assert_eq!(unzigzag(zigzag(at, from), from), at);
        }
    }

    #[test]
    fn copies_of_what_is_not_there_are_refused() {
        let refused = |source: Source, len: usize| {
            let (mut payload, mut models) = (Vec::new(), Models::NEW);
            let mut coder = RangeEncoder::new(&mut payload);
            models.literal_len(&mut coder, 2);
            for byte in b"ab" {
                models.literal(&mut coder, *byte);
            }
            models.since = 2;
            models.place(&mut coder, source);
            models.copy_len(&mut coder, source, len);
            coder.finish();
            let mut out = Vec::new();
            match decode(&payload, b"base", 6, &mut out) {
                Ok(()) => Ok(out),
                Err(DeltaError::Malformed { what, .. }) => Err(what),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(refused(Source::Base(0), 4).unwrap(), b"abbase");
        assert_eq!(refused(Source::Back(2), 4).unwrap(), b"ababab");
        assert_eq!(refused(Source::Back(1), 4).unwrap(), b"abbbbb");
        let not_there = Err("a copy of what there is");
        assert_eq!(refused(Source::Back(0), 4), not_there);
        assert_eq!(refused(Source::Back(3), 4), not_there);
        assert_eq!(refused(Source::Base(1), 4), not_there);
        assert_eq!(refused(Source::Base(usize::MAX >> 32), 4), not_there);
        let too_long = Err("a copy that is not empty and ends within the result");
        assert_eq!(refused(Source::Base(0), 5), too_long);
        assert_eq!(refused(Source::Base(0), 0), too_long);
    }

    #[test]
    fn noise_is_given_up_early_and_noise_that_is_known_is_not() {
        let scramble = |at: u64| at.wrapping_mul(at).wrapping_mul(0x9E37_79B9).to_le_bytes()[4];
        let noise: Vec<u8> = (0..100_000).map(scramble).collect();
        let mut payload = Vec::new();
        assert!(!encode(b"", &noise, &[], usize::MAX, &mut payload));
        assert!(payload.len() < 2 * PART, "{}", payload.len());
        let mut edited = noise.clone();
        edited.splice(50_000..50_000, noise.iter().take(3_000).map(|byte| byte.rotate_left(3)));
        let len = round_trip(&noise, &edited);
        assert!((3_000..3_300).contains(&len), "{len}");
    }

    #[test]
    fn places_near_by_are_small_numbers() {
        assert_eq!([9, 10, 11, 8].map(|at| zigzag(at, 10)), [1, 0, 2, 3]);
        assert_eq!(unzigzag(23, 10), u64::MAX, "before the beginning");
    }

    #[test]
    fn edits_of_a_text_are_small() {
        // Always of one length: how long a copy is takes more or fewer bytes with it.
        let text = include_str!("copies.rs").replace("\n", "\n  ");
        let base: Vec<u8> = text.bytes().cycle().take(16_354).collect();
        let base = base.as_slice();
        assert_eq!(round_trip(base, base), 4);
        let mut result = base.to_vec();
        result.splice(3_000..3_000, *b"an insertion of about this size");
        let inserted = round_trip(base, &result);
        assert!(inserted < 45, "{inserted}");
        result.drain(5_000..5_300);
        let deleted = round_trip(base, &result);
        assert!(deleted < inserted + 9, "{deleted}");
        let rot13 =
            |byte: &u8| if byte.is_ascii_lowercase() { (byte - b'a' + 13) % 26 + b'a' } else { *byte };
        let rotated: Vec<u8> = base.iter().map(rot13).collect();
        assert!(round_trip(base, &rotated) < base.len() / 2);
        assert!(round_trip(b"", &[7; 100_000]) < 12);
    }
}
