//! Side-by-side benchmarks: `cargo xtask bench [FILTER] [--save NAME] [--baseline NAME]`.
//!
//! Absolute times depend on the machine and the hour, so each benchmark runs its sides in turns within one process
//! and judges the median of the ratios, round by round. A threshold that is missed makes the run fail.

#![expect(clippy::print_stdout, reason = "a benchmark talks to a person")]

mod codec;
mod commit;
mod harness;
#[cfg(feature = "peers")]
mod peers;
mod readers;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use harness::{BenchError, Report};

/// Measures Keepstone beside bare loops, its own variants and, with the feature `peers`, other stores.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run only the benchmarks whose name contains this text.
    filter: Option<String>,
    /// Keep the ratios under this name in `target/bench`.
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Print the change against the ratios kept under this name.
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Interleaved rounds of each benchmark.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

type Benchmark = (&'static str, fn(usize, &mut Report) -> Result<(), BenchError>);

const BENCHMARKS: &[Benchmark] = &[
    ("commit-latency", commit::latency),
    ("group-commit", commit::groups),
    ("durability-levels", commit::levels),
    ("log-codec", codec::message_pack_against_json),
    ("readers", readers::threads),
    #[cfg(feature = "peers")]
    ("peers", peers::fjall),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
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
    let wanted = |name: &str| arguments.filter.as_deref().is_none_or(|filter| name.contains(filter));
    for (name, benchmark) in BENCHMARKS.iter().filter(|(name, _)| wanted(name)) {
        println!("\n{name}");
        benchmark(arguments.rounds.max(1), &mut report)?;
    }
    if let Some(name) = &arguments.baseline {
        report.compare_with(name)?;
    }
    if let Some(name) = &arguments.save {
        report.save(name)?;
    }
    Ok(report.print_verdict())
}
