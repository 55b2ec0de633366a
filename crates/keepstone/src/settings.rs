//! The bounds of every setting and how the environment names it.
//!
//! Invariant: each setting stands once in [`SETTINGS`], which validation, the environment and the documentation of the
//! bounds all read.

use std::fmt;
use std::time::Duration;

use crate::options::{
    Access, Durability, Existence, HistoryCoding, Parity, RETENTION_WORDS, Recovery, Retention, StoreOptions,
};

/// A setting that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting {field} ({variable}) is {value}; allowed is {range}")]
#[non_exhaustive]
pub struct SettingError {
    /// The setting.
    pub field: &'static str,
    /// The environment variable that sets it.
    pub variable: &'static str,
    /// What was given.
    pub value: String,
    /// What is allowed.
    pub range: String,
}

/// A setting that is legal and questionable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingWarning {
    /// The setting.
    pub field: String,
    /// What was given.
    pub value: String,
    /// Why it is questionable.
    pub reason: &'static str,
}

impl fmt::Display for SettingWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.field, self.value, self.reason)
    }
}

/// What a setting is called and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingInfo {
    /// The setting: the builder method of [`StoreOptions`] has this name, durations without their unit.
    pub field: &'static str,
    /// The environment variable that sets it.
    pub variable: &'static str,
    /// What is allowed.
    pub range: Range,
}

/// The values that a setting may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Range {
    /// A whole number between two, both included.
    Number {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// What the number is a multiple of.
        multiple_of: u64,
    },
    /// One of these whole numbers.
    Numbers(&'static [u64]),
    /// One of these words.
    Words(&'static str),
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { min, max, multiple_of: 1 } => write!(f, "{min} to {max}"),
            Self::Number { min, max, multiple_of } => {
                write!(f, "{min} to {max} in multiples of {multiple_of}")
            }
            Self::Numbers(numbers) => {
                for (place, number) in numbers.iter().enumerate() {
                    let is_last = place.saturating_add(1) == numbers.len();
                    let between = match (place, is_last) {
                        (0, _) => "",
                        (_, false) => ", ",
                        (_, true) => " or ",
                    };
                    write!(f, "{between}{number}")?;
                }
                Ok(())
            }
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// How a setting is read from and written to the options.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    /// A number; `None` when it is not set.
    Number(fn(&StoreOptions) -> Option<u64>, fn(&mut StoreOptions, u64)),
    /// Words; false when they are not understood.
    Words(fn(&mut StoreOptions, &str) -> bool),
}

/// A setting: what it is called, what it may be, how it is reached.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) info: SettingInfo,
    pub(crate) access: Reach,
}

const fn number(
    field: &'static str,
    variable: &'static str,
    bounds: (u64, u64, u64),
    get: fn(&StoreOptions) -> Option<u64>,
    set: fn(&mut StoreOptions, u64),
) -> Setting {
    let (min, max, multiple_of) = bounds;
    let range = Range::Number { min, max, multiple_of };
    Setting { info: SettingInfo { field, variable, range }, access: Reach::Number(get, set) }
}

const fn one_of(
    field: &'static str,
    variable: &'static str,
    allowed: &'static [u64],
    get: fn(&StoreOptions) -> Option<u64>,
    set: fn(&mut StoreOptions, u64),
) -> Setting {
    let range = Range::Numbers(allowed);
    Setting { info: SettingInfo { field, variable, range }, access: Reach::Number(get, set) }
}

const fn words(
    field: &'static str,
    variable: &'static str,
    allowed: &'static str,
    set: fn(&mut StoreOptions, &str) -> bool,
) -> Setting {
    let range = Range::Words(allowed);
    Setting { info: SettingInfo { field, variable, range }, access: Reach::Words(set) }
}

/// Puts a parsed word where it belongs; false when there is none.
fn put<T>(place: &mut T, parsed: Option<T>) -> bool {
    parsed.map(|parsed| *place = parsed).is_some()
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "on" => Some(true),
        "false" | "0" | "off" => Some(false),
        _ => None,
    }
}

