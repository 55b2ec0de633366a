//! What `cargo metadata --format-version 1` prints, read as a graph of crates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::crate_graph::{BUILD_DEPENDS_ON, Crate, CrateGraph, DEPENDS_ON, DEV_DEPENDS_ON, readme};

/// Why it could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataError {
    /// Not the JSON that cargo prints.
    #[error("not what `cargo metadata --format-version 1` prints: {0}")]
    Json(#[from] serde_json::Error),
    /// Printed with `--no-deps`.
    #[error(
        "without the resolved graph: expected \"resolve\", found none; run cargo metadata without --no-deps"
    )]
    NoGraph,
    /// The graph names a package that is not listed.
    #[error("the graph names the package {0:?}, which is not in the list of packages")]
    UnknownPackage(String),
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    source: Option<String>,
    license: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    readme: Option<String>,
    manifest_path: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    #[serde(default)]
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// Reads the graph; README texts come from beside each manifest, where they are there.
pub(crate) fn parse(json: &[u8]) -> Result<CrateGraph, MetadataError> {
    parse_with(json, readme)
}

/// Reads the graph, with README texts from where `readme` finds them.
pub(crate) fn parse_with(
    json: &[u8],
    readme: impl Fn(&Path) -> Option<String>,
) -> Result<CrateGraph, MetadataError> {
    let metadata: Metadata = serde_json::from_slice(json)?;
    let nodes = metadata.resolve.ok_or(MetadataError::NoGraph)?.nodes;
    let resolved: BTreeSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    let mut graph = CrateGraph::default();
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    // A platform filter leaves packages in the list that the graph does not reach.
    for package in metadata.packages.into_iter().filter(|package| resolved.contains(package.id.as_str())) {
        let key = graph.key(&package.name, &package.version, package.source.as_deref());
        keys.insert(package.id.clone(), key.clone());
        graph.crates.insert(key, described(package, &readme));
    }
    for node in &nodes {
        let key_of = |id: &str| keys.get(id).ok_or_else(|| MetadataError::UnknownPackage(id.to_owned()));
        let mut links = BTreeSet::new();
        for dependency in &node.deps {
            let to = key_of(&dependency.pkg)?;
            links.extend(verbs(&dependency.dep_kinds).into_iter().map(|verb| (verb, to.clone())));
        }
        if let Some(found) = graph.crates.get_mut(key_of(&node.id)?) {
            found.links = links;
        }
    }
    Ok(graph)
}

fn described(package: Package, readme: impl Fn(&Path) -> Option<String>) -> Crate {
    let folder = Path::new(&package.manifest_path).parent();
    let readme = folder.zip(package.readme.as_deref()).and_then(|(folder, name)| readme(&folder.join(name)));
    Crate {
        name: package.name,
        version: package.version,
        license: package.license,
        description: package.description.map(|text| text.trim().to_owned()),
        repository: package.repository,
        readme,
        links: BTreeSet::new(),
    }
}

fn verbs(kinds: &[DependencyKind]) -> BTreeSet<&'static str> {
    let verb = |kind: &DependencyKind| match kind.kind.as_deref() {
        Some("dev") => DEV_DEPENDS_ON,
        Some("build") => BUILD_DEPENDS_ON,
        _ => DEPENDS_ON,
    };
    // Before cargo 1.41 the kinds were not said.
    if kinds.is_empty() { BTreeSet::from([DEPENDS_ON]) } else { kinds.iter().map(verb).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"packages":[
        {"id":"A","name":"a","version":"1.0.0","source":null,"license":"MIT","description":" Does a. ",
         "repository":null,"readme":null,"manifest_path":"/nowhere/Cargo.toml","extra":[1]},
        {"id":"B","name":"b","version":"2.0.0","source":"registry+x","manifest_path":"/nowhere/b/Cargo.toml"},
        {"id":"W","name":"w","version":"3.0.0","source":"registry+x","manifest_path":"/nowhere/w/Cargo.toml"}],
        "resolve":{"nodes":[{"id":"A","deps":[{"pkg":"B","name":"b","dep_kinds":[
            {"kind":null,"target":null},{"kind":"dev","target":null}]}]},
            {"id":"B","deps":[]}]},"version":1}"#;

    #[test]
    fn the_resolved_graph_is_read() {
        let graph = parse(SMALL.as_bytes()).unwrap();
        let keys: Vec<_> = graph.crates.keys().map(String::as_str).collect();
        assert_eq!(keys, ["a@1.0.0", "b@2.0.0"]);
        let a = &graph.crates["a@1.0.0"];
        assert_eq!(a.description.as_deref(), Some("Does a."));
        let b = || "b@2.0.0".to_owned();
        assert_eq!(a.links, BTreeSet::from([(DEPENDS_ON, b()), (DEV_DEPENDS_ON, b())]));
    }

    #[test]
    fn what_is_not_cargo_metadata_is_refused() {
        let cases = [
            ("", "not what `cargo metadata"),
            ("[1]", "not what `cargo metadata"),
            (r#"{"packages":[],"resolve":null}"#, "without --no-deps"),
            (r#"{"packages":[],"resolve":{"nodes":[{"id":"x","deps":[]}]}}"#, "names the package \"x\""),
        ];
        for (input, expected) in cases {
            let message = parse(input.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(expected), "{input}: {message}");
        }
    }
}
