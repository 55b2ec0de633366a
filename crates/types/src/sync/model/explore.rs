//! Running a body under many schedules: half of them random, half with few changes of thread at random places (PCT,
//! Burckhardt et al., ASPLOS 2010).
//!
//! Everything random hangs on a seed; a failing schedule is printed, and run again with `KEEPSTONE_MODEL_SCHEDULE`.
//! `KEEPSTONE_MODEL_SCHEDULES` says how many are run, `KEEPSTONE_MODEL_SEED` names a seed from which half of them are.

use std::any::Any;
use std::fmt;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::{TIMED, begin_execution};
use crate::sync::{Arc, Unswitched};

/// Schedules of a model, unless the environment says otherwise.
const SCHEDULES: usize = 10_000;
/// The seed that is never left out.
const SEED: u64 = 0x6B65_6570;
/// Changes of priority in a PCT schedule.
const PCT_DEPTH: usize = 4;
/// Steps after which an execution counts as hanging.
const STEPS_MAX: usize = 200_000;
/// Bytes of a thread's stack.
const STACK_BYTES: usize = 256 << 10;
/// In an execution in which time passes by itself, one scheduling decision in so many may end a timed wait.
const EARLY_ONE_IN: u64 = 12;

/// A failing schedule.
#[derive(Clone, Debug)]
pub struct Caught {
    /// What the failing thread, or the checker, said.
    pub message: String,
    /// The schedule, as `KEEPSTONE_MODEL_SCHEDULE` takes it.
    pub schedule: String,
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nto run this schedule again, run this test with KEEPSTONE_MODEL_SCHEDULE={}",
            self.message, self.schedule
        )
    }
}

/// One step of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Task(usize),
    Random,
}

/// The schedule of the execution that runs, or ran last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Recorded {
    seed: u64,
    steps: Vec<Step>,
}

impl fmt::Display for Recorded {
    /// The seed in hexadecimal, then each step and how often it is taken: `7f:0x12.x1,1x3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:", self.seed)?;
        for (index, run) in self.steps.chunk_by(|a, b| a == b).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match run.first() {
                Some(Step::Task(task)) => write!(f, "{comma}{task}x{}", run.len())?,
                _ => write!(f, "{comma}.x{}", run.len())?,
            }
        }
        Ok(())
    }
}

impl Recorded {
    /// The schedule that was displayed as `text`; `None` when it is none.
    fn parse(text: &str) -> Option<Self> {
        let (seed, runs) = text.split_once(':')?;
        let mut steps = Vec::new();
        for run in runs.split(',').filter(|run| !run.is_empty()) {
            let (step, count) = run.split_once('x')?;
            let step = if step == "." { Step::Random } else { Step::Task(step.parse().ok()?) };
            steps.extend(std::iter::repeat_n(step, count.parse().ok()?));
        }
        Some(Self { seed: u64::from_str_radix(seed, 16).ok()?, steps })
    }

    fn schedule(&self) -> Schedule {
        let mut schedule = Schedule::new(self.seed);
        for step in &self.steps {
            match step {
                Step::Task(task) => schedule.push_task(TaskId::from(*task)),
                Step::Random => schedule.push_random(),
            }
        }
        schedule
    }
}

/// Records every schedule, and holds timed waits back: in one half of the executions until nothing else can run, in the
/// other until chance ends them.
struct Patient<S> {
    inner: S,
    recorded: Arc<Unswitched<Recorded>>,
    patient: bool,
    state: u64,
}

impl<S: Scheduler> Patient<S> {
    fn new(inner: S, recorded: &Arc<Unswitched<Recorded>>) -> Self {
        Self { inner, recorded: Arc::clone(recorded), patient: true, state: 0 }
    }

    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn choose(&mut self, runnable: &[&Task], current: Option<TaskId>, is_yielding: bool) -> Option<TaskId> {
        let deadline = |task: &Task| TIMED.with_borrow(|timed| timed.get(&usize::from(task.id())).copied());
        let awake: Vec<&Task> = runnable.iter().copied().filter(|task| deadline(task).is_none()).collect();
        let only_waits = awake.is_empty();
        if only_waits && self.patient {
            return runnable.iter().min_by_key(|task| deadline(task)).map(|task| task.id());
        }
        let early = !self.patient && awake.len() < runnable.len() && self.next().is_multiple_of(EARLY_ONE_IN);
        let chosen_from = if only_waits || early { runnable } else { &awake };
        self.inner.next_task(chosen_from, current, is_yielding)
    }
}

