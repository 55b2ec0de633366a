//! A snapshot: one version of a store, for as long as one likes.

use std::fmt;
use std::time::Duration;

use keepstone_mvcc_temporal as mvcc;
use keepstone_types::{Timestamp, Version};

use crate::error::ReadError;
use crate::read::{AsOf, Reader, Source, View};
use crate::store::StoreInner;
use crate::sync::Arc;

/// Which moment of a store is meant: a version, the name of one, or a time.
///
/// ```
/// use keepstone::{At, Version};
///
/// assert_eq!(At::from("before-the-move"), At::Name("before-the-move".to_string()));
/// assert_eq!(At::from("17".parse::<Version>()?), At::Version("17".parse()?));
/// # Ok::<(), keepstone::ParseVersionError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum At {
    /// This version.
    Version(Version),
    /// The version of this name, see [`Store::tag`](crate::Store::tag).
    Name(String),
    /// The newest version whose commit time is not after this; version 0, the empty store, before the first.
    Time(Timestamp),
}

impl From<Version> for At {
    fn from(version: Version) -> Self {
        Self::Version(version)
    }
}

impl From<&str> for At {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for At {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<Timestamp> for At {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version}"),
            Self::Name(name) => write!(f, "the version named {name:?}"),
            Self::Time(time) => write!(f, "time {time}"),
        }
    }
}

/// One version of a store. Everything read through it, and through its clones, is of that version.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) view: mvcc::Snapshot,
    pub(crate) store: Arc<StoreInner>,
    pub(crate) as_of: Timestamp,
}

impl Snapshot {
    /// The moment at which expiry in working memory is judged: when the snapshot was taken, the commit time of the
    /// version for one of the past.
    #[must_use]
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// How long ago that is by the store's clock; zero when it is in the future.
    #[must_use]
    pub fn age(&self) -> Duration {
        let now = self.store.clock.now().as_micros();
        Duration::from_micros(now.saturating_sub(self.as_of.as_micros()))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use mvcc::Read as _;
        f.debug_struct("Snapshot").field("version", &self.view.version()).finish_non_exhaustive()
    }
}

impl Reader for Snapshot {
    fn source(&self) -> Result<Source<'_>, ReadError> {
        Ok(Source {
            store_id: self.store.store_id,
            view: View::Snapshot(self.view.clone()),
            as_of: AsOf::At(self.as_of),
        })
    }
}
