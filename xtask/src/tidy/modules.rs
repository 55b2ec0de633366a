//! Which files the targets of the members lead to; those that nothing leads to; and how a file opens.

use std::collections::BTreeMap;

use super::Finding;
use super::context::Context;
use super::rust_file::{ModuleDeclaration, RustFile};
use crate::metadata::Workspace;

/// A file that some target leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    /// No target leads to it but through tests.
    pub(super) tests_only: bool,
}

/// A file still to be followed.
struct Step {
    path: String,
    /// The file is `lib.rs`, `main.rs` or the like: its modules are beside it, not below it.
    is_root: bool,
    tests_only: bool,
}

/// Follows the `mod` declarations from every target of every member.
pub(super) fn reach(
    workspace: &Workspace,
    files: &BTreeMap<String, String>,
    rust: &BTreeMap<String, RustFile>,
) -> BTreeMap<String, Reached> {
    let targets = workspace.packages.iter().flat_map(|package| &package.targets);
    let mut open: Vec<Step> = targets
        .map(|target| Step {
            path: workspace.relative(&target.src_path),
            is_root: true,
            tests_only: target.kind.iter().any(|kind| kind == "test"),
        })
        .collect();
    let mut reached: BTreeMap<String, Reached> = BTreeMap::new();
    while let Some(step) = open.pop() {
        let known = reached.get(&step.path).is_some_and(|known| !known.tests_only || step.tests_only);
        if known || !files.contains_key(&step.path) {
            continue;
        }
        reached.insert(step.path.clone(), Reached { tests_only: step.tests_only });
        let Some(file) = rust.get(&step.path) else { continue };
        for declaration in &file.modules {
            let found = candidates(&step, declaration).into_iter().find(|path| files.contains_key(path));
            let tests_only = step.tests_only || declaration.tests_only;
            open.extend(found.map(|path| Step { is_root: path.ends_with("/mod.rs"), path, tests_only }));
        }
    }
    reached
}

/// Where the content of a module may be.
fn candidates(step: &Step, declaration: &ModuleDeclaration) -> Vec<String> {
    let (folder, file) = step.path.rsplit_once('/').unwrap_or(("", &step.path));
    // Modules of `a/b.rs` are below `a/b/`; a `#[path]` outside inline modules starts from `a/`.
    let from_folder = step.is_root || (declaration.path.is_some() && declaration.around.is_empty());
    let own = Some(file.trim_end_matches(".rs")).filter(|_| !from_folder);
    let around = own.into_iter().chain(declaration.around.iter().map(String::as_str));
    let name = declaration.path.as_ref().unwrap_or(&declaration.name);
    let base = join(std::iter::once(folder).chain(around).chain([name.as_str()]));
    match declaration.path {
        Some(_) => vec![normalise(&base)],
        None => vec![format!("{base}.rs"), format!("{base}/mod.rs")],
    }
}

fn join<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// A path without `.` and `..`.
pub(super) fn normalise(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// No Rust file of a member lies there without being compiled.
pub(super) fn check_dead_files(context: &Context<'_>) -> Vec<Finding> {
    let folders = context.workspace.packages.iter().map(|package| context.workspace.folder(package));
    let folders: Vec<String> =
        folders.flat_map(|folder| ["src", "tests"].map(|sub| format!("{folder}/{sub}/"))).collect();
    let rust = context.files.keys().filter(|path| path.ends_with(".rs"));
    let dead = rust.filter(|path| {
        folders.iter().any(|folder| path.starts_with(folder.trim_start_matches('/')))
            && !context.reached.contains_key(*path)
    });
    dead.map(|path| {
        Finding::new(
            path,
            1,
            "dead-file",
            "expected a `mod` declaration that leads here, found none: it is not compiled",
        )
    })
    .collect()
}

/// Every Rust file opens with what it is for.
pub(super) fn check_openings(context: &Context<'_>) -> Vec<Finding> {
    let rust = context.files.iter().filter(|(path, _)| path.ends_with(".rs"));
    let closed = rust.filter(|(_, text)| {
        let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        first.strip_prefix("//!").is_none_or(|purpose| purpose.trim().is_empty())
    });
    closed
        .map(|(path, _)| {
            Finding::new(path, 1, "opening", "expected `//!` and what the file is for, found something else")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Package, Target};

    fn workspace() -> Workspace {
        let target = |kind: &str, path: &str| Target { kind: vec![kind.to_owned()], src_path: path.into() };
        let targets = vec![target("lib", "/w/a/src/lib.rs"), target("test", "/w/a/tests/all/main.rs")];
        let package = Package {
            name: "a".into(),
            manifest_path: "/w/a/Cargo.toml".into(),
            targets,
            ..Package::default()
        };
        Workspace { root: "/w".into(), packages: vec![package], ..Workspace::default() }
    }

    #[test]
    fn a_file_that_nothing_leads_to_is_dead() {
        let workspace = workspace();
        let context = Context::of(
            &workspace,
            &[
                ("a/src/lib.rs", "mod b;\nmod inline { mod d; }\n#[path = \"odd/name.rs\"] mod e;"),
                ("a/src/b.rs", "mod c;"),
                ("a/src/b/c.rs", ""),
                ("a/src/inline/d.rs", ""),
                ("a/src/odd/name.rs", ""),
                ("a/src/c.rs", ""),
                ("a/tests/all/main.rs", "mod more;"),
                ("a/tests/all/more.rs", ""),
                ("a/tests/all/lost.rs", ""),
                ("a/examples/free.rs", ""),
            ],
        );
        let dead: Vec<_> = check_dead_files(&context).into_iter().map(|finding| finding.path).collect();
        assert_eq!(dead, ["a/src/c.rs", "a/tests/all/lost.rs"]);
        assert!(context.is_test_file("a/tests/all/more.rs"));
    }

    #[test]
    fn a_module_for_tests_is_a_test_file_unless_another_way_leads_there() {
        let workspace = workspace();
        let files = |other: &'static str| {
            [("a/src/lib.rs", other), ("a/src/t.rs", "mod deep;"), ("a/src/t/deep.rs", "")]
        };
        let context = Context::of(&workspace, &files("#[cfg(test)] mod t;"));
        assert!(context.is_test_file("a/src/t.rs") && context.is_test_file("a/src/t/deep.rs"));
        let context = Context::of(&workspace, &files("#[cfg(test)] mod t;\n#[path = \"t.rs\"] mod other;"));
        assert!(!context.is_test_file("a/src/t.rs"));
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        let workspace = Workspace::default();
        let context = Context::of(
            &workspace,
            &[("a.rs", "\n//! Something.\n"), ("b.rs", "// Something.\n"), ("c.rs", "//!\n")],
        );
        let found: Vec<_> = check_openings(&context).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["b.rs", "c.rs"]);
    }

    #[test]
    fn paths_lose_their_detours() {
        assert_eq!(normalise("a/./b/../c"), "a/c");
        assert_eq!(normalise("a/../../c"), "../c");
    }
}
