//! snapshot create, list, verify, consolidate, prune; restore.

use std::path::PathBuf;

use serde_json::json;

use crate::support::{Cli, Run, json, json_lines, keepstone};

/// A store with three snapshots of it: full, and one change after another.
fn with_snapshots() -> (Cli, String, Vec<String>) {
    let cli = Cli::new();
    let folder = cli.dir().with_file_name("snapshots").to_str().unwrap().to_owned();
    let mut exports = Vec::new();
    cli.ok(["put", "a", r#"{"text":"one"}"#]);
    cli.ok(["-C", "people", "put", "b", "1"]);
    cli.ok(["link", "a", "knows", "b"]);
    exports.push(cli.ok(["export"]));
    cli.ok(["snapshot", "create", &folder, "full"]);
    cli.ok(["put", "a", r#"{"text":"two"}"#]);
    exports.push(cli.ok(["export"]));
    cli.ok(["snapshot", "create", &folder, "second of two", "--parent", "full"]);
    cli.ok(["delete", "a"]);
    exports.push(cli.ok(["export"]));
    cli.ok(["snapshot", "create", &folder, "last", "--parent", "second of two"]);
    (cli, folder, exports)
}

/// The command on another store.
fn on(store: &str, args: &[&str]) -> Run {
    Run::from(keepstone().arg("-s").arg(store).args(args).output().unwrap())
}

#[track_caller]
fn fails_on(store: &str, code: i32, args: &[&str]) -> String {
    let run = on(store, args);
    assert_eq!(run.code, code, "{}", run.stderr);
    run.stderr
}

fn restored(cli: &Cli, folder: &str, name: Option<&str>) -> String {
    let dir = tempfile::tempdir_in(cli.dir().parent().unwrap()).unwrap();
    let target = dir.path().join("again");
    let target = target.to_str().unwrap();
    let mut args = vec!["restore", folder];
    args.extend(name);
    assert_eq!(on(target, &args).code, 0);
    assert_eq!(on(target, &["check"]).code, 0);
    let export = on(target, &["export"]);
    assert_eq!(export.code, 0, "{}", export.stderr);
    export.stdout
}

#[test]
fn what_is_restored_exports_the_same_bytes() {
    let (cli, folder, exports) = with_snapshots();
    for (name, export) in ["full", "second of two", "last"].iter().zip(&exports) {
        assert_eq!(restored(&cli, &folder, Some(name)), *export, "{name}");
    }
    assert_eq!(restored(&cli, &folder, None), exports[2]);
    let copy = cli.dir().with_file_name("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(restored(&cli, copy.to_str().unwrap(), Some("second of two")), exports[1]);
}

#[test]
fn snapshots_are_listed_verified_and_pruned() {
    let (cli, folder, exports) = with_snapshots();
    let listed = json_lines(&cli.ok(["snapshot", "list", &folder, "--json"]));
    let names: Vec<_> = listed.iter().map(|line| (line["name"].clone(), line["parent"].clone())).collect();
    let expected = [
        (json!("full"), json!(null)),
        (json!("last"), json!("second of two")),
        (json!("second of two"), json!("full")),
    ];
    assert_eq!(names, expected);
    let table = cli.ok(["snapshot", "list", &folder]);
    assert!(table.starts_with("SNAPSHOT") && table.lines().count() == 4, "{table}");
    let verified = json_lines(&cli.ok(["snapshot", "verify", &folder, "--json"]));
    assert!(verified.len() == 3 && verified.iter().all(|line| line["sound"] == json!(true)), "{verified:?}");

    let made = json(&cli.ok(["snapshot", "consolidate", &folder, "last", "--json"]));
    assert_eq!((&made["parent"], &made["name"]), (&json!(null), &json!("last")));
    let pruned =
        json(&cli.ok(["snapshot", "prune", &folder, "--keep", "second of two", "--keep", "last", "--json"]));
    assert_eq!((&pruned["removed"], &pruned["consolidated"]), (&json!(["full"]), &json!(["second of two"])));
    assert_eq!(restored(&cli, &folder, Some("last")), exports[2]);
    assert_eq!(restored(&cli, &folder, Some("second of two")), exports[1]);
}

#[test]
fn what_is_wrong_has_an_exit_code_and_says_what_helps() {
    let (cli, folder, _) = with_snapshots();
    let target = cli.dir().with_file_name("target").to_str().unwrap().to_owned();
    fails_on(&target, 4, &["restore", &folder, "nobody"]);
    cli.fails(4, ["snapshot", "create", &folder, "x", "--parent", "nobody"]);
    cli.fails(4, ["snapshot", "create", &folder, "x", "99"]);
    cli.fails(1, ["snapshot", "create", &folder, "full"]);
    cli.fails(1, ["restore", &folder, "full"]);
    cli.fails(2, ["snapshot", "list", &folder, "-C", "people"]);
    cli.fails(2, ["snapshot", "prune", &folder]);
    cli.fails(4, ["snapshot", "prune", &folder, "--keep", "nobody"]);

    let path = PathBuf::from(&folder).join("full.keep-snapshot");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[650] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let said = fails_on(&target, 3, &["restore", &folder, "last"]);
    assert!(said.contains("full.keep-snapshot") && said.contains("expected"), "{said}");
    cli.fails(3, ["snapshot", "verify", &folder]);
    assert!(!PathBuf::from(&target).exists());
    std::fs::remove_file(&path).unwrap();
    fails_on(&target, 4, &["restore", &folder, "last"]);
    std::fs::write(&path, &good).unwrap();
    assert_eq!(on(&target, &["restore", &folder, "last"]).code, 0);
    fails_on(&target, 1, &["restore", &folder, "last"]);
}
