//! A `Cargo.lock` read as a graph of crates, described from cargo's registry sources where they are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::crate_graph::{Crate, CrateGraph, DEPENDS_ON, readme};
use crate::json;

/// One `[[package]]` of a lock file.
#[derive(Debug, Default)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    dependencies: Vec<String>,
}

/// Reads a lock file; `None` when the text holds no package.
pub(super) fn parse(text: &str, sources: &[PathBuf]) -> Option<CrateGraph> {
    let packages = packages(text);
    let mut graph = CrateGraph::default();
    // By name, by name and version, and by all three: dependencies are named as briefly as is unambiguous.
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    let mut own = Vec::new();
    for package in &packages {
        let key = graph.key(&package.name, &package.version, package.source.as_deref());
        let brief = format!("{} {}", package.name, package.version);
        let full = format!("{brief} ({})", package.source.as_deref().unwrap_or_default());
        keys.extend([package.name.clone(), brief, full].map(|name| (name, key.clone())));
        graph.crates.insert(key.clone(), described(package, sources));
        own.push(key);
    }
    for (package, key) in packages.iter().zip(own) {
        let targets = package.dependencies.iter().filter_map(|name| keys.get(name));
        let links: BTreeSet<_> = targets.map(|to| (DEPENDS_ON, to.clone())).collect();
        if let Some(found) = graph.crates.get_mut(&key) {
            found.links = links;
        }
    }
    Some(graph).filter(|graph| !graph.crates.is_empty())
}

/// The packages, line by line: cargo writes lock files in one form only.
fn packages(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    let mut in_package = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') && line.ends_with(']') && !line.starts_with("[\"") {
            in_package = line == "[[package]]";
            if in_package {
                packages.push(Package::default());
            }
            continue;
        }
        let Some(package) = packages.last_mut().filter(|_| in_package) else { continue };
        match line.split_once(" = ") {
            Some(("name", value)) => package.name = unquoted(value),
            Some(("version", value)) => package.version = unquoted(value),
            Some(("source", value)) => package.source = Some(unquoted(value)),
            _ if line.starts_with('"') => package.dependencies.push(unquoted(line.trim_end_matches(','))),
            _ => {}
        }
    }
    packages.retain(|package| !package.name.is_empty() && !package.version.is_empty());
    packages
}

/// The text between the quotes; the simple texts of TOML are those of JSON.
fn unquoted(value: &str) -> String {
    let text = json::parse(value.as_bytes()).ok();
    text.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn described(package: &Package, sources: &[PathBuf]) -> Crate {
    let mut found =
        Crate { name: package.name.clone(), version: package.version.clone(), ..Crate::default() };
    let folder = format!("{}-{}", package.name, package.version);
    let folder = sources.iter().map(|source| source.join(&folder)).find(|folder| folder.is_dir());
    let Some(folder) = folder.filter(|_| package.source.is_some()) else { return found };
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let field = |name: &str| manifest_field(&manifest, name);
    found.license = field("license");
    found.description = field("description").map(|text| text.trim().to_owned());
    found.repository = field("repository");
    found.readme = readme(&folder.join(field("readme").unwrap_or_else(|| "README.md".to_owned())));
    found
}

/// A text field of the `[package]` section.
fn manifest_field(manifest: &str, name: &str) -> Option<String> {
    let section = manifest.split("\n[").find(|part| part.trim_start_matches('[').starts_with("package]"))?;
    let mut lines = section.lines();
    let is_it =
        |line: &str| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(" = ")).map(str::to_owned);
    let value = lines.find_map(is_it)?;
    match value.strip_prefix("\"\"\"") {
        Some(first) => {
            let rest: Vec<&str> = lines.collect();
            let text = format!("{first}\n{}", rest.join("\n"));
            text.split_once("\"\"\"").map(|(text, _)| text.to_owned())
        }
        None => Some(unquoted(&value)).filter(|text| !text.is_empty()),
    }
}

/// Where cargo keeps the sources of registries.
pub(super) fn registry_sources() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    home.map(|home| list(&home.join("registry").join("src")).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"# This file is automatically @generated by Cargo.
version = 4

[[package]]
name = "a"
version = "0.1.0"
dependencies = [
 "b 1.0.0",
 "c",
]

[[package]]
name = "b"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "00"

[[package]]
name = "b"
version = "2.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
dependencies = [
 "c",
]

[[package]]
name = "c"
version = "0.3.0"
source = "registry+https://github.com/rust-lang/crates.io-index"

[metadata]
name = "not a package"
"#;

    #[test]
    fn packages_and_their_dependencies_are_read() {
        let graph = parse(LOCK, &[]).unwrap();
        let keys: Vec<_> = graph.crates.keys().map(String::as_str).collect();
        assert_eq!(keys, ["a@0.1.0", "b@1.0.0", "b@2.0.0", "c@0.3.0"]);
        let to = |key: &str| graph.crates[key].links.iter().map(|(_, to)| to.as_str()).collect::<Vec<_>>();
        assert_eq!(to("a@0.1.0"), ["b@1.0.0", "c@0.3.0"]);
        assert_eq!(to("b@2.0.0"), ["c@0.3.0"]);
        assert_eq!(parse("no lock file", &[]), None);
    }

    #[test]
    fn crates_are_described_from_the_registry_source() {
        let sources = tempfile::tempdir().unwrap();
        let folder = sources.path().join("b-1.0.0");
        fs::create_dir(&folder).unwrap();
        let manifest = "[package]\nname = \"b\"\ndescription = \"\"\"\nDoes \"b\"\nwell.\n\"\"\"\nlicense = \"MIT\"\n\n\
                        [dependencies]\nreadme = \"no\"\n";
        fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        fs::write(folder.join("README.md"), "# b\n").unwrap();
        let graph = parse(LOCK, &[sources.path().to_owned()]).unwrap();
        let b = &graph.crates["b@1.0.0"];
        assert_eq!(b.description.as_deref(), Some("Does \"b\"\nwell."));
        assert_eq!((b.license.as_deref(), b.readme.as_deref()), (Some("MIT"), Some("# b\n")));
        assert_eq!(graph.crates["b@2.0.0"].license, None);
    }
}
