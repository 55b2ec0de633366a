//! From a command line to what it asks for, and to an exit code.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use crate::args::{Cli, Command, SnapshotCommand, StoreCommand};
use crate::exit::{Code, Outcome};
use crate::session::Session;
use crate::{
    branch, check, demo, export, import, link, maintenance, node, output, scrub, snapshot, stats, versions,
};

/// Does what the command line says, and gives the exit code.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = match &cli.command {
        // The demo makes a store of its own.
        Command::Demo(args) => demo::run(args),
        // Files need no store to be looked at.
        Command::OnStore(StoreCommand::Snapshot(SnapshotCommand::OfFolder(command))) => {
            match without_store(&cli) {
                Ok(()) => snapshot::run(command),
                Err(error) => return usage(&error),
            }
        }
        Command::OnStore(command) => match session_of(&cli, command) {
            Ok(session) => run_on_store(command, &session),
            Err(error) => return usage(&error),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_quiet() => ExitCode::SUCCESS,
        Err(failure) => {
            output::remark(format_args!("keepstone: {}", output::printable(&failure.to_string())));
            failure.code().into()
        }
    }
}

/// Help and version are no errors and go to standard output; the rest is.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody may be listening, as in `keepstone --help | head -1`.
    error.print().unwrap_or_default();
    if error.use_stderr() { Code::Usage.into() } else { ExitCode::SUCCESS }
}

/// A command on snapshot files alone is about no collection and no branch; a store from the environment does not matter.
fn without_store(cli: &Cli) -> Result<(), clap::Error> {
    let given = [(cli.collection.is_some(), "-C"), (cli.branch.is_some(), "--branch")];
    match given.into_iter().find(|(is_given, _)| *is_given) {
        Some((_, option)) => {
            let message = format!("{option} has no meaning for `keepstone snapshot`, which is about files\n");
            Err(Cli::command().error(ErrorKind::ArgumentConflict, message))
        }
        None => Ok(()),
    }
}

/// Where the command works.
fn session_of(cli: &Cli, command: &StoreCommand) -> Result<Session, clap::Error> {
    let name = command.name();
    if cli.collection.is_some() && !command.takes_collection() {
        let message = format!("-C has no meaning for `keepstone {name}`, which is about the whole store\n");
        return Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
    }
    if cli.branch.is_some() && !command.takes_branch() {
        let message = format!("--branch has no meaning for `keepstone {name}`\n");
        return Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
    }
    match &cli.store {
        Some(dir) => {
            Ok(Session { dir: dir.clone(), collection: cli.collection.clone(), branch: cli.branch.clone() })
        }
        None => {
            let message = format!(
                "which store? Give its folder, as in `keepstone -s DIR {name}`, or set KEEPSTONE_STORE\n"
            );
            Err(Cli::command().error(ErrorKind::MissingRequiredArgument, message))
        }
    }
}

fn run_on_store(command: &StoreCommand, session: &Session) -> Outcome {
    match command {
        StoreCommand::Init(args) => maintenance::init(session, args),
        StoreCommand::Import(args) => import::run::run(session, args),
        StoreCommand::Export(args) => export::run(session, args),
        StoreCommand::Get(args) => node::get(session, args),
        StoreCommand::Put(args) => node::put(session, args),
        StoreCommand::Delete(args) => node::delete(session, args),
        StoreCommand::History(args) => node::history(session, args),
        StoreCommand::Link(args) => link::link(session, args),
        StoreCommand::Unlink(args) => link::unlink(session, args),
        StoreCommand::Links(args) => link::links(session, args),
        StoreCommand::Versions(args) => versions::versions(session, args),
        StoreCommand::Diff(args) => versions::diff(session, args),
        StoreCommand::Tag(args) => versions::tag(session, args),
        StoreCommand::Rollback(args) => versions::rollback(session, args),
        StoreCommand::Branch(command) => branch::run(session, command),
        StoreCommand::Snapshot(SnapshotCommand::Create(args)) => snapshot::create(session, args),
        StoreCommand::Snapshot(SnapshotCommand::OfFolder(command)) => snapshot::run(command),
        StoreCommand::Restore(args) => snapshot::restore(session, args),
        StoreCommand::Check(args) => check::run(session, args),
        StoreCommand::Stats(args) => stats::run(session, args),
        StoreCommand::Gc(args) => maintenance::gc(session, args),
        StoreCommand::Compact(args) => maintenance::compact(session, args),
        StoreCommand::Checkpoint(args) => maintenance::checkpoint(session, args),
        StoreCommand::Scrub(args) => scrub::run(session, args),
    }
}
