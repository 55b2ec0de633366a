//! The store as the subject of a sweep, with a model of tables, versions, names, history and branches.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keepstone_mvcc_temporal::{
    CheckReport, CheckpointOptions, CommitError, Database, DatabaseOptions, Durability, OpenError,
    PendingCommit, Read, ReadError, Retention, Snapshot, Tending, Txn, TxnOptions,
};
use keepstone_testkit::crash::{Failure, FailureKind, Ledger, Subject, World};
use keepstone_types::{Clock, ManualClock, Version};
use keepstone_vfs::simulated::{Choose, Dice, FailedSync, Fault, SimulatedDisk};
use keepstone_vfs::{OpenOptions, Vfs, VfsFileExt};

use crate::branches::BranchModel;
use crate::damage::{HEALED, damage, has_pages, rot, scrub};
use crate::program::{Change, Step, any_step};

pub(crate) const DIR: &str = "/store";
const TABLES: u8 = 3;
/// Bytes of a page.
pub(crate) const SLOT: u64 = 4_096;

/// A value: which one, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    tag: u64,
    len: usize,
}

impl Value {
    /// Most values are like each other, so that history has them as deltas; every seventh is like no other.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let word = Dice::new(self.tag).draw().to_le_bytes();
        let rest = if self.tag.is_multiple_of(7) { word } else { *b"and on; " };
        let mut bytes: Vec<u8> = rest.iter().copied().cycle().take(self.len).collect();
        for (place, chunk) in bytes.chunks_mut(512).enumerate() {
            for (byte, of_tag) in chunk.iter_mut().zip(word) {
                *byte = of_tag;
            }
            chunk[0] ^= place as u8;
        }
        bytes
    }
}

/// The rows of all tables.
type Rows = BTreeMap<(u8, u8), Value>;

/// What a reader sees at one version: rows, the names that are given, and the branches that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) rows: Rows,
    names: BTreeMap<u8, u64>,
    pub(crate) branches: BTreeMap<u8, BranchModel>,
}

/// The store with the options of one sweep.
pub(crate) struct StoreSubject {
    pub(crate) durability: Durability,
    pub(crate) sector: u32,
    /// Whether steps that make the disk fail are drawn.
    pub(crate) faults: bool,
    pub(crate) retention: Retention,
    /// Whether the newest header of the page file rots in a copy of what is opened: nothing must be lost by that.
    pub(crate) rotten: bool,
    pub(crate) parity: Parity,
}

/// Whether the page file keeps parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parity {
    /// Always: then one page more is damaged in a copy of what is opened, and nothing must be lost by that.
    On,
    /// Always, and pages of the swept disk itself rot, so that power is lost within repairs too.
    Rotting,
    /// From the beginning, and then as the program has it.
    Switched,
    /// Never.
    Off,
}

pub(crate) fn table(number: u8) -> String {
    format!("table {number}")
}

fn name(number: u8) -> String {
    format!("name {number}")
}

pub(crate) fn unopenable(error: impl Display) -> Failure {
    Failure::unopenable(error.to_string())
}

pub(crate) fn wrong(what: String) -> Failure {
    Failure::new(FailureKind::WrongRead, what)
}

/// A reader has what its version had.
pub(crate) fn reads_as(reader: &impl Read, version: impl Display, rows: &Rows) -> Result<(), Failure> {
    for number in 0..TABLES {
        let mut expected = rows.range((number, 0)..=(number, u8::MAX));
        for row in reader.scan(&table(number), ..).map_err(|error| wrong(error.to_string()))? {
            let (key, value) = row.map_err(|error| wrong(error.to_string()))?;
            match expected.next() {
                Some(((_, expected_key), expected))
                    if key[..] == [*expected_key] && value[..] == expected.bytes() => {}
                other => {
                    let found = format!("table {number} has key {:?} of {} bytes", &key[..], value.len());
                    return Err(wrong(format!("{version}: {found}, expected {other:?}")));
                }
            }
        }
        if let Some(missing) = expected.next() {
            return Err(wrong(format!("{version}: table {number} lacks {missing:?}")));
        }
    }
    Ok(())
}

