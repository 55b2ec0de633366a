//! Reading everything durable from the disk again.

use keepstone_types::Lsn;

use crate::catalog::SegmentInfo;
use crate::error::{Damage, OpenError, ReadError, Repair};
use crate::reader::LogReader;
use crate::recovery::folder::{Head, Member, image_of, read_head};
use crate::recovery::repair::write_back;
use crate::recovery::scan::{NamedEnd, Stop, Subject};
use crate::segment::segment_path;
use crate::side_file;
use crate::sink::LogSink;
use crate::stats::Counter;
use crate::sync::{Arc, Ordering};
use crate::writer::Writer;

/// Verifies every segment and side file, and heals what can be healed.
pub(crate) fn verify<S: LogSink>(writer: &Writer<S>) -> Result<Vec<Damage>, ReadError> {
    let first = Lsn::new(writer.read_side.catalog.state.lock().first_lsn());
    // The reader holds all segments while they are verified.
    let hold = LogReader::new(Arc::clone(&writer.read_side), first)?;
    let readable = writer.read_side.readable_sequence.load(Ordering::Acquire);
    let segments: Vec<SegmentInfo> = writer.read_side.catalog.state.lock().segments.iter().cloned().collect();
    let ends = segments
        .iter()
        .skip(1)
        .map(|next| NamedEnd::of(&next.header))
        .chain([NamedEnd { sequence: readable, chain: None }]);
    let mut found = Vec::new();
    for (segment, end) in segments.iter().zip(ends) {
        verify_segment(writer, segment, end, &mut found)?;
    }
    drop(hold);
    Ok(found)
}

fn verify_segment<S: LogSink>(
    writer: &Writer<S>,
    segment: &SegmentInfo,
    end: NamedEnd,
    found: &mut Vec<Damage>,
) -> Result<(), ReadError> {
    let (vfs, dir) = (writer.vfs(), writer.read_side.dir.as_path());
    let path = segment_path(dir, segment.header.number);
    let file_len = match vfs.open(&path, keepstone_vfs::OpenOptions::READ) {
        Ok(file) => file.len()?,
        Err(error) if error.is_not_found() => {
            found.push(Damage::new(path, 0, "a segment", "no file"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    // The header in memory is what was verified when the log was opened; the one on disk is compared with it.
    let bad_copies = match read_head(vfs, dir, segment.header.number, file_len, false) {
        Ok(Head::Good(member)) => member.bad_copies,
        Ok(Head::Bad { .. }) | Err(OpenError::NewerFormat { .. } | OpenError::UnknownFeatures { .. }) => {
            found.push(Damage::new(path.clone(), 0, "the header of a segment", "other bytes, twice"));
            Vec::new()
        }
        Err(OpenError::Io(error)) => return Err(error.into()),
        Err(_) => Vec::new(),
    };
    // A copy that is older may be about to be written: that is no damage.
    let stale_copies = Vec::new();
    let member = Member { path, header: segment.header, file_len, bad_copies, stale_copies };
    let mut image = image_of(vfs, &member)?;
    let subject = Subject {
        path: &member.path,
        header: &member.header,
        named_end: Some(end),
        successor_gone: false,
        known_durable: 0,
        file_len,
    };
    let scan = match subject.scan(&mut image) {
        Ok(scan) => scan,
        Err(error) => {
            found.push(Damage::new(member.path.clone(), 0, "records that are understood", error.to_string()));
            return Ok(());
        }
    };
    if let Stop::Damaged(damage) = scan.stop {
        found.push(damage);
    }
    // Once the log is closed its folder may be another's.
    let repair = if let Ok(_pass) = writer.enter_folder() {
        heal(writer, &member, &scan.rebuilt)?;
        Repair::Healed
    } else {
        Repair::InMemory
    };
    let sectors = scan.rebuilt.iter().map(|(offset, _)| (*offset, "a sector of a group"));
    let copies = member.bad_copies.iter().map(|offset| (*offset, "a copy of the header"));
    for (offset, expected) in sectors.chain(copies) {
        count(&writer.counters.healed);
        found.push(Damage::new(member.path.clone(), offset, expected, "other bytes").with_repair(repair));
    }
    for (_, side) in &scan.sides {
        if let Err(damage) = side_file::read(vfs, dir, writer.read_side.store, *side, &[])? {
            found.push(damage);
        }
    }
    Ok(())
}

fn count(healed: &Counter) {
    healed.add(1);
}

/// Writes rebuilt sectors back. The header is rewritten as it is on disk, in its other copy.
fn heal<S: LogSink>(
    writer: &Writer<S>,
    member: &Member,
    rebuilt: &[(u64, Vec<u8>)],
) -> Result<(), ReadError> {
    let mut parts = rebuilt.to_vec();
    if !member.bad_copies.is_empty() {
        let (dir, number) = (writer.read_side.dir.as_path(), member.header.number);
        if let Ok(Head::Good(on_disk)) = read_head(writer.vfs(), dir, number, member.file_len, false) {
            parts.extend(member.bad_copies.iter().map(|offset| (*offset, on_disk.header.encode())));
        }
    }
    Ok(write_back(writer.vfs(), &member.path, &parts)?)
}
