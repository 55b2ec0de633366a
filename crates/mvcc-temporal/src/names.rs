//! Named versions: rows of the store's own table, `n` + name → version and when it was named.

use keepstone_types::wire::Reader;
use keepstone_types::{Timestamp, ValueRef, Version};

use crate::catalog::TableId;
use crate::database::Database;
use crate::error::{CommitError, ReadError, WriteError};
use crate::key_range::KeyRange;
use crate::layers::View;
use crate::limits::VERSION_NAME_LEN_MAX;
use crate::merge::system_rows;
use crate::scan::{KeyValue, Scan, ScanSource};
use crate::shared::Shared;
use crate::sync::Arc;
use crate::txn::{Receipt, Txn, TxnOptions};
use crate::wrong::{self, Wrong};

/// The first byte of a name row's key.
pub(crate) const NAME_PREFIX: u8 = b'n';

/// A version with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedVersion {
    /// The name.
    pub name: String,
    /// The version it stands for.
    pub version: Version,
    /// When it was named.
    pub named: Timestamp,
}

fn name_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len().saturating_add(1));
    key.push(NAME_PREFIX);
    key.extend_from_slice(name.as_bytes());
    key
}

fn name_value(version: Version, named: Timestamp) -> ValueRef {
    let mut value = version.to_raw().to_le_bytes().to_vec();
    value.extend_from_slice(&named.as_micros().to_le_bytes());
    ValueRef::from(value)
}

/// A name row; `None` for what no build of this format writes.
pub(crate) fn parse_name_row(key: &[u8], value: &[u8]) -> Option<NamedVersion> {
    let (prefix, name) = key.split_first()?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    let mut reader = Reader::new(value);
    let version = Version::from_raw(reader.u64().ok()?);
    let named = Timestamp::from_micros(reader.u64().ok()?);
    let whole = *prefix == NAME_PREFIX && reader.is_empty();
    whole.then_some(NamedVersion { name, version, named })
}

/// Whether a version, or a branch, may have this name.
pub(crate) const fn may_be_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= VERSION_NAME_LEN_MAX
}

/// As much of a name as an error shows.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The versions that stay whatever retention says: those with a name, and those below branches.
pub(crate) fn promised(view: &View) -> Result<Vec<Version>, ReadError> {
    let mut versions =
        if wrong::is(Wrong::BaseForgotten) { Vec::new() } else { crate::branches::bases(view)? };
    let parse = |(key, value): &KeyValue| parse_name_row(key, value);
    versions.extend(system_rows(view, NAME_PREFIX)?.iter().filter_map(parse).map(|named| named.version));
    Ok(versions)
}

/// Whether a version stays whatever retention says.
pub(crate) fn is_promised(shared: &Shared, version: Version) -> Result<bool, ReadError> {
    Ok(promised(&shared.stack.view())?.contains(&version))
}

/// What `write` met when its closure has no error of its own.
pub(crate) fn commit_only(error: WriteError) -> CommitError {
    match error {
        WriteError::Commit(error) => error,
        WriteError::Read(error) => error.into(),
        WriteError::Caller(never) => match never {},
    }
}

impl Database {
    /// Gives a version a name that lasts until it is dropped. Naming it again the same is fine. What is named is made
    /// durable first.
    ///
    /// # Errors
    /// When the name is empty, too long or stands for another version, the version was never made, or the commit fails.
    pub fn name_version(&self, name: &str, version: Version) -> Result<(), CommitError> {
        if !may_be_name(name) {
            return Err(CommitError::VersionName { name: shown(name) });
        }
        let _held = self.inner.shared.hold(version)?;
        if version > self.durable_version() {
            self.sync()?;
        }
        let key = name_key(name);
        let give = |txn: &mut Txn| -> Result<(), WriteError> {
            match txn.get_system(&key)?.and_then(|value| parse_name_row(&key, &value)) {
                Some(taken) if taken.version == version => Ok(()),
                Some(taken) => {
                    Err(CommitError::NameTaken { name: taken.name, version: taken.version }.into())
                }
                None => Ok(txn.set_system(&key, Some(name_value(version, self.inner.shared.clock.now())))?),
            }
        };
        self.write(give).map(drop).map_err(commit_only)
    }

    /// Drops a name; the version itself stays as long as others of its age do.
    ///
    /// # Errors
    /// When there is no such name, or the commit fails.
    pub fn drop_name(&self, name: &str) -> Result<(), CommitError> {
        let key = name_key(name);
        let drop_it = |txn: &mut Txn| -> Result<(), WriteError> {
            if txn.get_system(&key)?.is_none() {
                return Err(CommitError::UnknownName { name: name.to_owned() }.into());
            }
            Ok(txn.set_system(&key, None)?)
        };
        self.write(drop_it).map(drop).map_err(commit_only)
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// When the store was closed.
    pub fn names(&self) -> Result<Vec<NamedVersion>, ReadError> {
        let shared = Arc::clone(&self.inner.shared);
        let (held, table) = (shared.hold_newest()?, Some(TableId::SYSTEM));
        let source = ScanSource { shared, held, branch: None, own: None, table, trace: None };
        let mut names = Vec::new();
        for row in Scan::new(source, KeyRange::prefix([NAME_PREFIX])) {
            let (key, value) = row?;
            names.extend(parse_name_row(&key, &value));
        }
        Ok(names)
    }

    /// The version that a name stands for.
    ///
    /// # Errors
    /// When the store was closed.
    pub fn resolve_name(&self, name: &str) -> Result<Option<Version>, ReadError> {
        let _call = self.inner.shared.enter()?;
        let key = name_key(name);
        let row = self.inner.shared.stack.get(TableId::SYSTEM, &key)?;
        let named = row.and_then(|row| parse_name_row(&key, &row.value?));
        Ok(named.map(|named| named.version))
    }

    /// Brings the content of an older version back, as a new version: nothing is forgotten, and the versions between
    /// stay readable. Tables and names stay. Its cost is what changed since then.
    ///
    /// # Errors
    /// When the version was never made or is no longer retained, or the commit fails.
    pub fn rollback_to(&self, version: Version) -> Result<Receipt, CommitError> {
        let target = self.inner.shared.hold(version)?;
        let receipt = self.retry(TxnOptions::default(), |txn: &mut Txn| -> Result<(), WriteError> {
            txn.depend_on_everything();
            let shared = Arc::clone(&self.inner.shared);
            let mut changes =
                crate::history::Diff::new(shared, Arc::clone(txn.began()), Arc::clone(&target))?;
            while let Some(change) = changes.next_raw()? {
                txn.set_by_id(change.table, change.key, change.after)?;
            }
            Ok(())
        });
        receipt.map(|((), receipt)| receipt).map_err(commit_only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_rows_round_trip_and_foreign_rows_are_refused() {
        let value = name_value(Version::from_raw(7), Timestamp::from_micros(9));
        let found = parse_name_row(&name_key("release"), &value).unwrap();
        let expected = NamedVersion {
            name: "release".to_owned(),
            version: Version::from_raw(7),
            named: Timestamp::from_micros(9),
        };
        assert_eq!(found, expected);
        for (key, value) in
            [(&b""[..], &value[..]), (b"tx", &value), (b"n\xff", &value), (b"nx", &value[..15])]
        {
            assert_eq!(parse_name_row(key, value), None, "{key:?}");
        }
    }
}
