//! Links as callers see them.

use keepstone_types::NodeId;

/// From which end a link is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Links that begin at the node.
    Out,
    /// Links that end at the node.
    In,
}

/// A link, seen from one of its ends.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Link {
    /// The collection of the node at the other end.
    pub collection: String,
    /// The key of the node at the other end.
    pub key: String,
    /// What the link says.
    pub verb: String,
    /// How strong it is; any finite number.
    pub weight: f64,
    /// The id of the node at the other end.
    pub id: NodeId,
    /// Whether the node at the other end was written. Only the target of a link can be missing: its id is reserved for
    /// whoever writes the key.
    pub written: bool,
}
