//! The codec as a whole: every form comes back, damage and wrong bases are found, lengths are bounded.

use proptest::prelude::*;

use super::*;

const MAX: usize = 1 << 20;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// A base and a result for which each form is the shortest.
fn examples() -> [(Form, Option<Vec<u8>>, Vec<u8>); 7] {
    let base = noise(2_048, 1);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut result = base.clone();
        change(&mut result);
        (Some(base.clone()), result)
    };
    let runs = changed(&|value| value[100..130].copy_from_slice(&noise(30, 9)));
    let words = changed(&|value| (0..2_048).step_by(200).for_each(|at| value[at..at + 8].fill(0x55)));
    let bits = changed(&|value| (0..16_384).step_by(37).for_each(|at| value[at / 8] ^= 1 << (at % 8)));
    let sentence = "A sentence that says little, and says it in more words than what it says is worth. ";
    let more = "A sentence behind it that says as little, but needs even more words to say nothing at all. ";
    let copies = changed(&|value| drop(value.splice(500..500, sentence.bytes().chain(more.bytes()))));
    let parts = changed(&|value| drop(value.splice(500..500, *b"inserted")));
    [
        (Form::Whole, None, base.clone()),
        (Form::WholeLz4, None, b"again and ".repeat(40)),
        (Form::Runs, runs.0, runs.1),
        (Form::Words, words.0, words.1),
        (Form::Bits, bits.0, bits.1),
        (Form::Copies, copies.0, copies.1),
        (Form::Parts, parts.0, parts.1),
    ]
}

fn encode(base: Option<&[u8]>, result: &[u8]) -> Vec<u8> {
    let mut delta = Vec::new();
    Encoder::new().encode(base, result, &mut delta);
    delta
}

#[test]
fn each_form_is_chosen_where_it_is_the_shortest_and_comes_back() {
    for (form, base, result) in examples() {
        let delta = encode(base.as_deref(), &result);
        let info = inspect(&delta).unwrap();
        assert_eq!(info.form, form);
        assert_eq!(info.result, ValueInfo::of(&result));
        assert_eq!(info.base, base.as_deref().map(ValueInfo::of), "{form}");
        assert_eq!(info.form.is_whole(), base.is_none());
        let mut out = b"left over".to_vec();
        decode_into(&delta, base.as_deref(), &mut out, result.len()).unwrap();
        assert_eq!(out, result, "{form}");
    }
}

#[test]
fn a_change_of_any_bit_and_a_cut_at_any_byte_are_found_without_a_result() {
    for (form, base, result) in examples() {
        let delta = encode(base.as_deref(), &result);
        let mut out = Vec::new();
        for bit in 0..delta.len() * 8 {
            let mut damaged = delta.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = decode_into(&damaged, base.as_deref(), &mut out, MAX);
            assert!(matches!(found, Err(DeltaError::Damaged { .. })), "{form}, bit {bit}: {found:?}");
            assert!(inspect(&damaged).is_err() && out.is_empty());
        }
        for end in 0..delta.len() {
            assert!(
                decode_into(&delta[..end], base.as_deref(), &mut out, MAX).is_err(),
                "{form}, cut to {end}"
            );
        }
        let longer = [&delta[..], &[0]].concat();
        assert!(matches!(
            decode_into(&longer, base.as_deref(), &mut out, MAX),
            Err(DeltaError::Damaged { .. })
        ));
    }
}

/// With the seal put right, as another program or a defect would write it: an error or the very result, nothing else.
#[test]
fn behind_a_right_seal_the_checksum_of_the_result_still_holds() {
    for (form, base, result) in examples() {
        let delta = encode(base.as_deref(), &result);
        let mut out = Vec::new();
        for bit in 32..delta.len() * 8 {
            let mut forged = delta.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            head::seal(&mut forged);
            match decode_into(&forged, base.as_deref(), &mut out, MAX) {
                Ok(()) => assert_eq!(out, result, "{form}, bit {bit}"),
                Err(_) => assert!(out.is_empty()),
            }
        }
    }
}

