//! A batch of lines as one commit.

use std::collections::HashMap;

use keepstone::{ChangeError, OpenError, Store, Txn, TxnOptions, Version, WriteError};

use super::input::Numbered;
use super::line::{Content, Line};
use crate::exit::Failure;
use crate::session::{self, JsonCollection};

/// Collections that were written to, opened once.
pub(crate) struct Target {
    store: Store,
    collection_default: String,
    collections: HashMap<String, JsonCollection>,
}

/// Why a batch could not be committed.
#[derive(Debug)]
pub(crate) enum BatchError {
    /// The line at this place of the batch is refused; nothing of the batch is stored.
    Line { place: usize, reason: String },
    /// The commit failed.
    Commit(Box<WriteError<Refused>>),
}

impl BatchError {
    /// Whether fewer lines in a commit would go.
    pub(crate) fn is_too_large(&self) -> bool {
        match self {
            Self::Line { .. } => false,
            Self::Commit(error) => error.kind().as_str() == "too-large",
        }
    }
}

/// A line that the store refuses.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Refused {
    place: usize,
    error: ChangeError,
}

impl Target {
    /// The store, and the collection of lines that name none.
    pub(crate) fn new(store: Store, collection_default: &str) -> Self {
        Self { store, collection_default: collection_default.to_owned(), collections: HashMap::new() }
    }

    /// Commits the lines; returns the version that holds them.
    pub(crate) fn commit(&mut self, batch: &[Numbered]) -> Result<Version, BatchError> {
        for (place, numbered) in batch.iter().enumerate() {
            let refused = |error: OpenError| BatchError::Line { place, reason: error.to_string() };
            self.open_collection(&numbered.line).map_err(refused)?;
        }
        let (collections, default) = (&self.collections, self.collection_default.as_str());
        let committed = self.store.try_write(TxnOptions::new(), |txn| {
            for (place, numbered) in batch.iter().enumerate() {
                let name = numbered.line.collection.as_deref().unwrap_or(default);
                // Every collection of the batch was opened above.
                let Some(collection) = collections.get(name) else { continue };
                match apply(txn, collection, &numbered.line) {
                    Ok(()) => {}
                    // What may go well when the transaction runs again is for `write` to see.
                    Err(error @ (ChangeError::Commit(_) | ChangeError::Read(_))) => return Err(error.into()),
                    Err(error) => return Err(WriteError::Caller(Refused { place, error })),
                }
            }
            Ok(())
        });
        match committed {
            Ok(committed) => Ok(session::version_of(&self.store, &committed)),
            Err(WriteError::Caller(Refused { place, error })) => {
                Err(BatchError::Line { place, reason: error.to_string() })
            }
            Err(error) => Err(BatchError::Commit(Box::new(error))),
        }
    }

    fn open_collection(&mut self, line: &Line) -> Result<(), OpenError> {
        let name = line.collection.as_deref().unwrap_or(&self.collection_default);
        if !self.collections.contains_key(name) {
            let collection = session::open_collection(&self.store, name)?;
            self.collections.insert(name.to_owned(), collection);
        }
        Ok(())
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Line { reason, .. } => Self::error(reason),
            BatchError::Commit(error) => Self::from(*error),
        }
    }
}

fn apply(txn: &mut Txn, collection: &JsonCollection, line: &Line) -> Result<(), ChangeError> {
    match &line.content {
        Content::Delete => collection.delete(txn, &line.key).map(drop),
        Content::Write(fields) => {
            collection.put_node(txn, &line.key, &fields.patch)?;
            fields.links.iter().try_for_each(|link| {
                collection.link(txn, &line.key, &link.verb, &link.to, link.weight).map(drop)
            })
        }
    }
}
