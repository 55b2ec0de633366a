//! The way of a commit through the log: numbering and validation under the queue's lock, insertion by the leader,
//! publication.
//!
//! Invariants:
//! * Queue order = version order = log order = publication order; after `admit` nothing fails for one commit alone.
//! * `admit` and `revoke` take no lock; they run under the queue's. `apply` and `publish` are the leader's alone and
//!   take none either, but for `apply` of a commit with runs, which replaces the layers.
//! * Commit time is max(now, last + 1 µs), so times order commits as versions do.

pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod path;
pub(crate) mod window;

use std::time::Duration;

use keepstone_types::{Lsn, Timeline, Timestamp, Version};
use keepstone_wal::LogSink;

use crate::catalog::TableId;
use crate::commit::entry::CommitEntry;
use crate::commit::window::{Basis, CommitWindow, Footprint, Refusal};
use crate::log::record::{Row, fill_head};
use crate::runs::Run;
use crate::shared::Shared;
use crate::sync::{Arc, Ordering};

/// What the queue's lock guards: the last number given, and the commit window.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) last: Version,
    pub(crate) last_time: Timestamp,
    pub(crate) timeline: Timeline,
    pub(crate) window: CommitWindow,
}

/// A commit on its way through the queue.
#[derive(Debug)]
pub(crate) struct CommitItem {
    pub(crate) entry: Arc<CommitEntry>,
    pub(crate) rows: Vec<Row>,
    /// Newest first; then `rows` are those of the store's own table alone.
    pub(crate) runs: Box<[Arc<Run>]>,
    /// `None` for a commit that nothing can conflict with.
    pub(crate) basis: Option<Arc<Basis>>,
    /// What the window will remember; moves there when the commit is admitted.
    pub(crate) footprint: Option<(Footprint, usize)>,
    /// The last number given before this one, for taking it back.
    pub(crate) before: (Version, Timestamp),
}

/// Carries commits from the log to memory.
#[derive(Debug)]
pub(crate) struct CommitSink {
    pub(crate) shared: Arc<Shared>,
}

impl LogSink for CommitSink {
    type Admission = Admission;
    type Item = CommitItem;
    type Refusal = Refusal;

    fn admit(
        &self,
        admission: &mut Admission,
        lsn: Lsn,
        head: &mut [u8],
        item: &mut CommitItem,
    ) -> Result<(), Refusal> {
        if let Some(basis) = &item.basis {
            admission.window.validate_rest(basis)?;
        }
        let version = admission.last.on(admission.timeline).next().ok_or(Refusal::VersionsExhausted)?;
        let after_last = admission.last_time.plus(Duration::from_micros(1));
        let time = self.shared.clock.now().max(after_last);
        item.entry.admit(version, time, lsn);
        fill_head(head, version, time);
        item.before = (admission.last, admission.last_time);
        admission.last = version;
        admission.last_time = time;
        if let Some(footprint) = item.footprint.take() {
            admission.window.push(version, footprint);
        }
        self.shared.admitted.store(version.to_raw(), Ordering::Release);
        Ok(())
    }

    fn apply(&self, lsn: Lsn, item: CommitItem) {
        let version = item.entry.version();
        // Rows of the store's own table stand before all others.
        for row in item.rows.iter().take_while(|row| row.table == TableId::SYSTEM) {
            self.shared.catalog.committed(&row.key, row.value.as_deref(), version);
        }
        if !item.runs.is_empty() {
            for run in &item.runs {
                run.attach(lsn);
            }
            return self.shared.stack.attach(item.entry, item.rows, item.runs);
        }
        self.shared.stack.with_active(|memtable| {
            for row in item.rows {
                memtable.insert(row.table, row.key, version, row.value);
            }
            memtable.commits().push(item.entry);
        });
    }

    fn publish(&self, lsn: Lsn) {
        // The newest may have runs; then it is not in the memtable that takes new rows.
        self.shared.stack.with(|layers| {
            let newest = layers.version_at_lsn(lsn);
            if let (Some(active), Some(newest)) = (layers.memtables().first(), newest) {
                active.publish(newest);
            }
        });
        self.shared.alarm.committed();
    }

    fn durable(&self, lsn: Lsn) {
        if let Some(newest) = self.shared.stack.with(|layers| layers.version_at_lsn(lsn)) {
            self.shared.durable.fetch_max(newest.to_raw(), Ordering::AcqRel);
        }
    }

