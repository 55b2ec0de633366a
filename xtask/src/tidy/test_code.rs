//! Tests run, all of them, and none waits for a time to pass in the hope that something has happened.

use super::Finding;
use super::context::Context;

/// What a line that sleeps in a test must say, before its reason.
const SLEEP_REASON: &str = "// tidy: sleep: ";

/// No ignored test or doctest, no unexplained sleep in a test.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = ignored_tests(context);
    findings.extend(ignored_doctests(context));
    findings.extend(sleeps(context));
    findings
}

fn ignored_tests(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in &context.rust {
        let ignoring = file.attributes.iter().filter(|attribute| match attribute.path.split_first() {
            Some((first, rest)) => {
                first == "ignore" || (first == "cfg_attr" && rest.iter().any(|name| name == "ignore"))
            }
            None => false,
        });
        findings.extend(ignoring.map(|attribute| {
            let message = "expected a test that runs, found an ignored one";
            Finding::new(path, attribute.line, "ignored-test", message)
        }));
    }
    findings
}

fn ignored_doctests(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in context.files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        for (index, line) in text.lines().enumerate() {
            let comment =
                line.trim_start().strip_prefix("///").or_else(|| line.trim_start().strip_prefix("//!"));
            let fence = comment.and_then(|comment| comment.trim_start().strip_prefix("```"));
            if fence.is_some_and(|fence| fence.split(',').any(|word| word.trim().starts_with("ignore"))) {
                let message = "expected an example that runs or is `text`, found an ignored one";
                findings.push(Finding::new(path, index + 1, "ignored-test", message));
            }
        }
    }
    findings
}

fn sleeps(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in &context.rust {
        let text: Vec<&str> = context.files.get(path).map(|text| text.lines().collect()).unwrap_or_default();
        let calls = file.paths.iter().filter(|found| !file.is_import(found));
        for found in calls.filter(|found| is_sleep(&file.resolve(&found.path))) {
            let explained = text.get(found.line - 1).and_then(|line| line.split_once(SLEEP_REASON));
            let explained = explained.is_some_and(|(_, reason)| !reason.trim().is_empty());
            if context.is_test_line(path, found.line) && !explained {
                let message = format!(
                    "expected to wait for the thing itself or `{SLEEP_REASON}<reason>`, found a sleep"
                );
                findings.push(Finding::new(path, found.line, "sleep-in-test", message));
            }
        }
    }
    findings
}

/// `thread::sleep`, `time::sleep` and the like, however they were imported.
fn is_sleep(path: &[String]) -> bool {
    path.len() > 1 && path.last().is_some_and(|name| name == "sleep" || name == "sleep_until")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Workspace;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        let workspace = Workspace::default();
        check(&Context::of(&workspace, &[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ignored_tests_and_examples_are_found() {
        let fence = "`".repeat(3);
        for text in [
            "#[test]\n#[ignore = \"slow\"]\nfn t() {}",
            "\n#[cfg_attr(miri, ignore)]\n#[test]\nfn t() {}",
            &format!("//! Some.\n//! {fence}rust,ignore\n//! {fence}\n"),
        ] {
            let found = check_one("a/src/x.rs", text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].starts_with("a/src/x.rs:2: ignored-test: "), "{found:?}");
        }
    }

    #[test]
    fn a_sleep_in_a_test_needs_its_reason() {
        let call = "std::thread::sleep(d);";
        let module = format!("#[cfg(test)]\nmod tests {{\nfn f() {{\n{call}\n}}\n}}\n");
        assert_eq!(check_one("a/src/x.rs", &module).len(), 1);
        assert_eq!(check_one("a/tests/x.rs", &format!("fn f() {{ {call} }}")).len(), 1);
        assert_eq!(check_one("a/src/x.rs", &format!("#[test]\nfn f() {{ {call} }}")).len(), 1);
        assert_eq!(check_one("a/tests/x.rs", "use std::thread::sleep;\nfn f() { sleep(d); }").len(), 1);
        let explained = format!("fn f() {{\n{call} {SLEEP_REASON}the clock is what is tested\n}}");
        assert!(check_one("a/tests/x.rs", &explained).is_empty());
        assert!(check_one("a/src/x.rs", &format!("fn f() {{ {call} }}")).is_empty());
    }
}
