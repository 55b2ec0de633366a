//! A crate that is published has what a stranger needs: a page, a history, a description, a licence.

use super::Finding;
use super::context::Context;
use crate::metadata::Package;

/// Files beside the manifest.
const FILES: [&str; 2] = ["README.md", "CHANGELOG.md"];

/// Holds every published member against the list.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let published = context.workspace.packages.iter().filter(|package| package.is_published());
    published.flat_map(|package| check_package(context, package)).collect()
}

fn check_package(context: &Context<'_>, package: &Package) -> Vec<Finding> {
    let folder = context.workspace.folder(package);
    let (manifest, line) = context.manifest_line(package, "name");
    let report = |message: String| Finding::new(&manifest, line, "packaging", message);
    let files = FILES.iter().map(|file| format!("{folder}/{file}"));
    let no_files = files.filter(|path| !context.files.contains_key(path));
    let mut findings: Vec<Finding> =
        no_files.map(|path| report(format!("expected `{path}`, found none"))).collect();
    let keys = [
        ("description", &package.description),
        ("documentation", &package.documentation),
        ("license", &package.license),
        ("readme", &package.readme),
    ];
    let unset = keys.iter().filter(|(_, value)| value.as_ref().is_none_or(|value| value.trim().is_empty()));
    findings.extend(unset.map(|(key, _)| report(format!("expected the key `{key}`, found none"))));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Workspace;

    fn complete() -> Package {
        let some = |text: &str| Some(text.to_owned());
        Package {
            name: "keepstone-wal".to_owned(),
            manifest_path: "/w/crates/wal/Cargo.toml".into(),
            description: some("A log."),
            documentation: some("https://docs.rs/keepstone-wal"),
            license: some("MIT OR Apache-2.0"),
            readme: some("README.md"),
            ..Package::default()
        }
    }

    fn check_one(package: Package, files: &[(&str, &str)]) -> Vec<String> {
        let workspace = Workspace { root: "/w".into(), packages: vec![package], ..Workspace::default() };
        check(&Context::of(&workspace, files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_complete_crate_and_a_private_one_are_fine() {
        let files = [("crates/wal/README.md", ""), ("crates/wal/CHANGELOG.md", "")];
        assert!(check_one(complete(), &files).is_empty());
        assert!(check_one(Package { publish: Some(Vec::new()), ..Package::default() }, &[]).is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let manifest = ("crates/wal/Cargo.toml", "[package]\nname = \"keepstone-wal\"\n");
        let package = Package { description: Some(" ".to_owned()), license: None, ..complete() };
        let found = check_one(package, &[manifest, ("crates/wal/README.md", "")]);
        assert_eq!(
            found,
            [
                "crates/wal/Cargo.toml:2: packaging: expected `crates/wal/CHANGELOG.md`, found none",
                "crates/wal/Cargo.toml:2: packaging: expected the key `description`, found none",
                "crates/wal/Cargo.toml:2: packaging: expected the key `license`, found none",
            ]
        );
    }
}
