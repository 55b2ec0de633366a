//! Bad import lines: named by number and reason, nothing after them stored, everything acknowledged kept.

use crate::support::{Cli, json, run_with};

/// Lines that are refused, and what the message must say.
const BAD: [(&str, &str); 25] = [
    ("nonsense", "not valid JSON"),
    ("{\"key\":\"x\"", "not valid JSON: EOF"),
    ("{\"key\":\"x\"}{\"key\":\"y\"}", "trailing characters"),
    ("[1]", "expected a JSON object, found a list"),
    ("null", "expected a JSON object, found null"),
    ("{}", "\"key\" is missing"),
    ("{\"key\":7}", "\"key\": expected a text, found 7"),
    ("{\"key\":\"\"}", "key"),
    ("{\"key\":\"x\",\"key\":\"y\"}", "stands twice"),
    ("{\"key\":\"x\",\"bdoy\":1}", "unknown field \"bdoy\""),
    ("{\"key\":\"x\",\"body\":18446744073709551616}", "integer out of range at column 19"),
    ("{\"key\":\"x\",\"body\":-9223372036854775809}", "integer out of range"),
    ("{\"key\":\"x\",\"body\":[1,2e308]}", "number out of range at column 22"),
    ("{\"key\":\"x\",\"label\":5}", "\"label\": expected a text"),
    ("{\"key\":\"x\",\"embedding\":[]}", "embedding"),
    ("{\"key\":\"x\",\"embedding\":[1,null]}", "\"embedding[1]\": expected a number, found null"),
    ("{\"key\":\"x\",\"embedding\":[1e39]}", "\"embedding[0]\""),
    ("{\"key\":\"x\",\"embedding\":[1,2,3]}", "embedding"),
    ("{\"key\":\"x\",\"fingerprint\":\"00\"}", "multiple of 64 bits"),
    ("{\"key\":\"x\",\"fingerprint\":\"000000000000000g\"}", "found 'g' at place 15"),
    ("{\"key\":\"x\",\"links\":[{\"verb\":\"v\"}]}", "\"links[0].to\" is missing"),
    ("{\"key\":\"x\",\"links\":[{\"verb\":\"\",\"to\":\"y\"}]}", "verb"),
    (
        "{\"key\":\"x\",\"links\":[{\"verb\":\"v\",\"to\":\"y\",\"wieght\":1}]}",
        "unknown field \"wieght\" in links[0]",
    ),
    ("{\"key\":\"x\",\"delete\":true,\"label\":\"l\"}", "found \"label\" beside it"),
    ("{\"key\":\"x\",\"collection\":\"\"}", "collection"),
];

#[test]
fn a_bad_line_stops_the_import_with_its_number_and_its_reason() {
    for (bad, expected) in BAD {
        // The embedding of the first line fixes the dimension.
        let input =
            format!("{{\"key\":\"a\",\"embedding\":[1,2]}}\n\n{{\"key\":\"b\"}}\n{bad}\n{{\"key\":\"c\"}}\n");
        for options in [&["--batch", "1"][..], &["--batch", "1000"], &["--writers", "3"]] {
            // Which of two lines fixes the dimension is open when they are of different keys.
            if options[0] == "--writers" && bad.contains("\"embedding\":[1,2,3]") {
                continue;
            }
            let cli = Cli::new();
            let args = ["import", "-"].iter().chain(options);
            let message = cli.feed_fails(1, args, input.as_bytes());
            assert!(message.contains(expected), "{bad}\n{message}");
            assert!(message.contains("line 4"), "{bad}\n{message}");
            assert!(message.contains("standard input"), "{bad}\n{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
            if options[0] == "--batch" {
                let keys: Vec<_> =
                    cli.ok(["export"]).lines().map(|line| json(line)["key"].to_string()).collect();
                assert_eq!(keys, ["\"a\"", "\"b\""], "{bad} {options:?}");
            }
        }
    }
}

#[test]
fn what_was_acknowledged_before_a_bad_line_stays() {
    let cli = Cli::new();
    let good: String = (0..10).map(|n| format!("{{\"key\":\"k{n}\"}}\n")).collect();
    let command = cli.command(["import", "-", "--batch", "4", "--ack"]);
    let run = run_with(command, format!("{good}bad\n").as_bytes());
    assert_eq!(run.code, 1);
    let acked: Vec<_> = run.stdout.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(acked, ["k3", "k7", "k9"]);
    for n in 0..10 {
        cli.ok(["get", &format!("k{n}")]);
    }
}

#[test]
fn bytes_that_are_not_text_are_refused() {
    let cli = Cli::new();
    let message = cli.feed_fails(1, ["import", "-"], b"{\"key\":\"a\"}\n{\"key\":\"\xff\"}\n");
    assert!(message.contains("not valid JSON") && message.contains("line 2"), "{message}");
    let message = cli.feed_fails(1, ["import", "-"], b"\x00\x01\x02");
    assert!(message.contains("line 1"), "{message}");
    let deep = format!("{{\"key\":\"a\",\"body\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let message = cli.feed_fails(1, ["import", "-"], deep.as_bytes());
    assert!(message.contains("recursion limit"), "{message}");
}

#[test]
fn limits_are_named() {
    let cli = Cli::new();
    let long = "k".repeat(100_000);
    for line in [
        format!("{{\"key\":\"{long}\"}}"),
        format!("{{\"key\":\"a\",\"label\":\"{long}\"}}"),
        format!("{{\"key\":\"a\",\"links\":[{{\"verb\":\"{long}\",\"to\":\"b\"}}]}}"),
        format!("{{\"key\":\"a\",\"links\":[{{\"verb\":\"v\",\"to\":\"{long}\"}}]}}"),
        format!("{{\"key\":\"a\",\"collection\":\"{long}\"}}"),
        format!("{{\"key\":\"a\",\"embedding\":[{}]}}", vec!["0"; 5_000].join(",")),
    ] {
        let message = cli.feed_fails(1, ["import", "-"], line.as_bytes());
        assert!(message.contains("line 1"), "{message}");
        assert!(message.len() < 1_000, "{} bytes: {}", message.len(), &message[..300]);
    }
    assert_eq!(cli.ok(["export"]), "");
}
