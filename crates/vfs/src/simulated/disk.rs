//! The simulated disk as a [`Vfs`].

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepstone_types::{ManualClock, lock_rank};

use super::TEAR;
use super::choose::{Choose, Dice};
use super::content::PAGE;
use super::event::{Event, Inode, Payload, WriteFate};
use super::fault::{FailedSync, Fault};
use super::image::Tearing;
use super::names::Node;
use super::platter::Platter;
use super::trace::Trace;
use crate::error::{IoError, IoOperation, LockError};
use crate::file_system::{
    DirEntry, EntryKind, OpenMode, OpenOptions, Vfs, VfsFile, VfsLock, Volume, WriteMode,
};
use crate::lock_registry::{Claim, LockRegistry};
use crate::sync::{Arc, Mutex, MutexGuard};

/// What operations take. Each is drawn between a half and one and a half of what stands here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// A read or a write.
    pub transfer: Duration,
    /// A sync of a file or folder.
    pub sync: Duration,
}

#[derive(Debug)]
struct State {
    platter: Platter,
    base: Platter,
    events: Arc<Vec<Event>>,
    next_inode: Inode,
    dice: Dice,
    faults: Vec<Fault>,
    bad: BTreeSet<(Inode, usize)>,
    changes: u64,
    capacity: Option<u64>,
    clock: Option<(Arc<ManualClock>, Delays)>,
}

/// A disk in memory that can lose power, fail and rot; see the module's description. Clones share one disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    locks: Arc<LockRegistry>,
}

fn error(operation: IoOperation, path: &Path, kind: io::ErrorKind) -> IoError {
    IoError::new(operation, path, kind.into())
}

fn simulated(operation: IoOperation, path: &Path, text: &str) -> IoError {
    IoError::new(operation, path, io::Error::other(format!("simulated: {text}")))
}

impl SimulatedDisk {
    /// An empty disk whose root directory is `/`; what is left to chance is drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(Platter::empty(), Dice::new(seed))
    }

    pub(super) fn of(platter: Platter, dice: Dice) -> Self {
        let next_inode = platter.files.keys().next_back().map_or(1, |last| last.saturating_add(1));
        let state = State {
            base: platter.clone(),
            platter,
            events: Arc::default(),
            next_inode,
            dice,
            faults: Vec::new(),
            bad: BTreeSet::new(),
            changes: 0,
            capacity: None,
            clock: None,
        };
        Self {
            state: Arc::new(Mutex::new(lock_rank::VFS_SIMULATED, state)),
            locks: Arc::new(LockRegistry::new()),
        }
    }

    /// Moves `clock` by what each operation takes.
    pub fn set_clock(&self, clock: Arc<ManualClock>, delays: Delays) {
        self.state.lock().clock = Some((clock, delays));
    }

    /// Limits the space of all files together, in bytes; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Space of all files with a name, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        u64::try_from(self.state.lock().platter.allocated().saturating_mul(PAGE)).unwrap_or(u64::MAX)
    }

    /// Asks for a fault.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.state.lock();
        match fault {
            Fault::BadSector(path, sector) => {
                if let (Some(Node::File(inode)), Ok(sector)) =
                    (state.platter.node(&path), usize::try_from(sector))
                {
                    state.bad.insert((inode, sector));
                }
            }
            fault => state.faults.push(fault),
        }
    }

    /// Takes back every fault that was asked for and has not struck, and mends the sectors that cannot be read.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.bad.clear();
    }

    /// How many changes were made or tried: writes, lengths, syncs and names.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Marks this moment in the trace.
    pub fn note(&self, note: u64) {
        self.state.lock().record(Event::Note(note));
    }

    /// Everything that happened to the disk.
    #[must_use]
    pub fn trace(&self) -> Trace {
        let state = self.state.lock();
        Trace { base: state.base.clone(), events: Arc::clone(&state.events) }
    }

    /// How many events there are in the trace.
    #[must_use]
    pub fn position(&self) -> usize {
        self.state.lock().events.len()
    }

    /// The disk that is found if the power fails now.
    #[must_use]
    pub fn power_loss(&self, tearing: Tearing, choose: &mut dyn Choose, seed: u64) -> Self {
        let platter = self.state.lock().platter.clone();
        Self::of(platter.after_power_loss(tearing, choose), Dice::new(seed))
    }

    /// The disk that is found if the process is killed now and the system goes on.
    #[must_use]
    pub fn kill(&self, seed: u64) -> Self {
        Self::of(self.state.lock().platter.clone(), Dice::new(seed))
    }

    /// Changes bytes of a file, stable and seen, by combining them with `mask` by exclusive or. False when there is no
    /// such file.
    pub fn rot(&self, path: &Path, offset: u64, mask: &[u8]) -> bool {
        let mut state = self.state.lock();
        let (Some(Node::File(inode)), Ok(offset)) = (state.platter.node(path), usize::try_from(offset))
        else {
            return false;
        };
        state.record(Event::Rot { inode, offset, mask: mask.into() });
        true
    }

    /// Makes a sector of 512 bytes of a file read as zero. False when there is no such file.
    pub fn zero_sector(&self, path: &Path, sector: u64) -> bool {
        let offset = sector.saturating_mul(u64::try_from(TEAR).unwrap_or(u64::MAX));
        let mut mask = vec![0; TEAR];
        {
            let state = self.state.lock();
            let (Some(Node::File(inode)), Ok(offset)) = (state.platter.node(path), usize::try_from(offset))
            else {
                return false;
            };
            let got = state.platter.file(inode).map_or(0, |file| file.durable.read(&mut mask, offset));
            mask.truncate(got);
        }
        self.rot(path, offset, &mask)
    }
}

