//! Failing syncs, full disks, panics in the layer above: typed errors, nobody hangs, and work resumes where it can.

use std::convert::Infallible;
use std::error::Error as _;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use keepstone_types::{Lsn, ManualClock, SystemClock};
use keepstone_vfs::{IoOperation, MemoryVfs, Vfs};
use keepstone_wal::{CommitError, Log, LogOptions, LogSink, OpenError, Record, RecordKind};

use crate::support::{
    dir, long_record, open, open_on, open_timeless, read_all, record, replay, small, texts,
};
use crate::unkind::{Unkind, Verdict};

#[test]
fn a_failed_sync_or_part_of_a_write_poisons_and_reopening_tells_the_outcome() {
    for (what, verdict, kept) in [
        (IoOperation::Sync, Verdict::Fail(ErrorKind::Other), true),
        (IoOperation::Write, Verdict::Fail(ErrorKind::Other), false),
        (IoOperation::Write, Verdict::Part(40), false),
        // Only the XOR sector is missing, so the group is whole.
        (IoOperation::Write, Verdict::Part(600), true),
        (IoOperation::Write, Verdict::Fail(ErrorKind::StorageFull), false),
    ] {
        let disk = MemoryVfs::new();
        let failing = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&failing);
        let unkind = Unkind::disk(&disk, move |operation| {
            let hit = operation.what == what && operation.is_on("wal") && now.load(Ordering::Acquire);
            if hit { verdict } else { Verdict::Pass }
        });
        let log = open_timeless(unkind, LogOptions::default()).unwrap();
        log.append(record("a")).unwrap();
        failing.store(true, Ordering::Release);
        let error = log.append(record("b")).unwrap_err();
        assert!(matches!(error, CommitError::OutcomeUnknown { .. }), "{error}");
        assert!(!error.is_retryable() && error.source().is_some());
        // A good disk does not bring it back: what is on it is unknown.
        failing.store(false, Ordering::Release);
        let error = log.append(record("c")).unwrap_err();
        assert!(matches!(error, CommitError::Poisoned { since, .. } if since == Lsn::new(1)), "{error}");
        assert_eq!(log.sync().unwrap_err().kind(), "poisoned");
        assert_eq!((log.visible_lsn(), log.durable_lsn()), (Lsn::new(1), Lsn::new(1)));
        assert_eq!(log.close().unwrap_err().kind(), "poisoned");
        // In the same process, while the old handle is still there.
        let (log, found, _) = replay(&disk, LogOptions::default()).unwrap();
        let expected: &[&str] = if kept { &["a", "b"] } else { &["a"] };
        assert_eq!(texts(&found), expected, "{what:?} {verdict:?}");
        log.append(record("d")).unwrap();
        assert_eq!(read_all(&log).len(), expected.len() + 1);
    }
}

/// A disk over `disk` on which no new segment can be written while the switch is on.
fn disk_that_fills(disk: &MemoryVfs) -> (Arc<dyn Vfs>, Arc<AtomicBool>) {
    let full = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&full);
    let unkind = Unkind::disk(disk, move |operation| {
        let grows = operation.is_on("tmp") && operation.what == IoOperation::Write;
        if grows && now.load(Ordering::Acquire) {
            Verdict::Fail(ErrorKind::StorageFull)
        } else {
            Verdict::Pass
        }
    });
    (unkind, full)
}

#[test]
fn a_full_disk_fails_cleanly_and_work_resumes_when_there_is_room() {
    let disk = MemoryVfs::new();
    let (unkind, full) = disk_that_fills(&disk);
    let log = open_on(unkind, small()).unwrap();
    let mut kept = Vec::new();
    for round in 0..3 {
        full.store(true, Ordering::Release);
        // What fits the current segment and the spare still goes; then there is no room, again and again.
        let mut refused = 0;
        for at in 0..60 {
            match log.append(long_record(at, 9_000)) {
                Ok(lsn) => {
                    assert_eq!(refused, 0, "what is full stays full");
                    kept.push(lsn);
                }
                Err(error) => {
                    let CommitError::OutOfSpace { path, needed } = &error else { panic!("{error}") };
                    assert!(path.starts_with(dir()) && *needed >= 128 << 10 && error.is_retryable());
                    refused += 1;
                }
            }
        }
        assert!(refused > 10, "round {round}");
        assert!(log.stats().out_of_space >= refused);
        full.store(false, Ordering::Release);
        for at in 0..30 {
            kept.push(log.append(long_record(at, 9_000)).unwrap());
        }
    }
    let dense = kept.iter().zip(1..).all(|(lsn, expected)| lsn.get() == expected);
    assert!(dense, "numbers of what failed are given again, to the next that is kept");
    assert_eq!(read_all(&log).len(), kept.len());
    log.close().unwrap();
    assert_eq!(replay(&disk, small()).unwrap().1.len(), kept.len());
}

