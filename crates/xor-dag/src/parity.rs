//! The arithmetic of parity: the XOR of blocks of one length.
//!
//! It is plain safe code in the shape that compilers turn into vector instructions: fixed blocks of 64 bytes, a tail of
//! single bytes. In memory it runs at the speed of the memory, as `cargo xtask bench parity` shows beside a plain copy.

pub use keepstone_types::layout::is_zero;

/// Bytes that are taken in one step: a cache line, four vectors of the smallest kind.
const BLOCK: usize = 64;

/// Sources that one pass over a target takes; more at once would be more streams than memory is read ahead for.
const SOURCES_PER_PASS: usize = 4;

/// XORs `source` into `target`.
///
/// # Panics
///
/// If the lengths differ, like [`slice::copy_from_slice`]: blocks of one group have one length, so a difference is a
/// mistake of the caller.
pub fn xor_into(target: &mut [u8], source: &[u8]) {
    xor_pass(target, [source]);
}

/// XORs all of `sources` into `target`, several in each pass, so that the target is read and written less often.
///
/// # Panics
///
/// If the length of a source is not that of the target; the target is then partly changed.
pub fn xor_all_into(target: &mut [u8], sources: &[&[u8]]) {
    let (passes, rest) = sources.as_chunks::<SOURCES_PER_PASS>();
    for pass in passes {
        xor_pass(target, *pass);
    }
    match *rest {
        [a] => xor_pass(target, [a]),
        [a, b] => xor_pass(target, [a, b]),
        [a, b, c] => xor_pass(target, [a, b, c]),
        _ => {}
    }
}

fn xor_pass<const N: usize>(target: &mut [u8], sources: [&[u8]; N]) {
    for source in sources {
        assert_eq!(source.len(), target.len(), "the length of a source of an XOR beside that of its target");
    }
    let (target_blocks, target_tail) = target.as_chunks_mut::<BLOCK>();
    let mut blocks = sources.map(|source| source.as_chunks::<BLOCK>().0.iter());
    for target in target_blocks {
        // Summed in registers and written once.
        let mut sum = *target;
        for block in blocks.iter_mut().filter_map(Iterator::next) {
            xor_block(&mut sum, block);
        }
        *target = sum;
    }
    for source in sources {
        for (target, source) in target_tail.iter_mut().zip(source.as_chunks::<BLOCK>().1) {
            *target ^= source;
        }
    }
}

#[inline(always)]
fn xor_block(target: &mut [u8; BLOCK], source: &[u8; BLOCK]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target ^= source;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference: one byte after the other.
    fn reference(target: &mut [u8], sources: &[&[u8]]) {
        for (at, byte) in target.iter_mut().enumerate() {
            for source in sources {
                *byte ^= source[at];
            }
        }
    }

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

    #[test]
    fn is_the_reference_at_every_length_offset_and_number_of_sources() {
        for len in 0..200 {
            for offset in [0, 1, 3, 7] {
                for count in 0..10 {
                    // Sources at other offsets than the target, so that nothing is aligned to anything.
                    let sources: Vec<Vec<u8>> = (1..=count).map(|seed| noise(len + 16, seed)).collect();
                    let sources: Vec<&[u8]> =
                        sources.iter().zip(1..).map(|(source, at)| &source[at..at + len]).collect();
                    let whole = noise(len + 16, 99);
                    let (mut ours, mut expected) = (whole.clone(), whole);
                    xor_all_into(&mut ours[offset..offset + len], &sources);
                    reference(&mut expected[offset..offset + len], &sources);
                    assert_eq!(ours, expected, "{len} bytes at {offset} from {count} sources");
                }
            }
        }
    }

    #[test]
    fn one_source_is_the_reference() {
        for len in 0..200 {
            for offset in 0..9 {
                let source = noise(len + 16, 5);
                let (mut ours, mut expected) = (noise(len + 16, 6), noise(len + 16, 6));
                xor_into(&mut ours[offset..offset + len], &source[3..3 + len]);
                reference(&mut expected[offset..offset + len], &[&source[3..3 + len]]);
                assert_eq!(ours, expected, "{len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn every_single_bit_is_seen() {
        for len in 0..200 {
            let mut bytes = vec![0; len + 2];
            (bytes[0], bytes[len + 1]) = (1, 1);
            assert!(is_zero(&bytes[1..=len]), "{len} bytes");
            for bit in 0..len * 8 {
                bytes[1 + bit / 8] = 1 << (bit % 8);
                assert!(!is_zero(&bytes[1..=len]), "bit {bit} of {len} bytes");
                bytes[1 + bit / 8] = 0;
            }
        }
    }

    #[test]
    fn lengths_that_differ_are_refused() {
        for (target, source) in [(64, 63), (64, 65), (0, 1), (128, 64), (1, 0)] {
            for sources in 1..=5 {
                let refused = std::panic::catch_unwind(|| {
                    let (mut target, fitting, other) = (vec![0; target], vec![0; target], vec![1; source]);
                    let mut all = vec![fitting.as_slice(); sources - 1];
                    all.push(&other);
                    xor_all_into(&mut target, &all);
                });
                assert!(refused.is_err(), "{source} bytes as source {sources} of {target}");
            }
            let refused = std::panic::catch_unwind(|| xor_into(&mut vec![0; target], &vec![0; source]));
            assert!(refused.is_err(), "{source} bytes into {target}");
        }
    }
}
