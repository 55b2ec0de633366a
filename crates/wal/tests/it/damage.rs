//! Rot, missing files, foreign files: what is healed, what is reported, and what opening a prefix keeps.

use keepstone_types::{Lsn, StoreId, Timeline};
use keepstone_vfs::{IoOperation, MemoryVfs, OpenOptions, Vfs, VfsExt};
use keepstone_wal::{Access, LogOptions, OpenError, Recovery, Repair, Replayed};

use crate::support::{
    bytes_of, crashed, dir, groups_of, long_payload, long_record, open, open_on, overwrite, read_all, record,
    replay, segments, small, texts,
};

use crate::unkind::{Unkind, Verdict};

/// A closed log of several segments.
fn closed(count: usize, len: usize, options: &LogOptions) -> MemoryVfs {
    let disk = MemoryVfs::new();
    let log = open(&disk, options.clone()).unwrap();
    for at in 0..count {
        log.append(long_record(at, len)).unwrap();
    }
    log.close().unwrap();
    disk
}

fn check_whole(found: &[(Lsn, Vec<u8>)], count: usize, len: usize, what: &str) {
    assert_eq!(found.len(), count, "{what}");
    for (at, (_, payload)) in found.iter().enumerate() {
        assert!(*payload == long_payload(at, len), "{what}: record {at}");
    }
}

#[test]
fn one_rotten_sector_in_any_place_of_any_group_is_healed_on_disk() {
    for (sector, options) in [(4_096, small()), (512, small().sector_size(512))] {
        let (count, len) = (6, 2 * sector);
        let whole = closed(count, len, &options);
        let path = segments(&whole)[0].clone();
        let bytes = bytes_of(&whole, &path);
        let groups = groups_of(&bytes, sector);
        assert!(groups.len() > count);
        for (at, total) in groups {
            for hurt in (at..at + total).step_by(sector) {
                let disk = whole.snapshot();
                overwrite(&disk, &path, hurt as u64, &vec![0xEE; sector]);
                let what = format!("sector at {hurt} of {sector} bytes");
                let (log, found, _) = replay(&disk, options.clone()).unwrap();
                check_whole(&found, count, len, &what);
                let healed = &log.recovery().healed_sectors;
                assert_eq!(healed.len(), 1, "{what}");
                assert_eq!((healed[0].offset, healed[0].repair), (hurt as u64, Repair::Healed), "{what}");
                assert_eq!(bytes_of(&disk, &path)[..at + total], bytes[..at + total], "{what}");
                assert!(!log.recovery().timeline_changed && log.recovery().clean, "{what}");
            }
        }
    }
}

#[test]
fn a_sector_that_cannot_be_read_counts_as_lost() {
    let options = small();
    let disk = closed(6, 8_192, &options);
    let path = segments(&disk)[0].clone();
    let (at, total) = groups_of(&bytes_of(&disk, &path), 4_096)[2];
    // Also the places that hold zeros: they may be taken for zeros, but they are lost all the same.
    for bad in (at..at + total).step_by(4_096).chain([0, 4_096]) {
        let bad = bad as u64 + 1_024;
        let unkind = Unkind::disk(&disk.snapshot(), move |operation| {
            let met = operation.offset <= bad && operation.offset + operation.len as u64 > bad;
            let hit = operation.what == IoOperation::Read && operation.is_on("wal") && met;
            if hit { Verdict::Fail(std::io::ErrorKind::Other) } else { Verdict::Pass }
        });
        let log = open_on(unkind, options.clone()).unwrap_or_else(|error| panic!("{bad}: {error}"));
        assert_eq!(log.recovery().healed_sectors.len(), 1, "{bad}");
        check_whole(&read_all(&log), 6, 8_192, &format!("unreadable at {bad}"));
    }
}

