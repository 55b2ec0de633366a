//! Processes that a benchmark starts, and what the kernel says of them: memory, time on a processor, a memory limit.
//!
//! All of it is read from files (`/proc`, `/sys/fs/cgroup`), so only Linux has it; elsewhere a benchmark that needs it
//! fails and says so.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::BenchError;

/// What a process does that another one started, by name.
pub(crate) type Role = (&'static str, fn(&[String]) -> Result<(), BenchError>);

/// Does what the process that started this one asks: the first word names it.
pub(crate) fn be_child(children: &[Role], words: &[String]) -> Result<(), BenchError> {
    let (name, arguments) = words.split_first().ok_or("no child is named")?;
    let child = children.iter().find(|(known, _)| known == name);
    let (_, run) = child.ok_or_else(|| format!("there is no child {name}"))?;
    run(arguments)
}

/// Starts this program again as a child; what it prints comes through a pipe. With a group it lives in there from its
/// first instruction on.
pub(crate) fn start(words: &[&str], group: Option<&MemoryGroup>) -> Result<Child, BenchError> {
    let program = std::env::current_exe()?;
    let mut command = match group {
        Some(group) => {
            let mut shell = Command::new("sh");
            let join = "echo $$ > \"$1\" && shift && exec \"$@\"";
            shell.args(["-c", join, "sh"]).arg(group.dir.join("cgroup.procs")).arg(program);
            shell
        }
        None => Command::new(program),
    };
    let command = command.arg("--child").args(words).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// Waits for a child and gives the lines it printed; an error when it failed.
pub(crate) fn finish(child: Child) -> Result<Vec<String>, BenchError> {
    let output = child.wait_with_output()?;
    let lines = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect::<Vec<_>>();
    if output.status.success() {
        return Ok(lines);
    }
    Err(format!("the child ended with {}; it said: {}", output.status, lines.join(" | ")).into())
}

/// A figure that a child printed as `name number`.
pub(crate) fn figure(lines: &[String], name: &str) -> Result<f64, BenchError> {
    let line = lines.iter().filter_map(|line| line.split_once(' ')).find(|(found, _)| *found == name);
    let (_, number) = line.ok_or_else(|| format!("the child did not say its {name}"))?;
    Ok(number.trim().parse()?)
}

/// A line of `/proc/self/status` that counts KiB, such as `VmRSS` or `VmHWM`, in bytes.
pub(crate) fn memory_bytes(field: &str) -> Result<u64, BenchError> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: u64 =
        line.ok_or("the kernel does not count this")?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// The time that the threads which live now have spent on a processor, to the nanosecond.
pub(crate) fn processor_time() -> Result<Duration, BenchError> {
    let mut nanos = 0_u64;
    for task in fs::read_dir("/proc/self/task")? {
        let counted = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += counted.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Forgets the pages of a file that are in memory and clean, of this file alone: `posix_fadvise` through `dd`.
pub(crate) fn drop_cache(file: &Path) -> Result<(), BenchError> {
    let mut input = std::ffi::OsString::from("if=");
    input.push(file);
    let dd = Command::new("dd").arg(input).args(["iflag=nocache", "count=0", "status=none"]).status()?;
    if dd.success() { Ok(()) } else { Err(format!("dd ended with {dd}").into()) }
}

/// As [`drop_cache`], for all files of a folder and below.
pub(crate) fn drop_caches(dir: &Path) -> Result<(), BenchError> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { drop_caches(&path)? } else { drop_cache(&path)? }
    }
    Ok(())
}

/// A memory cgroup of its own, whose processes together, with the pages of files they touch, have so many bytes; gone when
/// dropped.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    dir: PathBuf,
    is_v1: bool,
}

impl MemoryGroup {
    /// Makes one where the kernel offers the first or the second version; an error when neither is writable.
    pub(crate) fn new(limit_bytes: u64) -> Result<Self, BenchError> {
        let name = format!("keepstone-bench-{}", std::process::id());
        for (root, limit, is_v1) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", true),
            ("/sys/fs/cgroup", "memory.max", false),
        ] {
            let dir = Path::new(root).join(&name);
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            let group = Self { dir, is_v1 };
            if fs::write(group.dir.join(limit), limit_bytes.to_string()).is_ok() {
                return Ok(group);
            }
        }
        Err("no memory cgroup can be made here".into())
    }

    /// What it is, for the record.
    pub(crate) const fn kind(&self) -> &'static str {
        if self.is_v1 { "memory cgroup, version 1" } else { "memory cgroup, version 2" }
    }

    /// The most bytes that it had at once, pages of files included.
    pub(crate) fn bytes_max(&self) -> Result<u64, BenchError> {
        let file = if self.is_v1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        Ok(fs::read_to_string(self.dir.join(file))?.trim().parse()?)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // What it charged for pages of files goes to its parent.
        fs::remove_dir(&self.dir).unwrap_or_default();
    }
}

/// What the kernel counts of the calling thread: how long it ran, and how long it waited for a processor though it could
/// run. What is left of a time was spent blocked, on a lock or on a disk.
#[derive(Debug)]
pub(crate) struct ThreadTimes(fs::File);

/// Times of a thread since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThreadTime {
    pub(crate) ran: Duration,
    pub(crate) queued: Duration,
}

impl ThreadTimes {
    /// Of the calling thread; to be used by it alone.
    pub(crate) fn new() -> Result<Self, BenchError> {
        Ok(Self(fs::File::open("/proc/thread-self/schedstat")?))
    }

    pub(crate) fn now(&mut self) -> Result<ThreadTime, BenchError> {
        let mut text = [0_u8; 96];
        self.0.seek(SeekFrom::Start(0))?;
        let len = self.0.read(&mut text)?;
        let text = std::str::from_utf8(text.get(..len).unwrap_or_default())?;
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next()) {
            (Some(ran), Some(queued)) => {
                Ok(ThreadTime { ran: Duration::from_nanos(ran?), queued: Duration::from_nanos(queued?) })
            }
            _ => Err("the kernel does not count the times of a thread".into()),
        }
    }
}