fn parse_durability(text: &str) -> Option<Durability> {
    match text {
        "full" => Some(Durability::Full),
        "normal" => Some(Durability::Normal),
        "relaxed" => Some(Durability::RELAXED),
        "none" => Some(Durability::None),
        other => {
            let (commits, delay) = other.strip_prefix("relaxed:")?.split_once(':')?;
            let max_delay = Duration::from_millis(delay.parse().ok()?);
            Some(Durability::Relaxed { max_commits: commits.parse().ok()?, max_delay })
        }
    }
}

const THIRTY_DAYS_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Every setting, in the order in which errors are found.
pub(crate) const SETTINGS: [Setting; 27] = [
    words("existence", "KEEPSTONE_EXISTENCE", "create, must-exist or create-if-missing", |options, text| {
        put(
            &mut options.existence,
            match text {
                "create" => Some(Existence::Create),
                "must-exist" => Some(Existence::MustExist),
                "create-if-missing" => Some(Existence::CreateIfMissing),
                _ => None,
            },
        )
    }),
    words("access", "KEEPSTONE_ACCESS", "write, read-only or write-if-free", |options, text| {
        put(
            &mut options.access,
            match text {
                "write" => Some(Access::Write),
                "read-only" => Some(Access::ReadOnly),
                "write-if-free" => Some(Access::WriteIfFree),
                _ => None,
            },
        )
    }),
    words(
        "durability",
        "KEEPSTONE_DURABILITY",
        "full, normal, none, relaxed or relaxed:COMMITS:MILLISECONDS with both at least 1",
        |options, text| put(&mut options.durability, parse_durability(text).map(Some)),
    ),
    words("recovery", "KEEPSTONE_RECOVERY", "strict, prefix or read-only-at-checkpoint", |options, text| {
        put(
            &mut options.recovery,
            match text {
                "strict" => Some(Recovery::Strict),
                "prefix" => Some(Recovery::Prefix),
                "read-only-at-checkpoint" => Some(Recovery::ReadOnlyAtCheckpoint),
                _ => None,
            },
        )
    }),
    words("retention", "KEEPSTONE_RETENTION", RETENTION_WORDS, |options, text| {
        put(&mut options.retention, text.parse().ok().map(Some))
    }),
    words("history", "KEEPSTONE_HISTORY", "chains or whole", |options, text| {
        put(
            &mut options.history,
            match text {
                "chains" => Some(HistoryCoding::Chains),
                "whole" => Some(HistoryCoding::Whole),
                _ => None,
            },
        )
    }),
    words("parity", "KEEPSTONE_PARITY", "off or xor", |options, text| {
        put(
            &mut options.parity,
            match text {
                "off" => Some(Parity::Off),
                "xor" => Some(Parity::Xor),
                _ => None,
            },
        )
    }),
    one_of(
        "page_size",
        "KEEPSTONE_PAGE_SIZE",
        &[4_096, 8_192, 16_384],
        |options| Some(options.page_size),
        |options, value| options.page_size = value,
    ),
    number(
        "cache_bytes",
        "KEEPSTONE_CACHE_BYTES",
        (1 << 20, 1 << 40, 1),
        |options| Some(options.cache_bytes),
        |options, value| options.cache_bytes = value,
    ),
    number(
        "checkpoint_memory_bytes",
        "KEEPSTONE_CHECKPOINT_MEMORY_BYTES",
        (0, 1 << 40, 1),
        |options| Some(options.checkpoint_memory_bytes),
        |options, value| options.checkpoint_memory_bytes = value,
    ),
    number(
        "checkpoint_log_bytes",
        "KEEPSTONE_CHECKPOINT_LOG_BYTES",
        (0, 1 << 40, 1),
        |options| Some(options.checkpoint_log_bytes),
        |options, value| options.checkpoint_log_bytes = value,
    ),
    number(
        "checkpoint_age_ms",
        "KEEPSTONE_CHECKPOINT_AGE_MS",
        (0, THIRTY_DAYS_MS, 1),
        |options| Some(options.checkpoint_age_ms),
        |options, value| options.checkpoint_age_ms = value,
    ),
    number(
        "checkpoint_idle_ms",
        "KEEPSTONE_CHECKPOINT_IDLE_MS",
        (0, THIRTY_DAYS_MS, 1),
        |options| Some(options.checkpoint_idle_ms),
        |options, value| options.checkpoint_idle_ms = value,
    ),
    number(
        "checkpoint_slice_keys",
        "KEEPSTONE_CHECKPOINT_SLICE_KEYS",
        (1, 1 << 20, 1),
        |options| Some(options.checkpoint_slice_keys),
        |options, value| options.checkpoint_slice_keys = value,
    ),
    words("force_network", "KEEPSTONE_FORCE_NETWORK", "true or false", |options, text| {
        put(&mut options.force_network, parse_bool(text))
    }),
    words("histograms", "KEEPSTONE_HISTOGRAMS", "true or false", |options, text| {
        put(&mut options.histograms, parse_bool(text))
    }),
    number(
        "interval_ms",
        "KEEPSTONE_INTERVAL_MS",
        (1, 10_000, 1),
        |options| Some(options.interval_ms),
        |options, value| options.interval_ms = value,
    ),
    number(
        "memory_entries_max",
        "KEEPSTONE_MEMORY_ENTRIES_MAX",
        (1_000, 16 << 20, 1),
        |options| Some(options.memory_entries_max),
        |options, value| options.memory_entries_max = value,
    ),
    number(
        "memory_bytes_max",
        "KEEPSTONE_MEMORY_BYTES_MAX",
        (1 << 20, 16 << 30, 1),
        |options| Some(options.memory_bytes_max),
        |options, value| options.memory_bytes_max = value,
    ),
    number(
        "window_bytes_max",
        "KEEPSTONE_WINDOW_BYTES_MAX",
        (64 << 10, 4 << 30, 1),
        |options| Some(options.window_bytes_max),
        |options, value| options.window_bytes_max = value,
    ),
    number(
        "transaction_memory_bytes",
        "KEEPSTONE_TRANSACTION_MEMORY_BYTES",
        (64 << 10, 256 << 20, 1),
        |options| Some(options.transaction_memory_bytes),
        |options, value| options.transaction_memory_bytes = value,
    ),
    number(
        "embedding_dimension",
        "KEEPSTONE_EMBEDDING_DIMENSION",
        (1, 4_096, 1),
        |options| options.embedding_dimension,
        |options, value| options.embedding_dimension = Some(value),
    ),
    number(
        "fingerprint_bits",
        "KEEPSTONE_FINGERPRINT_BITS",
        (64, 1 << 20, 64),
        |options| options.fingerprint_bits,
        |options, value| options.fingerprint_bits = Some(value),
    ),
    number(
        "shards",
        "KEEPSTONE_SHARDS",
        (4, 16, 1),
        |options| options.shards,
        |options, value| options.shards = Some(value),
    ),
    number(
        "events_max",
        "KEEPSTONE_EVENTS_MAX",
        (16, 1 << 20, 1),
        |options| Some(options.events_max),
        |options, value| options.events_max = value,
    ),
    number(
        "alert_commit_ms_low",
        "KEEPSTONE_ALERT_COMMIT_MS_LOW",
        (1, 60_000, 1),
        |options| Some(options.alert_commit_ms.0),
        |options, value| options.alert_commit_ms.0 = value,
    ),
    number(
        "alert_commit_ms_high",
        "KEEPSTONE_ALERT_COMMIT_MS_HIGH",
        (1, 60_000, 1),
        |options| Some(options.alert_commit_ms.1),
        |options, value| options.alert_commit_ms.1 = value,
    ),
];

