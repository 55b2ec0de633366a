//! The merge as it is defined, one bit after the other: what the tests hold the real one against.

use super::{Conflict, Side};

/// What can be asked of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    LastWins,
    FirstWins,
    Xor,
    Reject,
}

/// The result, by the table of the module's page.
pub(super) fn merge(
    base: Side<'_>,
    first: Side<'_>,
    last: Side<'_>,
    kind: Kind,
) -> Result<Option<Vec<u8>>, Conflict> {
    let has_changed = |side: Side<'_>| side.map(<[u8]>::to_vec) != base.map(<[u8]>::to_vec);
    let own = |side: Side<'_>| Ok(side.map(<[u8]>::to_vec));
    match (has_changed(first), has_changed(last)) {
        (false, _) => own(last),
        (true, false) => own(first),
        (true, true) if first.map(<[u8]>::to_vec) == last.map(<[u8]>::to_vec) => own(first),
        (true, true) => match kind {
            Kind::LastWins => own(last),
            Kind::FirstWins => own(first),
            Kind::Reject => Err(Conflict::Rejected),
            Kind::Xor => bit_by_bit(base, first, last).map(Some),
        },
    }
}

fn bit(value: &[u8], at: usize) -> bool {
    value[at / 8] & (1 << (at % 8)) != 0
}

fn bit_by_bit(base: Side<'_>, first: Side<'_>, last: Side<'_>) -> Result<Vec<u8>, Conflict> {
    let Some(base) = base else { return Err(Conflict::BothCreated) };
    let (Some(first), Some(last)) = (first, last) else { return Err(Conflict::DeletedAndChanged) };
    if [first.len(), last.len()] != [base.len(); 2] {
        return Err(Conflict::LengthsDiffer { base: base.len(), first: first.len(), last: last.len() });
    }
    let mut merged = vec![0; base.len()];
    let mut both = Vec::new();
    for at in 0..base.len() * 8 {
        let value = match (bit(first, at) != bit(base, at), bit(last, at) != bit(base, at)) {
            (true, true) => {
                both.push(at);
                continue;
            }
            (true, false) => bit(first, at),
            (false, true) => bit(last, at),
            (false, false) => bit(base, at),
        };
        merged[at / 8] |= u8::from(value) << (at % 8);
    }
    let count = |number: usize| u64::try_from(number).unwrap();
    match both.first() {
        Some(bit) => Err(Conflict::Overlap { first_bit: count(*bit), bits: count(both.len()) }),
        None => Ok(merged),
    }
}
