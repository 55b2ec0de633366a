//! Deltas: what any bytes are taken for, and what is written and read back.

use arbitrary::Unstructured;

use crate::delta::{DeltaError, Encoder, Form, ValueInfo, decode_into, forge, inspect};

/// What a target lets a result have, in bytes.
const RESULT_MAX: usize = 64 << 10;

pub(super) fn delta(input: &[u8]) {
    check(input, b"some base");
    let sealed = forge::sealed(input);
    check(&sealed, b"some base");
    let mut input = Unstructured::new(input);
    let Ok(length) = input.int_in_range(0..=RESULT_MAX) else { return };
    let Ok(split) = input.arbitrary::<u8>() else { return };
    let rest = input.take_rest();
    let (base, payload) = rest.split_at(usize::from(split).min(rest.len()));
    for tag in 1..=7 {
        // With a length that fits the form, too, where there is one.
        for length in [length, base.len()] {
            let form = Form::from_tag(tag).unwrap();
            let result = ValueInfo { length: u64::try_from(length).unwrap(), checksum: 1 };
            let forged = forge::delta(form, base, result, payload);
            check(&forged, base);
            let mut out = Vec::new();
            let Err(error) = decode_into(&forged, Some(base), &mut out, RESULT_MAX) else { continue };
            // What decodes has the wrong checksum; with the right one it is a value.
            if let DeltaError::WrongResult { found, .. } = error {
                let forged = forge::delta(form, base, ValueInfo { checksum: found, ..result }, payload);
                decode_into(&forged, Some(base), &mut out, RESULT_MAX).unwrap();
                assert_eq!(out.len(), length);
                assert_eq!(ValueInfo::of(&out).checksum, found);
            }
        }
    }
}

/// A result is what the head says, or there is none.
fn check(delta: &[u8], base: &[u8]) {
    let mut out = b"left over".to_vec();
    let decoded = decode_into(delta, Some(base), &mut out, RESULT_MAX);
    match (decoded, inspect(delta)) {
        (Ok(()), Ok(info)) => {
            assert_eq!(info.result, ValueInfo::of(&out));
            assert!(info.base.is_none_or(|of| of == ValueInfo::of(base)));
            assert!(info.payload_length < delta.len());
        }
        (Ok(()), Err(error)) => panic!("a value from what is no delta: {error}"),
        (Err(error), _) => {
            assert!(out.is_empty());
            assert!(error.to_string().len() < 250, "{error}");
        }
    }
}

pub(super) fn edit(input: &[u8]) {
    let Some((split, values)) = input.split_first_chunk::<2>() else { return };
    let (base, result) = values.split_at(usize::from(u16::from_le_bytes(*split)).min(values.len()));
    let (mut encoder, mut delta, mut out) = (Encoder::new(), Vec::new(), Vec::new());
    for base in [None, Some(base), Some(result)] {
        let form = encoder.encode(base, result, &mut delta);
        assert!(delta.len() <= result.len() + 32, "{form}: {} bytes for {}", delta.len(), result.len());
        decode_into(&delta, base, &mut out, result.len()).unwrap();
        assert_eq!(out, result, "{form}");
        assert_eq!(inspect(&delta).unwrap().base, base.filter(|_| !form.is_whole()).map(ValueInfo::of));
        for at in (0..delta.len()).step_by(delta.len() / 16 + 1) {
            let mut damaged = delta.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(decode_into(&damaged, base, &mut out, result.len()).is_err(), "{form}, byte {at}");
        }
    }
}
