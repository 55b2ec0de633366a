//! The log as the subject of a sweep: used alone, or below a layer that watches every moment of a record's way.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keepstone_testkit::crash::{Failure, FailureKind, Ledger, Subject, World};
use keepstone_types::sync::Mutex;
use keepstone_types::{Clock, CodecId, Lsn, ManualClock, StoreId, lock_rank};
use keepstone_vfs::Vfs;
use keepstone_vfs::simulated::{Dice, FailedSync, Fault, SimulatedDisk};
use keepstone_wal::{
    CommitError, Durability, Log, LogOptions, LogSink, NoSink, OpenError, Pin, Record, RecordKind,
    RecoveryReport, Replayed, Tending, Ticket,
};

use crate::program::{Step, any_step};

pub(crate) const DIR: &str = "/log";

/// A record: which one, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    tag: u64,
    len: usize,
}

impl Content {
    /// Bytes that tell which record this is, wherever one looks.
    fn payload(self) -> Vec<u8> {
        let mut dice = Dice::new(self.tag);
        let word = dice.draw().to_le_bytes();
        let mut payload: Vec<u8> = word.iter().copied().cycle().take(self.len).collect();
        for (place, chunk) in payload.chunks_mut(512).enumerate() {
            chunk[0] ^= place as u8;
        }
        payload
    }

    fn record(self) -> Record {
        Record::with_codec(RecordKind::WRITE, CodecId::RAW, self.payload())
    }
}

/// The log with the options of one sweep.
pub(crate) struct LogSubject {
    pub(crate) options: LogOptions,
    /// Used alone, by `append` and `append_batch`.
    pub(crate) alone: bool,
    /// Whether steps that make the disk fail are drawn.
    pub(crate) faults: bool,
    /// Which store the log belongs to.
    pub(crate) store: u8,
}

/// What the layer above sees.
struct Watch {
    disk: SimulatedDisk,
    state: Mutex<Watched>,
}

struct Watched {
    ledger: Ledger<Content>,
    failure: Option<Failure>,
}

impl Watch {
    fn new(disk: &SimulatedDisk, ledger: Ledger<Content>) -> Self {
        let state = Watched { ledger, failure: None };
        Self { disk: disk.clone(), state: Mutex::new(lock_rank::VFS_MEMORY_TREE, state) }
    }

    /// Changes the ledger, at the moment at which the disk is.
    fn with<T>(&self, change: impl FnOnce(&mut Ledger<Content>, usize) -> T) -> T {
        let at = self.disk.position();
        change(&mut self.state.lock().ledger, at)
    }

    fn try_with(&self, change: impl FnOnce(&mut Ledger<Content>, usize) -> Result<(), Failure>) {
        if let Err(failure) = self.with(change) {
            self.state.lock().failure.get_or_insert(failure);
        }
    }

    fn failure(&self) -> Result<(), Failure> {
        self.state.lock().failure.clone().map_or(Ok(()), Err)
    }
}

/// The layer above.
struct Sink {
    watch: Arc<Watch>,
    /// What is published is on stable storage.
    durable: bool,
}

impl LogSink for Sink {
    type Admission = ();
    type Item = (Content, Lsn);
    type Refusal = Infallible;

    fn admit(
        &self,
        (): &mut (),
        lsn: Lsn,
        _: &mut [u8],
        item: &mut (Content, Lsn),
    ) -> Result<(), Infallible> {
        item.1 = lsn;
        self.watch.try_with(|ledger, at| ledger.attempt(lsn.get(), item.0, at));
        Ok(())
    }

    fn apply(&self, _: Lsn, _: (Content, Lsn)) {}

    fn publish(&self, lsn: Lsn) {
        self.watch.with(|ledger, at| match self.durable {
            true => ledger.promised(lsn.get(), at),
            false => ledger.seen(lsn.get(), at),
        });
    }

    fn durable(&self, lsn: Lsn) {
        self.watch.with(|ledger, at| ledger.promised(lsn.get(), at));
    }

    fn revoke(&self, (): &mut (), item: (Content, Lsn)) {
        self.watch.try_with(|ledger, at| ledger.withdraw(item.1.get(), at));
    }
}

/// What an opening replayed: payloads by number.
type Found = BTreeMap<u64, Vec<u8>>;

/// How a step ended that hands records in.
enum Outcome {
    Kept,
    /// Nothing was written of it.
    Refused,
    /// The log takes nothing more.
    Broken,
}