#[test]
fn without_room_for_recovery_writing_is_refused_and_reading_is_not() {
    let disk = crate::support::crashed(&["a", "b"], &LogOptions::default());
    let unkind = Unkind::disk(&disk, |operation| {
        let grows = operation.is_on("tmp") && operation.what == IoOperation::Write;
        if grows { Verdict::Fail(ErrorKind::StorageFull) } else { Verdict::Pass }
    });
    let error = open_on(Arc::clone(&unkind), LogOptions::default()).unwrap_err();
    assert!(matches!(&error, OpenError::NoRoom { needed, .. } if *needed >= 1 << 20), "{error}");
    assert!(error.is_retryable() && error.to_string().contains("read-only"));
    let reading = LogOptions::default().access(keepstone_wal::Access::ReadOnly);
    assert_eq!(texts(&read_all(&open_on(unkind, reading).unwrap())), ["a", "b"]);
    assert_eq!(texts(&replay(&disk, LogOptions::default()).unwrap().1), ["a", "b"]);
}

#[test]
fn a_side_file_that_cannot_be_written_fails_its_record_alone() {
    let disk = MemoryVfs::new();
    let unkind = Unkind::disk(&disk, |operation| {
        let hit = operation.is_on("side") && operation.what == IoOperation::Write && operation.offset > 0;
        if hit { Verdict::Fail(ErrorKind::StorageFull) } else { Verdict::Pass }
    });
    let log = open_on(unkind, small()).unwrap();
    let error = log.append(long_record(1, 600_000)).unwrap_err();
    assert!(matches!(error, CommitError::OutOfSpace { .. }), "{error}");
    assert_eq!(log.append(record("a")).unwrap(), Lsn::FIRST);
    let left = Vfs::list(&disk, dir()).unwrap();
    assert!(left.iter().all(|entry| !entry.name.ends_with(".side")), "{left:?}");
}

#[test]
fn a_full_queue_waits_then_refuses_and_acknowledges_nothing() {
    let disk = MemoryVfs::new();
    let held = Arc::new(AtomicBool::new(true));
    let reached = Arc::new(AtomicBool::new(false));
    let (hold, reach) = (Arc::clone(&held), Arc::clone(&reached));
    let armed = Arc::new(AtomicBool::new(false));
    let arm = Arc::clone(&armed);
    let unkind = Unkind::disk(&disk, move |operation| {
        if operation.what == IoOperation::Sync && operation.is_on("wal") && arm.load(Ordering::Acquire) {
            reach.store(true, Ordering::Release);
            while hold.load(Ordering::Acquire) {
                thread::yield_now();
            }
        }
        Verdict::Pass
    });
    let options = LogOptions::default().queue_entries_max(3).queue_wait(Duration::from_millis(5));
    let log = open_on(unkind, options).unwrap();
    armed.store(true, Ordering::Release);
    let leader = {
        let log = log.clone();
        thread::spawn(move || log.append(record("leader")))
    };
    while !reached.load(Ordering::Acquire) {
        thread::yield_now();
    }
    let tickets: Vec<_> = (0..3).map(|at| log.submit(record(&at.to_string()), (), None).unwrap()).collect();
    assert_eq!(log.stats().queued, 3);
    let error = log.append(record("too many")).unwrap_err();
    assert!(matches!(error, CommitError::Full { waited } if waited >= Duration::from_millis(5)), "{error}");
    assert_eq!(log.stats().refused_full, 1);
    held.store(false, Ordering::Release);
    leader.join().unwrap().unwrap();
    for ticket in tickets {
        log.wait(ticket).unwrap();
    }
    assert_eq!(texts(&read_all(&log)), ["leader", "0", "1", "2"]);
}

