//! init, check, stats, and the commands that wait for the page file.

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
fn what_needs_the_page_file_says_so() {
    let cli = Cli::new();
    for command in [&["gc"][..], &["compact"], &["checkpoint"]] {
        let message = cli.fails(1, command);
        assert!(message.contains("needs the page file"), "{message}");
    }
    for option in
        [["--page-size", "4096"], ["--retention", "7d"], ["--retention", "forever"], ["--retention", "none"]]
    {
        let fresh = Cli::without_store();
        let message = fresh.fails(1, ["init", option[0], option[1]]);
        assert!(message.contains("needs the page file") && message.contains(option[0]), "{message}");
        assert!(!fresh.dir().exists());
    }
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
    for path in files(&cli.dir()) {
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
}
