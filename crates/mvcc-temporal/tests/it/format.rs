//! FORMAT.md is held by the unit tests beside the formats; here: the identity file as it lies on the disk.

use std::path::Path;

use keepstone_mvcc_temporal::Read;
use keepstone_vfs::VfsExt;

use crate::support::{DIR, MemoryStore};

#[test]
fn the_identity_file_begins_with_a_line_for_people() {
    let store = MemoryStore::new();
    let database = store.open();
    let bytes = store.vfs.read_file(&Path::new(DIR).join("KEEPSTONE"), 4_096).unwrap();
    assert_eq!(bytes.len(), 128);
    assert_eq!(&bytes[..16], b"KEEPSTONE STORE\n");
    assert_eq!(bytes[48..64], database.store_id().to_bytes());
}