#[test]
fn what_nobody_waits_for_is_written_all_the_same() {
    let disk = MemoryVfs::new();
    let log = open(&disk, LogOptions::default()).unwrap();
    for at in 0..50 {
        let ticket = log.submit(record(&at.to_string()), (), None).unwrap();
        assert_eq!(ticket.lsn(), Lsn::new(at + 1));
    }
    while log.durable_lsn() < Lsn::new(50) {
        thread::yield_now();
    }
    log.close().unwrap();
    assert_eq!(replay(&disk, LogOptions::default()).unwrap().1.len(), 50);
}

/// A layer above that checks the order in which it is called, refuses and panics on demand.
#[derive(Default)]
struct Checked {
    panic_in: &'static str,
    published: AtomicU64,
    durable: AtomicU64,
    revoked: AtomicU64,
}

/// What is admitted and not taken back, newest last.
type Admitted = Vec<(Lsn, u64)>;

impl LogSink for Checked {
    type Admission = Admitted;
    type Item = u64;
    type Refusal = &'static str;

    fn admit(
        &self,
        admission: &mut Admitted,
        lsn: Lsn,
        head: &mut [u8],
        item: &mut u64,
    ) -> Result<(), &'static str> {
        if *item == 13 {
            return Err("unlucky");
        }
        assert!(!(self.panic_in == "admit" && *item == 7), "on purpose");
        assert!(admission.last().is_none_or(|(last, _)| last.next() == lsn));
        head.copy_from_slice(&lsn.get().to_le_bytes());
        admission.push((lsn, *item));
        Ok(())
    }

    fn apply(&self, _lsn: Lsn, item: u64) {
        assert!(!(self.panic_in == "apply" && item == 7), "on purpose");
    }

    fn publish(&self, lsn: Lsn) {
        assert!(self.published.swap(lsn.get(), Ordering::AcqRel) < lsn.get());
        // Nothing is visible at `Normal` that is not called durable.
        assert!(self.durable.load(Ordering::Acquire) >= lsn.get());
        assert!(!(self.panic_in == "publish" && lsn >= Lsn::new(7)), "on purpose");
    }

    fn durable(&self, lsn: Lsn) {
        assert!(self.durable.swap(lsn.get(), Ordering::AcqRel) < lsn.get());
    }

    fn revoke(&self, admission: &mut Admitted, item: u64) {
        let (_, newest) = admission.pop().unwrap();
        assert_eq!(newest, item, "newest first");
        self.revoked.fetch_add(1, Ordering::AcqRel);
    }
}

fn with_head(text: &str) -> Record {
    Record::new(RecordKind::COMMIT, [&[0; 8], text.as_bytes()].concat())
}

fn open_checked(disk: Arc<dyn Vfs>, panic_in: &'static str) -> (Log<Checked>, Arc<Checked>) {
    let sink = Arc::new(Checked { panic_in, ..Checked::default() });
    let clock = Arc::new(SystemClock::default());
    let options = small().head_len(8);
    let log = Log::open_sink(disk, clock, dir(), options, Arc::clone(&sink), |_| Vec::new(), &mut |_| Ok(()))
        .unwrap();
    (log, sink)
}

