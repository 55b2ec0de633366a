//! How the command ends: the exit codes that scripts rely on, and the one form of every error message.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// What helps when something stored is lost.
pub(crate) const HELP_WITH_LOSS: &str = "restore a copy, or export what can be read: keepstone export";

/// The exit codes of the command line; their numbers are a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something failed.
    Error,
    /// The command was not understood.
    Usage,
    /// The store is damaged.
    Damage,
    /// The store does not hold what was asked for.
    NotFound,
    /// Another process writes to the store.
    Locked,
}

impl Code {
    const fn number(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Usage => 2,
            Self::Damage => 3,
            Self::NotFound => 4,
            Self::Locked => 5,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

/// Why a command failed. Prints as `what (where; expected ...; found ...; the command that helps)`.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    what: String,
    details: Vec<String>,
    /// The reader of standard output has gone: nothing is wrong and nobody is left to tell.
    quiet: bool,
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this exit code.
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), details: Vec::new(), quiet: false }
    }

    /// A failure with the general exit code.
    pub(crate) fn error(what: impl Into<String>) -> Self {
        Self::new(Code::Error, what)
    }

    /// The store does not hold what was asked for.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(Code::NotFound, what)
    }

    /// An operation on a file or stream that failed.
    pub(crate) fn io(what: impl Into<String>, source: &io::Error) -> Self {
        Self::error(what).found(source)
    }

    /// Standard output could not be written.
    pub(crate) fn output(source: &io::Error) -> Self {
        let quiet = source.kind() == io::ErrorKind::BrokenPipe;
        Self { quiet, ..Self::io("standard output cannot be written", source) }
    }

    /// Adds where it happened.
    pub(crate) fn place(self, place: impl fmt::Display) -> Self {
        self.detail(place.to_string())
    }

    /// Adds what was expected.
    pub(crate) fn expected(self, expected: impl fmt::Display) -> Self {
        self.detail(format!("expected {expected}"))
    }

    /// Adds what was found instead.
    pub(crate) fn found(self, found: impl fmt::Display) -> Self {
        self.detail(format!("found {found}"))
    }

    /// Adds what helps.
    pub(crate) fn help(self, help: impl fmt::Display) -> Self {
        self.detail(help.to_string())
    }

    /// The exit code.
    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    /// Whether there is nothing to report: the reader of the output has all it wanted.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    fn detail(mut self, detail: String) -> Self {
        self.details.push(detail);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, " ({})", self.details.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_promised_ones() {
        let codes = [Code::Error, Code::Usage, Code::Damage, Code::NotFound, Code::Locked];
        assert_eq!(codes.map(Code::number), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_failure_reads_what_where_expected_found_help() {
        let failure = Failure::error("a number is out of range")
            .place("line 3")
            .expected("0 to 9")
            .found(10)
            .help("see keepstone import --help");
        assert_eq!(
            failure.to_string(),
            "a number is out of range (line 3; expected 0 to 9; found 10; see keepstone import --help)"
        );
        assert_eq!(Failure::error("bare").to_string(), "bare");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_news() {
        assert!(Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe)).is_quiet());
        assert!(!Failure::output(&io::Error::from(io::ErrorKind::StorageFull)).is_quiet());
    }
}
