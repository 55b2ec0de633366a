//! Collections: nodes of one body type under unique keys. Opening and reading; `change.rs` and `linking.rs` write.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use keepstone_mvcc_temporal::KeyRange;
use keepstone_types::{CodecId, Fingerprint, NodeId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::catalog::CollectionRecord;
use crate::error::{OpenError, ReadError};
use crate::iter::{Keys, Links, Nodes};
use crate::layout::{self, CollectionId};
use crate::limits::{COLLECTION_NAME_BYTES_MAX, SCHEMA_NAME_BYTES_MAX};
use crate::link::Direction;
use crate::node::Node;
use crate::read::{Read, Reader, Source};
use crate::settings::SettingError;
use crate::stats::Operation;
use crate::store::{Store, StoreInner};
use crate::sync::Arc;

/// The schema of collections that were opened without one: any serde type.
const SCHEMA_DEFAULT: &str = "serde";

/// How a collection is opened.
///
/// The schema is a name that the program gives its body type, such as `person.v1`: opening a collection with another
/// than it was made with is an error, not a decoding surprise years later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until a collection is opened with them"]
pub struct CollectionOptions {
    schema: Option<String>,
    any_schema: bool,
    fingerprint_bits: Option<u32>,
    embedding_dimension: Option<u32>,
}

impl CollectionOptions {
    /// The schema `serde`, and widths that the first fingerprint and embedding fix (or the store's options).
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the body type, at most 255 bytes.
    pub fn schema(self, schema: impl Into<String>) -> Self {
        Self { schema: Some(schema.into()), ..self }
    }

    /// Whatever schema the collection was made with: for tools that read any body, such as `serde_json::Value`.
    pub fn any_schema(self) -> Self {
        Self { any_schema: true, ..self }
    }

    /// The width of all fingerprints in bits: a multiple of 64 up to 1,048,576.
    pub fn fingerprint_bits(self, bits: u32) -> Self {
        Self { fingerprint_bits: Some(bits), ..self }
    }

    /// The dimension of all embeddings: 1 to 4,096.
    pub fn embedding_dimension(self, dimension: u32) -> Self {
        Self { embedding_dimension: Some(dimension), ..self }
    }

    fn check(&self, name: &str) -> Result<(), OpenError> {
        let reason = match name.len() {
            0 => Some("it is empty".to_owned()),
            found if found > COLLECTION_NAME_BYTES_MAX => {
                Some(format!("it has {found} bytes, allowed are {COLLECTION_NAME_BYTES_MAX}"))
            }
            _ if name.chars().any(char::is_control) => Some("it has control characters".to_owned()),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(OpenError::CollectionName { name: name.chars().take(64).collect(), reason });
        }
        let setting = |field, variable, value: String, range: String| {
            Err(OpenError::Setting(SettingError { field, variable, value, range }))
        };
        if let Some(schema) = self.schema.as_ref().filter(|schema| schema.len() > SCHEMA_NAME_BYTES_MAX) {
            let range = format!("0 to {SCHEMA_NAME_BYTES_MAX} bytes");
            return setting("schema", "given in code", format!("{} bytes long", schema.len()), range);
        }
        if let Some(bits) = self.fingerprint_bits
            && (bits == 0 || !bits.is_multiple_of(64) || bits > 1 << 20)
        {
            let range = "64 to 1048576 in multiples of 64".to_owned();
            return setting("fingerprint_bits", "KEEPSTONE_FINGERPRINT_BITS", bits.to_string(), range);
        }
        match self.embedding_dimension {
            Some(dimension) if !(1..=4_096).contains(&dimension) => setting(
                "embedding_dimension",
                "KEEPSTONE_EMBEDDING_DIMENSION",
                dimension.to_string(),
                "1 to 4096".to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

/// What is known of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CollectionInfo {
    /// Its name.
    pub name: String,
    /// The schema of its bodies.
    pub schema: String,
    /// The codec of its bodies.
    pub codec: String,
    /// The width of its fingerprints, once it is fixed.
    pub fingerprint_bits: Option<u32>,
    /// The dimension of its embeddings, once it is fixed.
    pub embedding_dimension: Option<u32>,
}

/// What the clones of a collection share.
pub(crate) struct CollectionInner {
    pub(crate) store: Arc<StoreInner>,
    pub(crate) id: CollectionId,
    pub(crate) name: String,
    /// `None` accepts any.
    pub(crate) schema: Option<String>,
    fingerprint_bits: Option<u32>,
    embedding_dimension: Option<u32>,
}

impl CollectionInner {
    /// The row that the first write to the collection makes.
    pub(crate) fn new_record(&self) -> CollectionRecord {
        CollectionRecord {
            codec: CodecId::MESSAGE_PACK,
            fingerprint_bits: self.fingerprint_bits.or(self.store.fingerprint_bits),
            embedding_dimension: self.embedding_dimension.or(self.store.embedding_dimension),
            name: self.name.clone(),
            schema: self.schema.clone().unwrap_or_else(|| SCHEMA_DEFAULT.to_owned()),
        }
    }

    fn check(&self, found: &CollectionRecord) -> Result<(), OpenError> {
        let collection = self.name.clone();
        if found.name != self.name {
            let (name, other) = (self.name.clone(), found.name.clone());
            return Err(ReadError::CollectionClash { name, other }.into());
        }
        if let Some(asked) = self.schema.as_ref().filter(|asked| **asked != found.schema) {
            let (stored, asked) = (found.schema.clone(), asked.clone());
            return Err(OpenError::SchemaMismatch { collection, stored, asked });
        }
        if found.codec != CodecId::MESSAGE_PACK {
            let (stored, expected) = (found.codec.to_string(), CodecId::MESSAGE_PACK.to_string());
            return Err(OpenError::CodecMismatch { collection, stored, expected });
        }
        let widths = [
            ("fingerprints in bits", found.fingerprint_bits, self.fingerprint_bits),
            ("embeddings in numbers", found.embedding_dimension, self.embedding_dimension),
        ];
        for (what, stored, asked) in widths {
            if let (Some(stored), Some(asked)) = (stored, asked)
                && stored != asked
            {
                return Err(OpenError::WidthMismatch { collection, what, stored, asked });
            }
        }
        Ok(())
    }
}

/// Nodes with bodies of type `T` under unique keys. A handle: cheap to clone, to be sent anywhere.
///
/// A collection exists from the first commit that writes to it; reading one that does not exist finds nothing. `T` is
/// any serde type; bodies are stored as MessagePack with field names.
///
/// ```
/// use keepstone::{Direction, Read, Store};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Town { people: u32 }
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let towns = store.collection::<Town>("towns")?;
/// store.write(|txn| {
///     towns.put(txn, "Arles", &Town { people: 50_000 })?;
///     towns.put(txn, "Nîmes", &Town { people: 148_000 })?;
///     towns.link(txn, "Arles", "road to", "Nîmes", 31.0)
/// })?;
///
/// let links: Vec<_> = towns.links(&store, "Nîmes", Direction::In).collect::<Result<_, _>>()?;
/// assert_eq!((&*links[0].key, &*links[0].verb, links[0].weight), ("Arles", "road to", 31.0));
/// let people: u32 = towns.iter(&store).map(|town| Ok(town?.body.map_or(0, |town| town.people))).sum::<Result<_, keepstone::ReadError>>()?;
/// assert_eq!(people, 198_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Collection<T> {
    pub(crate) inner: Arc<CollectionInner>,
    body: PhantomData<fn() -> T>,
}

impl<T> Clone for Collection<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), body: PhantomData }
    }
}

