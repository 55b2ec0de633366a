//! What pages of rows become as a tree grows by sorted batches: how many are split, and how full they are, when keys ascend
//! and when they come in no order; beside a tree that is built in one go.

use std::path::Path;
use std::sync::Arc;

use keepstone_btree::{Builder, Decision, Edit, Fill, NewValue, TreeRoot, TreeShape, merge, walk};
use keepstone_pager::{PageFile, PageFileOptions};
use keepstone_types::{StoreId, ValueRef};
use keepstone_vfs::{OsVfs, Vfs};

use crate::harness::{BenchError, Bound, Report, as_float};
use crate::workload::{key, value};

const ROWS: u64 = 200_000;
/// Rows of a batch: a slice of a checkpoint, roughly.
const BATCH: u64 = 1_000;

/// Keys that ascend with their number, or in the order of their hash.
fn key_of(number: u64, is_ascending: bool) -> ValueRef {
    if !is_ascending {
        return ValueRef::copy_from(&key(number));
    }
    let mut ascending = [0_u8; 24];
    if let Some(head) = ascending.first_chunk_mut::<8>() {
        *head = number.to_be_bytes();
    }
    ValueRef::copy_from(&ascending)
}

fn file(dir: &Path, name: &str) -> Result<PageFile, BenchError> {
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    Ok(PageFile::create(vfs, &dir.join(name), StoreId::from_bytes([7; 16]), PageFileOptions::default())?)
}

fn shape_of(pages: &PageFile, root: TreeRoot) -> Result<TreeShape, BenchError> {
    Ok(walk(pages, root, &mut |_, _| Ok(()))?)
}

/// What a tree came to be.
struct Grown {
    shape: TreeShape,
    /// Pages of rows that came to be because others had no room.
    splits: u64,
    /// Pages written, for each row.
    written: f64,
}

/// A tree that grew batch by batch.
fn grow(dir: &Path, is_ascending: bool) -> Result<Grown, BenchError> {
    let pages = file(dir, if is_ascending { "ascending" } else { "random" })?;
    let (mut root, mut leaves, mut splits) = (TreeRoot::default(), 0, 0);
    let before = pages.stats().pages_written;
    for from in (0..ROWS).step_by(usize::try_from(BATCH)?) {
        let put = |number| {
            let value = NewValue::bytes(ValueRef::from(value(number)));
            Edit { key: key_of(number, is_ascending), value }
        };
        let mut edits: Vec<Edit> = (from..from + BATCH).map(put).collect();
        edits.sort_by(|a, b| a.key.cmp(&b.key));
        let mut writer = pages.begin()?;
        root = merge(&mut writer, root, &edits, Fill::default(), &mut |_, _| Decision::Replace)?;
        writer.commit(&[])?;
        let now = shape_of(&pages, root)?.leaf_pages;
        splits += now.saturating_sub(leaves);
        leaves = now;
    }
    let written = as_float(pages.stats().pages_written - before) / as_float(ROWS);
    Ok(Grown { shape: shape_of(&pages, root)?, splits, written })
}

/// A tree that was built in one go.
fn build(dir: &Path) -> Result<TreeShape, BenchError> {
    let pages = file(dir, "built")?;
    let mut writer = pages.begin()?;
    let mut builder = Builder::new(&mut writer, Fill::FULL);
    for number in 0..ROWS {
        builder.push(&key_of(number, true), NewValue::bytes(ValueRef::from(value(number))))?;
    }
    let root = builder.finish()?;
    writer.commit(&[])?;
    shape_of(&pages, root)
}

/// Splits and fill under both loads.
pub(crate) fn of_loads(report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    for (name, is_ascending, bound) in
        [("ascending", true, Bound::AtLeast(0.95)), ("random", false, Bound::AtLeast(0.6))]
    {
        let Grown { shape, splits, written } = grow(dir.path(), is_ascending)?;
        println!(
            "  {name}: {ROWS} rows in batches of {BATCH}: {} pages of rows, {splits} times one more for want of room, {:.1} % full; inner pages {:.1} % full; {written:.2} pages written a row",
            shape.leaf_pages,
            as_float(shape.leaf_fill_permille()) / 10.0,
            as_float(shape.inner_fill_permille()) / 10.0,
        );
        report.ratio(
            &format!("{name}, fill of pages of rows"),
            as_float(shape.leaf_fill_permille()) / 1e3,
            bound,
        );
        let per_page = as_float(splits) / as_float(shape.leaf_pages.max(1));
        report.ratio(
            &format!("{name}, pages added for want of room ÷ pages of rows"),
            per_page,
            Bound::Printed,
        );
    }
    let built = build(dir.path())?;
    let fill = as_float(built.leaf_fill_permille()) / 1e3;
    report.ratio("built in one go, fill of pages of rows", fill, Bound::AtLeast(0.98));
    Ok(())
}
