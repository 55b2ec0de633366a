//! Power loss: unsynced sectors and names are lost, kept or torn in any order, at random points of random programs.
//!
//! The seed is printed; the same seed replays the same disk, though threads of the log may run in another order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepstone_types::sync::Mutex;
use keepstone_types::{Lsn, ManualClock, SystemClock, Timeline, lock_rank};
use keepstone_vfs::{
    DirEntry, EntryKind, IoError, IoOperation, LockError, OpenMode, OpenOptions, Vfs, VfsFile, VfsLock,
    Volume,
};
use keepstone_wal::{Durability, Log, LogOptions, Replayed};

use crate::support::{dir, long_payload, long_record, read_all, records, small};

/// What is in a file, and what of it a power loss leaves for sure.
#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
}

type Names = BTreeMap<PathBuf, usize>;

#[derive(Clone, Debug, Default)]
struct Platter {
    files: Vec<Content>,
    /// The names as they were after each change since the last sync of the folder; the first is durable.
    names: Vec<Names>,
    directories: Vec<PathBuf>,
    changes: u64,
    /// The disk has no power from this change on.
    power_until: u64,
}

impl Platter {
    fn live_names(&self) -> &Names {
        self.names.last().unwrap()
    }

    /// Counts a change; an error when the power is gone.
    fn change(&mut self, what: IoOperation, path: &Path) -> Result<(), IoError> {
        self.changes += 1;
        if self.changes >= self.power_until {
            return Err(IoError::new(what, path, io::ErrorKind::Other.into()));
        }
        Ok(())
    }
}

/// A disk that loses power.
#[derive(Clone, Debug)]
struct PowerDisk {
    platter: Arc<Mutex<Platter>>,
}

/// A small generator; the tests need no better one.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

impl PowerDisk {
    fn new(platter: Platter) -> Self {
        Self { platter: Arc::new(Mutex::new(lock_rank::VFS_MEMORY_TREE, platter)) }
    }

    fn empty() -> Self {
        let directories = vec![PathBuf::from("/")];
        Self::new(Platter {
            names: vec![Names::new()],
            directories,
            power_until: u64::MAX,
            ..Platter::default()
        })
    }

    /// What is found when the power is back: of each unsynced sector the old or the new bytes, of the names a prefix of
    /// the changes since the folder was synced.
    fn after_power_loss(&self, dice: &mut Dice) -> Self {
        let mut platter = self.platter.lock().clone();
        // One sector in so many is kept, lost, or everything is.
        let mood = dice.roll(4);
        for file in &mut platter.files {
            let len = if dice.roll(2) == 0 { file.live.len() } else { file.durable.len() };
            let mut found = file.durable.clone();
            found.resize(len, 0);
            for at in (0..len.min(file.live.len())).step_by(512) {
                let end = (at + 512).min(len).min(file.live.len());
                let kept = match mood {
                    0 => false,
                    1 => true,
                    2 => dice.roll(2) == 0,
                    _ => dice.roll(8) > 0,
                };
                if kept {
                    found[at..end].copy_from_slice(&file.live[at..end]);
                }
            }
            (file.live, file.durable) = (found.clone(), found);
        }
        let kept = dice.roll(platter.names.len() as u64) as usize;
        platter.names = vec![platter.names[kept].clone()];
        platter.power_until = u64::MAX;
        platter.changes = 0;
        Self::new(platter)
    }

    /// What is found when only the process has ended: what was written is there, though not synced.
    fn after_kill(&self) -> Self {
        let platter = self.platter.lock().clone();
        Self::new(Platter { power_until: u64::MAX, changes: 0, ..platter })
    }

    fn cut_power_after(&self, changes: u64) {
        let mut platter = self.platter.lock();
        platter.power_until = platter.changes + changes;
    }
}

fn failed(what: IoOperation, path: &Path, kind: io::ErrorKind) -> IoError {
    IoError::new(what, path, kind.into())
}

#[derive(Debug)]
struct PowerLock;
impl VfsLock for PowerLock {}