impl Setting {
    fn error(&self, value: impl Into<String>) -> SettingError {
        let SettingInfo { field, variable, range } = self.info;
        SettingError { field, variable, value: value.into(), range: range.to_string() }
    }

    /// Whether what the options hold is in range.
    fn check(&self, options: &StoreOptions) -> Result<(), SettingError> {
        let Reach::Number(get, _) = self.access else {
            return Ok(());
        };
        let is_allowed = |value: u64| match self.info.range {
            Range::Number { min, max, multiple_of } => {
                (min..=max).contains(&value) && value.is_multiple_of(multiple_of)
            }
            Range::Numbers(numbers) => numbers.contains(&value),
            Range::Words(_) => true,
        };
        match get(options).filter(|value| !is_allowed(*value)) {
            Some(value) => Err(self.error(value.to_string())),
            None => Ok(()),
        }
    }

    /// Takes the value of an environment variable.
    pub(crate) fn parse(&self, options: &mut StoreOptions, text: &str) -> Result<(), SettingError> {
        let understood = match self.access {
            Reach::Number(_, set) => text.parse().map(|value| set(options, value)).is_ok(),
            Reach::Words(set) => set(options, text),
        };
        let shown = || format!("{:?}", text.chars().take(64).collect::<String>());
        if understood { self.check(options) } else { Err(self.error(shown())) }
    }
}