#[test]
fn the_layer_above_fills_heads_refuses_and_is_called_in_order() {
    let disk = MemoryVfs::new();
    let (log, sink) = open_checked(Arc::new(disk.clone()), "");
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let log = log.clone();
            thread::spawn(move || {
                for at in 0..100 {
                    log.commit(with_head("x"), 1_000 * (thread + 1) + at, None).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let error = log.commit(with_head("x"), 13, None).unwrap_err();
    assert!(matches!(error, CommitError::Refused("unlucky")));
    let error = log.commit(Record::new(RecordKind::COMMIT, vec![1]), 1, None).unwrap_err();
    assert!(matches!(error, CommitError::HeadMissing { len: 1, head_len: 8 }));
    assert_eq!(log.commit(with_head("x"), 1, None).unwrap(), Lsn::new(801), "a refusal takes no number");
    assert_eq!(sink.published.load(Ordering::Acquire), 801);
    assert_eq!(log.with_admission(|admission| admission.len()), 801);
    log.close().unwrap();
    for (lsn, payload) in replay(&disk, small()).unwrap().1 {
        assert_eq!(payload[..8], lsn.get().to_le_bytes());
    }
}

#[test]
fn a_head_stays_inline_when_the_body_goes_to_a_side_file() {
    let disk = MemoryVfs::new();
    let (log, _) = open_checked(Arc::new(disk.clone()), "");
    log.commit(with_head(&"y".repeat(700_000)), 1, None).unwrap();
    log.close().unwrap();
    let (_, found, _) = replay(&disk, small()).unwrap();
    assert_eq!(found[0].1[..8], 1_u64.to_le_bytes());
    assert_eq!(found[0].1.len(), 700_008);
}

#[test]
fn a_full_disk_takes_back_what_was_admitted_newest_first() {
    let disk = MemoryVfs::new();
    let (unkind, full) = disk_that_fills(&disk);
    let (log, sink) = open_checked(unkind, "");
    full.store(true, Ordering::Release);
    let text = "z".repeat(9_000);
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let (log, text) = (log.clone(), text.clone());
            thread::spawn(move || {
                let committed = |at: &u64| match log.commit(with_head(&text), 1_000 * (thread + 1) + at, None)
                {
                    Ok(_) => true,
                    Err(CommitError::OutOfSpace { .. }) => false,
                    Err(error) => panic!("{error}"),
                };
                (0..40).filter(committed).count()
            })
        })
        .collect();
    let kept: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let revoked = sink.revoked.load(Ordering::Acquire);
    assert_eq!((kept as u64 + revoked, revoked > 0), (320, true));
    assert_eq!(log.with_admission(|admission| admission.len()), kept);
    full.store(false, Ordering::Release);
    assert_eq!(log.commit(with_head(&text), 1, None).unwrap().get(), kept as u64 + 1);
}

#[test]
fn a_panic_in_the_layer_above_poisons_and_leaves_nobody_waiting() {
    for place in ["admit", "apply", "publish"] {
        let disk = MemoryVfs::new();
        let (log, _) = open_checked(Arc::new(disk.clone()), place);
        for at in 1..7 {
            log.commit(with_head("x"), at, None).unwrap();
        }
        let threads: Vec<_> = (0..6_u64)
            .map(|thread| {
                let log = log.clone();
                thread::spawn(move || {
                    let item = if thread == 0 { 7 } else { 100 + thread };
                    let outcome = catch_unwind(AssertUnwindSafe(|| log.commit(with_head("x"), item, None)));
                    outcome.map(|outcome| outcome.map_err(|error| error.kind()))
                })
            })
            .collect();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let panicked = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert_eq!(panicked, 1, "{place}: {outcomes:?}");
        let error = log.commit(with_head("x"), 50, None).unwrap_err();
        assert_eq!(error.kind(), "poisoned", "{place}");
        assert!(error.source().unwrap().to_string().contains("panicked"), "{error:?}");
        let kept = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(_)))).count();
        assert_eq!(log.close().unwrap_err().kind(), "poisoned");
        let (_, found, _) = replay(&disk, small()).unwrap();
        assert!(found.len() >= 6 + kept, "{place}: what was acknowledged is there");
    }
}

#[test]
fn a_replay_that_refuses_refuses_the_opening() {
    let disk = MemoryVfs::new();
    open(&disk, LogOptions::default()).unwrap().append(record("a")).unwrap();
    let clock = Arc::new(ManualClock::default());
    let error = Log::open_with(Arc::new(disk.clone()), clock, dir(), LogOptions::default(), &mut |_| {
        Err("not like this".into())
    })
    .unwrap_err();
    assert!(matches!(&error, OpenError::Replay { lsn, .. } if *lsn == Lsn::FIRST), "{error}");
    // The lock was let go.
    open(&disk, LogOptions::default()).unwrap();
}

#[test]
fn settings_outside_their_bounds_name_field_value_and_range() {
    let options = LogOptions::default;
    for (bad, text) in [
        (options().sector_size(513), "`sector_size` is 513, expected 512 or 4096"),
        (options().segment_bytes_min(1_000), "`segment_bytes_min` is 1000, expected 131072 to"),
        (options().segment_bytes_min((128 << 10) + 1), "expected a multiple of 4096"),
        (options().segment_bytes_max(1 << 19), "`segment_bytes_max` is 524288"),
        (options().queue_entries_max(0), "`queue_entries_max` is 0"),
        (options().queue_bytes_max(1), "`queue_bytes_max` is 1"),
        (options().side_file_threshold(0), "`side_file_threshold` is 0"),
        (options().head_len(5_000), "`head_len` is 5000"),
    ] {
        let error = open(&MemoryVfs::new(), bad).unwrap_err();
        assert_eq!(error.kind(), "options");
        assert!(error.to_string().contains(text), "{error}");
    }
    let never: Result<(), Infallible> = Ok(());
    assert!(never.is_ok());
}
