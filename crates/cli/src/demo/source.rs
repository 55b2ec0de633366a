//! Where the demo's input comes from: the dependency graph of the workspace it stands in, read in the first way that
//! works, else a real one that is bundled.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{env, fs, thread};

use super::lock_file;
use crate::crate_graph::CrateGraph;
use crate::import::cargo_metadata;

/// A smaller graph shows too little.
const NODES_MIN: usize = 100;

/// How long cargo may take to answer, downloads included.
const CARGO_LIMIT: Duration = Duration::from_secs(120);

/// The lock file of Keepstone's own workspace.
const BUNDLED: &str = include_str!("../../assets/demo.lock");

/// A graph, and where it was read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) graph: CrateGraph,
    pub(super) origin: String,
}

/// A way to read the graph of the workspace around a folder; the error says why it does not lead there.
type Way = fn(&Path) -> Result<CrateGraph, String>;

/// Reads the graph; `say` hears what is tried and what came of it.
pub(super) fn read(folder: &Path, say: &mut dyn FnMut(&str)) -> Source {
    let ways: [(&str, Way); 3] = [
        ("cargo metadata --locked", |folder| ask_cargo(folder, &["--locked".into()])),
        ("cargo metadata --offline --filter-platform", ask_cargo_offline),
        ("Cargo.lock", nearest_lock_file),
    ];
    for (name, way) in ways {
        say(&format!("reading the dependencies of this workspace: {name} ..."));
        match way(folder).map(|graph| completed(graph, folder)) {
            Ok((graph, completed)) if graph.crates.len() >= NODES_MIN => {
                let origin = format!("{name}{completed} in {}", folder.display());
                return Source { graph, origin };
            }
            Ok((graph, _)) => say(&format!(
                "  left: it names {} crates, the demo wants at least {NODES_MIN}",
                graph.crates.len()
            )),
            Err(reason) => say(&format!("  left: {reason}")),
        }
    }
    say("using the bundled lock file of Keepstone itself");
    let graph = lock_file::parse(BUNDLED, &lock_file::registry_sources()).unwrap_or_default();
    Source { graph, origin: "the bundled lock file".to_owned() }
}

/// What cargo leaves out, such as the crates of other platforms, is taken from the lock file when little is left.
fn completed(mut graph: CrateGraph, folder: &Path) -> (CrateGraph, &'static str) {
    if graph.crates.len() >= NODES_MIN {
        return (graph, "");
    }
    match nearest_lock_file(folder) {
        Ok(lock) => {
            graph.add_missing(lock);
            (graph, ", completed from Cargo.lock,")
        }
        Err(_) => (graph, ""),
    }
}

fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn ask_cargo(folder: &Path, options: &[OsString]) -> Result<CrateGraph, String> {
    let mut command = Command::new(cargo());
    command.args(["metadata", "--format-version", "1"]).args(options).current_dir(folder);
    let json = output_of(command)?;
    cargo_metadata::parse(&json).map_err(|error| error.to_string())
}

/// Without the network: what this platform needs was downloaded before anything could be built.
fn ask_cargo_offline(folder: &Path) -> Result<CrateGraph, String> {
    ask_cargo(folder, &["--offline".into(), "--filter-platform".into(), host()?.into()])
}

/// The platform that cargo runs on.
fn host() -> Result<String, String> {
    let mut command = Command::new(cargo());
    command.arg("-vV");
    let output = String::from_utf8_lossy(&output_of(command)?).into_owned();
    let line = output.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).ok_or_else(|| "cargo does not say which platform it runs on".to_owned())
}

