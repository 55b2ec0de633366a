//! Opening: is the folder a store, may it be written, and what does its log say.
//!
//! Invariants:
//! * Nothing is written to what is not understood: the identity file is read and judged before the lock is taken, and
//!   again under it.
//! * A folder is a store when it holds the identity file, which is renamed in when all else of a new store is there. A
//!   staged identity without it is a creation that did not end, and is taken up with the same store id. Anything else
//!   in a folder without identity is somebody else's and stays untouched.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use keepstone_pager::{PageFile, PageFileOptions, PageSize, Parity};
use keepstone_types::{Clock, Generation, Lsn, StoreId, Timeline, Timestamp, Version, lock_rank};
use keepstone_vfs::{
    IoError, LockError, MemoryVfs, OpenOptions as FileOptions, Vfs, VfsExt, VfsFileExt, VfsLock,
};
use keepstone_wal as wal;
use keepstone_wal::{Log, LogOptions, Replayed};

use crate::checkpoint::{Checkpointer, completed};
use crate::commit::window::CommitWindow;
use crate::commit::{Admission, CommitSink};
use crate::database::Inner;
use crate::error::OpenError;
use crate::ground::Ground;
use crate::ground::meta::Meta;
use crate::identity::{FILE_NAME, Identity, STAGED_NAME};
use crate::log::error::{open_error, pages_error};
use crate::log::record::{HEAD_LEN, decode, is_commit};
use crate::log::replay::Replay;
use crate::options::{Access, DatabaseOptions, Existence, Recovery};
use crate::runs::{RunFolder, Unnamed};
use crate::shared::Shared;
use crate::sync::{Arc, Mutex};

/// The log's folder within the store's.
pub(crate) const LOG_DIR: &str = "log";
/// The lock file.
pub(crate) const LOCK_NAME: &str = "LOCK";
/// The page file.
pub(crate) const PAGES_NAME: &str = "pages";
/// Bytes of an identity file that are read, at most.
const IDENTITY_READ_MAX: u64 = 4_096;

/// What a folder is.
enum Found {
    Store(Identity),
    /// Empty, or a creation that did not end, with what it had staged.
    Empty(Option<Identity>),
    Missing,
}

/// A file system, a folder in it, and how errors there are told.
pub(crate) struct Place<'a> {
    pub(crate) vfs: &'a Arc<dyn Vfs>,
    pub(crate) dir: &'a Path,
}

