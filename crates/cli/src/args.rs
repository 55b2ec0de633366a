//! The command tree: what can be typed, with the help that `--help` prints.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use keepstone::Retention;

/// The collection that is meant where none is named.
pub(crate) const COLLECTION_DEFAULT: &str = "default";

const AFTER_HELP: &str = "\
AT is a version (17, or 2:17 on timeline 2), a name given with `tag`, or an RFC 3339 time (2026-03-01T12:00:00Z).
Exit codes: 0 ok, 1 error, 2 usage, 3 damage found, 4 not found, 5 locked by another process.
Settings of the store come from the environment as KEEPSTONE_* (KEEPSTONE_DURABILITY=full); KEEPSTONE_STORE is -s.";

/// Keepstone: a store for what programs know, with every version of it.
#[derive(Debug, Parser)]
#[command(name = "keepstone", version, about, propagate_version = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// The folder of the store
    #[arg(short = 's', long = "store", env = "KEEPSTONE_STORE", global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,

    /// The collection [default: default; `export` and `diff`: all]
    #[arg(short = 'C', long = "collection", global = true, value_name = "COLLECTION")]
    pub(crate) collection: Option<String>,

    /// Read from this branch, or write to it
    #[arg(long = "branch", global = true, value_name = "BRANCH")]
    pub(crate) branch: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the main job on real input, in a temporary store that is removed at the end
    Demo(DemoArgs),
    #[command(flatten)]
    OnStore(StoreCommand),
}

/// What can be asked of a store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Create a store
    Init(InitArgs),
    /// Read nodes and links from JSON lines, in durable commits; creates the store if there is none
    Import(ImportArgs),
    /// Write everything as JSON lines: equal content, equal bytes
    Export(ReadAt),
    /// Print a node as a JSON line
    Get(KeyAt),
    /// Write the body of a node; creates the store if there is none
    Put(PutArgs),
    /// Delete a node, and its links both ways
    Delete(KeyOnly),
    /// Show what a node was, newest first
    History(HistoryArgs),
    /// Link one node to another
    Link(LinkArgs),
    /// Remove a link
    Unlink(UnlinkArgs),
    /// Show the links of a node
    Links(LinksArgs),
    /// List the commits, newest first
    Versions(VersionsArgs),
    /// Show which nodes differ between two versions
    Diff(DiffArgs),
    /// Give a version a name
    Tag(TagArgs),
    /// Make a new version with the content of an old one
    Rollback(RollbackArgs),
    /// What if: fork at a version, change, compare, merge or discard
    #[command(subcommand)]
    Branch(BranchCommand),
    /// Versions as files that can be copied away and restored elsewhere
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Make a store from a snapshot file; -s is where it shall be
    Restore(RestoreArgs),
    /// Read everything from disk and report what is damaged
    Check(CheckArgs),
    /// Show what the store holds and does, every counter
    Stats(JsonOnly),
    /// Look for pages that nothing leads to; only looks unless --apply is given
    Gc(GcArgs),
    /// Drop older versions that nothing keeps, and make the page file as short as its content
    Compact(JsonOnly),
    /// Fold the log into the page file now
    Checkpoint(JsonOnly),
    /// Read every page from the disk, hold it against its parity, and rebuild what is damaged
    Scrub(ScrubArgs),
}