#[test]
fn two_rotten_sectors_of_a_group_are_reported_and_never_cut() {
    let options = small();
    let whole = closed(6, 8_192, &options);
    let path = segments(&whole)[0].clone();
    let groups = groups_of(&bytes_of(&whole, &path), 4_096);
    for (index, (at, total)) in groups[..6].iter().enumerate() {
        let sectors: Vec<_> = (*at..at + total).step_by(4_096).collect();
        for one in 0..sectors.len() {
            for two in 0..one {
                let disk = whole.snapshot();
                for sector in [sectors[one], sectors[two]] {
                    overwrite(&disk, &path, sector as u64 + 9, b"rot");
                }
                let before = bytes_of(&disk, &path);
                let error = open(&disk, options.clone()).unwrap_err();
                let OpenError::Damaged { damage, next_lsn } = &error else { panic!("{error}") };
                assert_eq!((&damage.file, damage.offset), (&path, *at as u64), "{error}");
                assert_eq!(next_lsn.get(), index as u64 + 1);
                for part in ["keepstone check", "Recovery::Prefix", "bytes that are no group"] {
                    assert!(error.to_string().contains(part), "{error}");
                }
                assert_eq!(bytes_of(&disk, &path), before, "nothing is written");
                let reading = open(&disk, options.clone().access(Access::ReadOnly)).unwrap_err();
                assert_eq!(reading.kind(), "damaged");
                // The prefix is kept, the rest moved away whole, on a new timeline.
                let (log, found, _) = replay(&disk, options.clone().recovery(Recovery::Prefix)).unwrap();
                check_whole(&found, index, 8_192, "prefix");
                let report = log.recovery();
                assert_eq!((report.timeline, report.quarantined.len()), (Timeline::new(1), 1));
                assert_eq!(bytes_of(&disk, &report.quarantined[0]), before);
                let next = log.append(record("on")).unwrap();
                assert!(next > Lsn::new(6), "numbers that were lost are not given again");
                drop(log);
                assert_eq!(replay(&disk, options.clone()).unwrap().1.len(), index + 1);
            }
        }
    }
}

#[test]
fn the_group_after_the_mark_is_the_only_one_that_rot_can_pass_off_as_torn() {
    let whole = crashed(&["a", "b", "c"], &LogOptions::default());
    let path = segments(&whole)[0].clone();
    let groups = groups_of(&bytes_of(&whole, &path), 4_096);
    let hurt = |group: usize| {
        let disk = whole.snapshot();
        let (at, total) = groups[group];
        overwrite(&disk, &path, at as u64, &vec![3; total]);
        disk
    };
    assert_eq!(texts(&replay(&hurt(2), LogOptions::default()).unwrap().1), ["a", "b"]);
    for group in [0, 1] {
        assert_eq!(open(&hurt(group), LogOptions::default()).unwrap_err().kind(), "damaged", "group {group}");
    }
    // What the layer above knows moves the mark.
    let known = LogOptions::default().known_durable(Lsn::new(3));
    assert_eq!(open(&hurt(2), known.clone()).unwrap_err().kind(), "damaged");
    assert_eq!(texts(&replay(&whole.snapshot(), known).unwrap().1), ["a", "b", "c"]);
}

#[test]
fn a_header_is_healed_from_its_copy_and_reported_without_one() {
    let options = small();
    let whole = closed(40, 10_000, &options);
    let paths = segments(&whole);
    assert!(paths.len() > 2);
    for path in &paths {
        for copy in [0, 4_096] {
            let disk = whole.snapshot();
            overwrite(&disk, path, copy + 60, b"rot");
            let (log, found, _) = replay(&disk, options.clone()).unwrap();
            check_whole(&found, 40, 10_000, "healed header");
            assert_eq!(log.recovery().healed_sectors[0].offset, copy);
            assert_eq!(bytes_of(&disk, path)[..8_192], bytes_of(&whole, path)[..8_192]);
        }
        let disk = whole.snapshot();
        for copy in [0, 4_096] {
            overwrite(&disk, path, copy + 60, b"rot");
        }
        let error = open(&disk, options.clone()).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { damage, .. } if damage.file == *path), "{error}");
    }
}