impl<S: Scheduler> Scheduler for Patient<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        begin_execution();
        let schedule = self.inner.new_execution()?;
        self.state = schedule.seed;
        self.patient = self.next().is_multiple_of(2);
        *self.recorded.lock() = Recorded { seed: schedule.seed, steps: Vec::new() };
        Some(schedule)
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let chosen = self.choose(runnable, current, is_yielding)?;
        self.recorded.lock().steps.push(Step::Task(usize::from(chosen)));
        Some(chosen)
    }

    fn next_u64(&mut self) -> u64 {
        self.recorded.lock().steps.push(Step::Random);
        self.inner.next_u64()
    }
}

/// A scheduler that is only told what to do.
struct Told<S>(S);

impl<S: Scheduler> Scheduler for Told<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        begin_execution();
        self.0.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.0.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    config
}

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a body under a scheduler, on a thread of its own: a failing execution leaves its thread in disorder.
fn run<S, F>(make: impl FnOnce() -> S + Send + 'static, body: &Arc<F>) -> Result<usize, String>
where
    S: Scheduler + 'static,
    F: Fn() + Send + Sync + 'static,
{
    let body = Arc::clone(body);
    let ran = std::thread::spawn(move || Runner::new(make(), config()).run(move || body())).join();
    ran.map_err(|payload| said(payload.as_ref()))
}

/// What a panic said.
fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

/// Runs a body under so many schedules that hang on `seed`, half of them random, half PCT.
fn explore<F>(body: &Arc<F>, schedules: usize, seed: u64) -> Result<usize, Caught>
where
    F: Fn() + Send + Sync + 'static,
{
    let recorded = Arc::new(Unswitched::new(Recorded::default()));
    let half = schedules / 2;
    let caught = |message| Caught { message, schedule: recorded.lock().to_string() };
    let kept = Arc::clone(&recorded);
    let few = move || Patient::new(PctScheduler::new_from_seed(seed, PCT_DEPTH, half), &kept);
    let with_few_changes = run(few, body).map_err(caught)?;
    let kept = Arc::clone(&recorded);
    let random = move || Patient::new(RandomScheduler::new_from_seed(seed, schedules - half), &kept);
    Ok(with_few_changes.saturating_add(run(random, body).map_err(caught)?))
}

/// Runs one schedule, as [`Caught::schedule`] gives it. What the body said when it failed, if it did.
///
/// # Panics
/// When the text is no schedule.
#[expect(clippy::expect_used, reason = "whoever replays a schedule wants to know that it is none")]
pub fn replay<F>(body: F, schedule: &str) -> Option<String>
where
    F: Fn() + Send + Sync + 'static,
{
    let schedule = Recorded::parse(schedule).expect("a schedule as it was printed").schedule();
    run(move || Told(ReplayScheduler::new_from_schedule(schedule)), &Arc::new(body)).err()
}

/// Runs a body under as many schedules as the environment says, or the one it names.
///
/// # Panics
/// When a schedule fails: a panic of the body that nothing caught, threads that wait for each other, no end.
#[expect(clippy::panic, clippy::print_stdout, reason = "a test fails by panicking, and says what it did")]
pub fn check<F>(name: &str, body: F)
where
    F: Fn() + Send + Sync + 'static,
{
    if let Some(schedule) = from_environment::<String>("KEEPSTONE_MODEL_SCHEDULE") {
        match replay(body, &schedule) {
            Some(message) => panic!("{name}: {message}"),
            None => println!("{name}: the schedule does not fail"),
        }
        return;
    }
    let schedules = from_environment("KEEPSTONE_MODEL_SCHEDULES").unwrap_or(SCHEDULES);
    let asked = from_environment("KEEPSTONE_MODEL_SEED").filter(|seed| *seed != SEED);
    let seeds: Vec<u64> = [SEED].into_iter().chain(asked).collect();
    let each = schedules.div_ceil(seeds.len());
    let body = Arc::new(body);
    for seed in seeds {
        match explore(&body, each, seed) {
            Ok(run) => println!("{name}: {run} schedules from seed {seed}"),
            Err(caught) => panic!("{name}, seed {seed}: {caught}"),
        }
    }
}

/// Runs a body that is wrong on purpose until a schedule shows it, and that schedule once more.
///
/// # Panics
/// When no schedule shows it, or the one that did does not the second time.
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub fn catch<F>(name: &str, body: F) -> Caught
where
    F: Fn() + Send + Sync + 'static,
{
    let body = Arc::new(body);
    let Err(caught) = explore(&body, SCHEDULES, SEED) else {
        panic!("{name}: expected a schedule that fails, found none in {SCHEDULES}");
    };
    let again = replay(move || body(), &caught.schedule);
    assert_eq!(again.as_ref(), Some(&caught.message), "{name}: the schedule fails again, in the same way");
    caught
}
