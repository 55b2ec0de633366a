//! versions, diff, tag, rollback, and `--at` by version, name and time.

use serde_json::{Value, json};

use crate::support::{Cli, json, json_lines};

/// A store where `k` was 1, 2 and 3; the versions of those.
fn three() -> (Cli, [String; 3]) {
    let cli = Cli::new();
    let versions = ["1", "2", "3"].map(|body| {
        cli.ok(["put", "k", body]);
        cli.version()
    });
    (cli, versions)
}

fn body_at(cli: &Cli, at: &str) -> Value {
    json(&cli.ok(["get", "k", "--at", at]))["body"].clone()
}

#[test]
fn versions_are_listed_newest_first() {
    let (cli, [first, second, third]) = three();
    let listed = json_lines(&cli.ok(["versions", "--json", "--limit", "3"]));
    let versions: Vec<_> = listed.iter().map(|line| line["version"].as_str().unwrap()).collect();
    assert_eq!(versions, [&third, &second, &first]);
    assert!(listed.is_sorted_by(|a, b| a["time"].as_str() > b["time"].as_str()));
    cli.ok(["tag", "second", &second]);
    let table = cli.ok(["versions", "--limit", "4"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("VERSION  TIME"), "{table}");
    let named: Vec<_> = lines.iter().filter(|line| line.ends_with("  second")).collect();
    assert!(named.len() == 1 && named[0].trim_start().starts_with(&second), "{table}");
    assert_eq!(cli.ok(["versions", "--limit", "0"]), "");
}

#[test]
fn at_is_a_version_a_name_or_a_time() {
    let (cli, [first, second, _]) = three();
    assert_eq!(body_at(&cli, &first), json!(1));
    assert_eq!(body_at(&cli, &second), json!(2));
    cli.ok(["tag", "the second", &second]);
    assert_eq!(body_at(&cli, "the second"), json!(2));
    let history = json_lines(&cli.ok(["history", "k", "--json"]));
    for (entry, body) in history.iter().zip([3, 2, 1]) {
        assert_eq!(body_at(&cli, entry["time"].as_str().unwrap()), json!(body));
    }
    // Before the first commit there was nothing.
    cli.fails(4, ["get", "k", "--at", "2001-01-01T00:00:00Z"]);
    cli.fails(4, ["get", "k", "--at", "0"]);
    assert_eq!(cli.ok(["export", "--at", "0"]), "");
}

#[test]
fn an_at_that_is_not_there_is_exit_code_4() {
    let (cli, _) = three();
    for at in ["999", "7:1", "never"] {
        let message = cli.fails(4, ["get", "k", "--at", at]);
        assert!(message.contains(at), "{message}");
        cli.fails(4, ["export", "--at", at]);
        cli.fails(4, ["rollback", at]);
        cli.fails(4, ["diff", "0", at]);
        cli.fails(4, ["tag", "name", at]);
    }
    let message = cli.fails(4, ["get", "k", "--at", "2026-03-01"]);
    assert!(message.contains("RFC 3339"), "{message}");
}

#[test]
fn diff_names_what_was_created_updated_deleted_and_linked() {
    let lines = "{\"key\":\"a\",\"body\":1}\n{\"key\":\"b\",\"body\":1}\n{\"key\":\"c\"}\n";
    let cli = Cli::with_lines(lines);
    let before = cli.version();
    cli.ok(["put", "b", "2"]);
    cli.ok(["put", "d", "1"]);
    cli.ok(["delete", "c"]);
    cli.ok(["link", "a", "v", "b"]);
    let after = cli.version();
    let changes = |from: &str, to: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let lines = json_lines(&cli.ok(["diff", from, to, "--json"]));
        lines.iter().map(|line| (text(&line["key"]), text(&line["change"]))).collect()
    };
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let forth = owned(&[("a", "links"), ("b", "updated"), ("c", "deleted"), ("d", "created")]);
    assert_eq!(changes(&before, &after), forth);
    let back = owned(&[("a", "links"), ("b", "updated"), ("c", "created"), ("d", "deleted")]);
    assert_eq!(changes(&after, &before), back);
    assert_eq!(changes(&after, &after), []);
    assert_eq!(cli.ok(["diff", &before, &after, "-C", "other"]), "");
    let table = cli.ok(["diff", &before, &after]);
    assert!(table.starts_with("CHANGE   COLLECTION  KEY\nlinks    default     a\n"), "{table}");
}

#[test]
fn a_tag_is_a_name_for_good() {
    let (cli, [first, ..]) = three();
    assert_eq!(cli.ok(["tag", "start", &first]), format!("start is version {first}\n"));
    cli.ok(["tag", "now"]);
    cli.ok(["put", "k", "4"]);
    assert_eq!(body_at(&cli, "now"), json!(3));
    assert_eq!(body_at(&cli, "start"), json!(1));
    let message = cli.fails(1, ["tag", "start"]);
    assert!(message.contains("start"), "{message}");
    for name in ["17", "2:17", "2026-03-01T12:00:00Z"] {
        let message = cli.fails(2, ["tag", name]);
        assert!(message.contains("neither a version nor a time"), "{message}");
    }
}

#[test]
fn rollback_makes_a_new_version_with_the_old_content() {
    let (cli, [first, _, third]) = three();
    cli.ok(["put", "more", "1"]);
    let then = cli.ok(["export", "--at", &first]);
    let said = cli.ok(["rollback", &first]);
    let now = cli.version();
    assert_eq!(said, format!("version {now} has the content of version {first}\n"));
    assert_eq!(cli.ok(["export"]), then);
    assert_eq!(body_at(&cli, &third), json!(3));
    cli.ok(["rollback", &third]);
    assert_eq!(body_at(&cli, &cli.version()), json!(3));
}