#[test]
fn a_wrong_base_is_told_before_anything_is_decoded() {
    for (form, base, result) in examples() {
        let Some(base) = base else { continue };
        let delta = encode(Some(&base), &result);
        let mut out = Vec::new();
        let missing = decode_into(&delta, None, &mut out, MAX);
        assert!(matches!(missing, Err(DeltaError::BaseMissing { length: 2_048, .. })), "{form}: {missing:?}");
        let mut other = base.clone();
        other[2_000] ^= 1;
        for wrong in [&other[..], &base[..2_047], b""] {
            let found = decode_into(&delta, Some(wrong), &mut out, MAX);
            assert!(matches!(found, Err(DeltaError::WrongBase { expected_length: 2_048, .. })), "{form}");
            assert!(out.is_empty());
            assert_eq!(out.capacity(), 0, "no memory was taken");
        }
    }
}

#[test]
fn a_result_longer_than_allowed_is_refused_before_memory_is_taken() {
    for (form, base, result) in examples() {
        let delta = encode(base.as_deref(), &result);
        let mut out = Vec::new();
        let (length, max) = (ValueInfo::of(&result).length, result.len() - 1);
        let found = decode_into(&delta, base.as_deref(), &mut out, max);
        assert_eq!(found, Err(DeltaError::TooLong { length, max }), "{form}");
        assert_eq!(out.capacity(), 0);
    }
}

#[test]
fn a_length_that_the_payload_cannot_yield_is_refused() {
    for form in [Form::Whole, Form::WholeLz4, Form::Runs, Form::Words, Form::Bits, Form::Copies, Form::Parts]
    {
        let (mut forged, mut out) = (Vec::new(), Vec::new());
        let base = Some(ValueInfo::of(b"base")).filter(|_| !form.is_whole());
        let result = ValueInfo { length: 1 << 40, checksum: 0 };
        head::put_head(&mut forged, form, base, result);
        forged.extend([0; 8]);
        head::seal(&mut forged);
        let found = decode_into(&forged, Some(b"base"), &mut out, usize::MAX);
        assert!(matches!(found, Err(DeltaError::Malformed { .. })), "{form}: {found:?}");
        assert!(out.capacity() <= 2 << 20, "{form}: {} bytes", out.capacity());
    }
    let mut unknown = encode(None, b"value");
    unknown[4] = 8;
    head::seal(&mut unknown);
    assert_eq!(inspect(&unknown), Err(DeltaError::UnknownForm { tag: 8 }));
}

#[test]
fn equal_values_and_empty_ones_cost_a_head() {
    let value = noise(5_000, 3);
    assert!(encode(Some(&value), &value).len() <= 26);
    assert!(encode(Some(&value), b"").len() <= 26);
    assert_eq!(encode(None, b"").len(), 14);
    assert_eq!(inspect(&encode(Some(b""), &value)).unwrap().form, Form::Whole);
}

/// Edits as they happen: parts kept, replaced, put in, taken out, moved, and bits flipped.
fn edited() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let byte = || prop_oneof![0_u8..4, any::<u8>()];
    let edit = (0_u8..5, any::<prop::sample::Index>(), prop::collection::vec(byte(), 0..40));
    (prop::collection::vec(byte(), 0..2_000), prop::collection::vec(edit, 0..6)).prop_map(|(base, edits)| {
        let mut result = base.clone();
        for (kind, at, bytes) in edits {
            let at = at.index(result.len() + 1);
            let end = result.len().min(at + bytes.len());
            match kind {
                0 => drop(result.splice(at..at, bytes)),
                1 => drop(result.splice(at..end, bytes)),
                2 => drop(result.drain(at..end)),
                3 => result.rotate_left(at),
                _ => result[at..end].iter_mut().zip(bytes).for_each(|(byte, flip)| *byte ^= flip & 0x11),
            }
        }
        (base, result)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_edit_comes_back_and_is_hardly_longer_than_the_value((base, result) in edited()) {
        let mut encoder = Encoder::new();
        let (mut delta, mut second, mut out) = (Vec::new(), vec![1, 2, 3], Vec::new());
        // An encoder that was used for something else writes the same.
        encoder.encode(Some(&result), &base, &mut delta);
        encoder.encode(Some(&base), &result, &mut delta);
        let form = Encoder::new().encode(Some(&base), &result, &mut second);
        prop_assert_eq!(&delta, &second);
        decode_into(&delta, Some(&base), &mut out, result.len()).unwrap();
        prop_assert_eq!(&out, &result);
        prop_assert!(delta.len() <= result.len() + 26, "{} bytes for {} as {}", delta.len(), result.len(), form);
    }

    #[test]
    fn any_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(decode_into(&bytes, Some(b"base"), &mut Vec::new(), MAX).is_err());
    }
}
