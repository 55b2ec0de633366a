//! Opening: what is a store and what is not, who may write it, and what a killed process leaves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepstone_mvcc_temporal::{
    Access, CheckpointOptions, Database, DatabaseOptions, Durability, Existence, OpenError, Read, ReadError,
    Recovery, Retention,
};
use keepstone_types::lock_rank::TEST_OUTER;
use keepstone_types::sync::Mutex;
use keepstone_types::{Timeline, Version};
use keepstone_vfs::{
    DirEntry, IoError, LockError, MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFile, VfsFileExt, VfsLock, Volume,
};

use crate::support::{DIR, MemoryStore, T, get, keys, kind, on_disk, open_on, options, put};

fn open_kind(result: Result<Database, OpenError>) -> Result<(), &'static str> {
    result.map(drop).map_err(|error| error.kind().as_str())
}

fn names(vfs: &dyn Vfs) -> Vec<String> {
    vfs.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn existence_is_what_was_asked_for() {
    let store = MemoryStore::new();
    let with = |existence| store.open_with(options().existence(existence));
    assert_eq!(open_kind(with(Existence::MustExist)), Err("not-found"));
    assert!(store.vfs.list(Path::new(DIR)).is_err(), "asking made nothing");
    assert_eq!(open_kind(store.open_with(options().access(Access::ReadOnly))), Err("not-found"));
    assert_eq!(open_kind(with(Existence::Create)), Ok(()));
    assert_eq!(open_kind(with(Existence::Create)), Err("already-exists"));
    assert_eq!(open_kind(with(Existence::MustExist)), Ok(()));
    assert_eq!(open_kind(with(Existence::CreateIfMissing)), Ok(()));
    assert_eq!(names(&store.vfs), ["KEEPSTONE", "LOCK", "log", "pages"]);
}

#[test]
fn folders_above_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/store");
    let database = Database::open(&path, options()).unwrap();
    put(&database, "a", "1");
    drop(database);
    assert_eq!(get(&Database::open(&path, options()).unwrap(), "a").as_deref(), Some("1"));
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    for name in ["notes.txt", "log", "KEEPSTONE.old"] {
        let vfs = MemoryVfs::new();
        vfs.create_dir(Path::new(DIR)).unwrap();
        let file = vfs.open(&Path::new(DIR).join(name), OpenOptions::CREATE_NEW).unwrap();
        file.write_all_at(b"mine", 0).unwrap();
        let error = open_on(Arc::new(vfs.clone()), options()).unwrap_err();
        assert!(matches!(&error, OpenError::NotAStore { found, .. } if found == name), "{error}");
        assert!(error.to_string().contains("KEEPSTONE"), "{error}");
        assert_eq!(names(&vfs), [name], "nothing was written");
    }
}

#[test]
fn a_store_without_its_identity_is_not_opened_nor_overwritten() {
    let store = MemoryStore::new();
    put(&store.open(), "a", "1");
    let identity = Path::new(DIR).join("KEEPSTONE");
    let kept = store.vfs.read_file(&identity, 4_096).unwrap();
    store.vfs.remove(&identity).unwrap();
    assert_eq!(open_kind(store.open_with(options())), Err("not-a-store"));
    store.vfs.replace_file(&identity, &kept).unwrap();
    assert_eq!(get(&store.open(), "a").as_deref(), Some("1"));
}

#[test]
fn damaged_foreign_and_newer_identities_are_refused_and_nothing_is_written() {
    let store = MemoryStore::new();
    put(&store.open(), "a", "1");
    let identity = Path::new(DIR).join("KEEPSTONE");
    let good = store.vfs.read_file(&identity, 4_096).unwrap();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    for (bytes, expected) in [
        (Vec::new(), "identity"),
        (b"KEEPSTONE STORE\n".to_vec(), "identity"),
        (good[..100].to_vec(), "identity"),
        (changed(0, b'k'), "identity"),
        (changed(60, good[60] ^ 1), "identity"),
        (changed(16, 9), "newer-format"),
        (vec![0; 5_000], "io"),
    ] {
        store.vfs.replace_file(&identity, &bytes).unwrap();
        let before = store.vfs.snapshot();
        for access in [Access::Write, Access::ReadOnly, Access::WriteIfFree] {
            assert_eq!(open_kind(store.open_with(options().access(access))), Err(expected));
        }
        assert_eq!(all_files(&store.vfs), all_files(&before), "something was written");
    }
}

