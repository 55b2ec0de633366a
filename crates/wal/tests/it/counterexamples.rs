//! Schedules in which two faults meet, or a fault meets another thread: each was found by reading, and held ever since.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keepstone_types::sync::Mutex;
use keepstone_types::{Lsn, ManualClock, Timeline, lock_rank};
use keepstone_vfs::{
    DirEntry, IoError, IoOperation, LockError, MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFile, VfsFileExt,
    VfsLock, Volume,
};
use keepstone_wal::{Access, Durability, Log, LogOptions, Recovery};

use crate::support::{
    bytes_of, crashed, dir, groups_of, long_record, open, open_timeless, overwrite, read_all, record, replay,
    segments, small, texts,
};
use crate::unkind::{Unkind, Verdict};

/// Decides whether a sync succeeds; may wait for other threads.
type SyncJudge = dyn Fn(&Path) -> bool + Send + Sync;

/// What a file holds after a power loss, and what the system takes to be written already.
#[derive(Clone, Default)]
struct Cached {
    durable: Vec<u8>,
    clean: Vec<u8>,
}

/// A disk behind a cache that does what Linux does when a sync fails: what was written since the last sync counts as
/// clean from then on, so that a later sync succeeds without it.
#[derive(Clone)]
struct DroppingDisk {
    live: MemoryVfs,
    files: Arc<Mutex<BTreeMap<PathBuf, Cached>>>,
    judge: Arc<SyncJudge>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Writes into segments.
    written: AtomicU64,
    /// Syncs that failed.
    failed: AtomicU64,
}

impl std::fmt::Debug for DroppingDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DroppingDisk")
    }
}

impl DroppingDisk {
    fn new(counts: Arc<Counts>, judge: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        let files = Arc::new(Mutex::new(lock_rank::VFS_MEMORY_TREE, BTreeMap::new()));
        Self { live: MemoryVfs::new(), files, judge: Arc::new(judge), counts }
    }

    /// What is found when everything that is not on stable storage is gone; names are kept.
    fn after_power_loss(&self) -> MemoryVfs {
        let found = self.live.snapshot();
        let files = self.files.lock().clone();
        for entry in found.list(dir()).unwrap() {
            let path = dir().join(entry.name);
            let file = found.open(&path, OpenOptions::WRITE).unwrap();
            let durable = files.get(&path).cloned().unwrap_or_default().durable;
            file.set_len(0).unwrap();
            file.write_all_at(&durable, 0).unwrap();
        }
        found
    }
}

impl Vfs for DroppingDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        let file = self.live.open(path, options)?;
        Ok(Arc::new(DroppingFile { file, disk: self.clone(), path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.live.rename(from, to)?;
        let mut files = self.files.lock();
        if let Some(file) = files.remove(from) {
            files.insert(to.to_path_buf(), file);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.files.lock().remove(path);
        self.live.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.live.list(dir)
    }

    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.live.create_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.live.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        self.live.lock(path, holder)
    }

    fn volume(&self, path: &Path) -> Result<Volume, IoError> {
        self.live.volume(path)
    }
}

#[derive(Debug)]
struct DroppingFile {
    file: Arc<dyn VfsFile>,
    disk: DroppingDisk,
    path: PathBuf,
}

impl VfsFile for DroppingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        let written = self.file.write_at(buf, offset);
        self.disk.counts.written.fetch_add(u64::from(is_segment(&self.path)), Ordering::AcqRel);
        written
    }

    fn sync_data(&self) -> Result<(), IoError> {
        let succeeds = (self.disk.judge)(&self.path);
        let live = self.disk.live.read_file(&self.path, 1 << 30)?;
        let mut files = self.disk.files.lock();
        let cached = files.entry(self.path.clone()).or_default();
        cached.durable.resize(live.len(), 0);
        cached.clean.resize(live.len(), 0);
        let blocks = live.chunks(512).zip(cached.clean.chunks(512)).zip(cached.durable.chunks_mut(512));
        for ((live, clean), durable) in blocks.filter(|((live, clean), _)| succeeds && live != clean) {
            assert_eq!(live.len(), clean.len());
            durable.copy_from_slice(live);
        }
        cached.clean = live;
        drop(files);
        if succeeds {
            return Ok(());
        }
        self.disk.counts.failed.fetch_add(1, Ordering::AcqRel);
        Err(IoError::new(IoOperation::Sync, &self.path, io::Error::other("a sync failed on demand")))
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync_data()
    }

    fn len(&self) -> Result<u64, IoError> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.file.set_len(len)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn on_the_keeper() -> bool {
    thread::current().name() == Some("keepstone-log")
}

