//! The workspace as `cargo metadata` describes it: members, features, direct dependencies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::Error;
use crate::process::Task;

/// Features that every test runs with: locks that check their order, and the mistakes that tests must catch.
const TEST_FEATURES: [&str; 2] = ["checks", "wrong-variants"];

/// The workspace and its members.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Where builds put their results.
    pub(crate) target_directory: PathBuf,
    /// The members, without their dependencies.
    pub(crate) packages: Vec<Package>,
}

/// One member of the workspace.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) manifest_path: PathBuf,
    /// `None`: to any registry; an empty list: never published.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
    pub(crate) description: Option<String>,
    pub(crate) documentation: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) readme: Option<String>,
}

/// A direct dependency of a member.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kind: DependencyKind,
    #[serde(default)]
    pub(crate) optional: bool,
    /// The folder, for a dependency inside the workspace.
    pub(crate) path: Option<PathBuf>,
}

/// What a dependency is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Option<String>")]
pub(crate) enum DependencyKind {
    #[default]
    Normal,
    Build,
    Dev,
}

impl From<Option<String>> for DependencyKind {
    fn from(kind: Option<String>) -> Self {
        match kind.as_deref() {
            Some("dev") => Self::Dev,
            Some("build") => Self::Build,
            _ => Self::Normal,
        }
    }
}

/// Something that cargo builds: a library, a binary, a test.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

impl Workspace {
    /// Asks cargo about the workspace around the current folder.
    pub(crate) fn load() -> Result<Self, Error> {
        let task = Task::cargo(["metadata", "--no-deps", "--format-version", "1", "--offline"])
            .limit(Duration::from_secs(120));
        let answer = task.capture()?;
        serde_json::from_str(&answer).map_err(|source| Error::Json { command: task.to_string(), source })
    }

    /// The member of this name.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The feature set of every test: those of [`TEST_FEATURES`] in each member that has them, as the value of
    /// `--features`.
    pub(crate) fn checks_features(&self) -> String {
        let of = |package: &Package| {
            let there = TEST_FEATURES.into_iter().filter(|feature| package.features.contains_key(*feature));
            there.map(|feature| format!("{}/{feature}", package.name)).collect::<Vec<_>>()
        };
        self.packages.iter().flat_map(of).collect::<Vec<_>>().join(",")
    }

    /// A path below the root, with `/` between its parts.
    pub(crate) fn relative(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// The folder of a member, relative to the root.
    pub(crate) fn folder(&self, package: &Package) -> String {
        self.relative(package.manifest_path.parent().unwrap_or(&self.root))
    }
}

impl Package {
    /// Whether the package goes to the public registry.
    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{
        "workspace_root": "/w", "target_directory": "/w/target",
        "packages": [
            {"name": "a", "version": "0.1.0", "manifest_path": "/w/crates/a/Cargo.toml", "publish": null,
             "features": {"checks": []}, "targets": [], "description": null, "documentation": null,
             "license": null, "readme": null, "dependencies": [
                {"name": "serde", "kind": null, "path": null},
                {"name": "proptest", "kind": "dev", "path": null},
                {"name": "cc", "kind": "build", "path": null}]},
            {"name": "b", "version": "0.1.0", "manifest_path": "/w/b/Cargo.toml", "publish": [],
             "features": {}, "targets": [], "dependencies": [], "description": "d", "documentation": null,
             "license": null, "readme": null}
        ]}"#;

    #[test]
    fn an_answer_of_cargo_is_understood() {
        let workspace: Workspace = serde_json::from_str(ANSWER).unwrap();
        let a = workspace.package("a").unwrap();
        let kinds: Vec<_> = a.dependencies.iter().map(|dependency| dependency.kind).collect();
        assert_eq!(kinds, [DependencyKind::Normal, DependencyKind::Dev, DependencyKind::Build]);
        assert_eq!(workspace.folder(a), "crates/a");
        assert!(a.is_published());
        assert!(!workspace.package("b").unwrap().is_published());
        assert_eq!(workspace.checks_features(), "a/checks");
    }
}
