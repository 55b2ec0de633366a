//! The page file as the subject of a sweep: rows in pages, found through a page of references that the meta leads to.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use keepstone_pager::{
    Access, Audit, OpenError, PageError, PageFile, PageFileOptions, PageKind, PageRead, PageSize, PageWrite,
    PageWriteExt, PageWriter, Parity, Root, ScrubOptions,
};
use keepstone_testkit::crash::{Failure, FailureKind, Ledger, Subject, World};
use keepstone_types::wire::Reader;
use keepstone_types::{Generation, PageRef, StoreId};
use keepstone_vfs::simulated::{Dice, FailedSync, Fault, SimulatedDisk};
use keepstone_vfs::{Vfs, VfsExt};

use crate::program::{Change, Step, any_step};

const FILE: &str = "/pages";
const UNNAMED: &str = "/pages.new";
const ROW: PageKind = PageKind::new(20);
const INDEX: PageKind = PageKind::new(21);
/// The most generations that one step makes.
const STEP_GENERATIONS: u64 = 24;

/// What a reader sees at one generation: for each key, which content.
pub(crate) type Content = BTreeMap<u8, u64>;

/// Rows of a generation, each with its page.
type Rows = BTreeMap<u8, (u64, PageRef)>;

/// The page file with the options of one sweep.
pub(crate) struct PagerSubject {
    pub(crate) page_size: PageSize,
    /// Whether steps that make the disk fail are drawn.
    pub(crate) faults: bool,
    /// What the file is created with; some steps change it.
    pub(crate) parity: Parity,
}

fn wrong(what: impl Display) -> Failure {
    Failure::new(FailureKind::WrongRead, what.to_string())
}

fn unopenable(what: impl Display) -> Failure {
    Failure::unopenable(what.to_string())
}

fn shared(disk: &SimulatedDisk) -> Arc<dyn Vfs> {
    Arc::new(disk.clone())
}

fn store() -> StoreId {
    StoreId::from_bytes([5; 16])
}

/// The bytes of a row: told apart at every sector.
fn row(tag: u64, len: usize) -> Vec<u8> {
    let word = Dice::new(tag).draw();
    let sector = |place: usize| (word ^ place as u64).to_le_bytes();
    (0..len.div_ceil(512)).flat_map(|place| sector(place).repeat(64)).take(len).collect()
}

/// What a root leads to: the index page and the rows it names.
fn rows_of(file: &PageFile, root: &Root) -> Result<(Option<PageRef>, Rows), PageError> {
    let Some(at) = PageRef::read(&mut Reader::new(root.meta())).ok().flatten() else {
        return Ok((None, Rows::new()));
    };
    let page = file.read(at)?.expect_kind(INDEX)?;
    let mut reader = Reader::new(page.payload());
    let mut rows = Rows::new();
    for _ in 0..reader.u16().unwrap() {
        let (key, tag) = (reader.u8().unwrap(), reader.u64().unwrap());
        rows.insert(key, (tag, PageRef::read(&mut reader).unwrap().unwrap()));
    }
    Ok((Some(at), rows))
}

/// Reads everything that a root leads to and holds it against the model.
fn reads_as(file: &PageFile, root: &Root, content: &Content) -> Result<(), Failure> {
    let generation = root.generation();
    let (_, rows) =
        rows_of(file, root).map_err(|error| wrong(format!("generation {generation}: {error}")))?;
    let found: Content = rows.iter().map(|(key, (tag, _))| (*key, *tag)).collect();
    if found != *content {
        return Err(wrong(format!("generation {generation} has rows {found:?}, expected {content:?}")));
    }
    for (key, (tag, at)) in rows {
        let page =
            file.read(at).map_err(|error| wrong(format!("generation {generation}, row {key}: {error}")))?;
        if page.kind() != ROW || page.payload() != row(tag, file.payload_len()) {
            return Err(wrong(format!("generation {generation}, row {key} at {at} is not {tag}")));
        }
    }
    Ok(())
}

