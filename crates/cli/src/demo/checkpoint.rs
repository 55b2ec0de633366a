//! A checkpoint folds the log into the page file, and the store is opened again: every version must read as it did from
//! the log alone. A copy of the folder from before the checkpoint says what that was.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use keepstone::{Existence, Store, StoreOptions, Version};

use super::run::content;
use super::summary::Page;
use crate::exit::{Failure, Outcome};
use crate::output::{bytes, count, duration, thousands};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Folded {
    pub(super) versions: u64,
    /// Versions that read the same before and after, to the byte.
    pub(super) versions_equal: u64,
    /// How long opening took when everything was in the log, and when it was in the page file.
    pub(super) open_log: Duration,
    pub(super) open_pages: Duration,
    /// Bytes after the checkpoint.
    pub(super) log_bytes: u64,
    pub(super) page_bytes: u64,
}

/// Makes a checkpoint of the closed store in `dir`, and compares every version with a copy from before.
pub(super) fn fold_and_compare(dir: &Path, page: &mut Page) -> Outcome<Folded> {
    let copy = dir.with_extension("before");
    let cannot = |error: std::io::Error| Failure::io("the temporary store cannot be copied", &error);
    copy_folder(dir, &copy).map_err(cannot)?;
    let (before, open_log) = open(&copy)?;
    let log_bytes_before = log_bytes_of(&before);
    let (store, _) = open(dir)?;
    let report = store.checkpoint()?;
    store.close()?;
    let (store, open_pages) = open(dir)?;
    let (mut versions, mut versions_equal) = (0, 0);
    for commit in before.versions()? {
        let version = commit?.version;
        versions += 1;
        versions_equal += u64::from(reads_the_same(&before, &store, version)?);
    }
    let (log_bytes, page_bytes) = (log_bytes_of(&store), report.page_bytes);
    before.close()?;
    store.close()?;
    page.section("What a checkpoint changes");
    page.row(
        "folded",
        format!(
            "{} in {}, and the log was let go",
            count(report.rows, "row", "rows"),
            duration(report.elapsed)
        ),
    );
    page.row(
        "bytes",
        format!(
            "log {}, it was {}; page file {}",
            bytes(log_bytes),
            bytes(log_bytes_before),
            bytes(page_bytes)
        ),
    );
    page.row("opened", format!("in {}, from the log alone in {}", duration(open_pages), duration(open_log)));
    page.row(
        "compared",
        format!(
            "{} of {} versions read the same, to the byte",
            thousands(versions_equal),
            thousands(versions)
        ),
    );
    Ok(Folded { versions, versions_equal, open_log, open_pages, log_bytes, page_bytes })
}

/// Opens a store in which checkpoints happen only when asked for, so that the copy stays what it is.
fn open(dir: &Path) -> Outcome<(Store, Duration)> {
    let options = StoreOptions::default()
        .existence(Existence::MustExist)
        .checkpoint_memory_bytes(0)
        .checkpoint_log_bytes(0)
        .checkpoint_age(Duration::ZERO)
        .checkpoint_idle(Duration::ZERO);
    let began = Instant::now();
    let store = options.open(dir)?;
    Ok((store, began.elapsed()))
}

fn log_bytes_of(store: &Store) -> u64 {
    store.stats().log.get("segment_bytes").copied().unwrap_or_default()
}

/// A version that is not there any more does not read the same; it is no error of the demo.
fn reads_the_same(before: &Store, after: &Store, version: Version) -> Outcome<bool> {
    let Ok(now) = after.at(version) else { return Ok(false) };
    Ok(content(before, &before.at(version)?, None)? == content(after, &now, None)?)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