impl Vfs for PowerDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        let mut platter = self.platter.lock();
        let known = platter.live_names().get(path).copied();
        let id = match (known, options.mode) {
            (Some(id), OpenMode::Read | OpenMode::Write) => id,
            (None, OpenMode::CreateNew) => {
                platter.change(IoOperation::Open, path)?;
                platter.files.push(Content::default());
                let id = platter.files.len() - 1;
                let mut names = platter.live_names().clone();
                names.insert(path.to_path_buf(), id);
                platter.names.push(names);
                id
            }
            (None, _) => return Err(failed(IoOperation::Open, path, io::ErrorKind::NotFound)),
            (Some(_), _) => return Err(failed(IoOperation::Open, path, io::ErrorKind::AlreadyExists)),
        };
        Ok(Arc::new(PowerFile { platter: Arc::clone(&self.platter), id, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let mut platter = self.platter.lock();
        platter.change(IoOperation::Rename, from)?;
        let mut names = platter.live_names().clone();
        let id =
            names.remove(from).ok_or_else(|| failed(IoOperation::Rename, from, io::ErrorKind::NotFound))?;
        names.insert(to.to_path_buf(), id);
        platter.names.push(names);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        let mut platter = self.platter.lock();
        platter.change(IoOperation::Remove, path)?;
        let mut names = platter.live_names().clone();
        names.remove(path).ok_or_else(|| failed(IoOperation::Remove, path, io::ErrorKind::NotFound))?;
        platter.names.push(names);
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        let platter = self.platter.lock();
        if !platter.directories.iter().any(|known| known == dir) {
            return Err(failed(IoOperation::List, dir, io::ErrorKind::NotFound));
        }
        let inside = platter.live_names().iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, id): (&PathBuf, &usize)| DirEntry {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            kind: EntryKind::File,
            len: platter.files[*id].live.len() as u64,
        };
        Ok(inside.map(entry).collect())
    }

    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.platter.lock().directories.push(path.to_path_buf());
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        let mut platter = self.platter.lock();
        platter.change(IoOperation::SyncDir, dir)?;
        platter.names = vec![platter.live_names().clone()];
        Ok(())
    }

    fn lock(&self, _path: &Path, _holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        Ok(Box::new(PowerLock))
    }

    fn volume(&self, _path: &Path) -> Result<Volume, IoError> {
        Ok(Volume::new(None, None))
    }
}

#[derive(Debug)]
struct PowerFile {
    platter: Arc<Mutex<Platter>>,
    id: usize,
    path: PathBuf,
}

impl VfsFile for PowerFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        let platter = self.platter.lock();
        let rest = platter.files[self.id].live.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        let mut platter = self.platter.lock();
        let powered = platter.change(IoOperation::Write, &self.path);
        let first_without = platter.changes == platter.power_until;
        // The write that the power loss meets may have come through in part.
        if powered.is_ok() || first_without {
            let end = offset as usize + buf.len();
            let live = &mut platter.files[self.id].live;
            live.resize(live.len().max(end), 0);
            live[offset as usize..end].copy_from_slice(buf);
        }
        powered.map(|()| buf.len())
    }

    fn sync_data(&self) -> Result<(), IoError> {
        let mut platter = self.platter.lock();
        platter.change(IoOperation::Sync, &self.path)?;
        let file = &mut platter.files[self.id];
        file.durable = file.live.clone();
        Ok(())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync_data()
    }

    fn len(&self) -> Result<u64, IoError> {
        Ok(self.platter.lock().files[self.id].live.len() as u64)
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        let mut platter = self.platter.lock();
        platter.change(IoOperation::Length, &self.path)?;
        platter.files[self.id].live.resize(len as usize, 0);
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// What a program has done to a log, over any number of power losses.
#[derive(Default)]
struct Model {
    /// What the log must hold, by number.
    acknowledged: BTreeMap<Lsn, Vec<u8>>,
    /// What it may hold.
    handed_in: BTreeMap<Vec<u8>, ()>,
    /// What was seen at each number.
    seen: BTreeMap<Lsn, Vec<u8>>,
    timeline: Timeline,
}

impl Model {
    /// Holds a reopened log to what may be found.
    fn check(&mut self, log: &Log, all: &[Replayed], strict: bool, what: &str) {
        let found: BTreeMap<_, _> = records(all).into_iter().collect();
        let first = log.recovery().first_lsn;
        for (lsn, payload) in self.acknowledged.iter().filter(|(lsn, _)| strict && **lsn >= first) {
            assert_eq!(found.get(lsn), Some(payload), "{what}: {lsn} was acknowledged");
        }
        for (lsn, payload) in &found {
            assert!(self.handed_in.contains_key(payload), "{what}: {lsn} is invented");
            let before = self.seen.insert(*lsn, payload.clone());
            assert!(before.is_none_or(|before| before == *payload), "{what}: {lsn} has two contents");
        }
        let timeline = log.recovery().timeline;
        assert!(timeline >= self.timeline, "{what}");
        let lost = self.acknowledged.keys().any(|lsn| *lsn >= first && !found.contains_key(lsn));
        assert!(
            !lost || timeline > self.timeline,
            "{what}: what was seen was lost on one timeline: {:?} of {:?}: {:?}",
            found.keys(),
            self.acknowledged.keys(),
            log.recovery()
        );
        self.timeline = timeline;
        self.acknowledged = found;
    }
}

fn reopen(disk: &PowerDisk, options: &LogOptions) -> Result<(Log, Vec<Replayed>), keepstone_wal::OpenError> {
    let mut all = Vec::new();
    let log = Log::open_with(
        Arc::new(disk.clone()),
        Arc::new(ManualClock::default()),
        dir(),
        options.clone(),
        &mut |entry| {
            all.push(entry);
            Ok(())
        },
    )?;
    Ok((log, all))
}

fn run(seed: u64, options: &LogOptions) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut disk = PowerDisk::empty();
    let mut model = Model::default();
    let strict = !options.durability.may_lose_acknowledged();
    let mut counter = 0;
    for life in 0..6 {
        let what = format!("seed {seed}, life {life}, {:?}", options.durability);
        if dice.roll(3) == 0 {
            // The power goes while the log is opened.
            disk.cut_power_after(dice.roll(40));
            let opened = reopen(&disk, options);
            drop(opened);
            disk = disk.after_power_loss(&mut dice);
        }
        let (log, all) = reopen(&disk, options).unwrap_or_else(|error| panic!("{what}: {error}"));
        model.check(&log, &all, strict, &what);
        disk.cut_power_after(1 + dice.roll(250));
        for _ in 0..dice.roll(60) {
            counter += 1;
            let len = match dice.roll(12) {
                0 => 25_000,
                1..4 => 9_000,
                _ => 20,
            };
            let mut record = long_record(counter, len);
            record.payload[..8].copy_from_slice(&(counter as u64).to_le_bytes());
            model.handed_in.insert(record.payload.clone(), ());
            let payload = record.payload.clone();
            match log.append(record) {
                Ok(lsn) => {
                    model.seen.insert(lsn, payload.clone());
                    model.acknowledged.insert(lsn, payload);
                }
                Err(_) => break,
            }
            match dice.roll(40) {
                0 => drop(log.release(Lsn::new(dice.roll(log.durable_lsn().get() + 1)))),
                1 => drop(log.set_owner_mark([7; 16])),
                2 => drop(log.sync()),
                _ => {}
            }
        }
        if dice.roll(4) == 0 {
            drop(log.close());
        }
        // The process ends with the power, wherever its threads are.
        disk.cut_power_after(0);
        disk = if dice.roll(3) == 0 { disk.after_kill() } else { disk.after_power_loss(&mut dice) };
        drop(log);
    }
    let (log, all) = reopen(&disk, options).unwrap_or_else(|error| panic!("seed {seed}, end: {error}"));
    model.check(&log, &all, strict, &format!("seed {seed}, end"));
    assert_eq!(log.verify().unwrap(), [], "seed {seed}");
    assert_eq!(read_all(&log).len(), model.acknowledged.len());
}