#[test]
fn missing_segments_are_noticed_wherever_they_are_missing() {
    let options = small();
    let whole = closed(40, 10_000, &options);
    let paths = segments(&whole);
    for (index, path) in paths.iter().enumerate() {
        let disk = whole.snapshot();
        disk.remove(path).unwrap();
        let error = open(&disk, options.clone()).unwrap_err();
        let last = index + 1 == paths.len();
        assert_eq!(error.kind(), if last { "damaged" } else { "missing-segment" }, "{index}: {error}");
        let prefix = replay(&disk, options.clone().recovery(Recovery::Prefix));
        if index == 0 {
            assert_eq!(prefix.unwrap_err().kind(), "missing-segment", "there is nothing to keep");
            continue;
        }
        let (log, found, _) = prefix.unwrap();
        assert!(!found.is_empty() && found.len() < 40);
        check_whole(&found, found.len(), 10_000, "prefix");
        assert_eq!(log.recovery().timeline, Timeline::new(1));
        assert_eq!(log.recovery().quarantined.len(), paths.len() - index - 1 + usize::from(last));
    }
    let disk = whole.snapshot();
    for path in &paths {
        disk.remove(path).unwrap();
    }
    assert_eq!(open(&disk, options).unwrap_err().kind(), "missing-segment");
}

#[test]
fn a_prefix_goes_on_above_the_timelines_and_numbers_it_lost() {
    let options = small();
    let disk = crashed(&["a", "b"], &options);
    // Timelines 1 and 2, each begun by a cut, each in a segment of its own.
    for timeline in 1..=2 {
        let path = segments(&disk).last().unwrap().clone();
        let (at, total) = *groups_of(&bytes_of(&disk, &path), 4_096).last().unwrap();
        overwrite(&disk, &path, (at + total) as u64, b"torn");
        let log = open(&disk, options.clone()).unwrap();
        assert_eq!(log.recovery().timeline, Timeline::new(timeline));
        log.append(record("x")).unwrap();
    }
    let lost = open(&disk, options.clone()).unwrap().recovery().last_lsn;
    let paths = segments(&disk);
    assert!(paths.len() >= 3);
    // Rot in the first segment, or in a later header: what comes after is lost, its timelines and numbers are not reused.
    for hurt in [0, 1] {
        let disk = disk.snapshot();
        let places: &[u64] = if hurt == 0 { &[8_192, 12_288] } else { &[0, 4_096] };
        for place in places {
            overwrite(&disk, &paths[hurt], place + 60, b"rot");
        }
        assert_eq!(open(&disk, options.clone()).unwrap_err().kind(), "damaged");
        let (log, found, _) = replay(&disk, options.clone().recovery(Recovery::Prefix)).unwrap();
        assert_eq!(texts(&found), ["a", "b"][..2 * hurt]);
        assert_eq!(log.recovery().timeline, Timeline::new(3));
        assert!(log.append(record("y")).unwrap() > lost);
    }
}

#[test]
fn a_damaged_side_file_is_reported_and_a_prefix_ends_before_its_record() {
    let options = small().side_file_threshold(10_000);
    let whole = closed(3, 9_000, &options);
    let log = open(&whole, options.clone()).unwrap();
    log.append(long_record(3, 50_000)).unwrap();
    log.append(long_record(4, 100)).unwrap();
    drop(log);
    let side = whole.list(dir()).unwrap().into_iter().find(|entry| entry.name.ends_with(".side")).unwrap();
    let path = dir().join(side.name);
    type Case<'a> = (&'a str, &'a dyn Fn(&MemoryVfs));
    let cases: [Case<'_>; 5] = [
        ("body", &|disk| overwrite(disk, &path, 30_000, b"rot")),
        ("header", &|disk| overwrite(disk, &path, 20, b"rot")),
        ("truncated", &|disk| disk.open(&path, OpenOptions::WRITE).unwrap().set_len(40_000).unwrap()),
        ("longer", &|disk| disk.open(&path, OpenOptions::WRITE).unwrap().set_len(70_000).unwrap()),
        ("missing", &|disk| disk.remove(&path).unwrap()),
    ];
    for (what, hurt) in cases {
        let disk = whole.snapshot();
        let log = open(&disk, options.clone()).unwrap();
        hurt(&disk);
        let found = log.verify().unwrap();
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        assert_eq!((&found[0].file, found[0].repair), (&path, Repair::Impossible), "{what}");
        drop(log);
        let error = open(&disk, options.clone()).unwrap_err();
        assert!(
            matches!(&error, OpenError::Damaged { damage, .. } if damage.file == path),
            "{what}: {error}"
        );
        let (log, found, _) = replay(&disk, options.clone().recovery(Recovery::Prefix)).unwrap();
        check_whole(&found, 3, 9_000, what);
        assert!(log.recovery().timeline_changed);
    }
}

