//! The source of every dependency below `vendor/`, for builds on machines without a network.

use std::time::Duration;

use crate::error::Error;
use crate::metadata::Workspace;
use crate::process::Task;

/// Where the sources go; `cargo vendor` owns this folder and empties it first.
const FOLDER: &str = "vendor/crates";

/// The configuration that makes cargo use them.
const CONFIG: &str = "vendor/config.toml";

/// Fills the folder and writes the configuration beside it.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Error> {
    let manifest = workspace.root.join("Cargo.toml");
    let replacement = Task::cargo(["vendor", "--locked", "--versioned-dirs", "--manifest-path"])
        .args([manifest.into_os_string()])
        .args([FOLDER])
        .limit(Duration::from_secs(30 * 60))
        .capture()?;
    let config = format!("# Written by `cargo xtask vendor`.\n{}\n", replacement.trim());
    let path = workspace.root.join(CONFIG);
    std::fs::write(&path, &config).map_err(|source| Error::io("write", &path, source))?;
    println!("\n{CONFIG}:\n\n{config}\nBuild without a network:\n");
    println!("    cargo --config {CONFIG} build --release --locked --offline");
    Ok(())
}