fn outcome<T, R: std::fmt::Debug>(result: Result<T, CommitError<R>>) -> Outcome {
    match result {
        Ok(_) => Outcome::Kept,
        Err(CommitError::OutcomeUnknown { .. } | CommitError::Poisoned { .. }) => Outcome::Broken,
        Err(_) => Outcome::Refused,
    }
}

/// The two ways to use a log, as one.
trait Drive {
    fn commit(&self, content: Content, durability: Option<Durability>) -> Outcome;
    fn group(&self, contents: &[Content]) -> Outcome;
}

/// A log below a layer: what it attempts and promises is seen from inside.
struct Below<'a>(&'a Log<Sink>);

impl Drive for Below<'_> {
    fn commit(&self, content: Content, durability: Option<Durability>) -> Outcome {
        outcome(self.0.commit(content.record(), (content, Lsn::ZERO), durability))
    }

    fn group(&self, contents: &[Content]) -> Outcome {
        let submit = |content: &Content| self.0.submit(content.record(), (*content, Lsn::ZERO), None);
        let mut worst = Outcome::Kept;
        let mut note = |outcome| match (&worst, outcome) {
            (_, Outcome::Kept) | (Outcome::Broken, _) => {}
            (_, outcome) => worst = outcome,
        };
        let mut tickets: Vec<Ticket> = Vec::new();
        for submitted in contents.iter().map(submit) {
            match submitted {
                Ok(ticket) => tickets.push(ticket),
                Err(error) => note(outcome::<(), _>(Err(error))),
            }
        }
        // The last first, so that somebody waits for a group that another has led.
        for ticket in tickets.into_iter().rev() {
            note(outcome(self.0.wait(ticket)));
        }
        worst
    }
}

/// A log used alone: what it attempts is noted before the call, what it promises after.
struct Alone<'a> {
    log: &'a Log<NoSink>,
    watch: &'a Watch,
    durable: bool,
}

impl Alone<'_> {
    fn around(&self, contents: &[Content], call: impl FnOnce() -> Outcome) -> Outcome {
        // A clean refusal gives the numbers back, so the next is always the one after the last that was written.
        let first = self.watch.with(|ledger, _| ledger.next_number());
        for (number, content) in (first..).zip(contents) {
            self.watch.try_with(|ledger, at| ledger.attempt(number, *content, at));
        }
        let last = first + contents.len() as u64 - 1;
        let outcome = call();
        match outcome {
            Outcome::Kept if self.durable => self.watch.with(|ledger, at| ledger.promised(last, at)),
            Outcome::Kept => self.watch.with(|ledger, at| ledger.seen(last, at)),
            Outcome::Refused => {
                // Of a batch longer than a group, the beginning may be kept.
                let kept = self.log.visible_lsn().get();
                let kept_through = kept.min(last);
                self.watch.with(|ledger, at| match self.durable {
                    true => ledger.promised(kept_through, at),
                    false => ledger.seen(kept_through, at),
                });
                self.watch.try_with(|ledger, at| ledger.withdraw(first.max(kept + 1), at));
            }
            Outcome::Broken => {}
        }
        outcome
    }

    fn numbered(&self, given: &[Lsn], contents: usize) {
        let newest = self.watch.with(|ledger, _| ledger.next_number());
        let first = newest - contents as u64;
        let expected: Vec<Lsn> = (first..newest).map(Lsn::new).collect();
        if given != expected {
            let what = format!("records got {given:?}, expected {expected:?}");
            self.watch.try_with(|_, _| Err(Failure::new(FailureKind::Invented, what)));
        }
    }
}

impl Drive for Alone<'_> {
    fn commit(&self, content: Content, _: Option<Durability>) -> Outcome {
        self.around(&[content], || {
            let appended = self.log.append(content.record());
            if let Ok(lsn) = &appended {
                self.numbered(&[*lsn], 1);
            }
            outcome(appended)
        })
    }

    fn group(&self, contents: &[Content]) -> Outcome {
        self.around(contents, || {
            let appended = self.log.append_batch(contents.iter().map(|content| content.record()).collect());
            if let Ok(lsns) = &appended {
                self.numbered(lsns, contents.len());
            }
            outcome(appended)
        })
    }
}

/// How a life within a life ends.
enum End {
    /// Nothing more to do.
    Over,
    /// Opened again, from this step on.
    Reopen(usize),
}

