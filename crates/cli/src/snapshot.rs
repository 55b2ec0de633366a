//! The commands on snapshot files: snapshot create, list, verify, consolidate, prune; and restore.

use keepstone::{SnapshotFileError, SnapshotFileInfo, SnapshotFolder};

use crate::args::{
    RestoreArgs, SnapshotCreateArgs, SnapshotDir, SnapshotFolderCommand, SnapshotNamed, SnapshotPruneArgs,
    SnapshotVerifyArgs,
};
use crate::at::rfc3339;
use crate::exit::{Code, Failure, Outcome};
use crate::json::{self, Object};
use crate::output::{self, Align, Output, Progress, Table, bytes, count, printable, thousands};
use crate::session::{self, Session};

impl From<SnapshotFileError> for Failure {
    fn from(error: SnapshotFileError) -> Self {
        let code = match &error {
            SnapshotFileError::Read(_) | SnapshotFileError::Open(_) | SnapshotFileError::Commit(_) => None,
            SnapshotFileError::NotFound { .. } => Some(Code::NotFound),
            SnapshotFileError::Locked { .. } => Some(Code::Locked),
            error if error.is_damage() => Some(Code::Damage),
            _ => Some(Code::Error),
        };
        match (code, error) {
            (Some(code), error) => Self::new(code, error.to_string()),
            (None, SnapshotFileError::Read(error)) => error.into(),
            (None, SnapshotFileError::Open(error)) => error.into(),
            (None, SnapshotFileError::Commit(error)) => error.into(),
            (None, error) => Self::error(error.to_string()),
        }
    }
}

/// Does what a command on a folder of snapshots says.
pub(crate) fn run(command: &SnapshotFolderCommand) -> Outcome {
    match command {
        SnapshotFolderCommand::List(args) => list(args),
        SnapshotFolderCommand::Verify(args) => verify(args),
        SnapshotFolderCommand::Consolidate(args) => consolidate(args),
        SnapshotFolderCommand::Prune(args) => prune(args),
    }
}

fn write_info(object: &mut Object<'_>, info: &SnapshotFileInfo) {
    object.plain("bytes", info.bytes);
    object.plain("deleted", info.deleted);
    object.text("name", &info.name);
    if let Some(parent) = &info.parent {
        object.text("parent", parent);
    }
    object.plain("rows", info.rows);
    object.text("store", &info.store_id.to_string());
    object.text("time", &rfc3339(info.time));
    object.text("version", &info.version.to_string());
    object.plain("written", info.written);
}

fn say_made(info: &SnapshotFileInfo, json: bool) -> Outcome {
    if json {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        write_info(&mut object, info);
        object.end();
        return output::say(line);
    }
    let kind = match &info.parent {
        None => "a full snapshot".to_owned(),
        Some(parent) => format!("what changed since {}", printable(parent)),
    };
    output::say(format_args!(
        "{} is {kind} of version {}: {} and {} in {}",
        printable(&info.name),
        info.version,
        count(info.written, "row", "rows"),
        count(info.deleted, "deletion", "deletions"),
        bytes(info.bytes)
    ))
}

/// Writes a version of the store into a folder.
pub(crate) fn create(session: &Session, args: &SnapshotCreateArgs) -> Outcome {
    let store = session.open_to_read()?;
    let version = match args.at.as_deref() {
        Some(at) => session::resolve(&store, at)?,
        None => store.visible_version(),
    };
    let folder = SnapshotFolder::open(&args.dir)?;
    let progress = Progress::counting("writing the snapshot");
    let info = match &args.parent {
        None => folder.create_full(&store, &args.name, version)?,
        Some(parent) => folder.create_delta(&store, &args.name, parent, version)?,
    };
    drop(progress);
    say_made(&info, args.json)?;
    Ok(store.close()?)
}

fn list(args: &SnapshotDir) -> Outcome {
    let columns = [
        ("SNAPSHOT", Align::Left),
        ("PARENT", Align::Left),
        ("VERSION", Align::Right),
        ("TIME", Align::Left),
        ("ROWS", Align::Right),
        ("IN FILE", Align::Right),
        ("SIZE", Align::Right),
    ];
    let (mut table, mut output, mut damaged) = (Table::new(columns), Output::new(), None);
    for entry in SnapshotFolder::open_to_read(&args.dir).list()? {
        match entry.info {
            Ok(info) if args.json => {
                let mut line = String::new();
                let mut object = Object::begin(&mut line);
                write_info(&mut object, &info);
                object.end();
                output.line(line)?;
            }
            Ok(info) => table.row([
                info.name,
                info.parent.unwrap_or_default(),
                info.version.to_string(),
                rfc3339(info.time),
                thousands(info.rows),
                thousands(info.written.saturating_add(info.deleted)),
                bytes(info.bytes),
            ]),
            Err(error) => {
                output::remark(format_args!("keepstone: {}", printable(&error.to_string())));
                damaged = Some(error);
            }
        }
    }
    output.flush()?;
    table.print()?;
    damaged.map_or(Ok(()), |error| Err(error.into()))
}

