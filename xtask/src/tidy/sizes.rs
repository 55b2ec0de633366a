//! Files and functions stay small enough to be read in one go.

use super::Finding;
use super::context::Context;
use super::rust_file::RustFile;

/// Lines of a file, those of its test modules not counted.
const FILE_LINES_MAX: usize = 600;

/// Lines of a file that holds only tests.
const TEST_FILE_LINES_MAX: usize = 1200;

/// Lines of a function, from `fn` to its closing brace; test functions are not held to it.
const FUNCTION_LINES_MAX: usize = 70;

/// Lines of a `lib.rs`: its documentation, lints, modules and re-exports.
const LIB_LINES_MAX: usize = 100;

/// Holds every Rust file and function against its bound.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in &context.rust {
        let lines = context.files.get(path).map_or(0, |text| text.lines().count());
        findings.extend(check_file(path, file, lines, context.is_test_file(path)));
        findings.extend(check_functions(path, file));
    }
    findings
}

fn check_file(path: &str, file: &RustFile, lines: usize, is_test_file: bool) -> Option<Finding> {
    let in_tests: usize = file.test_modules.iter().map(|lines| lines.clone().count()).sum();
    let (found, bound, what) = if path.ends_with("src/lib.rs") {
        (lines, LIB_LINES_MAX, "lines in a lib.rs")
    } else if is_test_file {
        (lines, TEST_FILE_LINES_MAX, "lines in a file of tests")
    } else {
        (lines.saturating_sub(in_tests), FILE_LINES_MAX, "lines without tests")
    };
    let message = format!("expected at most {bound} {what}, found {found}");
    (found > bound).then(|| Finding::new(path, 1, "file-size", message))
}

fn check_functions(path: &str, file: &RustFile) -> impl Iterator<Item = Finding> {
    file.functions.iter().filter(|function| !function.is_test).filter_map(move |function| {
        let found = function.lines.clone().count();
        let message =
            format!("`{}`: expected at most {FUNCTION_LINES_MAX} lines, found {found}", function.name);
        (found > FUNCTION_LINES_MAX)
            .then(|| Finding::new(path, *function.lines.start(), "function-size", message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Workspace;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        let workspace = Workspace::default();
        check(&Context::of(&workspace, &[(path, text)])).iter().map(ToString::to_string).collect()
    }

    fn comments(lines: usize) -> String {
        "// A line.\n".repeat(lines)
    }

    #[test]
    fn a_file_may_have_600_lines_beside_its_tests() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", comments(100));
        assert!(check_one("a/src/x.rs", &format!("{}{tests}", comments(599))).is_empty());
        let found = check_one("a/src/x.rs", &format!("{}{tests}", comments(600)));
        assert_eq!(found, ["a/src/x.rs:1: file-size: expected at most 600 lines without tests, found 601"]);
    }

    #[test]
    fn a_file_of_tests_and_a_lib_have_their_own_bounds() {
        assert!(check_one("a/tests/x.rs", &comments(1200)).is_empty());
        assert_eq!(check_one("a/tests/x.rs", &comments(1201)).len(), 1);
        assert!(check_one("a/src/lib.rs", &comments(100)).is_empty());
        assert_eq!(check_one("a/src/lib.rs", &comments(101)).len(), 1);
    }

    #[test]
    fn a_function_may_have_70_lines_and_a_test_more() {
        assert!(check_one("a/src/x.rs", &format!("fn f() {{\n{}}}\n", comments(68))).is_empty());
        let found = check_one("a/src/x.rs", &format!("\nfn f() {{\n{}}}\n", comments(69)));
        assert_eq!(found, ["a/src/x.rs:2: function-size: `f`: expected at most 70 lines, found 71"]);
        assert!(check_one("a/src/x.rs", &format!("#[test]\nfn f() {{\n{}}}\n", comments(99))).is_empty());
    }
}
