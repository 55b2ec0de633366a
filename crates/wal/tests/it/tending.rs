//! A log that its caller tends: no thread, the same chores, and the same run every time.

use std::sync::Arc;
use std::time::Duration;

use keepstone_types::{Clock, Lsn, ManualClock, StoreId, Timestamp};
use keepstone_vfs::simulated::{Delays, Event, SimulatedDisk};
use keepstone_wal::{Durability, Log, LogOptions, Tending};

use crate::support::{dir, long_record, record, small};

struct World {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (disk, clock) =
            (SimulatedDisk::new(seed), Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000))));
        let delays = Delays { transfer: Duration::from_micros(5), sync: Duration::from_micros(120) };
        disk.set_clock(Arc::clone(&clock), delays);
        Self { disk, clock }
    }

    fn open(&self, options: LogOptions) -> Log {
        let options = options.tending(Tending::Caller).store_id(Some(StoreId::from_bytes([7; 16])));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Log::open_with(Arc::new(self.disk.clone()), clock, dir(), options, &mut |_| Ok(())).unwrap()
    }
}

fn writes(disk: &SimulatedDisk) -> usize {
    disk.trace().events().iter().filter(|event| matches!(event, Event::Write { .. })).count()
}

#[test]
fn nothing_happens_until_the_caller_tends_and_then_all_that_is_due() {
    let world = World::new(1);
    let log = world.open(small());
    let opened = writes(&world.disk);
    assert!(log.tend());
    assert!(writes(&world.disk) > opened, "a spare is made ready");

    log.append(record("a")).unwrap();
    let (written, marks) = (writes(&world.disk), log.stats().marks);
    log.tend();
    assert_eq!((writes(&world.disk), log.stats().marks), (written, marks), "nothing is due yet");
    world.clock.advance(Duration::from_millis(6));
    log.tend();
    assert_eq!(log.stats().marks, marks + 1, "the idle mark is due");
    log.close().unwrap();
    log.tend();
    drop(log);

    let threaded = Log::open_with(
        Arc::new(world.disk.clone()),
        Arc::new(keepstone_types::SystemClock::default()),
        dir(),
        small(),
        &mut |_| Ok(()),
    );
    assert!(!threaded.unwrap().tend(), "a thread tends it");
}

#[test]
fn max_delay_is_honoured_by_tending() {
    let world = World::new(2);
    let relaxed = Durability::Relaxed { max_commits: 1_000, max_delay: Duration::from_millis(20) };
    let log = world.open(small().durability(relaxed));
    let lsn = log.append(record("a")).unwrap();
    log.tend();
    assert_eq!(log.durable_lsn(), Lsn::ZERO);
    world.clock.advance(Duration::from_millis(21));
    log.tend();
    assert_eq!(log.durable_lsn(), lsn);
}

#[test]
fn what_was_submitted_is_written_by_tending_or_by_waiting() {
    let world = World::new(3);
    let log = world.open(small());
    let first = log.submit(record("a"), (), None).unwrap();
    let second = log.submit(record("b"), (), None).unwrap();
    assert_eq!(log.durable_lsn(), Lsn::ZERO);
    log.tend();
    assert_eq!(log.durable_lsn(), second.lsn());
    assert_eq!(log.wait(first).unwrap(), Lsn::FIRST);
    let third = log.submit(record("c"), (), None).unwrap();
    assert_eq!(log.wait(third).unwrap(), log.durable_lsn());
    log.wait(second).unwrap();
}

/// Groups, rotations, side files, marks, a clean close and another life.
fn run(seed: u64) -> Vec<Event> {
    let world = World::new(seed);
    for life in 0..2 {
        let log = world.open(small().side_file_threshold(40_000));
        for step in 0..40 {
            let tickets: Vec<_> = (0..step % 4)
                .map(|at| log.submit(record(&format!("{life}.{step}.{at}")), (), None))
                .collect();
            log.append(long_record(step, 500 + step * 1_100)).unwrap();
            for ticket in tickets {
                log.wait(ticket.unwrap()).unwrap();
            }
            if step % 7 == 0 {
                world.clock.advance(Duration::from_millis(6));
                log.tend();
            }
        }
        assert!(log.stats().rotations > 1);
        log.close().unwrap();
    }
    world.disk.trace().events().to_vec()
}

#[test]
fn a_tended_log_runs_the_same_way_twice() {
    assert_eq!(run(5), run(5));
}

/// While something is done between two groups, what was handed in waits, and what was published stays so.
#[test]
fn nothing_is_written_between_two_groups() {
    let world = World::new(9);
    let log = world.open(small());
    log.append(record("before")).unwrap();
    let ticket = log.submit(record("waits"), (), None).unwrap();
    let (seen, written) = log.between_groups(|| (log.visible_lsn(), writes(&world.disk))).unwrap();
    assert_eq!(seen, Lsn::FIRST);
    assert_eq!(log.wait(ticket).unwrap(), Lsn::new(2));
    assert!(writes(&world.disk) > written, "it was written after that");
    log.close().unwrap();
    assert!(log.between_groups(|| panic!("the log is closed")).is_err());
}
