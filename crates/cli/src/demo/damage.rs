//! Bits are flipped in the page file of the store, one page in each parity group, as a disk does that rots. A scrub must find
//! and rebuild every page, and the store must say afterwards what it said before.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use keepstone::{Existence, Parity, ScrubOptions, Store, StoreOptions};

use super::run::content;
use super::summary::Page;
use crate::exit::{Failure, Outcome};
use crate::output::{count, duration, thousands};

/// Where the page file of a store is.
const PAGE_FILE: &str = "pages";
/// Bytes of a page of a store that is made with the defaults.
const PAGE_BYTES: u64 = 8_192;
/// Groups of a region of slots: each slot is in that of its number's remainder.
const GROUPS: u64 = 32;
/// Where a page says of what kind it is, and the first kind that has content.
const KIND_AT: usize = 14;
const KIND_OF_CONTENT: u8 = 16;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Healed {
    pub(super) damaged: u64,
    pub(super) repaired: u64,
    pub(super) export_equal: bool,
}

/// Turns parity on in the closed store in `dir`, damages its pages, and has it heal itself.
pub(super) fn damage_and_heal(dir: &Path, page: &mut Page) -> Outcome<Healed> {
    let store = open(dir)?;
    store.set_parity(Parity::Xor)?;
    // As short as its content: then few pages are left of which nobody needs what is in them.
    store.compact()?;
    let before = everything(&store)?;
    let sound = store.scrub(&ScrubOptions::default(), |_| ControlFlow::Continue(()))?;
    if sound.finding_count > 0 {
        return Err(Failure::error("a store that nobody damaged is found damaged"));
    }
    let flipped = flip_bits(&dir.join(PAGE_FILE))
        .map_err(|error| Failure::io("the page file of the temporary store cannot be damaged", &error))?;
    let report = store.scrub(&ScrubOptions::default(), |_| ControlFlow::Continue(()))?;
    store.close()?;
    let store = open(dir)?;
    let export_equal = everything(&store)? == before;
    let again = store.scrub(&ScrubOptions::default(), |_| ControlFlow::Continue(()))?;
    store.close()?;
    page.section("What heals");
    page.row(
        "damaged",
        format!(
            "a bit in each of {}, of which {} still needed",
            count(flipped, "page", "pages"),
            count(report.finding_count, "is", "are")
        ),
    );
    page.row(
        "scrubbed",
        format!(
            "{} read past the system's cache in {}: {} found, {} rebuilt from parity",
            count(report.pages, "page", "pages"),
            duration(report.elapsed),
            thousands(report.finding_count),
            thousands(report.repaired),
        ),
    );
    let verdict = if export_equal { "equal to the byte" } else { "NOT as it was" };
    let left = if again.finding_count == 0 { "nothing" } else { "SOMETHING" };
    page.row(
        "opened again",
        format!("exported, now and at each version with a name: {verdict}; {left} is wrong any more"),
    );
    Ok(Healed {
        damaged: report.finding_count,
        repaired: report.repaired,
        export_equal: export_equal && again.finding_count == 0,
    })
}

/// Opens the store; what it holds in memory is small, so that pages are read from the file.
fn open(dir: &Path) -> Outcome<Store> {
    Ok(StoreOptions::default().existence(Existence::MustExist).cache_bytes(1 << 20).open(dir)?)
}

/// The export of what is there now, and of every version with a name.
fn everything(store: &Store) -> Outcome<Vec<String>> {
    let mut found = vec![content(store, &store.snapshot()?, None)?];
    for tag in store.tags()? {
        found.push(content(store, &store.at(tag.version)?, None)?);
    }
    Ok(found)
}

/// Flips a bit in the middle of one page with content in each group; gives how many.
fn flip_bits(path: &Path) -> std::io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let slots = file.metadata()?.len() / PAGE_BYTES;
    let mut flipped = 0;
    for group in 0..GROUPS {
        for row in 0..slots / GROUPS {
            // Not always the first of its group.
            let slot = (row + group) % (slots / GROUPS) * GROUPS + group;
            if flip_bit_of(&mut file, slot)? {
                flipped += 1;
                break;
            }
        }
    }
    file.sync_all()?;
    Ok(flipped)
}

/// Flips a bit of a page that has content; false for others.
fn flip_bit_of(file: &mut File, slot: u64) -> std::io::Result<bool> {
    let mut page = vec![0; usize::try_from(PAGE_BYTES).unwrap_or_default()];
    file.seek(SeekFrom::Start(slot * PAGE_BYTES))?;
    file.read_exact(&mut page)?;
    if page.get(KIND_AT).is_none_or(|kind| *kind < KIND_OF_CONTENT) {
        return Ok(false);
    }
    let middle = page.len() / 2;
    if let Some(byte) = page.get_mut(middle) {
        *byte ^= 0x10;
    }
    file.seek(SeekFrom::Start(slot * PAGE_BYTES))?;
    file.write_all(&page)?;
    Ok(true)
}
