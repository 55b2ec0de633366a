//! export: canonical, complete, and importable.

use crate::support::{Cli, arg};

/// Everything a line can say, in no order at all.
const RICH: &str = r#"{"key":"z","body":{"b":[1,2.50,1e3,-0.1e-7,18446744073709551615,-9223372036854775808,"\u00e9\n\u0001",null,true],"a":{}}}
{"links":[{"weight":2,"to":"later","verb":"w"},{"verb":"v","to":"z"},{"verb":"v","to":"a"}],"key":"a","label":"L \" q"}
{"collection":"things","key":"a","embedding":[0.1,1e-45,-3.4028235e38,16777217],"fingerprint":"FF00000000000001"}
{"collection":"things","key":"Z","embedding":[0,0.30000001,1,2],"strength":0.25,"confidence":0.1}
{"collection":"größen","key":"10","body":null}
{"collection":"größen","key":"9","body":9007199254740993}
{"key":"gone","body":1}
{"key":"gone","delete":true}
"#;

const CANONICAL: &str = r#"{"collection":"default","key":"a","label":"L \" q","links":[{"to":"a","verb":"v","weight":1.0},{"to":"z","verb":"v","weight":1.0},{"to":"later","verb":"w","weight":2.0}]}
{"body":{"a":{},"b":[1,2.5,1000.0,-1e-8,18446744073709551615,-9223372036854775808,"é\n\u0001",null,true]},"collection":"default","key":"z"}
{"body":null,"collection":"größen","key":"10"}
{"body":9007199254740993,"collection":"größen","key":"9"}
{"collection":"things","confidence":0.1,"embedding":[0.0,0.3,1.0,2.0],"key":"Z","strength":0.25}
{"collection":"things","embedding":[0.1,1e-45,-3.4028235e38,16777216.0],"fingerprint":"ff00000000000001","key":"a"}
"#;

#[test]
fn equal_content_has_equal_bytes_whatever_the_way_it_came() {
    let forwards = Cli::with_lines(RICH);
    assert_eq!(forwards.ok(["export"]), CANONICAL);
    // Other order, one commit, other writers; what was deleted comes last here, too.
    let mut lines: Vec<&str> = RICH.lines().collect();
    lines[..6].reverse();
    let backwards = Cli::new();
    backwards.feed(["import", "-", "--writers", "3"], &format!("{}\n", lines.join("\n")));
    assert_eq!(backwards.ok(["export"]), CANONICAL);
}

#[test]
fn export_import_export_is_equal_to_the_byte() {
    let first = Cli::with_lines(RICH);
    let exported = first.ok(["export"]);
    let second = Cli::new();
    let file = second.file("export.jsonl", &exported);
    second.ok(["import", arg(&file)]);
    assert_eq!(second.ok(["export"]), exported);
    // Importing an export into its own store changes nothing either.
    first.feed(["import", "-"], &exported);
    assert_eq!(first.ok(["export"]), exported);
    second.ok(["check"]);
}

#[test]
fn an_old_version_is_exported_as_it_was() {
    let cli = Cli::with_lines(RICH);
    let (version, exported) = (cli.version(), cli.ok(["export"]));
    cli.ok(["delete", "a"]);
    cli.ok(["put", "z", "0"]);
    assert_ne!(cli.ok(["export"]), exported);
    assert_eq!(cli.ok(["export", "--at", &version]), exported);
}

#[test]
fn one_collection_can_be_exported() {
    let cli = Cli::with_lines(RICH);
    let lines: Vec<_> = CANONICAL.lines().collect();
    assert_eq!(cli.ok(["export", "-C", "things"]).lines().collect::<Vec<_>>(), &lines[4..6]);
    assert_eq!(cli.ok(["export", "-C", "nothing"]), "");
}

#[test]
fn a_large_body_makes_the_round_trip() {
    let cli = Cli::new();
    let text = "0123456789abcdef \" \\ é".repeat(120_000);
    let line = format!(
        "{{\"body\":{},\"collection\":\"default\",\"key\":\"large\"}}\n",
        serde_json::Value::from(text)
    );
    cli.feed(["import", "-"], &line);
    assert!(cli.ok(["export"]) == line, "a body of {} bytes differs", line.len());
    assert!(cli.ok(["get", "large"]) == line);
}
