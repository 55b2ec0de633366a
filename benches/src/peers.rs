//! Other stores on the same work: fjall with its journal synced at every commit.

use std::sync::Arc;

use fjall::{KeyspaceCreateOptions, PersistMode};
use keepstone_mvcc_temporal::DatabaseOptions;
use keepstone_vfs::OsVfs;

use crate::harness::{BenchError, Bound, Report, median_step, micros, side_by_side};
use crate::workload::{commit_rows, key, open, value};

/// Durable single commits and batches of 1,000 rows: at most 1.2 × fjall's time.
pub(crate) fn fjall(rounds: usize, report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let ours = open(Arc::new(OsVfs::new()), &dir.path().join("keepstone"), DatabaseOptions::default())?;
    let theirs = fjall::Database::builder(dir.path().join("fjall")).open()?;
    let rows = theirs.keyspace("rows", KeyspaceCreateOptions::default)?;
    let (mut our_next, mut their_next) = (0, 0);
    for (name, count, commits) in [("single commits", 1, 300), ("batches of 1,000", 1_000, 30)] {
        let (ratio, our_time, their_time) = side_by_side(
            rounds,
            || {
                median_step(commits, |_| {
                    our_next += count;
                    commit_rows(&ours, our_next, count)
                })
            },
            || {
                median_step(commits, |_| {
                    their_next += count;
                    let mut batch = theirs.batch().durability(Some(PersistMode::SyncData));
                    for number in their_next..their_next + count {
                        batch.insert(&rows, key(number), value(number));
                    }
                    Ok(batch.commit()?)
                })
            },
        )?;
        println!("  {name}: Keepstone {}, fjall {}", micros(our_time), micros(their_time));
        report.ratio(&format!("time ÷ fjall, {name}"), ratio, Bound::AtMost(1.2));
    }
    ours.close()?;
    Ok(())
}