impl State {
    fn record(&mut self, event: Event) {
        self.platter.apply(&event);
        Arc::make_mut(&mut self.events).push(event);
    }

    /// Lets time pass.
    fn take_time(&mut self, of: impl Fn(&Delays) -> Duration) {
        let Some((clock, delays)) = &self.clock else { return };
        let micros = u64::try_from(of(delays).as_micros()).unwrap_or(u64::MAX);
        let drawn = (micros / 2).saturating_add(self.dice.choose(micros.saturating_add(1)));
        clock.advance(Duration::from_micros(drawn));
    }

    /// Counts a change and says its number; an error when the power is off.
    fn begin_change(&mut self, operation: IoOperation, path: &Path) -> Result<u64, IoError> {
        let change = self.changes;
        self.changes = self.changes.saturating_add(1);
        let off = |fault: &Fault| matches!(fault, Fault::PowerOff(from) if change >= *from);
        if self.faults.iter().any(off) {
            return Err(simulated(operation, path, "the power is off"));
        }
        Ok(change)
    }

    /// The first fault that `pick` accepts; it strikes once.
    fn strike<T>(&mut self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let place = self.faults.iter().position(|fault| pick(fault).is_some())?;
        let found = self.faults.get(place).and_then(&pick);
        self.faults.remove(place);
        found
    }

    fn failing_sync(&mut self, change: u64) -> Option<FailedSync> {
        self.strike(|fault| match fault {
            Fault::FailSync(from, how) if change >= *from => Some(*how),
            _ => None,
        })
    }

    /// How many of `wanted` bytes go in one call.
    fn shortened(&mut self, wanted: usize) -> usize {
        let cases = self.faults.iter().find_map(|fault| match fault {
            Fault::Short(cases) => Some(*cases),
            _ => None,
        });
        let Some(cases) = cases else { return wanted };
        if wanted < 2 || !self.dice.one_in(cases) {
            return wanted;
        }
        let most = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(1);
        usize::try_from(self.dice.choose(most).saturating_add(1)).unwrap_or(wanted)
    }

    /// How many of `len` bytes at `offset` the disk has room for.
    fn fitting(&self, inode: Inode, offset: usize, len: usize) -> usize {
        let Some(capacity) = self.capacity else { return len };
        let Some(file) = self.platter.file(inode) else { return len };
        let missing = file.live.missing(offset, len);
        let pages = usize::try_from(capacity).unwrap_or(usize::MAX).checked_div(PAGE).unwrap_or(0);
        let free = pages.saturating_sub(self.platter.allocated());
        if missing <= free {
            return len;
        }
        // Page by page, until the first that has no room.
        let mut fits = 0_usize;
        while fits < len {
            let to_boundary = PAGE.saturating_sub(offset.saturating_add(fits) % PAGE);
            let next = fits.saturating_add(to_boundary).min(len);
            if file.live.missing(offset, next) > free {
                break;
            }
            fits = next;
        }
        fits
    }

    fn has_parent(&self, path: &Path) -> bool {
        path.parent().is_some_and(|parent| self.platter.node(parent) == Some(Node::Directory))
    }

    fn create(&mut self, path: &Path) -> Inode {
        let inode = self.next_inode;
        self.next_inode = inode.saturating_add(1);
        self.record(Event::Create { inode, path: path.to_path_buf() });
        inode
    }
}

