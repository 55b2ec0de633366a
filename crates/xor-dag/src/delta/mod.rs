//! Deltas: a value as what leads to it from another, verified at both ends.
//!
//! [`Encoder::encode`] writes the smallest of seven [forms](Form) it knows; [`decode_into`] gives the value back, or an error
//! and nothing; [`inspect`] reads what a delta says of itself. A delta carries the checksums of its base and of its result
//! and a seal over all its bytes, so that damage and a wrong base are told apart, before anything is decoded.
//!
//! ```
//! use keepstone_xor_dag::delta::{Encoder, Form, decode_into, inspect};
//!
//! let old = b"A value, its first version; long enough that a change of it is shorter.";
//! let new = b"A value, its other version; long enough that a change of it is shorter.";
//! let (mut encoder, mut delta, mut out) = (Encoder::new(), Vec::new(), Vec::new());
//! encoder.encode(Some(old), new, &mut delta);
//! assert!(delta.len() < new.len());
//!
//! decode_into(&delta, Some(old), &mut out, 1 << 20)?;
//! assert_eq!(out, new);
//! assert_eq!(inspect(&delta)?.form, Form::Runs);
//! assert!(decode_into(&delta, Some(b"another base"), &mut out, 1 << 20).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod copies;
#[cfg(test)]
mod copying;
#[cfg(test)]
mod edits;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod forge;
mod head;
mod matcher;
mod numbers;
mod parts;
mod range_coder;
mod rice;
mod runs;
mod sparse;
mod way;
mod whole;

use keepstone_types::checksum::checksum;
use keepstone_types::layout::memory_len;

use matcher::{Copied, Matcher};
use whole::Lz4;

pub use error::DeltaError;
pub use head::{DeltaInfo, Form, ValueInfo};
#[cfg(test)]
pub(crate) use head::{FORMS, HEAD_FIELDS, HEAD_LEN};

/// Makes deltas, and keeps the memory that this takes from one value to the next.
#[derive(Debug, Default)]
pub struct Encoder {
    matcher: Matcher,
    copies: Vec<Copied>,
    lz4: Lz4,
    payload: Vec<u8>,
}

/// What a payload would be, and the bytes that it takes at most.
#[derive(Clone, Copy, Debug)]
struct Plan {
    form: Form,
    cost: usize,
    /// Bytes of a word, where the form has words.
    width: usize,
}

impl Encoder {
    /// An encoder that has taken no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces `out` by a delta that leads from `base` to `result`, in the form that promises to be the shortest,
    /// or nearly so and much faster to read.
    ///
    /// Without a base, and where none helps, it is a keyframe: [`Form::is_whole`].
    pub fn encode(&mut self, base: Option<&[u8]>, result: &[u8], out: &mut Vec<u8>) -> Form {
        out.clear();
        self.payload.clear();
        let form = match base {
            Some(base) => self.against(base, result),
            None => self.whole(result),
        };
        let base = base.filter(|_| !form.is_whole()).map(ValueInfo::of);
        head::put_head(out, form, base, ValueInfo::of(result));
        out.extend_from_slice(if form == Form::Whole { result } else { &self.payload });
        head::seal(out);
        form
    }

    /// Fills the payload by the shortest way from the base, unless that is the whole result.
    fn against(&mut self, base: &[u8], result: &[u8]) -> Form {
        let plan = Self::plan(base, result);
        if plan.copies_may_be_shorter(base, result)
            && base.len().saturating_add(result.len()) <= matcher::WINDOW_MAX
        {
            self.matcher.find(base, result, &mut self.copies);
            let plain_max = plan.best.cost.min(PLAIN_MAX.max(result.len() / PLAIN_PART));
            if parts::encode(base, result, &self.copies, plain_max, &mut self.payload) {
                return Form::Parts;
            }
            self.payload.clear();
            if copies::encode(base, result, &self.copies, plan.best.cost, &mut self.payload) {
                return Form::Copies;
            }
            self.payload.clear();
        }
        match plan.best.form {
            Form::Runs => runs::encode(base, result, &mut self.payload),
            Form::Words => {
                sparse::encode_words(plan.changed, plan.best.width, base, result, &mut self.payload)
            }
            Form::Bits => sparse::encode_bits(plan.changed, base, result, &mut self.payload),
            Form::Whole | Form::WholeLz4 | Form::Copies | Form::Parts => return self.whole(result),
        }
        plan.best.form
    }

    /// Fills the payload with the result, shorter if LZ4 can.
    fn whole(&mut self, result: &[u8]) -> Form {
        if self.lz4.compress(result, &mut self.payload) { Form::WholeLz4 } else { Form::Whole }
    }

    /// The shortest of the forms that look at the same places of both.
    fn plan(base: &[u8], result: &[u8]) -> Plans {
        // A base costs its own checksum and length.
        let whole = Plan { form: Form::Whole, cost: result.len().saturating_sub(BASE_COST), width: 0 };
        let mut plans = Plans { best: whole, changed: sparse::Changed::default(), longest_run: 0 };
        if base.len() == result.len() {
            plans.changed = sparse::count(base, result);
            let (width, words) = sparse::words_cost(plans.changed, result.len());
            plans.consider(Plan { form: Form::Words, cost: words, width });
            let bits = sparse::bits_cost(plans.changed, result.len());
            plans.consider(Plan { form: Form::Bits, cost: bits, width: 0 });
        }
        let runs = runs::cost(base, result, plans.best.cost);
        plans.longest_run = runs.longest;
        plans.consider(Plan { form: Form::Runs, cost: runs.payload, width: 0 });
        plans
    }
}

