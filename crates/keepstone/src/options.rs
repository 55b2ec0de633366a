//! How a store is opened: a builder whose defaults are safe, validated before anything is touched, and settable by
//! environment.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use keepstone_types::Clock;
use keepstone_vfs::Vfs;

use crate::error::OpenError;
use crate::settings::{self, SETTINGS, SettingError, SettingInfo, SettingWarning};
use crate::store::Store;
use crate::sync::Arc;

/// What `open` does when there is, or is not, a store in the folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existence {
    /// Opens the store, or makes one in an empty or missing folder.
    #[default]
    CreateIfMissing,
    /// Makes a store; an error when there is one.
    Create,
    /// Opens the store; an error when there is none.
    MustExist,
}

/// Whether a store is opened for writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// For reading and writing; an error when another holds the store for writing.
    #[default]
    Write,
    /// For reading only; nothing is written, not even repairs.
    ReadOnly,
    /// For writing when nobody else does, else for reading.
    WriteIfFree,
}

/// What is on stable storage when a commit returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The commit and all metadata of its files.
    Full,
    /// The commit.
    #[default]
    Normal,
    /// A crash may remove the newest commits, at most so many of them or so much time, although readers may have seen
    /// them.
    Relaxed {
        /// Commits that may be lost.
        max_commits: u32,
        /// The time after which a commit is on stable storage.
        max_delay: Duration,
    },
    /// A crash may remove any number of the newest commits, although readers may have seen them.
    None,
}

impl Durability {
    /// Relaxed with at most 1,000 commits or 100 milliseconds at stake.
    pub const RELAXED: Self = Self::Relaxed { max_commits: 1_000, max_delay: Duration::from_millis(100) };
}

/// As the setting is written: `full`, `normal`, `relaxed:COMMITS:MILLISECONDS`, `none`.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Normal => f.write_str("normal"),
            Self::Relaxed { max_commits, max_delay } => {
                write!(f, "relaxed:{max_commits}:{}", max_delay.as_millis())
            }
            Self::None => f.write_str("none"),
        }
    }
}

/// What opening does with damage that cannot be healed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// An error; nothing is cut.
    #[default]
    Strict,
    /// What is before the damage is kept, and the rest put aside.
    Prefix,
    /// Opens what the last checkpoint has, for reading only; the log is not looked at.
    ReadOnlyAtCheckpoint,
}

/// How long versions that are not the newest are kept. A version with a name, and one that a snapshot reads, stay as long
/// as the name or the snapshot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// For ever.
    Forever,
    /// For so long after a newer version took their place.
    For(Duration),
    /// Not at all.
    None,
}

impl Default for Retention {
    /// Seven days.
    fn default() -> Self {
        Self::For(Duration::from_secs(7 * 24 * 60 * 60))
    }
}

/// As the setting is written: `forever`, `none`, or the time in the largest unit that it is a multiple of: `7d`, `36h`,
/// `90m`, `45s`.
impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::None => f.write_str("none"),
            Self::For(time) => {
                let seconds = time.as_secs();
                let fits = |unit: &&(char, u64)| seconds.is_multiple_of(unit.1);
                let (name, unit) = TIME_UNITS.iter().find(fits).copied().unwrap_or(('s', 1));
                write!(f, "{}{name}", seconds.checked_div(unit).unwrap_or(seconds))
            }
        }
    }
}

/// How versions that are not the newest are kept. It may be another each time a store is opened: what is there says for itself
/// how it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryCoding {
    /// As what leads to them from the next newer version, where that is shorter, and whole every eighth time. The default: a
    /// fingerprint of which 4 % flips takes about a quarter of its bytes, an edited text less. Reading a version of 2 KB takes
    /// two to ten microseconds, where the newest takes half of one.
    #[default]
    Chains,
    /// As they were written: for values that are encrypted or compressed, or where older versions are read as often as the
    /// newest. Reading one takes two to three times as long as that, at any depth.
    Whole,
}

/// As the setting is written.
impl fmt::Display for HistoryCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chains => "chains",
            Self::Whole => "whole",
        })
    }
}

/// Whether what is damaged in the page file can be rebuilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parity {
    /// It cannot: it is found and reported.
    Off,
    /// One page of each group of 33 can: the XOR of 32 pages is kept in another one. The default.
    #[default]
    Xor,
}

/// As the setting is written.
impl fmt::Display for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Xor => "xor",
        })
    }
}

/// A text that says no retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", RETENTION_WORDS)]
pub struct ParseRetentionError;

/// What a retention is written as.
pub(crate) const RETENTION_WORDS: &str = "forever, none, or a time of 1s to 36500d as 7d, 12h, 30m or 45s";

