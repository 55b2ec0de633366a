//! branch list, create, show, diff, merge, discard, and `--branch` of the commands on nodes.

use serde_json::json;

use crate::support::{Cli, json, json_lines};

/// A store where `a` and `b` are 1 and a branch `try` of it, with `a` 10 and a node of its own.
fn with_branch() -> Cli {
    let cli = Cli::new();
    cli.ok(["put", "a", "1"]);
    cli.ok(["put", "b", "1"]);
    cli.ok(["branch", "create", "try"]);
    cli.ok(["--branch", "try", "put", "a", "10"]);
    cli.ok(["put", "new", "10", "--branch", "try"]);
    cli
}

fn body(cli: &Cli, args: &[&str]) -> serde_json::Value {
    json(&cli.ok(args))["body"].clone()
}

#[test]
fn a_branch_is_read_and_written_by_the_commands_on_nodes() {
    let cli = with_branch();
    assert_eq!(body(&cli, &["get", "a"]), json!(1));
    assert_eq!(body(&cli, &["get", "a", "--branch", "try"]), json!(10));
    cli.ok(["link", "new", "knows", "b", "--branch", "try"]);
    assert_eq!(json_lines(&cli.ok(["links", "b", "--json", "--branch", "try"])).len(), 1);
    assert_eq!(json_lines(&cli.ok(["links", "b", "--json"])).len(), 0);
    let version = cli.version();
    cli.ok(["unlink", "new", "knows", "b", "--branch", "try"]);
    cli.ok(["delete", "b", "--branch", "try"]);
    cli.fails(4, ["get", "b", "--branch", "try"]);
    assert_eq!(body(&cli, &["get", "b", "--branch", "try", "--at", &version]), json!(1));
    assert_eq!(json_lines(&cli.ok(["export", "--branch", "try"])).len(), 2);
    assert_eq!(json_lines(&cli.ok(["export"])).len(), 2);
    assert!(cli.ok(["export", "--branch", "try"]).contains("\"new\""));
    assert!(!cli.ok(["export"]).contains("\"new\""));
    let changes = json_lines(&cli.ok(["branch", "diff", "try", "--json"]));
    let expected = [("updated", "a"), ("deleted", "b"), ("created", "new")];
    let expected: Vec<_> = expected
        .iter()
        .map(|(change, key)| json!({ "change": change, "collection": "default", "key": key }))
        .collect();
    assert_eq!(changes, expected);
    assert!(cli.ok(["branch", "diff", "try", "-C", "another"]).is_empty());
    let table = cli.ok(["branch", "diff", "try"]);
    assert!(table.starts_with("CHANGE") && table.contains("updated  default     a"), "{table}");
    cli.ok(["check"]);
}

#[test]
fn branches_are_listed_and_shown_and_go() {
    let cli = with_branch();
    let base = json_lines(&cli.ok(["branch", "list", "--json"]))[0]["base"].clone();
    cli.ok(["branch", "create", "another", base.as_str().unwrap()]);
    cli.ok(["branch", "create", "of the empty store", "0"]);
    let listed = json_lines(&cli.ok(["branch", "list", "--json"]));
    let names: Vec<_> = listed.iter().map(|line| line["branch"].as_str().unwrap()).collect();
    assert_eq!(names, ["another", "of the empty store", "try"]);
    assert_eq!((&listed[0]["base"], &listed[2]["base"]), (&base, &base));
    assert!(listed[0]["time"].as_str().unwrap().ends_with('Z'));
    let table = cli.ok(["branch", "list"]);
    assert!(table.starts_with("BRANCH") && table.contains("of the empty store"), "{table}");
    let shown = json(&cli.ok(["branch", "show", "try", "--json"]));
    assert_eq!((&shown["changed"], &shown["conflicts"], &shown["base"]), (&json!(2), &json!(0), &base));
    let table = cli.ok(["branch", "show", "try"]);
    assert!(table.contains("nodes changed"), "{table}");
    assert_eq!(cli.ok(["branch", "discard", "try"]), "try is discarded\n");
    for args in [
        &["branch", "discard", "try"][..],
        &["branch", "show", "try"],
        &["branch", "diff", "try"],
        &["branch", "merge", "try"],
        &["get", "a", "--branch", "try"],
        &["put", "a", "2", "--branch", "try"],
        &["export", "--branch", "try"],
    ] {
        let message = cli.fails(4, args);
        assert!(message.contains("there is no branch \"try\""), "{message}");
    }
    assert!(cli.fails(1, ["branch", "create", "another"]).contains("there is a branch \"another\" already"));
    assert!(cli.fails(4, ["branch", "create", "late", "999"]).contains("not there yet"));
}