impl Vfs for SimulatedDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        let mut state = self.state.lock();
        let refused = |kind| Err(error(IoOperation::Open, path, kind));
        let inode = match (state.platter.node(path), options.mode) {
            (Some(Node::File(inode)), OpenMode::Read | OpenMode::Write) => inode,
            (None, OpenMode::CreateNew) if state.has_parent(path) => {
                state.begin_change(IoOperation::Open, path)?;
                state.create(path)
            }
            (Some(_), OpenMode::CreateNew) => return refused(io::ErrorKind::AlreadyExists),
            (Some(Node::Directory), _) => return refused(io::ErrorKind::IsADirectory),
            (None, _) => return refused(io::ErrorKind::NotFound),
        };
        let writable = options.mode != OpenMode::Read;
        let stable = options.write == WriteMode::DataSync;
        let state = Arc::clone(&self.state);
        Ok(Arc::new(SimulatedFile { state, inode, writable, stable, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let mut state = self.state.lock();
        if !state.has_parent(to) || !matches!(state.platter.node(from), Some(Node::File(_))) {
            return Err(error(IoOperation::Rename, from, io::ErrorKind::NotFound));
        }
        if state.platter.node(to) == Some(Node::Directory) {
            return Err(error(IoOperation::Rename, from, io::ErrorKind::IsADirectory));
        }
        state.begin_change(IoOperation::Rename, from)?;
        state.record(Event::Rename { from: from.to_path_buf(), to: to.to_path_buf() });
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        let mut state = self.state.lock();
        if !matches!(state.platter.node(path), Some(Node::File(_))) {
            return Err(error(IoOperation::Remove, path, io::ErrorKind::NotFound));
        }
        state.begin_change(IoOperation::Remove, path)?;
        state.record(Event::Remove { path: path.to_path_buf() });
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        let state = self.state.lock();
        if state.platter.node(dir) != Some(Node::Directory) {
            return Err(error(IoOperation::List, dir, io::ErrorKind::NotFound));
        }
        let inside = state.platter.names.live().iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, node): (&PathBuf, &Node)| {
            let (kind, len) = match node {
                Node::File(inode) => {
                    (EntryKind::File, state.platter.file(*inode).map_or(0, |file| file.live.len()))
                }
                Node::Directory => (EntryKind::Directory, 0),
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            DirEntry { name, kind, len: u64::try_from(len).unwrap_or(u64::MAX) }
        };
        Ok(inside.map(entry).collect())
    }

    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        let mut state = self.state.lock();
        match state.platter.node(path) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(error(IoOperation::CreateDir, path, io::ErrorKind::AlreadyExists)),
            None if !state.has_parent(path) => {
                Err(error(IoOperation::CreateDir, path, io::ErrorKind::NotFound))
            }
            None => {
                state.begin_change(IoOperation::CreateDir, path)?;
                state.record(Event::CreateDir { path: path.to_path_buf() });
                Ok(())
            }
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        let mut state = self.state.lock();
        if state.platter.node(dir) != Some(Node::Directory) {
            return Err(error(IoOperation::SyncDir, dir, io::ErrorKind::NotFound));
        }
        let change = state.begin_change(IoOperation::SyncDir, dir)?;
        state.take_time(|delays| delays.sync);
        if state.failing_sync(change).is_some() {
            // The names stay pending: kept or lost, nobody knows.
            return Err(simulated(IoOperation::SyncDir, dir, "the sync failed"));
        }
        state.record(Event::SyncDir { path: dir.to_path_buf() });
        Ok(())
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        {
            let mut state = self.state.lock();
            if !state.has_parent(path) {
                return Err(error(IoOperation::Lock, path, io::ErrorKind::NotFound).into());
            }
            if state.platter.node(path).is_none() {
                state.begin_change(IoOperation::Lock, path)?;
                state.create(path);
            }
        }
        let claim = self.locks.claim(path, holder)?;
        Ok(Box::new(SimulatedLock { _claim: claim }))
    }

    fn volume(&self, path: &Path) -> Result<Volume, IoError> {
        let state = self.state.lock();
        if state.platter.node(path).is_none() {
            return Err(error(IoOperation::Volume, path, io::ErrorKind::NotFound));
        }
        let used = u64::try_from(state.platter.allocated().saturating_mul(PAGE)).unwrap_or(u64::MAX);
        Ok(Volume::new(state.capacity.map(|capacity| capacity.saturating_sub(used)), None))
    }
}

