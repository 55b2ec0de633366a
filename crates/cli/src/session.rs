//! The store that a command works on: how it is opened for writing and for reading, and which exit code an error of
//! the engine has.

use std::env;
use std::fmt;
use std::path::PathBuf;

use keepstone::{
    Access, At, ChangeError, CloseError, Collection, CollectionOptions, CommitError, Committed, ErrorKind,
    Existence, MaintenanceError, OpenError, Read as _, ReadError, Recovery, SettingError, Snapshot, Store,
    StoreOptions, Txn, Version, WriteError,
};
use serde_json::Value;

use crate::args::COLLECTION_DEFAULT;
use crate::at;
use crate::exit::{Code, Failure, Outcome};
use crate::output;

/// A collection whose bodies are any JSON.
pub(crate) type JsonCollection = Collection<Value>;

/// Variables that belong to the command line and its tests, not to the engine.
const OWN_VARIABLES: [&str; 1] = ["KEEPSTONE_STORE"];

/// Where a command works.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) dir: PathBuf,
    /// As named on the command line.
    pub(crate) collection: Option<String>,
    /// As named on the command line.
    pub(crate) branch: Option<String>,
}

impl Session {
    /// The collection that commands on one node mean.
    pub(crate) fn collection_name(&self) -> &str {
        self.collection.as_deref().unwrap_or(COLLECTION_DEFAULT)
    }

    /// Opens the store for writing, which must be there.
    pub(crate) fn open(&self) -> Outcome<Store> {
        self.open_with(Existence::MustExist, Access::Write)
    }

    /// Opens the store for writing, and makes it if there is none.
    pub(crate) fn open_or_create(&self) -> Outcome<Store> {
        self.open_with(Existence::CreateIfMissing, Access::Write)
    }

    /// Opens the store for reading: for writing when nobody else does, because then what recovery mends is kept, and
    /// read-only when the disk is full.
    pub(crate) fn open_to_read(&self) -> Outcome<Store> {
        Ok(self.try_open_to_read()??)
    }

    /// As [`open_to_read`](Self::open_to_read), with the engine's own error.
    pub(crate) fn try_open_to_read(&self) -> Outcome<Result<Store, OpenError>> {
        let options = Self::options_with(Existence::MustExist, Access::WriteIfFree)?;
        match self.try_open_as(&options) {
            Err(error) if error.is_out_of_space() => Ok(self.try_open_as(&options.access(Access::ReadOnly))),
            opened => Ok(opened),
        }
    }

    fn open_with(&self, existence: Existence, access: Access) -> Outcome<Store> {
        self.open_as(&Self::options_with(existence, access)?)
    }

    fn options_with(existence: Existence, access: Access) -> Outcome<StoreOptions> {
        // What the environment says goes before what the command would choose.
        let mut options = options()?;
        if env::var_os("KEEPSTONE_EXISTENCE").is_none() {
            options = options.existence(existence);
        }
        if env::var_os("KEEPSTONE_ACCESS").is_none() {
            options = options.access(access);
        }
        Ok(options)
    }

    /// Opens the store with options of the caller's own.
    pub(crate) fn open_as(&self, options: &StoreOptions) -> Outcome<Store> {
        Ok(self.try_open_as(options)?)
    }

    fn try_open_as(&self, options: &StoreOptions) -> Result<Store, OpenError> {
        let store = options.open(&self.dir)?;
        for warning in store.warnings() {
            output::remark(format_args!("keepstone: warning: {warning}"));
        }
        Ok(store)
    }

    /// What is read: the store, or the branch that is named, as it is or as it was at `AT`.
    pub(crate) fn view(&self, store: &Store, text: Option<&str>) -> Outcome<Snapshot> {
        match (&self.branch, text) {
            (None, None) => Ok(store.snapshot()?),
            (None, Some(text)) => at(store, text),
            (Some(name), None) => Ok(store.branch(name)?.snapshot()?),
            (Some(name), Some(text)) => Ok(store.branch(name)?.at(resolve(store, text)?)?),
        }
    }

