//! The import: lines into batches, batches into durable commits, one writer or several, each commit acknowledged.
//!
//! * Lines of one key go to one writer, in their order.
//! * A bad line ends the import; every line before it is committed first.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use keepstone::{Store, Version};

use super::apply::{BatchError, Target};
use super::input::{Input, Numbered};
use crate::args::ImportArgs;
use crate::exit::{Failure, Outcome};
use crate::json;
use crate::output::{self, count, duration};
use crate::session::Session;

/// What helps whoever mends a bad line.
const BEFORE: &str = "every line before it is in the store";

/// Runs the command.
pub(crate) fn run(session: &Session, args: &ImportArgs) -> Outcome {
    let started = Instant::now();
    let mut input = Input::open(&args.file, args.format)?;
    let store = session.open_or_create()?;
    let job = Job {
        store: &store,
        collection: session.collection_name(),
        input_name: input.name().to_owned(),
        batch: usize::try_from(args.batch).unwrap_or(usize::MAX),
        ack: args.ack,
    };
    let done = match args.writers {
        0 | 1 => job.alone(&mut input),
        writers => job.shared(&mut input, usize::from(writers)),
    };
    drop(input);
    let version = store.visible_version();
    let closed = store.close();
    // What stopped the import matters more than what closing says.
    let done = done?;
    closed?;
    if !args.ack {
        let (lines, commits) = (count(done.lines, "line", "lines"), count(done.commits, "commit", "commits"));
        output::say(format_args!(
            "imported {lines} in {commits}, version {version} ({})",
            duration(started.elapsed())
        ))?;
    }
    Ok(())
}

/// What was committed.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    lines: u64,
    commits: u64,
}

/// What every writer needs to know.
struct Job<'a> {
    store: &'a Store,
    collection: &'a str,
    input_name: String,
    batch: usize,
    ack: bool,
}

impl Job<'_> {
    /// One writer: this thread.
    fn alone(&self, input: &mut Input) -> Outcome<Done> {
        let mut writer = Writer::new(self);
        loop {
            match input.next() {
                Ok(Some(numbered)) => writer.take(numbered)?,
                Ok(None) => return writer.finish(),
                Err(bad) => return writer.finish().and(Err(bad.help(BEFORE))),
            }
        }
    }

    /// Several writers, fed by this thread.
    fn shared(&self, input: &mut Input, writers: usize) -> Outcome<Done> {
        thread::scope(|scope| {
            let (senders, threads): (Vec<_>, Vec<_>) = (0..writers)
                .map(|_| {
                    let (sender, receiver) = sync_channel(self.batch.clamp(16, 4_096));
                    (sender, scope.spawn(|| self.write_all(receiver)))
                })
                .unzip();
            let fed = self.feed(input, senders);
            let mut done = Done::default();
            let mut failed = None;
            for thread in threads {
                match thread.join() {
                    Ok(Ok(part)) => {
                        done.lines = done.lines.saturating_add(part.lines);
                        done.commits = done.commits.saturating_add(part.commits);
                    }
                    Ok(Err(failure)) => failed = failed.or(Some(failure)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            failed.map_or_else(|| fed.map(|()| done).map_err(|bad| bad.help(BEFORE)), Err)
        })
    }

    /// Hands each line to the writer of its key. Ends early when a writer has stopped.
    fn feed(&self, input: &mut Input, senders: Vec<SyncSender<Numbered>>) -> Outcome {
        while let Some(numbered) = input.next()? {
            let place = self.writer_of(&numbered, senders.len());
            let taken = senders.get(place).is_none_or(|sender| sender.send(numbered).is_ok());
            if !taken {
                break;
            }
        }
        Ok(())
    }

    fn writer_of(&self, numbered: &Numbered, writers: usize) -> usize {
        let mut hasher = DefaultHasher::new();
        numbered.line.collection.as_deref().unwrap_or(self.collection).hash(&mut hasher);
        numbered.line.key.hash(&mut hasher);
        let writers = u64::try_from(writers).unwrap_or(1).max(1);
        usize::try_from(hasher.finish() % writers).unwrap_or(0)
    }

    /// The life of one of several writers: until there are no more lines, or one cannot be written.
    fn write_all(&self, receiver: Receiver<Numbered>) -> Outcome<Done> {
        let mut writer = Writer::new(self);
        for numbered in receiver {
            writer.take(numbered)?;
        }
        writer.finish()
    }
}

/// Gathers lines and commits them.
struct Writer<'a> {
    job: &'a Job<'a>,
    target: Target,
    batch: Vec<Numbered>,
    done: Done,
}

impl<'a> Writer<'a> {
    fn new(job: &'a Job<'a>) -> Self {
        let target = Target::new(job.store.clone(), job.collection);
        Self { job, target, batch: Vec::new(), done: Done::default() }
    }

    fn take(&mut self, numbered: Numbered) -> Outcome {
        self.batch.push(numbered);
        if self.batch.len() >= self.job.batch { self.commit() } else { Ok(()) }
    }

    fn finish(mut self) -> Outcome<Done> {
        self.commit()?;
        Ok(self.done)
    }

    fn commit(&mut self) -> Outcome {
        let batch = std::mem::take(&mut self.batch);
        match self.target.commit(&batch) {
            Ok(version) => self.committed(version, &batch),
            Err(BatchError::Line { place, reason }) => {
                let (good, bad) = batch.split_at(place);
                let failure = Failure::error(reason).place(&self.job.input_name);
                let failure =
                    bad.iter().take(1).fold(failure, |f, bad| f.place(format!("line {}", bad.number)));
                let version = self.target.commit(good)?;
                self.committed(version, good)?;
                Err(failure)
            }
            Err(error) => {
                let is_too_large = error.is_too_large();
                let failure = Failure::from(error);
                Err(if is_too_large {
                    failure.help("a smaller --batch makes smaller commits")
                } else {
                    failure
                })
            }
        }
    }

    fn committed(&mut self, version: Version, batch: &[Numbered]) -> Outcome {
        let Some(last) = batch.last() else { return Ok(()) };
        self.done.commits = self.done.commits.saturating_add(1);
        self.done.lines = self.done.lines.saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        if self.job.ack { acknowledge(version, &last.line.key) } else { Ok(()) }
    }
}

/// Says on a line of its own that a commit is durable.
fn acknowledge(version: Version, key: &str) -> Outcome {
    let line = format!("ack {version} {}\n", quoted_if_needed(key));
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    // Unlike the reader of an export, one who asked for acknowledgements and has gone does not have all it wanted.
    written.map_err(|error| Failure::io("an acknowledgement cannot be written; the import stopped", &error))
}

/// A key as it stands in an acknowledgement.
fn quoted_if_needed(key: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '\'';
    if !key.is_empty() && key.chars().all(plain) { key.to_owned() } else { json::quoted(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_quoted_when_it_could_be_misread() {
        for (key, expected) in [
            ("serde@1.0.0", "serde@1.0.0"),
            ("größe", "größe"),
            ("a b", "\"a b\""),
            ("a\u{a0}b", "\"a\u{a0}b\""),
            ("a\"b", r#""a\"b""#),
            ("it's", "\"it's\""),
            ("a\nb", r#""a\nb""#),
            ("\u{7f}", "\"\u{7f}\""),
            ("back\\slash", "back\\slash"),
            ("", "\"\""),
        ] {
            assert_eq!(quoted_if_needed(key), expected);
        }
    }
}
