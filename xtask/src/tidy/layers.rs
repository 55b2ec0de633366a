//! Imports point downwards only: the floors of the house, held against what cargo knows.

use super::Finding;
use super::context::Context;
use crate::metadata::{Dependency, DependencyKind, Package};

/// The crates by floor. A crate may import those on the floors below its own.
const FLOORS: [&[&str]; 7] = [
    &["types", "vfs"],
    &["epoch", "wal", "xor-dag"],
    &["pager"],
    &["btree"],
    &["mvcc-temporal", "tiered-cache", "vector-index", "text-index", "graph"],
    &["backup", "keepstone"],
    &["server", "cli"],
];

/// Imports on one floor that are allowed all the same.
const NEIGHBOURS: [(&str, &str); 1] = [("vfs", "types")];

/// Crates that see nothing of ours but the facade.
const FACADE_ONLY: [&str; 2] = ["server", "cli"];

/// The crate that puts the others together.
const FACADE: &str = "keepstone";

/// The crate that others may use in their tests only.
const TESTKIT: &str = "testkit";

/// Folders beside the house, which may import anything and which nothing imports.
const OUTSIDE: [&str; 2] = ["xtask", "benches"];

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Floor(usize),
    Testkit,
    Outside,
}

fn place_of(room: &str) -> Option<Place> {
    match room {
        TESTKIT => Some(Place::Testkit),
        room if OUTSIDE.contains(&room) => Some(Place::Outside),
        room => FLOORS.iter().position(|floor| floor.contains(&room)).map(|index| Place::Floor(index + 1)),
    }
}

/// The package name that belongs to a folder.
fn package_name(room: &str) -> String {
    match room {
        FACADE | "xtask" => room.to_owned(),
        room => format!("keepstone-{room}"),
    }
}

/// Every member has a place, its name is that of its folder, and its imports are on floors below.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &context.workspace.packages {
        let folder = context.workspace.folder(package);
        let (home, room) = folder.rsplit_once('/').unwrap_or(("", &folder));
        let mut report = |key: &str, message: String| {
            let (path, line) = context.manifest_line(package, key);
            findings.push(Finding::new(&path, line, "layers", message));
        };
        let Some(place) = place_of(room) else {
            report(
                "name",
                format!("`{room}`: expected a crate of the table of floors, found an unknown one"),
            );
            continue;
        };
        let expected_home = if place == Place::Outside { "" } else { "crates" };
        if home != expected_home || package.name != package_name(room) {
            let expected = package_name(room);
            report(
                "name",
                format!("expected `{expected}` in `{expected_home}/`, found `{}` in `{home}/`", package.name),
            );
        }
        for dependency in &package.dependencies {
            if let Err(message) = check_import(context, (room, place), package, dependency) {
                report(&dependency.name, message);
            }
        }
    }
    findings
}

