//! Each fuzz target of a crate has its program in `fuzz/`, and each program there is built and has its target. The lock
//! file of the programs, which are a workspace of their own, knows what the crates depend on.

use std::collections::BTreeMap;

use super::Finding;
use super::context::{Context, line_of_key};
use crate::metadata::DependencyKind;

/// The manifest of the programs.
const MANIFEST: &str = "fuzz/Cargo.toml";

/// The lock file of the programs.
const LOCK: &str = "fuzz/Cargo.lock";

/// Where the programs stand.
const PROGRAMS: &str = "fuzz/fuzz_targets/";

/// What a target is declared by, before its name.
const DECLARATION: &str = ": Target = (\"";

/// Holds the targets against the programs, both ways, and the programs against the manifest.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let targets = targets(context);
    let manifest = context.files.get(MANIFEST).map(String::as_str).unwrap_or_default();
    let mut findings = Vec::new();
    let mut report = |path: &str, line, message| findings.push(Finding::new(path, line, "fuzzing", message));
    for (program, (path, line)) in &targets {
        if !context.files.contains_key(program) {
            report(path, *line, format!("expected the program `{program}`, found none"));
        }
    }
    for program in context.files.keys().filter(|path| path.starts_with(PROGRAMS) && path.ends_with(".rs")) {
        if !targets.contains_key(program) {
            report(
                program,
                1,
                "expected a target in the module `fuzzing` of its crate, found none".to_owned(),
            );
        }
        let entry = program.trim_start_matches("fuzz/");
        if !manifest.lines().any(|line| line.trim() == format!("path = \"{entry}\"")) {
            let line = line_of_key(manifest, "name");
            report(MANIFEST, line, format!("expected a `[[bin]]` with the path `{entry}`, found none"));
        }
    }
    findings.extend(missing_in_lock(context));
    findings
}

/// What a crate that is locked there depends on, and the lock file does not say so: the programs would not build.
fn missing_in_lock(context: &Context<'_>) -> Vec<Finding> {
    let lock = context.files.get(LOCK).map(String::as_str).unwrap_or_default();
    let mut findings = Vec::new();
    for package in &context.workspace.packages {
        let begin = format!("name = \"{}\"", package.name);
        let Some(at) = lock.lines().position(|line| line == begin) else { continue };
        let locked: Vec<&str> = lock.lines().skip(at).take_while(|line| !line.is_empty()).collect();
        let needed = package.dependencies.iter();
        for dependency in needed.filter(|needed| needed.kind == DependencyKind::Normal && !needed.optional) {
            // With a version behind the name where there are several.
            let entry = format!(" \"{}", dependency.name);
            let is_named =
                |line: &&str| line.strip_prefix(&entry).is_some_and(|rest| rest.starts_with(['"', ' ']));
            if !locked.iter().any(is_named) {
                let message = format!(
                    "expected `{}` among what `{}` needs; run `cargo metadata --manifest-path {MANIFEST}`",
                    dependency.name, package.name
                );
                findings.push(Finding::new(LOCK, at + 1, "fuzzing", message));
            }
        }
    }
    findings
}

/// The program of each target, with where the target is declared.
fn targets<'a>(context: &'a Context<'_>) -> BTreeMap<String, (&'a str, usize)> {
    let mut found = BTreeMap::new();
    for (path, text) in &context.files {
        let inside = path.strip_prefix("crates/").and_then(|path| path.split_once("/src/fuzzing"));
        let Some((room, _)) = inside.filter(|_| path.ends_with(".rs")) else { continue };
        // The rooms are told apart by the first word of their names.
        let room = room.split('-').next().unwrap_or(room);
        for (index, line) in text.lines().enumerate() {
            let name = line.split_once(DECLARATION).and_then(|(_, rest)| rest.split_once('"'));
            if let Some((name, _)) = name {
                found.insert(format!("{PROGRAMS}{room}_{name}.rs"), (path.as_str(), index + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Dependency, Package, Workspace};

    fn check_files(files: &[(&str, &str)]) -> Vec<String> {
        let workspace = Workspace::default();
        check(&Context::of(&workspace, files)).iter().map(ToString::to_string).collect()
    }

    const TARGET: &str = "\npub const GROUP: Target = (\"group\", group, [1, 2]);\n";
    const BUILT: &str = "[package]\nname = \"x\"\n\n[[bin]]\npath = \"fuzz_targets/wal_group.rs\"\n";

    #[test]
    fn a_target_with_its_program_is_fine() {
        let files = [
            ("crates/wal/src/fuzzing/mod.rs", TARGET),
            ("fuzz/fuzz_targets/wal_group.rs", ""),
            ("fuzz/Cargo.toml", BUILT),
        ];
        assert!(check_files(&files).is_empty());
        let files = files.map(|(path, text)| (path, text.replace("wal_", "mvcc_")));
        let mut files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
        files[0].0 = "crates/mvcc-temporal/src/fuzzing.rs";
        files[1].0 = "fuzz/fuzz_targets/mvcc_group.rs";
        assert!(check_files(&files).is_empty(), "the first word of a room stands for it");
    }

    #[test]
    fn what_lacks_its_other_half_is_found() {
        let found = check_files(&[("crates/wal/src/fuzzing.rs", TARGET), ("fuzz/Cargo.toml", BUILT)]);
        assert_eq!(
            found,
            [
                "crates/wal/src/fuzzing.rs:2: fuzzing: expected the program `fuzz/fuzz_targets/wal_group.rs`, found none"
            ]
        );
        let found = check_files(&[("fuzz/fuzz_targets/wal_old.rs", ""), ("fuzz/Cargo.toml", BUILT)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("wal_old.rs:1: fuzzing: expected a target"), "{found:?}");
        assert!(found[1].contains("fuzz/Cargo.toml:2: fuzzing: expected a `[[bin]]`"), "{found:?}");
    }

    #[test]
    fn a_lock_file_that_lags_behind_the_crates_is_found() {
        let needs = |name: &str, kind, optional| Dependency {
            name: name.to_owned(),
            kind,
            optional,
            ..Dependency::default()
        };
        let dependencies = vec![
            needs("serde", DependencyKind::Normal, false),
            needs("serde_json", DependencyKind::Dev, false),
            needs("shuttle", DependencyKind::Normal, true),
        ];
        let wal = Package { name: "keepstone-wal".to_owned(), dependencies, ..Package::default() };
        let workspace = Workspace { packages: vec![wal], ..Workspace::default() };
        let check = |lock: &str| {
            let found = check(&Context::of(&workspace, &[("fuzz/Cargo.lock", lock)]));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let lock = |needed: &str| {
            format!(
                "version = 4\n\n[[package]]\nname = \"keepstone-wal\"\ndependencies = [\n {needed},\n]\n\n"
            )
        };
        assert!(check(&lock("\"serde\"")).is_empty());
        assert!(check(&lock("\"serde 1.0.0\"")).is_empty());
        assert!(check("").is_empty(), "a crate without programs");
        let found = check(&lock("\"serde_json\""));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("fuzz/Cargo.lock:4: fuzzing: expected `serde` among"), "{found:?}");
    }
}