impl<T> fmt::Debug for Collection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl Store {
    /// A collection with bodies of type `T`, with the default options. Nothing is written.
    ///
    /// # Errors
    /// [`OpenError::SchemaMismatch`] when it was made with a schema of its own, a name that is not legal, or a read
    /// that failed.
    pub fn collection<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Collection<T>, OpenError> {
        self.collection_with(name, CollectionOptions::new())
    }

    /// A collection with bodies of type `T`. Nothing is written.
    ///
    /// # Errors
    /// When schema, codec or widths are not those it was made with, the name is not legal, or a read failed.
    ///
    /// ```
    /// use keepstone::{CollectionOptions, OpenError, Store};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let first = CollectionOptions::new().schema("person.v1");
    /// let people = store.collection_with::<String>("people", first)?;
    /// store.write(|txn| people.put(txn, "ada", &"Ada".to_string()))?;
    ///
    /// let second = CollectionOptions::new().schema("person.v2");
    /// let refused = store.collection_with::<(String, u32)>("people", second);
    /// assert!(matches!(refused, Err(OpenError::SchemaMismatch { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn collection_with<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        options: CollectionOptions,
    ) -> Result<Collection<T>, OpenError> {
        options.check(name)?;
        let schema = options.schema.unwrap_or_else(|| SCHEMA_DEFAULT.to_owned());
        let inner = CollectionInner {
            store: Arc::clone(&self.inner),
            id: CollectionId::of_name(name),
            name: name.to_owned(),
            schema: (!options.any_schema).then_some(schema),
            fingerprint_bits: options.fingerprint_bits,
            embedding_dimension: options.embedding_dimension,
        };
        if let Some(found) = self.source()?.collection(inner.id)? {
            inner.check(&found)?;
        }
        Ok(Collection { inner: Arc::new(inner), body: PhantomData })
    }

    /// The collections that exist, sorted by name.
    ///
    /// # Errors
    /// When the store is closed or a row is damaged.
    pub fn collections(&self, reader: &impl Read) -> Result<Vec<CollectionInfo>, ReadError> {
        let source = reader.source()?;
        source.expect_store(self.inner.store_id)?;
        let mut found = Vec::new();
        for row in source.scan(layout::COLLECTIONS, KeyRange::all())? {
            let (key, value) = row?;
            let record = CollectionRecord::decode(&value)
                .map_err(|what| crate::read::damaged(layout::COLLECTIONS, &key, what))?;
            found.push(CollectionInfo {
                name: record.name,
                schema: record.schema,
                codec: record.codec.to_string(),
                fingerprint_bits: record.fingerprint_bits,
                embedding_dimension: record.embedding_dimension,
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

impl<T> Collection<T> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The id of the node with this key.
    ///
    /// # Errors
    /// When the reader is of another store or has ended, or a row is damaged.
    pub fn id(&self, reader: &impl Read, key: &str) -> Result<Option<NodeId>, ReadError> {
        self.read(reader, Operation::Get, |source| source.live_id(self.inner.id, key))
    }

    /// Whether there is a node with this key.
    ///
    /// # Errors
    /// As [`id`](Collection::id).
    pub fn contains(&self, reader: &impl Read, key: &str) -> Result<bool, ReadError> {
        Ok(self.id(reader, key)?.is_some())
    }

    /// The fingerprint of the node with this key.
    ///
    /// # Errors
    /// As [`id`](Collection::id).
    pub fn fingerprint(&self, reader: &impl Read, key: &str) -> Result<Option<Fingerprint>, ReadError> {
        self.read(reader, Operation::Get, |source| match source.live_id(self.inner.id, key)? {
            Some(id) => source.fingerprint(id),
            None => Ok(None),
        })
    }

    /// The embedding of the node with this key.
    ///
    /// # Errors
    /// As [`id`](Collection::id).
    pub fn embedding(&self, reader: &impl Read, key: &str) -> Result<Option<Vec<f32>>, ReadError> {
        self.read(reader, Operation::Get, |source| match source.live_id(self.inner.id, key)? {
            Some(id) => source.embedding(id),
            None => Ok(None),
        })
    }

    /// The number of nodes. Counts them one by one.
    ///
    /// # Errors
    /// As [`id`](Collection::id).
    pub fn len(&self, reader: &impl Read) -> Result<u64, ReadError> {
        self.keys(reader).try_fold(0_u64, |count, key| key.map(|_| count.saturating_add(1)))
    }

    /// Whether there is no node.
    ///
    /// # Errors
    /// As [`id`](Collection::id).
    pub fn is_empty(&self, reader: &impl Read) -> Result<bool, ReadError> {
        self.keys(reader).next().transpose().map(|first| first.is_none())
    }

    /// The keys in byte order, from either end.
    pub fn keys(&self, reader: &impl Read) -> Keys {
        Keys::new(self.read(reader, Operation::Scan, |source| source.scan(layout::KEYS, self.whole())))
    }

    /// The links of the node with this key, sorted by verb and then by the id at the other end; none when there is no
    /// such node. A transaction's links are read at once, those of a store or snapshot one by one.
    pub fn links(&self, reader: &impl Read, key: &str, direction: Direction) -> Links {
        self.links_of(reader, key, direction, None)
    }

    /// As [`links`](Collection::links), those with one verb only.
    pub fn links_with(&self, reader: &impl Read, key: &str, direction: Direction, verb: &str) -> Links {
        self.links_of(reader, key, direction, Some(verb))
    }

    fn links_of(&self, reader: &impl Read, key: &str, direction: Direction, verb: Option<&str>) -> Links {
        let links =
            self.read(reader, Operation::Links, |source| match source.key_entry(self.inner.id, key)? {
                Some(entry) => Links::new(source, entry.id, direction, verb),
                None => Ok(Links::none()),
            });
        links.unwrap_or_else(Links::failed)
    }

    /// Every key of the collection.
    fn whole(&self) -> KeyRange {
        KeyRange::prefix(self.inner.id.key())
    }

    /// Runs a read through `reader`, which must be of the same store.
    pub(crate) fn read<R>(
        &self,
        reader: &impl Read,
        operation: Operation,
        read: impl FnOnce(&Source<'_>) -> Result<R, ReadError>,
    ) -> Result<R, ReadError> {
        let store = &self.inner.store;
        store.measure(operation, || {
            let source = reader.source()?;
            source.expect_store(store.store_id)?;
            read(&source)
        })
    }
}

impl<T: DeserializeOwned> Collection<T> {
    /// The body of the node with this key; `None` when there is no such node or it has no body.
    ///
    /// # Errors
    /// [`ReadError::Body`] when the body is not a `T`; else as [`id`](Collection::id).
    pub fn get(&self, reader: &impl Read, key: &str) -> Result<Option<T>, ReadError> {
        self.read(reader, Operation::Get, |source| {
            let Some(id) = source.live_id(self.inner.id, key)? else {
                return Ok(None);
            };
            let body = source.expect_record(id)?.body;
            body.map(|body| crate::body::decode(&self.inner.name, key, &body)).transpose()
        })
    }

    /// The node with this key.
    ///
    /// # Errors
    /// As [`get`](Collection::get).
    pub fn node(&self, reader: &impl Read, key: &str) -> Result<Option<Node<T>>, ReadError> {
        self.read(reader, Operation::Node, |source| match source.live_id(self.inner.id, key)? {
            Some(id) => source.node(&self.inner.name, id, source.expect_record(id)?).map(Some),
            None => Ok(None),
        })
    }

    /// The node with this id, when it is one of this collection.
    ///
    /// # Errors
    /// As [`get`](Collection::get).
    pub fn node_by_id(&self, reader: &impl Read, id: NodeId) -> Result<Option<Node<T>>, ReadError> {
        self.read(reader, Operation::Node, |source| match source.record(id)? {
            Some(record) if record.collection == self.inner.id && !record.reserved => {
                source.node(&self.inner.name, id, record).map(Some)
            }
            _ => Ok(None),
        })
    }

    /// All nodes in byte order of their keys, from either end. A transaction's nodes are read at once, those of a store
    /// or snapshot one by one, at the version of the moment the iterator is made.
    pub fn iter(&self, reader: &impl Read) -> Nodes<T> {
        self.scan(reader, self.whole())
    }

    /// The nodes whose keys are in a range, as [`iter`](Collection::iter).
    pub fn range<K: AsRef<str>>(&self, reader: &impl Read, keys: impl RangeBounds<K>) -> Nodes<T> {
        let row = |key: &K| layout::key_row(self.inner.id, key.as_ref());
        let from = match keys.start_bound() {
            Bound::Included(key) => Bound::Included(row(key)),
            Bound::Excluded(key) => Bound::Excluded(row(key)),
            Bound::Unbounded => Bound::Included(self.inner.id.key().to_vec()),
        };
        let to = match keys.end_bound() {
            Bound::Included(key) => Bound::Included(row(key)),
            Bound::Excluded(key) => Bound::Excluded(row(key)),
            Bound::Unbounded => match self.inner.id.0.checked_add(1) {
                Some(next) => Bound::Excluded(CollectionId(next).key().to_vec()),
                None => Bound::Unbounded,
            },
        };
        self.scan(reader, KeyRange::between(as_slice(&from), as_slice(&to)))
    }

    /// The nodes whose keys begin with `prefix`, as [`iter`](Collection::iter).
    pub fn prefix(&self, reader: &impl Read, prefix: &str) -> Nodes<T> {
        self.scan(reader, KeyRange::prefix(layout::key_row(self.inner.id, prefix)))
    }

    fn scan(&self, reader: &impl Read, range: KeyRange) -> Nodes<T> {
        let nodes = self.read(reader, Operation::Scan, |source| Nodes::new(source, &self.inner.name, range));
        nodes.unwrap_or_else(Nodes::failed)
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}
