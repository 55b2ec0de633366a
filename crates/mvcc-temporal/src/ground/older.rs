//! Reading history: the older versions of a key, as they are, or as entries of a chain.
//!
//! How an entry is read: from its row towards newer ones, until a keyframe, a whole value, or the row in the table's tree;
//! and from there back by decoding. No run of deltas is longer than [`RUN_LENGTH`] allows, so that many decodings are
//! the most that a read takes. All rows are of one root. A list of versions decodes each against the one before it.

use keepstone_btree::{Cursor, Found};
use keepstone_pager::PageFile;
use keepstone_types::{ValueRef, Version};
use keepstone_xor_dag::chain::{ChainError, ChainLength, Need, Unwind};
use keepstone_xor_dag::delta::{DeltaError, decode_into};

use super::row::{self, OlderForm, OlderHead, WrongHead};
use super::{Ground, head_of, history_key, read_error};
use crate::catalog::TableId;
use crate::error::{PageSource, ReadError};
use crate::limits::VALUE_LEN_MAX;
use crate::memtable::RowVersion;

/// A keyframe and the deltas that hang on it, at most: eight, for a read of an older version is to take no more than a few times
/// what one of the newest takes. Sixteen halve the bytes of a fingerprint's version and double the time.
pub(crate) const RUN_LENGTH: ChainLength = match ChainLength::new(8) {
    Some(length) => length,
    None => ChainLength::DEFAULT,
};
/// Bytes of the version at the end of a history key.
const VERSION_LEN: usize = 8;

/// What is wrong with an older row.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OlderWrong {
    #[error(transparent)]
    Head(WrongHead),
    #[error(transparent)]
    Entry(DeltaError),
    #[error(transparent)]
    Chain(ChainError),
}

/// An older row that cannot be read. The versions behind it hang on it, up to the next keyframe; newer ones do not.
#[derive(Debug, thiserror::Error)]
#[error("version {version} of key {} of table {}, in history: {wrong}", key.escape_ascii(), table.get())]
pub(crate) struct OlderDamage {
    table: TableId,
    key: Vec<u8>,
    version: Version,
    wrong: OlderWrong,
}

/// What stands behind the head of an older row, sharing the memory of its page where it stands there.
pub(crate) fn content(
    pages: &PageFile,
    found: Found<'_>,
    head: OlderHead,
) -> Result<ValueRef, keepstone_btree::TreeError> {
    if let Some(part) = found.part(head.len) {
        return Ok(part);
    }
    // No row ends within its head.
    Ok(found.stored()?.load(pages)?.slice(head.len..).unwrap_or_default())
}

/// A place among the older versions of a key.
struct OlderRows<'a> {
    ground: &'a Ground,
    table: TableId,
    key: &'a [u8],
    /// The history key that was sought.
    place: Vec<u8>,
    cursor: Cursor<'a, PageFile>,
}

impl<'a> OlderRows<'a> {
    /// Stands on the newest version at or below `at`.
    fn seek(ground: &'a Ground, table: TableId, key: &'a [u8], at: Version) -> Result<Self, ReadError> {
        let mut place = Vec::new();
        history_key::encode(&mut place, table, key, at);
        let mut cursor = ground.history().cursor();
        cursor.seek(&place).map_err(read_error)?;
        Ok(Self { ground, table, key, place, cursor })
    }

    fn damaged(&self, version: Version, wrong: OlderWrong) -> ReadError {
        let damage = OlderDamage { table: self.table, key: self.key.to_vec(), version, wrong };
        ReadError::Damaged { source: PageSource::new(damage) }
    }

    /// The row it stands on; `None` when that is another key's, or none.
    fn row(&self) -> Result<Option<(OlderHead, Found<'_>)>, ReadError> {
        let of_key = self.place.len().saturating_sub(VERSION_LEN);
        let (Some(found), Some(value)) = (self.cursor.key(), self.cursor.value()) else { return Ok(None) };
        if found.len() != self.place.len() || found.get(..of_key) != self.place.get(..of_key) {
            return Ok(None);
        }
        match row::older_head(value.head()) {
            Ok(head) => Ok(Some((head, value))),
            Err(wrong) => {
                let stored = history_key::decode(found, &mut Vec::new());
                let version = stored.map_or(Version::ZERO, |(_, version)| version);
                Err(self.damaged(version, OlderWrong::Head(wrong)))
            }
        }
    }

    fn content(&self, found: Found<'_>, head: OlderHead) -> Result<ValueRef, ReadError> {
        content(self.ground.pages(), found, head).map_err(read_error)
    }

    /// Goes to the next older row.
    fn advance(&mut self) -> Result<(), ReadError> {
        self.cursor.next().map_err(read_error)
    }