fn mark_all(file: &PageFile, audit: &mut Audit) -> Result<(), PageError> {
    let root = Arc::clone(audit.root());
    let (index, rows) = rows_of(file, &root)?;
    for at in index.into_iter().chain(rows.into_values().map(|(_, at)| at)) {
        audit.mark(at);
    }
    Ok(())
}

/// Nothing is lost and nothing is left over.
fn is_sound(file: &PageFile) -> Result<(), Failure> {
    let report = file.audit(|audit| mark_all(file, audit)).map_err(unopenable)?;
    if let Some(finding) = report.findings.first() {
        return Err(Failure::new(FailureKind::Orphan, format!("the audit finds {finding}")));
    }
    // Everything that parity counts is on the disk, and comes to what the parity pages say.
    let scrub = file.scrub(&ScrubOptions::default(), |_| ControlFlow::Continue(())).map_err(unopenable)?;
    match scrub.findings.first() {
        Some(finding) => Err(wrong(format!("the scrub finds {finding}"))),
        None => Ok(()),
    }
}

/// Builds the next generation: changed rows, and the page that names all.
fn build(
    writer: &mut PageWriter,
    file: &PageFile,
    changes: &[Change],
    tags: &mut u64,
    run: u32,
) -> Result<(Content, PageRef), PageError> {
    let (index, mut rows) = rows_of(file, &file.root())?;
    // As on a disk that is full: then every dead slot is wanted.
    writer.keep_within_file(tags.is_multiple_of(3));
    for change in changes {
        if let Some((_, old)) = rows.remove(&change.key) {
            writer.free(old.page, old.birth)?;
        }
        if change.put {
            *tags += 1;
            let slots = writer.allocate(run)?;
            let payload = row(*tags, writer.payload_len());
            let at = writer.write(slots.get(slots.count - 1).unwrap(), ROW, &payload)?;
            rows.insert(change.key, (*tags, at));
        }
    }
    if let Some(index) = index {
        writer.free(index.page, index.birth)?;
    }
    let mut payload = (rows.len() as u16).to_le_bytes().to_vec();
    for (key, (tag, at)) in &rows {
        payload.push(*key);
        payload.extend(tag.to_le_bytes());
        payload.extend(at.to_bytes());
    }
    let at = writer.put(INDEX, &payload)?;
    Ok((rows.iter().map(|(key, (tag, _))| (*key, *tag)).collect(), at))
}

/// How a step ended.
enum Outcome {
    Done,
    Broken,
}

/// A page file that is open, beside its model.
struct Open<'a> {
    subject: &'a PagerSubject,
    file: PageFile,
    world: &'a World,
    ledger: &'a mut Ledger<Arc<Content>>,
    held: Vec<(Arc<Root>, Arc<Content>)>,
}

impl PagerSubject {
    fn options(&self) -> PageFileOptions {
        PageFileOptions::default().page_size(self.page_size).cache_bytes(200_000).parity(self.parity)
    }

    fn open_on(&self, disk: &SimulatedDisk) -> Result<PageFile, OpenError> {
        PageFile::open(
            shared(disk),
            Path::new(FILE),
            store(),
            self.options(),
            Access::Write,
            Generation::ZERO,
        )
    }

    /// Opens what is there; creates it, and gives it its name last, when nothing is.
    fn open(&self, world: &World, ledger: &mut Ledger<Arc<Content>>) -> Result<PageFile, Failure> {
        let disk = &world.disk;
        if !disk.exists(Path::new(FILE)).map_err(unopenable)? {
            ledger.opened(0, disk.position())?;
            if disk.exists(Path::new(UNNAMED)).map_err(unopenable)? {
                disk.remove(Path::new(UNNAMED)).map_err(unopenable)?;
            }
            ledger.attempt(1, Arc::default(), disk.position())?;
            let created = PageFile::create(shared(disk), Path::new(UNNAMED), store(), self.options());
            drop(created.map_err(unopenable)?);
            disk.rename(Path::new(UNNAMED), Path::new(FILE)).map_err(unopenable)?;
            disk.sync_dir(Path::new("/")).map_err(unopenable)?;
            ledger.promised(1, disk.position());
        }
        self.open_on(disk).map_err(unopenable)
    }

