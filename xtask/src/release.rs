//! Packaging the published crates, in the order in which they have to reach the registry.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::commands::timed;
use crate::error::Error;
use crate::metadata::{DependencyKind, Package, Workspace};
use crate::process::Task;

/// Packages everything, or says how to publish it.
pub(crate) fn run(workspace: &Workspace, dry_run: bool) -> Result<(), Error> {
    let order = publishing_order(&workspace.packages)?;
    if !dry_run {
        let commands: Vec<_> = order
            .iter()
            .map(|package| format!("    cargo publish --locked --package {}", package.name))
            .collect();
        return Err(Error::Refused(format!(
            "release: xtask publishes nothing by itself; after `cargo xtask release --dry-run` run, in this order:\n{}",
            commands.join("\n")
        )));
    }
    println!("publishing order:");
    for (place, package) in order.iter().enumerate() {
        println!("{:>3}. {} {}", place + 1, package.name, package.version);
    }
    timed("package", || package_task(workspace).run())
}

/// One invocation for all crates, so that those not published yet find each other.
fn package_task(workspace: &Workspace) -> Task {
    let private = workspace.packages.iter().filter(|package| !package.is_published());
    let excluded = private.flat_map(|package| ["--exclude".to_owned(), package.name.clone()]);
    Task::cargo(["package", "--workspace", "--allow-dirty"])
        .args(excluded)
        .limit(Duration::from_secs(60 * 60))
}

/// The published packages, each after all that it depends on; among equals by name.
fn publishing_order(packages: &[Package]) -> Result<Vec<&Package>, Error> {
    let mut waiting: Vec<&Package> = packages.iter().filter(|package| package.is_published()).collect();
    waiting.sort_by(|a, b| a.name.cmp(&b.name));
    let private: BTreeSet<&str> = packages
        .iter()
        .filter(|package| !package.is_published())
        .map(|package| package.name.as_str())
        .collect();
    let mut order: Vec<&Package> = Vec::new();
    while !waiting.is_empty() {
        let open: BTreeSet<&str> = waiting.iter().map(|package| package.name.as_str()).collect();
        let ready = waiting.iter().position(|package| needs(package).all(|name| !open.contains(name)));
        let Some(ready) = ready else {
            let names = open.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::Refused(format!(
                "release: these crates depend on each other in a circle: {names}"
            )));
        };
        let package = waiting.remove(ready);
        if let Some(name) = needs(package).find(|name| private.contains(name)) {
            return Err(Error::Refused(format!(
                "release: `{}` is published and depends on `{name}`, which is not",
                package.name
            )));
        }
        order.push(package);
    }
    Ok(order)
}

/// What must be in the registry before a package can be.
fn needs(package: &Package) -> impl Iterator<Item = &str> {
    let real = package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Dev);
    real.map(|dependency| dependency.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(name: &str, needs: &[&str]) -> Package {
        let dependencies =
            needs.iter().map(|name| Dependency { name: (*name).to_owned(), ..Dependency::default() });
        Package { name: name.to_owned(), dependencies: dependencies.collect(), ..Package::default() }
    }

    fn private(name: &str) -> Package {
        Package { publish: Some(Vec::new()), ..package(name, &[]) }
    }

    #[test]
    fn each_package_comes_after_what_it_needs() {
        let packages = [package("c", &["a", "serde"]), package("b", &["c"]), package("a", &[]), private("x")];
        let names: Vec<_> =
            publishing_order(&packages).unwrap().iter().map(|package| &package.name).collect();
        assert_eq!(names, ["a", "c", "b"]);
    }

    #[test]
    fn a_dev_dependency_does_not_count() {
        let mut a = package("a", &["b"]);
        a.dependencies[0].kind = DependencyKind::Dev;
        assert!(publishing_order(&[a, package("b", &["a"])]).is_ok());
    }

    #[test]
    fn a_circle_and_a_private_dependency_are_refused() {
        let circle = publishing_order(&[package("a", &["b"]), package("b", &["a"])]).unwrap_err().to_string();
        assert!(circle.ends_with("circle: a, b"), "{circle}");
        let hidden = publishing_order(&[package("a", &["x"]), private("x")]).unwrap_err().to_string();
        assert!(hidden.contains("depends on `x`, which is not"), "{hidden}");
    }

    #[test]
    fn without_a_dry_run_the_commands_are_named() {
        let workspace = Workspace { packages: vec![package("a", &[])], ..Workspace::default() };
        let message = run(&workspace, false).unwrap_err().to_string();
        assert!(message.ends_with("cargo publish --locked --package a"), "{message}");
    }
}
