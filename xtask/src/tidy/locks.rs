//! Every lock has a rank: no other kind of lock is used, and the table of ranks is in order and in use.

use syn::{Expr, Item, Lit};

use super::Finding;
use super::context::Context;

/// The one file that may use locks without a rank, to make those with one.
const SYNC: &str = "crates/types/src/sync.rs";

/// The table of ranks.
const LOCK_RANK: &str = "crates/types/src/lock_rank.rs";

/// Locks without a rank, by the module they come from.
const UNRANKED: [(&str, &[&str]); 2] = [
    ("std::sync", &["Mutex", "RwLock", "Condvar", "ReentrantLock", "*"]),
    ("parking_lot", &["Mutex", "FairMutex", "RwLock", "Condvar", "ReentrantMutex", "*"]),
];

fn is_unranked(path: &[String]) -> bool {
    let Some((name, parents)) = path.split_last() else { return false };
    let parent = parents.join("::");
    UNRANKED.iter().any(|(module, names)| parent == *module && names.contains(&name.as_str()))
}

/// No lock of the standard library or `parking_lot` is used but to make ranked ones.
pub(super) fn check_locks(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in context.rust.iter().filter(|(path, _)| *path != SYNC) {
        let imports = file.imports.iter().map(|import| (import.path.clone(), import.line));
        let long_paths = file.paths.iter().filter(|found| found.path.len() > 1);
        let uses = long_paths.map(|found| (found_prefix(&file.resolve(&found.path)), found.line));
        for (found, line) in imports.chain(uses).filter(|(found, _)| is_unranked(found)) {
            let message = format!("expected a lock of `keepstone_types::sync`, found `{}`", found.join("::"));
            findings.push(Finding::new(path, line, "unranked-lock", message));
        }
    }
    findings
}

/// A path without what follows the type: `std::sync::Mutex` of `std::sync::Mutex::new`.
fn found_prefix(path: &[String]) -> Vec<String> {
    let is_type = |part: &String| part.starts_with(char::is_uppercase);
    let end = path.iter().position(is_type).map_or(path.len(), |index| index + 1);
    path.iter().take(end).cloned().collect()
}

/// A constant of the table.
struct Rank {
    name: String,
    rank: u64,
    line: usize,
}

/// The table ascends, each of its constants is used, and ranks are made nowhere else.
pub(super) fn check_ranks(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = made_elsewhere(context);
    let Some(table) = context.files.get(LOCK_RANK).and_then(|text| syn::parse_file(text).ok()) else {
        findings.push(Finding::new(LOCK_RANK, 1, "lock-rank", "expected the table of ranks, found none"));
        return findings;
    };
    let ranks: Vec<Rank> = table.items.iter().filter_map(rank_of).collect();
    for (before, after) in ranks.iter().zip(ranks.iter().skip(1)) {
        if after.rank <= before.rank {
            let message = format!(
                "`{}`: expected a rank above {} of `{}`, found {}",
                after.name, before.rank, before.name, after.rank
            );
            findings.push(Finding::new(LOCK_RANK, after.line, "lock-rank", message));
        }
    }
    for rank in ranks.iter().filter(|rank| !is_used(context, &rank.name)) {
        let message = format!("`{}`: expected a lock of this rank, found none", rank.name);
        findings.push(Finding::new(LOCK_RANK, rank.line, "lock-rank", message));
    }
    findings
}

fn made_elsewhere(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in context.rust.iter().filter(|(path, _)| *path != LOCK_RANK) {
        let made = file
            .paths
            .iter()
            .filter(|found| found.path.ends_with(&["LockRank".to_owned(), "new".to_owned()]));
        findings.extend(made.map(|found| {
            let message = format!("expected a constant of {LOCK_RANK}, found a rank made in place");
            Finding::new(path, found.line, "lock-rank", message)
        }));
    }
    findings
}

/// `const NAME: LockRank = LockRank::new(number, ...)`.
fn rank_of(item: &Item) -> Option<Rank> {
    let Item::Const(item) = item else { return None };
    let Expr::Call(call) = item.expr.as_ref() else { return None };
    let Some(Expr::Lit(syn::ExprLit { lit: Lit::Int(rank), .. })) = call.args.first() else { return None };
    let rank = rank.base10_parse().ok()?;
    Some(Rank { name: item.ident.to_string(), rank, line: item.ident.span().start().line })
}

fn is_used(context: &Context<'_>, name: &str) -> bool {
    let others = context.rust.iter().filter(|(path, _)| *path != LOCK_RANK);
    others
        .into_iter()
        .any(|(_, file)| file.paths.iter().any(|found| found.path.iter().any(|part| part == name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Workspace;

    fn found(rule: fn(&Context<'_>) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
        let workspace = Workspace::default();
        rule(&Context::of(&workspace, files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lock_without_a_rank_is_found_however_it_is_named() {
        for text in [
            "use std::sync::{Arc, Mutex};",
            "use std::sync::Mutex as Lock;",
            "use parking_lot::*;",
            "use std::sync;\nstatic A: sync::RwLock<u8> = sync::RwLock::new(1);",
            "use parking_lot as pl;\nfn f() { let _ = pl::Condvar::new(); }",
            "fn f() { m!(std::sync::Mutex::new(1)); }",
            "struct S { lock: parking_lot::ReentrantMutex<u8> }",
        ] {
            let found = found(check_locks, &[("crates/a/src/x.rs", text)]);
            assert!(!found.is_empty(), "not found in {text:?}");
            assert!(found[0].contains(": unranked-lock: "), "{found:?}");
        }
    }

    #[test]
    fn ranked_locks_and_what_is_no_lock_are_fine() {
        let text = "use keepstone_types::sync::{Mutex, RwLock};\nuse std::sync::{Arc, OnceLock};\n\
                    use crate::sync;\nfn f() { sync::Mutex::new(R, 1); std::sync::mpsc::channel(); }";
        assert!(found(check_locks, &[("crates/a/src/x.rs", text)]).is_empty());
        assert!(found(check_locks, &[(SYNC, "use std::sync::Mutex;")]).is_empty());
    }

    const TABLE: &str = "impl LockRank { pub const fn new(r: u16) -> Self { Self(r) } }\n\
        pub const A: LockRank = LockRank::new(1, \"a\");\npub const B: LockRank = LockRank::new(2, \"b\");\n";

    #[test]
    fn a_table_in_order_and_in_use_is_fine() {
        let user =
            ("crates/a/src/x.rs", "use t::lock_rank::A;\nfn f() { Mutex::new(lock_rank::B, 1); g(A) }");
        assert!(found(check_ranks, &[(LOCK_RANK, TABLE), user]).is_empty());
    }

    #[test]
    fn a_table_that_is_gone_is_found() {
        let expected = "crates/types/src/lock_rank.rs:1: lock-rank: expected the table of ranks, found none";
        assert_eq!(found(check_ranks, &[]), [expected]);
    }

    #[test]
    fn ranks_out_of_order_or_out_of_use_or_made_in_place_are_found() {
        let descending = TABLE.replace("(2,", "(1,");
        let user = ("crates/a/src/x.rs", "fn f() { g(A); Mutex::new(LockRank::new(7, \"x\"), 1); }");
        let found = found(check_ranks, &[(LOCK_RANK, &descending), user]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("crates/a/src/x.rs:1: lock-rank: expected a constant"), "{found:?}");
        assert!(found[1].ends_with("`B`: expected a rank above 1 of `A`, found 1"), "{found:?}");
        assert!(
            found[2].ends_with(":3: lock-rank: `B`: expected a lock of this rank, found none"),
            "{found:?}"
        );
    }
}