/// The steps that concern the disk alone.
fn fail_disk(world: &World, watch: &Watch, step: &Step) {
    let disk = &world.disk;
    match step {
        Step::FailSync(after, reads_back) => {
            watch.with(|ledger, at| ledger.doubt(at));
            disk.inject(Fault::FailSync(disk.changes() + after, FailedSync { reads_back: *reads_back }));
        }
        Step::FailWrite(after) => disk.inject(Fault::FailWrite(disk.changes() + after)),
        Step::Fill(left) => disk.set_capacity(Some(disk.used() + left)),
        Step::Room => {
            disk.set_capacity(None);
            disk.heal();
        }
        Step::Short => disk.inject(Fault::Short(9)),
        other => panic!("{other:?} does not concern the disk"),
    }
}

impl LogSubject {
    fn log_options(&self) -> LogOptions {
        self.options.clone().tending(Tending::Caller).store_id(Some(StoreId::from_bytes([self.store; 16])))
    }

    /// What an opening found, held against the ledger.
    fn judge(
        &self,
        world: &World,
        watch: &Watch,
        report: &RecoveryReport,
        found: &Found,
    ) -> Result<(), Failure> {
        // A log whose records are all released has nothing to replay, and says where it goes on.
        let replayed = found.keys().next_back().copied();
        let last =
            replayed.unwrap_or_else(|| watch.with(|ledger, _| ledger.newest_through(report.last_lsn.get())));
        watch.with(|ledger, at| ledger.opened(last, at))?;
        if replayed.is_some_and(|lsn| lsn != report.last_lsn.get()) {
            let what = format!("the report ends with {}, the replay with {replayed:?}", report.last_lsn);
            return Err(Failure::new(FailureKind::WrongRead, what));
        }
        watch.with(|ledger, _| {
            let first = found.keys().next().copied().unwrap_or(last + 1);
            for (number, content) in ledger.readable() {
                match found.get(&number) {
                    Some(payload) if *payload == content.payload() => {}
                    Some(payload) => {
                        let what = format!("record {number} reads otherwise ({} bytes)", payload.len());
                        return Err(Failure::new(FailureKind::WrongRead, what));
                    }
                    None if number < first && number <= ledger.floor() => {}
                    None => {
                        let what = format!("record {number} is not there; the first is {first}");
                        return Err(Failure::new(FailureKind::Lost, what));
                    }
                }
            }
            let known: Vec<u64> = ledger.readable().map(|(number, _)| number).collect();
            match found.keys().find(|number| !known.contains(number)) {
                Some(number) => {
                    Err(Failure::new(FailureKind::Invented, format!("record {number} was never attempted")))
                }
                None => Ok(()),
            }
        })?;
        self.files(world, found)
    }

    /// After an opening there is nothing in the folder that nothing names.
    fn files(&self, world: &World, found: &Found) -> Result<(), Failure> {
        let entries =
            world.disk.list(Path::new(DIR)).map_err(|error| Failure::unopenable(error.to_string()))?;
        let names = || entries.iter().map(|entry| entry.name.as_str());
        let sides = names().filter(|name| name.ends_with(".side")).count();
        let named =
            found.values().filter(|payload| payload.len() >= self.options.side_file_threshold).count();
        let known = |name: &str| {
            name == "LOCK" || name == "pins" || name.ends_with(".side") || name.ends_with(".wal")
        };
        let other: Vec<_> = names().filter(|name| !known(name)).collect();
        if sides != named || !other.is_empty() {
            let what = format!("{sides} side files for {named} records, and {other:?}");
            return Err(Failure::new(FailureKind::Orphan, what));
        }
        Ok(())
    }