fn all_files(vfs: &MemoryVfs) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for dir in [DIR, "/store/log"] {
        for entry in vfs.list(Path::new(dir)).unwrap() {
            if entry.kind == keepstone_vfs::EntryKind::File {
                let bytes = vfs.read_file(&Path::new(dir).join(&entry.name), 1 << 30).unwrap();
                files.push((format!("{dir}/{}", entry.name), bytes));
            }
        }
    }
    files
}

#[test]
fn one_writer_many_readers() {
    let (dir, database) = on_disk();
    let path = dir.path().join("store");
    put(&database, "a", "1");
    let open = |access| Database::open(&path, options().access(access));
    match open(Access::Write).unwrap_err() {
        error @ OpenError::Locked { .. } => {
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
            assert!(error.is_retryable());
        }
        other => panic!("{other}"),
    }
    for access in [Access::ReadOnly, Access::WriteIfFree] {
        let reader = open(access).unwrap();
        assert!(reader.is_read_only());
        assert_eq!(get(&reader, "a").as_deref(), Some("1"));
        let mut txn = reader.begin().unwrap();
        assert_eq!(kind(txn.put(T, "b", b"1".as_slice())), Err("read-only"));
        assert_eq!(txn.commit().unwrap().rows, 0);
        assert_eq!(kind(reader.rollback_to(reader.visible_version())), Err("read-only"));
        assert_eq!(kind(reader.name_version("n", reader.visible_version())), Err("read-only"));
        let report = reader.check().unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
        reader.close().unwrap();
    }
    put(&database, "b", "2");
    drop(database);
    assert!(!open(Access::WriteIfFree).unwrap().is_read_only());
}

fn beside_options() -> DatabaseOptions {
    let checkpoint = CheckpointOptions::default().slice_keys(400);
    let log = options().log.segment_bytes_min(1 << 20).segment_bytes_max(4 << 20);
    let options = options().log(log).retention(Retention::None).cache_bytes(1 << 20);
    options.checkpoint(checkpoint).page_size(4_096)
}

fn write_all(database: &Database, rows: u32, round: u32) {
    let mut txn = database.begin().unwrap();
    for number in 0..rows {
        txn.put(T, format!("{number:05}"), format!("{round:04} {}", "x".repeat(200)).into_bytes()).unwrap();
    }
    txn.commit().unwrap();
}

/// What a reader beside a writer was shown: the rounds of its rows, or why it could not go on.
fn look(reader: &Database, rows: usize) -> Result<String, ReadError> {
    let mut rounds = BTreeSet::new();
    let mut count = 0;
    for row in reader.scan(T, ..)? {
        let (_, value) = row?;
        rounds.insert(String::from_utf8(value[..4].to_vec()).unwrap());
        count += 1;
    }
    assert!(rounds.len() == 1 && count == rows, "{count} rows of rounds {rounds:?}");
    Ok(rounds.pop_first().unwrap())
}

/// A reader in another process cannot hold anything: the writer gives its pages to others. It is told, and never shown
/// anything else than what it opened.
#[test]
fn a_reader_beside_a_writer_sees_its_version_or_is_told() {
    const ROWS: u32 = 10_000;
    let store = MemoryStore::new();
    let database = store.open_with(beside_options()).unwrap();
    write_all(&database, ROWS, 0);
    database.checkpoint().unwrap();
    let reader = store.open_with(beside_options().access(Access::ReadOnly)).unwrap();
    assert_eq!(look(&reader, ROWS as usize).as_deref(), Ok("0000"));
    let mut told = None;
    for round in 1..5 {
        write_all(&database, ROWS, round);
        database.checkpoint().unwrap();
        database.compact().unwrap();
        match look(&reader, ROWS as usize) {
            Ok(seen) => assert_eq!(seen, "0000"),
            Err(error) => told = Some(error),
        }
    }
    let told = told.expect("the pages of the reader are used by now");
    assert_eq!(told.kind().as_str(), "snapshot-gone", "{told}");
    assert!(told.to_string().contains("open it again"), "{told}");
}