#[test]
fn verify_heals_a_log_in_use() {
    let disk = MemoryVfs::new();
    let log = open(&disk, small()).unwrap();
    for at in 0..30 {
        log.append(long_record(at, 9_000)).unwrap();
    }
    let paths = segments(&disk);
    let before: Vec<_> = paths.iter().map(|path| bytes_of(&disk, path)).collect();
    for path in &paths[..2] {
        overwrite(&disk, path, 8_192 + 4_096, &[1; 512]);
        overwrite(&disk, path, 100, b"rot");
    }
    assert_eq!(read_all(&log).len(), 30, "a reader heals in memory");
    assert!(log.stats().healed >= 1);
    let found = log.verify().unwrap();
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|damage| damage.repair == Repair::Healed));
    for (path, before) in paths[..2].iter().zip(&before) {
        assert_eq!(bytes_of(&disk, path)[..65_536], before[..65_536]);
    }
    assert_eq!(log.verify().unwrap(), []);
}

/// Changes bytes of both copies of a header and sets its checksum anew, as another program would.
fn forge_header(disk: &MemoryVfs, path: &std::path::Path, offset: usize, value: &[u8]) {
    for copy in [0, 4_096] {
        let mut block = bytes_of(disk, path)[copy..copy + 4_096].to_vec();
        block[offset..offset + value.len()].copy_from_slice(value);
        let sum = keepstone_types::checksum::checksum(&block[..4_088]);
        block[4_088..].copy_from_slice(&sum.to_le_bytes());
        overwrite(disk, path, copy as u64, &block);
    }
}

#[test]
fn what_is_foreign_or_newer_is_refused_and_nothing_is_written() {
    let options = small();
    let whole = closed(30, 10_000, &options);
    let other = closed(3, 10, &options);
    let paths = segments(&whole);
    let (first, last) = (paths[0].clone(), paths.last().unwrap().clone());
    type Case<'a> = (&'a str, Box<dyn Fn(&MemoryVfs) + 'a>, &'a str, &'a str);
    let put = |disk: &MemoryVfs, path: &std::path::Path, bytes: &[u8]| {
        disk.open(path, OpenOptions::WRITE).unwrap().set_len(0).unwrap();
        overwrite(disk, path, 0, bytes);
    };
    let cases: Vec<Case<'_>> = vec![
        ("newer format", Box::new(|disk| forge_header(disk, &last, 8, &[1])), "newer-format", "newer build"),
        (
            "must-know feature",
            Box::new(|disk| forge_header(disk, &first, 32, &[4])),
            "unknown-features",
            "0x4",
        ),
        (
            "read-only feature",
            Box::new(|disk| forge_header(disk, &first, 24, &[1])),
            "unknown-features",
            "or read-only",
        ),
        ("absurd length", Box::new(|disk| forge_header(disk, &first, 64, &[0xFF; 8])), "damaged", "`length`"),
        ("absurd sector", Box::new(|disk| forge_header(disk, &last, 144, &[9])), "damaged", "`sector`"),
        (
            "another store",
            Box::new(|disk| put(disk, &last, &bytes_of(&other, &segments(&other)[0]))),
            "foreign-store",
            "belongs to store",
        ),
        ("a text file", Box::new(|disk| put(disk, &last, b"hello")), "damaged", "header of a segment"),
        ("an empty file", Box::new(|disk| put(disk, &last, b"")), "damaged", "header of a segment"),
        (
            "truncated",
            Box::new(|disk| disk.open(&last, OpenOptions::WRITE).unwrap().set_len(20_480).unwrap()),
            "damaged",
            "bytes",
        ),
        (
            "swapped",
            Box::new(|disk| {
                let bytes = bytes_of(disk, &last);
                put(disk, &last, &bytes_of(disk, &first));
                put(disk, &first, &bytes);
            }),
            "damaged",
            "expected segment",
        ),
        (
            "a copy of an old segment",
            Box::new(|disk| put(disk, &last, &bytes_of(disk, &first))),
            "damaged",
            "expected segment",
        ),
        ("rotten pins", Box::new(|disk| overwrite(disk, &dir().join("pins"), 20, b"rot")), "damaged", "pins"),
    ];
    for (what, hurt, kind, text) in cases {
        let disk = whole.snapshot();
        hurt(&disk);
        let before: Vec<_> = segments(&disk).iter().map(|path| bytes_of(&disk, path)).collect();
        let error = open(&disk, options.clone()).unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains(text), "{what}: {error}");
        assert!(error.to_string().contains(dir().to_str().unwrap()), "{what}: {error}");
        let after: Vec<_> = segments(&disk).iter().map(|path| bytes_of(&disk, path)).collect();
        assert!(before == after, "{what}: nothing is written");
    }
    // A feature that only writers must know lets readers in.
    let disk = whole.snapshot();
    forge_header(&disk, &first, 24, &[1]);
    assert_eq!(read_all(&open(&disk, options.clone().access(Access::ReadOnly)).unwrap()).len(), 30);
    let asked = options.store_id(Some(StoreId::from_bytes([1; 16])));
    assert_eq!(open(&whole, asked).unwrap_err().kind(), "foreign-store");
}

