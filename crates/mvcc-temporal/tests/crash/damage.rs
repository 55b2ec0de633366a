//! Damage of pages: of a copy of the page file, or of the swept disk itself, and what repairs it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use keepstone_mvcc_temporal::{CheckpointError, Database, ScrubOptions, ScrubReport};
use keepstone_vfs::simulated::{Choose, Dice, SimulatedDisk};
use keepstone_vfs::{OpenOptions, Vfs, VfsFileExt};

use crate::subject::{DIR, SLOT};

/// Where a page says what it is; zero where there is none.
const KIND_AT: usize = 14;

/// Pages that were damaged and had back.
pub(crate) static HEALED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn scrub(database: &Database) -> Result<ScrubReport, CheckpointError> {
    database.scrub(&ScrubOptions::default().repair(true), |_| ControlFlow::Continue(()))
}

/// Lets a page of the page file that has content rot on the platter, and says which and how. Of prologue and headers the crash may
/// have left one copy alone, so they are left to other tests.
pub(crate) fn rot(disk: &SimulatedDisk, how: u64) -> String {
    let path = Path::new(DIR).join("pages");
    let file = disk.open(&path, OpenOptions::READ).unwrap();
    let read = |slot: u64| {
        let mut page = vec![0; SLOT as usize];
        file.read_exact_at(&mut page, slot * SLOT).unwrap();
        page
    };
    let mut dice = Dice::new(how);
    let has_content = |slot: &u64| !matches!(slot, 0..=2 | 61..=63) && read(*slot)[KIND_AT] != 0;
    let slots: Vec<u64> = (0..file.len().unwrap() / SLOT).filter(has_content).collect();
    let [slot, other] = [0; 2].map(|_| slots[dice.choose(slots.len() as u64) as usize]);
    let (page, other) = (read(slot), read(other));
    let mut mask = vec![0; SLOT as usize];
    let at = dice.choose(SLOT) as usize;
    let what = match dice.choose(3) {
        0 => {
            mask[at] = 1 << dice.choose(8);
            "a bit flipped"
        }
        1 => {
            let sector = at / 512 * 512..at / 512 * 512 + 512;
            mask[sector.clone()].copy_from_slice(&page[sector]);
            "a sector zeroed"
        }
        _ => {
            mask.iter_mut().zip(page.iter().zip(&other)).for_each(|(mask, (a, b))| *mask = a ^ b);
            "overwritten by another"
        }
    };
    assert!(disk.rot(&path, slot * SLOT, &mask));
    format!("slot {slot}, {what}")
}

/// Whether there is a page file with any page.
pub(crate) fn has_pages(disk: &SimulatedDisk) -> bool {
    let file = disk.open(&Path::new(DIR).join("pages"), OpenOptions::READ);
    file.is_ok_and(|file| {
        let mut kind = [0];
        (3..61).any(|slot| file.read_exact_at(&mut kind, slot * SLOT + KIND_AT as u64).is_ok() && kind != [0])
    })
}

/// Damages a page of the page file, chosen by what is in the file, and says how.
pub(crate) fn damage(disk: &SimulatedDisk) -> String {
    let file = disk.open(&Path::new(DIR).join("pages"), OpenOptions::READ).unwrap();
    let mut header = [0; 512];
    file.read_exact_at(&mut header, SLOT).unwrap();
    let how = header.iter().fold(file.len().unwrap(), |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    rot(disk, how)
}