/// Bytes of a head that only a delta with a base has, about.
const BASE_COST: usize = 9;

/// A delta so short needs no second thought.
const SHORT: usize = 24;

/// Parts of the base in so few bytes, or in so small a part of the result, are not coded further: that saves at most the
/// like, and takes several times as long to read.
const PLAIN_MAX: usize = 128;
const PLAIN_PART: usize = 32;

/// A run of changes that is no longer than this is no part that moved.
const MOVED_MIN: usize = 32;

/// The shortest form so far, and what is known of the change.
#[derive(Debug)]
struct Plans {
    best: Plan,
    changed: sparse::Changed,
    longest_run: usize,
}

impl Plans {
    fn consider(&mut self, plan: Plan) {
        if plan.cost < self.best.cost {
            self.best = plan;
        }
    }

    /// Whether something may have moved: lengths differ, or much changed in one piece, and not just bits here and there.
    fn copies_may_be_shorter(&self, base: &[u8], result: &[u8]) -> bool {
        let [bytes, ..] = self.changed.words;
        let is_dense = self.changed.bits / 2 >= bytes && self.longest_run > MOVED_MIN;
        self.best.cost > SHORT && !result.is_empty() && (base.len() != result.len() || is_dense)
    }
}

/// What a delta says of itself. Its seal is verified; its payload is not looked at.
///
/// # Errors
/// [`DeltaError`], when it is cut, damaged, or of no known form.
pub fn inspect(delta: &[u8]) -> Result<DeltaInfo, DeltaError> {
    head::open(delta).map(|(info, _)| info)
}

/// Replaces `out` by the result of a delta, of at most `max_len` bytes.
///
/// `base` is looked at only if the delta needs one. No more memory is taken than the result has, and no more for it than
/// base and payload can yield.
///
/// # Errors
/// [`DeltaError`], and `out` is empty: the delta is damaged, the base is not the one it was made against, the result is
/// longer than allowed or not the one that was encoded.
pub fn decode_into(
    delta: &[u8],
    base: Option<&[u8]>,
    out: &mut Vec<u8>,
    max_len: usize,
) -> Result<(), DeltaError> {
    out.clear();
    let decoded = decode(delta, base, out, max_len);
    if decoded.is_err() {
        out.clear();
    }
    decoded
}

fn decode(delta: &[u8], base: Option<&[u8]>, out: &mut Vec<u8>, max_len: usize) -> Result<(), DeltaError> {
    let (info, payload) = head::open(delta)?;
    is_within(info, max_len)?;
    let base = match info.base {
        Some(expected) => verified(expected, base)?,
        None => &[],
    };
    yield_result(info, payload, base, out)?;
    proved(info.result, out)
}

/// Fails when the result has more than so many bytes.
pub(crate) fn is_within(info: DeltaInfo, max: usize) -> Result<(), DeltaError> {
    let length = info.result.length;
    if memory_len(length) <= max { Ok(()) } else { Err(DeltaError::TooLong { length, max }) }
}

/// Appends to an empty `out` what a payload yields, of the length that the head says; whether it is the result is still
/// to be [`proved`]. `base` is the one that the head names.
pub(crate) fn yield_result(
    info: DeltaInfo,
    payload: &[u8],
    base: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DeltaError> {
    let (form, len) = (info.form, memory_len(info.result.length));
    match form {
        Form::Whole => out.extend_from_slice(payload),
        Form::WholeLz4 => whole::decompress(payload, len, out)?,
        Form::Runs => runs::decode(payload, base, len, out)?,
        Form::Words | Form::Bits if base.len() != len => {
            return Err(DeltaError::Malformed { form, what: "a result as long as its base" });
        }
        Form::Words => sparse::decode_words(payload, base, out)?,
        Form::Bits => sparse::decode_bits(payload, base, out)?,
        Form::Copies => copies::decode(payload, base, len, out)?,
        Form::Parts => parts::decode(payload, base, len, out)?,
    }
    if out.len() == len {
        return Ok(());
    }
    Err(DeltaError::Malformed { form, what: "a result of the length that the head says" })
}

/// Fails unless these are the bytes that were encoded.
pub(crate) fn proved(expected: ValueInfo, result: &[u8]) -> Result<(), DeltaError> {
    let (found, expected) = (checksum(result), expected.checksum);
    if found == expected { Ok(()) } else { Err(DeltaError::WrongResult { expected, found }) }
}

/// The base, if it is the one that is expected.
pub(crate) fn verified(expected: ValueInfo, base: Option<&[u8]>) -> Result<&[u8], DeltaError> {
    let ValueInfo { length, checksum } = expected;
    let base = base.ok_or(DeltaError::BaseMissing { length, checksum })?;
    let found = ValueInfo::of(base);
    if found == expected {
        return Ok(base);
    }
    Err(DeltaError::WrongBase {
        expected_length: expected.length,
        expected_checksum: expected.checksum,
        found_length: found.length,
        found_checksum: found.checksum,
    })
}

#[cfg(test)]
mod tests;
