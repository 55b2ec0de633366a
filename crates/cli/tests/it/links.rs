//! link, unlink, links.

use serde_json::json;

use crate::support::{Cli, json_lines};

#[test]
fn links_are_seen_from_both_ends() {
    let cli = Cli::with_lines("{\"key\":\"a\"}\n{\"key\":\"b\"}\n");
    cli.ok(["link", "a", "knows", "b"]);
    cli.ok(["link", "b", "likes", "a", "--weight", "-0.5"]);
    let links = json_lines(&cli.ok(["links", "a", "--json"]));
    assert_eq!(
        links,
        [
            json!({"key": "b", "verb": "knows", "way": "out", "weight": 1.0, "written": true}),
            json!({"key": "b", "verb": "likes", "way": "in", "weight": -0.5, "written": true}),
        ]
    );
    assert_eq!(json_lines(&cli.ok(["links", "b", "--in", "--json"]))[0]["verb"], json!("knows"));
    assert_eq!(json_lines(&cli.ok(["links", "b", "--out", "--json"]))[0]["verb"], json!("likes"));
    assert_eq!(json_lines(&cli.ok(["links", "a", "--verb", "likes", "--json"])).len(), 1);
    let table = cli.ok(["links", "a"]);
    let expected = "WAY  VERB   KEY  WEIGHT\nout  knows  b         1\nin   likes  b      -0.5\n";
    assert_eq!(table, expected);
}

#[test]
fn a_link_again_gets_the_new_weight() {
    let cli = Cli::with_lines("{\"key\":\"a\"}\n");
    cli.ok(["link", "a", "knows", "b", "--weight", "1"]);
    cli.ok(["link", "a", "knows", "b", "--weight", "2.5"]);
    let links = json_lines(&cli.ok(["links", "a", "--json"]));
    assert_eq!(links.len(), 1);
    assert_eq!(links[0]["weight"], json!(2.5));
}

#[test]
fn a_link_may_lead_to_what_is_not_written_yet_and_not_start_there() {
    let cli = Cli::with_lines("{\"key\":\"a\"}\n");
    cli.ok(["link", "a", "knows", "later"]);
    cli.fails(4, ["get", "later"]);
    let links = json_lines(&cli.ok(["links", "later", "--json"]));
    assert_eq!(links[0]["way"], json!("in"));
    assert!(cli.ok(["links", "a"]).contains("later (not written)"));
    cli.ok(["put", "later", "1"]);
    assert!(!cli.ok(["links", "a"]).contains("not written"));
    let message = cli.fails(4, ["link", "nobody", "knows", "a"]);
    assert!(message.contains("put \"nobody\""), "{message}");
}

#[test]
fn an_unlinked_link_is_gone_from_both_ends() {
    let cli = Cli::with_lines("{\"key\":\"a\",\"links\":[{\"verb\":\"v\",\"to\":\"b\"}]}\n{\"key\":\"b\"}\n");
    let before = cli.version();
    cli.ok(["unlink", "a", "v", "b"]);
    assert_eq!(cli.ok(["links", "a"]), "");
    assert_eq!(cli.ok(["links", "b"]), "");
    assert_eq!(json_lines(&cli.ok(["links", "b", "--at", &before, "--json"])).len(), 1);
    let message = cli.fails(4, ["unlink", "a", "v", "b"]);
    assert!(message.contains("there is no link \"a\" \"v\" \"b\""), "{message}");
    cli.fails(4, ["unlink", "x", "v", "y"]);
}
