//! get, put, delete, history.

use serde_json::json;

use crate::support::{Cli, json, json_lines};

#[test]
fn what_is_put_is_got() {
    let cli = Cli::new();
    let said = cli.ok(["put", "ada", r#"{"born": 1815, "tags": ["x"]}"#]);
    assert_eq!(said, format!("version {}\n", cli.version()));
    assert_eq!(
        cli.ok(["get", "ada"]),
        "{\"body\":{\"born\":1815,\"tags\":[\"x\"]},\"collection\":\"default\",\"key\":\"ada\"}\n"
    );
}

#[test]
fn put_reads_standard_input_and_any_json() {
    let cli = Cli::new();
    for (json_text, canonical) in [
        ("null", "null"),
        ("-1.50", "-1.5"),
        ("\"täxt\"", "\"täxt\""),
        ("18446744073709551615", "18446744073709551615"),
        ("[ ]", "[]"),
    ] {
        cli.feed(["put", "k", "-"], json_text);
        assert_eq!(json(&cli.ok(["get", "k"]))["body"].to_string(), canonical);
        cli.ok(["put", "k2", json_text]);
        assert_eq!(json(&cli.ok(["get", "k2"]))["body"].to_string(), canonical);
    }
}

#[test]
fn put_without_json_makes_a_node_and_leaves_a_body_alone() {
    let cli = Cli::new();
    cli.ok(["put", "bare"]);
    assert_eq!(cli.ok(["get", "bare"]), "{\"collection\":\"default\",\"key\":\"bare\"}\n");
    cli.ok(["put", "bare", "1"]);
    cli.ok(["put", "bare"]);
    assert_eq!(json(&cli.ok(["get", "bare"]))["body"], json!(1));
}

#[test]
fn put_refuses_what_is_not_json() {
    let cli = Cli::new();
    for (body, expected) in [
        ("granite", "a text needs its own quotes"),
        ("{\"a\":1,\"a\":2}", "stands twice"),
        ("1e999", "number out of range"),
        ("99999999999999999999", "integer out of range"),
        ("", "not valid JSON"),
    ] {
        let message = cli.fails(1, ["put", "k", body]);
        assert!(message.contains(expected), "{body}: {message}");
    }
    cli.fails(4, ["get", "k"]);
    let message = cli.fails(1, ["put", "", "1"]);
    assert!(message.contains("key"), "{message}");
}

#[test]
fn put_makes_the_store_and_other_commands_do_not() {
    let cli = Cli::without_store();
    for command in [&["get", "k"][..], &["delete", "k"], &["link", "a", "b", "c"], &["versions"], &["check"]]
    {
        let message = cli.fails(1, command);
        assert!(message.contains("init"), "{message}");
        assert!(!cli.dir().exists());
    }
    cli.ok(["put", "k", "1"]);
    cli.ok(["get", "k"]);
}

#[test]
fn what_is_not_there_is_exit_code_4() {
    let cli = Cli::with_lines("{\"key\":\"a\"}\n");
    let message = cli.fails(4, ["get", "b"]);
    assert!(message.contains("there is no node \"b\" in collection \"default\""), "{message}");
    assert!(cli.fails(4, ["get", "a", "-C", "other"]).contains("\"other\""));
    cli.fails(4, ["delete", "b"]);
    cli.fails(4, ["history", "b"]);
    cli.fails(4, ["links", "b"]);
}

#[test]
fn a_deleted_node_is_gone_with_its_links_and_stays_in_history() {
    let cli = Cli::with_lines(
        "{\"key\":\"a\",\"body\":1,\"links\":[{\"verb\":\"v\",\"to\":\"b\"}]}\n{\"key\":\"b\"}\n",
    );
    let before = cli.version();
    cli.ok(["delete", "a"]);
    cli.fails(4, ["get", "a"]);
    assert_eq!(cli.ok(["links", "b", "--json"]), "");
    assert_eq!(json(&cli.ok(["get", "a", "--at", &before]))["body"], json!(1));
    let history = json_lines(&cli.ok(["history", "a", "--json"]));
    assert_eq!(history[0]["deleted"], json!(true));
    assert_eq!(history[1]["body"], json!(1));
    let table = cli.ok(["history", "a"]);
    assert!(table.lines().nth(1).unwrap().contains("deleted"), "{table}");
    assert!(table.lines().nth(2).unwrap().contains("created"), "{table}");
}

#[test]
fn history_is_newest_first_and_aligned() {
    let cli = Cli::new();
    for body in ["1", "[2]", "\"three\""] {
        cli.ok(["put", "k", body]);
    }
    let history = json_lines(&cli.ok(["history", "k", "--json"]));
    let bodies: Vec<_> = history.iter().map(|entry| entry["body"].to_string()).collect();
    assert_eq!(bodies, ["\"three\"", "[2]", "1"]);
    assert!(history.is_sorted_by(|a, b| a["time"].as_str() > b["time"].as_str()), "{history:?}");
    let table = cli.ok(["history", "k"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("VERSION  TIME"), "{table}");
    let column = lines[0].find("CHANGE").unwrap();
    assert_eq!(&lines[1][column..column + 7], "written");
    assert_eq!(&lines[3][column..column + 7], "created");
}

#[test]
fn collections_are_apart() {
    let cli = Cli::new();
    cli.ok(["put", "k", "1"]);
    cli.ok(["-C", "other", "put", "k", "2"]);
    assert_eq!(json(&cli.ok(["get", "k"]))["body"], json!(1));
    assert_eq!(json(&cli.ok(["get", "k", "-C", "other"]))["body"], json!(2));
    cli.ok(["delete", "k", "-C", "other"]);
    cli.ok(["get", "k"]);
}

#[test]
fn keys_may_be_any_text() {
    let cli = Cli::new();
    for key in ["a b", "größe", "quote\"s", "--looks-like-an-option", "new\nline", "💎"] {
        cli.ok(["put", "--", key, "1"]);
        assert_eq!(json(&cli.ok(["get", "--", key]))["key"], json!(key));
    }
}
