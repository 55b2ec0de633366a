//! Checking a whole store: the log read again from disk, held against what memory says.

mod branches;
mod chains;
mod log;
pub(crate) mod pages;

use crate::database::Database;
use crate::error::ReadError;
use crate::merge::system_rows;
use crate::names::{NAME_PREFIX, parse_name_row};
use crate::shared::Shared;

/// Findings that are listed; more are only counted.
const FINDINGS_MAX: usize = 1_000;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected}, found {found}{}", if *healed { " (healed)" } else { "" })]
#[non_exhaustive]
pub struct Finding {
    /// Where.
    pub place: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Whether the content could be rebuilt, so that nothing is lost.
    pub healed: bool,
}

/// What [`Database::check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Commits read from disk.
    pub commits: u64,
    /// Row versions read from disk.
    pub rows: u64,
    /// Tables.
    pub tables: u64,
    /// Named versions.
    pub names: u64,
    /// Branches.
    pub branches: u64,
    /// Branches that were discarded and whose rows go with the next checkpoint.
    pub discarded_branches: u64,
    /// Parity groups that were added up; none where no parity is kept.
    pub parity_groups: u64,
    /// What is wrong; empty for a sound store.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub findings_unlisted: u64,
}

impl CheckReport {
    /// Whether nothing was found that is lost or wrong; what was healed does not count.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings_unlisted == 0 && self.findings.iter().all(|finding| finding.healed)
    }

    fn add(&mut self, place: impl Into<String>, expected: impl ToString, found: impl ToString) {
        self.push(Finding {
            place: place.into(),
            expected: expected.to_string(),
            found: found.to_string(),
            healed: false,
        });
    }

    fn push(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_unlisted = self.findings_unlisted.saturating_add(1);
        }
    }
}

impl Database {
    /// Reads everything that is on disk again: the log's checksums, its records against memory, versions without gaps and
    /// times that ascend, every page of every tree and the rows in them, every older version against what it is coded by, the
    /// free-space map against what can be reached, parity against the pages it counts, the catalog, the named versions, the
    /// branches. Commits may go on meanwhile; what became durable after the check began is not part of it.
    ///
    /// # Errors
    /// When the store was closed. What is wrong is not an error but a [`Finding`].
    pub fn check(&self) -> Result<CheckReport, ReadError> {
        let shared = &self.inner.shared;
        let _call = shared.enter()?;
        let mut report = CheckReport::default();
        self.check_log_files(&mut report);
        {
            // What is held against each other must not move from the log to the page file meanwhile.
            let _no_checkpoint = self.inner.checkpointer.begin();
            let layers = shared.stack.current();
            let through = if shared.read_only { layers.visible() } else { shared.durable() };
            if let Some(ground) = layers.ground() {
                report.commits = ground.meta().commits.rows();
                report.rows = ground.row_count().saturating_add(ground.meta().history.rows());
            }
            self.check_records(&layers, through, &mut report);
        }
        pages::check(shared, &mut report)?;
        check_names(shared, &mut report)?;
        branches::check(shared, &mut report)?;
        Ok(report)
    }
}

/// Every name stands for a version that was made.
fn check_names(shared: &Shared, report: &mut CheckReport) -> Result<(), ReadError> {
    let view = shared.stack.view();
    for (key, value) in system_rows(&view, NAME_PREFIX)? {
        report.names = report.names.saturating_add(1);
        match parse_name_row(&key, &value) {
            None => report.add("the named versions", "a name and a version", format!("{key:?}")),
            Some(named) if shared.hold(named.version).is_err() => {
                report.add(format!("the name {:?}", named.name), "a version that was made", named.version);
            }
            Some(_) => {}
        }
    }
    Ok(())
}