    fn revoke(&self, admission: &mut Admission, item: CommitItem) {
        admission.window.revoke(item.entry.version());
        (admission.last, admission.last_time) = item.before;
        self.shared.admitted.store(admission.last.to_raw(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keepstone_types::{ManualClock, StoreId, ValueRef};

    use super::*;
    use crate::log::record::HEAD_LEN;
    use crate::read_set::FinishedReads;

    const WINDOW_BYTES: usize = 64 << 10;

    struct World {
        clock: Arc<ManualClock>,
        sink: CommitSink,
        admission: Admission,
    }

    fn world() -> World {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(100)));
        let shared_clock: Arc<dyn keepstone_types::Clock> = Arc::<ManualClock>::clone(&clock);
        let shared = Shared::new(Path::new("/s"), StoreId::from_bytes([1; 16]), shared_clock, false);
        let admission = Admission {
            last: Version::ZERO,
            last_time: Timestamp::EPOCH,
            timeline: Timeline::FIRST,
            window: CommitWindow::new(Version::ZERO, WINDOW_BYTES),
        };
        World { clock, sink: CommitSink { shared: Arc::new(shared) }, admission }
    }

    fn item(key: &str, basis: Option<Basis>) -> CommitItem {
        let key = ValueRef::from(key.as_bytes());
        let entry = CommitEntry::new(Box::new([(TableId::FIRST_USER, key.clone())]));
        let footprint = Some(Footprint::of(&entry, WINDOW_BYTES));
        let rows = vec![Row { table: TableId::FIRST_USER, key: key.clone(), value: Some(key) }];
        let before = (Version::ZERO, Timestamp::EPOCH);
        CommitItem { entry, rows, runs: Box::default(), basis: basis.map(Arc::new), footprint, before }
    }

    fn reads(key: &str, view: u64) -> Basis {
        let view = Version::from_raw(view);
        let keys = vec![(TableId::FIRST_USER, ValueRef::from(key.as_bytes()))];
        let reads = FinishedReads { keys, ranges: Vec::new() };
        Basis { view, reads, writes: None, everything: false, validated: view, revocations: 0 }
    }

    impl World {
        fn admit(&mut self, lsn: u64, item: &mut CommitItem) -> Result<(u64, u64), Refusal> {
            let mut head = [0_u8; HEAD_LEN];
            self.sink.admit(&mut self.admission, Lsn::new(lsn), &mut head, item)?;
            let (version, time) = head.split_at(8);
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
            Ok((number(version), number(time)))
        }

        fn visible(&self) -> u64 {
            self.sink.shared.visible().to_raw()
        }
    }

    #[test]
    fn admission_numbers_and_publication_shows() {
        let mut world = world();
        let (mut one, mut two) = (item("a", None), item("b", None));
        assert_eq!(world.admit(1, &mut one), Ok((1, 100)));
        world.clock.set_now(Timestamp::from_micros(50));
        assert_eq!(world.admit(2, &mut two), Ok((2, 101)), "time never falls");
        world.sink.apply(Lsn::new(1), one);
        world.sink.apply(Lsn::new(2), two);
        let view = |world: &World| world.sink.shared.stack.view();
        assert!(view(&world).get(TableId::FIRST_USER, b"a").unwrap().is_none(), "applied is not visible");
        world.sink.publish(Lsn::new(1));
        assert!(view(&world).get(TableId::FIRST_USER, b"a").unwrap().is_some());
        assert!(view(&world).get(TableId::FIRST_USER, b"b").unwrap().is_none());
        world.sink.publish(Lsn::new(2));
        assert_eq!((world.visible(), world.sink.shared.durable().to_raw()), (2, 0));
        world.sink.durable(Lsn::new(2));
        assert_eq!(world.sink.shared.durable().to_raw(), 2);
    }

    #[test]
    fn what_is_revoked_gives_its_number_back() {
        let mut world = world();
        let mut items: Vec<_> = ["a", "b", "c"].iter().map(|key| item(key, None)).collect();
        for (lsn, item) in (1..).zip(&mut items) {
            world.admit(lsn, item).unwrap();
        }
        assert!(world.admit(4, &mut item("d", Some(reads("c", 0)))).is_err());
        for item in items.drain(1..).rev() {
            world.sink.revoke(&mut world.admission, item);
        }
        assert_eq!((world.admission.last.to_raw(), world.admission.last_time.as_micros()), (1, 100));
        assert_eq!((world.admission.window.len(), world.visible()), (1, 0));
        let mut next = item("d", Some(reads("c", 0)));
        assert_eq!(world.admit(2, &mut next), Ok((2, 101)), "what was revoked is no conflict");
        let mut late = item("e", Some(reads("d", 1)));
        assert!(matches!(world.admit(3, &mut late), Err(Refusal::Conflict { .. })));
        assert_eq!(world.admission.last.to_raw(), 2, "a refused commit takes no number");
    }

    #[test]
    fn the_last_number_of_a_timeline_is_the_last() {
        let mut world = world();
        world.admission.last = Version::from_parts(Timeline::FIRST, Version::SEQUENCE_MAX - 1).unwrap();
        assert!(world.admit(1, &mut item("a", None)).is_ok());
        assert_eq!(world.admit(2, &mut item("b", None)), Err(Refusal::VersionsExhausted));
    }
}