/// How a step ended.
pub(crate) enum Outcome {
    Done,
    Broken,
}

/// A store that is open, beside its model.
pub(crate) struct Open<'a> {
    pub(crate) database: Database,
    pub(crate) world: &'a World,
    pub(crate) ledger: &'a mut Ledger<Arc<Content>>,
    pub(crate) durable: bool,
    retention: Retention,
    /// Whether the disk was made to fail or to be full.
    pub(crate) faulty: bool,
    /// A version that is held, and what it must read as.
    held: Option<(Snapshot, Version, Arc<Content>)>,
    /// Whether a page may be damaged when the store is opened.
    rots: bool,
}

impl StoreSubject {
    fn open(&self, world: &World) -> Result<Database, OpenError> {
        let checkpoint = CheckpointOptions::default().slice_keys(4);
        let options = DatabaseOptions::default()
            .durability(self.durability)
            .sector_size(self.sector)
            .page_size(SLOT as u32)
            .retention(self.retention)
            .parity(self.parity != Parity::Off)
            .transaction_memory_bytes(64 << 10)
            .checkpoint(checkpoint);
        let log = options
            .log
            .clone()
            .tending(Tending::Caller)
            .segment_bytes_min(128 << 10)
            .segment_bytes_max(256 << 10)
            .side_file_threshold(24_000);
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&world.clock);
        Database::open_with(Arc::new(world.disk.clone()), clock, Path::new(DIR), options.log(log))
    }
}

impl StoreSubject {
    /// The same store with both copies of the newest header gone opens one generation before, and has everything.
    fn falls_back(
        &self,
        database: &Database,
        disk: SimulatedDisk,
        ledger: &Ledger<Arc<Content>>,
    ) -> Result<(), Failure> {
        let report = database.pages_report();
        if report.generations.len() < 2 {
            return Ok(());
        }
        let odd = report.generation.get() % 2;
        let file = disk.open(&Path::new(DIR).join("pages"), OpenOptions::WRITE).unwrap();
        for slot in [1 + odd, 62 + odd] {
            file.write_all_at(&[0; SLOT as usize], slot * SLOT).unwrap();
        }
        file.sync_data().unwrap();
        let world = World::of(disk);
        let older = self.open(&world).map_err(|error| unopenable(format!("fallen back: {error}")))?;
        assert!(older.pages_report().generation < report.generation);
        if older.visible_version() != database.visible_version() {
            let what =
                format!("fallen back: {}, before {}", older.visible_version(), database.visible_version());
            return Err(Failure::new(FailureKind::Lost, what));
        }
        let mut ledger = ledger.clone();
        self.opened(older, &world, &mut ledger).judge()
    }