    /// The value of the entry it stands on. It stands on the row that this hangs on in the end, or beyond, afterwards.
    fn unwind(&mut self) -> Result<Option<ValueRef>, ReadError> {
        let mut unwind = Unwind::new(RUN_LENGTH);
        let mut versions = Vec::new();
        let mut base = None;
        loop {
            let Some((head, found)) = self.row()? else {
                base = self.ground.newest_value(self.table, self.key)?;
                break;
            };
            match head.form {
                OlderForm::Deletion => break,
                OlderForm::Whole => {
                    base = Some(self.content(found, head)?);
                    break;
                }
                OlderForm::Entry { .. } => {
                    versions.push(head.version);
                    let pushed = unwind.push(self.content(found, head)?);
                    if pushed.map_err(|error| self.wrong_chain(&versions, error))? == Need::Nothing {
                        break;
                    }
                }
            }
            self.cursor.previous().map_err(read_error)?;
        }
        let mut out = Vec::new();
        let unwound = unwind.value(base.as_deref(), VALUE_LEN_MAX, &mut out);
        unwound.map_err(|error| self.wrong_chain(&versions, error))?;
        Ok(Some(ValueRef::from(out)))
    }

    /// Names the version that is wrong, of those from the one that was asked for towards newer ones.
    fn wrong_chain(&self, versions: &[Version], error: ChainError) -> ReadError {
        let asked = versions.first().copied().unwrap_or_default();
        match error {
            ChainError::Entry { entry, source } => {
                self.damaged(versions.get(entry).copied().unwrap_or(asked), OlderWrong::Entry(source))
            }
            other => self.damaged(asked, OlderWrong::Chain(other)),
        }
    }

    /// The value of the entry it stands on, by that of the next newer version.
    fn decode(
        &self,
        (head, found): (OlderHead, Found<'_>),
        newer: Option<&ValueRef>,
    ) -> Result<Option<ValueRef>, ReadError> {
        let (entry, mut out) = (self.content(found, head)?, Vec::new());
        decode_into(&entry, newer.map(|value| &**value), &mut out, VALUE_LEN_MAX)
            .map_err(|error| self.damaged(head.version, OlderWrong::Entry(error)))?;
        Ok(Some(ValueRef::from(out)))
    }
}

impl Ground {
    /// The value of a row in its tree.
    pub(crate) fn newest_value(&self, table: TableId, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        let look = |found: Found<'_>| self.value(found, head_of(found.head(), key)?);
        Ok(self.tree_of(table).look_up(key, look).map_err(read_error)?.transpose()?.flatten())
    }

    /// The newest version of a row at or below `at` in history.
    pub(crate) fn past(
        &self,
        table: TableId,
        key: &[u8],
        at: Version,
    ) -> Result<Option<RowVersion>, ReadError> {
        Ok(self.past_versions(table, key, at, 1)?.pop())
    }

    /// The versions of a key at or below `at` in history, newest first, at most `limit`.
    pub(super) fn past_versions(
        &self,
        table: TableId,
        key: &[u8],
        at: Version,
        limit: usize,
    ) -> Result<Vec<RowVersion>, ReadError> {
        let mut older = OlderRows::seek(self, table, key, at)?;
        let mut rows: Vec<RowVersion> = Vec::new();
        while rows.len() < limit
            && let Some((head, found)) = older.row()?
        {
            let value = match (head.form, rows.last()) {
                (OlderForm::Deletion, _) => None,
                (OlderForm::Whole, _) => Some(self.older_value(found, head)?),
                (OlderForm::Entry { .. }, Some(newer)) => {
                    older.decode((head, found), newer.value.as_ref())?
                }
                (OlderForm::Entry { .. }, None) => {
                    let value = older.unwind()?;
                    if limit > 1 {
                        older.cursor.seek(&older.place).map_err(read_error)?;
                    }
                    value
                }
            };
            rows.push(RowVersion { key: ValueRef::copy_from(key), version: head.version, value });
            if rows.len() < limit {
                older.advance()?;
            }
        }
        Ok(rows)
    }

    /// The value of a whole older row, copied once or sharing its page.
    fn older_value(&self, found: Found<'_>, head: OlderHead) -> Result<ValueRef, ReadError> {
        let head = row::RowHead { version: head.version, is_deletion: false, len: head.len };
        Ok(self.value(found, head)?.unwrap_or_default())
    }

    /// Deltas that stand one behind the other from the newest version of a key below `version`: at least as many as hang on
    /// the version that comes before it.
    pub(crate) fn deltas_below(&self, table: TableId, key: &[u8], version: Version) -> Result<u8, ReadError> {
        let Some(below) = version.before() else { return Ok(0) };
        let older = OlderRows::seek(self, table, key, below)?;
        Ok(match older.row()? {
            Some((OlderHead { form: OlderForm::Entry { deltas }, .. }, _)) => deltas,
            _ => 0,
        })
    }
}
