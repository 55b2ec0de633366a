//! What the fuzz target of snapshot files runs: any bytes in place of a file, and any stream of rows in a file whose
//! checksums are right.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a target reports by panicking")]

use std::path::Path;

use keepstone_types::layout::disk_len;
use keepstone_types::{StoreId, Timestamp, Version};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsFileExt as _};

use super::blocks::{BlockWriter, sealed};
use super::content::Content;
use super::folder::SnapshotFolder;
use super::head::{HEAD_LEN, Head};
use super::trailer::{TableEntry, Trailer, encode_index, index_sum};
use crate::catalog::TableId;
use crate::sync::Arc;

const FILE: &str = "/s/s.keep-snapshot";

fn read(write: impl FnOnce(&dyn Vfs)) {
    let vfs = MemoryVfs::new();
    vfs.create_dir(Path::new("/s")).unwrap();
    write(&vfs);
    let folder = SnapshotFolder::open_to_read_with(Arc::new(vfs), Path::new("/s"));
    assert_eq!(folder.list().unwrap().len(), 1);
    match folder.verify("s") {
        Ok(report) => assert_eq!(report.rows, folder.info("s").unwrap().rows),
        Err(error) => assert!(error.to_string().len() < 10_000 && !error.kind().as_str().is_empty()),
    }
}

/// Any bytes as a file.
pub(crate) fn file(input: &[u8]) {
    read(|vfs| vfs.open(Path::new(FILE), OpenOptions::CREATE_NEW).unwrap().write_all_at(input, 0).unwrap());
}

/// Any bytes as the rows of a file that is right otherwise; the first two say how many rows and deletions it claims to have.
pub(crate) fn rows(input: &[u8]) {
    let Some(([puts, rows], stream)) = input.split_first_chunk::<2>() else { return };
    let head = Head {
        name: "s".to_owned(),
        file_id: [7; 16],
        store_id: StoreId::from_bytes([1; 16]),
        version: Version::from_raw(1),
        time: Timestamp::EPOCH,
        parent: None,
    };
    read(|vfs| {
        let file = vfs.open(Path::new(FILE), OpenOptions::CREATE_NEW).unwrap();
        let bytes = head.encode();
        file.write_all_at(&bytes, 0).unwrap();
        let sum = bytes.last_chunk().copied().map_or(0, u64::from_le_bytes);
        let mut blocks =
            BlockWriter::new(Arc::clone(&file), head.file_id, disk_len(HEAD_LEN), sealed(0, sum));
        blocks.put(stream).unwrap();
        let written = blocks.finish().unwrap();
        let puts = u64::from(*puts);
        let table = TableEntry { number: TableId::FIRST_USER, name: Arc::from("t"), puts, deletions: 0 };
        let mut end = encode_index(&[table]);
        let trailer = Trailer {
            written,
            index_len: disk_len(end.len()),
            index_sum: index_sum(head.file_id, &end),
            puts,
            deletions: 0,
            content: Content { rows: u64::from(*rows), sum: 0 },
            tables: 1,
        };
        end.extend_from_slice(&trailer.encode(head.file_id));
        file.write_all_at(&end, written.end).unwrap();
    });
}