    fn opened<'a>(
        &self,
        database: Database,
        world: &'a World,
        ledger: &'a mut Ledger<Arc<Content>>,
    ) -> Open<'a> {
        let durable = !self.durability.may_lose_acknowledged();
        let (retention, rots) = (self.retention, self.parity == Parity::Rotting);
        Open { database, world, ledger, durable, retention, faulty: false, held: None, rots }
    }

    /// The same store with one page damaged reads as it did, and is whole after a scrub.
    fn heals(
        &self,
        database: &Database,
        disk: SimulatedDisk,
        ledger: &Ledger<Arc<Content>>,
    ) -> Result<(), Failure> {
        let unhealed = |what: String| Failure::new(FailureKind::Unhealed, what);
        let damaged = damage(&disk);
        let world = World::of(disk);
        let again = self.open(&world).map_err(|error| unhealed(format!("{damaged}: {error}")))?;
        if again.visible_version() != database.visible_version() {
            let found = again.visible_version();
            return Err(unhealed(format!("{damaged}: {found}, before {}", database.visible_version())));
        }
        let mut ledger = ledger.clone();
        let mut open = self.opened(again, &world, &mut ledger);
        open.judge_content().map_err(|failure| unhealed(format!("{damaged}: {failure}")))?;
        let scrub = scrub(&open.database).map_err(|error| unhealed(format!("{damaged}: {error}")))?;
        if scrub.unrepairable > 0 || !scrub.complete {
            return Err(unhealed(format!("{damaged}: {:?}", scrub.findings)));
        }
        open.is_sound().map_err(|failure| unhealed(format!("{damaged}, scrubbed: {failure}")))?;
        HEALED.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Open<'_> {
    pub(crate) fn at(&self) -> usize {
        self.world.disk.position()
    }

    /// What an opening found, held against the ledger: every version, names, diffs, the store's own check.
    fn judge(&mut self) -> Result<(), Failure> {
        self.judge_content()?;
        if self.rots {
            self.heal("what the crash left")?;
        }
        self.is_sound().map(drop)
    }

    /// What the store's own check says, which must be nothing.
    pub(crate) fn is_sound(&self) -> Result<CheckReport, Failure> {
        let report = self.database.check().map_err(unopenable)?;
        match report.findings.first() {
            Some(finding) if finding.place == "parity" => {
                Err(Failure::new(FailureKind::WrongParity, finding.to_string()))
            }
            Some(finding) => Err(Failure::unopenable(format!("check finds {finding}"))),
            None => Ok(report),
        }
    }

    fn judge_content(&mut self) -> Result<(), Failure> {
        let found = self.database.visible_version();
        let at = self.at();
        self.ledger.opened(found.to_raw(), at)?;
        if self.database.durable_version() != found {
            return Err(wrong(format!("durable is {}, visible {found}", self.database.durable_version())));
        }
        let mut before = Arc::new(Content::default());
        let mut last_time = None;
        let versions: Vec<_> =
            self.ledger.readable().map(|(number, content)| (number, Arc::clone(content))).collect();
        for (number, content) in versions {
            let version = Version::from_raw(number);
            before = Arc::clone(&content);
            if !self.is_readable(version, &content)? {
                continue;
            }
            let info = self.database.commit_info(version).map_err(unopenable)?;
            let info = info.ok_or_else(|| wrong(format!("{version} has no time")))?;
            if last_time.is_some_and(|last| info.time <= last) {
                return Err(wrong(format!("{version} is not later than the one before")));
            }
            last_time = Some(info.time);
        }
        self.has_names(&before)?;
        self.has_branches(&before)
    }

    /// Repairs what a page that rotted left, of which there is one at most.
    fn heal(&self, what: &str) -> Result<(), Failure> {
        let unhealed = |found: String| Failure::new(FailureKind::Unhealed, format!("{what}: {found}"));
        let report = scrub(&self.database).map_err(|error| unhealed(error.to_string()))?;
        if report.unrepairable > 0 || report.finding_count > 1 {
            return Err(unhealed(format!("{:?}", report.findings)));
        }
        HEALED.fetch_add(report.finding_count, Ordering::Relaxed);
        Ok(())
    }

    fn rot(&mut self, how: u64) -> Result<Outcome, Failure> {
        let what = rot(&self.world.disk, how);
        if how.is_multiple_of(2) {
            // Who reads is served before anything is repaired.
            self.reads_as_ever()?;
        }
        self.heal(&what)?;
        self.is_sound()?;
        self.reads_as_ever()?;
        Ok(Outcome::Done)
    }

    fn set_parity(&self, on: bool) -> Result<Outcome, Failure> {
        if self.database.set_parity(on).is_err() {
            // Full, failed or poisoned; what is left is done by the generations to come.
            return Ok(Outcome::Broken);
        }
        self.is_sound()?;
        Ok(Outcome::Done)
    }

    fn scrub(&self) -> Result<Outcome, Failure> {
        match scrub(&self.database) {
            Ok(report) if report.finding_count > 0 => {
                Err(Failure::new(FailureKind::WrongParity, format!("a scrub finds {:?}", report.findings)))
            }
            Ok(_) => Ok(Outcome::Done),
            Err(_) => Ok(Outcome::Broken),
        }
    }

    /// Whether a version is retained, and if so, that it reads as it must.
    fn is_readable(&self, version: Version, content: &Content) -> Result<bool, Failure> {
        match self.database.snapshot_at(version) {
            Err(ReadError::HistoryGone { oldest, .. })
                if version < oldest && self.retention != Retention::Forever && !self.is_named(version) =>
            {
                Ok(false)
            }
            Err(error) => Err(wrong(error.to_string())),
            Ok(snapshot) => reads_as(&snapshot, version, &content.rows).map(|()| true),
        }
    }

    fn is_named(&self, version: Version) -> bool {
        let newest = self.ledger.newest();
        newest.names.values().any(|named| *named == version.to_raw())
            || newest.branches.values().any(|branch| branch.base == version.to_raw())
    }

    /// Every version that is retained reads as it must, and so does what is held.
    fn reads_as_ever(&self) -> Result<(), Failure> {
        for (number, content) in self.ledger.readable() {
            self.is_readable(Version::from_raw(number), content)?;
        }
        self.has_branches(self.ledger.newest())?;
        match &self.held {
            Some((snapshot, version, content)) => reads_as(snapshot, *version, &content.rows),
            None => Ok(()),
        }
    }

    fn checkpoint(&mut self, compact: bool) -> Result<Outcome, Failure> {
        // Between two slices the store reads as before.
        let looked: Rc<RefCell<Result<(), Failure>>> = Rc::new(RefCell::new(Ok(())));
        let seen = Rc::clone(&looked);
        let expected: Vec<_> = self
            .ledger
            .readable()
            .map(|(number, content)| (Version::from_raw(number), Arc::clone(content)))
            .filter(|(version, _)| self.database.snapshot_at(*version).is_ok())
            .collect();
        let database = self.database.clone();
        let look = move || {
            for (version, content) in &expected {
                let found = match database.snapshot_at(*version) {
                    Ok(snapshot) => reads_as(&snapshot, *version, &content.rows),
                    Err(ReadError::HistoryGone { .. }) => Ok(()),
                    Err(error) => Err(wrong(error.to_string())),
                };
                if found.is_err() {
                    *seen.borrow_mut() = found;
                    return;
                }
            }
        };
        self.attempt_clearing()?;
        let work = || if compact { self.database.compact().map(drop) } else { self.database.checkpoint() };
        let done = keepstone_mvcc_temporal::wrong::looking(look, work);
        let found = looked.replace(Ok(()));
        found?;
        let (visible, at) = (self.database.visible_version().to_raw(), self.at());
        self.ledger.seen(visible, at);
        match done {
            Ok(()) => {
                self.ledger.withdraw(visible + 1, at)?;
                self.has_nothing_left()?;
                let (through, at) = (self.database.durable_version().to_raw(), self.at());
                if through != self.database.visible_version().to_raw() {
                    return Err(Failure::new(FailureKind::Lost, "folded, and not called durable"));
                }
                self.ledger.promised(through, at);
                self.reads_as_ever()?;
                let left = self.world.disk.list(&Path::new(DIR).join("runs")).unwrap_or_default();
                let left: Vec<_> = left.into_iter().filter(|entry| entry.name != "quarantine").collect();
                if !left.is_empty() {
                    return Err(Failure::unopenable(format!("everything is folded, and {left:?} are left")));
                }
                Ok(Outcome::Done)
            }
            // Full, failed or poisoned: what can be read stays as it is.
            Err(_) => {
                self.reads_as_ever()?;
                Ok(Outcome::Broken)
            }
        }
    }

    fn hold(&mut self, back: u64) -> Result<(), Failure> {
        if self.held.take().is_some() {
            return Ok(());
        }
        let known = self.ledger.readable().rev().nth(back as usize);
        let Some((version, content)) = known.map(|(number, content)| (Version::from_raw(number), content))
        else {
            return Ok(());
        };
        if let Ok(snapshot) = self.database.snapshot_at(version) {
            self.held = Some((snapshot, version, Arc::clone(content)));
        }
        Ok(())
    }

    fn has_names(&self, content: &Content) -> Result<(), Failure> {
        let names = self.database.names().map_err(|error| wrong(error.to_string()))?;
        let found: Vec<_> = names.into_iter().map(|named| (named.name, named.version.to_raw())).collect();
        let expected: Vec<_> =
            content.names.iter().map(|(number, version)| (name(*number), *version)).collect();
        if found == expected { Ok(()) } else { Err(wrong(format!("names {found:?}, expected {expected:?}"))) }
    }

    /// The version that the next commit gets.
    fn next(&self) -> u64 {
        self.ledger.next_number()
    }

    /// Makes changes in a transaction and in the model; fails when they are too much for memory and the disk takes no more.
    pub(crate) fn applied(
        &mut self,
        rows: &mut Rows,
        txn: &mut Txn,
        changes: &[Change],
    ) -> Result<(), CommitError> {
        for change in changes {
            let place = (change.table, change.key);
            match change.len {
                Some(len) => {
                    let tag = self.ledger.tags() + 1;
                    self.ledger.note_tags(tag);
                    let value = Value { tag, len };
                    txn.put(&table(change.table), [change.key], value.bytes())?;
                    rows.insert(place, value);
                }
                None => {
                    txn.delete(&table(change.table), [change.key])?;
                    rows.remove(&place);
                }
            }
        }
        Ok(())
    }

    /// Notes an attempt whose outcome is not known yet, and gives its version.
    pub(crate) fn attempt(&mut self, content: Content) -> Result<u64, Failure> {
        let (number, at) = (self.next(), self.at());
        self.ledger.attempt(number, Arc::new(content), at)?;
        Ok(number)
    }

    /// The end of an attempt.
    pub(crate) fn ended(
        &mut self,
        number: u64,
        result: Result<Version, CommitError>,
        durable: bool,
    ) -> Result<Outcome, Failure> {
        let at = self.at();
        match result {
            Ok(version) if version.to_raw() != number => {
                let expected = Version::from_raw(number);
                let what = format!("a commit got version {version}, expected {expected}");
                Err(Failure::new(FailureKind::Invented, what))
            }
            Ok(_) if durable => {
                self.ledger.promised(number, at);
                if self.database.durable_version().to_raw() < number {
                    return Err(Failure::new(FailureKind::Lost, "acknowledged, and not called durable"));
                }
                Ok(Outcome::Done)
            }
            Ok(_) => {
                self.ledger.seen(number, at);
                self.ledger.promised(self.database.durable_version().to_raw(), at);
                Ok(Outcome::Done)
            }
            Err(CommitError::CommitOutcomeUnknown { .. }) => Ok(Outcome::Broken),
            Err(error) => {
                self.ledger.withdraw(number, at)?;
                let poisoned = matches!(error, CommitError::Poisoned { .. });
                Ok(if poisoned { Outcome::Broken } else { Outcome::Done })
            }
        }
    }

    fn commit(&mut self, changes: &[Change], durable: bool) -> Result<Outcome, Failure> {
        let options = if durable {
            TxnOptions::default().durability(Durability::Normal)
        } else {
            TxnOptions::default()
        };
        let mut txn = self.database.begin_with(options).map_err(unopenable)?;
        let mut content = Content::clone(self.ledger.newest());
        if self.applied(&mut content.rows, &mut txn, changes).is_err() {
            return Ok(Outcome::Done);
        }
        let number = self.attempt(content)?;
        let result = txn.commit().map(|receipt| receipt.version);
        self.ended(number, result, durable || self.durable)
    }

    fn group(&mut self, group: &[Vec<Change>]) -> Result<Outcome, Failure> {
        let mut pending: Vec<(u64, PendingCommit)> = Vec::new();
        let mut outcome = Outcome::Done;
        for changes in group {
            // Snapshot isolation with blind writes would conflict: each sees what was visible before the group.
            let options = TxnOptions::default().isolation(keepstone_mvcc_temporal::Isolation::ReadCommitted);
            let mut txn = self.database.begin_with(options).map_err(unopenable)?;
            let mut content = Content::clone(self.ledger.newest());
            if self.applied(&mut content.rows, &mut txn, changes).is_err() {
                continue;
            }
            let number = self.attempt(content)?;
            match txn.submit() {
                Ok(submitted) => pending.push((number, submitted)),
                // What is refused at once takes no version; the next gets it.
                Err(error) => {
                    if matches!(self.ended(number, Err(error), self.durable)?, Outcome::Broken) {
                        outcome = Outcome::Broken;
                    }
                }
            }
        }
        // The last first, so that somebody waits for a group that another has led.
        for (number, submitted) in pending.into_iter().rev() {
            let result = submitted.wait().map(|receipt| receipt.version);
            if matches!(self.ended(number, result, self.durable)?, Outcome::Broken) {
                outcome = Outcome::Broken;
            }
        }
        Ok(outcome)
    }

    fn rollback_to(&mut self, back: u64) -> Result<Outcome, Failure> {
        let known: Vec<_> =
            self.ledger.readable().map(|(number, content)| (number, Arc::clone(content))).collect();
        let Some((number, target)) = known.iter().rev().nth(back as usize) else { return Ok(Outcome::Done) };
        let content = Content { rows: target.rows.clone(), ..Content::clone(self.ledger.newest()) };
        if content.rows == self.ledger.newest().rows {
            return Ok(Outcome::Done);
        }
        let attempted = self.attempt(content)?;
        let result = self.database.rollback_to(Version::from_raw(*number)).map(|receipt| receipt.version);
        // The same bytes under another tag would be a change to the model and none to the store.
        self.ended(attempted, result, self.durable)
    }

    fn name(&mut self, number: u8) -> Result<Outcome, Failure> {
        let mut content = Content::clone(self.ledger.newest());
        let newest = self.database.visible_version();
        let given = content.names.contains_key(&number);
        if given {
            content.names.remove(&number);
        } else {
            content.names.insert(number, newest.to_raw());
        }
        if !given && newest > self.database.durable_version() {
            // What is named is made durable first.
            if self.database.sync().is_err() {
                return Ok(Outcome::Broken);
            }
            let at = self.at();
            self.ledger.promised(newest.to_raw(), at);
        }
        let attempted = self.attempt(content)?;
        let result = if given {
            self.database.drop_name(&name(number))
        } else {
            self.database.name_version(&name(number), newest)
        };
        let made = result.map(|()| self.database.visible_version());
        self.ended(attempted, made, self.durable)
    }

    fn run(&mut self, step: &Step) -> Result<Outcome, Failure> {
        let disk = &self.world.disk;
        self.faulty |= step.is_fault();
        match step {
            Step::Branch(number, action) => return self.branch(*number, action),
            Step::Commit(changes, durable) => return self.commit(changes, *durable),
            Step::Bulk(changes) => return self.commit(changes, true),
            Step::Group(group) => return self.group(group),
            Step::Drop(changes) => {
                let mut txn = self.database.begin().map_err(unopenable)?;
                let mut content = Content::clone(self.ledger.newest());
                drop(self.applied(&mut content.rows, &mut txn, changes));
            }
            Step::RollbackTo(back) => return self.rollback_to(*back),
            Step::Name(number) => return self.name(*number),
            Step::Checkpoint => return self.checkpoint(false),
            Step::Compact => return self.checkpoint(true),
            Step::Parity(on) => return self.set_parity(*on),
            Step::Scrub => return self.scrub(),
            Step::Rot(how) => return self.rot(*how),
            Step::Hold(back) => self.hold(*back)?,
            Step::Tend => drop(self.database.tend()),
            Step::Idle => {
                self.world.clock.advance(Duration::from_millis(25));
                self.database.tend();
            }
            Step::Sync => match self.database.sync() {
                Ok(()) => {
                    let (through, at) = (self.database.durable_version().to_raw(), self.at());
                    self.ledger.promised(through, at);
                }
                Err(_) => return Ok(Outcome::Broken),
            },
            Step::FailSync(after, reads_back) => {
                let at = self.at();
                self.ledger.doubt(at);
                disk.inject(Fault::FailSync(disk.changes() + after, FailedSync { reads_back: *reads_back }));
            }
            Step::FailWrite(after) => disk.inject(Fault::FailWrite(disk.changes() + after)),
            Step::Fill(left) => disk.set_capacity(Some(disk.used() + left)),
            Step::Room => {
                disk.set_capacity(None);
                disk.heal();
            }
            Step::Short => disk.inject(Fault::Short(9)),
            Step::Reopen => {}
        }
        Ok(Outcome::Done)
    }
}

