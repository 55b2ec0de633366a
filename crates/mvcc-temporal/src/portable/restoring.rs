//! The folder of a store while it is being restored: to nobody but who restores is it a store, or one that is being made.
//!
//! Invariants:
//! * The marker is there before anything else, and lasts until the store is whole: then it becomes the identity, by a rename.
//! * Whoever takes up what another left removes all of it first, under the store's lock.

use std::path::Path;

use keepstone_types::Clock;
use keepstone_vfs::{EntryKind, IoError, Vfs, VfsExt as _};

use crate::database::Inner;
use crate::error::OpenError;
use crate::identity::{FILE_NAME, RESTORING_NAME};
use crate::open::{Claimed, LOCK_NAME, LOG_DIR, PAGES_NAME, Place, new_identity, open_claimed};
use crate::options::DatabaseOptions;
use crate::runs::RUNS_DIR;
use crate::sync::Arc;

/// What the marker is while it is being written.
const STAGED_NAME: &str = "KEEPSTONE.restoring.new";

/// Begins a store that is no store before [`publish`]; its folder must be missing or empty, or hold what a restoration left.
pub(crate) fn begin(
    vfs: &Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: &Path,
    options: &DatabaseOptions,
) -> Result<Inner, OpenError> {
    options.check()?;
    let place = Place { vfs, dir };
    if !options.force_network {
        place.must_be_local()?;
    }
    must_be_free(&place)?;
    place.create_dirs().map_err(|error| place.io(error))?;
    let lock = place.lock()?;
    // Somebody may have come between the look and the lock.
    must_be_free(&place)?;
    let identity = new_identity(&*clock, options)?;
    let mark = || {
        clear_files(vfs, dir)?;
        vfs.replace_file(&dir.join(RESTORING_NAME), &identity.encode())?;
        place.create_log_dir()
    };
    mark().map_err(|error| place.io(error))?;
    open_claimed(vfs, clock, options, Claimed { identity, lock: Some(lock), is_new: true }, dir)
}

/// Makes what was restored a store.
pub(crate) fn publish(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<(), OpenError> {
    let place = Place { vfs, dir };
    place.publish_identity(RESTORING_NAME).map_err(|error| place.io(error))
}

/// Removes what a restoration wrote that failed, but for the marker, when nobody has taken it up yet.
pub(crate) fn clear(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<(), OpenError> {
    let place = Place { vfs, dir };
    let _lock = place.lock()?;
    let is_ours = |name| vfs.exists(&dir.join(name)).map_err(|error| place.io(error));
    if is_ours(RESTORING_NAME)? && !is_ours(FILE_NAME)? {
        clear_files(vfs, dir).map_err(|error| place.io(error))?;
    }
    Ok(())
}

fn must_be_free(place: &Place<'_>) -> Result<(), OpenError> {
    let dir = || place.dir.to_path_buf();
    let entries = match place.vfs.list(place.dir) {
        Err(error) if error.is_not_found() => return Ok(()),
        entries => entries.map_err(|error| place.io(error))?,
    };
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    if has(FILE_NAME) {
        return Err(OpenError::AlreadyExists { dir: dir() });
    }
    let known = |name: &str| match name {
        LOCK_NAME | STAGED_NAME | RESTORING_NAME => true,
        LOG_DIR | PAGES_NAME | RUNS_DIR => has(RESTORING_NAME),
        _ => false,
    };
    match entries.iter().find(|entry| !known(&entry.name)) {
        Some(entry) => Err(OpenError::NotAStore { dir: dir(), found: entry.name.clone() }),
        None => Ok(()),
    }
}

fn clear_files(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<(), IoError> {
    for dir in [dir.join(LOG_DIR), dir.join(RUNS_DIR)] {
        let entries = match vfs.list(&dir) {
            Err(error) if error.is_not_found() => continue,
            entries => entries?,
        };
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File) {
            vfs.remove(&dir.join(&entry.name))?;
        }
        vfs.sync_dir(&dir)?;
    }
    let pages = dir.join(PAGES_NAME);
    if vfs.exists(&pages)? {
        vfs.remove(&pages)?;
    }
    vfs.sync_dir(dir)
}
