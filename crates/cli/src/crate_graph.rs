//! A graph of crates and how it becomes nodes and links, wherever it was read.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use keepstone::NodePatch;
use serde_json::{Map, Value};

use crate::import::line::{Content, Fields, Line, LinkTo};

/// The verb of a dependency that the crate's own code needs.
pub(crate) const DEPENDS_ON: &str = "depends-on";
/// The verb of a dependency that the crate's build script needs.
pub(crate) const BUILD_DEPENDS_ON: &str = "build-depends-on";
/// The verb of a dependency that the crate's tests need.
pub(crate) const DEV_DEPENDS_ON: &str = "dev-depends-on";

/// At most so much of a README becomes part of a node, in bytes.
const README_BYTES_MAX: u64 = 64 << 10;

/// What is known of one crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) readme: Option<String>,
    /// Verb and key of each dependency.
    pub(crate) links: BTreeSet<(&'static str, String)>,
}

/// Crates by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrateGraph {
    pub(crate) crates: BTreeMap<String, Crate>,
}

impl CrateGraph {
    /// The key of a crate; `source` tells apart two crates of one name and version.
    pub(crate) fn key(&self, name: &str, version: &str, source: Option<&str>) -> String {
        let key = format!("{name}@{version}");
        if self.crates.contains_key(&key) { format!("{key} ({})", source.unwrap_or("path")) } else { key }
    }

    /// One line for each crate, in the order of the keys.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.crates.iter().map(|(key, found)| found.line(key)).collect()
    }

    /// Adds what another graph of the same crates knows and this one does not: crates, and links between them. What kind
    /// of dependency a link is, this one knows better.
    pub(crate) fn add_missing(&mut self, other: Self) {
        for (key, found) in other.crates {
            match self.crates.entry(key) {
                Entry::Vacant(place) => drop(place.insert(found)),
                Entry::Occupied(mut place) => {
                    let known = &mut place.get_mut().links;
                    let is_new = |to: &str| known.iter().all(|(_, known)| known != to);
                    let new: Vec<_> = found.links.into_iter().filter(|(_, to)| is_new(to)).collect();
                    known.extend(new);
                }
            }
        }
    }

    /// How many dependencies there are.
    pub(crate) fn link_count(&self) -> usize {
        self.crates.values().map(|found| found.links.len()).sum()
    }
}

impl Crate {
    fn line(&self, key: &str) -> Line {
        let mut body = Map::new();
        let texts = [
            ("name", Some(&self.name)),
            ("version", Some(&self.version)),
            ("license", self.license.as_ref()),
            ("description", self.description.as_ref()),
            ("repository", self.repository.as_ref()),
            ("readme", self.readme.as_ref()),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                body.insert(name.to_owned(), Value::from(text.as_str()));
            }
        }
        let link = |(verb, to): &(&'static str, String)| LinkTo {
            verb: (*verb).to_owned(),
            to: to.clone(),
            weight: 1.0,
        };
        let patch = NodePatch::body(Value::Object(body)).label(&self.name);
        let fields = Fields { patch, links: self.links.iter().map(link).collect() };
        Line { collection: None, key: key.to_owned(), content: Content::Write(Box::new(fields)) }
    }
}

/// The beginning of a README, if there is one that is text.
pub(crate) fn readme(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(README_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    // The limit may cut a character in two: what is whole is kept.
    let text = match str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    Some(text.to_owned()).filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_becomes_a_node_with_links() {
        let mut graph = CrateGraph::default();
        let links = BTreeSet::from([(DEPENDS_ON, "b@2.0.0".to_owned())]);
        let found = Crate {
            name: "a".into(),
            version: "1.0.0".into(),
            license: Some("MIT".into()),
            links,
            ..Crate::default()
        };
        let key = graph.key("a", "1.0.0", None);
        graph.crates.insert(key, found);
        assert_eq!(graph.key("a", "1.0.0", Some("git+x")), "a@1.0.0 (git+x)");
        assert_eq!(graph.link_count(), 1);
        let lines = graph.lines();
        assert_eq!(lines[0].key, "a@1.0.0");
        let Content::Write(fields) = &lines[0].content else { panic!("a crate is written") };
        let expected = serde_json::json!({"name": "a", "version": "1.0.0", "license": "MIT"});
        assert_eq!(fields.patch, NodePatch::body(expected).label("a"));
        assert_eq!((fields.links[0].verb.as_str(), fields.links[0].to.as_str()), (DEPENDS_ON, "b@2.0.0"));
    }

    #[test]
    fn a_long_readme_is_cut_between_characters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("README.md");
        std::fs::write(&path, format!("x{}", "é".repeat(40_000))).unwrap();
        let text = readme(&path).unwrap();
        assert_eq!(text.len(), 65_535);
        std::fs::write(&path, [0x66, 0xff, 0x66]).unwrap();
        assert_eq!(readme(&path), None);
        assert_eq!(readme(&folder.path().join("absent")), None);
    }
}