#[test]
fn opening_beside_a_writer_shows_one_version_whole() {
    const ROWS: u32 = 1_500;
    let store = MemoryStore::new();
    let database = store.open_with(beside_options()).unwrap();
    write_all(&database, ROWS, 0);
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..60 {
                write_all(&database, ROWS, round);
                if round % 3 != 0 {
                    database.checkpoint().unwrap();
                }
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let (mut whole, mut told) = (0, BTreeSet::new());
        let mut newest = String::new();
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            let opened = store.open_with(beside_options().access(Access::ReadOnly));
            let seen = match opened {
                Ok(reader) => look(&reader, ROWS as usize).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match seen {
                Ok(seen) => {
                    assert!(seen >= newest, "{seen} after {newest}");
                    newest = seen;
                    whole += 1;
                }
                Err(error) => drop(told.insert(error)),
            }
        }
        writer.join().unwrap();
        println!("{whole} were shown one version whole; told: {told:#?}");
        assert!(whole > 0);
    });
}

#[test]
fn every_step_of_making_a_store_can_be_the_last() {
    // A disk that fails from its n-th changing call on; what it leaves must open as a new store, with nothing in it.
    let mut finished = false;
    for steps in 0..200 {
        let memory = MemoryVfs::new();
        let disk = StopsAfter::new(memory.clone(), steps);
        let made = open_on(Arc::new(disk), options());
        finished = made.is_ok();
        drop(made);
        let after = memory.snapshot();
        let again = open_on(Arc::new(after), options());
        let again = again.unwrap_or_else(|error| panic!("after {steps} steps: {error}"));
        assert_eq!(keys(&again, ..), Vec::<String>::new());
        put(&again, "a", "1");
        if finished {
            break;
        }
    }
    assert!(finished, "the store was never made");
}

#[test]
fn a_killed_process_leaves_every_acknowledged_commit() {
    let store = MemoryStore::new();
    let database = store.open();
    let mut expected = Vec::new();
    for number in 0..40 {
        expected.push(format!("{number:02}"));
        put(&database, &expected[number], "v");
        let killed = store.killed().open();
        assert_eq!(keys(&killed, ..), expected);
        assert_eq!(killed.visible_version(), database.visible_version());
        assert_eq!(killed.durable_version(), database.durable_version());
    }
}

#[test]
fn the_default_durability_is_the_stores_own() {
    let store = MemoryStore::new();
    drop(store.open_with(options().durability(Durability::Full)).unwrap());
    let database = store.open();
    put(&database, "a", "1");
    assert_eq!(database.durable_version(), database.visible_version());
    let relaxed = Durability::Relaxed { max_commits: 1_000, max_delay: std::time::Duration::from_secs(60) };
    drop(database);
    let database = store.open_with(options().durability(relaxed)).unwrap();
    put(&database, "a", "2");
    assert!(database.durable_version() <= database.visible_version());
    database.sync().unwrap();
    assert_eq!(database.durable_version(), database.visible_version());
}

#[test]
fn a_crash_with_relaxed_durability_changes_the_timeline() {
    let relaxed = || {
        let max_delay = std::time::Duration::from_secs(3_600);
        options().durability(Durability::Relaxed { max_commits: 1_000, max_delay })
    };
    let store = MemoryStore::new();
    let database = store.open_with(relaxed()).unwrap();
    for value in ["1", "2", "3"] {
        put(&database, "a", value);
    }
    assert_eq!(database.durable_version(), Version::ZERO);
    let mut store = store.killed();
    for timeline in 1..4_u16 {
        let database = store.open_with(relaxed()).unwrap();
        assert!(database.recovery().timeline_changed && !database.recovery().clean);
        assert_eq!(database.durable_version(), database.visible_version(), "what opening shows is durable");
        let made = put(&database, "a", &format!("on {timeline}")).version;
        let expected = Version::from_parts(Timeline::new(timeline), 3 + u64::from(timeline)).unwrap();
        assert_eq!(made, expected);
        let nearest = database.commits().unwrap().nth(1).unwrap().unwrap().version;
        let cut = made.on(Timeline::new(timeline - 1));
        let error = database.snapshot_at(cut).unwrap_err();
        assert_eq!(error, ReadError::UnknownVersion { asked: cut, nearest });
        assert_eq!(get(&database.snapshot_at(Version::from_raw(2)).unwrap(), "a").as_deref(), Some("2"));
        assert_eq!(database.history(T, "a").unwrap().count(), 3 + usize::from(timeline));
        database.sync().unwrap();
        let report = database.check().unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
        store = store.killed();
    }
}