/// Units of time with their seconds, the largest first.
const TIME_UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// A hundred years: what is kept longer is kept for ever.
const RETENTION_SECONDS_MAX: u64 = 36_500 * 86_400;

impl Retention {
    /// Whether a time is from a second to a hundred years.
    pub(crate) fn is_in_range(self) -> bool {
        match self {
            Self::For(time) => (1..=RETENTION_SECONDS_MAX).contains(&time.as_secs()),
            Self::Forever | Self::None => true,
        }
    }
}

impl std::str::FromStr for Retention {
    type Err = ParseRetentionError;

    fn from_str(text: &str) -> Result<Self, ParseRetentionError> {
        match text {
            "forever" => return Ok(Self::Forever),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let parse = |(name, unit): &(char, u64)| {
            let number = text.strip_suffix(*name)?;
            let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<u64>().ok().filter(|_| is_plain)?.checked_mul(*unit)
        };
        let seconds = TIME_UNITS.iter().find_map(parse).ok_or(ParseRetentionError)?;
        let found = Self::For(Duration::from_secs(seconds));
        if found.is_in_range() { Ok(found) } else { Err(ParseRetentionError) }
    }
}

/// How a store is opened.
///
/// Every setting can also be given by an environment variable, see [`StoreOptions::from_env`] and
/// [`StoreOptions::settings`].
///
/// ```
/// use keepstone::{Durability, StoreOptions};
///
/// let dir = tempfile::tempdir()?;
/// let store = StoreOptions::default().durability(Durability::Full).embedding_dimension(384).open(dir.path())?;
/// assert!(store.warnings().is_empty());
///
/// let error = StoreOptions::default().embedding_dimension(4_097).open(dir.path()).unwrap_err();
/// assert!(error.to_string().contains("embedding_dimension"), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open` is called"]
pub struct StoreOptions {
    pub(crate) existence: Existence,
    pub(crate) access: Access,
    /// `None` takes what the store was made with.
    pub(crate) durability: Option<Durability>,
    pub(crate) recovery: Recovery,
    /// `None` takes what the store was made with.
    pub(crate) retention: Option<Retention>,
    pub(crate) history: HistoryCoding,
    pub(crate) parity: Parity,
    pub(crate) page_size: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) checkpoint_memory_bytes: u64,
    pub(crate) checkpoint_log_bytes: u64,
    pub(crate) checkpoint_age_ms: u64,
    pub(crate) checkpoint_idle_ms: u64,
    pub(crate) checkpoint_slice_keys: u64,
    pub(crate) force_network: bool,
    pub(crate) histograms: bool,
    pub(crate) interval_ms: u64,
    pub(crate) memory_entries_max: u64,
    pub(crate) memory_bytes_max: u64,
    pub(crate) window_bytes_max: u64,
    pub(crate) transaction_memory_bytes: u64,
    pub(crate) embedding_dimension: Option<u64>,
    pub(crate) fingerprint_bits: Option<u64>,
    pub(crate) shards: Option<u64>,
    pub(crate) events_max: u64,
    /// Below the first an alert ends, above the second it begins.
    pub(crate) alert_commit_ms: (u64, u64),
    pub(crate) unknown_variables: Vec<SettingWarning>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            existence: Existence::default(),
            access: Access::default(),
            durability: None,
            recovery: Recovery::default(),
            retention: None,
            history: HistoryCoding::default(),
            parity: Parity::default(),
            page_size: 8_192,
            cache_bytes: 64 << 20,
            checkpoint_memory_bytes: 64 << 20,
            checkpoint_log_bytes: 256 << 20,
            checkpoint_age_ms: 300_000,
            checkpoint_idle_ms: 5_000,
            checkpoint_slice_keys: 8_192,
            force_network: false,
            histograms: true,
            interval_ms: 1_000,
            memory_entries_max: 100_000,
            memory_bytes_max: 64 << 20,
            window_bytes_max: 16 << 20,
            transaction_memory_bytes: 64 << 20,
            embedding_dimension: None,
            fingerprint_bits: None,
            shards: None,
            events_max: 1_024,
            alert_commit_ms: (500, 1_000),
            unknown_variables: Vec::new(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl StoreOptions {
    /// The safe defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The defaults, changed by the `KEEPSTONE_…` variables of the environment.
    ///
    /// # Errors
    /// The first variable that is out of range, by name.
    pub fn from_env() -> Result<Self, SettingError> {
        let variables = std::env::vars_os();
        Self::from_variables(
            variables.map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            }),
        )
    }

