//! Settings by environment.

use crate::support::{Cli, Run, keepstone};

fn run(cli: &Cli, variable: (&str, &str), args: &[&str]) -> Run {
    Run::from(cli.command(args).env(variable.0, variable.1).output().unwrap())
}

#[test]
fn the_store_can_be_named_by_environment() {
    let cli = Cli::new();
    let run =
        Run::from(keepstone().args(["put", "k", "1"]).env("KEEPSTONE_STORE", cli.dir()).output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    cli.ok(["get", "k"]);
}

#[test]
fn a_setting_out_of_range_is_named_with_its_range() {
    let cli = Cli::new();
    for (name, value, range) in [
        ("KEEPSTONE_INTERVAL_MS", "0", "1 to 10000"),
        ("KEEPSTONE_INTERVAL_MS", "10001", "1 to 10000"),
        ("KEEPSTONE_MEMORY_ENTRIES_MAX", "999", "1000 to"),
        ("KEEPSTONE_EMBEDDING_DIMENSION", "4097", "1 to 4096"),
        ("KEEPSTONE_SHARDS", "3", "4 to 16"),
        ("KEEPSTONE_SHARDS", "many", "4 to 16"),
        ("KEEPSTONE_DURABILITY", "most", "full, normal"),
        ("KEEPSTONE_ALERT_COMMIT_MS_LOW", "2000", "less than"),
    ] {
        let found = run(&cli, (name, value), &["put", "k", "1"]);
        assert_eq!(found.code, 2, "{name}={value}: {}", found.stderr);
        let says = |text: &str| assert!(found.stderr.contains(text), "{name}={value}: {}", found.stderr);
        says(name);
        says(value);
        says(range);
    }
    cli.fails(4, ["get", "k"]);
}

#[test]
fn legal_settings_work_and_questionable_ones_warn() {
    let cli = Cli::new();
    let found = run(&cli, ("KEEPSTONE_DURABILITY", "full"), &["put", "k", "1"]);
    assert_eq!((found.code, found.stderr.as_str()), (0, ""));
    for (name, value) in
        [("KEEPSTONE_DURABILITY", "none"), ("KEEPSTONE_SHARDS", "4"), ("KEEPSTONE_DURABLITY", "full")]
    {
        let found = run(&cli, (name, value), &["put", "k", "1"]);
        assert_eq!(found.code, 0, "{}", found.stderr);
        assert!(found.stderr.starts_with("keepstone: warning: "), "{name}: {}", found.stderr);
    }
}

#[test]
fn the_environment_can_forbid_writing() {
    let cli = Cli::with_lines("{\"key\":\"a\"}\n");
    let found = run(&cli, ("KEEPSTONE_ACCESS", "read-only"), &["put", "k", "1"]);
    assert_eq!(found.code, 1, "{}", found.stderr);
    assert!(found.stderr.contains("read-only"), "{}", found.stderr);
    assert_eq!(run(&cli, ("KEEPSTONE_ACCESS", "read-only"), &["get", "a"]).code, 0);
}
