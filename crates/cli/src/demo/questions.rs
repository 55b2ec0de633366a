//! Questions to the stored graph, answered by following its links.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use keepstone::{Direction, Link, ReadError, Snapshot};
use serde_json::Value;

use crate::crate_graph::DEV_DEPENDS_ON;
use crate::exit::Outcome;
use crate::session::JsonCollection;

/// The graph as the links of the store tell it.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// What each crate needs, for its tests too.
    needs: BTreeMap<String, BTreeSet<String>>,
    /// What each crate is built from.
    built_from: BTreeMap<String, BTreeSet<String>>,
    /// Who needs each crate.
    needed_by: BTreeMap<String, BTreeSet<String>>,
    /// Crates by licence.
    licences: BTreeMap<String, u64>,
    /// Versions by name.
    versions: BTreeMap<String, Vec<String>>,
    /// The longest README: its length in bytes and whose it is.
    readme_longest: Option<(usize, String)>,
    readmes: u64,
}

impl Graph {
    /// Reads every node, and its links from both ends.
    pub(super) fn read(collection: &JsonCollection, view: &Snapshot) -> Outcome<Self> {
        let mut graph = Self::default();
        for node in collection.iter(view) {
            let node = node?;
            let ends = |direction| -> Result<Vec<Link>, ReadError> {
                collection.links(view, &node.key, direction).collect()
            };
            for link in ends(Direction::Out)? {
                graph.needs(&node.key, &link.key, &link.verb);
            }
            let needed_by = ends(Direction::In)?.into_iter().map(|link| link.key);
            graph.needed_by.insert(node.key.clone(), needed_by.collect());
            graph.needs.entry(node.key.clone()).or_default();
            graph.describe(&node.key, node.body.as_ref().unwrap_or(&Value::Null));
        }
        Ok(graph)
    }

    fn needs(&mut self, key: &str, other: &str, verb: &str) {
        let add = |map: &mut BTreeMap<String, BTreeSet<String>>| {
            map.entry(key.to_owned()).or_default().insert(other.to_owned());
        };
        add(&mut self.needs);
        if verb != DEV_DEPENDS_ON {
            add(&mut self.built_from);
        }
    }

    fn describe(&mut self, key: &str, body: &Value) {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        *self.licences.entry(one_spelling(text("license").unwrap_or("not stated"))).or_default() += 1;
        if let (Some(name), Some(version)) = (text("name"), text("version")) {
            self.versions.entry(name.to_owned()).or_default().push(version.to_owned());
        }
        if let Some(readme) = text("readme") {
            self.readmes += 1;
            let found = Some((readme.len(), key.to_owned()));
            self.readme_longest = self.readme_longest.take().max(found);
        }
    }

    /// The crates that most others need directly, and by how many.
    pub(super) fn most_needed(&self, limit: usize) -> Vec<(&str, usize)> {
        let mut all: Vec<_> = self.needed_by.iter().map(|(key, by)| (key.as_str(), by.len())).collect();
        all.sort_by_key(|(key, count)| (Reverse(*count), *key));
        all.truncate(limit);
        all
    }

