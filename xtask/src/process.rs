//! Programs that are run with a time limit: what hangs is stopped, together with everything it started.
//!
//! On Unix a child leads a process group of its own, which is killed as one; an interrupt of xtask kills it too. On
//! Windows the process tree is killed, and the console sends an interrupt to all of it anyway.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Set by an interrupt.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// How often a running child is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How long the output of a stopped or finished child may go on.
const DRAIN: Duration = Duration::from_secs(5);

/// Makes an interrupt stop the running child before xtask ends.
pub(crate) fn stop_children_on_interrupt() {
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)) {
            eprintln!("xtask: signal {signal} is not handled, a child may outlive an interrupt: {error}");
        }
    }
}

/// What becomes of the standard output of a child.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    /// It goes where the output of xtask goes.
    Inherit,
    /// It is kept and shown.
    Tee,
    /// It is kept and not shown.
    Keep,
}

/// A program to run, with its arguments, environment and time limit.
#[derive(Debug)]
pub(crate) struct Task {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    limit: Duration,
}

/// How a child ended, and the lines of standard output that were kept.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) lines: Vec<String>,
    pub(crate) result: Result<(), Error>,
}

impl Task {
    /// Any program.
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), limit: Duration::from_secs(600) }
    }

    /// The cargo that runs xtask.
    pub(crate) fn cargo<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(args)
    }

    /// Adds arguments.
    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// After which time the child is stopped.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the program with its output shown.
    pub(crate) fn run(&self) -> Result<(), Error> {
        println!("$ {self}");
        self.execute(Output::Inherit)?.result
    }

    /// Runs the program with its output shown, and keeps the lines of its standard output.
    pub(crate) fn tee(&self) -> Result<Finished, Error> {
        println!("$ {self}");
        self.execute(Output::Tee)
    }

    /// Runs the program without showing its standard output, and keeps the lines of it.
    pub(crate) fn collect(&self) -> Result<Finished, Error> {
        self.execute(Output::Keep)
    }

    /// Runs the program and returns its standard output.
    pub(crate) fn capture(&self) -> Result<String, Error> {
        let finished = self.execute(Output::Keep)?;
        finished.result.map(|()| finished.lines.join("\n"))
    }

    fn execute(&self, output: Output) -> Result<Finished, Error> {
        let mut child = self
            .command(output)
            .spawn()
            .map_err(|source| Error::Spawn { command: self.to_string(), source })?;
        let incoming = child.stdout.take().map(lines_of);
        let mut lines = Vec::new();
        let outcome = self.watch(&mut child, incoming.as_ref(), &mut |line| {
            if output == Output::Tee {
                println!("{line}");
            }
            lines.push(line);
        });
        let result = outcome.and_then(|status| match status.success() {
            true => Ok(()),
            false => Err(Error::Failed { command: self.to_string(), status }),
        });
        Ok(Finished { lines, result })
    }

    fn command(&self, output: Output) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        // What `cargo run` says about xtask is no business of the build it starts.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if output != Output::Inherit {
            command.stdout(Stdio::piped());
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    /// Waits for the end of the child and of its output, or for the limit, or for an interrupt.
    fn watch(
        &self,
        child: &mut Child,
        incoming: Option<&Receiver<String>>,
        on_line: &mut dyn FnMut(String),
    ) -> Result<ExitStatus, Error> {
        let started = Instant::now();
        let mut open = incoming;
        let outcome = loop {
            open = open.filter(|incoming| pass_lines(incoming, POLL, on_line));
            if open.is_none() {
                std::thread::sleep(POLL);
            }
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => {}
                Err(source) => break Err(Error::Spawn { command: self.to_string(), source }),
            }
            if INTERRUPTED.load(Ordering::Relaxed) {
                kill_tree(child);
                break Err(Error::Interrupted { command: self.to_string() });
            }
            if started.elapsed() > self.limit {
                kill_tree(child);
                break Err(Error::TimedOut { command: self.to_string(), limit: self.limit });
            }
        };
        let deadline = Instant::now() + DRAIN;
        while Instant::now() < deadline {
            let Some(incoming) = open else { break };
            open = pass_lines(incoming, POLL, on_line).then_some(incoming);
        }
        outcome
    }
}

/// Passes on what arrives in the next moment, `pause`; false when no more can come.
fn pass_lines(incoming: &Receiver<String>, pause: Duration, on_line: &mut dyn FnMut(String)) -> bool {
    let end = Instant::now() + pause;
    loop {
        match incoming.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => on_line(line),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        if Instant::now() >= end {
            return true;
        }
    }
}

/// Reads lines on a thread of its own, so that whoever waits for them can stop waiting.
fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Kills a child and all that it started.
fn kill_tree(child: &mut Child) {
    let id = child.id();
    let mut killer = if cfg!(windows) {
        let mut killer = Command::new("taskkill");
        killer.args(["/T", "/F", "/PID", &id.to_string()]);
        killer
    } else {
        let mut killer = Command::new("kill");
        killer.args(["-KILL", "--", &format!("-{id}")]);
        killer
    };
    let killed = killer.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !killed.is_ok_and(|status| status.success()) {
        eprintln!("xtask: the processes started by process {id} could not all be killed");
    }
    if let Err(error) = child.kill().and_then(|()| child.wait().map(|_| ())) {
        eprintln!("xtask: process {id} could not be stopped: {error}");
    }
}

impl fmt::Display for Task {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(out, "{}={:?} ", name.display(), value)?;
        }
        write!(out, "{}", PathBuf::from(&self.program).file_stem().unwrap_or(&self.program).display())?;
        for arg in &self.args {
            write!(out, " {}", arg.display())?;
        }
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Task {
        Task::new("sh").args(["-c", script])
    }

    #[test]
    fn lines_are_kept_and_the_status_decides() {
        assert_eq!(shell("echo one; echo two").capture().unwrap(), "one\ntwo");
        let finished = shell("echo one; exit 3").execute(Output::Keep).unwrap();
        assert_eq!(finished.lines, ["one"]);
        assert!(matches!(finished.result, Err(Error::Failed { status, .. }) if status.code() == Some(3)));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Task::new("no-such-program-here").capture().unwrap_err();
        assert!(error.to_string().contains("`no-such-program-here` could not be run"), "{error}");
    }

    #[test]
    fn a_hang_is_stopped_with_everything_it_started() {
        // The grandchild holds the pipe open: the output ends only when the grandchild is gone too.
        let task = shell("echo begun; sleep 600 & sleep 600").limit(Duration::from_millis(300));
        let started = Instant::now();
        let finished = task.execute(Output::Keep).unwrap();
        assert_eq!(finished.lines, ["begun"]);
        assert!(matches!(finished.result, Err(Error::TimedOut { .. })), "{:?}", finished.result);
        assert!(started.elapsed() < DRAIN, "the grandchild was left running");
    }

    #[test]
    fn a_task_prints_as_it_would_be_typed() {
        let task =
            Task::new("/somewhere/bin/cargo").args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(task.to_string(), "RUSTDOCFLAGS=\"-D warnings\" cargo doc --no-deps");
    }
}
