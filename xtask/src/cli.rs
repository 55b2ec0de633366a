//! The commands and their options.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::Error;
use crate::metadata::Workspace;
use crate::{commands, crash, deny, fuzz, isolation, release, test_lanes, tidy, vendor};

/// The chores of the Keepstone workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a lane of checks; the default lane is everything that a change must pass.
    ///
    /// The default lane runs, in this order: fmt, tidy, lint, targets, deny, docs, tests with doctests, models, demo. It
    /// stops at the first step that fails, ends with the time of each step, and its last line is `N passed, N failed`,
    /// summed over all test binaries and doctests.
    Test(TestArgs),
    /// Run clippy with warnings denied, with and without the checking features, and check the other targets.
    Lint,
    /// Hold the rules of the house that no compiler knows: layers, sizes, locks, links, dependencies.
    ///
    /// Every finding is printed as `path:line: rule: what, expected, found`, all at once.
    Tidy,
    /// Check licences, bans, sources and (where their database is reachable) advisories with cargo-deny.
    ///
    /// Installs cargo-deny below the target folder when it is missing.
    Deny,
    /// Run the demo of the `keepstone` command; what follows `--` is passed on to it.
    Demo(PassedOn),
    /// Sweep simulated power losses over log, page file and store, and hold wrong variants of them against the sweep.
    ///
    /// The last line is JSON: workloads, images, lost, invented, unopenable, orphans, wrong_reads, wrong_parity, unhealed,
    /// double_crash_images, canary_caught, seconds. A failure prints its seed and the shortest program that still fails.
    Crash(CrashArgs),
    /// Run the side-by-side benchmarks.
    Bench(BenchArgs),
    /// Kill a writing process over and over, and hold what it acknowledged against what is there afterwards.
    Kill9(Kill9Args),
    /// Run the fuzz targets under libFuzzer and AddressSanitizer, on the nightly toolchain.
    Fuzz(FuzzArgs),
    /// Run the histories of many threads that an independent checker judges, in the size asked for.
    ///
    /// The last line is JSON: histories, transactions, committed, conflicts, crashes, anomalies, planted_caught, seconds,
    /// seed.
    Isolation(IsolationArgs),
    /// Fill `vendor/` with the source of every dependency, for builds without a network.
    Vendor,
    /// Package every published crate in the order in which they have to be published.
    Release(ReleaseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Which lane to run.
    #[arg(long, value_enum, default_value_t = Lane::Default)]
    pub(crate) lane: Lane,
    /// Run the steps after a failed one too.
    #[arg(long)]
    pub(crate) keep_going: bool,
}

/// A set of checks that is run as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lane {
    /// What every change must pass.
    Default,
    /// The benchmarks with the other storage engines built in.
    Peers,
    /// The benchmarks beside Lance, which need its several hundred dependencies.
    Lance,
    /// AddressSanitizer over the crates that have `unsafe` code, on the nightly toolchain.
    Sanitize,
    /// The concurrency models and clippy over them; `KEEPSTONE_MODEL_SCHEDULES` says how many schedules each runs.
    Models,
    /// Every fuzz target under libFuzzer and AddressSanitizer for a minute, on the nightly toolchain.
    Fuzz,
}

#[derive(Debug, Args)]
struct PassedOn {
    /// Arguments for the command.
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Keep the results under this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) save: Option<String>,
    /// Compare with the results kept under this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) baseline: Option<String>,
    /// The benchmarks that take minutes and gigabytes, and only these.
    #[arg(long)]
    pub(crate) long: bool,
    /// Only benchmarks whose name contains this.
    pub(crate) filter: Option<String>,
}

#[derive(Debug, Args)]
struct Kill9Args {
    /// How often the writer is killed.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CrashArgs {
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many seeds each sweep takes, one program each.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
    /// Print nothing but the JSON line, unless something fails.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// The target; all of them when none is named.
    pub(crate) target: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct IsolationArgs {
    /// How many transactions run at the strictest level; the others take an eighth of it each.
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub(crate) transactions: u64,
    /// Gives other programs.
    #[arg(long, value_name = "N", default_value_t = 5_381)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
struct ReleaseArgs {
    /// Package and verify, publish nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Cli {
    /// Runs the command, from the root of the workspace wherever it was called.
    pub(crate) fn run(self) -> Result<(), Error> {
        let workspace = Workspace::load()?;
        std::env::set_current_dir(&workspace.root)
            .map_err(|source| Error::io("enter", &workspace.root, source))?;
        match self.command {
            Command::Test(args) => test_lanes::run(&workspace, &args),
            Command::Lint => commands::lint(&workspace),
            Command::Tidy => commands::timed("tidy", || tidy::run(&workspace)),
            Command::Deny => commands::timed("deny", || deny::run(&workspace)),
            Command::Demo(passed_on) => commands::timed("demo", || commands::demo(&passed_on.args)),
            Command::Crash(args) => crash::run(&args),
            Command::Bench(args) => commands::timed("bench", || commands::bench(&workspace, &args)),
            Command::Kill9(args) => commands::timed("kill9", || commands::kill9(&workspace, args.rounds)),
            Command::Fuzz(args) => commands::timed("fuzz", || fuzz::run(&workspace, &args)),
            Command::Isolation(args) => isolation::run(&args),
            Command::Vendor => commands::timed("vendor", || vendor::run(&workspace)),
            Command::Release(args) => release::run(&workspace, args.dry_run),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed_and_each_has_help() {
        let command = Cli::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands() {
            assert!(subcommand.get_about().is_some(), "`{}` has no help", subcommand.get_name());
        }
    }

    #[test]
    fn options_reach_their_command() {
        let cli = Cli::try_parse_from(["xtask", "test", "--lane", "sanitize", "--keep-going"]).unwrap();
        assert!(matches!(cli.command, Command::Test(TestArgs { lane: Lane::Sanitize, keep_going: true })));
        let cli = Cli::try_parse_from(["xtask", "demo", "--", "--json"]).unwrap();
        assert!(matches!(cli.command, Command::Demo(PassedOn { args }) if args == ["--json"]));
        assert!(Cli::try_parse_from(["xtask", "test", "--lane", "nonsense"]).is_err());
    }
}
