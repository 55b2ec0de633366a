//! The main job, from end to end.

use std::path::Path;

use crate::support::{Run, json, keepstone};

const FIELDS: [&str; 18] = [
    "nodes",
    "links",
    "commits",
    "versions",
    "acked",
    "recovered",
    "lost",
    "time_travel_equal",
    "check_errors",
    "checkpoint_equal",
    "open_log_seconds",
    "open_pages_seconds",
    "log_bytes",
    "page_bytes",
    "damaged_pages",
    "repaired_pages",
    "export_equal_after_repair",
    "seconds",
];

fn demo(folder: &Path, args: &[&str]) -> Run {
    let temporary = tempfile::tempdir().unwrap();
    let run = Run::from(
        keepstone()
            .arg("demo")
            .args(args)
            .current_dir(folder)
            .env("TMPDIR", temporary.path())
            .output()
            .unwrap(),
    );
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "the temporary store is still there: {left:?}");
    run
}

#[track_caller]
fn keeps_its_promises(run: &Run) {
    assert_eq!(run.code, 0, "{}", run.stderr);
    let line = run.stdout.lines().last().unwrap();
    let numbers = json(line);
    let number = |field: &str| numbers[field].as_f64().unwrap_or_else(|| panic!("{field} in {line}"));
    assert!(number("nodes") >= 100.0, "{line}");
    assert!(number("links") >= number("nodes"), "{line}");
    assert!(number("acked") >= 200.0 && number("recovered") == number("acked"), "{line}");
    assert!(number("versions") >= number("commits"), "{line}");
    assert!(number("lost") == 0.0 && number("check_errors") == 0.0, "{line}");
    assert_eq!(numbers["time_travel_equal"], serde_json::json!(true), "{line}");
    assert_eq!(numbers["checkpoint_equal"], serde_json::json!(true), "{line}");
    assert!(number("open_pages_seconds") > 0.0 && number("open_log_seconds") > 0.0, "{line}");
    assert!(number("page_bytes") > 100_000.0 && number("log_bytes") > 0.0, "{line}");
    assert!(number("damaged_pages") >= 20.0, "{line}");
    assert_eq!(numbers["repaired_pages"], numbers["damaged_pages"], "{line}");
    assert_eq!(numbers["export_equal_after_repair"], serde_json::json!(true), "{line}");
    assert_eq!(numbers.as_object().unwrap().len(), FIELDS.len());
    let places: Vec<_> = FIELDS.iter().map(|field| line.find(&format!("\"{field}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{line}");
}

#[test]
fn the_demo_on_this_workspace_keeps_its_promises() {
    keeps_its_promises(&demo(Path::new(env!("CARGO_MANIFEST_DIR")), &["--json"]));
}

#[test]
fn the_demo_outside_any_workspace_uses_the_bundled_graph() {
    let folder = tempfile::tempdir().unwrap();
    let run = demo(folder.path(), &["--json"]);
    keeps_its_promises(&run);
    assert!(run.stderr.contains("bundled"), "{}", run.stderr);
}

#[test]
fn a_person_reads_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let run = demo(folder.path(), &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for part in [
        "What the store answers",
        "longest chain",
        "equal to the byte",
        "no damage",
        "What a checkpoint changes",
        "versions read the same, to the byte",
        "Every promise held.",
    ] {
        assert!(run.stdout.contains(part), "{part} is not in\n{}", run.stdout);
    }
    assert!(!run.stdout.contains('\u{1b}'));
}
