//! init, check, stats, gc, compact, checkpoint.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Cli, json};

#[test]
fn init_makes_a_store_once() {
    let cli = Cli::without_store();
    let said = cli.ok(["init"]);
    assert!(said.contains("store"), "{said}");
    assert_eq!(cli.ok(["export"]), "");
    let message = cli.fails(1, ["init"]);
    assert!(message.contains("already"), "{message}");
    for level in ["full", "normal"] {
        Cli::without_store().ok(["init", "--durability", level]);
    }
    for level in ["relaxed", "none"] {
        // Legal, and warned of.
        let run = crate::support::Run::from(
            Cli::without_store().command(["init", "--durability", level]).output().unwrap(),
        );
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains("warning: durability"), "{}", run.stderr);
    }
}

#[test]
fn a_store_keeps_the_durability_it_was_made_with() {
    let cli = Cli::without_store();
    cli.ok(["init", "--durability", "full"]);
    let durability = |stats: &str| {
        let line = stats.lines().find(|line| line.starts_with("durability")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(durability(&cli.ok(["stats"])), "full");
    let output = cli.command(["stats"]).env("KEEPSTONE_DURABILITY", "normal").output().unwrap();
    assert_eq!(durability(&String::from_utf8(output.stdout).unwrap()), "normal");
    assert_eq!(durability(&cli.ok(["stats"])), "full");
}

#[test]
fn a_folder_with_other_things_is_not_touched() {
    let cli = Cli::without_store();
    fs::create_dir(cli.dir()).unwrap();
    fs::write(cli.dir().join("precious.txt"), "mine").unwrap();
    for command in [&["init"][..], &["put", "k", "1"], &["get", "k"]] {
        cli.fails(1, command);
    }
    let names: Vec<_> = fs::read_dir(cli.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["precious.txt"]);
}

#[test]
fn init_takes_a_page_size_and_a_retention() {
    for size in ["4096", "8192", "16384"] {
        let cli = Cli::without_store();
        cli.ok(["init", "--page-size", size]);
        let bytes = fs::read(cli.dir().join("pages")).unwrap();
        assert_eq!(bytes[12..16], size.parse::<u32>().unwrap().to_le_bytes(), "the prologue says {size}");
    }
    for retention in ["7d", "36h", "forever", "none"] {
        let cli = Cli::without_store();
        let run =
            crate::support::Run::from(cli.command(["init", "--retention", retention]).output().unwrap());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(run.stderr.contains("warning: retention"), retention == "none", "{}", run.stderr);
    }
    for option in
        [["--page-size", "1000"], ["--page-size", "x"], ["--retention", "7w"], ["--retention", "0s"]]
    {
        let cli = Cli::without_store();
        let message = cli.fails(2, ["init", option[0], option[1]]);
        assert!(message.contains(option[0]) && message.contains("expected"), "{message}");
        assert!(!cli.dir().exists());
    }
}

#[test]
fn a_store_keeps_the_retention_it_was_made_with() {
    let run = |cli: &Cli, args: &[&str]| {
        let run = crate::support::Run::from(cli.command(args).output().unwrap());
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    for (retention, is_kept) in [("none", false), ("forever", true)] {
        let cli = Cli::without_store();
        run(&cli, &["init", "--retention", retention]);
        for number in 0..5 {
            cli.ok(["put", "k", &number.to_string()]);
        }
        cli.ok(["tag", "third", "3"]);
        cli.ok(["compact"]);
        assert_eq!(json(&cli.ok(["get", "k", "--at", "third"]))["body"], 2);
        if is_kept {
            assert_eq!(json(&cli.ok(["get", "k", "--at", "1"]))["body"], 0);
            assert_eq!(cli.ok(["history", "k", "--json"]).lines().count(), 5);
        } else {
            let message = cli.fails(4, ["get", "k", "--at", "1"]);
            assert!(message.contains("version 1 is no longer kept; the oldest that is kept is"), "{message}");
            cli.fails(4, ["rollback", "1"]);
            cli.fails(4, ["diff", "1", "third"]);
            let history = cli.ok(["history", "k"]);
            assert!(!history.contains("created") && !history.contains("1970"), "{history}");
        }
        assert_eq!(json(&cli.ok(["get", "k"]))["body"], 4);
        assert!(cli.ok(["check"]).contains("no damage"));
    }
}

/// A store with so many nodes whose bodies have about 300 bytes.
fn filled(count: usize) -> Cli {
    filled_as("xor", count)
}

fn filled_as(parity: &str, count: usize) -> Cli {
    let cli = Cli::without_store();
    cli.ok(["init", "--parity", parity]);
    let text = "x".repeat(300);
    let lines: String =
        (0..count).map(|n| format!("{{\"key\":\"k{n:05}\",\"body\":\"{n} {text}\"}}\n")).collect();
    cli.feed(["import", "-"], &lines);
    cli
}

#[test]
fn a_checkpoint_folds_and_changes_nothing() {
    let cli = filled(500);
    let before = cli.ok(["export"]);
    let version = cli.version();
    let said = json(&cli.ok(["checkpoint", "--json"]));
    assert!(said["rows"].as_u64().unwrap() >= 1_000 && said["version"] == version.as_str(), "{said}");
    let stats = json(&cli.ok(["stats", "--json"]));
    assert_eq!(
        (&stats["memory_rows"], &stats["folded_version"]),
        (&json("0"), &json(&format!("{version:?}")))
    );
    assert!(
        stats["pages"]["file_bytes"].as_u64().unwrap() > 100_000
            && said["page_bytes"].as_u64().unwrap() > 100_000
    );
    assert_eq!(cli.ok(["export"]), before);
    let said = cli.ok(["checkpoint"]);
    assert!(said.starts_with("folded 0 rows through version "), "{said}");
    assert!(cli.ok(["check"]).contains("no damage"));
    let none = Cli::without_store();
    assert!(none.fails(1, ["checkpoint"]).contains("holds no store"));
}

#[test]
fn compaction_makes_the_page_file_smaller() {
    let cli = filled(3_000);
    cli.ok(["checkpoint"]);
    let lines: String = (10..3_000).map(|n| format!("{{\"key\":\"k{n:05}\",\"delete\":true}}\n")).collect();
    cli.feed(["import", "-"], &lines);
    let before = cli.ok(["export"]);
    let run = cli.command(["compact", "--json"]).env("KEEPSTONE_RETENTION", "none").output().unwrap();
    let said = json(&String::from_utf8(run.stdout).unwrap());
    let number = |field: &str| said[field].as_u64().unwrap();
    assert!(number("bytes_after") < number("bytes_before") / 2, "{said}");
    assert!(number("pruned_rows") >= 2_990 && number("pruned_commits") > 0, "{said}");
    assert_eq!(cli.ok(["export"]), before);
    assert!(cli.ok(["compact"]).starts_with("the page file has "));
    assert!(cli.ok(["check"]).contains("no damage"));
}

/// Flips a byte in every page of a kind that holds the text.
fn flip_pages(cli: &Cli, kind: u8, text: &str) {
    let path = cli.dir().join("pages");
    let mut bytes = fs::read(&path).unwrap();
    let mut flipped = 0;
    let has = |page: &[u8]| String::from_utf8_lossy(page).contains(text);
    for page in bytes.chunks_mut(8_192).skip(3).filter(|page| page[14] == kind && has(page)) {
        page[4_000] ^= 1;
        flipped += 1;
    }
    assert!(flipped > 0, "no page of kind {kind}");
    fs::write(&path, bytes).unwrap();
}

#[test]
fn gc_only_looks_unless_it_is_told_to_apply() {
    let cli = filled(500);
    cli.ok(["checkpoint"]);
    assert!(cli.ok(["gc"]).contains("nothing to collect"));
    let said = json(&cli.ok(["gc", "--json"]));
    assert_eq!((&said["applied"], &said["findings"]), (&json("false"), &json("0")));
    flip_pages(&cli, 1, "");
    let found = || json(&cli.ok(["gc", "--json"]))["findings"].as_u64().unwrap();
    let findings = found();
    assert!(cli.ok(["gc"]).contains("nothing was changed: `keepstone gc --apply`"));
    assert!(findings > 0 && found() == findings, "looking changed something");
    let said = json(&cli.ok(["gc", "--apply", "--json"]));
    assert_eq!((&said["applied"], &said["rebuilt"]), (&json("true"), &json("true")), "{said}");
    assert!(cli.ok(["gc", "--apply"]).contains("nothing to collect"));
    assert!(cli.ok(["check"]).contains("no damage"));
}

#[test]
fn check_repairs_a_damaged_free_space_map() {
    let cli = filled(500);
    cli.ok(["checkpoint"]);
    let before = cli.ok(["export"]);
    flip_pages(&cli, 1, "");
    let message = cli.fails(3, ["check"]);
    assert!(message.contains("nothing stored is lost") && message.contains("check --repair"), "{message}");
    assert_eq!(cli.ok(["export"]), before);
    let said = cli.ok(["check", "--repair"]);
    assert!(said.contains("repaired: the free-space map: ") && said.contains("no damage"), "{said}");
    assert!(!cli.ok(["check"]).contains("repaired"));
    cli.ok(["put", "after", "1"]);
    cli.ok(["checkpoint"]);
    let said = json(&cli.ok(["check", "--repair", "--json"]));
    assert_eq!((&said["damages"], &said["repaired"]), (&json("[]"), &json("[]")));
    assert!(said["pages"].as_u64().unwrap() > 10 && said["nodes"] == 501, "{said}");
}

#[test]
fn damaged_rows_are_told_and_the_others_read() {
    let cli = filled_as("off", 500);
    cli.ok(["checkpoint"]);
    flip_pages(&cli, 16, "100 xxxx");
    let run = crate::support::Run::from(cli.command(["check", "--repair"]).output().unwrap());
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("damage: ") && run.stdout.contains("pages: page "), "{}", run.stdout);
    assert!(
        !run.stdout.contains("repaired") && run.stderr.contains("export what can be read"),
        "{}",
        run.stderr
    );
    let message = cli.fails(3, ["get", "k00100"]);
    assert!(message.contains(" at byte ") && message.contains("expected "), "{message}");
    fs::remove_file(cli.dir().join("pages")).unwrap();
    for command in [&["check"][..], &["check", "--repair"], &["get", "k00100"], &["put", "k", "1"]] {
        let message = cli.fails(3, command);
        assert!(message.contains("restore the whole store from a backup"), "{message}");
        assert!(!message.contains("check --repair"), "{message}");
    }
    assert!(!cli.dir().join("pages").exists());
}

#[test]
fn what_the_last_checkpoint_has_is_read_without_the_log() {
    let cli = filled(300);
    cli.ok(["checkpoint"]);
    let before = cli.ok(["export"]);
    cli.ok(["put", "later", "1"]);
    for path in files(&cli.dir().join("log")) {
        let len = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![0xA5; usize::try_from(len).unwrap()]).unwrap();
    }
    cli.fails(3, ["export"]);
    let mut command = cli.command(["export"]);
    let run = crate::support::Run::from(
        command.env("KEEPSTONE_RECOVERY", "read-only-at-checkpoint").output().unwrap(),
    );
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(run.stdout == before, "the export differs");
}

#[test]
fn check_finds_nothing_in_a_sound_store() {
    let cli = Cli::with_lines("{\"key\":\"a\",\"links\":[{\"verb\":\"v\",\"to\":\"b\"}]}\n");
    assert!(cli.ok(["check"]).contains("no damage"));
    assert!(cli.ok(["check", "--repair"]).contains("no damage"));
    assert_eq!(json(&cli.ok(["check", "--json"]))["damages"], serde_json::json!([]));
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Overwrites the middle of what the log holds.
fn damage(cli: &Cli) {
    let mut damaged = 0;
    for path in files(&cli.dir().join("log")) {
        let mut bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        if used > 100_000 {
            for byte in &mut bytes[used / 3..used / 3 + 20_000] {
                *byte ^= 0x5A;
            }
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "no file was large enough");
}

#[test]
fn damage_is_exit_code_3_and_repair_keeps_what_is_before_it() {
    let cli = Cli::new();
    let text = "x".repeat(4_000);
    let lines: String =
        (0..100).map(|n| format!("{{\"key\":\"k{n:03}\",\"body\":\"{n} {text}\"}}\n")).collect();
    cli.feed(["import", "-", "--batch", "5"], &lines);
    damage(&cli);
    let message = cli.fails(3, ["check"]);
    assert!(message.contains("check --repair"), "{message}");
    let before: Vec<_> = files(&cli.dir()).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    cli.fails(3, ["get", "k000"]);
    cli.fails(3, ["put", "k000", "1"]);
    for (bytes, path) in before {
        assert!(fs::read(&path).unwrap() == bytes, "{} was written to", path.display());
    }
    let run = crate::support::Run::from(cli.command(["check", "--repair"]).output().unwrap());
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    cli.ok(["check"]);
    let kept = cli.ok(["export"]).lines().count();
    assert!(kept > 0 && kept < 100, "{kept}");
    cli.ok(["put", "k000", "1"]);
}

#[test]
fn one_rotten_byte_is_healed_and_told_to_a_person() {
    let cli = Cli::with_lines("{\"key\":\"a\",\"body\":1}\n");
    let before = cli.ok(["export"]);
    // The first byte of the first group's records, behind two copies of the segment's header and the group's own.
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "wal");
    let segment = files(&cli.dir()).into_iter().find(is_segment).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8_192 + 64] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let said = cli.ok(["check"]);
    let line = said.lines().find(|line| line.starts_with("repaired: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(".wal at byte 8192: expected a sector of a group"), "{line}");
    assert!(!line.contains('{'), "a person reads this: {line}");
    assert_eq!(cli.ok(["export"]), before);
    assert!(!cli.ok(["check"]).contains("repaired"));
}

#[test]
fn stats_are_for_people_and_programs() {
    let cli = Cli::with_lines("{\"key\":\"a\",\"links\":[{\"verb\":\"v\",\"to\":\"b\"}]}\n{\"key\":\"b\"}\n");
    let stats = json(&cli.ok(["stats", "--json"]));
    assert_eq!(stats["collections"], serde_json::json!([{"name": "default", "nodes": 2}]));
    assert_eq!(stats["version"].as_str().unwrap(), cli.version());
    let text = cli.ok(["stats"]);
    assert!(text.contains("default") && text.contains(&cli.version()), "{text}");
    // Whoever reads the page sees every number that a program sees.
    for (name, value) in stats.as_object().unwrap() {
        let numbers: Vec<&String> = match value {
            serde_json::Value::Number(_) => vec![name],
            serde_json::Value::Object(fields) if ["pages", "log", "latencies"].contains(&&**name) => {
                fields.keys().collect()
            }
            _ => continue,
        };
        for name in numbers {
            assert!(
                text.lines().any(|line| line.split_whitespace().next() == Some(name)),
                "{name} is not in\n{text}"
            );
        }
    }
    for counter in [
        "transactions_begun",
        "transactions_committed",
        "transactions_rolled_back",
        "checkpoints",
        "checkpoint_slices",
        "checkpoint_failures",
        "rows_folded",
        "page_rows",
        "history_rows",
        "pruned_rows",
        "pressure_warnings",
        "slowed",
    ] {
        assert!(stats[counter].is_u64(), "{counter}");
    }
    for counter in ["cache_hits", "cache_misses", "pages_written", "file_bytes"] {
        assert!(stats["pages"][counter].is_u64(), "{counter}");
    }
    assert!(stats["log"]["groups"].is_u64() && stats["log"]["written_bytes"].is_u64());
    assert!(stats["commit_latency"]["p99_ns"].is_u64());
    assert_eq!(stats["reconciler"]["recommendation"], "good");
    assert_eq!((&stats["oldest_version"], &stats["durability"]), (&json("\"0\""), &json("\"normal\"")));
}