impl Subject for StoreSubject {
    type Step = Step;
    type Content = Arc<Content>;

    fn empty(&self) -> Arc<Content> {
        Arc::default()
    }

    fn step(&self, dice: &mut Dice) -> Step {
        if self.parity == Parity::Rotting && dice.one_in(5) {
            return Step::Rot(dice.draw());
        }
        loop {
            let step = any_step(dice);
            let is_allowed = match step {
                Step::Parity(_) => self.parity == Parity::Switched,
                Step::Rot(_) => self.parity == Parity::Rotting,
                _ => true,
            };
            if is_allowed && (self.faults || !step.is_fault()) {
                return step;
            }
        }
    }

    fn probe(&self) -> Vec<Step> {
        let commit = Step::Commit(vec![Change { table: 0, key: 0, len: Some(30) }], true);
        match self.retention {
            // What was discarded goes with the next checkpoint.
            Retention::None => vec![commit, Step::Checkpoint],
            _ => vec![commit],
        }
    }

    fn live(&self, world: &World, ledger: &mut Ledger<Arc<Content>>, steps: &[Step]) -> Result<(), Failure> {
        let mut rest = steps.iter();
        loop {
            let copy = |wanted: bool| wanted.then(|| world.disk.kill(world.disk.position() as u64));
            // One in four: what is damaged differs with what is in the file.
            let is_damaged = self.parity == Parity::On && world.disk.position().is_multiple_of(4);
            let copies = (copy(self.rotten), copy(is_damaged));
            let database = self.open(world).map_err(unopenable)?;
            if let Some(copy) = copies.0 {
                self.falls_back(&database, copy, ledger)?;
            }
            if let Some(copy) = copies.1.filter(has_pages) {
                self.heals(&database, copy, ledger)?;
            }
            let next = database.visible_version().on(database.recovery().timeline).next();
            let mut open = self.opened(database, world, ledger);
            open.judge()?;
            open.ledger.go_on_with(next.unwrap_or(Version::MAX).to_raw());
            let mut again = false;
            for step in rest.by_ref() {
                let outcome = open.run(step)?;
                if matches!(outcome, Outcome::Broken) || matches!(step, Step::Reopen) {
                    again = true;
                    break;
                }
            }
            if !again {
                return Ok(());
            }
            // Opened again in the same process, with what the system's cache holds, and room.
            world.disk.set_capacity(None);
            world.disk.heal();
            drop(open.database.close());
        }
    }
}