fn verify(args: &SnapshotVerifyArgs) -> Outcome {
    let folder = SnapshotFolder::open_to_read(&args.dir);
    let names: Vec<String> = match &args.name {
        Some(name) => vec![name.clone()],
        None => folder.list()?.into_iter().map(|entry| entry.name).collect(),
    };
    let mut output = Output::new();
    let mut first = None;
    for name in names {
        let progress = Progress::counting("reading");
        let verified = folder.verify(&name);
        drop(progress);
        let mut line = String::new();
        match &verified {
            Ok(report) if args.json => {
                let mut object = Object::begin(&mut line);
                object.plain("bytes", report.bytes);
                object.plain("files", report.files);
                object.text("name", &name);
                object.plain("rows", report.rows);
                object.plain("sound", true);
                object.end();
            }
            Ok(report) => {
                let files = count(report.files, "file", "files");
                let rows = count(report.rows, "row", "rows");
                line =
                    format!("{} is sound: {rows} from {files} of {}", printable(&name), bytes(report.bytes));
            }
            Err(error) if args.json => {
                let mut object = Object::begin(&mut line);
                object.text("error", &error.to_string());
                object.text("kind", error.kind().as_str());
                object.text("name", &name);
                object.plain("sound", false);
                object.end();
            }
            Err(_) => line = format!("{} cannot be restored", printable(&name)),
        }
        output.line(line)?;
        first = first.or(verified.err());
    }
    output.flush()?;
    first.map_or(Ok(()), |error| Err(error.into()))
}

fn consolidate(args: &SnapshotNamed) -> Outcome {
    let folder = SnapshotFolder::open(&args.dir)?;
    let progress = Progress::counting("writing the snapshot");
    let info = folder.consolidate(&args.name)?;
    drop(progress);
    say_made(&info, args.json)
}

fn prune(args: &SnapshotPruneArgs) -> Outcome {
    let folder = SnapshotFolder::open(&args.dir)?;
    for name in &args.keep {
        folder.info(name)?;
    }
    let progress = Progress::counting("pruning");
    let report = folder.prune(|info| args.keep.contains(&info.name))?;
    drop(progress);
    if args.json {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.plain("bytes_after", report.bytes_after);
        object.plain("bytes_before", report.bytes_before);
        let names = |out: &mut String, name: &String| json::write_text(out, name);
        json::write_list(object.field("consolidated"), &report.consolidated, names);
        json::write_list(object.field("removed"), &report.removed, names);
        object.end();
        return output::say(line);
    }
    output::say(format_args!(
        "{} went, {} made full; the folder has {}, it had {}",
        count(report.removed.len(), "snapshot", "snapshots"),
        count(report.consolidated.len(), "was", "were"),
        bytes(report.bytes_after),
        bytes(report.bytes_before)
    ))
}

/// Makes a store from a snapshot.
pub(crate) fn restore(session: &Session, args: &RestoreArgs) -> Outcome {
    let folder = SnapshotFolder::open_to_read(&args.dir);
    let name = match &args.name {
        Some(name) => name.clone(),
        None => newest(&folder)?,
    };
    let progress = Progress::counting("restoring");
    let report = folder.restore(&name, &session.dir, &session::options()?)?;
    drop(progress);
    if args.json {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.text("name", &name);
        object.plain("rows", report.rows);
        object.text("source", &report.source_id.to_string());
        object.text("source_version", &report.source_version.to_string());
        object.text("store", &report.store_id.to_string());
        object.text("version", &report.version.to_string());
        object.end();
        return output::say(line);
    }
    output::say(format_args!(
        "restored {} from {}: version {} of store {} is version {} of {}",
        count(report.rows, "row", "rows"),
        printable(&name),
        report.source_version,
        report.source_id,
        report.version,
        session.dir.display()
    ))
}

/// The snapshot of the newest version, if that is beyond doubt.
fn newest(folder: &SnapshotFolder) -> Outcome<String> {
    let mut infos = Vec::new();
    for entry in folder.list()? {
        infos.push(entry.info?);
    }
    let none = || Failure::not_found("there are no snapshots").place(folder.dir().display());
    let newest = infos.iter().max_by_key(|info| (info.version, &info.name)).ok_or_else(none)?;
    match infos.iter().find(|info| info.store_id != newest.store_id) {
        Some(other) => Err(Failure::new(Code::Usage, "the folder has snapshots of several stores")
            .place(folder.dir().display())
            .found(format_args!("{} and {}", newest.name, other.name))
            .help("say which one to restore")),
        None => Ok(newest.name.clone()),
    }
}
