//! The examples of README.md are run and print what it says: `[..]` stands for any text, a line of `...` for any lines.
#![cfg(unix)]

use std::env;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// A command and the lines it prints.
struct Example {
    command: String,
    expected: Vec<&'static str>,
}

/// The examples of all `console` blocks.
fn examples() -> Vec<Example> {
    let blocks = README.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("console\n"));
    let mut examples: Vec<Example> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => examples.push(Example { command: command.to_owned(), expected: Vec::new() }),
            None => examples.last_mut().expect("a command comes first").expected.push(line),
        }
    }
    examples
}

/// Whether a line is as expected.
fn fits(expected: &str, found: &str) -> bool {
    let mut parts = expected.split("[..]");
    let Some(mut rest) = parts.next().and_then(|start| found.strip_prefix(start)) else { return false };
    let parts: Vec<_> = parts.collect();
    for (place, part) in parts.iter().enumerate() {
        let is_last = place + 1 == parts.len();
        let end = if is_last {
            rest.strip_suffix(part).map(|_| rest.len())
        } else {
            rest.find(part).map(|at| at + part.len())
        };
        match end {
            Some(end) => rest = &rest[end..],
            None => return false,
        }
    }
    rest.is_empty()
}

fn all_fit(expected: &[&str], found: &[&str]) -> bool {
    match (expected, found) {
        ([], []) => true,
        (["..."], _) => true,
        ([first, expected @ ..], [line, found @ ..]) => fits(first, line) && all_fit(expected, found),
        _ => false,
    }
}

/// Runs a line in a shell, after the settings of the lines before it.
fn run(folder: &Path, settings: &str, command: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_keepstone")).parent().unwrap();
    let path = env::join_paths(
        [programs.to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())),
    );
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{settings}{command}")).current_dir(folder).env("PATH", path.unwrap());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KEEPSTONE_")) {
        shell.env_remove(name);
    }
    let output = shell.output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_examples_print_what_the_readme_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = String::new();
    let examples = examples();
    assert!(examples.len() >= 20, "{} examples", examples.len());
    for Example { command, expected } in examples {
        let found = run(folder.path(), &settings, &command);
        let lines: Vec<_> = found.lines().collect();
        assert!(
            all_fit(&expected, &lines),
            "$ {command}\nexpected:\n{}\nfound:\n{found}",
            expected.join("\n")
        );
        if command.starts_with("export ") {
            settings.push_str(&format!("{command}; "));
        }
    }
}

#[test]
fn the_wildcards_are_not_too_kind() {
    assert!(fits("a[..]c", "abc") && fits("a[..]", "a") && fits("[..]b[..]d", "abcd") && fits("a", "a"));
    assert!(!fits("a[..]c", "ab") && !fits("a", "ab") && !fits("[..]x[..]", "abc") && !fits("b[..]", "ab"));
    assert!(
        all_fit(&["a", "..."], &["a", "b", "c"])
            && !all_fit(&["a"], &["a", "b"])
            && !all_fit(&["a", "b"], &["a"])
    );
}
