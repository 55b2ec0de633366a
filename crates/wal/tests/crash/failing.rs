//! A disk that refuses while the log recovers, or fills up while it works: each change of the disk in turn.

use std::collections::BTreeMap;

use keepstone_vfs::simulated::{Dice, FailedSync, Fault, SimulatedDisk, Tearing};
use keepstone_wal::{Access, CommitError, OpenError};

use crate::fixture::{Act, Life, Records, options, replay, segments};

/// Ends with groups that nothing proves, so that recovery has to copy them; a spare is there.
const UNCLEAN: [Act; 9] = [
    Act::Append(10),
    Act::Batch(&[100, 700, 30]),
    Act::Append(60_000),
    Act::Idle,
    Act::Append(40_000),
    Act::Append(45_000),
    Act::OwnerMark(3),
    Act::Batch(&[5, 3_000]),
    Act::Append(20),
];

/// Disks that an opening for writing has something to do on, with the records they hold.
fn broken() -> Vec<(&'static str, Life, SimulatedDisk)> {
    let mut cases = Vec::new();
    for sector in [512, 4_096] {
        let life = Life::of(options(sector), 1, &UNCLEAN);
        let path = segments(&life.found(), sector as usize).last().unwrap().path.clone();
        let (unclean, torn, rotten) = (life.found(), life.found(), life.found());
        torn.rot(&path, (128 << 10) - 40_000, &[9]);
        rotten.rot(&path, 100, &[1]);
        rotten.rot(&path, 8_192 + 200, &[1]);
        for (what, disk) in [("unclean", unclean), ("torn", torn), ("rotten", rotten)] {
            cases.push((what, Life::of(options(sector), 1, &UNCLEAN), disk));
        }
    }
    cases
}

/// How many changes an opening makes.
fn changes_of_opening(life: &Life, disk: &SimulatedDisk) -> u64 {
    let disk = disk.kill(1);
    let (log, found) = replay(&disk, &life.options).unwrap();
    assert!(found == life.records);
    let changes = disk.changes();
    drop(log);
    changes
}

/// What an opening that was refused must say, and then the opening without the fault. Gives the kind of the refusal.
fn refused_then_whole(life: &Life, disk: &SimulatedDisk, what: &str) -> Option<&'static str> {
    let refused = match replay(disk, &life.options) {
        Ok((log, found)) => {
            assert!(found == life.records, "{what}");
            drop(log);
            None
        }
        Err(error) => {
            assert!(matches!(error, OpenError::Io(_) | OpenError::NoRoom { .. }), "{what}: {error}");
            assert!(error.to_string().contains('/'), "{what}: {error} names no place");
            Some(error.kind())
        }
    };
    disk.heal();
    disk.set_capacity(None);
    // The power fails, or the next process finds what the system has.
    let lost = disk.power_loss(Tearing::LoseAll, &mut Dice::new(0), 4);
    for disk in [disk, &lost] {
        let (log, found) =
            replay(disk, &life.options).unwrap_or_else(|error| panic!("{what}, then: {error}"));
        assert!(found == life.records, "{what}: all that was acknowledged is there");
        assert!(log.append_batch(Vec::new()).is_ok(), "{what}");
    }
    refused
}

#[test]
fn an_opening_that_a_failing_disk_stops_changes_nothing_for_the_next() {
    let mut refused = 0;
    for (case, life, disk) in broken() {
        for change in 0..changes_of_opening(&life, &disk) {
            let faults = [true, false].map(|reads_back| Fault::FailSync(change, FailedSync { reads_back }));
            for fault in faults.into_iter().chain([Fault::FailWrite(change), Fault::PowerOff(change)]) {
                let what = format!("{case}: {fault:?}");
                let disk = disk.kill(2);
                disk.inject(fault);
                refused += u64::from(refused_then_whole(&life, &disk, &what).is_some());
            }
        }
    }
    println!("rot: {refused} openings refused");
    assert!(refused > 100, "{refused}");
}

#[test]
fn an_opening_on_a_full_disk_is_refused_and_changes_nothing_for_the_next() {
    let mut refused = BTreeMap::<_, u64>::new();
    for (case, life, disk) in broken() {
        // From nothing left to a segment, its scratch file and the pins, page by page at the ends.
        for pages in (0..6).chain((8..30).step_by(4)).chain(30..40) {
            let disk = disk.kill(2);
            disk.set_capacity(Some(disk.used() + pages * 4_096));
            let (_, found) = replay(&disk, &life.options.clone().access(Access::ReadOnly)).unwrap();
            assert!(found == life.records, "{case}: reading needs no room");
            let kind = refused_then_whole(&life, &disk, &format!("{case}: {pages} pages left"));
            *refused.entry(kind.unwrap_or("none")).or_default() += 1;
        }
    }
    println!("rot: openings on a full disk, by refusal: {refused:?}");
    assert!(["no-room", "none"].iter().all(|kind| refused[kind] > 10), "{refused:?}");
}

/// Every record of the program as a commit of its own, on a disk with so much room, which comes back later.
fn fill(sector: u32, pages: u64) -> u64 {
    let mut life = Life::begin(SimulatedDisk::new(1), options(sector), 1);
    life.open().unwrap();
    life.act(Act::Append(10)).unwrap();
    life.disk.set_capacity(Some(life.disk.used() + pages * 4_096));
    let what = format!("{pages} pages, sectors of {sector}");
    let mut full = 0;
    for len in [3_000, 60_000, 30_000, 40_000, 30_000, 45_000, 70_000, 30_000, 45_000, 20, 45_000, 45_000, 20]
    {
        match life.act(Act::Append(len)) {
            Ok(()) => {}
            Err(error @ (CommitError::OutOfSpace { .. } | CommitError::SideFile(_))) => {
                full += 1;
                assert!(error.to_string().contains("/log"), "{what}: {error}");
                // What was refused is not there, and what was acknowledged is, whatever happens next.
                same(&life, &life.disk.kill(5), &what);
                same(&life, &life.found(), &what);
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    life.disk.set_capacity(None);
    for len in [60_000, 45_000, 45_000, 45_000, 10] {
        life.act(Act::Append(len)).unwrap_or_else(|error| panic!("{what}, with room again: {error}"));
    }
    same(&life, &life.found(), &what);
    life.act(Act::Reopen).unwrap();
    assert_eq!(life.log().verify().unwrap(), [], "{what}");
    full
}

/// The disk holds exactly what was acknowledged.
fn same(life: &Life, disk: &SimulatedDisk, what: &str) {
    let found: Records = replay(disk, &life.options).unwrap_or_else(|error| panic!("{what}: {error}")).1;
    assert!(found == life.records, "{what}: {:?} instead of {:?}", found.keys(), life.records.keys());
}

#[test]
fn a_disk_that_fills_up_refuses_cleanly_and_work_goes_on_when_there_is_room() {
    let mut full = 0;
    for sector in [512, 4_096] {
        for pages in (0..20).chain((20..120).step_by(5)) {
            full += fill(sector, pages);
        }
    }
    println!("rot: {full} commits refused for want of room");
    assert!(full > 100, "{full}");
}