fn check_import(
    context: &Context<'_>,
    (room, place): (&str, Place),
    package: &Package,
    dependency: &Dependency,
) -> Result<(), String> {
    let Some(path) = &dependency.path else { return Ok(()) };
    let folder = context.workspace.relative(path);
    let other = folder.rsplit_once('/').map_or(folder.as_str(), |(_, room)| room);
    let names = format!("`{}` imports `{}`", package.name, dependency.name);
    let other_place = match place_of(other) {
        None => {
            return Err(format!("{names}: expected a crate of the table of floors, found an unknown one"));
        }
        Some(Place::Outside) => {
            return Err(format!("{names}: expected a crate of the house, found one beside it"));
        }
        Some(other_place) => other_place,
    };
    if dependency.kind == DependencyKind::Dev || matches!(place, Place::Testkit | Place::Outside) {
        return Ok(());
    }
    let (Place::Floor(floor), Place::Floor(other_floor)) = (place, other_place) else {
        return Err(format!("{names}: expected it among the dev-dependencies, found it among the others"));
    };
    if FACADE_ONLY.contains(&room) && other != FACADE {
        return Err(format!("{names}: expected only the facade `{FACADE}`"));
    }
    if other_floor < floor || NEIGHBOURS.contains(&(room, other)) {
        return Ok(());
    }
    Err(format!("{names}: expected a floor below {floor}, found floor {other_floor}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Workspace;

    fn package(folder: &str, imports: &[(&str, DependencyKind)]) -> Package {
        let room = folder.rsplit('/').next().unwrap();
        let dependencies = imports.iter().map(|(other, kind)| Dependency {
            name: package_name(other),
            kind: *kind,
            optional: false,
            path: Some(
                if OUTSIDE.contains(other) { format!("/w/{other}") } else { format!("/w/crates/{other}") }
                    .into(),
            ),
        });
        Package {
            name: package_name(room),
            manifest_path: format!("/w/{folder}/Cargo.toml").into(),
            dependencies: dependencies.collect(),
            ..Package::default()
        }
    }

    fn check_one(package: Package) -> Vec<String> {
        let workspace = Workspace { root: "/w".into(), packages: vec![package], ..Workspace::default() };
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\nkeepstone-wal.workspace = true\n";
        let context = Context::of(&workspace, &[("crates/types/Cargo.toml", manifest)]);
        check(&context).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn downwards_is_fine() {
        use DependencyKind::{Dev, Normal};
        for (folder, imports) in [
            ("crates/vfs", vec![("types", Normal), ("testkit", Dev)]),
            ("crates/wal", vec![("types", Normal), ("vfs", Normal)]),
            ("crates/keepstone", vec![("mvcc-temporal", Normal), ("wal", Normal)]),
            ("crates/cli", vec![("keepstone", Normal), ("wal", Dev)]),
            ("crates/testkit", vec![("keepstone", Normal)]),
            ("benches", vec![("btree", Normal), ("testkit", Normal)]),
        ] {
            assert_eq!(check_one(package(folder, &imports)), [""; 0], "{folder}");
        }
    }

    #[test]
    fn upwards_sideways_and_around_the_facade_are_found() {
        use DependencyKind::{Build, Dev, Normal};
        for (folder, import, expected) in [
            ("crates/types", ("wal", Normal), "expected a floor below 1, found floor 2"),
            ("crates/types", ("vfs", Normal), "expected a floor below 1, found floor 1"),
            ("crates/graph", ("text-index", Normal), "expected a floor below 5, found floor 5"),
            ("crates/pager", ("btree", Build), "expected a floor below 3, found floor 4"),
            ("crates/cli", ("wal", Normal), "expected only the facade `keepstone`"),
            (
                "crates/wal",
                ("testkit", Normal),
                "expected it among the dev-dependencies, found it among the others",
            ),
            ("crates/wal", ("benches", Dev), "expected a crate of the house, found one beside it"),
        ] {
            let found = check_one(package(folder, &[import]));
            assert_eq!(found.len(), 1, "{folder}: {found:?}");
            assert!(found[0].ends_with(expected), "{found:?}");
        }
    }

    #[test]
    fn a_finding_points_at_the_line_of_the_import() {
        let found = check_one(package("crates/types", &[("wal", DependencyKind::Normal)]));
        assert!(found[0].starts_with("crates/types/Cargo.toml:5: layers: "), "{found:?}");
    }

    #[test]
    fn an_unknown_crate_and_a_wrong_name_are_found() {
        let unknown = check_one(package("crates/helpers", &[]));
        assert!(unknown[0].contains("`helpers`: expected a crate of the table of floors"), "{unknown:?}");
        let renamed = Package { name: "stone-wal".to_owned(), ..package("crates/wal", &[]) };
        let found = check_one(renamed);
        assert!(found[0].contains("expected `keepstone-wal` in `crates/`, found `stone-wal`"), "{found:?}");
    }
}
