//! What people and programs read: standard output that ends quietly when its reader has gone, aligned tables, and
//! progress on terminals only.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::{Failure, Outcome};

/// Buffered standard output.
#[derive(Debug)]
pub(crate) struct Output {
    inner: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Standard output, locked until dropped.
    pub(crate) fn new() -> Self {
        Self { inner: BufWriter::with_capacity(64 << 10, io::stdout().lock()) }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl Display) -> Outcome {
        writeln!(self.inner, "{line}").map_err(|error| Failure::output(&error))
    }

    /// Hands over what is buffered.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.inner.flush().map_err(|error| Failure::output(&error))
    }
}

/// Writes one line to standard output.
pub(crate) fn say(line: impl Display) -> Outcome {
    let mut output = Output::new();
    output.line(line)?;
    output.flush()
}

/// Tells a person something beside the result. Nobody may be listening, which is no error.
pub(crate) fn remark(line: impl Display) {
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

/// On which side a column is even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// A table with a heading, as wide as what it holds.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table of these columns without rows.
    pub(crate) const fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell)));
    }

    /// The lines, each indented by `indent` blanks; nothing at all when there is no row.
    pub(crate) fn lines(&self, indent: usize) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let heading = self.columns.map(|(name, _)| name.to_owned());
        let mut widths = [0; N];
        for row in std::iter::once(&heading).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &[String; N]| {
            let cells =
                row.iter().zip(widths).zip(self.columns).map(|((cell, width), (_, align))| match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            let cells: Vec<String> = cells.collect();
            format!("{:indent$}{}", "", cells.join("  ").trim_end())
        };
        std::iter::once(&heading).chain(&self.rows).map(line).collect()
    }

    /// Writes the table to standard output.
    pub(crate) fn print(&self) -> Outcome {
        let mut output = Output::new();
        for line in self.lines(0) {
            output.line(line)?;
        }
        output.flush()
    }
}

/// A text with its control characters written out, so that nothing stored can command a terminal.
pub(crate) fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// The beginning of a text, at most `chars` characters.
pub(crate) fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A number with its thousands apart: `1,234,567`.
pub(crate) fn thousands(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its word: `1 node`, `1,200 nodes`.
pub(crate) fn count(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// A number of bytes with a unit: `1.50 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}

/// A duration with three digits or so.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Shows how far long work is, on a terminal; elsewhere nothing.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length, such as lines from a pipe.
    pub(crate) fn counting(what: &'static str) -> Self {
        Self::with("{spinner} {msg}: {human_pos} ({per_sec}, {elapsed})", ProgressBar::new_spinner(), what)
    }

    /// Work of a known number of bytes.
    pub(crate) fn bytes(what: &'static str, len: u64) -> Self {
        let template = "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes} (done in {eta})";
        Self::with(template, ProgressBar::new(len), what)
    }

    fn with(template: &str, bar: ProgressBar, what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style).with_message(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// More is done.
    pub(crate) fn add(&self, done: u64) {
        self.0.inc(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_even_and_nothing_trails() {
        let mut table = Table::new([("KEY", Align::Left), ("N", Align::Right), ("SAYS", Align::Left)]);
        assert!(table.lines(0).is_empty());
        table.row(["é".into(), "1".into(), String::new()]);
        table.row(["longer".into(), "1,000".into(), "x\ny\u{1b}[31m".into()]);
        let expected = ["KEY         N  SAYS", "é           1", "longer  1,000  x\\ny\\u{1b}[31m"];
        assert_eq!(table.lines(0), expected);
        assert_eq!(table.lines(2)[0], "  KEY         N  SAYS");
    }

    #[test]
    fn numbers_and_durations_are_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(count(1, "node", "nodes"), "1 node");
        assert_eq!(count(0, "node", "nodes"), "0 nodes");
        for (micros, text) in [(27, "27 µs"), (1_500, "1.5 ms"), (2_345_678, "2.35 s")] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
