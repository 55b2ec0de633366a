//! The simulated disk: what a power loss may leave, and each fault that can be asked for.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keepstone_testkit::vfs_suite;
use keepstone_types::checksum::checksum;
use keepstone_types::{Clock, ManualClock, Timestamp};
use keepstone_vfs::simulated::{
    Choose, Delays, Dice, Event, FailedSync, Fault, Odometer, SimulatedDisk, TEAR, Tearing, WriteFate,
};
use keepstone_vfs::{OpenOptions, Vfs, VfsExt, VfsFileExt, WriteMode};

const FILE: &str = "/a";

fn path() -> &'static Path {
    Path::new(FILE)
}

/// A disk with one durable file of so many bytes, all `b'.'`.
fn disk_with(len: usize) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let file = disk.open(path(), OpenOptions::CREATE_NEW).unwrap();
    file.write_all_at(&vec![b'.'; len], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn read(disk: &SimulatedDisk) -> Vec<u8> {
    disk.read_file(path(), 1 << 20).unwrap()
}

/// The first byte of each sector, as text.
fn sectors(disk: &SimulatedDisk) -> String {
    read(disk).chunks(TEAR).map(|sector| char::from(sector[0])).collect()
}

/// Everything that a power loss now can leave.
fn outcomes(disk: &SimulatedDisk, tearing: Tearing) -> BTreeSet<String> {
    let mut odometer = Odometer::new();
    let mut seen = BTreeSet::new();
    loop {
        let image = disk.power_loss(tearing, &mut odometer, 0);
        seen.insert(if image.exists(path()).unwrap() { sectors(&image) } else { "no file".to_owned() });
        if !odometer.advance() {
            return seen;
        }
    }
}

fn set(outcomes: &[&str]) -> BTreeSet<String> {
    outcomes.iter().map(|outcome| (*outcome).to_owned()).collect()
}

#[test]
fn a_simulated_disk_passes_the_suite() {
    vfs_suite::run(&SimulatedDisk::new(0), Path::new("/"));
}

#[test]
fn unsynced_sectors_are_kept_or_lost_each_by_itself() {
    let disk = disk_with(3 * TEAR);
    let file = disk.open(path(), OpenOptions::WRITE).unwrap();
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&["..."]));
    file.write_all_at(&vec![b'x'; 2 * TEAR], 0).unwrap();
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&["...", "x..", ".x.", "xx."]));
    assert_eq!(outcomes(&disk, Tearing::Whole), set(&["...", "xx."]));
    assert_eq!(outcomes(&disk, Tearing::LoseAll), set(&["..."]));
    assert_eq!(outcomes(&disk, Tearing::KeepAll), set(&["xx."]));
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&["xx."]));
}

#[test]
fn two_writes_of_one_place_arrive_in_any_order() {
    let disk = disk_with(TEAR);
    let file = disk.open(path(), OpenOptions::WRITE).unwrap();
    file.write_all_at(&vec![b'1'; TEAR], 0).unwrap();
    file.write_all_at(&vec![b'2'; TEAR], 0).unwrap();
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&[".", "1", "2"]));
    assert_eq!(outcomes(&disk, Tearing::KeepAll), set(&["2"]));
}

#[test]
fn a_length_that_was_not_synced_is_old_new_or_between() {
    let disk = disk_with(TEAR);
    let file = disk.open(path(), OpenOptions::WRITE).unwrap();
    file.write_all_at(&vec![b'x'; TEAR], TEAR as u64).unwrap();
    file.write_all_at(&vec![b'y'; TEAR], 2 * TEAR as u64).unwrap();
    let expected = [".", ".x", ".\0", ".xy", ".\0\0", ".x\0", ".\0y"];
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&expected));
}

#[test]
fn a_file_whose_name_was_not_synced_may_be_gone_with_all_its_synced_bytes() {
    let disk = SimulatedDisk::new(1);
    let file = disk.open(path(), OpenOptions::CREATE_NEW).unwrap();
    file.write_all_at(&vec![b'x'; TEAR], 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&["no file", "x"]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&["x"]));
    disk.remove(path()).unwrap();
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&["no file", "x"]));
}

#[test]
fn a_failed_sync_drops_sectors_for_good() {
    let mut partly = 0;
    for seed in 0..20 {
        let disk = disk_with(4 * TEAR);
        let file = disk.open(path(), OpenOptions::WRITE).unwrap();
        file.write_all_at(&vec![b'x'; 4 * TEAR], 0).unwrap();
        let disk = disk.kill(seed);
        let file = disk.open(path(), OpenOptions::WRITE).unwrap();
        disk.inject(Fault::FailSync(0, FailedSync { reads_back: seed % 2 == 0 }));
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        let left = outcomes(&disk, Tearing::Sectors);
        assert_eq!(left.len(), 1, "the second sync proves nothing, and nothing is pending: {left:?}");
        let left = left.into_iter().next().unwrap();
        partly += usize::from(left.contains('.'));
        assert_eq!(sectors(&disk), if seed % 2 == 0 { "xxxx".to_owned() } else { left });
    }
    assert!(partly > 10, "{partly}");
}