#[test]
fn damage_is_refused_and_the_prefix_can_be_opened() {
    let store = MemoryStore::new();
    let database = store.open();
    let mut contents = vec![Vec::new()];
    for number in 0..60 {
        put(&database, &format!("{:02}", number % 20), &number.to_string());
        contents.push(crate::support::rows(&database, ..));
    }
    database.close().unwrap();
    let log = Path::new(DIR).join("log");
    let segments = store.vfs.list(&log).unwrap();
    let segment = segments.iter().find(|entry| entry.name.ends_with(".wal")).unwrap();
    let file = store.vfs.open(&log.join(&segment.name), OpenOptions::WRITE).unwrap();
    // Far more than one sector in the middle of the records: beyond healing.
    file.write_all_at(&[0xAA; 5 * 4_096], 8_192 + 40 * 4_096).unwrap();
    let error = store.open_with(options()).unwrap_err();
    assert_eq!((error.kind().as_str(), error.is_damage()), ("damaged", true), "{error}");
    assert!(error.to_string().contains("keepstone check"), "{error}");
    let database = store.open_with(options().recovery(Recovery::Prefix)).unwrap();
    let version = database.visible_version();
    let kept = usize::try_from(version.sequence()).unwrap();
    assert!(kept > 0 && kept < 60, "{kept}");
    assert_eq!(crate::support::rows(&database, ..), contents[kept]);
    let made = put(&database, "new", "1").version;
    assert_eq!((made.timeline(), made.sequence()), (Timeline::new(1), version.sequence() + 1));
    assert!(database.check().unwrap().is_sound());
    drop(database);
    assert_eq!(store.open().visible_version(), made);
}

/// What is folded is not cut with the log: the store goes on behind it, on the log's new timeline, and opens again.
#[test]
fn a_log_that_is_cut_before_what_is_folded_goes_on_behind_it() {
    for after in [0, 20] {
        let store = MemoryStore::new();
        let database = store.open();
        for number in 0..40 {
            put(&database, &format!("{:02}", number % 20), &number.to_string());
        }
        database.checkpoint().unwrap();
        let folded = (database.visible_version(), crate::support::rows(&database, ..));
        for number in 0..after {
            put(&database, &format!("{number:02}"), "not folded");
        }
        database.close().unwrap();
        let log = Path::new(DIR).join("log");
        let segments = store.vfs.list(&log).unwrap();
        let segment = segments.iter().find(|entry| entry.name.ends_with(".wal")).unwrap();
        let file = store.vfs.open(&log.join(&segment.name), OpenOptions::WRITE).unwrap();
        file.write_all_at(&[0xAA; 5 * 4_096], 8_192 + 20 * 4_096).unwrap();
        assert_eq!(open_kind(store.open_with(options())), Err("damaged"));
        let database = store.open_with(options().recovery(Recovery::Prefix)).unwrap();
        assert_eq!((database.visible_version(), crate::support::rows(&database, ..)), folded);
        let made = put(&database, "new", "1").version;
        assert_eq!((made.timeline(), made.sequence()), (Timeline::new(1), folded.0.sequence() + 1));
        let report = database.check().unwrap();
        assert!(report.is_sound(), "{:#?}", report.findings);
        drop(database);
        for checkpoints in [false, true] {
            let database = store.open();
            assert_eq!((database.visible_version(), get(&database, "new").as_deref()), (made, Some("1")));
            assert!(database.check().unwrap().is_sound());
            if checkpoints {
                database.checkpoint().unwrap();
                put(&database, "newer", "1");
            }
        }
        assert_eq!(get(&store.open(), "newer").as_deref(), Some("1"));
    }
}

