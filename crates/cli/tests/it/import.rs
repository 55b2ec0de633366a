//! import: batches, writers, acknowledgements, formats.

use serde_json::json;

use crate::support::{Cli, arg, json, json_lines};

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"key\":\"k{n}\",\"body\":{n}}}\n")).collect()
}

#[test]
fn a_file_is_imported_in_batches() {
    let cli = Cli::new();
    let file = cli.file("lines.jsonl", lines(25));
    let said = cli.ok(["import", arg(&file), "--batch", "10"]);
    assert!(said.starts_with("imported 25 lines in 3 commits, version "), "{said}");
    assert_eq!(cli.ok(["export"]).lines().count(), 25);
    let said = cli.ok(["import", arg(&file)]);
    assert!(said.starts_with("imported 25 lines in 1 commit, "), "{said}");
}

#[test]
fn import_makes_the_store() {
    let cli = Cli::without_store();
    cli.feed(["import", "-"], "{\"key\":\"a\"}\n");
    cli.ok(["get", "a"]);
}

#[test]
fn nothing_is_imported_from_nothing() {
    let cli = Cli::new();
    assert!(cli.feed(["import", "-"], "").starts_with("imported 0 lines in 0 commits"));
    assert_eq!(cli.feed(["import", "-", "--ack"], "\n\n"), "");
}