    fn open<S: LogSink>(
        &self,
        world: &World,
        sink: S,
        admission: S::Admission,
    ) -> Result<(Log<S>, Found), OpenError> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&world.clock);
        let disk = Arc::new(world.disk.clone());
        let mut found = BTreeMap::new();
        let mut replay = |replayed: Replayed| {
            if let Replayed::Record(record) = replayed {
                found.insert(record.lsn.get(), record.payload.to_vec());
            }
            Ok(())
        };
        let (dir, options) = (Path::new(DIR), self.log_options());
        let log = Log::open_sink(disk, clock, dir, options, Arc::new(sink), |_| admission, &mut replay)?;
        Ok((log, found))
    }

    /// Opens and runs until the program is over or asks to be opened again.
    fn one_opening(
        &self,
        world: &World,
        watch: &Arc<Watch>,
        steps: &[Step],
        tag: &mut u64,
    ) -> Result<End, Failure> {
        let refused = |error: OpenError| Failure::unopenable(error.to_string());
        let durable = !self.options.durability.may_lose_acknowledged();
        if self.alone {
            let (log, found) = self.open(world, NoSink, ()).map_err(refused)?;
            self.judge(world, watch, log.recovery(), &found)?;
            let next = log.recovery().next_lsn.get();
            watch.with(|ledger, _| ledger.go_on_with(next));
            let drive = Alone { log: &log, watch, durable };
            self.steps(world, watch, &log, &drive, steps, tag)
        } else {
            let (log, found) =
                self.open(world, Sink { watch: Arc::clone(watch), durable }, ()).map_err(refused)?;
            self.judge(world, watch, log.recovery(), &found)?;
            self.steps(world, watch, &log, &Below(&log), steps, tag)
        }
    }

    fn steps<S: LogSink>(
        &self,
        world: &World,
        watch: &Watch,
        log: &Log<S>,
        drive: &dyn Drive,
        steps: &[Step],
        tag: &mut u64,
    ) -> Result<End, Failure> {
        let mut pin: Option<(Pin, u64)> = None;
        let mut content = |len: usize| {
            *tag += 1;
            Content { tag: *tag, len }
        };
        for (place, step) in steps.iter().enumerate() {
            let mut outcome = Outcome::Kept;
            match step {
                Step::Commit(len, durability) => outcome = drive.commit(content(*len), *durability),
                Step::Group(lens) => {
                    let contents: Vec<_> = lens.iter().map(|len| content(*len)).collect();
                    outcome = drive.group(&contents);
                }
                Step::Tend => drop(log.tend()),
                Step::Idle => {
                    world.clock.advance(Duration::from_millis(25));
                    log.tend();
                }
                Step::Sync => match log.sync() {
                    Ok(lsn) => watch.with(|ledger, at| ledger.promised(lsn.get(), at)),
                    Err(_) => outcome = Outcome::Broken,
                },
                Step::OwnerMark(mark) => drop(log.set_owner_mark([*mark; 16])),
                Step::Release(keep) => {
                    let through = log.durable_lsn().get().saturating_sub(*keep);
                    let held = pin.as_ref().map_or(u64::MAX, |(_, from)| from - 1);
                    watch.with(|ledger, at| ledger.released(through.min(held), at));
                    drop(log.release(Lsn::new(through)));
                }
                Step::Pin(back) => {
                    let from = log.durable_lsn().get().saturating_sub(*back).max(1);
                    pin = log.pin("sweep", Lsn::new(from), 1 << 30).ok().map(|pin| (pin, from)).or(pin);
                }
                Step::Unpin => drop(pin.take().map(|(pin, _)| pin.release())),
                Step::Reopen => {
                    world.disk.set_capacity(None);
                    world.disk.heal();
                    drop(log.close());
                    watch.failure()?;
                    return Ok(End::Reopen(place + 1));
                }
                fault => fail_disk(world, watch, fault),
            }
            watch.failure()?;
            if matches!(outcome, Outcome::Broken) {
                // Opened again in the same process, with what the system's cache holds, and room.
                world.disk.set_capacity(None);
                world.disk.heal();
                drop(log.close());
                return Ok(End::Reopen(place + 1));
            }
        }
        let damage = log.verify().map_err(|error| Failure::unopenable(error.to_string()))?;
        if let Some(damage) = damage.first() {
            return Err(Failure::unopenable(format!("verify finds {damage}")));
        }
        Ok(End::Over)
    }
}

impl Subject for LogSubject {
    type Step = Step;
    type Content = Content;

    fn empty(&self) -> Content {
        Content { tag: 0, len: 0 }
    }

    fn step(&self, dice: &mut Dice) -> Step {
        loop {
            let step = any_step(dice);
            let faulty =
                matches!(step, Step::FailSync(..) | Step::FailWrite(_) | Step::Fill(_) | Step::Short);
            if self.faults || !faulty {
                return step;
            }
        }
    }

    fn probe(&self) -> Vec<Step> {
        vec![Step::Commit(100, None), Step::Sync]
    }

    fn live(&self, world: &World, ledger: &mut Ledger<Content>, steps: &[Step]) -> Result<(), Failure> {
        let mut tag = ledger.tags();
        let watch = Arc::new(Watch::new(&world.disk, ledger.clone()));
        let mut from = 0;
        loop {
            let end = self.one_opening(world, &watch, &steps[from..], &mut tag);
            *ledger = watch.state.lock().ledger.clone();
            ledger.note_tags(tag);
            match end? {
                End::Over => return watch.failure(),
                End::Reopen(on) => from += on,
            }
        }
    }
}
