//! Models of what other crates publish and order without locks: their contract, one step an operation. How they keep it
//! is left out.

use std::borrow::Borrow;
use std::ops::{Bound, Deref};

use keepstone_types::sync::model::OneStep;

use crate::sync::Arc;

/// A published pointer.
#[derive(Debug)]
pub(crate) struct ArcSwap<T>(OneStep<Arc<T>>);

/// What was published when it was loaded.
#[derive(Debug)]
pub(crate) struct Loaded<T>(Arc<T>);

impl<T> Deref for Loaded<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self(OneStep::new(Arc::new(value)))
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        Loaded(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.step(|published| Arc::clone(published))
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        self.0.step(|published| *published = value);
    }
}

type Node<K, V> = Arc<(K, V)>;

/// An ordered map, read by many while one writes: nodes in order.
#[derive(Debug)]
pub(crate) struct SkipMap<K, V>(OneStep<Vec<Node<K, V>>>);

/// A node that was found; what comes after it is looked for in the map as it then is.
#[derive(Debug)]
pub(crate) struct SkipEntry<'a, K, V> {
    map: &'a SkipMap<K, V>,
    node: Node<K, V>,
}

impl<K, V> SkipEntry<'_, K, V> {
    pub(crate) fn key(&self) -> &K {
        &self.node.0
    }

    pub(crate) fn value(&self) -> &V {
        &self.node.1
    }
}

impl<K: Ord, V> SkipEntry<'_, K, V> {
    pub(crate) fn next(&self) -> Option<Self> {
        self.map.find(|nodes| nodes.partition_point(|node| node.0 <= self.node.0))
    }
}

impl<K: Ord, V> SkipMap<K, V> {
    pub(crate) const fn new() -> Self {
        Self(OneStep::new(Vec::new()))
    }

    /// The node at a place that is looked for and looked up in one step.
    fn find(&self, place: impl FnOnce(&[Node<K, V>]) -> usize) -> Option<SkipEntry<'_, K, V>> {
        let node = self.0.step(|nodes| nodes.get(place(nodes)).map(Arc::clone));
        node.map(|node| SkipEntry { map: self, node })
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        self.0.step(|nodes| {
            let place = nodes.partition_point(|node| node.0 < key);
            if nodes.get(place).is_some_and(|node| node.0 == key) {
                nodes.remove(place);
            }
            nodes.insert(place, Arc::new((key, value)));
        });
    }

    pub(crate) fn back(&self) -> Option<SkipEntry<'_, K, V>> {
        self.find(|nodes| nodes.len().wrapping_sub(1))
    }

    pub(crate) fn lower_bound<Q: Ord + ?Sized>(&self, bound: Bound<&Q>) -> Option<SkipEntry<'_, K, V>>
    where
        K: Borrow<Q>,
    {
        self.find(|nodes| match bound {
            Bound::Included(key) => nodes.partition_point(|node| node.0.borrow() < key),
            Bound::Excluded(key) => nodes.partition_point(|node| node.0.borrow() <= key),
            Bound::Unbounded => 0,
        })
    }

    pub(crate) fn upper_bound<Q: Ord + ?Sized>(&self, bound: Bound<&Q>) -> Option<SkipEntry<'_, K, V>>
    where
        K: Borrow<Q>,
    {
        self.find(|nodes| {
            let end = match bound {
                Bound::Included(key) => nodes.partition_point(|node| node.0.borrow() <= key),
                Bound::Excluded(key) => nodes.partition_point(|node| node.0.borrow() < key),
                Bound::Unbounded => nodes.len(),
            };
            end.wrapping_sub(1)
        })
    }

    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        Iter { next: self.find(|_| 0) }
    }
}

/// All nodes from one on, each looked for when it is asked for.
#[derive(Debug)]
pub(crate) struct Iter<'a, K, V> {
    next: Option<SkipEntry<'a, K, V>>,
}

impl<'a, K: Ord, V> Iterator for Iter<'a, K, V> {
    type Item = SkipEntry<'a, K, V>;

    fn next(&mut self) -> Option<SkipEntry<'a, K, V>> {
        let found = self.next.take()?;
        self.next = found.next();
        Some(found)
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a SkipMap<K, V> {
    type Item = SkipEntry<'a, K, V>;
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}
