//! Where import lines come from: JSON lines of a file or of standard input, or crates of `cargo metadata`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use super::cargo_metadata;
use super::line::{LINE_BYTES_MAX, Line, LineError};
use crate::args::Format;
use crate::exit::{Failure, Outcome};
use crate::output::Progress;

/// A document that is not read line by line is held whole, so it has a limit.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// A line with its number, counted from 1.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) line: Line,
    /// Bytes of its text, or about as many: what it takes in memory is in proportion.
    pub(crate) bytes: u64,
}

/// A source of lines.
pub(crate) struct Input {
    name: String,
    progress: Progress,
    lines: Lines,
}

enum Lines {
    Json(JsonLines<Box<dyn BufRead>>),
    /// Lines made of a document, and the bytes of each on average.
    Made(std::iter::Enumerate<std::vec::IntoIter<Line>>, u64),
}

impl Input {
    /// Opens a file, or standard input when it is `-`.
    pub(crate) fn open(file: &Path, format: Format) -> Outcome<Self> {
        let name =
            if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        let cannot_read = |error: io::Error| Failure::io(format!("cannot read {name}"), &error);
        let (mut reader, progress): (Box<dyn BufRead>, Progress) = if file == Path::new("-") {
            (
                Box::new(BufReader::with_capacity(256 << 10, io::stdin())),
                Progress::counting("importing bytes"),
            )
        } else {
            let opened = File::open(file).map_err(cannot_read)?;
            let len = opened.metadata().map_err(cannot_read)?.len();
            (Box::new(BufReader::with_capacity(256 << 10, opened)), Progress::bytes("importing", len))
        };
        let lines = match format {
            Format::Jsonl => Lines::Json(JsonLines::new(reader)),
            Format::CargoMetadata => {
                let mut json = Vec::new();
                let limit = DOCUMENT_BYTES_MAX.saturating_add(1);
                let read = reader.by_ref().take(limit).read_to_end(&mut json).map_err(cannot_read)?;
                let read = u64::try_from(read).unwrap_or(u64::MAX);
                if read > DOCUMENT_BYTES_MAX {
                    return Err(Failure::error(format!("cannot import {name}"))
                        .expected(format!("a document of at most {DOCUMENT_BYTES_MAX} bytes"))
                        .found("more"));
                }
                let graph = cargo_metadata::parse(&json)
                    .map_err(|error| Failure::error(format!("cannot import {name}")).place(error))?;
                let lines = graph.lines();
                let count = u64::try_from(lines.len()).unwrap_or(u64::MAX).max(1);
                Lines::Made(lines.into_iter().enumerate(), read.div_ceil(count))
            }
        };
        Ok(Self { name, progress, lines })
    }

    /// What is read, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self) -> Outcome<Option<Numbered>> {
        match &mut self.lines {
            Lines::Json(lines) => match lines.next() {
                Ok(Some((numbered, bytes))) => {
                    self.progress.add(bytes);
                    Ok(Some(numbered))
                }
                Ok(None) => Ok(None),
                Err(InputError::Io(error)) => {
                    Err(Failure::io(format!("cannot read {}", self.name), &error).place(lines.place()))
                }
                Err(InputError::Line(error)) => {
                    Err(Failure::error(error.to_string()).place(&self.name).place(lines.place()))
                }
            },
            Lines::Made(lines, bytes) => Ok(lines.next().map(|(place, line)| {
                let number = u64::try_from(place).unwrap_or(u64::MAX).saturating_add(1);
                Numbered { number, line, bytes: *bytes }
            })),
        }
    }
}

/// Why there is no next line.
#[derive(Debug)]
pub(crate) enum InputError {
    /// The input cannot be read.
    Io(io::Error),
    /// The line is refused.
    Line(LineError),
}

/// Lines of JSON, read one by one, so that what comes through a pipe is taken as it comes.
pub(crate) struct JsonLines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> JsonLines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), number: 0 }
    }

    fn place(&self) -> String {
        format!("line {}", self.number)
    }

    /// The next line that is not blank, and how many bytes were read for it.
    pub(crate) fn next(&mut self) -> Result<Option<(Numbered, u64)>, InputError> {
        let mut bytes = 0_u64;
        loop {
            self.number = self.number.saturating_add(1);
            let Some(read) = self.fill()? else { return Ok(None) };
            bytes = bytes.saturating_add(read);
            if !self.buffer.iter().all(u8::is_ascii_whitespace) {
                let line = Line::parse(&self.buffer).map_err(InputError::Line)?;
                let len = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
                return Ok(Some((Numbered { number: self.number, line, bytes: len }, bytes)));
            }
        }
    }

    /// Reads one line without its end into the buffer; `None` at the end of the input.
    fn fill(&mut self) -> Result<Option<u64>, InputError> {
        self.buffer.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        let read = u64::try_from(read.map_err(InputError::Io)?).unwrap_or(u64::MAX);
        match self.buffer.last() {
            None => return Ok(None),
            Some(b'\n') => drop(self.buffer.pop()),
            Some(_) if read == limit => return Err(InputError::Line(LineError::TooLong)),
            // The last line may end without an end of line.
            Some(_) => {}
        }
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &[u8]) -> Result<Vec<(u64, String)>, (String, String)> {
        let mut lines = JsonLines::new(text);
        let mut keys = Vec::new();
        loop {
            match lines.next() {
                Ok(Some((numbered, _))) => keys.push((numbered.number, numbered.line.key)),
                Ok(None) => return Ok(keys),
                Err(InputError::Line(error)) => return Err((lines.place(), error.to_string())),
                Err(InputError::Io(error)) => return Err((lines.place(), error.to_string())),
            }
        }
    }

    #[test]
    fn lines_are_counted_and_blank_ones_passed_over() {
        let found = keys(b"{\"key\":\"a\"}\r\n\n  \t\n{\"key\":\"b\"}").unwrap();
        assert_eq!(found, [(1, "a".to_owned()), (4, "b".to_owned())]);
        assert_eq!(keys(b"").unwrap(), []);
        assert_eq!(keys(b"\n\n").unwrap(), []);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let (place, message) = keys(b"{\"key\":\"a\"}\n\n{\"key\":}\n").unwrap_err();
        assert_eq!(place, "line 3");
        assert!(message.starts_with("not valid JSON"), "{message}");
    }

    #[test]
    fn bytes_are_counted_with_the_blank_lines() {
        let mut lines = JsonLines::new(&b"\n{\"key\":\"a\"}\n"[..]);
        assert_eq!(lines.next().unwrap().map(|(_, bytes)| bytes), Some(13));
    }
}