fn wait_until(reached: impl Fn() -> bool) {
    while !reached() {
        thread::yield_now();
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|found| found == "wal")
}

/// The keeper syncs its mark while a leader writes and syncs a group of its own. The keeper's sync fails, and takes the
/// leader's group with it: the leader's own sync then succeeds, and proves nothing.
#[test]
fn a_sync_that_fails_beside_the_leader_fails_the_leaders_group_too() {
    // 0: as usual; 1: the keeper's next sync of a segment will fail; 2: it has begun.
    let step = Arc::new(AtomicU64::new(0));
    let counts = Arc::new(Counts::default());
    let (judged, seen) = (Arc::clone(&step), Arc::clone(&counts));
    let disk = DroppingDisk::new(Arc::clone(&counts), move |path| {
        if !is_segment(path) || judged.load(Ordering::Acquire) == 0 {
            return true;
        }
        let failed = || seen.failed.load(Ordering::Acquire) > 0;
        if !on_the_keeper() {
            wait_until(failed);
        } else if !failed() {
            let before = seen.written.load(Ordering::Acquire);
            judged.store(2, Ordering::Release);
            // The leader's group is written.
            wait_until(|| seen.written.load(Ordering::Acquire) > before);
            return false;
        }
        true
    });
    let clock = Arc::new(ManualClock::default());
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let log = Log::open_with(vfs, clock.clone(), dir(), LogOptions::default(), &mut |_| Ok(())).unwrap();
    log.append(record("a")).unwrap();
    step.store(1, Ordering::Release);
    clock.advance(Duration::from_millis(6));
    wait_until(|| step.load(Ordering::Acquire) == 2);
    let outcome = log.append(record("b"));
    let lost = disk.after_power_loss();
    let (_, found, _) = replay(&lost, LogOptions::default()).unwrap();
    assert_eq!(texts(&found), ["a"], "the disk dropped what the failed sync was to write");
    assert_eq!(outcome.unwrap_err().kind(), "outcome-unknown");
    assert_eq!(log.append(record("c")).unwrap_err().kind(), "poisoned");
    assert_eq!(log.visible_lsn(), Lsn::new(1), "nobody has seen it");
}

/// Both copies of a header, or all sectors of a group, as rot leaves them.
fn rot(disk: &MemoryVfs, path: &Path, from: usize, len: usize) {
    for at in (from..from + len).step_by(4_096) {
        overwrite(disk, path, at as u64 + 20, b"rot");
    }
}

/// A log whose tail was torn once, so that it went on with timeline 1 in a second segment. Gives its last record too.
fn once_torn() -> (MemoryVfs, Lsn) {
    let disk = crashed(&["a", "b"], &LogOptions::default());
    let path = segments(&disk)[0].clone();
    let (at, total) = *groups_of(&bytes_of(&disk, &path), 4_096).last().unwrap();
    overwrite(&disk, &path, (at + total) as u64, b"torn");
    let log = open(&disk, LogOptions::default()).unwrap();
    assert_eq!(log.recovery().timeline, Timeline::new(1));
    let last = log.append(record("x")).unwrap();
    log.close().unwrap();
    (disk, last)
}

#[test]
fn a_timeline_whose_beginning_cannot_be_read_is_not_begun_again() {
    let (whole, last) = once_torn();
    let path = segments(&whole)[1].clone();
    // The group that begins the timeline, then the header of its segment.
    let (at, total) = groups_of(&bytes_of(&whole, &path), 4_096)[1];
    for (from, len) in [(at, total), (0, 8_192)] {
        let disk = whole.snapshot();
        rot(&disk, &path, from, len);
        assert_eq!(open(&disk, LogOptions::default()).unwrap_err().kind(), "damaged");
        let (log, found, _) = replay(&disk, LogOptions::default().recovery(Recovery::Prefix)).unwrap();
        assert!(!texts(&found).contains(&"x".to_owned()));
        let timeline = log.recovery().timeline;
        assert!(timeline > Timeline::new(1), "timeline {timeline} had other content; hurt at {from}");
        let next = log.append(record("y")).unwrap();
        assert!(next > last, "{next} had other content; hurt at {from}");
    }
}