#[test]
fn given_fields_replace_links_are_added_and_the_rest_stays() {
    let cli = Cli::new();
    let import = |line: &str| cli.feed(["import", "-"], line);
    import(
        r#"{"key":"a","label":"L","body":{"x":1},"embedding":[1,2.5],"fingerprint":"00000000000000ff","links":[{"verb":"v","to":"b"}]}"#,
    );
    import(
        r#"{"key":"a","body":{"y":2},"links":[{"verb":"w","to":"c","weight":0.5},{"verb":"v","to":"b","weight":3}]}"#,
    );
    let expected = json!({
        "key": "a", "collection": "default", "label": "L", "body": {"y": 2}, "embedding": [1.0, 2.5],
        "fingerprint": "00000000000000ff",
        "links": [{"verb": "v", "to": "b", "weight": 3.0}, {"verb": "w", "to": "c", "weight": 0.5}],
    });
    assert_eq!(json(&cli.ok(["get", "a"])), expected);
    import(r#"{"key":"a","delete":true}"#);
    cli.fails(4, ["get", "a"]);
    assert_eq!(cli.ok(["export"]), "");
    // Deleting what is not there is no error: importing again gives the same.
    import(r#"{"key":"a","delete":true}"#);
}

#[test]
fn within_a_batch_the_last_line_of_a_key_wins() {
    let cli = Cli::new();
    let input = "{\"key\":\"a\",\"body\":1}\n{\"key\":\"a\",\"delete\":true}\n{\"key\":\"a\",\"body\":3}\n";
    cli.feed(["import", "-"], input);
    assert_eq!(json(&cli.ok(["get", "a"]))["body"], json!(3));
}

#[test]
fn the_collection_of_a_line_goes_before_that_of_the_command() {
    let cli = Cli::new();
    cli.feed(["import", "-", "-C", "c"], "{\"key\":\"a\"}\n{\"key\":\"b\",\"collection\":\"d\"}\n");
    cli.ok(["get", "a", "-C", "c"]);
    cli.ok(["get", "b", "-C", "d"]);
    cli.fails(4, ["get", "a"]);
}

#[test]
fn each_commit_is_acknowledged_on_a_line_of_its_own() {
    let cli = Cli::new();
    let input = "{\"key\":\"a\"}\n{\"key\":\"b c\"}\n{\"key\":\"d\\\"e\"}\n{\"key\":\"größe\"}\n";
    let acks = cli.feed(["import", "-", "--batch", "1", "--ack"], input);
    let newest: u64 = cli.version().parse().unwrap();
    let expected: String = [("a", 3), ("\"b c\"", 2), (r#""d\"e""#, 1), ("größe", 0)]
        .map(|(key, before)| format!("ack {} {key}\n", newest - before))
        .concat();
    assert_eq!(acks, expected);
    let acks = cli.feed(["import", "-", "--batch", "3", "--ack"], &lines(8));
    let keys: Vec<_> = acks.lines().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert_eq!(keys, ["k2", "k5", "k7"]);
}

#[test]
fn a_commit_that_changes_nothing_is_acknowledged_too() {
    let cli = Cli::new();
    let acks = cli.feed(["import", "-", "--batch", "1", "--ack"], "{\"key\":\"a\",\"delete\":true}\n");
    assert!(acks.starts_with("ack ") && acks.ends_with(" a\n"), "{acks}");
}

#[test]
fn several_writers_keep_the_order_of_each_key() {
    let cli = Cli::new();
    let rounds = 40;
    let keys = 7;
    let input: String = (0..rounds)
        .flat_map(|round| (0..keys).map(move |key| format!("{{\"key\":\"k{key}\",\"body\":{round}}}\n")))
        .collect();
    for batch in ["1", "3", "1000"] {
        let acks = cli.feed(["import", "-", "--writers", "4", "--batch", batch, "--ack"], &input);
        let mut versions: Vec<u64> =
            acks.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        versions.sort_unstable();
        versions.dedup();
        assert_eq!(versions.len(), acks.lines().count(), "each commit has a version of its own");
        for node in json_lines(&cli.ok(["export"])) {
            assert_eq!(node["body"], json!(rounds - 1), "{node}");
        }
    }
    let history = json_lines(&cli.ok(["history", "k0", "--json"]));
    let bodies: Vec<_> = history.iter().map(|entry| entry["body"].as_u64().unwrap()).collect();
    // The first import was one commit for each line.
    let oldest = &bodies[bodies.len() - rounds..];
    assert!(oldest.is_sorted_by(|a, b| a > b), "{bodies:?}");
}

#[test]
fn writers_that_link_to_the_same_nodes_agree() {
    let cli = Cli::new();
    let input: String = (0..200)
        .map(|n| format!("{{\"key\":\"k{n}\",\"links\":[{{\"verb\":\"v\",\"to\":\"hub{}\"}}]}}\n", n % 3))
        .collect();
    cli.feed(["import", "-", "--writers", "8", "--batch", "5"], &input);
    let linked: usize =
        (0..3).map(|hub| cli.ok(["links", &format!("hub{hub}"), "--in", "--json"]).lines().count()).sum();
    assert_eq!(linked, 200);
    cli.ok(["check"]);
}

#[test]
fn cargo_metadata_becomes_nodes_and_links() {
    let cli = Cli::new();
    let metadata = r#"{"packages":[
        {"id":"A","name":"a","version":"1.0.0","source":null,"license":"MIT","description":"Does a.",
         "repository":null,"readme":null,"manifest_path":"/nowhere/Cargo.toml"},
        {"id":"B","name":"b","version":"2.0.0","source":"r","manifest_path":"/nowhere/b/Cargo.toml"}],
        "resolve":{"nodes":[{"id":"A","deps":[{"pkg":"B","name":"b","dep_kinds":[{"kind":"dev"}]}]},{"id":"B","deps":[]}]}}"#;
    let file = cli.file("metadata.json", metadata);
    let said = cli.ok(["import", arg(&file), "--format", "cargo-metadata", "-C", "crates"]);
    assert!(said.starts_with("imported 2 lines in 1 commit"), "{said}");
    let node = json(&cli.ok(["get", "a@1.0.0", "-C", "crates"]));
    assert_eq!(
        node["body"],
        json!({"name": "a", "version": "1.0.0", "license": "MIT", "description": "Does a."})
    );
    assert_eq!(node["links"], json!([{"verb": "dev-depends-on", "to": "b@2.0.0", "weight": 1.0}]));
    let message = cli.feed_fails(1, ["import", "-", "--format", "cargo-metadata"], b"{}");
    assert!(message.contains("not what `cargo metadata --format-version 1` prints"), "{message}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let cli = Cli::without_store();
    let message = cli.fails(1, ["import", "/nowhere/lines.jsonl"]);
    assert!(message.contains("cannot read /nowhere/lines.jsonl"), "{message}");
    assert!(!cli.dir().exists());
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_input() {
    const BODY_BYTES: usize = 64 << 10;
    // More than the process may have of addresses.
    const LINES: usize = 8_192;
    const LIMIT_KIB: usize = 384 << 10;
    let cli = Cli::new();
    for writers in ["1", "3"] {
        let mut command = std::process::Command::new("sh");
        let script = format!("ulimit -v {LIMIT_KIB} && exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_keepstone")).arg("-s").arg(cli.dir());
        command.args(["import", "-", "--batch", "1000000", "--writers", writers]);
        command.env("MALLOC_ARENA_MAX", "1").env("KEEPSTONE_CHECKPOINT_MEMORY_BYTES", "8388608");
        command.env("KEEPSTONE_CACHE_BYTES", "8388608").env("KEEPSTONE_RETENTION", "none");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = std::io::BufWriter::new(child.stdin.take().unwrap());
        let feeder = std::thread::spawn(move || {
            use std::io::Write as _;
            let body = "x".repeat(BODY_BYTES);
            for number in 0..LINES {
                // A command that fails early does not read all of it.
                if writeln!(stdin, "{{\"key\":\"k{}\",\"body\":\"{number} {body}\"}}", number % 500).is_err()
                {
                    break;
                }
            }
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} {said}{told}", output.status);
        assert!(said.starts_with("imported 8,192 lines in "), "{said}");
        let commits: usize = said.split_whitespace().nth(4).unwrap().parse().unwrap();
        assert!(commits >= LINES * BODY_BYTES / (5 << 20), "batches end at so many bytes: {said}");
    }
    assert_eq!(cli.ok(["export"]).lines().count(), 500);
    assert!(cli.ok(["check"]).contains("no damage"));
}