#[test]
fn an_unknown_record_is_refused_if_it_must_be_understood_and_handed_on_if_not() {
    for (raw, known) in
        [(99, true), (99 | 0x8000, false), (7 | 0x8000, false), (7, true), (300 | 0x8000, true)]
    {
        let disk = crashed(&["a", "b", "c"], &LogOptions::default());
        let path = segments(&disk)[0].clone();
        let bytes = bytes_of(&disk, &path);
        let store = StoreId::from_bytes(bytes[40..56].try_into().unwrap());
        let groups = groups_of(&bytes, 4_096);
        // The last group, written again with another kind, as a newer build would have written it.
        let (at, total) = groups[2];
        let mut group = bytes[at..at + total].to_vec();
        group[64..66].copy_from_slice(&u16::to_le_bytes(raw));
        if raw & 0x7FFF < 16 {
            group[56..60].copy_from_slice(&[0; 4]);
        }
        let seed = keepstone_types::checksum::seed(store, 1);
        let sum = keepstone_types::checksum::checksum_seeded(seed, &group[16..total - 4_096]);
        group[8..16].copy_from_slice(&sum.to_le_bytes());
        let data = group[..4_096].to_vec();
        group[4_096..].copy_from_slice(&data);
        overwrite(&disk, &path, at as u64, &group);
        let before = bytes_of(&disk, &path);
        match replay(&disk, LogOptions::default()) {
            Ok((_, found, all)) => {
                assert!(known, "{raw:#x}");
                assert_eq!(found.len(), if raw & 0x7FFF < 16 { 2 } else { 3 });
                let last = all.last().unwrap();
                assert!(raw < 16 || matches!(last, Replayed::Record(record) if record.kind.to_raw() == raw));
            }
            Err(error) => {
                assert!(!known, "{raw:#x}: {error}");
                assert_eq!(error.kind(), "unknown-record");
                for part in ["LSN 3", "newer build", &format!("byte {at}")] {
                    assert!(error.to_string().contains(part), "{error}");
                }
                assert_eq!(bytes_of(&disk, &path), before);
            }
        }
    }
}

#[test]
fn the_last_timeline_is_the_last() {
    let disk = crashed(&["a"], &LogOptions::default());
    let path = segments(&disk)[0].clone();
    forge_header(&disk, &path, 152, &u16::MAX.to_le_bytes());
    let (at, total) = groups_of(&bytes_of(&disk, &path), 4_096)[0];
    overwrite(&disk, &path, (at + total) as u64, b"torn");
    let error = open(&disk, LogOptions::default()).unwrap_err();
    assert_eq!(error.kind(), "timelines-exhausted");
    assert!(error.to_string().contains("keepstone export"), "{error}");
    assert_eq!(segments(&disk).len(), 1);
    assert!(disk.exists(&path).unwrap());
}