#[test]
fn power_loss_at_any_moment_loses_nothing_that_was_acknowledged() {
    for seed in 0..150 {
        let options = small().side_file_threshold(20_000);
        run(seed, &if seed % 3 == 0 { options.sector_size(512) } else { options });
    }
}

/// What a killed process left in the system's cache only, names too, is there at the next opening and may still be lost.
#[test]
fn a_kill_at_any_moment_and_a_power_loss_later_lose_nothing_that_was_acknowledged() {
    let options = small();
    let mut rotated = 0;
    for killed_after in 1..140 {
        let disk = PowerDisk::empty();
        let mut model = Model::default();
        let (log, _) = reopen(&disk, &options).unwrap();
        let append = |log: &Log, model: &mut Model, seed: usize| {
            let record = long_record(seed, 9_000);
            let payload = record.payload.clone();
            model.handed_in.insert(payload.clone(), ());
            log.append(record).map(|lsn| model.acknowledged.insert(lsn, payload)).is_ok()
        };
        disk.cut_power_after(killed_after);
        let kept = (0..30).take_while(|seed| append(&log, &mut model, *seed)).count();
        let disk = disk.after_kill();
        rotated += usize::from(
            disk.platter
                .lock()
                .live_names()
                .keys()
                .filter(|path| path.extension().is_some_and(|found| found == "wal"))
                .count()
                > 1,
        );
        drop(log);
        let (log, all) = reopen(&disk, &options).unwrap();
        model.check(&log, &all, true, "after the kill");
        assert!(append(&log, &mut model, 1_000), "{kept}");
        for seed in 0..6 {
            let what = format!("killed after {killed_after}, seed {seed}");
            let lost = disk.after_power_loss(&mut Dice(seed * 977 + 13));
            let (log, all) = reopen(&lost, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
            let found: BTreeMap<_, _> = records(&all).into_iter().collect();
            assert_eq!(found, model.acknowledged, "{what}");
            drop(log);
        }
    }
    assert!(rotated > 10, "{rotated}");
}

#[test]
fn power_loss_with_weak_durability_never_gives_a_number_two_contents() {
    let max_delay = std::time::Duration::from_secs(1_000);
    for seed in 1_000..1_080 {
        let durability = match seed % 2 {
            0 => Durability::None,
            _ => Durability::Relaxed { max_commits: 5, max_delay },
        };
        run(seed, &small().side_file_threshold(20_000).durability(durability));
    }
}

#[test]
fn the_simulated_disk_loses_what_is_not_synced() {
    let disk = PowerDisk::empty();
    disk.create_dir(dir()).unwrap();
    let clock = Arc::new(SystemClock::default());
    let options = small().durability(Durability::None);
    let log = Log::open_with(Arc::new(disk.clone()), clock, dir(), options.clone(), &mut |_| Ok(())).unwrap();
    log.append(long_record(1, 100)).unwrap();
    let mut lost = 0;
    for seed in 0..40 {
        let (_, all) = reopen(&disk.after_power_loss(&mut Dice(seed)), &options).unwrap();
        let found = records(&all);
        assert!(found.is_empty() || found[0].1 == long_payload(1, 100));
        lost += usize::from(found.is_empty());
    }
    assert!(lost > 0 && lost < 40, "{lost}: a disk that loses nothing shows nothing");
}