    /// Changes the store, or the branch that is named.
    pub(crate) fn write<T>(
        &self,
        store: &Store,
        work: impl FnMut(&mut Txn) -> Result<T, ChangeError>,
    ) -> Result<Committed<T>, WriteError> {
        match &self.branch {
            None => store.write(work),
            Some(name) => store.branch(name)?.write(work),
        }
    }

    /// Opens the collection that commands on one node mean.
    pub(crate) fn open_collection(&self, store: &Store) -> Outcome<JsonCollection> {
        Ok(open_collection(store, self.collection_name())?)
    }
}

/// Opens a collection, whatever program made it: every body is some JSON.
pub(crate) fn open_collection(store: &Store, name: &str) -> Result<JsonCollection, OpenError> {
    store.collection_with(name, CollectionOptions::new().any_schema())
}

/// The version that holds what was committed; when nothing had to change, that is the newest one.
pub(crate) fn version_of<T>(store: &Store, committed: &Committed<T>) -> Version {
    committed.version.unwrap_or_else(|| store.visible_version())
}

/// Ends a command that changed the store: says the version and closes.
pub(crate) fn finish<T>(store: Store, committed: &Committed<T>) -> Outcome {
    output::say(format_args!("version {}", version_of(&store, committed)))?;
    Ok(store.close()?)
}

/// The options that the environment asks for.
pub(crate) fn options() -> Outcome<StoreOptions> {
    let variables = env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let own = OWN_VARIABLES.contains(&name.as_str());
        (!own).then(|| (name, value.to_string_lossy().into_owned()))
    });
    Ok(StoreOptions::from_variables(variables)?)
}

/// The options of a store whose damage is put aside.
pub(crate) fn repairing_options() -> Outcome<StoreOptions> {
    Ok(options()?.existence(Existence::MustExist).access(Access::Write).recovery(Recovery::Prefix))
}

/// The store as it was at `AT`.
pub(crate) fn at(store: &Store, text: &str) -> Outcome<Snapshot> {
    let asked = at::parse(text);
    let is_name = matches!(asked, At::Name(_));
    store.at(asked).map_err(|error| {
        let failure = Failure::from(error);
        let is_unclear = is_name && at::looks_like_time(text);
        let time = "an RFC 3339 time as in 2026-03-01T12:00:00Z, if one was meant";
        if is_unclear { failure.expected(time) } else { failure }
    })
}

/// The version that `AT` means, which is there.
pub(crate) fn resolve(store: &Store, text: &str) -> Outcome<Version> {
    Ok(at(store, text)?.version()?)
}

/// The exit code of an error of the engine.
fn code(kind: ErrorKind, is_damage: bool) -> Code {
    match kind.as_str() {
        _ if is_damage => Code::Damage,
        "locked" => Code::Locked,
        "unknown-version" | "version-in-future" | "history-gone" | "unknown-name" | "branch-not-found" => {
            Code::NotFound
        }
        "setting" => Code::Usage,
        _ => Code::Error,
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::new(code(error.kind(), error.is_damage()), error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::new(code(error.kind(), error.is_damage()), error.to_string())
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        Self::new(code(error.kind(), error.is_damage()), error.to_string())
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Read(error) => error.into(),
            ChangeError::Commit(error) => error.into(),
            other => Self::new(code(other.kind(), false), other.to_string()),
        }
    }
}

impl<E: fmt::Display> From<WriteError<E>> for Failure {
    fn from(error: WriteError<E>) -> Self {
        match error {
            WriteError::Commit(error) => error.into(),
            WriteError::Change(error) => error.into(),
            other => Self::error(other.to_string()),
        }
    }
}

impl From<CloseError> for Failure {
    fn from(error: CloseError) -> Self {
        Self::new(code(error.kind(), false), error.to_string())
    }
}

impl From<MaintenanceError> for Failure {
    fn from(error: MaintenanceError) -> Self {
        let failure = Self::new(code(error.kind(), error.is_damage()), error.to_string());
        let may_be_damage = matches!(error, MaintenanceError::Pages { .. });
        if may_be_damage {
            failure.help("`keepstone check` tells whether pages are damaged")
        } else {
            failure
        }
    }
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        Self::new(Code::Usage, error.to_string())
    }
}
