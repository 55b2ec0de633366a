//! The models: tests in which a checker chooses the order of every operation on locks, atomics and threads.

use std::time::Duration;

use crate::error::Error;
use crate::metadata::{Package, Workspace};
use crate::process::{Finished, Task};

/// What building and running the models may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The test target that holds a package's models.
const TARGET: &str = "tests/models/main.rs";

fn has_models(package: &Package) -> bool {
    let holds = |path: &std::path::Path| path.ends_with(TARGET);
    package.features.contains_key("model") && package.targets.iter().any(|target| holds(&target.src_path))
}

/// A cargo command on the models of every package that has some.
fn cargo(workspace: &Workspace, command: &str) -> Result<Task, Error> {
    let packages: Vec<&Package> = workspace.packages.iter().filter(|package| has_models(package)).collect();
    if packages.is_empty() {
        return Err(Error::Refused("models: no package of the workspace has any".to_owned()));
    }
    let features = packages.iter().flat_map(|package| {
        let checks = package.features.contains_key("checks").then_some("checks");
        ["model"].into_iter().chain(checks).map(|feature| format!("{}/{feature}", package.name))
    });
    let features = features.collect::<Vec<_>>().join(",");
    let names = packages.iter().flat_map(|package| ["--package".to_owned(), package.name.clone()]);
    Ok(Task::cargo([command, "--release", "--test", "models"])
        .args(names)
        .args(["--features".to_owned(), features])
        .limit(LIMIT))
}

/// Clippy over the models, with warnings denied.
pub(crate) fn lint(workspace: &Workspace) -> Result<(), Error> {
    cargo(workspace, "clippy")?.args(["--", "-D", "warnings"]).run()
}

/// Runs the models from their own seed and from one that hangs on the commit.
pub(crate) fn test(workspace: &Workspace) -> Result<Finished, Error> {
    let task = cargo(workspace, "test")?.args(["--no-fail-fast"]);
    // Without a commit there is only the one seed.
    let task = match Task::new("git").args(["rev-parse", "HEAD"]).capture().ok().as_deref().and_then(seed_of)
    {
        Some(seed) => {
            println!("seed of the commit: {seed}");
            task.env("KEEPSTONE_MODEL_SEED", seed.to_string())
        }
        None => task,
    };
    task.tee()
}

/// The first 60 bits of a commit id.
fn seed_of(commit: &str) -> Option<u64> {
    u64::from_str_radix(commit.trim().get(..15)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Target;

    fn package(name: &str, features: &[&str], target: &str) -> Package {
        Package {
            name: name.to_owned(),
            features: features.iter().map(|feature| ((*feature).to_owned(), Vec::new())).collect(),
            targets: vec![Target { kind: vec!["test".to_owned()], src_path: target.into() }],
            ..Package::default()
        }
    }

    #[test]
    fn every_package_with_models_is_taken_with_its_features() {
        let packages = vec![
            package("a", &["checks", "model"], "/w/crates/a/tests/models/main.rs"),
            package("b", &["model"], "/w/crates/b/tests/models/main.rs"),
            package("c", &["checks", "model"], "/w/crates/c/tests/it/main.rs"),
            package("d", &["checks"], "/w/crates/d/tests/models/main.rs"),
        ];
        let workspace = Workspace { packages, ..Workspace::default() };
        let command = cargo(&workspace, "test").unwrap().to_string();
        let expected = "test --release --test models --package a --package b \
                        --features a/model,a/checks,b/model";
        assert!(command.ends_with(expected), "{command}");
        assert!(cargo(&Workspace::default(), "test").is_err());
    }

    #[test]
    fn a_commit_gives_a_seed() {
        assert_eq!(seed_of("00000000000000fffffffffffffffffffffffffff\n"), Some(15));
        assert_eq!(seed_of("not a commit"), None);
    }
}
