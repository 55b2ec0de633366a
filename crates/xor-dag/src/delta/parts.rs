//! The form `parts`: what `copies` says, in whole bytes.
//!
//! For small edits of texts. The range coder would save a part of what is a small part of the value already, and takes many
//! times as long to read: a bit behind the other, where this is a few copies.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::layout::{disk_len, memory_len};
use keepstone_types::wire::{Reader, put_varint, varint_len};

use super::matcher::Copied;
use super::way::{Place, RESERVE_MAX, Source, Way, copy};
use super::{DeltaError, Form};

/// Bits of a copy's number that say where it is taken from.
const PLACE_BITS: u32 = 2;

/// The number of a copy: its length, and where it is taken from.
fn number_of(place: Place, len: usize) -> u64 {
    disk_len(len) << PLACE_BITS | disk_len(place.index())
}

/// Whether a copy takes fewer bytes than what it copies, with the count of new bytes before it.
fn is_worth_it((place, offset): (Place, u64), len: usize) -> bool {
    let of_offset = if place.has_number() { varint_len(offset) } else { 0 };
    let cost = varint_len(number_of(place, len)).saturating_add(of_offset);
    cost.saturating_add(1) < len
}

/// Appends the payload, unless it would have `limit` bytes or more; then it says `false`.
pub(crate) fn encode(base: &[u8], result: &[u8], copies: &[Copied], limit: usize, out: &mut Vec<u8>) -> bool {
    let limit = limit.saturating_add(out.len());
    let (mut way, mut done) = (Way::NEW, 0);
    for Copied { at, source, len } in copies {
        let source = Source::of(base, *at, *source);
        let new = result.get(done..*at).unwrap_or_default();
        let mut here = way;
        here.wrote(new.len());
        let said = here.place_of(source);
        if !is_worth_it(said, *len) {
            continue;
        }
        if out.len().saturating_add(new.len()) >= limit {
            return false;
        }
        put_varint(out, disk_len(new.len()));
        out.extend_from_slice(new);
        let (place, offset) = said;
        put_varint(out, number_of(place, *len));
        if place.has_number() {
            put_varint(out, offset);
        }
        here.copied(source, *len);
        (way, done) = (here, at.saturating_add(*len));
    }
    let new = result.get(done..).unwrap_or_default();
    if !new.is_empty() {
        put_varint(out, disk_len(new.len()));
        if out.len().saturating_add(new.len()) >= limit {
            return false;
        }
        out.extend_from_slice(new);
    }
    out.len() < limit
}

const fn malformed(what: &'static str) -> DeltaError {
    DeltaError::Malformed { form: Form::Parts, what }
}

/// Appends the result of `len` bytes to an empty `out`, taking memory only as it fills.
pub(crate) fn decode(payload: &[u8], base: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), DeltaError> {
    let mut reader = Reader::new(payload);
    let mut way = Way::NEW;
    out.reserve(len.min(RESERVE_MAX));
    while out.len() < len {
        let number = |reader: &mut Reader<'_>| reader.varint().map_err(|_| malformed("a number"));
        let count = memory_len(number(&mut reader)?);
        if count > len.saturating_sub(out.len()) {
            return Err(malformed("new bytes within the result"));
        }
        out.extend_from_slice(reader.bytes(count).map_err(|_| malformed("as many new bytes as counted"))?);
        if out.len() == len {
            break;
        }
        way.wrote(count);
        let copied = number(&mut reader)?;
        let place = Place::at(memory_len(copied & ((1 << PLACE_BITS) - 1)));
        let offset = if place.has_number() { number(&mut reader)? } else { 0 };
        let (source, count) = (way.source(place, offset), memory_len(copied >> PLACE_BITS));
        if count == 0 || count > len.saturating_sub(out.len()) {
            return Err(malformed("a copy that is not empty and ends within the result"));
        }
        copy(base, source, count, out).ok_or(malformed("a copy of what there is"))?;
        way.copied(source, count);
    }
    if reader.rest().is_empty() { Ok(()) } else { Err(malformed("nothing behind the last byte")) }
}

#[cfg(test)]
mod tests {
    use super::super::matcher::Matcher;
    use super::*;

    #[test]
    fn examples_byte_by_byte() {
        let base = b"0123456789abcdefghij";
        let coded = |result: &[u8]| {
            let (mut copies, mut payload) = (Vec::new(), Vec::new());
            Matcher::default().find(base, result, &mut copies);
            assert!(encode(base, result, &copies, usize::MAX, &mut payload));
            payload
        };
        assert_eq!(coded(base), [0, 20 << 2]);
        assert_eq!(coded(b"0123456789XYabcdefghij"), [0, 10 << 2, 2, b'X', b'Y', 10 << 2], "inserted");
        assert_eq!(coded(b"0123456789XYcdefghij"), [0, 10 << 2, 2, b'X', b'Y', 8 << 2 | 1], "replaced");
        assert_eq!(coded(b"abcdefghij"), [0, 10 << 2 | 2, 20], "from ten on");
        assert_eq!(coded(b"ZZZZZZZZZZZZ"), [1, b'Z', 11 << 2 | 3, 1], "what was just written, again");
        assert_eq!(coded(b"?!"), [2, b'?', b'!']);
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let what = |payload: &[u8]| match decode(payload, b"base", 6, &mut Vec::new()) {
            Err(DeltaError::Malformed { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(what(&[]), "a number");
        assert_eq!(what(&[7, 0, 0, 0, 0, 0, 0, 0]), "new bytes within the result");
        assert_eq!(what(&[3, 0, 0]), "as many new bytes as counted");
        assert_eq!(what(&[2, 0, 0]), "a number");
        let outside = "a copy that is not empty and ends within the result";
        assert_eq!(what(&[2, 0, 0, 0]), outside);
        assert_eq!(what(&[2, 0, 0, 5 << 2]), outside);
        assert_eq!(what(&[0, 4 << 2 | 2]), "a number");
        let not_there = "a copy of what there is";
        assert_eq!(what(&[0, 5 << 2]), not_there);
        assert_eq!(what(&[0, 4 << 2 | 2, 2]), not_there);
        assert_eq!(what(&[0, 4 << 2 | 2, 1]), not_there, "before the beginning");
        assert_eq!(what(&[2, 0, 0, 4 << 2 | 3, 0]), not_there);
        assert_eq!(what(&[2, 0, 0, 4 << 2 | 3, 3]), not_there);
        assert_eq!(what(&[6, 1, 2, 3, 4, 5, 6, 0]), "nothing behind the last byte");
        let mut huge = vec![0];
        put_varint(&mut huge, u64::MAX);
        assert_eq!(what(&huge), "a number");
    }
}
