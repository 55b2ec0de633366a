//! The steps of a program on the log, and how they are drawn.

use std::time::Duration;

use keepstone_vfs::simulated::{Choose, Dice};
use keepstone_wal::Durability;

/// A step. Lengths are bytes of payload.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// One record, waited for; perhaps more durable than the log is.
    Commit(usize, Option<Durability>),
    /// Records that are handed in together, and then waited for in another order.
    Group(Vec<usize>),
    /// The chores that are due.
    Tend,
    /// Time goes by until idle marks and delayed syncs are due, then the chores.
    Idle,
    /// Everything written becomes durable.
    Sync,
    /// The header of the last segment is rewritten.
    OwnerMark(u8),
    /// All but the last so many records may go.
    Release(u64),
    /// A pin on the last so many records.
    Pin(u64),
    /// The pin goes.
    Unpin,
    /// Closed in order and opened again.
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

pub(crate) const RELAXED: Durability =
    Durability::Relaxed { max_commits: 3, max_delay: Duration::from_millis(20) };

fn length(dice: &mut Dice) -> usize {
    let len = match dice.choose(12) {
        0..=6 => dice.choose(400),
        7 | 8 => dice.choose(5_000),
        9 => 3_900 + dice.choose(400),
        10 => dice.choose(40_000),
        _ => 40_000 + dice.choose(50_000),
    };
    len as usize
}

/// A step at random. Faults are rare, or little else would happen.
pub(crate) fn any_step(dice: &mut Dice) -> Step {
    match dice.choose(100) {
        0..=37 => {
            let more = match dice.choose(6) {
                0 => Some(Durability::Normal),
                1 => Some(Durability::Full),
                _ => None,
            };
            Step::Commit(length(dice), more)
        }
        38..=57 => {
            let count = 2 + dice.choose(5);
            Step::Group((0..count).map(|_| length(dice)).collect())
        }
        58..=63 => Step::Tend,
        64..=71 => Step::Idle,
        72..=75 => Step::Sync,
        76..=77 => Step::OwnerMark(dice.choose(255) as u8),
        78..=83 => Step::Release(dice.choose(12)),
        84..=85 => Step::Pin(dice.choose(8)),
        86 => Step::Unpin,
        87..=91 => Step::Reopen,
        92..=93 => Step::FailSync(dice.choose(12), dice.one_in(2)),
        94 => Step::FailWrite(dice.choose(12)),
        95..=96 => Step::Fill(dice.choose(40) * 8_192),
        97..=98 => Step::Room,
        _ => Step::Short,
    }
}