#[test]
fn a_segment_that_recovery_made_is_missed_when_it_is_gone() {
    let disk = crashed(&["a", "b"], &LogOptions::default());
    let log = open(&disk, LogOptions::default()).unwrap();
    log.append(record("c")).unwrap();
    log.close().unwrap();
    let paths = segments(&disk);
    assert_eq!(paths.len(), 2);
    disk.remove(&paths[1]).unwrap();
    assert_eq!(open(&disk, LogOptions::default()).unwrap_err().kind(), "missing-segment");
    let (log, found, _) = replay(&disk, LogOptions::default().recovery(Recovery::Prefix)).unwrap();
    assert_eq!(
        (texts(&found), log.recovery().timeline),
        (vec!["a".to_owned(), "b".to_owned()], Timeline::new(1))
    );
}

#[test]
fn a_segment_that_a_pin_holds_is_missed_although_it_was_released() {
    let disk = MemoryVfs::new();
    let log = open(&disk, small()).unwrap();
    for at in 0..60 {
        log.append(long_record(at, 9_000)).unwrap();
    }
    log.pin("archive", Lsn::FIRST, u64::MAX).unwrap();
    assert_eq!(log.release(Lsn::MAX).unwrap(), Lsn::FIRST);
    log.close().unwrap();
    let paths = segments(&disk);
    disk.remove(&paths[1]).unwrap();
    let outcome = open(&disk, small()).map(drop).map_err(|error| error.kind());
    assert!(disk.exists(&paths[0]).unwrap(), "what the pin holds was removed");
    assert_eq!(outcome, Err("missing-segment"));
}

#[test]
fn a_crash_between_the_copy_and_the_quarantine_loses_nothing_that_was_to_be_moved() {
    let options = small().side_file_threshold(20_000);
    let disk = MemoryVfs::new();
    let log = open(&disk, options.clone()).unwrap();
    for at in 0..6 {
        log.append(long_record(at, if at == 5 { 25_000 } else { 8_192 })).unwrap();
    }
    log.close().unwrap();
    let path = segments(&disk)[0].clone();
    let (at, total) = groups_of(&bytes_of(&disk, &path), 4_096)[2];
    rot(&disk, &path, at, total);
    let names = |of: &Path| -> Vec<String> {
        let entries = disk.list(of).unwrap_or_default();
        let named = |entry: &DirEntry| entry.name.ends_with(".wal") || entry.name.ends_with(".side");
        entries.into_iter().filter(named).map(|entry| entry.name).collect()
    };
    let before = names(dir());
    assert_eq!(before.len(), 2);
    let prefix = options.recovery(Recovery::Prefix);
    // The process ends before anything is moved.
    let dying = Unkind::disk(&disk, |operation| {
        let moves = operation.what == IoOperation::Rename && !operation.is_on("tmp");
        if moves || operation.what == IoOperation::Remove {
            Verdict::Fail(io::ErrorKind::Other)
        } else {
            Verdict::Pass
        }
    });
    open_timeless(dying, prefix.clone()).unwrap_err();
    let (_, found, _) = replay(&disk, prefix).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(names(&dir().join("quarantine")), before);
}