#[test]
fn writes_are_lost_misdirected_and_doubled_when_the_power_fails_and_not_before() {
    let by = TEAR as i64;
    for (fate, expected) in [
        (WriteFate::Lost, "...."),
        (WriteFate::Misdirected(by), "..x."),
        (WriteFate::Misdirected(-by), "x..."),
        (WriteFate::Misdirected(9 * by), "...."),
        (WriteFate::Duplicated(by), ".xx."),
    ] {
        let disk = disk_with(4 * TEAR);
        let file = disk.open(path(), OpenOptions::WRITE).unwrap();
        disk.inject(Fault::Divert(0, fate));
        file.write_all_at(&vec![b'x'; TEAR], TEAR as u64).unwrap();
        file.sync_data().unwrap();
        assert_eq!(sectors(&disk), ".x..", "{fate:?}");
        assert_eq!(outcomes(&disk, Tearing::Sectors), set(&[expected]), "{fate:?}");
    }
}

#[test]
fn a_sector_that_was_being_written_may_hold_noise_and_no_other() {
    let mut noisy = 0;
    for seed in 0..40 {
        let disk = disk_with(4 * TEAR);
        let file = disk.open(path(), OpenOptions::WRITE).unwrap();
        file.write_all_at(&[b'x'; TEAR], TEAR as u64 + 100).unwrap();
        let found = read(&disk.power_loss(Tearing::Noise, &mut Dice::new(seed), 0));
        assert!(found[..TEAR].iter().chain(&found[3 * TEAR..]).all(|byte| *byte == b'.'));
        noisy += usize::from(found[TEAR..TEAR + 100].iter().any(|byte| *byte != b'.'));
    }
    assert!((2..30).contains(&noisy), "{noisy}");
}

#[test]
fn synced_writes_need_no_sync() {
    let disk = disk_with(TEAR);
    let file = disk.open(path(), OpenOptions::WRITE.with_write(WriteMode::DataSync)).unwrap();
    file.write_all_at(&vec![b'x'; 2 * TEAR], 0).unwrap();
    assert_eq!(outcomes(&disk, Tearing::Sectors), set(&["xx"]));
}

#[test]
fn a_full_disk_takes_what_fits_and_then_nothing_until_there_is_room() {
    let disk = disk_with(4_096);
    disk.set_capacity(Some(3 * 4_096));
    let other = disk.open(Path::new("/b"), OpenOptions::CREATE_NEW).unwrap();
    assert_eq!(other.write_at(&[1; 16_384], 0).unwrap(), 8_192);
    let full = other.write_at(&[1; 4_096], 8_192).unwrap_err();
    assert!(full.is_out_of_space(), "{full}");
    other.write_all_at(&[2; 8_192], 0).unwrap();
    assert_eq!(disk.volume(path()).unwrap().free_bytes, Some(0));
    disk.remove(path()).unwrap();
    other.write_all_at(&[1; 4_096], 8_192).unwrap();
}

#[test]
fn a_sector_that_cannot_be_read_can_be_written_again() {
    let disk = disk_with(4 * TEAR);
    disk.inject(Fault::BadSector(path().to_path_buf(), 2));
    let file = disk.open(path(), OpenOptions::WRITE).unwrap();
    let mut sector = [0; TEAR];
    file.read_exact_at(&mut sector, TEAR as u64).unwrap();
    assert!(file.read_exact_at(&mut sector, 2 * TEAR as u64).is_err());
    assert!(file.read_exact_at(&mut [0; 2], 2 * TEAR as u64 - 1).is_err());
    file.write_all_at(&[b'x'; TEAR], 2 * TEAR as u64).unwrap();
    assert_eq!(sectors(&disk), "..x.");
}

