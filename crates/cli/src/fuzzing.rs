//! Fuzz targets of the command line: what is imported, and what is typed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target reports by panicking"
)]

use arbitrary::{Result, Unstructured};
use clap::Parser as _;
use keepstone::{At, Timestamp};

use crate::args::Cli;
use crate::import::cargo_metadata;
use crate::import::input::{InputError, JsonLines};
use crate::import::line::{Content, Line};
use crate::{at, json};

/// A target: name, function, most bytes of heap at once, fixed and per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// An import in JSON lines.
pub const IMPORT_LINES: Target = ("import_lines", import_lines, [64 << 10, 1_024]);
/// An import of what `cargo metadata` prints.
pub const CARGO_METADATA: Target = ("cargo_metadata", cargo_metadata, [64 << 10, 2_048]);
/// The command line, and what it means by `AT`.
pub const ARGS: Target = ("args", args, [8 << 20, 1_024]);

/// Every target of the crate.
pub const TARGETS: [Target; 3] = [IMPORT_LINES, CARGO_METADATA, ARGS];

fn import_lines(input: &[u8]) {
    let mut lines = JsonLines::new(input);
    let mut read = 0;
    let mut last = 0;
    loop {
        match lines.next() {
            Ok(Some((numbered, bytes))) => {
                assert!(numbered.number > last && bytes > 0, "lines are counted upwards");
                (last, read) = (numbered.number, read + bytes);
                assert!(usize::try_from(read).unwrap() <= input.len());
            }
            Ok(None) => break,
            Err(InputError::Line(error)) => {
                assert!(!error.to_string().is_empty());
                break;
            }
            Err(InputError::Io(error)) => panic!("memory can be read: {error}"),
        }
    }
    one_text(input);
    if let Some(line) = input.split(|byte| *byte == b'\n').next() {
        one_text(line);
    }
}

/// Reading what was written gives the content again, and equal content has equal bytes.
fn one_text(input: &[u8]) {
    let line = Line::parse(input);
    let value = match json::parse(input) {
        Ok(value) => value,
        Err(error) => {
            assert!(line.is_err() && error.to_string().len() < 400, "a message has a bound: {error}");
            return;
        }
    };
    let text = json::text(&value);
    assert_eq!(json::parse(text.as_bytes()).as_ref(), Ok(&value), "{text}");
    assert_eq!(json::text(&json::parse(text.as_bytes()).unwrap()), text);
    let plain: serde_json::Value = serde_json::from_slice(input).expect("what is read strictly is JSON");
    assert_eq!(plain, value);
    let again = Line::parse(text.as_bytes());
    assert_eq!(line.is_ok(), again.is_ok(), "{line:?} and {again:?}");
    if let (Ok(line), Ok(again)) = (line, again) {
        assert_eq!(line, again);
        if let Content::Write(fields) = line.content {
            assert!(fields.links.iter().all(|link| link.weight.is_finite()));
        }
    }
}

fn cargo_metadata(input: &[u8]) {
    match cargo_metadata::parse_with(input, |path| Some(path.display().to_string())) {
        Ok(graph) => {
            let lines = graph.lines();
            assert_eq!(lines.len(), graph.crates.len());
            let links = lines.iter().map(|line| match &line.content {
                Content::Write(fields) => fields.links.len(),
                Content::Delete => panic!("a crate is written"),
            });
            assert_eq!(links.sum::<usize>(), graph.link_count());
            let known = |key: &str| graph.crates.contains_key(key);
            assert!(graph.crates.values().flat_map(|found| &found.links).all(|(_, to)| known(to)));
            let mut more = graph.clone();
            more.add_missing(graph.clone());
            assert_eq!(more, graph, "a graph lacks nothing of itself");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn args(input: &[u8]) {
    typed(Unstructured::new(input)).unwrap_or_default();
}

fn typed(mut input: Unstructured<'_>) -> Result<()> {
    at_text(input.arbitrary()?, input.arbitrary()?);
    let words = std::str::from_utf8(input.take_rest()).unwrap_or_default().split('\n');
    match Cli::try_parse_from(std::iter::once("keepstone").chain(words)) {
        Ok(cli) => assert!(!format!("{cli:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

fn at_text(text: &str, micros: u64) {
    match at::parse(text) {
        At::Version(version) => assert_eq!(at::parse(&version.to_string()), At::Version(version)),
        At::Time(time) => {
            let again = at::rfc3339(time);
            assert_eq!(at::parse(&again), At::Time(time), "{text} prints as {again}");
        }
        At::Name(name) => assert_eq!(name, text),
        other => panic!("{other:?}"),
    }
    // All years that have four digits.
    let time = Timestamp::from_micros(micros % 253_000_000_000_000_000);
    assert_eq!(at::parse(&at::rfc3339(time)), At::Time(time));
    assert!(!at::rfc3339(Timestamp::from_micros(micros)).is_empty());
    let starts_as_year =
        text.bytes().take(4).all(|byte| byte.is_ascii_digit()) && text.as_bytes().get(4) == Some(&b'-');
    assert_eq!(at::looks_like_time(text), starts_as_year, "{text}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_hold_on_kept_and_made_inputs() {
        let made = |name: &str| if name == "args" { 1_000 } else { 8_000 };
        keepstone_testkit::fuzzing::run_all(env!("CARGO_MANIFEST_DIR"), &super::TARGETS, made);
    }
}