#[test]
fn a_release_is_on_disk_before_another_release_takes_its_segments() {
    let disk = MemoryVfs::new();
    // 1: the first release has written its pins; 2: the second one has begun; 3: the first has ended.
    let step = Arc::new(AtomicU64::new(0));
    let judged = Arc::clone(&step);
    let unkind = Unkind::disk(&disk, move |operation| {
        let reached = |wanted| wait_until(|| judged.load(Ordering::Acquire) >= wanted);
        match thread::current().name() {
            Some("first") if operation.what == IoOperation::SyncDir => {
                judged.fetch_max(1, Ordering::AcqRel);
                reached(2);
            }
            Some("second") => reached(3),
            _ => {}
        }
        Verdict::Pass
    });
    let log = open_timeless(unkind, small()).unwrap();
    let fill = |log: &Log| (0..30).for_each(|at| assert!(log.append(long_record(at, 9_000)).is_ok()));
    fill(&log);
    log.pin("small", Lsn::new(25), 400_000).unwrap();
    let release = |name: &str, up_to: u64| {
        let log = log.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || log.release(Lsn::new(up_to)).unwrap())
            .unwrap()
    };
    let first = release("first", 1);
    wait_until(|| step.load(Ordering::Acquire) == 1);
    // The pin holds too much from now on, which the next release notices: then it has begun.
    fill(&log);
    let second = release("second", 50);
    wait_until(|| log.pins()[0].lost);
    step.store(2, Ordering::Release);
    first.join().unwrap();
    let killed = disk.snapshot();
    step.store(3, Ordering::Release);
    second.join().unwrap();
    let opened = open(&killed, small()).map(drop).map_err(|error| error.to_string());
    assert_eq!(opened, Ok(()), "segments went before their release was on disk");
}

#[test]
fn a_side_file_goes_after_the_name_of_its_segment_is_gone_for_good() {
    let disk = MemoryVfs::new();
    let (seen, images) = mpsc::channel();
    let inner = disk.clone();
    let unkind = Unkind::disk(&disk, move |operation| {
        if operation.what == IoOperation::SyncDir {
            seen.send(inner.snapshot()).unwrap();
        }
        Verdict::Pass
    });
    let options = small().side_file_threshold(5_000);
    let log = open_timeless(unkind, options.clone()).unwrap();
    for at in 0..60 {
        log.append(long_record(at, if at % 5 == 0 { 6_000 } else { 4_500 })).unwrap();
    }
    while images.try_recv().is_ok() {}
    log.release(Lsn::new(40)).unwrap();
    let mut renamed = 0;
    for image in images.try_iter() {
        // The power goes before the folder is synced: that a file was removed is kept, that one was renamed is not.
        for entry in image.list(dir()).unwrap() {
            let number = entry.name.strip_prefix("recycle-").and_then(|rest| rest.strip_suffix(".tmp"));
            if let Some(number) = number {
                let to = dir().join(format!("{:020}.wal", number.parse::<u64>().unwrap()));
                image.rename(&dir().join(&entry.name), &to).unwrap();
                renamed += 1;
            }
        }
        let opened = replay(&image, options.clone()).map(|(_, found, _)| found.last().unwrap().0);
        assert_eq!(opened.map_err(|error| error.to_string()), Ok(Lsn::new(60)));
    }
    assert!(renamed > 0);
}

#[test]
fn closing_waits_for_a_pin_that_is_being_set() {
    let disk = MemoryVfs::new();
    // 1: the pin is about to be written; 2: it may go on.
    let step = Arc::new(AtomicU64::new(0));
    let judged = Arc::clone(&step);
    let unkind = Unkind::disk(&disk, move |operation| {
        if thread::current().name() == Some("pinning") && operation.what == IoOperation::Open {
            judged.fetch_max(1, Ordering::AcqRel);
            wait_until(|| judged.load(Ordering::Acquire) == 2);
        }
        Verdict::Pass
    });
    let log = open_timeless(unkind, small()).unwrap();
    log.append(record("a")).unwrap();
    let pinning = {
        let log = log.clone();
        let pinning = thread::Builder::new().name("pinning".to_owned());
        pinning.spawn(move || log.pin("late", Lsn::FIRST, u64::MAX).map(drop)).unwrap()
    };
    wait_until(|| step.load(Ordering::Acquire) == 1);
    let closing = thread::spawn(move || log.close());
    // If it ends at all while the pin is being set, it ends soon.
    (0..200_000).take_while(|_| !closing.is_finished()).for_each(|_| thread::yield_now());
    if closing.is_finished() {
        let next = open(&disk, small()).unwrap();
        next.pin("kept", Lsn::FIRST, u64::MAX).unwrap();
        step.store(2, Ordering::Release);
        pinning.join().unwrap().unwrap_or_default();
        let next_life = open(&disk.snapshot(), small()).unwrap();
        let pins: Vec<_> = next_life.pins().into_iter().map(|pin| pin.name).collect();
        panic!("a log that was closed has written its pins over those of the next: {pins:?}");
    }
    step.store(2, Ordering::Release);
    pinning.join().unwrap().unwrap();
    closing.join().unwrap().unwrap();
    assert_eq!(open(&disk, small()).unwrap().pins().len(), 1);
}