/// What a program prints, or the last line of its complaint.
fn output_of(mut command: Command) -> Result<Vec<u8>, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cargo cannot be started: {error}"))?;
    let complaint = child.stderr.take().map(|stream| thread::spawn(move || read_all(stream)));
    let (sender, receiver) = mpsc::channel();
    if let Some(stream) = child.stdout.take() {
        thread::spawn(move || sender.send(read_all(stream)));
    }
    let output = match receiver.recv_timeout(CARGO_LIMIT) {
        Ok(output) => output,
        Err(RecvTimeoutError::Timeout) => {
            end(&mut child);
            return Err(format!("no answer within {} s", CARGO_LIMIT.as_secs()));
        }
        Err(RecvTimeoutError::Disconnected) => Vec::new(),
    };
    let complaint = complaint.and_then(|thread| thread.join().ok()).unwrap_or_default();
    match child.wait() {
        Ok(status) if status.success() => Ok(output),
        Ok(status) => {
            let complaint = String::from_utf8_lossy(&complaint).into_owned();
            let first = complaint.lines().map(str::trim).find(|line| line.starts_with("error"));
            Err(first.map_or_else(|| status.to_string(), str::to_owned))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn read_all(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A stream that breaks off gives what came: the exit status says whether it was all.
    stream.read_to_end(&mut bytes).map_or_else(|_| Vec::new(), |_| bytes)
}

fn end(child: &mut Child) {
    // It may have ended by itself in the meantime; then there is nothing to do.
    if child.kill().is_ok() {
        child.wait().map(drop).unwrap_or_default();
    }
}

fn nearest_lock_file(folder: &Path) -> Result<CrateGraph, String> {
    let candidates: Vec<PathBuf> = folder.ancestors().map(|folder| folder.join("Cargo.lock")).collect();
    let path = candidates.iter().find(|path| path.is_file());
    let path = path.ok_or_else(|| "there is none here or above".to_owned())?;
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let graph = lock_file::parse(&text, &lock_file::registry_sources());
    graph.ok_or_else(|| format!("{} names no package", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_a_workspace_the_bundled_graph_serves() {
        let folder = tempfile::tempdir().unwrap();
        let mut said = Vec::new();
        let source = read(folder.path(), &mut |line| said.push(line.to_owned()));
        assert!(source.graph.crates.len() >= NODES_MIN, "{}", source.graph.crates.len());
        assert!(source.graph.link_count() >= source.graph.crates.len());
        assert_eq!(source.origin, "the bundled lock file");
        assert!(said.iter().any(|line| line.contains("could not find `Cargo.toml`")), "{said:?}");
    }

    #[test]
    fn a_lock_file_serves_where_cargo_fails() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.lock"), BUNDLED).unwrap();
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        let source = read(&below, &mut |_| {});
        assert!(source.origin.starts_with("Cargo.lock in "), "{}", source.origin);
        assert!(source.graph.crates.len() >= NODES_MIN);
    }

    #[test]
    fn the_workspace_itself_is_described_by_cargo() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = read(folder, &mut |_| {});
        assert!(source.origin.starts_with("cargo metadata"), "{}", source.origin);
        let described = source.graph.crates.values().filter(|found| found.description.is_some()).count();
        assert!(described > NODES_MIN / 2, "{described}");
        assert!(source.graph.crates.values().any(|found| found.readme.is_some()));
        has_test_dependencies(&source.graph);
    }

    #[test]
    fn without_the_network_the_graph_is_completed_from_the_lock_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let platform = ask_cargo_offline(folder).unwrap();
        has_test_dependencies(&platform);
        let known = platform.crates.len();
        let lock = nearest_lock_file(folder).unwrap();
        assert!(lock.crates.len() >= NODES_MIN);
        let mut all = platform.clone();
        all.add_missing(lock.clone());
        assert!(all.crates.len() >= NODES_MIN && all.crates.len() >= known);
        for (key, found) in &platform.crates {
            assert_eq!(all.crates[key].description, found.description);
        }
        for (key, found) in &lock.crates {
            for (_, to) in &found.links {
                assert!(all.crates[key].links.iter().any(|(_, other)| other == to), "{key} to {to}");
            }
        }
    }

    fn has_test_dependencies(graph: &CrateGraph) {
        let dev = graph.crates.values().flat_map(|found| &found.links);
        assert!(dev.filter(|(verb, _)| *verb == crate::crate_graph::DEV_DEPENDS_ON).count() > 0);
    }
}
