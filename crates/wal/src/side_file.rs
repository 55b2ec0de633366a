//! Side files: bodies too large for a group, each written, synced and named before the record that refers to it is
//! queued. So a record that is there has its body, or the body is damaged.
#![deny(clippy::arithmetic_side_effects)]

use std::path::Path;

use keepstone_types::StoreId;
use keepstone_types::checksum::{checksum, checksum_seeded, seed};
use keepstone_vfs::{IoError, OpenOptions, Vfs, VfsFileExt};

use crate::error::Damage;
use crate::layout::{Field, disk_len, is_zero, memory_len};
use crate::record::SideReference;
use crate::segment::side_path;

/// The longest body of a side file, in bytes.
pub(crate) const BODY_BYTES_MAX: u64 = 1 << 30;
/// What every side file begins with.
pub(crate) const SIDE_MAGIC: [u8; 8] = *b"KSWALSID";

pub(crate) const MAGIC: Field = Field::first("magic", 8, "`KSWALSID`");
pub(crate) const STORE: Field = MAGIC.then("store", 16, "id of the store");
pub(crate) const NUMBER: Field = STORE.then("number", 8, "number of the side file");
pub(crate) const LENGTH: Field = NUMBER.then("length", 8, "bytes of the body, which follows the header");
pub(crate) const BODY_CHECKSUM: Field =
    LENGTH.then("body checksum", 8, "of the body, seeded with store and number");
pub(crate) const RESERVED: Field = BODY_CHECKSUM.then("reserved", 8, "zero");
pub(crate) const CHECKSUM: Field = RESERVED.then("checksum", 8, "of all before it, no seed");
#[cfg(test)]
pub(crate) const SIDE_FILE_FIELDS: [Field; 7] =
    [MAGIC, STORE, NUMBER, LENGTH, BODY_CHECKSUM, RESERVED, CHECKSUM];
/// Bytes before the body.
pub(crate) const SIDE_HEADER_LEN: usize = CHECKSUM.end();

const _: () = assert!(SIDE_HEADER_LEN == 64);

/// Keeps the seeds of side files apart from those of segments.
const SEED_SPACE: u64 = 1 << 63;

fn body_seed(store: StoreId, number: u64) -> u64 {
    seed(store, number | SEED_SPACE)
}

fn encode_header(store: StoreId, reference: SideReference) -> [u8; SIDE_HEADER_LEN] {
    let mut header = [0; SIDE_HEADER_LEN];
    MAGIC.put(&mut header, &SIDE_MAGIC);
    STORE.put(&mut header, &store.to_bytes());
    NUMBER.put(&mut header, &reference.number.to_le_bytes());
    LENGTH.put(&mut header, &reference.length.to_le_bytes());
    BODY_CHECKSUM.put(&mut header, &reference.checksum.to_le_bytes());
    let sum = checksum(header.get(..CHECKSUM.offset).unwrap_or_default());
    CHECKSUM.put(&mut header, &sum.to_le_bytes());
    header
}

/// Writes a body durably, name included. What is half written when it fails is removed.
pub(crate) fn write(
    vfs: &dyn Vfs,
    dir: &Path,
    store: StoreId,
    number: u64,
    body: &[u8],
) -> Result<SideReference, IoError> {
    let reference = SideReference {
        number,
        length: disk_len(body.len()),
        checksum: checksum_seeded(body_seed(store, number), body),
    };
    let path = side_path(dir, number);
    let file = vfs.open(&path, OpenOptions::CREATE_NEW)?;
    let written = file
        .write_all_at(&encode_header(store, reference), 0)
        .and_then(|()| file.write_all_at(body, disk_len(SIDE_HEADER_LEN)))
        .and_then(|()| file.sync_all())
        .and_then(|()| vfs.sync_dir(dir));
    match written {
        Ok(()) => Ok(reference),
        Err(error) => {
            drop(file);
            // A file that stays is named by no record and goes at the next opening.
            vfs.remove(&path).unwrap_or_default();
            Err(error)
        }
    }
}

/// Reads a body back and verifies it. The outer error is the disk's.
pub(crate) fn read(
    vfs: &dyn Vfs,
    dir: &Path,
    store: StoreId,
    reference: SideReference,
    head: &[u8],
) -> Result<Result<Vec<u8>, Damage>, IoError> {
    let path = side_path(dir, reference.number);
    let damage = |offset: u64, expected: String, found: String| {
        Ok(Err(Damage::new(path.clone(), offset, expected, found)))
    };
    let expected_len = reference.length.saturating_add(disk_len(SIDE_HEADER_LEN));
    let file = match vfs.open(&path, OpenOptions::READ) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => {
            return damage(0, format!("a file of {expected_len} bytes"), "no file".to_owned());
        }
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len != expected_len || reference.length > BODY_BYTES_MAX {
        return damage(0, format!("a file of {expected_len} bytes"), format!("{len} bytes"));
    }
    let mut header = [0; SIDE_HEADER_LEN];
    let mut payload = vec![0; head.len().saturating_add(memory_len(reference.length))];
    let (front, body) = payload.split_at_mut(head.len());
    front.copy_from_slice(head);
    let read =
        file.read_exact_at(&mut header, 0).and_then(|()| file.read_exact_at(body, disk_len(SIDE_HEADER_LEN)));
    if let Err(error) = read {
        return damage(0, "readable bytes".to_owned(), error.to_string());
    }
    let found = checksum_seeded(body_seed(store, reference.number), body);
    if found != reference.checksum {
        let offset = disk_len(SIDE_HEADER_LEN);
        return damage(offset, format!("checksum {:#018x}", reference.checksum), format!("{found:#018x}"));
    }
    let sum = checksum(header.get(..CHECKSUM.offset).unwrap_or_default());
    if header != encode_header(store, reference) {
        let what = if CHECKSUM.u64(&header) != sum || !is_zero(RESERVED.bytes(&header)) {
            "damaged bytes"
        } else {
            "the header of another file"
        };
        return damage(0, "the header of this side file".to_owned(), what.to_owned());
    }
    Ok(Ok(payload))
}
