//! Which paths this process has locked: file locks of the operating system do not exclude two callers in one process
//! on every platform, so a registry does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use keepstone_types::lock_rank;

use crate::error::LockError;
use crate::sync::{Arc, Mutex};

/// Locked paths and who holds them.
#[derive(Debug)]
pub(crate) struct LockRegistry {
    held: Mutex<HashMap<PathBuf, String>>,
}

impl LockRegistry {
    pub(crate) fn new() -> Self {
        Self { held: Mutex::new(lock_rank::VFS_LOCK_REGISTRY, HashMap::new()) }
    }

    /// Claims `path`, which the caller has made canonical; released when the claim is dropped.
    pub(crate) fn claim(self: &Arc<Self>, path: &Path, holder: &str) -> Result<Claim, LockError> {
        let mut held = self.held.lock();
        if let Some(holder) = held.get(path) {
            return Err(LockError::Held { path: path.to_path_buf(), holder: holder.clone() });
        }
        held.insert(path.to_path_buf(), holder.to_owned());
        Ok(Claim { registry: Arc::clone(self), path: path.to_path_buf() })
    }
}

/// A path claimed in a [`LockRegistry`].
#[derive(Debug)]
pub(crate) struct Claim {
    registry: Arc<LockRegistry>,
    path: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.registry.held.lock().remove(&self.path);
    }
}