/// Half way through a checkpoint the page file has rows that a cut would take from the log: then nothing is cut.
#[cfg(feature = "wrong-variants")]
#[test]
fn a_prefix_that_ends_before_what_is_folded_is_refused_and_nothing_is_cut() {
    let store = MemoryStore::new();
    let checkpoint = CheckpointOptions::default().slice_keys(4);
    let database = store.open_with(options().checkpoint(checkpoint)).unwrap();
    for number in 0..40 {
        put(&database, &format!("{number:02}"), "1");
    }
    let killed = std::rc::Rc::new(std::cell::OnceCell::new());
    let (vfs, found) = (store.vfs.clone(), std::rc::Rc::clone(&killed));
    let look = move || {
        found.get_or_init(|| vfs.snapshot());
    };
    keepstone_mvcc_temporal::wrong::looking(look, || database.checkpoint()).unwrap();
    let store = MemoryStore { vfs: killed.get().unwrap().clone(), clock: Arc::clone(&store.clock) };
    let log = Path::new(DIR).join("log");
    let segments = store.vfs.list(&log).unwrap();
    let segment = segments.iter().find(|entry| entry.name.ends_with(".wal")).unwrap();
    let file = store.vfs.open(&log.join(&segment.name), OpenOptions::WRITE).unwrap();
    file.write_all_at(&[0xAA; 5 * 4_096], 8_192 + 20 * 4_096).unwrap();
    let before = all_files(&store.vfs);
    let opened = store.open_with(options().recovery(Recovery::Prefix));
    assert!(
        matches!(&opened, Err(OpenError::LogBehind { expected, .. }) if expected.sequence() == 40),
        "{opened:?}"
    );
    drop(opened);
    let is_log = |file: &&(String, Vec<u8>)| file.0.contains(".wal");
    let logs = |files: &[(String, Vec<u8>)]| files.iter().filter(is_log).cloned().collect::<Vec<_>>();
    assert!(logs(&before) == logs(&all_files(&store.vfs)), "the log was changed");
    assert!(store.open_with(options().recovery(Recovery::ReadOnlyAtCheckpoint)).is_ok());
}

#[test]
fn options_out_of_bounds_are_refused_before_anything_is_made() {
    let store = MemoryStore::new();
    for options in
        [DatabaseOptions::default().window_bytes_max(0), DatabaseOptions::default().page_size(1_000)]
    {
        assert!(store.open_with(options).is_err());
        assert!(store.vfs.list(Path::new(DIR)).is_err());
    }
}

#[test]
fn network_file_systems_are_refused_unless_forced() {
    let vfs: Arc<dyn Vfs> = Arc::new(Remote(MemoryVfs::new()));
    let error = open_on(Arc::clone(&vfs), options()).unwrap_err();
    assert!(matches!(error, OpenError::NetworkVolume { protocol: "nfs", .. }), "{error}");
    let database = open_on(vfs, options().force_network(true)).unwrap();
    put(&database, "a", "1");
}

#[test]
fn a_name_of_another_store_means_another_store() {
    let (one, two) = (MemoryStore::new().open(), MemoryStore::new().open());
    assert_ne!(one.store_id(), two.store_id());
}

/// Passes everything on to a file system in memory, through one place that may refuse.
macro_rules! pass_on {
    ($disk:ty, $refuse:expr, $volume:expr) => {
        impl Vfs for $disk {
            fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
                if options.mode == keepstone_vfs::OpenMode::CreateNew {
                    $refuse(self, path)?;
                }
                self.0.open(path, options)
            }
            fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
                $refuse(self, from)?;
                self.0.rename(from, to)
            }
            fn remove(&self, path: &Path) -> Result<(), IoError> {
                $refuse(self, path)?;
                self.0.remove(path)
            }
            fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
                self.0.list(dir)
            }
            fn create_dir(&self, path: &Path) -> Result<(), IoError> {
                $refuse(self, path)?;
                self.0.create_dir(path)
            }
            fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
                $refuse(self, dir)?;
                self.0.sync_dir(dir)
            }
            fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
                $refuse(self, path)?;
                self.0.lock(path, holder)
            }
            fn volume(&self, path: &Path) -> Result<Volume, IoError> {
                $volume(self, path)
            }
        }
    };
}