impl Place<'_> {
    pub(crate) fn io(&self, source: IoError) -> OpenError {
        OpenError::Io { dir: self.dir.to_path_buf(), source: source.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Looks at the folder without changing anything.
    fn look(&self) -> Result<Found, OpenError> {
        let entries = match self.vfs.list(self.dir) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(Found::Missing),
            Err(error) => return Err(self.io(error)),
        };
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        if has(FILE_NAME) {
            return self.identity(FILE_NAME).map(Found::Store);
        }
        let staged = if has(STAGED_NAME) { self.identity(STAGED_NAME).ok() } else { None };
        let known = |name: &str| match name {
            LOCK_NAME | STAGED_NAME => true,
            LOG_DIR | PAGES_NAME => staged.is_some(),
            _ => false,
        };
        match entries.iter().find(|entry| !known(&entry.name)) {
            Some(entry) => {
                Err(OpenError::NotAStore { dir: self.dir.to_path_buf(), found: entry.name.clone() })
            }
            None => Ok(Found::Empty(staged)),
        }
    }

    fn identity(&self, name: &str) -> Result<Identity, OpenError> {
        let path = self.path(name);
        let bytes = self.vfs.read_file(&path, IDENTITY_READ_MAX).map_err(|error| self.io(error))?;
        Identity::decode(&path, &bytes)
    }

    /// Refuses a network file system, judged by the nearest folder that exists.
    pub(crate) fn must_be_local(&self) -> Result<(), OpenError> {
        for dir in self.dir.ancestors() {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            match self.vfs.volume(dir) {
                Ok(volume) => {
                    let Some(protocol) = volume.network else { return Ok(()) };
                    return Err(OpenError::NetworkVolume { dir: self.dir.to_path_buf(), protocol });
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(self.io(error)),
            }
        }
        Ok(())
    }

    pub(crate) fn lock(&self) -> Result<Box<dyn VfsLock>, OpenError> {
        let holder = format!("process {}", std::process::id());
        self.vfs.lock(&self.path(LOCK_NAME), &holder).map_err(|error| match error {
            LockError::Held { holder, .. } => OpenError::Locked { dir: self.dir.to_path_buf(), holder },
            LockError::Io(error) => self.io(error),
            other => OpenError::Io { dir: self.dir.to_path_buf(), source: other.into() },
        })
    }

    /// Creates the folder and those above it, each name durable. Those that are there may have been made by a process
    /// that was killed before it made their names durable.
    pub(crate) fn create_dirs(&self) -> Result<(), IoError> {
        let mut missing = Vec::new();
        for dir in self.dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
            match self.vfs.list(dir) {
                Ok(_) => break,
                Err(error) if error.is_not_found() => missing.push(dir),
                Err(error) => return Err(error),
            }
        }
        for dir in missing.into_iter().rev() {
            self.vfs.create_dir(dir)?;
        }
        for parent in self.dir.ancestors().filter_map(Path::parent) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match self.vfs.sync_dir(parent) {
                // Who may not look into a folder has made nothing in it.
                Err(error) if error.io_kind() != ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the identity of a store to be, under the name that does not count yet.
    fn stage(&self, identity: &Identity) -> Result<(), IoError> {
        let path = self.path(STAGED_NAME);
        if self.vfs.exists(&path)? {
            self.vfs.remove(&path)?;
        }
        let file = self.vfs.open(&path, FileOptions::CREATE_NEW)?;
        file.write_all_at(&identity.encode(), 0)?;
        file.sync_all()?;
        self.vfs.sync_dir(self.dir)
    }

    /// Makes durable what was found of a creation that did not end: it may be in the system's cache only, if the process
    /// that began it was killed.
    fn keep_staged(&self) -> Result<(), IoError> {
        let file = self.vfs.open(&self.path(STAGED_NAME), FileOptions::WRITE)?;
        file.sync_all()
    }

    /// Makes the names in the folder durable. Who found them there cannot know that their maker lived to sync them.
    fn sync_names(&self) -> Result<(), IoError> {
        self.vfs.sync_dir(self.dir)
    }

    pub(crate) fn create_log_dir(&self) -> Result<(), IoError> {
        self.vfs.create_dir(&self.path(LOG_DIR))?;
        self.vfs.sync_dir(self.dir)
    }

    /// Makes the folder a store.
    pub(crate) fn publish_identity(&self, staged: &str) -> Result<(), IoError> {
        self.vfs.rename(&self.path(staged), &self.path(FILE_NAME))?;
        self.vfs.sync_dir(self.dir)
    }
}

/// A folder that may be opened: its identity, the lock if it is for writing, and whether it is a store yet.
pub(crate) struct Claimed {
    pub(crate) identity: Identity,
    pub(crate) lock: Option<Box<dyn VfsLock>>,
    pub(crate) is_new: bool,
}

fn claim(place: &Place<'_>, clock: &dyn Clock, options: &DatabaseOptions) -> Result<Claimed, OpenError> {
    let dir = || place.dir.to_path_buf();
    let found = place.look()?;
    let writable = match (&found, options.existence) {
        (Found::Store(_), Existence::Create) => return Err(OpenError::AlreadyExists { dir: dir() }),
        (Found::Store(identity), _) => {
            let features = identity.unknown_read_features;
            match options.access {
                Access::ReadOnly => false,
                Access::Write if features != 0 => {
                    let (path, found) = (place.path(FILE_NAME), crate::identity::FORMAT_VERSION);
                    return Err(OpenError::NewerFormat { path, found, supported: found, features });
                }
                Access::Write => true,
                Access::WriteIfFree => features == 0,
            }
        }
        (_, Existence::MustExist) => return Err(OpenError::NotFound { dir: dir() }),
        (_, _) if options.access == Access::ReadOnly => return Err(OpenError::NotFound { dir: dir() }),
        (Found::Missing | Found::Empty(_), _) => {
            place.create_dirs().map_err(|error| place.io(error))?;
            true
        }
    };
    let may_read = options.access == Access::WriteIfFree && matches!(found, Found::Store(_));
    let lock = match writable.then(|| place.lock()) {
        None => None,
        Some(Ok(lock)) => Some(lock),
        Some(Err(OpenError::Locked { .. })) if may_read => None,
        Some(Err(error)) => return Err(error),
    };
    // Somebody may have made the store between the look and the lock.
    match place.look()? {
        Found::Store(_) if options.existence == Existence::Create => {
            Err(OpenError::AlreadyExists { dir: dir() })
        }
        Found::Store(identity) => Ok(Claimed { identity, lock, is_new: false }),
        _ if lock.is_none() => Err(OpenError::NotFound { dir: dir() }),
        Found::Empty(Some(identity)) => {
            place.keep_staged().map_err(|error| place.io(error))?;
            Ok(Claimed { identity, lock, is_new: true })
        }
        Found::Empty(None) | Found::Missing => {
            let identity = new_identity(clock, options)?;
            place.stage(&identity).map_err(|error| place.io(error))?;
            Ok(Claimed { identity, lock, is_new: true })
        }
    }
}

pub(crate) fn new_identity(clock: &dyn Clock, options: &DatabaseOptions) -> Result<Identity, OpenError> {
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id).map_err(|error| OpenError::Random { source: error.to_string().into() })?;
    let (store_id, created) = (StoreId::from_bytes(id), clock.now());
    let durability = options.durability.unwrap_or_default();
    let retention = options.retention.unwrap_or_default();
    Ok(Identity { store_id, created, durability, retention, unknown_read_features: 0 })
}

fn log_options(
    options: &DatabaseOptions,
    identity: &Identity,
    (writable, is_new): (bool, bool),
    known_durable: Lsn,
) -> LogOptions {
    let durability = options.durability.unwrap_or(identity.durability);
    let recovery = match options.recovery {
        Recovery::Prefix => wal::Recovery::Prefix,
        Recovery::Strict | Recovery::ReadOnlyAtCheckpoint => wal::Recovery::Strict,
    };
    let access = if writable { wal::Access::Write } else { wal::Access::ReadOnly };
    options
        .log
        .clone()
        .durability(durability)
        .recovery(recovery)
        .access(access)
        .store_id(Some(identity.store_id))
        .head_len(HEAD_LEN)
        .known_durable(known_durable)
        // The identity is renamed in after the log was made.
        .must_exist(!is_new)
}

/// Opens or makes the store in `dir`.
pub(crate) fn open(
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: &Path,
    options: DatabaseOptions,
) -> Result<Inner, OpenError> {
    options.check()?;
    if options.recovery == Recovery::ReadOnlyAtCheckpoint {
        return open_at_checkpoint(&vfs, clock, dir, options);
    }
    let place = Place { vfs: &vfs, dir };
    if !options.force_network {
        place.must_be_local()?;
    }
    let claimed = claim(&place, &*clock, &options)?;
    let is_new = claimed.is_new;
    if claimed.lock.is_some() {
        place.sync_names().map_err(|error| place.io(error))?;
    }
    let inner = open_claimed(&vfs, clock, &options, claimed, dir)?;
    if is_new {
        place.publish_identity(STAGED_NAME).map_err(|error| place.io(error))?;
    }
    Ok(inner)
}

/// Opens what was claimed; what is new has no identity yet.
pub(crate) fn open_claimed(
    vfs: &Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    options: &DatabaseOptions,
    claimed: Claimed,
    dir: &Path,
) -> Result<Inner, OpenError> {
    let place = Place { vfs, dir };
    let Claimed { identity, lock, is_new } = claimed;
    let writable = lock.is_some();
    if is_new {
        place.create_log_dir().map_err(|error| place.io(error))?;
    }
    let ground = open_ground(&place, &identity, options, (writable, is_new))?;
    let shared = Arc::new(Shared::new(dir, identity.store_id, Arc::clone(&clock), !writable).on(ground));
    let runs = run_folder(vfs, &shared, options);
    let log = open_log(vfs, &clock, options, (&identity, is_new), (&shared, &runs))?;
    let unnamed = match (writable, log.recovery().quarantined.is_empty()) {
        (false, _) => Unnamed::Stays,
        (true, true) => Unnamed::Goes,
        (true, false) => Unnamed::IsQuarantined,
    };
    runs.begin(unnamed).map_err(|error| place.io(error))?;
    let lock = Mutex::new(lock_rank::MVCC_STORE_LOCK, lock);
    let durability = options.durability.unwrap_or(identity.durability);
    let checkpointer = Checkpointer::new(options.checkpoint);
    let retention = options.retention.unwrap_or(identity.retention);
    let window_bytes_max = options.window_bytes_max;
    let transaction_memory_bytes = options.transaction_memory_bytes;
    let readers = options.readers;
    Ok(Inner {
        shared,
        log,
        vfs: Arc::clone(vfs),
        window_bytes_max,
        transaction_memory_bytes,
        runs,
        durability,
        retention,
        history: options.history,
        readers,
        checkpointer,
        lock,
    })
}

/// Opens what the page file has whole, for reading, without looking at the log: an empty one in memory stands in its
/// place.
fn open_at_checkpoint(
    vfs: &Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: &Path,
    options: DatabaseOptions,
) -> Result<Inner, OpenError> {
    let place = Place { vfs, dir };
    let options = DatabaseOptions { access: Access::ReadOnly, existence: Existence::MustExist, ..options };
    let Claimed { identity, .. } = claim(&place, &*clock, &options)?;
    let ground = open_ground(&place, &identity, &options, (false, false))?;
    let shared = Shared::new(dir, identity.store_id, Arc::clone(&clock), true).on(ground);
    let shared = Arc::new(shared);
    let runs = run_folder(vfs, &shared, &options);
    Replay::new(&shared, &runs)?.finish();
    let sink = Arc::new(CommitSink { shared: Arc::clone(&shared) });
    let (memory, log_dir) = (Arc::new(MemoryVfs::new()), Path::new("/log"));
    let log_options = LogOptions::default().tending(wal::Tending::Caller);
    let log =
        Log::open_sink(memory, clock, log_dir, log_options, sink, |_| no_commits(&options), &mut |_| Ok(()))
            .map_err(|error| open_error(dir, error))?;
    Ok(Inner {
        shared,
        log,
        vfs: Arc::clone(vfs),
        window_bytes_max: options.window_bytes_max,
        transaction_memory_bytes: options.transaction_memory_bytes,
        runs,
        durability: options.durability.unwrap_or(identity.durability),
        retention: options.retention.unwrap_or(identity.retention),
        history: options.history,
        readers: options.readers,
        checkpointer: Checkpointer::new(options.checkpoint),
        lock: Mutex::new(lock_rank::MVCC_STORE_LOCK, None),
    })
}

/// The folder of runs, whose pages are as large as those of the page file.
fn run_folder(vfs: &Arc<dyn Vfs>, shared: &Shared, options: &DatabaseOptions) -> Arc<RunFolder> {
    let of_file = shared.stack.with(|layers| layers.ground().map(|ground| ground.pages().page_size()));
    let page_size = of_file.or_else(|| PageSize::new(options.page_size)).unwrap_or_default();
    Arc::new(RunFolder::new(Arc::clone(vfs), &shared.dir, shared.store_id, page_size))
}

/// Opens the page file, or makes it, and reads what its newest root says.
fn open_ground(
    place: &Place<'_>,
    identity: &Identity,
    options: &DatabaseOptions,
    (writable, is_new): (bool, bool),
) -> Result<Ground, OpenError> {
    let path = place.path(PAGES_NAME);
    let dir = || place.dir.to_path_buf();
    let size = PageSize::new(options.page_size).unwrap_or_default();
    let parity = if options.parity { Parity::Xor } else { Parity::Off };
    let pages = PageFileOptions::default().page_size(size).cache_bytes(options.cache_bytes).parity(parity);
    let opened = if is_new {
        // What is there of a creation that did not end has nothing yet.
        if place.vfs.exists(&path).map_err(|error| place.io(error))? {
            place.vfs.remove(&path).map_err(|error| place.io(error))?;
        }
        PageFile::create(Arc::clone(place.vfs), &path, identity.store_id, pages)
    } else {
        let access =
            if writable { keepstone_pager::Access::Write } else { keepstone_pager::Access::ReadOnly };
        PageFile::open(Arc::clone(place.vfs), &path, identity.store_id, pages, access, Generation::ZERO)
    };
    let file = opened.map_err(|error| pages_error(place.dir, error))?;
    let root = file.root();
    Ground::load(file, root).map_err(|error| OpenError::Pages {
        dir: dir(),
        kind: error.kind(),
        source: error.into(),
    })
}

/// Where a checkpoint is half done, the page file has rows of commits that only the log has whole. Recovery of a prefix
/// would cut the log first and find that out afterwards, so the log is looked at before anything is written to it.
fn must_not_cut_what_is_folded(
    vfs: &Arc<dyn Vfs>,
    clock: &Arc<dyn Clock>,
    options: &DatabaseOptions,
    identity: &Identity,
    (shared, meta): (&Arc<Shared>, &Meta),
) -> Result<(), OpenError> {
    let dir = shared.dir.as_path();
    let mut last = meta.through;
    let log = Log::open_sink(
        Arc::clone(vfs),
        Arc::clone(clock),
        &dir.join(LOG_DIR),
        log_options(options, identity, (false, false), meta.folded_lsn).tending(wal::Tending::Caller),
        Arc::new(CommitSink { shared: Arc::clone(shared) }),
        |_report| no_commits(options),
        &mut |replayed| {
            if let Replayed::Record(record) = replayed
                && is_commit(record.kind)
                && let Ok(commit) = decode(record.kind, &record.payload)
            {
                last = last.max(commit.version);
            }
            Ok(())
        },
    );
    drop(log.map_err(|error| open_error(dir, error))?);
    if last < meta.folded {
        let (expected, found) = (meta.folded, last);
        return Err(OpenError::LogBehind { dir: dir.to_path_buf(), expected, found });
    }
    Ok(())
}

/// What a log knows of commits before its records are replayed.
fn no_commits(options: &DatabaseOptions) -> Admission {
    Admission {
        last: Version::ZERO,
        last_time: Timestamp::EPOCH,
        timeline: Timeline::FIRST,
        window: CommitWindow::new(Version::ZERO, options.window_bytes_max),
    }
}

fn open_log(
    vfs: &Arc<dyn Vfs>,
    clock: &Arc<dyn Clock>,
    options: &DatabaseOptions,
    (identity, is_new): (&Identity, bool),
    (shared, runs): (&Arc<Shared>, &Arc<RunFolder>),
) -> Result<Log<CommitSink>, OpenError> {
    let (dir, window_bytes_max) = (shared.dir.as_path(), options.window_bytes_max);
    let layers = shared.stack.current();
    let meta = layers.ground().map(|ground| *ground.meta()).unwrap_or_default();
    if options.recovery == Recovery::Prefix && !shared.read_only && meta.folded > meta.through {
        must_not_cut_what_is_folded(vfs, clock, options, identity, (shared, &meta))?;
    }
    let mut replay = Replay::new(shared, runs)?;
    let log = Log::open_sink(
        Arc::clone(vfs),
        Arc::clone(clock),
        &dir.join(LOG_DIR),
        log_options(options, identity, (!shared.read_only, is_new), meta.folded_lsn),
        Arc::new(CommitSink { shared: Arc::clone(shared) }),
        |_report| no_commits(options),
        &mut |replayed| replay.take(replayed).map_err(Into::into),
    )
    .map_err(|error| open_error(dir, error))?;
    let (last, last_time) = replay.finish();
    if last < meta.folded {
        let (expected, found) = (meta.folded, last);
        return Err(OpenError::LogBehind { dir: dir.to_path_buf(), expected, found });
    }
    if let Some(ground) = layers.ground() {
        let (expected, found) = (completed(log.recovery().owner_mark), ground.generation().get());
        if found < expected {
            return Err(OpenError::PagesBehind { dir: dir.to_path_buf(), expected, found });
        }
    }
    let timeline = log.recovery().timeline;
    // What was replayed is known only now, and nobody can commit before this returns.
    log.with_admission(|admission| {
        let window = CommitWindow::new(last, window_bytes_max);
        *admission = Admission { last, last_time, timeline, window };
    });
    Ok(log)
}
