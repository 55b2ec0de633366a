//! The codecs that are compared.

use keepstone_xor_dag::delta::{Encoder, decode_into};

use crate::harness::BenchError;

/// Codes a version against a base, or without.
pub(super) trait Codec {
    fn encode(&mut self, base: &[u8], result: &[u8], out: &mut Vec<u8>) -> Result<(), BenchError>;
    fn decode(
        &mut self,
        base: &[u8],
        encoded: &[u8],
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BenchError>;
}

/// A codec by name.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) make: fn() -> Result<Box<dyn Codec>, BenchError>,
}

pub(super) const SIDES: &[Side] = &[
    Side { name: "whole, LZ4 if it pays", make: || Ok(Box::new(Keyframes(Encoder::new()))) },
    Side { name: "ours", make: || Ok(Box::new(Ours(Encoder::new()))) },
    #[cfg(feature = "peers")]
    Side { name: "zstd -3, old version", make: || zstd_side::make(3) },
    #[cfg(feature = "peers")]
    Side { name: "zstd -19, old version", make: || zstd_side::make(19) },
];

/// Deltas against the base.
struct Ours(Encoder);

impl Codec for Ours {
    fn encode(&mut self, base: &[u8], result: &[u8], out: &mut Vec<u8>) -> Result<(), BenchError> {
        self.0.encode(Some(base), result, out);
        Ok(())
    }

    fn decode(
        &mut self,
        base: &[u8],
        encoded: &[u8],
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BenchError> {
        Ok(decode_into(encoded, Some(base), out, len)?)
    }
}

/// Keyframes, which know no base.
struct Keyframes(Encoder);

impl Codec for Keyframes {
    fn encode(&mut self, _: &[u8], result: &[u8], out: &mut Vec<u8>) -> Result<(), BenchError> {
        self.0.encode(None, result, out);
        Ok(())
    }

    fn decode(&mut self, _: &[u8], encoded: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), BenchError> {
        Ok(decode_into(encoded, None, out, len)?)
    }
}

#[cfg(feature = "peers")]
mod zstd_side {
    //! zstd with the base as its dictionary, which it takes as raw content; without a checksum of its own.

    use zstd::bulk::{Compressor, Decompressor};

    use super::{BenchError, Codec};

    struct Zstd {
        level: i32,
    }

    pub(super) fn make(level: i32) -> Result<Box<dyn Codec>, BenchError> {
        Ok(Box::new(Zstd { level }))
    }

    impl Codec for Zstd {
        fn encode(&mut self, base: &[u8], result: &[u8], out: &mut Vec<u8>) -> Result<(), BenchError> {
            let mut compressor = Compressor::with_dictionary(self.level, base)?;
            *out = compressor.compress(result)?;
            Ok(())
        }

        fn decode(
            &mut self,
            base: &[u8],
            encoded: &[u8],
            len: usize,
            out: &mut Vec<u8>,
        ) -> Result<(), BenchError> {
            *out = Decompressor::with_dictionary(base)?.decompress(encoded, len)?;
            Ok(())
        }
    }
}
