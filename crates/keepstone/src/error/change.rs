//! The errors of changing a store inside a transaction, and of `write`, which runs and commits one.

use std::convert::Infallible;

use keepstone_types::{Address, AddressRegion, NodeId, StoreId};

use crate::error::{CommitError, ErrorKind, ReadError, Source};

/// Why a change inside a transaction was refused. The transaction can still be used: nothing of the refused change is
/// in it, except after [`ChangeError::Commit`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// What the change needed to read could not be read.
    #[error(transparent)]
    Read(ReadError),
    /// The transaction cannot take the change.
    #[error(transparent)]
    Commit(CommitError),
    /// The collection belongs to another store than the transaction.
    #[error("the collection belongs to store {found}, the transaction to store {expected}")]
    WrongStore {
        /// The store of the transaction.
        expected: StoreId,
        /// The store of the collection.
        found: StoreId,
    },
    /// A part of a node or link is too long, or empty where it must not be.
    #[error("the {what} has {found} {unit}; allowed are {min} to {max}")]
    Limit {
        /// Which part.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// Of what.
        unit: &'static str,
        /// The least allowed.
        min: usize,
        /// The most allowed.
        max: usize,
    },
    /// A number is not finite or not in its range.
    #[error("the {what} is {found}; allowed is {range}")]
    Number {
        /// Which number.
        what: &'static str,
        /// What was given.
        found: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// A fingerprint or embedding has another width than the collection.
    #[error("the {what} has {found} {unit}, those of collection {collection:?} have {expected}")]
    Width {
        /// The collection.
        collection: String,
        /// Which: fingerprint or embedding.
        what: &'static str,
        /// Bits or numbers.
        unit: &'static str,
        /// The width of the collection.
        expected: u32,
        /// What was given.
        found: u32,
    },
    /// The body could not be encoded.
    #[error("the body of {key:?} cannot be encoded as MessagePack: {source}")]
    Body {
        /// The node's key.
        key: String,
        /// What the encoder says.
        source: Source,
    },
    /// The collection was made for bodies of another schema since this handle was opened.
    #[error("the collection {collection:?} holds bodies of schema {stored:?}, not {asked:?}")]
    SchemaMismatch {
        /// The collection.
        collection: String,
        /// The schema it was made with.
        stored: String,
        /// The schema of the handle.
        asked: String,
    },
    /// No node has this key.
    #[error("collection {collection:?} has no node {key:?}")]
    NotFound {
        /// The collection.
        collection: String,
        /// The key.
        key: String,
    },
    /// The id belongs to a node with other content.
    #[error("the id {id} belongs to {key:?} of collection {collection:?}, whose content differs")]
    IdTaken {
        /// The id.
        id: NodeId,
        /// The collection of the node that has it.
        collection: String,
        /// The key of the node that has it.
        key: String,
    },
    /// The key belongs to a node with another id.
    #[error("the key {key:?} belongs to the node {found}, not to {asked}; delete it first")]
    KeyTaken {
        /// The key.
        key: String,
        /// The id of the node that has it.
        found: NodeId,
        /// The id given.
        asked: NodeId,
    },
    /// No node has this id.
    #[error("no node has the id {id}")]
    UnknownId {
        /// The id.
        id: NodeId,
    },
    /// The address is of another kind than the operation is for.
    #[error("the address {address} is of the kind {found:?}, expected {expected:?}")]
    Address {
        /// The address.
        address: Address,
        /// Its kind.
        found: AddressRegion,
        /// The kind the operation is for.
        expected: AddressRegion,
    },
    /// Nothing is at the address, or what was there has expired.
    #[error("nothing is at the address {address}")]
    AddressEmpty {
        /// The address.
        address: Address,
    },
}

impl ChangeError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind(match self {
            Self::Read(error) => return error.kind(),
            Self::Commit(error) => return error.kind(),
            Self::WrongStore { .. } => "wrong-store",
            Self::Limit { .. } => "limit",
            Self::Number { .. } => "number",
            Self::Width { .. } => "width-mismatch",
            Self::Body { .. } => "body",
            Self::SchemaMismatch { .. } => "schema-mismatch",
            Self::NotFound { .. } => "not-found",
            Self::IdTaken { .. } => "id-taken",
            Self::KeyTaken { .. } => "key-taken",
            Self::UnknownId { .. } => "unknown-id",
            Self::Address { .. } => "address",
            Self::AddressEmpty { .. } => "address-empty",
        })
    }

    /// Whether the whole transaction, run again, may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Read(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<ReadError> for ChangeError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<CommitError> for ChangeError {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

/// Why [`Store::write`](crate::Store::write) failed: the commit, a change inside it, or the caller's own error. Unless
/// the commit's outcome is unknown, nothing of the transaction is in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<E = Infallible> {
    /// The commit failed.
    #[error(transparent)]
    Commit(CommitError),
    /// A change or a read inside the closure failed and the closure handed it on.
    #[error(transparent)]
    Change(ChangeError),
    /// The closure ended with an error of its own.
    #[error("{0}")]
    Caller(E),
}

impl<E> WriteError<E> {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Commit(error) => error.kind(),
            Self::Change(error) => error.kind(),
            Self::Caller(_) => ErrorKind("caller"),
        }
    }

    /// Whether the same call may succeed later; conflicts were retried already.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Commit(error) => error.is_retryable(),
            Self::Change(error) => error.is_retryable(),
            Self::Caller(_) => false,
        }
    }
}

impl<E> From<ChangeError> for WriteError<E> {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Commit(error) => Self::Commit(error),
            other => Self::Change(other),
        }
    }
}

impl<E> From<ReadError> for WriteError<E> {
    fn from(error: ReadError) -> Self {
        Self::Change(ChangeError::Read(error))
    }
}

impl<E> From<CommitError> for WriteError<E> {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}
