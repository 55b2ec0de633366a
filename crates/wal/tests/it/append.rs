//! Appending, reading back, reopening.

use std::sync::Arc;
use std::thread;

use keepstone_types::{Lsn, SystemClock};
use keepstone_vfs::{MemoryVfs, OsVfs};
use keepstone_wal::{CommitError, Entry, Log, LogOptions, Record, RecordKind, Replayed};

use crate::support::{dir, long_payload, long_record, open, read_all, record, replay, small};

fn numbered(texts: &[&str]) -> Vec<(Lsn, Vec<u8>)> {
    (1..).zip(texts).map(|(lsn, text)| (Lsn::new(lsn), text.as_bytes().to_vec())).collect()
}

#[test]
fn what_was_appended_is_read_back_now_and_after_reopening() {
    let disk = MemoryVfs::new();
    let log = open(&disk, LogOptions::default()).unwrap();
    assert_eq!(log.append(record("a")).unwrap(), Lsn::new(1));
    assert_eq!(
        log.append_batch(vec![record("b"), record(""), record("d")]).unwrap(),
        [2, 3, 4].map(Lsn::new)
    );
    let expected = numbered(&["a", "b", "", "d"]);
    assert_eq!(read_all(&log), expected);
    assert_eq!((log.durable_lsn(), log.visible_lsn()), (Lsn::new(4), Lsn::new(4)));
    log.close().unwrap();
    assert!(matches!(log.append(record("e")), Err(CommitError::Closed)));
    let (log, found, _) = replay(&disk, LogOptions::default()).unwrap();
    assert_eq!(found, expected);
    let report = log.recovery();
    assert!(report.clean && !report.timeline_changed, "{report:?}");
    assert_eq!((report.records, report.last_lsn, report.proven), (4, Lsn::new(4), Lsn::new(4)));
    assert_eq!(log.append(record("e")).unwrap(), Lsn::new(5));
}

#[test]
fn the_operating_systems_files_hold_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for round in 0..3_u64 {
        let mut found = 0;
        let log = Log::open_with(
            Arc::new(OsVfs::new()),
            Arc::new(SystemClock::default()),
            &path,
            LogOptions::default(),
            &mut |_| {
                found += 1;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(found, round * 10);
        for at in 0..10 {
            assert_eq!(log.append(record("x")).unwrap(), Lsn::new(round * 10 + at + 1));
        }
    }
}

#[test]
fn a_log_goes_on_over_many_segments() {
    let disk = MemoryVfs::new();
    let log = open(&disk, small()).unwrap();
    let count = 300;
    for at in 0..count {
        log.append(long_record(at, 3_000 + at * 10)).unwrap();
    }
    assert!(log.stats().rotations > 3, "{:?}", log.stats());
    let check = |found: Vec<(Lsn, Vec<u8>)>| {
        assert_eq!(found.len(), count);
        for (at, (lsn, payload)) in found.into_iter().enumerate() {
            assert_eq!(lsn, Lsn::new(at as u64 + 1));
            assert_eq!(payload, long_payload(at, 3_000 + at * 10));
        }
    };
    check(read_all(&log));
    assert_eq!(log.verify().unwrap(), []);
    log.close().unwrap();
    let (log, found, _) = replay(&disk, small()).unwrap();
    check(found);
    drop(log);
}

#[test]
fn large_payloads_travel_in_side_files() {
    let disk = MemoryVfs::new();
    let options = small().side_file_threshold(10_000);
    let log = open(&disk, options.clone()).unwrap();
    let sizes = [9_999, 10_000, 200_000, 3_000_000];
    for size in sizes {
        log.append(long_record(size, size)).unwrap();
    }
    assert_eq!(log.stats().side_files, 3);
    let check = |found: Vec<(Lsn, Vec<u8>)>| {
        for ((_, payload), size) in found.iter().zip(sizes) {
            assert!(*payload == long_payload(size, size), "{size}");
        }
        assert_eq!(found.len(), sizes.len());
    };
    check(read_all(&log));
    drop(log);
    check(replay(&disk, options).unwrap().1);
}

#[test]
fn kinds_of_the_log_itself_cannot_be_appended() {
    let log = open(&MemoryVfs::new(), LogOptions::default()).unwrap();
    let error = log.append(Record::new(RecordKind::TIMELINE, Vec::new())).unwrap_err();
    assert!(matches!(error, CommitError::ReservedKind { kind: RecordKind::TIMELINE }));
    assert_eq!(log.append(record("a")).unwrap(), Lsn::FIRST);
}

#[test]
fn many_threads_append_and_every_record_is_there_once() {
    for options in [small(), small().sector_size(512)] {
        let disk = MemoryVfs::new();
        let log = open(&disk, options.clone()).unwrap();
        let threads: Vec<_> = (0..16)
            .map(|thread| {
                let log = log.clone();
                thread::spawn(move || {
                    let mut mine = Vec::new();
                    for at in 0..200 {
                        let text = format!("{thread}/{at}");
                        if at % 7 == 0 {
                            let texts = [format!("{text}/a"), format!("{text}/b")];
                            let lsns =
                                log.append_batch(texts.iter().map(|text| record(text)).collect()).unwrap();
                            assert_eq!(lsns[0].next(), lsns[1]);
                            mine.extend(lsns.into_iter().zip(texts));
                        } else {
                            mine.push((log.append(record(&text)).unwrap(), text));
                        }
                    }
                    mine
                })
            })
            .collect();
        let mut model: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        model.sort();
        let dense = model.iter().zip(1..).all(|((lsn, _), expected)| lsn.get() == expected);
        assert!(dense, "no LSN is given twice or left out");
        let expected: Vec<_> = model.into_iter().map(|(lsn, text)| (lsn, text.into_bytes())).collect();
        assert_eq!(read_all(&log), expected);
        drop(log);
        assert_eq!(replay(&disk, options).unwrap().1, expected);
    }
}

#[test]
fn a_second_writer_is_refused_and_told_who_has_the_log() {
    let disk = MemoryVfs::new();
    let log = open(&disk, LogOptions::default()).unwrap();
    let error = open(&disk, LogOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), ("locked", true));
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    log.close().unwrap();
    open(&disk, LogOptions::default()).unwrap();
    assert_eq!(dir().to_str(), Some("/log"));
}

#[test]
fn entries_are_applied_alike_one_by_one_and_in_a_batch() {
    let entries = [
        Entry::Write { key: b"k".to_vec(), label: "meta".to_owned(), value: vec![1, 2, 3] },
        Entry::Delete { key: b"k".to_vec() },
        Entry::Link { from: b"a".to_vec(), verb: "knows".to_owned(), to: b"b".to_vec() },
        Entry::Checkpoint { name: b"state-7".to_vec() },
    ];
    let disk = MemoryVfs::new();
    let log = open(&disk, LogOptions::default()).unwrap();
    for entry in &entries {
        log.append(entry.to_record()).unwrap();
    }
    let groups = log.stats().groups;
    let lsns = log.append_batch(entries.iter().map(Entry::to_record).collect()).unwrap();
    assert_eq!(lsns, [5, 6, 7, 8].map(Lsn::new));
    assert_eq!(log.stats().groups, groups + 1, "one write and one sync");
    log.close().unwrap();
    let (_, _, all) = replay(&disk, LogOptions::default()).unwrap();
    let found: Vec<_> = all
        .iter()
        .map(|replayed| match replayed {
            Replayed::Record(record) => Entry::from_record(record).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, [entries.clone(), entries].concat());
}