impl StoreCommand {
    /// The command as it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Import(_) => "import",
            Self::Export(_) => "export",
            Self::Get(_) => "get",
            Self::Put(_) => "put",
            Self::Delete(_) => "delete",
            Self::History(_) => "history",
            Self::Link(_) => "link",
            Self::Unlink(_) => "unlink",
            Self::Links(_) => "links",
            Self::Versions(_) => "versions",
            Self::Diff(_) => "diff",
            Self::Tag(_) => "tag",
            Self::Rollback(_) => "rollback",
            Self::Branch(_) => "branch",
            Self::Snapshot(_) => "snapshot",
            Self::Restore(_) => "restore",
            Self::Check(_) => "check",
            Self::Stats(_) => "stats",
            Self::Gc(_) => "gc",
            Self::Compact(_) => "compact",
            Self::Checkpoint(_) => "checkpoint",
            Self::Scrub(_) => "scrub",
        }
    }

    /// Whether `-C` has a meaning for it.
    pub(crate) const fn takes_collection(&self) -> bool {
        match self {
            Self::Import(_)
            | Self::Export(_)
            | Self::Get(_)
            | Self::Put(_)
            | Self::Delete(_)
            | Self::History(_)
            | Self::Link(_)
            | Self::Unlink(_)
            | Self::Links(_)
            | Self::Diff(_)
            | Self::Branch(BranchCommand::Diff(_)) => true,
            Self::Init(_)
            | Self::Branch(_)
            | Self::Versions(_)
            | Self::Tag(_)
            | Self::Rollback(_)
            | Self::Snapshot(_)
            | Self::Restore(_)
            | Self::Check(_)
            | Self::Stats(_)
            | Self::Gc(_)
            | Self::Compact(_)
            | Self::Checkpoint(_)
            | Self::Scrub(_) => false,
        }
    }
}

impl StoreCommand {
    /// Whether `--branch` has a meaning for it.
    pub(crate) const fn takes_branch(&self) -> bool {
        matches!(
            self,
            Self::Export(_)
                | Self::Get(_)
                | Self::Put(_)
                | Self::Delete(_)
                | Self::Link(_)
                | Self::Unlink(_)
                | Self::Links(_)
        )
    }
}

/// What can be asked of branches.
#[derive(Debug, Subcommand)]
pub(crate) enum BranchCommand {
    /// List the branches
    List(JsonOnly),
    /// Fork a branch; what it is forked at is kept for as long as it is there
    Create(BranchCreateArgs),
    /// Show what a branch was forked at, and how much differs
    Show(BranchArgs),
    /// Show which nodes a branch has otherwise than what it was forked at
    Diff(BranchDiffArgs),
    /// Bring what a branch changed into the store, all of it or nothing; the branch stays
    Merge(BranchMergeArgs),
    /// Take a branch away, with all that was only there
    Discard(BranchName),
}

