//! Nine mistakes, each built in on purpose: the sweep, or a fault planted by hand, must catch every one.

use std::path::Path;
use std::sync::Arc;

use keepstone_testkit::crash::{Failure, Ledger, Plan, Subject, Tally, World, sweep, sweep_program};
use keepstone_vfs::simulated::{Dice, SimulatedDisk, TEAR, Tearing};
use keepstone_vfs::{Vfs, VfsExt};
use keepstone_wal::wrong::{Wrong, with};
use keepstone_wal::{Durability, LogOptions, OpenError};

use crate::program::{RELAXED, Step};
use crate::subject::{Content, DIR, LogSubject};
use crate::sweeps::options;

/// Seeds that are tried before a mistake counts as not caught.
const SEEDS: u64 = 60;

fn subject(wrong: Wrong) -> LogSubject {
    let options = match wrong {
        Wrong::AppendAfterCut | Wrong::VersionReuse => options(RELAXED),
        Wrong::UnpaddedGroups => options(Durability::Normal).sector_size(64),
        _ => options(Durability::Normal),
    };
    LogSubject { options, alone: false, faults: true, store: 5 }
}

fn quiet(store: u8) -> LogSubject {
    LogSubject { options: options(Durability::Normal), alone: false, faults: false, store }
}

/// Sweeps until the mistake shows, and prints the seed.
fn swept(wrong: Wrong) -> bool {
    let plan = Plan { seeds: SEEDS, ..Plan::from_env() };
    let mut tally = Tally::default();
    let Err(report) = with(wrong, || sweep(&subject(wrong), &plan, &mut tally)) else { return false };
    println!("{wrong:?} is caught after {} images by {report}", tally.images);
    // The same programs on the right log: what was caught is the mistake.
    let right = LogSubject { options: subject(wrong).options.sector_size(4_096), ..subject(wrong) };
    let plan = Plan { seed: report.seed, seeds: 1, ..plan };
    let found = sweep(&right, &plan, &mut Tally::default());
    found.map_err(|report| println!("and without it: {report}")).is_ok()
}

/// Programs in which a mistake has its occasion, for those that random ones seldom give one.
fn program(wrong: Wrong) -> Option<Vec<Step>> {
    match wrong {
        // The second sync fails: what it dropped does not come back.
        Wrong::SyncRetried => {
            let commits = (0..4).map(|_| Step::Commit(3_000, None));
            Some(std::iter::once(Step::FailSync(3, true)).chain(commits).collect())
        }
        // The segment is full, and there is no room for another.
        Wrong::KeptVersions => {
            let fill = [Step::Fill(0), Step::Group(vec![20_000; 3]), Step::Group(vec![20_000; 4])];
            let after = [Step::Room, Step::Commit(10, None), Step::Commit(20, None)];
            Some(fill.into_iter().chain(after).collect())
        }
        _ => None,
    }
}

/// Sweeps one program until the mistake shows, and prints the seed.
fn staged(wrong: Wrong, steps: Vec<Step>) -> bool {
    let lives = [steps];
    for seed in 1..=SEEDS {
        let plan = Plan { seed, ..Plan::from_env() };
        let mut tally = Tally::default();
        let right = || sweep_program(&subject(wrong), &plan, &lives, &mut Tally::default());
        if let Err(report) = with(wrong, || sweep_program(&subject(wrong), &plan, &lives, &mut tally)) {
            println!("{wrong:?} is caught after {} images by {report}", tally.images);
            return right().map_err(|report| println!("and without it: {report}")).is_ok();
        }
    }
    false
}

/// What a reader of a folder finds, right or refused.
fn found(disk: &SimulatedDisk, options: &LogOptions) -> Result<Vec<Vec<u8>>, OpenError> {
    let mut payloads = Vec::new();
    let options = options.clone().access(keepstone_wal::Access::ReadOnly);
    let clock = Arc::new(keepstone_types::SystemClock::default());
    keepstone_wal::Log::open_with(Arc::new(disk.clone()), clock, Path::new(DIR), options, &mut |replayed| {
        if let keepstone_wal::Replayed::Record(record) = replayed {
            payloads.push(record.payload.to_vec());
        }
        Ok(())
    })
    .map(|_log| payloads)
}

