//! One Rust file taken apart into what the rules ask about.
//!
//! Items come from the syntax tree. Paths and attributes come from the tokens, because a syntax tree does not look
//! into macros.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Ident, ImplItemFn, ItemFn, ItemMod, ItemUse, Meta, Signature, TraitItemFn, UseTree,
};

/// The facts about a file.
#[derive(Debug, Default)]
pub(super) struct RustFile {
    pub(super) functions: Vec<Function>,
    pub(super) modules: Vec<ModuleDeclaration>,
    /// Every import, by its full path.
    pub(super) imports: Vec<Import>,
    /// Every `a::b::c` in the tokens, single names too.
    pub(super) paths: Vec<PathUse>,
    /// The names in every `#[...]`, in their order.
    pub(super) attributes: Vec<PathUse>,
    /// The lines of `#[cfg(test)]` modules, from `mod` to the closing brace.
    pub(super) test_modules: Vec<RangeInclusive<usize>>,
    test_functions: Vec<RangeInclusive<usize>>,
}

/// A function with a body.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: String,
    /// From `fn` to the closing brace.
    pub(super) lines: RangeInclusive<usize>,
    pub(super) is_test: bool,
}

/// A `mod name;` whose content is in another file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ModuleDeclaration {
    /// The modules around it in this file.
    pub(super) around: Vec<String>,
    pub(super) name: String,
    /// What `#[path = "..."]` says.
    pub(super) path: Option<String>,
    pub(super) tests_only: bool,
}

/// One imported name.
#[derive(Debug)]
pub(super) struct Import {
    /// The full path; a glob ends in `*`.
    pub(super) path: Vec<String>,
    pub(super) local_name: String,
    pub(super) line: usize,
}

/// A path in the tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathUse {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

impl RustFile {
    /// Takes a file apart, or says in which line it cannot be read and why.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let tokens: TokenStream = text
            .parse()
            .map_err(|error: proc_macro2::LexError| (error.span().start().line, error.to_string()))?;
        let syntax = syn::parse_file(text).map_err(|error| (error.span().start().line, error.to_string()))?;
        let mut items = Items::default();
        items.visit_file(&syntax);
        read_tokens(tokens, &mut items.file);
        Ok(items.file)
    }

    /// Whether a line is inside a `#[cfg(test)]` module or a test function.
    pub(super) fn is_test_line(&self, line: usize) -> bool {
        self.test_modules.iter().chain(&self.test_functions).any(|lines| lines.contains(&line))
    }

    /// What a path means once the imports of the file are taken into account.
    pub(super) fn resolve(&self, path: &[String]) -> Vec<String> {
        let mut resolved = path.to_vec();
        let import = path.first().and_then(|first| self.import(first));
        if let Some(import) = import.filter(|import| import.path != path) {
            resolved.splice(..1, import.path.iter().cloned());
        }
        resolved
    }

    /// Whether a path stands in a `use` and does nothing yet.
    pub(super) fn is_import(&self, found: &PathUse) -> bool {
        self.imports.iter().any(|import| import.line == found.line && import.path == found.path)
    }

    fn import(&self, local_name: &str) -> Option<&Import> {
        self.imports.iter().find(|import| import.local_name == local_name)
    }
}

/// Collects what the syntax tree knows.
#[derive(Default)]
struct Items {
    file: RustFile,
    around: Vec<String>,
    in_tests: bool,
}

impl Items {
    fn function(&mut self, signature: &Signature, block: &Block, attributes: &[Attribute]) {
        let is_test = attributes.iter().any(is_test_attribute);
        let lines = line(&signature.fn_token.span)..=block.brace_token.span.close().end().line;
        if is_test || attributes.iter().any(is_test_only) {
            self.file.test_functions.push(lines.clone());
        }
        self.file.functions.push(Function { name: signature.ident.to_string(), lines, is_test });
    }

