//! The fuzz targets under libFuzzer and AddressSanitizer, on a nightly toolchain.
//!
//! `fuzz/` is a workspace of its own with one program per target; each runs a function of the crate it looks at, which
//! is a plain test there too. It is built here by plain cargo with the flags of cargo-fuzz, so nothing is installed;
//! who has cargo-fuzz can use it as well. What libFuzzer learns stays below the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::FuzzArgs;
use crate::error::Error;
use crate::metadata::Workspace;
use crate::process::Task;

/// Where the programs are written.
const PROGRAMS: &str = "fuzz/fuzz_targets";

/// Coverage for libFuzzer, and AddressSanitizer: what cargo-fuzz passes.
const FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Ccodegen-units=1 -Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The longest input that is tried, in bytes; the targets find all there is to find in short ones.
const INPUT_BYTES_MAX: u32 = 4_096;

/// After so many seconds with one input, a target hangs.
const INPUT_SECONDS_MAX: u32 = 60;

/// What building with the sanitizer may take.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);

/// What a target may need beside its time: reading its inputs, and the last of them.
const SLACK: Duration = Duration::from_secs(5 * 60);

/// Builds the programs and runs them one after another; the first input that breaks a promise ends the run.
pub(crate) fn run(workspace: &Workspace, args: &FuzzArgs) -> Result<(), Error> {
    let all = programs(&workspace.root.join(PROGRAMS))?;
    let chosen: Vec<&String> = match &args.target {
        Some(name) => all.iter().filter(|program| *program == name).collect(),
        None => all.iter().collect(),
    };
    if chosen.is_empty() {
        let asked = args.target.as_deref().unwrap_or("one at all");
        return Err(Error::Refused(format!("expected a target of {}, found {asked}", all.join(", "))));
    }
    require_nightly()?;
    let host = Task::new("rustc").args(["--print", "host-tuple"]).capture()?;
    let folder = workspace.target_directory.join("fuzz");
    build(&folder, &host, &chosen).run()?;
    for name in &chosen {
        let kept = kept_inputs(workspace, name)?;
        let learned = folder.join("corpus").join(name);
        fs::create_dir_all(&learned).map_err(|source| Error::io("create", &learned, source))?;
        let program = folder.join(&host).join("release").join(name);
        search(&program, [&learned, &kept], &folder.join(format!("{name}-")), args.seconds).run().map_err(
            |error| {
                Error::Refused(format!(
                    "{error}\nthe input is printed above and kept in {folder}; put it into {kept}, where the plain \
                     test of the crate runs it, and mend what it shows",
                    folder = folder.display(),
                    kept = kept.display(),
                ))
            },
        )?;
    }
    println!("{} targets, {} s each, nothing found", chosen.len(), args.seconds);
    Ok(())
}

/// The names of the programs, sorted.
fn programs(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(folder).map_err(|source| Error::io("list", folder, source))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| Error::io("list", folder, source))?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn require_nightly() -> Result<(), Error> {
    match Task::new("cargo").args(["+nightly", "--version"]).capture() {
        Ok(version) => {
            println!("{version}");
            Ok(())
        }
        Err(interrupted @ Error::Interrupted { .. }) => Err(interrupted),
        Err(error) => Err(Error::Refused(format!(
            "{error}\nfuzzing needs a nightly toolchain: `rustup toolchain install nightly --profile minimal`, then \
             `cargo xtask fuzz`; the targets run as plain tests without it"
        ))),
    }
}

fn build(folder: &Path, host: &str, names: &[&String]) -> Task {
    Task::new("cargo")
        .args([
            "+nightly",
            "build",
            "--release",
            "--locked",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target",
            host,
        ])
        .args(names.iter().flat_map(|name| ["--bin", name.as_str()]))
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", folder)
        .limit(BUILD_LIMIT)
}

/// `wal_group` is the target `group` of the crate whose folder's name begins with `wal`.
fn kept_inputs(workspace: &Workspace, name: &str) -> Result<PathBuf, Error> {
    let unknown =
        || Error::Refused(format!("{PROGRAMS}/{name}.rs: expected ROOM_TARGET, found no such crate"));
    let (room, target) = name.split_once('_').ok_or_else(unknown)?;
    let mut folders = workspace.packages.iter().map(|package| workspace.folder(package));
    let of_room = |folder: &String| {
        folder.strip_prefix("crates/").is_some_and(|found| found.split('-').next() == Some(room))
    };
    let folder = folders.find(of_room).ok_or_else(unknown)?;
    Ok(Path::new(&folder).join("tests/corpus").join(target))
}

/// One run of libFuzzer over the inputs learned before and those kept in the repository.
fn search(program: &Path, inputs: [&PathBuf; 2], artifacts: &Path, seconds: u32) -> Task {
    Task::new(program)
        .args(inputs)
        .args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            "-rss_limit_mb=4096".to_owned(),
            "-print_final_stats=1".to_owned(),
            format!("-artifact_prefix={}", artifacts.display()),
        ])
        .limit(Duration::from_secs(seconds.into()).saturating_add(SLACK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    fn workspace(rooms: &[&str]) -> Workspace {
        let package = |room: &&str| Package {
            name: (*room).to_owned(),
            manifest_path: format!("/w/crates/{room}/Cargo.toml").into(),
            ..Package::default()
        };
        let packages = rooms.iter().map(package).collect();
        Workspace { root: "/w".into(), packages, ..Workspace::default() }
    }

    #[test]
    fn a_target_finds_the_inputs_kept_in_its_crate() {
        let workspace = workspace(&["wal", "mvcc-temporal"]);
        let kept = |name| kept_inputs(&workspace, name).map_err(|error| error.to_string());
        assert_eq!(kept("wal_segment_header"), Ok("crates/wal/tests/corpus/segment_header".into()));
        assert_eq!(kept("mvcc_store"), Ok("crates/mvcc-temporal/tests/corpus/store".into()));
        for name in ["pager_page", "wal"] {
            assert!(kept(name).unwrap_err().contains("expected ROOM_TARGET"), "{name}");
        }
    }

    #[test]
    fn the_commands_are_those_of_cargo_fuzz() {
        let built = build(Path::new("target/fuzz"), "host", &[&"wal_group".to_owned()]).to_string();
        assert!(
            built.contains("-Zsanitizer=address") && built.contains("CARGO_TARGET_DIR=\"target/fuzz\""),
            "{built}"
        );
        assert!(built.contains("cargo +nightly build --release --locked"), "{built}");
        assert!(built.ends_with("--target host --bin wal_group"), "{built}");
        let inputs = [&PathBuf::from("learned"), &PathBuf::from("kept")];
        let run = search(Path::new("wal_group"), inputs, Path::new("x/wal_group-"), 60).to_string();
        assert!(run.starts_with("wal_group learned kept -max_total_time=60 "), "{run}");
        assert!(run.ends_with("-artifact_prefix=x/wal_group-"), "{run}");
    }

    #[test]
    fn an_unknown_target_is_refused_with_those_there_are() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(PROGRAMS)).unwrap();
        for name in ["b_x.rs", "a_y.rs", "notes.md"] {
            fs::write(root.path().join(PROGRAMS).join(name), "").unwrap();
        }
        let workspace = Workspace { root: root.path().to_owned(), ..Workspace::default() };
        let args = FuzzArgs { seconds: 1, target: Some("other".to_owned()) };
        let refused = run(&workspace, &args).unwrap_err().to_string();
        assert_eq!(refused, "expected a target of a_y, b_x, found other");
    }
}