    /// As [`from_env`](StoreOptions::from_env), from variables given here. Names that do not begin with `KEEPSTONE_`
    /// are passed over; an unknown one that does is warned of, since it may be a slip of the pen.
    ///
    /// # Errors
    /// The first variable that is out of range, by name.
    ///
    /// ```
    /// use keepstone::StoreOptions;
    ///
    /// let variables = [("KEEPSTONE_INTERVAL_MS".to_string(), "0".to_string())];
    /// let error = StoreOptions::from_variables(variables).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "the setting interval_ms (KEEPSTONE_INTERVAL_MS) is 0; allowed is 1 to 10000"
    /// );
    /// ```
    pub fn from_variables(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingError> {
        let mut options = Self::default();
        for (name, value) in variables {
            if !name.starts_with("KEEPSTONE_") {
                continue;
            }
            match SETTINGS.iter().find(|setting| setting.info.variable == name) {
                Some(setting) => setting.parse(&mut options, &value)?,
                None => options.unknown_variables.push(SettingWarning {
                    field: name,
                    value,
                    reason: "no setting of the store has this name; it is not used",
                }),
            }
        }
        Ok(options)
    }

    /// Every setting with its environment variable and range.
    pub fn settings() -> impl Iterator<Item = SettingInfo> {
        SETTINGS.iter().map(|setting| setting.info)
    }

    /// Whether all settings are in range; `open` asks the same. Returns what is legal and questionable.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<Vec<SettingWarning>, SettingError> {
        settings::check_all(self)?;
        Ok(settings::warnings(self))
    }

    /// What to do when there is, or is not, a store.
    pub fn existence(self, existence: Existence) -> Self {
        Self { existence, ..self }
    }

    /// Reading and writing, or reading only.
    pub fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// What is on stable storage when a commit returns; by default what the store was made with, and `Normal` for a new
    /// one. One commit may ask for more, see [`TxnOptions`](crate::TxnOptions).
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    /// What to do with damage that cannot be healed.
    pub fn recovery(self, recovery: Recovery) -> Self {
        Self { recovery, ..self }
    }

