//! Every setting at, below and above its bounds, in code and by environment.

use std::time::Duration;

use keepstone::{Durability, Existence, OpenError, Range, Retention, SettingError, StoreOptions};

use crate::Disk;

fn from(variable: &str, value: impl ToString) -> Result<StoreOptions, SettingError> {
    StoreOptions::from_variables([(variable.to_owned(), value.to_string())])
}

/// The settings and bounds that are promised; the code has them in a table of its own.
const BOUNDS: [(&str, &str, u64, u64); 17] = [
    ("cache_bytes", "KEEPSTONE_CACHE_BYTES", 1_048_576, 1_099_511_627_776),
    ("checkpoint_memory_bytes", "KEEPSTONE_CHECKPOINT_MEMORY_BYTES", 0, 1_099_511_627_776),
    ("checkpoint_log_bytes", "KEEPSTONE_CHECKPOINT_LOG_BYTES", 0, 1_099_511_627_776),
    ("checkpoint_age_ms", "KEEPSTONE_CHECKPOINT_AGE_MS", 0, 2_592_000_000),
    ("checkpoint_idle_ms", "KEEPSTONE_CHECKPOINT_IDLE_MS", 0, 2_592_000_000),
    ("checkpoint_slice_keys", "KEEPSTONE_CHECKPOINT_SLICE_KEYS", 1, 1_048_576),
    ("interval_ms", "KEEPSTONE_INTERVAL_MS", 1, 10_000),
    ("memory_entries_max", "KEEPSTONE_MEMORY_ENTRIES_MAX", 1_000, 16_777_216),
    ("memory_bytes_max", "KEEPSTONE_MEMORY_BYTES_MAX", 1_048_576, 17_179_869_184),
    ("window_bytes_max", "KEEPSTONE_WINDOW_BYTES_MAX", 65_536, 4_294_967_296),
    ("transaction_memory_bytes", "KEEPSTONE_TRANSACTION_MEMORY_BYTES", 65_536, 268_435_456),
    ("embedding_dimension", "KEEPSTONE_EMBEDDING_DIMENSION", 1, 4_096),
    ("fingerprint_bits", "KEEPSTONE_FINGERPRINT_BITS", 64, 1_048_576),
    ("shards", "KEEPSTONE_SHARDS", 4, 16),
    ("events_max", "KEEPSTONE_EVENTS_MAX", 16, 1_048_576),
    ("alert_commit_ms_low", "KEEPSTONE_ALERT_COMMIT_MS_LOW", 1, 60_000),
    ("alert_commit_ms_high", "KEEPSTONE_ALERT_COMMIT_MS_HIGH", 1, 60_000),
];

#[test]
fn every_number_has_its_bounds_and_its_error_names_field_value_and_range() {
    let numbers = StoreOptions::settings().filter(|setting| matches!(setting.range, Range::Number { .. }));
    let known: Vec<_> = numbers.map(|setting| (setting.field, setting.variable)).collect();
    assert_eq!(known, BOUNDS.map(|(field, variable, ..)| (field, variable)));
    for (field, variable, min, max) in BOUNDS {
        for legal in [min, max] {
            let options = from(variable, legal).unwrap_or_else(|error| panic!("{legal}: {error}"));
            drop(options);
        }
        for illegal in [min.checked_sub(1).unwrap_or(u64::MAX), max + 1, u64::MAX] {
            let error = from(variable, illegal).unwrap_err();
            assert_eq!(
                (error.field, error.variable, &*error.value),
                (field, variable, &*illegal.to_string())
            );
            let text = error.to_string();
            assert!(text.contains(&min.to_string()) && text.contains(&max.to_string()), "{text}");
        }
        for nonsense in ["", "-1", "x", "1.5", " 5", "99999999999999999999"] {
            let error = from(variable, nonsense).unwrap_err();
            assert_eq!((error.field, error.value), (field, format!("{nonsense:?}")));
        }
    }
    assert!(from("KEEPSTONE_FINGERPRINT_BITS", 65).unwrap_err().range.contains("multiples of 64"));
}

#[test]
fn every_word_has_its_variable() {
    let legal = [
        ("KEEPSTONE_EXISTENCE", vec!["create", "must-exist", "create-if-missing"]),
        ("KEEPSTONE_ACCESS", vec!["write", "read-only", "write-if-free"]),
        ("KEEPSTONE_DURABILITY", vec!["full", "normal", "none", "relaxed", "relaxed:5:20"]),
        ("KEEPSTONE_RECOVERY", vec!["strict", "prefix", "read-only-at-checkpoint"]),
        ("KEEPSTONE_RETENTION", vec!["forever", "none", "7d", "1s", "36500d"]),
        ("KEEPSTONE_HISTORY", vec!["chains", "whole"]),
        ("KEEPSTONE_PARITY", vec!["off", "xor"]),
        ("KEEPSTONE_FORCE_NETWORK", vec!["true", "false"]),
        ("KEEPSTONE_HISTOGRAMS", vec!["on", "0"]),
    ];
    let known = StoreOptions::settings().filter(|setting| matches!(setting.range, Range::Words(_)));
    assert_eq!(known.count(), legal.len());
    for (variable, words) in legal {
        for word in words {
            from(variable, word).unwrap().validate().unwrap();
        }
        for word in ["", "nonsense", "relaxed:5", "relaxed:x:1", "Normal"] {
            let error = from(variable, word).unwrap_err();
            assert_eq!((error.variable, error.value), (variable, format!("{word:?}")));
        }
    }
}