#[test]
fn bits_rot_and_sectors_turn_to_zero_also_where_they_are_stable() {
    let disk = disk_with(2 * TEAR);
    assert!(disk.rot(path(), 1, &[1]));
    assert!(disk.zero_sector(path(), 1));
    assert!(!disk.rot(Path::new("/nothing"), 0, &[1]));
    let image = disk.power_loss(Tearing::LoseAll, &mut Dice::new(0), 0);
    for disk in [disk, image] {
        let bytes = read(&disk);
        assert_eq!((bytes[0], bytes[1], bytes[2]), (b'.', b'.' ^ 1, b'.'));
        assert!(bytes[TEAR..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn short_reads_and_writes_come_to_the_same_end() {
    let disk = disk_with(8 * TEAR);
    disk.inject(Fault::Short(2));
    let file = disk.open(path(), OpenOptions::WRITE).unwrap();
    let before = disk.changes();
    for _ in 0..20 {
        file.write_all_at(&[b'x'; 3_000], 5).unwrap();
        let mut back = [0; 3_000];
        file.read_exact_at(&mut back, 5).unwrap();
        assert_eq!(back, [b'x'; 3_000]);
    }
    assert!(disk.changes() - before > 25, "no write was short");
}

#[test]
fn without_power_nothing_changes() {
    let disk = disk_with(TEAR);
    let file = disk.open(path(), OpenOptions::WRITE).unwrap();
    disk.inject(Fault::PowerOff(disk.changes() + 1));
    file.write_all_at(b"x", 0).unwrap();
    assert!(file.write_all_at(b"y", 0).is_err());
    assert!(file.sync_data().is_err() && disk.remove(path()).is_err());
    assert_eq!(sectors(&disk), "x");
    disk.heal();
    file.write_all_at(b"y", 0).unwrap();
}

/// A random program; returns the disk with its trace.
fn random_run(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(seed)));
    let delays = Delays { transfer: Duration::from_micros(10), sync: Duration::from_micros(200) };
    disk.set_clock(Arc::clone(&clock), delays);
    disk.inject(Fault::Short(5));
    let mut dice = Dice::new(seed);
    for step in 0..60_u64 {
        let name = format!("/{}", dice.choose(3));
        let name = Path::new(&name);
        let there = disk.exists(name).unwrap();
        match dice.choose(8) {
            0 if there => disk.rename(name, Path::new("/9")).unwrap(),
            1 if there => disk.remove(name).unwrap(),
            2 => disk.sync_dir(Path::new("/")).unwrap(),
            _ if !there => drop(disk.open(name, OpenOptions::CREATE_NEW).unwrap()),
            3 => disk.open(name, OpenOptions::WRITE).unwrap().sync_data().unwrap(),
            4 => disk.open(name, OpenOptions::WRITE).unwrap().set_len(dice.choose(5_000)).unwrap(),
            _ => {
                let bytes = vec![step as u8; dice.choose(3_000) as usize];
                let at = dice.choose(5_000);
                disk.open(name, OpenOptions::WRITE).unwrap().write_all_at(&bytes, at).unwrap();
            }
        }
        disk.note(clock.monotonic().as_micros() as u64);
    }
    disk
}

/// Name, length and checksum of every file.
fn everything(disk: &SimulatedDisk) -> Vec<(String, usize, u64)> {
    let entries = disk.list(Path::new("/")).unwrap().into_iter();
    let read = |name: &str| disk.read_file(&Path::new("/").join(name), 1 << 20).unwrap();
    let describe = |bytes: Vec<u8>| (bytes.len(), checksum(&bytes));
    let entry = |name: String| {
        let (len, sum) = describe(read(&name));
        (name, len, sum)
    };
    entries.map(|found| entry(found.name)).collect()
}

#[test]
fn the_same_seed_makes_the_same_run_clock_included() {
    for seed in 0..10 {
        let (one, two) = (random_run(seed), random_run(seed));
        assert_eq!(one.trace().events(), two.trace().events());
        let times = |event: &&Event| matches!(event, Event::Note(_));
        assert_eq!(one.trace().events().iter().filter(times).count(), 60);
    }
    assert_ne!(random_run(1).trace().events(), random_run(2).trace().events());
}

#[test]
fn a_replay_comes_to_what_the_disk_came_to_and_each_image_to_itself() {
    for seed in 0..30 {
        let disk = random_run(seed);
        let trace = disk.trace();
        let mut replay = trace.replay();
        let mut undecided = 0;
        while replay.step().is_some() {
            undecided += usize::from(replay.is_undecided());
            let image = replay.power_loss(Tearing::any(&mut Dice::new(seed)), &mut Dice::new(seed), seed);
            let again = image.power_loss(Tearing::Sectors, &mut Dice::new(seed + 1), seed);
            assert_eq!(everything(&image), everything(&again), "an image is stable, seed {seed}");
        }
        assert!(undecided > 10, "seed {seed}");
        assert_eq!(replay.position(), trace.events().len());
        assert_eq!(everything(&replay.kill(0)), everything(&disk), "seed {seed}");
        let kept = replay.power_loss(Tearing::KeepAll, &mut Dice::new(0), 0);
        assert_eq!(everything(&kept), everything(&disk), "everything is kept, seed {seed}");
    }
}
