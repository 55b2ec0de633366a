//! Licences, bans and sources of every dependency, and known vulnerabilities, with cargo-deny.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::metadata::Workspace;
use crate::process::Task;

/// The release that is installed where there is none.
const VERSION: &str = "0.20.2";

/// How long fetching the advisory database may take before it counts as out of reach.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// What building cargo-deny may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(20 * 60);

/// The checks as a command of their own.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Error> {
    check(workspace).map(|not_shown| not_shown.iter().for_each(|line| println!("not shown: {line}")))
}

/// Runs the checks and returns what could not be shown.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>, Error> {
    let program = find_or_install(&workspace.target_directory.join("tools"))?;
    let deny = || Task::new(&program).args(["--workspace"]);
    deny().args(["check", "bans", "licenses", "sources"]).run()?;
    // Fetching is tried apart from checking: no network is a gap to name, an advisory is a failure.
    let fetch = deny().args(["fetch", "db"]).env("GIT_TERMINAL_PROMPT", "0").limit(FETCH_LIMIT);
    match fetch.run() {
        Ok(()) => deny().args(["check", "--disable-fetch", "advisories"]).run().map(|()| Vec::new()),
        Err(interrupted @ Error::Interrupted { .. }) => Err(interrupted),
        Err(_) => Ok(vec!["advisories: left out, the database cannot be reached".to_owned()]),
    }
}

/// The program below the tools folder, else the one on the path, else a freshly installed one.
fn find_or_install(tools: &Path) -> Result<PathBuf, Error> {
    let own = tools.join("bin").join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    for candidate in [own.clone(), PathBuf::from("cargo-deny")] {
        if let Ok(version) = Task::new(&candidate).args(["--version"]).capture() {
            println!("{version}");
            return Ok(candidate);
        }
    }
    println!("cargo-deny is missing; installing {VERSION} below {}", tools.display());
    let install = install_task(tools);
    install.run().map_err(|error| {
        Error::Refused(format!(
            "{error}\ncargo-deny is needed; install it with `cargo install cargo-deny --locked`"
        ))
    })?;
    Ok(own)
}

/// Installs without optimisation: the program runs for seconds, and optimising it takes longer than that.
fn install_task(tools: &Path) -> Task {
    Task::cargo(["install", "cargo-deny", "--locked", "--debug", "--version", VERSION, "--root"])
        .args([tools])
        .env("CARGO_TARGET_DIR", tools.join("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .limit(INSTALL_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installation_stays_below_the_tools_folder() {
        let command = install_task(Path::new("target/tools")).to_string();
        assert!(command.contains("--root target/tools"), "{command}");
        let build = Path::new("target/tools").join("build");
        assert!(command.contains(&format!("CARGO_TARGET_DIR={build:?}")), "{command}");
        assert!(command.contains(&format!("--version {VERSION}")), "{command}");
    }

    #[cfg(unix)]
    #[test]
    fn a_program_below_the_tools_folder_is_taken_first() {
        use std::os::unix::fs::PermissionsExt;

        let tools = tempfile::tempdir().unwrap();
        let program = tools.path().join("bin/cargo-deny");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "#!/bin/sh\necho cargo-deny 0.0.0\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_or_install(tools.path()).unwrap(), program);
    }
}