/// Runs a program on a disk.
fn run(
    subject: &LogSubject,
    disk: SimulatedDisk,
    ledger: &Ledger<Content>,
    steps: &[Step],
) -> Result<SimulatedDisk, Failure> {
    let world = World::of(disk);
    subject.live(&world, &mut ledger.clone(), steps)?;
    Ok(world.disk)
}

/// Puts the bytes of a part of the last segment of one disk over those of another.
fn transplant(from: &SimulatedDisk, to: &SimulatedDisk, sectors: std::ops::Range<usize>) {
    let segments = |disk: &SimulatedDisk| {
        let entries = disk.list(Path::new(DIR)).unwrap().into_iter();
        entries.map(|entry| entry.name).filter(|name| name.ends_with(".wal")).collect::<Vec<_>>()
    };
    assert_eq!(segments(from), segments(to));
    let segment = Path::new(DIR).join(segments(to).last().unwrap());
    let bytes = |disk: &SimulatedDisk| disk.read_file(&segment, 1 << 20).unwrap();
    let range = sectors.start * TEAR..sectors.end * TEAR;
    let mask: Vec<u8> =
        bytes(from)[range.clone()].iter().zip(&bytes(to)[range.clone()]).map(|(a, b)| a ^ b).collect();
    assert!(mask.iter().any(|byte| *byte != 0), "{segment:?} holds the same");
    assert!(to.rot(&segment, range.start as u64, &mask));
}

/// The first group of a segment: two sectors of 4,096 bytes behind the two copies of the header.
const FIRST_GROUP: std::ops::Range<usize> = 16..32;
/// The one after it.
const SECOND_GROUP: std::ops::Range<usize> = 32..48;

/// A group that was written, lost in a crash and never acknowledged lands after all, over the one that took its place. Its
/// sequence, its LSN, its segment are right; only the chain tells. True when the log shows it as its content.
fn shows_a_late_write() -> bool {
    let subject = quiet(5);
    let ledger = Ledger::new(subject.empty());
    let created = run(&subject, SimulatedDisk::new(1), &ledger, &[]).unwrap();
    let fork = || created.power_loss(Tearing::KeepAll, &mut Dice::new(1), 1);
    let written = |first: usize| {
        let steps = [Step::Commit(first, None), Step::Commit(40, None)];
        run(&subject, fork(), &Ledger::new(subject.empty()), &steps).unwrap()
    };
    let (lost, kept) = (written(60), written(61));
    let before = found(&kept, &subject.options).unwrap();
    // The first is the clean close of the log that was made empty.
    transplant(&lost, &kept, SECOND_GROUP);
    found(&kept, &subject.options).is_ok_and(|after| after != before)
}

/// A group of another store's segment of the same number lands on ours. True when the log shows it as its content.
fn shows_a_foreign_group() -> bool {
    let written = |store: u8, len: usize| {
        let subject = quiet(store);
        let ledger = Ledger::new(subject.empty());
        run(&subject, SimulatedDisk::new(1), &ledger, &[Step::Commit(len, None)]).unwrap()
    };
    let (foreign, ours) = (written(6, 60), written(5, 61));
    let before = found(&ours, &options(Durability::Normal)).unwrap();
    transplant(&foreign, &ours, FIRST_GROUP);
    found(&ours, &options(Durability::Normal)).is_ok_and(|after| after != before)
}

fn is_caught(wrong: Wrong) -> bool {
    match wrong {
        Wrong::NoChain => with(wrong, shows_a_late_write) && !shows_a_late_write(),
        Wrong::NoSeed => with(wrong, shows_a_foreign_group) && !shows_a_foreign_group(),
        _ => match program(wrong) {
            Some(steps) => staged(wrong, steps),
            None => swept(wrong),
        },
    }
}

#[test]
fn every_wrong_variant_is_caught() {
    let mut tally = Tally::default();
    for wrong in Wrong::ALL {
        assert!(is_caught(wrong), "{wrong:?} is not caught by {SEEDS} seeds");
        println!("wrong variant caught: {wrong:?}");
        tally.canary_caught += 1;
    }
    println!("crash-tally {}", tally.to_json(0.0));
}
