//! Side-by-side benchmarks: `cargo xtask bench [FILTER] [--save NAME] [--baseline NAME]`.
//!
//! Absolute times depend on the machine and the hour, so each benchmark runs its sides in turns within one process
//! and judges the median of the ratios, round by round. A threshold that is missed makes the run fail.
//!
//! What takes minutes or gigabytes runs only with `--long`: `cargo xtask bench --long ten-million`. What needs a process of
//! its own, to be killed or to live in little memory, starts this program again with `--child`.

#![expect(clippy::print_stdout, reason = "a benchmark talks to a person")]

mod codec;
mod commit;
#[cfg(feature = "peers")]
mod contest;
mod epochs;
mod evictions;
mod harness;
mod held_reader;
mod history;
mod history_codec;
mod opening;
mod pacing;
mod page_parity;
mod parity;
mod process;
mod readers;
mod splits;
mod stalls;
mod ten_million;
mod versions;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use harness::{BenchError, Report};

/// Measures Keepstone beside bare loops, its own variants and, with the feature `peers`, other stores.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run only the benchmarks whose name contains this text.
    filter: Option<String>,
    /// Run the benchmarks that take minutes and gigabytes, and only these.
    #[arg(long)]
    long: bool,
    /// What this process does for the one that started it.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    child: Option<Vec<String>>,
    /// Keep the ratios under this name in `target/bench`.
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Print the change against the ratios kept under this name.
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Interleaved rounds of each benchmark.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Rows that the stores are loaded with when they are compared with others; 1000000 is the full run.
    #[arg(long, env = "KEEPSTONE_BENCH_ROWS", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    rows: u32,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Interleaved rounds, at least one.
    rounds: usize,
    /// Rows to load.
    #[cfg(feature = "peers")]
    rows: usize,
}

type Benchmark = (&'static str, fn(Scale, &mut Report) -> Result<(), BenchError>);

const BENCHMARKS: &[Benchmark] = &[
    ("commit-latency", |scale, report| commit::latency(scale.rounds, report)),
    ("group-commit", |scale, report| commit::groups(scale.rounds, report)),
    ("durability-levels", |scale, report| commit::levels(scale.rounds, report)),
    ("log-codec", |scale, report| codec::message_pack_against_json(scale.rounds, report)),
    ("readers", |scale, report| readers::threads(scale.rounds, report)),
    ("parity", |scale, report| parity::of_blocks(scale.rounds, report)),
    ("page-parity", |scale, report| page_parity::cost(scale.rounds, report)),
    ("history-codec", |scale, report| history_codec::versions(scale.rounds, report)),
    ("history-pages", |scale, report| history::coding(scale.rounds, report)),
    ("history-reads", |scale, report| history::depths(scale.rounds, report)),
    ("epochs", |scale, report| epochs::entering(scale.rounds, report)),
    ("epochs-deferring", |scale, report| epochs::deferring(scale.rounds, report)),
    ("controller", |_, report| pacing::controller(report)),
    ("splits", |_, report| splits::of_loads(report)),
    ("stalls", |_, report| stalls::readers(report)),
    ("evictions", |_, report| evictions::churn(report)),
    ("versions", |scale, report| versions::of_one_key(scale.rounds, report)),
    #[cfg(feature = "peers")]
    ("peers", contest::run),
];

/// Those that take minutes and gigabytes.
const LONG_BENCHMARKS: &[Benchmark] = &[
    ("held-reader", |_, report| held_reader::allowances(report)),
    ("opening", |scale, report| opening::after_a_kill(scale.rounds, report)),
    ("ten-million", |_, report| ten_million::in_a_gibibyte(report)),
];

/// What processes do that this program starts.
const CHILDREN: &[process::Role] = &[("opening", opening::child), ("ten-million", ten_million::child)];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.child {
        Some(words) => process::be_child(CHILDREN, words).map(|()| true),
        None => run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, BenchError> {
    let mut report = Report::default();
    let scale = Scale {
        rounds: arguments.rounds.max(1),
        #[cfg(feature = "peers")]
        rows: usize::try_from(arguments.rows)?,
    };
    let wanted = |name: &str| arguments.filter.as_deref().is_none_or(|filter| name.contains(filter));
    let benchmarks = if arguments.long { LONG_BENCHMARKS } else { BENCHMARKS };
    for (name, benchmark) in benchmarks.iter().filter(|(name, _)| wanted(name)) {
        println!("\n{name}");
        benchmark(scale, &mut report)?;
    }
    if let Some(name) = &arguments.baseline {
        report.compare_with(name)?;
    }
    if let Some(name) = &arguments.save {
        report.save(name)?;
    }
    Ok(report.print_verdict())
}