    fn import(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        let mut keep = |path: Vec<String>, local_name: String, ident: &Ident| {
            self.file.imports.push(Import { path, local_name, line: line(&ident.span()) });
        };
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(&part.tree, path);
                path.pop();
            }
            UseTree::Name(part) if part.ident == "self" => {
                keep(path.clone(), path.last().cloned().unwrap_or_default(), &part.ident);
            }
            UseTree::Name(part) => {
                let name = part.ident.to_string();
                keep(path.iter().cloned().chain([name.clone()]).collect(), name, &part.ident);
            }
            UseTree::Rename(part) => {
                let name = Some(part.ident.to_string()).filter(|name| name != "self");
                keep(path.iter().cloned().chain(name).collect(), part.rename.to_string(), &part.ident);
            }
            UseTree::Glob(part) => {
                let full = path.iter().cloned().chain(["*".to_owned()]).collect();
                let line = part.star_token.spans.first().map_or(1, line);
                self.file.imports.push(Import { path: full, local_name: "*".to_owned(), line });
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.import(item, path)),
        }
    }
}

impl Visit<'_> for Items {
    fn visit_item_mod(&mut self, item: &ItemMod) {
        let tests_only = item.attrs.iter().any(is_test_only);
        let was_in_tests = self.in_tests;
        self.in_tests |= tests_only;
        match &item.content {
            None => self.file.modules.push(ModuleDeclaration {
                around: self.around.clone(),
                name: item.ident.to_string(),
                path: item.attrs.iter().find_map(path_attribute),
                tests_only: self.in_tests,
            }),
            Some((brace, _)) => {
                if tests_only && !was_in_tests {
                    let last = brace.span.close().end().line;
                    self.file.test_modules.push(line(&item.mod_token.span)..=last);
                }
                self.around.push(item.ident.to_string());
                visit::visit_item_mod(self, item);
                self.around.pop();
            }
        }
        self.in_tests = was_in_tests;
    }

    fn visit_item_fn(&mut self, item: &ItemFn) {
        self.function(&item.sig, &item.block, &item.attrs);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &ImplItemFn) {
        self.function(&item.sig, &item.block, &item.attrs);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block, &item.attrs);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        self.import(&item.tree, &mut Vec::new());
    }
}

fn line(span: &proc_macro2::Span) -> usize {
    span.start().line
}

/// `#[test]`, and what other test runners put in its place.
fn is_test_attribute(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
}

/// `#[cfg(test)]` and `#[cfg(all(test, ...))]`, but not `any` or `not`, which let the item into other builds.
fn is_test_only(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => requires_test(list.tokens.clone()),
        _ => false,
    }
}

fn requires_test(condition: TokenStream) -> bool {
    let mut in_all = false;
    condition.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => {
            in_all = ident == "all";
            ident == "test"
        }
        TokenTree::Group(group) => in_all && requires_test(group.stream()),
        _ => false,
    })
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Collects paths and attributes from the tokens, macros included.
fn read_tokens(tokens: TokenStream, file: &mut RustFile) {
    let mut path: Option<PathUse> = None;
    let mut colons = 0;
    let mut after_hash = false;
    for token in tokens {
        let was_after_hash = std::mem::take(&mut after_hash);
        match token {
            TokenTree::Ident(ident) => {
                match &mut path {
                    Some(path) if colons == 2 => path.path.push(ident.to_string()),
                    _ => {
                        let next = PathUse { path: vec![ident.to_string()], line: line(&ident.span()) };
                        file.paths.extend(path.replace(next));
                    }
                }
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                colons += 1;
                // The first colon of `::` stands close to the second.
                if colons == 1 && punct.spacing() == Spacing::Alone {
                    file.paths.extend(path.take());
                }
            }
            TokenTree::Punct(punct) => {
                file.paths.extend(path.take());
                colons = 0;
                after_hash = punct.as_char() == '#' || (was_after_hash && punct.as_char() == '!');
            }
            TokenTree::Literal(_) => {
                file.paths.extend(path.take());
                colons = 0;
            }
            TokenTree::Group(group) => {
                file.paths.extend(path.take());
                colons = 0;
                if was_after_hash && group.delimiter() == Delimiter::Bracket {
                    let mut names = Vec::new();
                    names_in(group.stream(), &mut names);
                    file.attributes.push(PathUse { path: names, line: line(&group.span_open()) });
                }
                read_tokens(group.stream(), file);
            }
        }
    }
    file.paths.extend(path);
}

