//! Deltas as another program would write them: for the fuzz targets.

use super::head::{put_head, seal};
use super::{Form, ValueInfo};

/// The bytes with a seal that fits.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    sealed
}

/// A payload behind a head of the caller's.
pub(crate) fn delta(form: Form, base: &[u8], result: ValueInfo, payload: &[u8]) -> Vec<u8> {
    let mut delta = Vec::new();
    put_head(&mut delta, form, Some(ValueInfo::of(base)).filter(|_| !form.is_whole()), result);
    delta.extend_from_slice(payload);
    sealed(&delta)
}
