//! The sweep itself: programs, their crash images, second crashes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use keepstone_types::{ManualClock, Timestamp};
use keepstone_vfs::simulated::{Choose, Delays, Dice, Odometer, Replay, SimulatedDisk, Tearing};

use super::ledger::{Crash, Ledger};
use super::shrink::shrink;
use super::tally::{Failure, Tally};

/// A disk and its clock.
#[derive(Debug)]
pub struct World {
    /// The disk.
    pub disk: SimulatedDisk,
    /// Its clock, which every operation moves.
    pub clock: Arc<ManualClock>,
}

impl World {
    /// A disk with a clock that each operation moves by what it takes.
    #[must_use]
    pub fn of(disk: SimulatedDisk) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_700_000_000_000_000)));
        let delays = Delays { transfer: Duration::from_micros(20), sync: Duration::from_micros(400) };
        disk.set_clock(Arc::clone(&clock), delays);
        Self { disk, clock }
    }
}

/// What is swept.
pub trait Subject {
    /// One step of a program.
    type Step: Clone + Debug;
    /// What a reader sees at one number.
    type Content: Clone;

    /// Nothing was ever written.
    fn empty(&self) -> Self::Content;

    /// A step at random.
    fn step(&self, dice: &mut Dice) -> Self::Step;

    /// The steps that every crash image is put through: what is reopened must take commits.
    fn probe(&self) -> Vec<Self::Step>;

    /// Opens what is on the disk, holds it against the ledger, runs the steps and keeps the ledger up to date. May end
    /// with an orderly close or without.
    ///
    /// # Errors
    /// What is wrong, if something is.
    fn live(
        &self,
        world: &World,
        ledger: &mut Ledger<Self::Content>,
        steps: &[Self::Step],
    ) -> Result<(), Failure>;
}

/// How much is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The first seed.
    pub seed: u64,
    /// How many seeds, one program each.
    pub seeds: u64,
    /// Lives of a program: each but the first begins with a crash image of the one before.
    pub lives: u64,
    /// Steps in each life, at most.
    pub steps: u64,
    /// At a moment with at most so many outcomes all are opened.
    pub exhaustive: u64,
    /// Elsewhere so many are drawn.
    pub samples: u64,
    /// One image in so many is crashed again at every change it makes; 0 for none.
    pub double_every: u64,
}

/// A program that failed, made as short as it still fails.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed of the program.
    pub seed: u64,
    /// What is wrong.
    pub failure: Failure,
    /// Where: the life, the moment, how the power failed.
    pub place: String,
    /// The shortest program that still fails in the same way, a line per life.
    pub program: Vec<String>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.failure)?;
        writeln!(f, "  {}", self.place)?;
        writeln!(f, "  the shortest program that still fails:")?;
        for (life, steps) in self.program.iter().enumerate() {
            writeln!(f, "    life {life}: {steps}")?;
        }
        Ok(())
    }
}

/// Sweeps one program per seed; counts into `tally` and stops at the first failure.
///
/// # Errors
/// The first failure, its program made short.
pub fn sweep<S: Subject>(subject: &S, plan: &Plan, tally: &mut Tally) -> Result<(), Box<Report>> {
    for seed in plan.seed..plan.seed.saturating_add(plan.seeds) {
        let mut dice = Dice::new(seed);
        let lives: Vec<Vec<S::Step>> = (0..plan.lives)
            .map(|_| {
                let count = 1 + dice.choose(plan.steps);
                (0..count).map(|_| subject.step(&mut dice)).collect()
            })
            .collect();
        tally.workloads += 1;
        if let Err((failure, place)) = (Run { subject, plan, seed, tally: &mut *tally }).program(&lives) {
            tally.count(failure.kind);
            let (program, failure, place) = shrink(subject, plan, seed, lives, (failure, place));
            let program = program.iter().map(|steps| format!("{steps:?}")).collect();
            return Err(Box::new(Report { seed, failure, place, program }));
        }
    }
    Ok(())
}

/// Sweeps one given program, a list of steps for each life, as a failure's report shows it.
///
/// # Errors
/// The failure, if it still fails.
pub fn sweep_program<S: Subject>(
    subject: &S,
    plan: &Plan,
    lives: &[Vec<S::Step>],
    tally: &mut Tally,
) -> Result<(), Box<Report>> {
    tally.workloads += 1;
    let run = Run { subject, plan, seed: plan.seed, tally };
    run.program(lives).map_err(|(failure, place)| {
        let program = lives.iter().map(|steps| format!("{steps:?}")).collect();
        Box::new(Report { seed: plan.seed, failure, place, program })
    })
}

/// One program being swept.
pub(super) struct Run<'a, S: Subject> {
    pub(super) subject: &'a S,
    pub(super) plan: &'a Plan,
    pub(super) seed: u64,
    pub(super) tally: &'a mut Tally,
}