#[test]
fn pages_have_one_of_three_sizes() {
    let sizes = StoreOptions::settings().filter(|setting| matches!(setting.range, Range::Numbers(_)));
    assert_eq!(sizes.map(|setting| setting.field).collect::<Vec<_>>(), ["page_size"]);
    for legal in [4_096, 8_192, 16_384] {
        from("KEEPSTONE_PAGE_SIZE", legal).unwrap().validate().unwrap();
    }
    for illegal in [0, 1, 4_095, 8_193, 32_768] {
        let error = from("KEEPSTONE_PAGE_SIZE", illegal).unwrap_err().to_string();
        let expected = format!("is {illegal}; allowed is 4096, 8192 or 16384");
        assert!(
            error.starts_with("the setting page_size (KEEPSTONE_PAGE_SIZE)") && error.ends_with(&expected),
            "{error}"
        );
        assert_eq!(StoreOptions::new().page_size(illegal).validate().unwrap_err().to_string(), error);
    }
}

#[test]
fn what_does_not_fit_together_is_refused_at_open() {
    let disk = Disk::new();
    let millis = Duration::from_millis;
    let relaxed = |max_commits, max_delay| Durability::Relaxed { max_commits, max_delay };
    let cases = [
        (StoreOptions::new().alert_commit(millis(5), millis(5)), "alert_commit_ms_low"),
        (StoreOptions::new().alert_commit(millis(6), millis(5)), "alert_commit_ms_low"),
        (StoreOptions::new().interval(Duration::ZERO), "interval_ms"),
        (StoreOptions::new().interval(millis(10_001)), "interval_ms"),
        (StoreOptions::new().memory_entries_max(999), "memory_entries_max"),
        (StoreOptions::new().embedding_dimension(4_097), "embedding_dimension"),
        (StoreOptions::new().shards(3), "shards"),
        (StoreOptions::new().retention(Retention::For(Duration::ZERO)), "retention"),
        (StoreOptions::new().retention(Retention::For(Duration::MAX)), "retention"),
        (StoreOptions::new().cache_bytes(5), "cache_bytes"),
        (StoreOptions::new().checkpoint_slice_keys(0), "checkpoint_slice_keys"),
        (StoreOptions::new().checkpoint_age(Duration::MAX), "checkpoint_age_ms"),
        (StoreOptions::new().checkpoint_idle(Duration::MAX), "checkpoint_idle_ms"),
        (StoreOptions::new().durability(relaxed(0, millis(1))), "durability"),
        (StoreOptions::new().durability(relaxed(1, Duration::ZERO)), "durability"),
    ];
    for (options, field) in cases {
        match disk.open_as(&options.existence(Existence::Create)).unwrap_err() {
            OpenError::Setting(error) => assert_eq!(error.field, field),
            other => panic!("{field}: {other}"),
        }
    }
    // Nothing was touched: the folder is still free for a new store.
    disk.open_as(&StoreOptions::new().existence(Existence::Create)).unwrap();
}

#[test]
fn questionable_values_open_and_are_warned_of() {
    let variables = [
        ("KEEPSTONE_SHARDS", "8"),
        ("KEEPSTONE_DURABILITY", "none"),
        ("KEEPSTONE_WINDOW_BYTES_MAX", "65536"),
        ("KEEPSTONE_INTERVAL", "5"),
        ("PATH", "not ours"),
    ];
    let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let store = Disk::new().open_as(&StoreOptions::from_variables(owned).unwrap()).unwrap();
    let warned: Vec<_> = store.warnings().iter().map(|warning| &*warning.field).collect();
    assert_eq!(warned, ["KEEPSTONE_INTERVAL", "durability", "window_bytes_max", "shards"]);
    assert!(crate::store().warnings().is_empty());
}

#[test]
fn checkpoints_that_hardly_happen_or_keep_nothing_are_warned_of() {
    let warned = |options: StoreOptions| -> Vec<String> {
        options.validate().unwrap().into_iter().map(|warning| warning.field).collect()
    };
    let off = StoreOptions::new()
        .checkpoint_memory_bytes(0)
        .checkpoint_log_bytes(0)
        .checkpoint_age(Duration::ZERO)
        .checkpoint_idle(Duration::ZERO);
    assert_eq!(warned(off), ["checkpoint_memory_bytes", "checkpoint_log_bytes"]);
    assert_eq!(warned(StoreOptions::new().checkpoint_memory_bytes(1_000)), ["checkpoint_memory_bytes"]);
    assert_eq!(warned(StoreOptions::new().retention(Retention::None)), ["retention"]);
    assert!(warned(StoreOptions::new().retention(Retention::Forever)).is_empty());
}

#[test]
fn a_store_is_found_missing_or_there_as_asked() {
    let disk = Disk::new();
    let open = |existence| disk.open_as(&StoreOptions::new().existence(existence));
    assert!(matches!(open(Existence::MustExist).unwrap_err(), OpenError::NotFound { .. }));
    open(Existence::Create).unwrap().close().unwrap();
    assert!(matches!(open(Existence::Create).unwrap_err(), OpenError::AlreadyExists { .. }));
    let held = open(Existence::MustExist).unwrap();
    let error = open(Existence::MustExist).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }) && error.is_retryable(), "{error}");
    assert_eq!(error.kind().as_str(), "locked");
    drop(held);
    open(Existence::MustExist).unwrap();
}

#[test]
fn the_readme_lists_every_setting_as_it_is() {
    let page = include_str!("../../README.md");
    let listed = page.lines().filter(|line| line.contains("KEEPSTONE_") && line.starts_with("| `"));
    let row = |setting: keepstone::SettingInfo| {
        format!("| `{}` | `{}` | {} |", setting.field, setting.variable, setting.range)
    };
    let expected: Vec<_> = StoreOptions::settings().map(row).collect();
    assert_eq!(listed.collect::<Vec<_>>(), expected, "{}", expected.join("\n"));
}
