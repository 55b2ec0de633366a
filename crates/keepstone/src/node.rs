//! Nodes as callers see them, and the patches that change them.

use keepstone_types::{Fingerprint, NodeId};

/// A node: a body of any serde type under a key, with an id, a label, two numbers and two vectors.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Node<T> {
    /// Its id, which stays the same as long as the node lives.
    pub id: NodeId,
    /// Its key, unique in the collection.
    pub key: String,
    /// A short text for people.
    pub label: Option<String>,
    /// How strong it is; any finite number, 1 unless said otherwise.
    pub strength: f32,
    /// How sure it is, from 0 to 1; 1 unless said otherwise.
    pub confidence: f32,
    /// Its body.
    pub body: Option<T>,
    /// Its binary vector.
    pub fingerprint: Option<Fingerprint>,
    /// Its vector of numbers.
    pub embedding: Option<Vec<f32>>,
}

/// What a patch does with a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Field<V> {
    #[default]
    Keep,
    Clear,
    Set(V),
}

impl<V> Field<V> {
    /// What a field becomes.
    pub(crate) fn apply(&self, place: &mut Option<V>)
    where
        V: Clone,
    {
        match self {
            Self::Keep => {}
            Self::Clear => *place = None,
            Self::Set(value) => *place = Some(value.clone()),
        }
    }
}

/// What to change of a node: given fields replace, the others stay as they are (or as they are by default when the node
/// is new).
///
/// ```
/// use keepstone::{NodePatch, Store};
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let stones = store.collection::<String>("stones")?;
/// let whole = NodePatch::body("granite".to_string()).label("A stone").embedding(vec![0.5, 1.0]);
/// store.write(|txn| stones.put_node(txn, "first", &whole))?;
/// store.write(|txn| stones.put_node(txn, "first", &NodePatch::new().confidence(0.5).no_embedding()))?;
///
/// let node = stones.node(&store, "first")?.unwrap();
/// assert_eq!(node.label.as_deref(), Some("A stone"));
/// assert_eq!((node.confidence, node.embedding), (0.5, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a patch changes nothing until it is put"]
pub struct NodePatch<T> {
    pub(crate) label: Field<String>,
    pub(crate) strength: Option<f32>,
    pub(crate) confidence: Option<f32>,
    pub(crate) body: Field<T>,
    pub(crate) fingerprint: Field<Fingerprint>,
    pub(crate) embedding: Field<Vec<f32>>,
}

impl<T> Default for NodePatch<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> NodePatch<T> {
    /// A patch that changes nothing.
    pub const fn new() -> Self {
        Self {
            label: Field::Keep,
            strength: None,
            confidence: None,
            body: Field::Keep,
            fingerprint: Field::Keep,
            embedding: Field::Keep,
        }
    }

    /// A patch that gives a node this body.
    pub fn body(body: T) -> Self {
        Self { body: Field::Set(body), ..Self::new() }
    }

    /// Also gives it this body.
    pub fn with_body(self, body: T) -> Self {
        Self { body: Field::Set(body), ..self }
    }

    /// Also takes its body away.
    pub fn no_body(self) -> Self {
        Self { body: Field::Clear, ..self }
    }

    /// Also gives it this label.
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Field::Set(label.into()), ..self }
    }

    /// Also takes its label away.
    pub fn no_label(self) -> Self {
        Self { label: Field::Clear, ..self }
    }

    /// Also gives it this strength.
    pub fn strength(self, strength: f32) -> Self {
        Self { strength: Some(strength), ..self }
    }

    /// Also gives it this confidence, from 0 to 1.
    pub fn confidence(self, confidence: f32) -> Self {
        Self { confidence: Some(confidence), ..self }
    }

    /// Also gives it this fingerprint, as wide as the others of the collection.
    pub fn fingerprint(self, fingerprint: Fingerprint) -> Self {
        Self { fingerprint: Field::Set(fingerprint), ..self }
    }

    /// Also takes its fingerprint away.
    pub fn no_fingerprint(self) -> Self {
        Self { fingerprint: Field::Clear, ..self }
    }

    /// Also gives it this embedding, of the dimension of the others of the collection.
    pub fn embedding(self, embedding: impl Into<Vec<f32>>) -> Self {
        Self { embedding: Field::Set(embedding.into()), ..self }
    }

    /// Also takes its embedding away.
    pub fn no_embedding(self) -> Self {
        Self { embedding: Field::Clear, ..self }
    }
}
