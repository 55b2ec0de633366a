//! Consolidating and pruning: chains become shorter, and no snapshot that is to stay is ever without its parent.
//!
//! Invariants:
//! * A consolidated snapshot is written whole beside the delta, verified against what that adds up to, and renamed over it. What
//!   hangs on it names it by what it says, and that is the same before and after.
//! * A snapshot is removed when nothing hangs on it, and the folder is synced before the next is.

use super::chain::{Chain, FindFile as _};
use super::error::{SnapshotFileError, place_error};
use super::file::FileWriter;
use super::folder::{Inner, SnapshotFileInfo, SnapshotFolder, random_id};
use super::head::Head;
use super::names::file_stem;

/// What pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotPruneReport {
    /// Snapshots that were removed, in that order.
    pub removed: Vec<String>,
    /// Snapshots that were made full ones, because what they hung on went.
    pub consolidated: Vec<String>,
    /// Bytes of all snapshots before.
    pub bytes_before: u64,
    /// Bytes of all snapshots after.
    pub bytes_after: u64,
}

impl SnapshotFolder {
    /// Makes a delta a full snapshot of the same name and version, without the store. What hangs on it stays valid, and its
    /// chain begins with it. A full one is left as it is.
    ///
    /// # Errors
    /// When anything that it hangs on is missing or damaged, or the disk fails or is full. It stays as it was then.
    pub fn consolidate(&self, name: &str) -> Result<SnapshotFileInfo, SnapshotFileError> {
        let _reserved = self.inner.writing()?.reserve(name)?;
        self.inner.consolidate(name)?;
        self.info(name)
    }

    /// Removes the snapshots that are not to be kept. One that is kept and hangs on one that goes is consolidated first.
    ///
    /// # Errors
    /// When a snapshot of the folder is damaged, a disk fails or is full, or somebody makes a delta on one that goes. What
    /// was done stands; nothing that is kept is ever without what it needs.
    pub fn prune(
        &self,
        mut keep: impl FnMut(&SnapshotFileInfo) -> bool,
    ) -> Result<SnapshotPruneReport, SnapshotFileError> {
        let writing = self.inner.writing()?;
        let mut report = SnapshotPruneReport::default();
        let (mut staying, mut going) = (Vec::new(), Vec::new());
        for entry in self.list()? {
            let info = entry.info?;
            report.bytes_before = report.bytes_before.saturating_add(info.bytes);
            if keep(&info) { staying.push(info) } else { going.push(info) }
        }
        self.inner.settle(staying.iter().chain(&going))?;
        let goes = |name: &String| going.iter().any(|info| info.name == *name);
        for info in staying.iter().filter(|info| info.parent.as_ref().is_some_and(goes)) {
            let _reserved = writing.reserve(&info.name)?;
            self.inner.consolidate(&info.name)?;
            report.consolidated.push(info.name.clone());
        }
        while !going.is_empty() {
            let needed =
                |info: &SnapshotFileInfo| going.iter().any(|other| other.parent.as_ref() == Some(&info.name));
            // Parents are older than their children, so one of those that go is needed by no other.
            let at = going.iter().position(|info| !needed(info)).unwrap_or_default();
            let info = going.swap_remove(at);
            self.inner.remove(&info)?;
            report.removed.push(info.name);
        }
        let bytes = self.list()?.into_iter().filter_map(|entry| Some(entry.info.ok()?.bytes));
        report.bytes_after = bytes.fold(0, u64::saturating_add);
        Ok(report)
    }
}

impl Inner {
    /// Makes a delta a full snapshot; its name is reserved.
    fn consolidate(&self, name: &str) -> Result<(), SnapshotFileError> {
        let chain = Chain::open(self, name)?;
        if chain.len() == 1 {
            return self.settle([&SnapshotFileInfo::of(chain.newest())]);
        }
        let newest = chain.newest();
        let (content, stem) = (newest.trailer.content, file_stem(name)?);
        let head = Head { file_id: random_id()?, parent: None, ..newest.head.clone() };
        let staged = self.stage(&stem)?;
        let mut writer = FileWriter::create(&*self.vfs, staged.path(), head, &chain.tables())?;
        let mut rows = chain.rows()?;
        while let Some(row) = rows.next()? {
            writer.put(row.table, row.key, None, row.value)?;
        }
        writer.finish(content)?;
        staged.rename(&self.path(&stem))?;
        // Only when the new name lasts may anything below it go.
        self.settle([&self.find(name).map(|file| SnapshotFileInfo::of(&file))?])
    }

    /// Lets full snapshots hang on nothing. They do already, unless one was consolidated and its name could not be made to last.
    fn settle<'a>(
        &self,
        infos: impl IntoIterator<Item = &'a SnapshotFileInfo>,
    ) -> Result<(), SnapshotFileError> {
        self.vfs.sync_dir(&self.dir)?;
        for info in infos.into_iter().filter(|info| info.parent.is_none()) {
            let detached = self.writing()?.places.detach(&info.name);
            detached.map_err(|error| place_error(error, &info.name, ""))?;
        }
        Ok(())
    }

    fn remove(&self, info: &SnapshotFileInfo) -> Result<(), SnapshotFileError> {
        let writing = self.writing()?;
        let _reserved = writing.reserve(&info.name)?;
        let fail = |error| place_error(error, &info.name, "");
        writing.places.remove(&info.name).map_err(fail)?;
        let path = self.path(&file_stem(&info.name)?);
        let removed = self.vfs.remove(&path);
        if removed.is_err() && self.find(&info.name).is_ok() {
            writing.places.restore(info.name.clone(), info.parent.as_ref()).map_err(fail)?;
        }
        removed?;
        Ok(self.vfs.sync_dir(&self.dir)?)
    }
}
