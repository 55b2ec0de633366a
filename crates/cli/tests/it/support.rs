//! A store in a temporary folder and the command run on it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What a run ended with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A folder with a store in it, or one to be.
pub(crate) struct Cli {
    folder: TempDir,
}

/// The command without what the environment of the tests says.
pub(crate) fn keepstone() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepstone"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEEPSTONE_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end, with this input.
pub(crate) fn run_with(mut command: Command, input: &[u8]) -> Run {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that fails early does not read all of it.
    let feeder = std::thread::spawn(move || stdin.write_all(&input).unwrap_or_default());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    Run::from(output)
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Cli {
    /// A folder without a store.
    pub(crate) fn without_store() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// An empty store.
    pub(crate) fn new() -> Self {
        let cli = Self::without_store();
        cli.ok(["init"]);
        cli
    }

    /// A store that was given these lines, each in a commit of its own: the first is version `base() + 1`.
    pub(crate) fn with_lines(lines: &str) -> Self {
        let cli = Self::new();
        cli.feed(["import", "-", "--batch", "1"], lines);
        cli
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A file beside the store.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = keepstone();
        command.arg("-s").arg(self.dir()).args(args);
        command
    }

    /// Runs the command and expects it to succeed; returns what it printed.
    #[track_caller]
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        succeeded(Run::from(self.command(args).output().unwrap()))
    }

    /// As [`ok`](Self::ok), with input.
    #[track_caller]
    pub(crate) fn feed<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, input: &str) -> String {
        succeeded(run_with(self.command(args), input.as_bytes()))
    }

    /// Runs the command and expects it to fail with this code; returns its message.
    #[track_caller]
    pub(crate) fn fails<A: AsRef<OsStr>>(&self, code: i32, args: impl IntoIterator<Item = A>) -> String {
        failed(code, Run::from(self.command(args).output().unwrap()))
    }

    /// As [`fails`](Self::fails), with input.
    #[track_caller]
    pub(crate) fn feed_fails<A: AsRef<OsStr>>(
        &self,
        code: i32,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> String {
        failed(code, run_with(self.command(args), input))
    }

    /// The newest version.
    #[track_caller]
    pub(crate) fn version(&self) -> String {
        let newest = self.ok(["versions", "--limit", "1", "--json"]);
        json(&newest)["version"].as_str().unwrap().to_owned()
    }
}

#[track_caller]
fn succeeded(run: Run) -> String {
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stderr, "");
    run.stdout
}

#[track_caller]
fn failed(code: i32, run: Run) -> String {
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.starts_with("keepstone: ") || code == 2, "{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    run.stderr
}

/// One line of JSON.
#[track_caller]
pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// Lines of JSON.
#[track_caller]
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}
