//! `unsafe` stands in listed modules only, each of which argues for every block.

use super::Finding;
use super::context::Context;

/// The modules that may have `unsafe` code.
const ALLOWED: &[&str] = &[];

/// No `unsafe` outside the list.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let found = uses(context).filter(|(path, _)| !ALLOWED.contains(path));
    found
        .map(|(path, line)| {
            Finding::new(
                path,
                line,
                "unsafe",
                "expected safe code outside the listed modules, found `unsafe`",
            )
        })
        .collect()
}

/// Every place with `unsafe`, as `path:line`.
pub(super) fn places(context: &Context<'_>) -> Vec<String> {
    uses(context).map(|(path, line)| format!("{path}:{line}")).collect()
}

fn uses<'a>(context: &'a Context<'_>) -> impl Iterator<Item = (&'a str, usize)> {
    context.rust.iter().flat_map(|(path, file)| {
        let uses = file.paths.iter().filter(|found| found.path.iter().any(|part| part == "unsafe"));
        uses.map(move |found| (path.as_str(), found.line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Workspace;

    fn check_one(text: &str) -> Vec<String> {
        let workspace = Workspace::default();
        check(&Context::of(&workspace, &[("a/src/x.rs", text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unsafe_code_is_found_in_every_form() {
        for text in [
            "fn f() { unsafe { g() } }",
            "unsafe fn f() {}",
            "unsafe impl Send for S {}",
            "#[unsafe(no_mangle)] fn f() {}",
            "m! { unsafe { g() } }",
        ] {
            let expected =
                "a/src/x.rs:1: unsafe: expected safe code outside the listed modules, found `unsafe`";
            assert_eq!(check_one(text), [expected], "{text}");
        }
    }

    #[test]
    fn the_word_alone_is_no_unsafe_code() {
        assert!(check_one("//! unsafe\n#![forbid(unsafe_code)]\nconst A: &str = \"unsafe\";").is_empty());
    }
}