fn count_of(disk: &MemoryVfs, part: &str) -> usize {
    disk.list(dir()).unwrap().iter().filter(|entry| entry.name.contains(part)).count()
}

#[test]
fn a_record_that_finds_no_room_leaves_no_side_file() {
    let disk = MemoryVfs::new();
    let full = Arc::new(AtomicU64::new(0));
    let now = Arc::clone(&full);
    let unkind = Unkind::disk(&disk, move |operation| {
        let grows = operation.is_on("tmp") && operation.what == IoOperation::Write;
        if grows && now.load(Ordering::Acquire) > 0 {
            Verdict::Fail(io::ErrorKind::StorageFull)
        } else {
            Verdict::Pass
        }
    });
    let log = open_timeless(unkind, small().side_file_threshold(20_000)).unwrap();
    full.store(1, Ordering::Release);
    let mut kept = 0;
    for at in 0..60 {
        kept += usize::from(log.append(long_record(at, 25_000)).is_ok());
    }
    assert!(kept < 60);
    assert_eq!(count_of(&disk, ".side"), kept);
    full.store(0, Ordering::Release);
    log.append(long_record(1, 25_000)).unwrap();
    assert_eq!(read_all(&log).len(), kept + 1);
}

#[test]
fn a_header_that_finds_no_room_leaves_its_spare_to_the_next() {
    let disk = MemoryVfs::new();
    let full = Arc::new(AtomicU64::new(0));
    let now = Arc::clone(&full);
    let unkind = Unkind::disk(&disk, move |operation| {
        let header = operation.is_on("tmp") && operation.what == IoOperation::Write && operation.len == 8_192;
        if header && now.load(Ordering::Acquire) > 0 {
            Verdict::Fail(io::ErrorKind::StorageFull)
        } else {
            Verdict::Pass
        }
    });
    let log = open_timeless(unkind, small()).unwrap();
    full.store(1, Ordering::Release);
    let refused = (0..60).filter(|at| log.append(long_record(*at, 9_000)).is_err()).count();
    assert!(refused > 20, "{refused}");
    assert!(count_of(&disk, "spare-") <= 2, "{} spares fill the disk", count_of(&disk, "spare-"));
    full.store(0, Ordering::Release);
    log.append(record("on")).unwrap();
    log.close().unwrap();
    assert_eq!(replay(&disk, small()).unwrap().1.len(), 60 - refused + 1);
}

#[test]
fn what_is_of_no_value_makes_room_for_recovery() {
    let disk = MemoryVfs::new();
    let log = open_timeless(Arc::new(disk.clone()), small()).unwrap();
    log.append(record("a")).unwrap();
    let whole = |entry: &DirEntry| entry.name.starts_with("spare-") && entry.len >= 128 << 10;
    wait_until(|| disk.list(dir()).unwrap().iter().any(whole));
    let killed = disk.snapshot();
    let used = |disk: &MemoryVfs| disk.list(dir()).unwrap().iter().map(|entry| entry.len).sum::<u64>();
    let (capacity, inner) = (used(&killed) + 1_024, killed.clone());
    let full = Unkind::disk(&killed, move |operation| {
        let len = inner.entry(&operation.path).ok().flatten().map_or(0, |entry| entry.len);
        let growth = (operation.offset + operation.len as u64).saturating_sub(len);
        let grows = operation.what == IoOperation::Write && growth > 0;
        if grows && used(&inner) + growth > capacity {
            Verdict::Fail(io::ErrorKind::StorageFull)
        } else {
            Verdict::Pass
        }
    });
    let log = open_timeless(full, small()).unwrap();
    assert_eq!(texts(&read_all(&log)), ["a"]);
}