    /// How long versions that are not the newest are kept: a second to a hundred years, for ever, or not at all. By default
    /// what the store was made with, and seven days for a new one.
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention: Some(retention), ..self }
    }

    /// How versions that are not the newest are kept from now on: [`HistoryCoding::Chains`] unless said otherwise.
    pub fn history(self, history: HistoryCoding) -> Self {
        Self { history, ..self }
    }

    /// Whether a new store keeps parity of its pages: [`Parity::Xor`] unless said otherwise. A store that is there keeps what it
    /// was made with, until [`Store::set_parity`] says otherwise.
    pub fn parity(self, parity: Parity) -> Self {
        Self { parity, ..self }
    }

    /// Bytes of a page of a new store: 4,096, 8,192 (the default) or 16,384. A store that is there keeps what it was made
    /// with.
    pub fn page_size(self, page_size: u64) -> Self {
        Self { page_size, ..self }
    }

    /// Bytes of pages that are kept in memory: 1 MiB to 1 TiB, by default 64 MiB.
    pub fn cache_bytes(self, cache_bytes: u64) -> Self {
        Self { cache_bytes, ..self }
    }

    /// Bytes of row versions in memory that make a checkpoint due: up to 1 TiB, by default 64 MiB; 0 turns the trigger
    /// off. As much again may be in memory while they are folded, and commits are slowed as that fills.
    pub fn checkpoint_memory_bytes(self, checkpoint_memory_bytes: u64) -> Self {
        Self { checkpoint_memory_bytes, ..self }
    }

    /// Bytes of log segments that make a checkpoint due: up to 1 TiB, by default 256 MiB; 0 turns the trigger off.
    pub fn checkpoint_log_bytes(self, checkpoint_log_bytes: u64) -> Self {
        Self { checkpoint_log_bytes, ..self }
    }

    /// The age of the oldest commit that is not folded at which a checkpoint is due: up to 30 days, by default five
    /// minutes; zero turns the trigger off. A handful of rows is never worth a checkpoint by age.
    pub fn checkpoint_age(self, age: Duration) -> Self {
        Self { checkpoint_age_ms: millis(age), ..self }
    }

    /// How long nobody must have committed for a checkpoint to be due: up to 30 days, by default five seconds; zero turns
    /// the trigger off. A handful of rows is never worth a checkpoint by idleness.
    pub fn checkpoint_idle(self, idle: Duration) -> Self {
        Self { checkpoint_idle_ms: millis(idle), ..self }
    }

    /// Keys that are folded in one go: 1 to 1,048,576, by default 8,192. It bounds what is written between two points at
    /// which a checkpoint can be stopped.
    pub fn checkpoint_slice_keys(self, checkpoint_slice_keys: u64) -> Self {
        Self { checkpoint_slice_keys, ..self }
    }

    /// Opens also on a network file system, where locks and syncs cannot be trusted.
    pub fn force_network(self, force_network: bool) -> Self {
        Self { force_network, ..self }
    }

    /// Whether the latency of every operation is measured for [`Store::stats`]; on by default.
    pub fn histograms(self, histograms: bool) -> Self {
        Self { histograms, ..self }
    }

    /// How often a [`Metrics`](crate::Event::Metrics) event is made at most: 1 ms to 10 s, 1 s by default.
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval_ms: millis(interval), ..self }
    }

    /// Commits that may wait to be written: at least 1,000, by default 100,000. A full queue makes a commit wait and
    /// then fail with [`CommitError::Full`](crate::CommitError::Full).
    pub fn memory_entries_max(self, memory_entries_max: u64) -> Self {
        Self { memory_entries_max, ..self }
    }

    /// Bytes of the commits that may wait to be written: 1 MiB to 16 GiB, by default 64 MiB.
    pub fn memory_bytes_max(self, memory_bytes_max: u64) -> Self {
        Self { memory_bytes_max, ..self }
    }

    /// Bytes of recent commits remembered for finding conflicts: 64 KiB to 4 GiB, by default 16 MiB.
    pub fn window_bytes_max(self, window_bytes_max: u64) -> Self {
        Self { window_bytes_max, ..self }
    }

    /// Bytes of writes that a transaction holds in memory: 64 KiB to 256 MiB, by default 64 MiB. A larger one goes to files
    /// beside the store and is one commit all the same.
    pub fn transaction_memory_bytes(self, transaction_memory_bytes: u64) -> Self {
        Self { transaction_memory_bytes, ..self }
    }

    /// The dimension of embeddings in new collections that say none: 1 to 4,096. By default the first embedding of a
    /// collection fixes it.
    pub fn embedding_dimension(self, embedding_dimension: u64) -> Self {
        Self { embedding_dimension: Some(embedding_dimension), ..self }
    }

    /// The bits of fingerprints in new collections that say none: a multiple of 64 up to 1,048,576. By default the
    /// first fingerprint of a collection fixes it.
    pub fn fingerprint_bits(self, fingerprint_bits: u64) -> Self {
        Self { fingerprint_bits: Some(fingerprint_bits), ..self }
    }

    /// The number of shards, 4 to 16. It is checked and has no effect until sharding arrives; a warning says so.
    pub fn shards(self, shards: u64) -> Self {
        Self { shards: Some(shards), ..self }
    }

    /// Events that a subscription holds before it drops the newest: 16 to 1,048,576, by default 1,024.
    pub fn events_max(self, events_max: u64) -> Self {
        Self { events_max, ..self }
    }

    /// The commit latencies at which an [`Alert`](crate::Event::Alert) ends (`low`) and begins (`high`): whole
    /// milliseconds from 1 to 60,000 with `low` below `high`, by default 500 and 1,000.
    pub fn alert_commit(self, low: Duration, high: Duration) -> Self {
        Self { alert_commit_ms: (millis(low), millis(high)), ..self }
    }

    /// Opens the store in a folder of the operating system.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is repaired by guess.
    pub fn open(&self, dir: impl AsRef<Path>) -> Result<Store, OpenError> {
        let clock = Arc::new(keepstone_types::SystemClock::default());
        self.open_with(Arc::new(keepstone_vfs::OsVfs::new()), clock, dir)
    }

    /// Opens the store in a folder of any file system, with any clock: for tests and simulations.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(
        &self,
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: impl AsRef<Path>,
    ) -> Result<Store, OpenError> {
        Store::open_inner(vfs, clock, dir.as_ref(), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_reads_back_as_it_is_written() {
        for text in ["forever", "none", "7d", "36h", "90m", "45s", "1s", "36500d"] {
            assert_eq!(text.parse::<Retention>().unwrap().to_string(), text);
        }
        assert_eq!("120m".parse::<Retention>().unwrap().to_string(), "2h");
        assert_eq!(Retention::default().to_string(), "7d");
        for text in [
            "",
            "d",
            "7",
            "0s",
            "-1d",
            "+1d",
            "7 d",
            "7w",
            "36501d",
            "99999999999999999999d",
            "Forever",
            "1.5h",
        ] {
            let error = text.parse::<Retention>().unwrap_err();
            assert!(error.to_string().starts_with("expected forever, none"), "{text:?}: {error}");
        }
    }
}
