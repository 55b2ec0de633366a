//! The program `keepstone`; what it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepstone_cli::run()
}