/// What is wrong, and where.
pub(super) type Found = (Failure, String);

fn at(place: &dyn Fn() -> String) -> impl FnOnce(Failure) -> Found + '_ {
    move |failure| (failure, place())
}

impl<S: Subject> Run<'_, S> {
    pub(super) fn program(mut self, lives: &[Vec<S::Step>]) -> Result<(), Found> {
        let mut dice = Dice::new(self.seed ^ 0x5eed);
        let mut disk = SimulatedDisk::new(dice.draw());
        let mut ledger = Ledger::new(self.subject.empty());
        for (life, steps) in lives.iter().enumerate() {
            let world = World::of(disk);
            self.subject
                .live(&world, &mut ledger, steps)
                .map_err(at(&|| format!("in life {life}, at change {}", world.disk.position())))?;
            let trace = world.disk.trace();
            let mut replay = trace.replay();
            while replay.step().is_some() {
                self.moment(&replay, life, &ledger, &mut dice)?;
            }
            // The next life begins with what one of the crashes left.
            let until = 1 + dice.choose(trace.events().len() as u64);
            let mut replay = trace.replay();
            for _ in 0..until {
                replay.step();
            }
            let killed = dice.one_in(3);
            let seed = dice.draw();
            disk = if killed {
                replay.kill(seed)
            } else {
                replay.power_loss(Tearing::any(&mut dice), &mut dice, seed)
            };
            ledger = ledger.after(Crash { at: replay.position(), killed });
        }
        Ok(())
    }

    /// Every image of one moment, or a sample of them.
    fn moment(
        &mut self,
        replay: &Replay,
        life: usize,
        ledger: &Ledger<S::Content>,
        dice: &mut Dice,
    ) -> Result<(), Found> {
        let position = replay.position();
        let place = |what: &str| format!("life {life}, after change {position}, {what}");
        let seed = dice.draw();
        let power = Crash { at: position, killed: false };
        if !replay.is_undecided() {
            let disk = replay.power_loss(Tearing::LoseAll, dice, seed);
            return self.image(disk, ledger, power, &|| place("everything was stable"), dice);
        }
        let killed = Crash { at: position, killed: true };
        self.image(replay.kill(seed), ledger, killed, &|| place("killed"), dice)?;
        for tearing in [Tearing::LoseAll, Tearing::KeepAll] {
            let disk = replay.power_loss(tearing, dice, seed);
            self.image(disk, ledger, power, &|| place(&format!("power lost, {tearing:?}")), dice)?;
        }
        // Each open question has two answers or more, so beyond this the bound is passed for sure.
        if replay.open_questions() <= u64::from(self.plan.exhaustive.max(1).ilog2()) {
            let mut odometer = Odometer::new();
            loop {
                let disk = replay.power_loss(Tearing::Sectors, &mut odometer, seed);
                let what = || place(&format!("power lost, outcome {odometer:?}"));
                self.image(disk, ledger, power, &what, dice)?;
                if !odometer.advance() {
                    return Ok(());
                }
            }
        }
        for _ in 0..self.plan.samples {
            let drawn = dice.draw();
            let mut choices = Dice::new(drawn);
            let tearing = Tearing::any(&mut choices);
            let disk = replay.power_loss(tearing, &mut choices, seed);
            let what = || place(&format!("power lost, {tearing:?} drawn from {drawn}"));
            self.image(disk, ledger, power, &what, dice)?;
        }
        Ok(())
    }

    /// Opens an image, and for some of them cuts the power again.
    fn image(
        &mut self,
        disk: SimulatedDisk,
        ledger: &Ledger<S::Content>,
        crash: Crash,
        place: &dyn Fn() -> String,
        dice: &mut Dice,
    ) -> Result<(), Found> {
        self.tally.images += 1;
        let world = World::of(disk);
        let mut next = ledger.after(crash);
        let probe = self.subject.probe();
        self.subject.live(&world, &mut next, &probe).map_err(at(place))?;
        if self.plan.double_every == 0 || !dice.one_in(self.plan.double_every) {
            return Ok(());
        }
        let trace = world.disk.trace();
        let mut replay = trace.replay();
        while replay.step().is_some() {
            let seed = dice.draw();
            let killed = replay.is_undecided() && dice.one_in(3);
            let tearing = Tearing::any(dice);
            let disk = if killed { replay.kill(seed) } else { replay.power_loss(tearing, dice, seed) };
            let again = Crash { at: replay.position(), killed };
            self.tally.images += 1;
            self.tally.double_crash_images += 1;
            let mut third = next.after(again);
            let what = || {
                let how = if killed { "killed".to_owned() } else { format!("power lost, {tearing:?}") };
                format!("{}; then while that recovered, after change {}, {how}", place(), again.at)
            };
            self.subject.live(&World::of(disk), &mut third, &[]).map_err(at(&what))?;
        }
        Ok(())
    }
}
