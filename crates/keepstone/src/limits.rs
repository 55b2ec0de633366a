//! The limits of nodes, links and collections; exceeding one is [`ChangeError::Limit`](crate::ChangeError::Limit),
//! which names it.

/// Bytes of a node's key, at most; a key is not empty.
///
/// With the eight bytes of its collection a key fits an eighth of the smallest page.
pub const KEY_BYTES_MAX: usize = 500;
/// Bytes of a node's label, at most.
pub const LABEL_BYTES_MAX: usize = 1_024;
/// Bytes of a verb, at most; a verb is not empty.
pub const VERB_BYTES_MAX: usize = 128;
/// Bytes of a collection's name, at most; a name is not empty.
pub const COLLECTION_NAME_BYTES_MAX: usize = 128;
/// Bytes of a schema's name, at most.
pub const SCHEMA_NAME_BYTES_MAX: usize = 255;
/// Bytes of an encoded body, at most: 64 MiB less room for the node around it.
pub const BODY_BYTES_MAX: usize = (64 << 20) - (64 << 10);
/// Numbers of an embedding, at most.
pub const EMBEDDING_DIMENSION_MAX: usize = 4_096;
/// Bits of a fingerprint, at most; the number of bits is a multiple of 64.
pub const FINGERPRINT_BITS_MAX: usize = keepstone_types::Fingerprint::BITS_MAX;
