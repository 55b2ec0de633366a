//! AddressSanitizer over the crates that have `unsafe` code; nothing to run where there is none.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Error;
use crate::metadata::Workspace;
use crate::process::Task;
use crate::tidy;

/// What building with the sanitizer and running the tests may take.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Looks for `unsafe` code and runs the tests of every crate that has some under the sanitizer.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Error> {
    let (files, places) = tidy::unsafe_places(workspace)?;
    if places.is_empty() {
        println!("looked through {files} Rust files: none has `unsafe`, so there is nothing to sanitize");
        return Ok(());
    }
    println!("`unsafe` at: {}", places.join(", "));
    let crates = crates_of(workspace, &places);
    let host = Task::new("rustc").args(["--print", "host-tuple"]).capture()?;
    let packages = crates.iter().flat_map(|name| ["--package", name]);
    Task::new("cargo")
        .args(["+nightly", "test", "--release", "--tests", "--target", &host])
        .args(packages)
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("CARGO_TARGET_DIR", workspace.target_directory.join("sanitize"))
        .limit(LIMIT)
        .run()
}

/// The members that hold the given places.
fn crates_of<'a>(workspace: &'a Workspace, places: &[String]) -> BTreeSet<&'a str> {
    let holds = |folder: &str| places.iter().any(|place| place.starts_with(&format!("{folder}/")));
    let members = workspace.packages.iter().filter(|package| holds(&workspace.folder(package)));
    members.map(|package| package.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    #[test]
    fn the_crate_of_a_place_is_the_one_whose_folder_holds_it() {
        let package = |folder: &str| Package {
            name: folder.to_owned(),
            manifest_path: format!("/w/{folder}/Cargo.toml").into(),
            ..Package::default()
        };
        let packages = vec![package("a"), package("ab"), package("c")];
        let workspace = Workspace { root: "/w".into(), packages, ..Workspace::default() };
        let places = ["ab/src/x.rs:1".to_owned(), "c/src/y.rs:2".to_owned()];
        assert_eq!(crates_of(&workspace, &places), ["ab", "c"].into());
    }
}