/// A disk that refuses every change after a number of them.
#[derive(Debug)]
struct StopsAfter(MemoryVfs, std::sync::atomic::AtomicI64);

impl StopsAfter {
    fn new(vfs: MemoryVfs, steps: i64) -> Self {
        Self(vfs, std::sync::atomic::AtomicI64::new(steps))
    }

    fn step(&self, path: &Path) -> Result<(), IoError> {
        if self.1.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let refused = std::io::Error::other("the power went");
        Err(IoError::new(keepstone_vfs::IoOperation::Write, path, refused))
    }
}

pass_on!(StopsAfter, |disk: &StopsAfter, path: &Path| disk.step(path), |disk: &StopsAfter, path: &Path| {
    disk.0.volume(path)
});

/// A disk on the network.
#[derive(Debug)]
struct Remote(MemoryVfs);

pass_on!(Remote, |_: &Remote, _: &Path| Ok::<(), IoError>(()), |disk: &Remote, path: &Path| {
    let found = disk.0.volume(path)?;
    Ok(Volume::new(found.free_bytes, Some("nfs")))
});

#[test]
fn a_store_whose_log_is_gone_is_not_an_empty_store() {
    let store = MemoryStore::new();
    let database = store.open();
    put(&database, "a", "1");
    database.close().unwrap();
    let log = Path::new(DIR).join("log");
    for entry in store.vfs.list(&log).unwrap() {
        store.vfs.remove(&log.join(entry.name)).unwrap();
    }
    for options in [options(), options().recovery(Recovery::Prefix), options().access(Access::ReadOnly)] {
        let opened = open_kind(store.open_with(options));
        assert_eq!(opened, Err("missing-segment"));
        let left = store.vfs.list(&log).unwrap();
        assert!(left.iter().all(|entry| entry.name == "LOCK"), "something was made: {left:?}");
    }
}

/// A disk that stops after a number of changes, and knows which folders have a name that a power loss would take.
#[derive(Clone, Debug)]
struct Unsynced {
    vfs: MemoryVfs,
    steps: Arc<std::sync::atomic::AtomicI64>,
    folders: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Unsynced {
    fn step(&self, path: &Path) -> Result<(), IoError> {
        if self.steps.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(IoError::new(
            keepstone_vfs::IoOperation::SyncDir,
            path,
            std::io::Error::other("the process was killed"),
        ))
    }
}

impl Vfs for Unsynced {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        self.vfs.open(path, options)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.step(from)?;
        self.vfs.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.vfs.remove(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.vfs.list(dir)
    }
    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.step(path)?;
        if self.vfs.list(path).is_err() {
            self.folders.lock().insert(path.to_path_buf());
        }
        self.vfs.create_dir(path)
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.step(dir)?;
        self.folders.lock().retain(|folder| folder.parent() != Some(dir));
        self.vfs.sync_dir(dir)
    }
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        self.vfs.lock(path, holder)
    }
    fn volume(&self, path: &Path) -> Result<Volume, IoError> {
        self.vfs.volume(path)
    }
}

#[test]
fn a_folder_that_a_killed_process_made_is_not_lost_with_the_power() {
    let dir = Path::new("/a/b/store");
    let clock = || Arc::new(keepstone_types::SystemClock::default());
    let mut stopped = 0;
    for steps in 0..40 {
        let disk = Unsynced {
            vfs: MemoryVfs::new(),
            steps: Arc::new(std::sync::atomic::AtomicI64::new(steps)),
            folders: Arc::new(Mutex::new(TEST_OUTER, BTreeSet::new())),
        };
        let first = Database::open_with(Arc::new(disk.clone()), clock(), dir, options());
        stopped += usize::from(first.is_err());
        drop(first);
        disk.steps.store(i64::MAX, std::sync::atomic::Ordering::SeqCst);
        let database = Database::open_with(Arc::new(disk.clone()), clock(), dir, options()).unwrap();
        put(&database, "a", "1");
        assert_eq!(*disk.folders.lock(), BTreeSet::new(), "killed after {steps} changes");
    }
    assert!((8..40).contains(&stopped), "{stopped}");
}