fn names_in(tokens: TokenStream, names: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => names.push(ident.to_string()),
            TokenTree::Group(group) => names_in(group.stream(), names),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RustFile {
        RustFile::parse(text).unwrap()
    }

    fn joined(uses: &[PathUse]) -> Vec<String> {
        uses.iter().map(|path| path.path.join("::")).collect()
    }

    #[test]
    fn functions_are_measured_from_fn_to_the_closing_brace() {
        let file = parse(
            "/// Doc.\n#[inline]\nfn one() {\n}\nimpl X {\n    fn two() {}\n}\n#[test]\nfn three() {\n\n}\n",
        );
        let lines: Vec<_> =
            file.functions.iter().map(|f| (f.name.as_str(), f.lines.clone(), f.is_test)).collect();
        assert_eq!(lines, [("one", 3..=4, false), ("two", 6..=6, false), ("three", 9..=11, true)]);
        assert!(file.is_test_line(10) && !file.is_test_line(4));
    }

    #[test]
    fn test_modules_are_told_from_others() {
        let text = "#[cfg(test)]\nmod a {\n}\n#[cfg(all(unix, test))]\nmod b {\n}\n#[cfg(not(test))]\nmod c {\n}\n\
                    #[cfg(any(test, unix))]\nmod d {\n}\n";
        assert_eq!(parse(text).test_modules, [2..=3, 5..=6]);
    }

    #[test]
    fn module_declarations_know_where_they_stand() {
        let file =
            parse("mod a;\n#[cfg(test)]\nmod t;\nmod outer {\n    #[path = \"x/y.rs\"]\n    mod z;\n}\n");
        let named: Vec<_> = file.modules.iter().map(|m| (m.name.as_str(), m.tests_only)).collect();
        assert_eq!(named, [("a", false), ("t", true), ("z", false)]);
        assert_eq!(file.modules[2].around, ["outer"]);
        assert_eq!(file.modules[2].path.as_deref(), Some("x/y.rs"));
    }

    #[test]
    fn paths_are_seen_inside_macros_and_across_two_colons_only() {
        let file = parse("fn f(a: std::sync::Arc<u8>) { m! { x::y(z) } ::q::r(); }");
        let paths = joined(&file.paths);
        for expected in ["a", "std::sync::Arc", "x::y", "z", "q::r"] {
            assert!(paths.iter().any(|path| path == expected), "{expected} is not in {paths:?}");
        }
    }

    #[test]
    fn imports_are_resolved() {
        let file = parse("use std::{sync as s, thread::{self, sleep}};\nuse a::*;\n");
        let resolve = |path: &str| {
            let path: Vec<String> = path.split("::").map(str::to_owned).collect();
            file.resolve(&path).join("::")
        };
        assert_eq!(resolve("s::Mutex"), "std::sync::Mutex");
        assert_eq!(resolve("thread::sleep"), "std::thread::sleep");
        assert_eq!(resolve("sleep"), "std::thread::sleep");
        assert_eq!(resolve("other::sleep"), "other::sleep");
        assert_eq!(file.imports.last().unwrap().path, ["a", "*"]);
    }

    #[test]
    fn attributes_are_seen_inside_macros() {
        let file = parse("#![cfg_attr(miri, ignore)]\nm! { #[ignore] #[test] fn x() {} }\n");
        assert_eq!(joined(&file.attributes), ["cfg_attr::miri::ignore", "ignore", "test"]);
    }

    #[test]
    fn what_cannot_be_read_is_placed() {
        let (line, _) = RustFile::parse("fn a() {}\nfn b( {\n").unwrap_err();
        assert!(line <= 2, "{line}");
    }
}
