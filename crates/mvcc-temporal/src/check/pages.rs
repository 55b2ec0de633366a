//! The page file held against itself: every page of every tree, the rows in them, the free-space map, and parity.

use keepstone_btree::{TreeError, TreeRoot, walk};
use keepstone_pager::{Audit, AuditFinding, PageError, PageRead};
use keepstone_types::Version;

use super::CheckReport;
use super::chains::Chains;
use crate::error::ReadError;
use crate::ground::commit_row::CommitRow;
use crate::ground::{Ground, row};
use crate::shared::Shared;
use crate::sync::Arc;

impl From<PageError> for ReadError {
    fn from(error: PageError) -> Self {
        crate::ground::read_error(TreeError::Page(error))
    }
}

/// Walks everything that the newest root leads to. What is wrong is a finding; only a disk that fails is an error.
pub(super) fn check(shared: &Shared, report: &mut CheckReport) -> Result<(), ReadError> {
    let layers = shared.stack.current();
    let Some(ground) = layers.ground() else { return Ok(()) };
    let pages = ground.pages();
    let mut walked = Ok(());
    let audited = pages.audit(|audit| -> Result<(), ReadError> {
        let ground = match Ground::load(pages.clone(), Arc::clone(audit.root())) {
            Ok(ground) => ground,
            Err(error @ ReadError::Damaged { .. }) => {
                report.add("the page file", "the roots of its trees", error);
                walked = Err(());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for (name, root) in trees(shared, &ground) {
            let found = mark_tree(&ground, root, audit).and_then(|()| rows_of(&ground, &name, root, report));
            if let Err(error) = found {
                // What hangs below damage cannot be told from what is lost.
                walked = Err(());
                report.add(name.to_string(), "sound pages", not_the_disk(error)?);
            }
        }
        Ok(())
    })?;
    report.parity_groups = audited.parity_groups;
    for finding in &audited.findings {
        match finding {
            AuditFinding::Parity { .. } | AuditFinding::Uncounted(_) => {
                report.add("parity", "all pages in use, as it counts them", finding);
            }
            _ if walked.is_ok() => report.add("the free-space map", "what can be reached", finding),
            _ => {}
        }
    }
    Ok(())
}

/// A failing disk ends a check; damage is what it looks for.
fn not_the_disk(error: TreeError) -> Result<TreeError, ReadError> {
    if error.is_damage() { Ok(error) } else { Err(crate::ground::read_error(error)) }
}

/// Which tree it is.
enum TreeName {
    Tables,
    History,
    Commits,
    Rows(Arc<str>),
}

impl std::fmt::Display for TreeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tables => f.write_str("the tree of tables"),
            Self::History => f.write_str("the tree of older versions"),
            Self::Commits => f.write_str("the tree of commits"),
            Self::Rows(table) => write!(f, "the rows of table {table:?}"),
        }
    }
}

fn trees(shared: &Shared, ground: &Ground) -> Vec<(TreeName, TreeRoot)> {
    let meta = ground.meta();
    let mut trees = vec![
        (TreeName::Tables, meta.tables),
        (TreeName::History, meta.history),
        (TreeName::Commits, meta.commits),
    ];
    let rows = ground.tables().iter();
    trees.extend(rows.map(|(table, root)| (TreeName::Rows(shared.catalog.display_name(*table)), *root)));
    trees
}

/// Walks a tree, with all that the walk itself checks, and tells the audit of its pages.
pub(crate) fn mark_tree(ground: &Ground, root: TreeRoot, audit: &mut Audit) -> Result<(), TreeError> {
    let shape = walk(ground.pages(), root, &mut |page, _kind| {
        audit.mark(page);
        Ok(())
    });
    shape.map(drop)
}

/// Holds every row to what rows of its tree are.
fn rows_of(
    ground: &Ground,
    name: &TreeName,
    root: TreeRoot,
    report: &mut CheckReport,
) -> Result<(), TreeError> {
    let (pages, folded) = (ground.pages(), ground.meta().folded);
    let tree = keepstone_btree::Tree::new(pages, root);
    let mut cursor = tree.cursor();
    let mut before: Option<CommitRow> = None;
    let mut chains = Chains::new(ground);
    cursor.seek_first()?;
    while let Some(key) = cursor.key() {
        let head = row::head(cursor.head()).filter(|head| head.version <= folded);
        let sound = match name {
            TreeName::Tables => key.len() == 4,
            TreeName::Rows(_) => head.is_some_and(|head| !head.is_deletion),
            TreeName::History => chains.row(&cursor, report)?,
            TreeName::Commits => {
                let row = commit_of(pages, &cursor, key)?;
                let follows = row.is_some_and(|row| follows(before.as_ref(), &row));
                before = row.or(before);
                follows
            }
        };
        if !sound {
            let place = format!("{name}, key {}", key.escape_ascii());
            report.add(place, "a row of this tree", cursor.head().escape_ascii());
        }
        cursor.next()?;
    }
    Ok(())
}

fn commit_of<P: PageRead>(
    pages: &P,
    cursor: &keepstone_btree::Cursor<'_, P>,
    key: &[u8],
) -> Result<Option<CommitRow>, TreeError> {
    let Some(stored) = cursor.stored() else { return Ok(None) };
    Ok(CommitRow::decode(key, &stored.load(pages)?))
}

/// Versions and times ascend.
fn follows(before: Option<&CommitRow>, row: &CommitRow) -> bool {
    row.info.version != Version::ZERO
        && before
            .is_none_or(|before| before.info.version < row.info.version && before.info.time < row.info.time)
}