/// Whether all settings are in range and fit each other.
pub(crate) fn check_all(options: &StoreOptions) -> Result<(), SettingError> {
    SETTINGS.iter().try_for_each(|setting| setting.check(options))?;
    if let Some(Durability::Relaxed { max_commits, max_delay }) = options.durability
        && (max_commits == 0 || max_delay.is_zero())
    {
        return Err(SettingError {
            field: "durability",
            variable: "KEEPSTONE_DURABILITY",
            value: format!("relaxed:{max_commits}:{}", max_delay.as_millis()),
            range: "relaxed with at least 1 commit and 1 millisecond".to_owned(),
        });
    }
    if let Some(retention) = options.retention.filter(|retention| !retention.is_in_range()) {
        return Err(SettingError {
            field: "retention",
            variable: "KEEPSTONE_RETENTION",
            value: retention.to_string(),
            range: RETENTION_WORDS.to_owned(),
        });
    }
    let (low, high) = options.alert_commit_ms;
    if low >= high {
        return Err(SettingError {
            field: "alert_commit_ms_low",
            variable: "KEEPSTONE_ALERT_COMMIT_MS_LOW",
            value: low.to_string(),
            range: format!("less than alert_commit_ms_high, which is {high}"),
        });
    }
    Ok(())
}

/// What is legal and questionable.
pub(crate) fn warnings(options: &StoreOptions) -> Vec<SettingWarning> {
    let mut found = options.unknown_variables.clone();
    let mut warn = |questionable: bool, field: &str, value: String, reason| {
        if questionable {
            found.push(SettingWarning { field: field.to_owned(), value, reason });
        }
    };
    let durability = options.durability;
    warn(
        matches!(durability, Some(Durability::Relaxed { .. })),
        "durability",
        format!("{:?}", durability.unwrap_or_default()),
        "a crash removes the newest commits, within these bounds, although they were acknowledged",
    );
    warn(
        durability == Some(Durability::None),
        "durability",
        "None".to_owned(),
        "a crash removes any number of the newest commits although they were acknowledged",
    );
    warn(
        options.window_bytes_max < 1 << 20,
        "window_bytes_max",
        options.window_bytes_max.to_string(),
        "below 1 MiB, transactions that run beside many others fail with ConflictWindowExceeded",
    );
    warn_of_checkpoints(options, &mut warn);
    warn(
        options.force_network,
        "force_network",
        "true".to_owned(),
        "locks and syncs of network file systems cannot be trusted",
    );
    if let Some(shards) = options.shards {
        let reason = "there is one shard until sharding arrives; the number has no effect yet";
        warn(true, "shards", shards.to_string(), reason);
    }
    found
}

/// What is questionable about checkpoints and what they keep.
fn warn_of_checkpoints(options: &StoreOptions, warn: &mut impl FnMut(bool, &str, String, &'static str)) {
    warn(
        options.retention == Some(Retention::None),
        "retention",
        Retention::None.to_string(),
        "older versions go with the next checkpoints unless they have a name: nothing that is changed by mistake comes back",
    );
    let memory = options.checkpoint_memory_bytes;
    warn(
        memory == 0,
        "checkpoint_memory_bytes",
        memory.to_string(),
        "what is written stays in memory until another trigger, or somebody, makes a checkpoint",
    );
    warn(
        (1..1 << 20).contains(&memory),
        "checkpoint_memory_bytes",
        memory.to_string(),
        "below 1 MiB, checkpoints follow each other without a pause and commits are slowed",
    );
    let triggers =
        [memory, options.checkpoint_log_bytes, options.checkpoint_age_ms, options.checkpoint_idle_ms];
    warn(
        triggers.iter().all(|trigger| *trigger == 0),
        "checkpoint_log_bytes",
        "0".to_owned(),
        "with every trigger off, the log and memory grow until somebody makes a checkpoint",
    );
}