#[derive(Debug)]
struct SimulatedLock {
    _claim: Claim,
}

impl VfsLock for SimulatedLock {}

#[derive(Debug)]
struct SimulatedFile {
    state: Arc<Mutex<State>>,
    inode: Inode,
    writable: bool,
    /// Each write is stable when it returns.
    stable: bool,
    path: PathBuf,
}

impl SimulatedFile {
    /// Begins a change of the file: its number, and the state to change.
    fn change(&self, operation: IoOperation) -> Result<(u64, MutexGuard<'_, State>), IoError> {
        let mut state = self.state.lock();
        let change = state.begin_change(operation, &self.path)?;
        Ok((change, state))
    }

    fn must_be_writable(&self, operation: IoOperation) -> Result<(), IoError> {
        if self.writable {
            Ok(())
        } else {
            Err(error(operation, &self.path, io::ErrorKind::PermissionDenied))
        }
    }

    fn place(&self, operation: IoOperation, offset: u64, len: usize) -> Result<usize, IoError> {
        let start = usize::try_from(offset).ok();
        let fits = |start: &usize| start.checked_add(len).is_some_and(|end| isize::try_from(end).is_ok());
        start.filter(fits).ok_or_else(|| error(operation, &self.path, io::ErrorKind::FileTooLarge))
    }

    fn sync(&self) -> Result<(), IoError> {
        let (change, mut state) = self.change(IoOperation::Sync)?;
        state.take_time(|delays| delays.sync);
        let inode = self.inode;
        if let Some(FailedSync { reads_back }) = state.failing_sync(change) {
            let seed = state.dice.draw();
            state.record(Event::SyncFailed { inode, seed, reads_back });
            return Err(simulated(IoOperation::Sync, &self.path, "the sync failed"));
        }
        state.record(Event::Sync { inode });
        Ok(())
    }
}

impl VfsFile for SimulatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        let mut state = self.state.lock();
        state.take_time(|delays| delays.transfer);
        let Ok(offset) = usize::try_from(offset) else { return Ok(0) };
        let wanted = state.shortened(buf.len());
        let sectors = offset / TEAR..=offset.saturating_add(wanted.saturating_sub(1)) / TEAR;
        if wanted > 0 && sectors.into_iter().any(|sector| state.bad.contains(&(self.inode, sector))) {
            return Err(simulated(IoOperation::Read, &self.path, "a sector cannot be read"));
        }
        let file = state.platter.file(self.inode);
        Ok(file.map_or(0, |file| file.live.read(buf.get_mut(..wanted).unwrap_or_default(), offset)))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        self.must_be_writable(IoOperation::Write)?;
        let offset = self.place(IoOperation::Write, offset, buf.len())?;
        let (change, mut state) = self.change(IoOperation::Write)?;
        state.take_time(|delays| delays.transfer);
        let failing =
            |fault: &Fault| matches!(fault, Fault::FailWrite(from) if change >= *from).then_some(());
        if state.strike(failing).is_some() {
            return Err(simulated(IoOperation::Write, &self.path, "the write failed"));
        }
        let wanted = state.shortened(buf.len());
        let count = state.fitting(self.inode, offset, wanted);
        if count == 0 && !buf.is_empty() {
            return Err(error(IoOperation::Write, &self.path, io::ErrorKind::StorageFull));
        }
        let diverted = state.strike(|fault| match *fault {
            Fault::Divert(from, fate) if change >= from => Some(fate),
            _ => None,
        });
        let fate = diverted.unwrap_or(WriteFate::Arrives);
        let payload = Payload::of(buf.get(..count).unwrap_or_default());
        let (inode, durable) = (self.inode, self.stable);
        for sector in offset.div_ceil(TEAR)..offset.saturating_add(count) / TEAR {
            state.bad.remove(&(inode, sector));
        }
        state.record(Event::Write { inode, offset, payload, durable, fate });
        Ok(count)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.sync()
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync()
    }

    fn len(&self) -> Result<u64, IoError> {
        let state = self.state.lock();
        let len = state.platter.file(self.inode).map_or(0, |file| file.live.len());
        Ok(u64::try_from(len).unwrap_or(u64::MAX))
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.must_be_writable(IoOperation::Length)?;
        let len = self.place(IoOperation::Length, len, 0)?;
        let (_, mut state) = self.change(IoOperation::Length)?;
        state.record(Event::SetLen { inode: self.inode, len });
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