    /// Without its newest header the file is as it was one generation before, and goes on from there.
    fn falls_back(&self, open: &Open<'_>) -> Result<(), Failure> {
        let newest = open.file.root().generation();
        let before = newest.get() - 1;
        let copy = open.world.disk.kill(1);
        let sectors = u64::from(self.page_size.bytes()) / 512;
        for slot in if newest.get().is_multiple_of(2) { [1, 62] } else { [2, 63] } {
            (0..8).for_each(|sector| assert!(copy.zero_sector(Path::new(FILE), slot * sectors + sector)));
        }
        let opened = self.open_on(&copy);
        if !open.file.open_report().generations.iter().any(|generation| generation.get() == before) {
            return match opened {
                Err(OpenError::NoGeneration { .. }) => Ok(()),
                other => Err(unopenable(format!("without any header: {other:?}"))),
            };
        }
        let file = opened.map_err(|error| unopenable(format!("without the newest header: {error}")))?;
        // Zeros in place of the second generation look as if there had been none.
        let says_so = file.open_report().fell_back || before == 1;
        if file.root().generation().get() != before || !says_so {
            return Err(unopenable(format!("fell back to {} from {newest}", file.root().generation())));
        }
        let content = open.ledger.readable().find(|(number, _)| *number == before);
        let (_, content) =
            content.ok_or_else(|| wrong(format!("generation {before} was never attempted")))?;
        let sound = |content: &Content| reads_as(&file, &file.root(), content).and_then(|()| is_sound(&file));
        sound(content)?;
        let mut tags = open.ledger.tags();
        for key in 0..3 {
            let mut writer = file.begin().map_err(unopenable)?;
            let changes = [Change { key, put: true }, Change { key: key + 10, put: true }];
            let (content, at) = build(&mut writer, &file, &changes, &mut tags, 1).map_err(unopenable)?;
            writer.commit(&at.to_bytes()).map_err(unopenable)?;
            sound(&content)?;
        }
        Ok(())
    }
}

