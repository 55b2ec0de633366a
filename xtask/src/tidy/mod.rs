//! The rules of the house that no compiler knows, each a function from what is in the repository to findings.
//!
//! A rule sees a [`Context`]: every text file by its path, every Rust file taken apart, and what cargo says of the
//! members. It reads nothing else, so each rule is tested on a few planted lines.

mod context;
mod dependencies;
mod fuzzing;
mod layers;
mod links;
mod locks;
mod modules;
mod names;
mod packaging;
mod rust_file;
mod sizes;
mod test_code;

mod unsafe_code;

use std::fmt;

use context::Context;

use crate::error::Error;
use crate::metadata::Workspace;

/// A broken rule, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the root of the repository.
    path: String,
    /// From 1 on.
    line: usize,
    rule: &'static str,
    /// What, what was expected, what was found.
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}: {}", self.path, self.line, self.rule, self.message)
    }
}

/// A rule of the house.
type Rule = fn(&Context<'_>) -> Vec<Finding>;

/// Every rule.
const RULES: [Rule; 13] = [
    layers::check,
    sizes::check,
    modules::check_openings,
    modules::check_dead_files,
    locks::check_locks,
    locks::check_ranks,
    unsafe_code::check,
    test_code::check,
    dependencies::check,
    fuzzing::check,
    packaging::check,
    links::check,
    names::check,
];

/// Holds every rule against the repository and prints what it finds, in order of path and line.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Error> {
    let context = Context::load(workspace)?;
    let findings = findings(&context);
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing found", context.files.len());
        return Ok(());
    }
    Err(Error::Untidy(findings.len()))
}

fn findings(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = context.unreadable.clone();
    findings.extend(RULES.iter().flat_map(|rule| rule(context)));
    findings.sort();
    findings.dedup();
    findings
}

/// Every place with `unsafe` code, for whoever has to run more checks over it.
pub(crate) fn unsafe_places(workspace: &Workspace) -> Result<(usize, Vec<String>), Error> {
    let context = Context::load(workspace)?;
    Ok((context.rust.len(), unsafe_code::places(&context)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_like_those_of_a_compiler_and_come_in_order() {
        let workspace = Workspace::default();
        let files =
            [("b.rs", "fn main() {}\n"), ("a.rs", "//! Fine.\nfn broken( {}\n"), ("c.rs", "fn main() {}\n")];
        let context = Context::of(&workspace, &files);
        let shown: Vec<_> = findings(&context).iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with("a.rs:2: syntax: "), "{shown:?}");
        assert!(shown[1].starts_with("b.rs:1: opening: "), "{shown:?}");
        assert!(shown[2].starts_with("c.rs:1: opening: "), "{shown:?}");
    }
}