#[test]
fn a_reader_that_opens_while_groups_are_written_reports_no_damage() {
    let disk = MemoryVfs::new();
    let writer = open_timeless(Arc::new(disk.clone()), small()).unwrap();
    writer.append(record("a")).unwrap();
    let path = segments(&disk)[0].clone();
    let (at, total) = *groups_of(&bytes_of(&disk, &path), 4_096).last().unwrap();
    // A short read that ends behind the place of the next group; before it goes on, two groups are written.
    let cut = at + 2 * total;
    let (writing, once) = (writer.clone(), AtomicU64::new(0));
    let unkind = Unkind::disk(&disk, move |operation| {
        if operation.what != IoOperation::Read || !operation.is_on("wal") || operation.len < 64 << 10 {
            return Verdict::Pass;
        }
        if operation.offset == 0 {
            return Verdict::Part(cut);
        }
        if once.fetch_add(1, Ordering::AcqRel) == 0 {
            writing.append(record("b")).unwrap();
            writing.append(record("c")).unwrap();
        }
        Verdict::Pass
    });
    let reading = open_timeless(unkind, small().access(Access::ReadOnly));
    let found = reading.map(|log| texts(&read_all(&log))).map_err(|error| error.to_string());
    assert_eq!(found, Ok(["a", "b", "c"].map(str::to_owned).to_vec()));
}

#[test]
fn a_commit_that_asks_for_a_shorter_delay_gets_it() {
    let second = Duration::from_secs(1);
    for weaker in [Durability::None, Durability::Relaxed { max_commits: 1_000, max_delay: 1_000 * second }] {
        let clock = Arc::new(ManualClock::default());
        let options = LogOptions::default().durability(weaker);
        let vfs = Arc::new(MemoryVfs::new());
        let log = Log::open_with(vfs, clock.clone(), dir(), options, &mut |_| Ok(())).unwrap();
        let asked = Durability::Relaxed { max_commits: 1_000, max_delay: second };
        log.commit(record("a"), (), Some(asked)).unwrap();
        clock.advance(2 * second);
        wait_until(|| log.durable_lsn() == Lsn::new(1));
        for _ in 0..3 {
            log.commit(record("a"), (), Some(Durability::Relaxed { max_commits: 3, max_delay: second }))
                .unwrap();
        }
        assert_eq!(log.durable_lsn(), Lsn::new(4), "{weaker:?}");
    }
}

#[test]
fn a_crash_between_two_copies_of_a_header_is_no_rot() {
    let disk = MemoryVfs::new();
    let unkind = Unkind::disk(&disk, |operation| {
        let second =
            operation.is_on("wal") && operation.what == IoOperation::Write && operation.offset == 4_096;
        if second { Verdict::Fail(io::ErrorKind::Other) } else { Verdict::Pass }
    });
    let log = open_timeless(unkind, small()).unwrap();
    log.append(record("a")).unwrap();
    log.set_owner_mark([7; 16]).unwrap_err();
    drop(log);
    let path = segments(&disk)[0].clone();
    let (log, found, _) = replay(&disk, small()).unwrap();
    assert_eq!((texts(&found), log.recovery().owner_mark), (vec!["a".to_owned()], [7; 16]));
    assert_eq!(log.recovery().healed_sectors, []);
    let bytes = bytes_of(&disk, &path);
    assert!(bytes[..4_096] == bytes[4_096..8_192], "it is written all the same");
}

#[test]
fn a_sync_covers_what_was_handed_in_before_it() {
    let disk = MemoryVfs::new();
    // The keeper is busy with a spare for as long as it takes.
    let busy = Arc::new(AtomicU64::new(1));
    let judged = Arc::clone(&busy);
    let unkind = Unkind::disk(&disk, move |_| {
        if on_the_keeper() {
            wait_until(|| judged.load(Ordering::Acquire) == 0);
        }
        Verdict::Pass
    });
    let log = open_timeless(unkind, small()).unwrap();
    let ticket = log.submit(record("a"), (), None).unwrap();
    let synced = log.sync();
    busy.store(0, Ordering::Release);
    assert_eq!(synced.unwrap(), ticket.lsn());
    log.wait(ticket).unwrap();
}
