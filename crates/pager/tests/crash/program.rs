//! The steps of a program on the page file, and how they are drawn.

use keepstone_vfs::simulated::{Choose, Dice};

/// How many rows there are at most.
pub(crate) const KEYS: u64 = 60;

/// A change of a row: a new page under the key, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) key: u8,
    pub(crate) put: bool,
}

/// A step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A generation.
    Commit(Vec<Change>),
    /// A generation that is given up.
    Rollback(Vec<Change>),
    /// A generation whose pages are taken as runs of so many slots, of which the first and the last are written.
    Run(u32, u8),
    /// So many slots are made ready.
    Reserve(u64),
    /// The file is cut.
    Shrink,
    /// The free-space map is made anew.
    Rebuild,
    /// Parity is turned on or off.
    Parity(bool),
    /// The newest root is held.
    Hold,
    /// No root is held.
    LetGo,
    /// Closed and opened again.
    Reopen,
    /// A sync fails after so many changes of the disk.
    FailSync(u64, bool),
    /// A write fails after so many changes of the disk.
    FailWrite(u64),
    /// Only so many bytes are left on the disk.
    Fill(u64),
    /// There is room again, and nothing fails.
    Room,
    /// Some reads and writes are short from now on.
    Short,
}

pub(crate) fn changes(dice: &mut Dice) -> Vec<Change> {
    let count = if dice.one_in(6) { 30 } else { dice.choose(6) };
    let put = 2 + dice.choose(3);
    (0..count).map(|_| Change { key: dice.choose(KEYS) as u8, put: dice.choose(5) < put }).collect()
}

/// A step at random. Faults are rare, or little else would happen.
pub(crate) fn any_step(dice: &mut Dice, faults: bool) -> Step {
    match dice.choose(if faults { 100 } else { 88 }) {
        0..=44 => Step::Commit(changes(dice)),
        45..=49 => Step::Rollback(changes(dice)),
        50..=54 => Step::Run(1 + dice.choose(80) as u32, dice.choose(KEYS) as u8),
        55 => Step::Run(1_024, dice.choose(KEYS) as u8),
        56..=61 => Step::Reserve(dice.choose(100)),
        62..=69 => Step::Shrink,
        70..=71 => Step::Rebuild,
        72..=73 => Step::Parity(dice.one_in(2)),
        74..=78 => Step::Hold,
        79..=81 => Step::LetGo,
        82..=87 => Step::Reopen,
        88..=91 => Step::FailSync(dice.choose(12), dice.one_in(2)),
        92..=94 => Step::FailWrite(dice.choose(12)),
        95..=96 => Step::Fill(dice.choose(30) * 8_192),
        97..=98 => Step::Room,
        _ => Step::Short,
    }
}
