//! Every crate that is depended on is named in `docs/dependencies.md`, with who uses it and why.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::context::{Context, line_of_key};

/// The page: a table `| crate | used by | why | licence |`.
const PAGE: &str = "docs/dependencies.md";

/// A row of the table.
#[derive(Debug)]
struct Row {
    line: usize,
    used_by: String,
    why: String,
    licence: String,
}

/// Holds the page against the direct dependencies of all members, both ways.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let users = users_of_crates(context);
    if users.is_empty() {
        return Vec::new();
    }
    let rows = context.files.get(PAGE).map(|text| rows_of(text)).unwrap_or_default();
    let mut findings = Vec::new();
    for (name, users) in &users {
        let users = users.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match rows.get(name.as_str()) {
            None => {
                let message = format!("expected a row `| {name} | {users} | why | licence |`, found none");
                findings.push(Finding::new(PAGE, 1, "dependencies", message));
            }
            Some(row) => findings.extend(check_row(name, row, &users)),
        }
    }
    for (name, row) in rows.iter().filter(|(name, _)| !users.contains_key(**name)) {
        let message = format!("`{name}`: expected a direct dependency of a member, found that none uses it");
        findings.push(Finding::new(PAGE, row.line, "dependencies", message));
    }
    findings.extend(unused(context, &users));
    findings
}

fn check_row(name: &str, row: &Row, users: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |message| findings.push(Finding::new(PAGE, row.line, "dependencies", message));
    if row.used_by != users {
        report(format!("`{name}`: expected used by `{users}`, found `{}`", row.used_by));
    }
    if row.why.is_empty() || row.licence.is_empty() {
        report(format!("`{name}`: expected a reason and a licence, found an empty cell"));
    }
    findings
}

/// The members, by their folder's name, that depend directly on each crate from outside.
fn users_of_crates(context: &Context<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in &context.workspace.packages {
        let folder = context.workspace.folder(package);
        let room = folder.rsplit('/').next().unwrap_or(&folder);
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_none()) {
            users.entry(dependency.name.clone()).or_default().insert(room.to_owned());
        }
    }
    users
}

fn rows_of(text: &str) -> BTreeMap<&str, Row> {
    let mut rows = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [name, used_by, why, licence] = cells.as_slice() else { continue };
        let is_heading = *name == "crate" || name.chars().all(|char| matches!(char, '-' | ':'));
        if line.trim_start().starts_with('|') && !is_heading {
            let (used_by, why, licence) = ((*used_by).to_owned(), (*why).to_owned(), (*licence).to_owned());
            rows.insert(name.trim_matches('`'), Row { line: index + 1, used_by, why, licence });
        }
    }
    rows
}

/// What the workspace offers to its members and none of them takes.
fn unused(context: &Context<'_>, users: &BTreeMap<String, BTreeSet<String>>) -> Vec<Finding> {
    let Some(manifest) = context.files.get("Cargo.toml") else { return Vec::new() };
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let section = section.lines().take_while(|line| !line.starts_with('['));
    let offered = section.filter_map(|line| line.split_once([' ', '=', '.'])).map(|(name, _)| name);
    let inside: Vec<&str> = context.workspace.packages.iter().map(|package| package.name.as_str()).collect();
    let unused = offered.filter(|name| !name.is_empty() && !name.starts_with('#'));
    unused
        .filter(|name| !users.contains_key(*name) && !inside.contains(name))
        .map(|name| {
            let message = format!("`{name}`: expected a member that uses it, found none");
            Finding::new("Cargo.toml", line_of_key(manifest, name), "dependencies", message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Dependency, Package, Workspace};

    fn check_page(page: &str, manifest: &str) -> Vec<String> {
        let dependency = |name: &str| Dependency { name: name.to_owned(), ..Dependency::default() };
        let inside = Dependency { path: Some("/w/crates/types".into()), ..dependency("keepstone-types") };
        let package = |room: &str, dependencies| Package {
            name: format!("keepstone-{room}"),
            manifest_path: format!("/w/crates/{room}/Cargo.toml").into(),
            dependencies,
            ..Package::default()
        };
        let packages = vec![
            package("wal", vec![dependency("serde"), inside]),
            package("cli", vec![dependency("serde")]),
        ];
        let workspace = Workspace { root: "/w".into(), packages, ..Workspace::default() };
        let context = Context::of(&workspace, &[(PAGE, page), ("Cargo.toml", manifest)]);
        check(&context).iter().map(ToString::to_string).collect()
    }

    const HEAD: &str = "# Dependencies\n\n| crate | used by | why | licence |\n|---|:--|---|---|\n";

    #[test]
    fn a_page_that_says_it_all_is_fine() {
        let page = format!("{HEAD}| serde | cli, wal | Derived codecs. | MIT OR Apache-2.0 |\n");
        let manifest = "[workspace.dependencies]\nkeepstone-wal = { path = \"\" }\n\nserde = \"1\"\n\n[profile]\nx = 1\n";
        assert_eq!(check_page(&page, manifest), [""; 0]);
    }

    #[test]
    fn missing_wrong_empty_and_stale_rows_are_found() {
        let missing = check_page(HEAD, "");
        assert_eq!(
            missing,
            [
                "docs/dependencies.md:1: dependencies: expected a row `| serde | cli, wal | why | licence |`, found none"
            ]
        );
        let wrong =
            check_page(&format!("{HEAD}| `serde` | wal | | MIT |\n| libc | wal | Calls. | MIT |\n"), "");
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(
            wrong[0].contains(":5: dependencies: `serde`: expected used by `cli, wal`, found `wal`"),
            "{wrong:?}"
        );
        assert!(wrong[1].contains(":5: dependencies: `serde`: expected a reason and a licence"), "{wrong:?}");
        assert!(wrong[2].contains(":6: dependencies: `libc`: expected a direct dependency"), "{wrong:?}");
    }

    #[test]
    fn what_the_workspace_offers_in_vain_is_found() {
        let page = format!("{HEAD}| serde | cli, wal | Derived codecs. | MIT |\n");
        let found = check_page(&page, "[workspace.dependencies]\nserde = \"1\"\nrand = \"1\"\n");
        assert_eq!(found, ["Cargo.toml:3: dependencies: `rand`: expected a member that uses it, found none"]);
    }
}