#[derive(Debug, Args)]
pub(crate) struct BranchCreateArgs {
    pub(crate) name: String,
    /// The version, name or time to fork at [default: the newest version]
    pub(crate) at: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BranchName {
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct BranchArgs {
    pub(crate) name: String,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BranchDiffArgs {
    pub(crate) name: String,
    /// Show what the branch and the store both changed since the fork, and not alike
    #[arg(long)]
    pub(crate) conflicts: bool,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BranchMergeArgs {
    pub(crate) name: String,
    /// What becomes of what both sides changed
    #[arg(long, value_enum, default_value_t = StrategyName::Reject)]
    pub(crate) strategy: StrategyName,
    /// Take the branch away afterwards
    #[arg(long)]
    pub(crate) discard: bool,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// The strategies of a merge by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StrategyName {
    /// Nothing is merged, and what is in conflict is listed
    Reject,
    /// It becomes as the branch has it
    Last,
    /// It stays as the store has it
    First,
    /// Bits of fingerprints that only one side changed are merged; all else is a conflict
    Xor,
}

/// What can be asked of snapshot files.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Write a version of the store into a folder, whole or what changed since another snapshot
    Create(SnapshotCreateArgs),
    /// What needs no store.
    #[command(flatten)]
    OfFolder(SnapshotFolderCommand),
}

/// What can be asked of a folder of snapshot files.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotFolderCommand {
    /// List the snapshots of a folder
    List(SnapshotDir),
    /// Read snapshots and all that they hang on, and report what is damaged or missing
    Verify(SnapshotVerifyArgs),
    /// Make what changed since another snapshot a full one; what hangs on it stays valid
    Consolidate(SnapshotNamed),
    /// Remove all snapshots but those that are named; what hangs on one that goes is made full first
    Prune(SnapshotPruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotCreateArgs {
    /// The folder of snapshots; made if there is none
    #[arg(value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// The snapshot's name
    pub(crate) name: String,
    /// The version, name or time to write [default: the newest version]
    pub(crate) at: Option<String>,
    /// Write only what changed since this snapshot
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) parent: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotDir {
    /// The folder of snapshots
    #[arg(value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotVerifyArgs {
    /// The folder of snapshots
    #[arg(value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// The snapshot [default: all]
    pub(crate) name: Option<String>,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotNamed {
    /// The folder of snapshots
    #[arg(value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// The snapshot
    pub(crate) name: String,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotPruneArgs {
    /// The folder of snapshots
    #[arg(value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// A snapshot that stays; may be given again and again
    #[arg(long, value_name = "SNAPSHOT", required = true)]
    pub(crate) keep: Vec<String>,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The folder of snapshots
    #[arg(value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// The snapshot [default: that of the newest version]
    pub(crate) name: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End with one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Bytes of a page: 4096, 8192 or 16384 [default: 8192]
    #[arg(long, value_name = "N", value_parser = page_size)]
    pub(crate) page_size: Option<u64>,
    /// What is on stable storage when a commit returns
    #[arg(long, value_enum)]
    pub(crate) durability: Option<DurabilityName>,
    /// How long versions that are not the newest are kept: a time as 7d, 12h, 30m or 45s, forever, or none [default: 7d]
    #[arg(long, value_name = "DURATION|forever|none")]
    pub(crate) retention: Option<Retention>,
    /// Whether damaged pages can be rebuilt, at 1/32 more space [default: xor]
    #[arg(long, value_enum)]
    pub(crate) parity: Option<ParityName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ParityName {
    /// Damage is found and reported
    Off,
    /// One damaged page of each group of 33 is rebuilt
    Xor,
}

fn page_size(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes @ (4_096 | 8_192 | 16_384)) => Ok(bytes),
        _ => Err("expected 4096, 8192 or 16384".to_owned()),
    }
}

/// The durability levels by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityName {
    /// The data and the file's metadata
    Full,
    /// The data
    Normal,
    /// A crash may take the last moments
    Relaxed,
    /// A crash may take anything since the store was opened
    None,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file to read; - is standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// What the file holds
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub(crate) format: Format,
    /// Lines in one commit
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch: u32,
    /// Threads that commit; the lines of one key keep their order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) writers: u16,
    /// Print `ack VERSION LAST_KEY` after each durable commit
    #[arg(long)]
    pub(crate) ack: bool,
}

/// What an imported file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object per line, as `export` writes them
    Jsonl,
    /// What `cargo metadata --format-version 1` prints
    CargoMetadata,
}

#[derive(Debug, Args)]
pub(crate) struct ReadAt {
    /// Read as of this version, name or time
    #[arg(long, value_name = "AT")]
    pub(crate) at: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyAt {
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) read: ReadAt,
}

#[derive(Debug, Args)]
pub(crate) struct KeyOnly {
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    pub(crate) key: String,
    /// The body, any JSON; - reads it from standard input; without it the node is made and its body left alone
    #[arg(value_name = "JSON|-", allow_hyphen_values = true)]
    pub(crate) json: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    pub(crate) key: String,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// The node the link starts from
    pub(crate) key: String,
    /// What the link says, such as depends-on
    pub(crate) verb: String,
    /// The node it leads to; need not be written yet
    #[arg(value_name = "KEY")]
    pub(crate) to: String,
    #[arg(long, value_name = "W", default_value_t = 1.0, allow_negative_numbers = true, value_parser = finite)]
    pub(crate) weight: f64,
}

fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err("expected a finite number".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct UnlinkArgs {
    pub(crate) key: String,
    pub(crate) verb: String,
    #[arg(value_name = "KEY")]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct LinksArgs {
    pub(crate) key: String,
    /// Only links that lead to the node
    #[arg(long = "in", conflicts_with = "outgoing")]
    pub(crate) incoming: bool,
    /// Only links that start from the node
    #[arg(long = "out")]
    pub(crate) outgoing: bool,
    /// Only links with this verb
    #[arg(long, value_name = "V")]
    pub(crate) verb: Option<String>,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) read: ReadAt,
}

#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// At most this many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[arg(value_name = "AT")]
    pub(crate) from: String,
    #[arg(value_name = "AT")]
    pub(crate) to: String,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    pub(crate) name: String,
    /// The version to name [default: the newest]
    pub(crate) at: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The version, name or time whose content shall hold again
    pub(crate) at: String,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Repair what can be repaired: the free-space map is made anew, and log segments that cannot be healed are moved whole
    /// to `quarantine/`, and the store goes on without them
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Make the free-space map anew if anything is found
    #[arg(long)]
    pub(crate) apply: bool,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    /// Only look, and repair nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Megabytes to read in a second at most, so that others can read too; 0 for no limit
    #[arg(long, value_name = "MB", default_value_t = 0)]
    pub(crate) rate: u64,
    /// Keep parity of the pages from now on, or no longer, before anything is read
    #[arg(long, value_enum)]
    pub(crate) parity: Option<ParityName>,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JsonOnly {
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn every_line_of_the_contract_is_understood() {
        let lines = [
            "keepstone demo",
            "keepstone demo --json",
            "keepstone -s DIR init --page-size 4096 --durability full --retention 7d",
            "keepstone -s DIR import FILE --format cargo-metadata -C c --batch 1 --writers 4 --ack",
            "keepstone -s DIR import -",
            "keepstone -s DIR export --at 17",
            "keepstone -s DIR get k --at 2:17",
            "keepstone -s DIR put k {}",
            "keepstone -s DIR put k -1",
            "keepstone -s DIR put k -",
            "keepstone -s DIR put k",
            "keepstone -s DIR delete k",
            "keepstone -s DIR history k",
            "keepstone -s DIR link a knows b --weight -0.5",
            "keepstone -s DIR unlink a knows b",
            "keepstone -s DIR links a --in --verb knows --at x",
            "keepstone -s DIR -C people links a --out",
            "keepstone -s DIR versions --limit 3",
            "keepstone -s DIR diff 1 2",
            "keepstone -s DIR snapshot create FOLDER monday",
            "keepstone -s DIR snapshot create FOLDER tuesday 17 --parent monday --json",
            "keepstone snapshot list FOLDER --json",
            "keepstone snapshot verify FOLDER",
            "keepstone snapshot verify FOLDER monday --json",
            "keepstone snapshot consolidate FOLDER monday",
            "keepstone snapshot prune FOLDER --keep monday --keep tuesday",
            "keepstone -s DIR restore FOLDER",
            "keepstone -s DIR restore FOLDER monday --json",
            "keepstone -s DIR tag name",
            "keepstone -s DIR tag name 3",
            "keepstone -s DIR rollback 3",
            "keepstone -s DIR check --repair",
            "keepstone -s DIR stats --json",
            "keepstone -s DIR init --retention forever",
            "keepstone -s DIR init --retention none --page-size 16384",
            "keepstone -s DIR gc",
            "keepstone -s DIR gc --apply --json",
            "keepstone -s DIR compact --json",
            "keepstone -s DIR checkpoint --json",
            "keepstone export -s DIR",
            "keepstone -s DIR branch list --json",
            "keepstone -s DIR branch create what-if",
            "keepstone -s DIR branch create what-if 17",
            "keepstone -s DIR branch show what-if --json",
            "keepstone -s DIR branch diff what-if -C people --conflicts --json",
            "keepstone -s DIR branch merge what-if --strategy last --discard",
            "keepstone -s DIR branch discard what-if",
            "keepstone -s DIR --branch what-if put k 1",
            "keepstone -s DIR get k --branch what-if --at 17",
        ];
        for line in lines {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let lines = [
            "keepstone",
            "keepstone frobnicate",
            "keepstone -s DIR import f --batch 0",
            "keepstone -s DIR import f --writers 0",
            "keepstone -s DIR link a b",
            "keepstone -s DIR link a b c --weight inf",
            "keepstone -s DIR links a --in --out",
            "keepstone -s DIR init --durability most",
            "keepstone -s DIR init --page-size 1024",
            "keepstone -s DIR init --page-size x",
            "keepstone -s DIR init --retention 7w",
            "keepstone -s DIR init --retention 0s",
            "keepstone -s DIR compact --apply",
            "keepstone -s DIR versions --limit -1",
            "keepstone -s DIR branch",
            "keepstone -s DIR branch create",
            "keepstone -s DIR branch merge b --strategy most",
        ];
        for line in lines {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