    /// Everyone who needs a crate, directly or through others.
    pub(super) fn dependants<'a>(&'a self, key: &str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = vec![key];
        while let Some(key) = open.pop() {
            for by in self.needed_by.get(key).into_iter().flatten() {
                if found.insert(by.as_str()) {
                    open.push(by);
                }
            }
        }
        found
    }

    /// A crate that nobody needs, and that needs little: it can be deleted without a hole.
    pub(super) fn least_entangled(&self) -> Option<&str> {
        let entangled = |key: &str| {
            let count = |map: &BTreeMap<String, BTreeSet<String>>| map.get(key).map_or(0, BTreeSet::len);
            (count(&self.needed_by), count(&self.needs))
        };
        self.needs.keys().map(String::as_str).min_by_key(|key| entangled(key))
    }

    /// The longest way down what crates are built from. A lock file does not tell tests apart, through which a crate may
    /// need itself: it is not walked twice.
    pub(super) fn longest_chain(&self) -> Vec<&str> {
        let mut depths = BTreeMap::new();
        for key in self.needs.keys() {
            self.depth(key, &mut depths);
        }
        let depth = |key: &str| depths.get(key).copied().flatten().unwrap_or(0);
        let mut next = self.needs.keys().map(String::as_str).max_by_key(|key| (depth(key), Reverse(*key)));
        let mut chain = Vec::new();
        while let Some(key) = next {
            chain.push(key);
            let below = self.built_from.get(key).into_iter().flatten().map(String::as_str);
            next = below.filter(|below| depth(below) + 1 == depth(key)).min();
        }
        chain
    }

    /// How many crates the longest way down from `key` has; `None` in the map marks those being walked.
    fn depth<'a>(&'a self, key: &'a str, depths: &mut BTreeMap<&'a str, Option<usize>>) -> usize {
        if let Some(known) = depths.get(key) {
            return known.unwrap_or(0);
        }
        depths.insert(key, None);
        let below = self.built_from.get(key).into_iter().flatten();
        let depth = 1 + below.map(|below| self.depth(below, depths)).max().unwrap_or(0);
        depths.insert(key, Some(depth));
        depth
    }

    /// Licences by the number of crates that have them.
    pub(super) fn licences(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.licences.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        all.sort_by_key(|(name, count)| (Reverse(*count), *name));
        all
    }

    /// Crates that are there in several versions.
    pub(super) fn doubles(&self) -> Vec<(&str, &[String])> {
        let all = self.versions.iter().filter(|(_, versions)| versions.len() > 1);
        all.map(|(name, versions)| (name.as_str(), versions.as_slice())).collect()
    }

    /// How many READMEs there are, and the longest with its length in bytes.
    pub(super) fn readmes(&self) -> (u64, Option<(usize, &str)>) {
        (self.readmes, self.readme_longest.as_ref().map(|(len, key)| (*len, key.as_str())))
    }
}

/// Both spellings and any order of one choice are one licence.
fn one_spelling(licence: &str) -> String {
    if licence.contains(['(', ')']) || licence.contains(" AND ") {
        return licence.to_owned();
    }
    let choices = licence.split('/').flat_map(|part| part.split(" OR ")).map(str::trim);
    // The usual order is the reverse of the alphabet's: MIT OR Apache-2.0.
    let choices: BTreeSet<Reverse<&str>> = choices.map(Reverse).collect();
    choices.into_iter().map(|Reverse(choice)| choice).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            for key in [from, to] {
                graph.needs.entry((*key).to_owned()).or_default();
                graph.needed_by.entry((*key).to_owned()).or_default();
            }
            graph.needs(from, to, "depends-on");
            graph.needed_by.get_mut(*to).unwrap().insert((*from).to_owned());
        }
        graph
    }

    #[test]
    fn questions_are_answered_by_following_links() {
        let graph = graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("e", "d"), ("f", "e")]);
        assert_eq!(graph.most_needed(2), [("d", 3), ("b", 1)]);
        assert_eq!(graph.dependants("d"), BTreeSet::from(["a", "b", "c", "e", "f"]));
        assert_eq!(graph.longest_chain(), ["a", "b", "c", "d"]);
        assert_eq!(graph.least_entangled(), Some("f"));
    }

    #[test]
    fn what_only_tests_need_is_no_part_of_the_chain() {
        let mut graph = graph(&[("a", "b"), ("c", "d")]);
        graph.needs("b", "c", DEV_DEPENDS_ON);
        assert_eq!(graph.longest_chain(), ["a", "b"]);
        assert_eq!(graph.needs["b"], BTreeSet::from(["c".to_owned()]));
    }

    #[test]
    fn a_circle_of_test_dependencies_has_an_end() {
        let graph = graph(&[("a", "b"), ("b", "a"), ("b", "c")]);
        assert_eq!(graph.dependants("a"), BTreeSet::from(["a", "b"]));
        let chain = graph.longest_chain();
        assert_eq!(chain.last(), Some(&"c"));
        assert_eq!(chain.len(), 3);
    }

    #[test]
    fn bodies_are_tallied() {
        let mut graph = Graph::default();
        let body = |name: &str, version: &str, license: &str, readme: &str| serde_json::json!({"name": name, "version": version, "license": license, "readme": readme});
        graph.describe("a@1", &body("a", "1", "Apache-2.0/MIT", "long one"));
        graph.describe("a@2", &body("a", "2", "MIT OR Apache-2.0", "short"));
        graph.describe("b@1", &Value::Null);
        assert_eq!(graph.licences(), [("MIT OR Apache-2.0", 2), ("not stated", 1)]);
        let versions = ["1".to_owned(), "2".to_owned()];
        assert_eq!(graph.doubles(), [("a", versions.as_slice())]);
        assert_eq!(graph.readmes(), (2, Some((8, "a@1"))));
    }
}
