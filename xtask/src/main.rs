//! `cargo xtask`: every chore of the workspace as one program, the same on each machine and in CI.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program talks to its terminal"
)]

mod cli;
mod commands;
mod crash;
mod deny;
mod error;
mod fuzz;
mod isolation;
mod metadata;
mod models;
mod process;
mod release;
mod sanitize;
mod steps;
mod test_lanes;
mod tidy;
mod vendor;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    process::stop_children_on_interrupt();
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        // What the steps said stands above already, and the last line is the sum of the tests.
        Err(error::Error::Steps(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