impl Open<'_> {
    fn at(&self) -> usize {
        self.world.disk.position()
    }

    /// What an opening found, held against the ledger.
    fn judge(&mut self) -> Result<(), Failure> {
        let root = self.file.root();
        let at = self.at();
        self.ledger.opened(root.generation().get(), at)?;
        let content = Arc::clone(self.ledger.newest());
        reads_as(&self.file, &root, &content)?;
        is_sound(&self.file)?;
        self.subject.falls_back(self)
    }

    /// A generation is attempted; its number.
    fn attempt(&mut self, content: &Arc<Content>, count: u64) -> Result<u64, Failure> {
        let first = self.file.root().generation().get() + 1;
        for number in first..first + count {
            let at = self.at();
            self.ledger.attempt(number, Arc::clone(content), at)?;
        }
        Ok(first)
    }

    /// The end of attempts: what the newest root says is there is promised, what it does not say is not there, unless
    /// the file does not know either.
    fn ended(&mut self, result: Result<(), PageError>) -> Result<Outcome, Failure> {
        let (newest, at) = (self.file.root().generation().get(), self.at());
        self.ledger.promised(newest, at);
        match result {
            Err(PageError::Io(_) | PageError::OutOfSpace { .. } | PageError::Poisoned)
                if self.file.is_poisoned() =>
            {
                return Ok(Outcome::Broken);
            }
            Ok(()) | Err(PageError::Io(_) | PageError::OutOfSpace { .. }) => {
                self.ledger.withdraw(newest + 1, at)?
            }
            Err(error) => return Err(unopenable(error)),
        }
        for (root, content) in &self.held {
            reads_as(&self.file, root, content)?;
        }
        let content = Arc::clone(self.ledger.newest());
        reads_as(&self.file, &self.file.root(), &content)?;
        is_sound(&self.file)?;
        Ok(Outcome::Done)
    }

    fn commit(&mut self, changes: &[Change], run: u32, keep: bool) -> Result<Outcome, Failure> {
        let mut tags = self.ledger.tags();
        let mut writer = match self.file.begin() {
            Ok(writer) => writer,
            Err(error) => return self.ended(Err(error)),
        };
        let built = build(&mut writer, &self.file, changes, &mut tags, run);
        self.ledger.note_tags(tags);
        let (content, at) = match built {
            Ok(built) => built,
            Err(error) => return self.ended(Err(error)),
        };
        if !keep {
            drop(writer);
            return self.ended(Ok(()));
        }
        let number = self.attempt(&Arc::new(content), 1)?;
        let result = writer.commit(&at.to_bytes());
        if let Ok(root) = &result
            && root.generation().get() != number
        {
            return Err(wrong(format!("committed {}, expected {number}", root.generation())));
        }
        self.ended(result.map(drop))
    }

    fn run(&mut self, step: &Step) -> Result<Outcome, Failure> {
        let disk = &self.world.disk;
        match step {
            Step::Commit(changes) => return self.commit(changes, 1, true),
            Step::Rollback(changes) => return self.commit(changes, 1, false),
            Step::Run(len, key) => {
                let changes = [Change { key: *key, put: true }, Change { key: key ^ 1, put: true }];
                return self.commit(&changes, *len, true);
            }
            Step::Reserve(slots) => {
                let result = self.file.reserve(*slots);
                if result.is_ok() && self.file.stats().free_slots < *slots {
                    return Err(wrong(format!("{:?} after reserving {slots}", self.file.stats())));
                }
                return self.ended(result);
            }
            Step::Shrink | Step::Rebuild | Step::Parity(_) => {
                let content = Arc::clone(self.ledger.newest());
                self.attempt(&content, STEP_GENERATIONS)?;
                let result = match step {
                    Step::Shrink => self.file.shrink().map(drop),
                    Step::Parity(on) => self.file.set_parity(if *on { Parity::Xor } else { Parity::Off }),
                    _ => self.file.rebuild_free_space(|audit| mark_all(&self.file, audit)).map(drop),
                };
                return self.ended(result);
            }
            Step::Hold => self.held.push((self.file.root(), Arc::clone(self.ledger.newest()))),
            Step::LetGo => self.held.clear(),
            Step::Reopen => {}
            Step::FailSync(after, reads_back) => {
                let how = FailedSync { reads_back: *reads_back };
                disk.inject(Fault::FailSync(disk.changes() + after, how));
            }
            Step::FailWrite(after) => disk.inject(Fault::FailWrite(disk.changes() + after)),
            Step::Fill(left) => disk.set_capacity(Some(disk.used() + left)),
            Step::Room => {
                disk.set_capacity(None);
                disk.heal();
            }
            Step::Short => disk.inject(Fault::Short(5)),
        }
        Ok(Outcome::Done)
    }
}

impl Subject for PagerSubject {
    type Step = Step;
    type Content = Arc<Content>;

    fn empty(&self) -> Self::Content {
        Arc::default()
    }

    fn step(&self, dice: &mut Dice) -> Step {
        any_step(dice, self.faults)
    }

    fn probe(&self) -> Vec<Step> {
        let puts = |keys: [u8; 3]| Step::Commit(keys.map(|key| Change { key, put: true }).to_vec());
        let free = Step::Commit(vec![Change { key: 1, put: false }, Change { key: 30, put: false }]);
        vec![puts([1, 2, 3]), free, puts([4, 30, 31])]
    }

    fn live(&self, world: &World, ledger: &mut Ledger<Arc<Content>>, steps: &[Step]) -> Result<(), Failure> {
        let mut rest = steps.iter();
        loop {
            let file = self.open(world, ledger)?;
            let mut open = Open { subject: self, file, world, ledger: &mut *ledger, held: Vec::new() };
            open.judge()?;
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
        }
    }
}