#[test]
fn a_merge_is_whole_or_lists_what_is_in_conflict() {
    let cli = with_branch();
    cli.ok(["put", "a", "2"]);
    let before = cli.version();
    let failed = cli.command(["branch", "merge", "try", "--json"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let conflicts = json_lines(&String::from_utf8(failed.stdout).unwrap());
    let expected = json!({
        "base": true, "branch": true, "collection": "default", "conflict": "node", "detail": "", "key": "a", "main": true,
    });
    assert_eq!(conflicts, [expected]);
    let message = String::from_utf8(failed.stderr).unwrap();
    assert!(message.contains("the branch \"try\" is not merged: 1 in conflict"), "{message}");
    assert_eq!(json_lines(&cli.ok(["branch", "diff", "try", "--conflicts", "--json"])), conflicts);
    assert_eq!(cli.ok(["branch", "diff", "try", "--conflicts", "-C", "another"]), "");
    assert_eq!(cli.version(), before, "nothing was changed");
    cli.fails(1, ["branch", "merge", "try", "--strategy", "xor"]);
    let merged = json(&cli.ok(["branch", "merge", "try", "--strategy", "last", "--json"]));
    assert_eq!(merged["decided"], json!(1));
    assert_eq!(merged["version"], json!(cli.version()));
    assert_eq!((body(&cli, &["get", "a"]), body(&cli, &["get", "new"])), (json!(10), json!(10)));
    cli.ok(["put", "a", "3"]);
    cli.ok(["branch", "merge", "try", "--strategy", "first", "--discard"]);
    assert_eq!(body(&cli, &["get", "a"]), json!(3));
    assert_eq!(cli.ok(["branch", "list"]), "");
    cli.ok(["check"]);
}

#[test]
fn a_branch_keeps_what_it_was_forked_at() {
    let cli = Cli::without_store();
    // It warns of such a store, every time.
    let run = |args: &[&str]| {
        let output = cli.command(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    run(&["init", "--retention", "none"]);
    run(&["put", "a", "1"]);
    let version =
        json(&run(&["versions", "--limit", "1", "--json"]).1)["version"].as_str().unwrap().to_owned();
    run(&["branch", "create", "try"]);
    run(&["put", "a", "2"]);
    run(&["put", "a", "3"]);
    run(&["compact"]);
    for args in [&["get", "a", "--branch", "try"], &["get", "a", "--at", &version]] {
        let (code, found) = run(args);
        assert_eq!((code, json(&found)["body"].clone()), (0, json!(1)), "{args:?}");
    }
    run(&["branch", "discard", "try"]);
    run(&["put", "a", "4"]);
    run(&["compact"]);
    assert_eq!(run(&["get", "a", "--at", &version]).0, 4);
}

#[test]
fn where_a_branch_has_no_meaning_it_is_refused() {
    let cli = with_branch();
    for args in [
        &["versions", "--branch", "try"][..],
        &["compact", "--branch", "try"],
        &["import", "-", "--branch", "try"],
    ] {
        let message = cli.fails(2, args);
        assert!(message.contains("--branch has no meaning"), "{message}");
    }
    let message = cli.fails(2, ["branch", "list", "-C", "people"]);
    assert!(message.contains("-C has no meaning"), "{message}");
    let nowhere = Cli::without_store();
    nowhere.fails(1, ["put", "a", "1", "--branch", "try"]);
    assert!(!nowhere.dir().exists(), "no store is made for a branch that is not there");
}
