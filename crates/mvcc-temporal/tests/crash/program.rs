//! The steps of a program on the store, and how they are drawn.

use keepstone_vfs::simulated::{Choose, Dice};

/// One change of a row: table, key, and the length of the new value, or that the row goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) table: u8,
    pub(crate) key: u8,
    pub(crate) len: Option<usize>,
}

/// What happens to a branch that is there.
#[derive(Clone, Debug)]
pub(crate) enum OnBranch {
    /// One transaction on it.
    Commit(Vec<Change>),
    /// It is merged into the store; what both sides changed becomes as it has it.
    Merge,
    /// It goes.
    Discard,
}

/// A step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// One transaction, committed; durable whatever the store's level is, or not.
    Commit(Vec<Change>, bool),
    /// One transaction that writes every key of two tables anew, and is too large for memory.
    Bulk(Vec<Change>),
    /// Transactions that are handed in together, and waited for the last first.
    Group(Vec<Vec<Change>>),
    /// A transaction that is dropped.
    Drop(Vec<Change>),
    /// The content of the version so far back is brought back.
    RollbackTo(u64),
    /// The newest version gets a name, or the name goes if it is taken.
    Name(u8),
    /// Something happens to a branch; one that is not there is forked.
    Branch(u8, OnBranch),
    /// The chores that are due.
    Tend,
    /// Time goes by until idle marks and delayed syncs are due, then the chores.
    Idle,
    /// Everything written becomes durable.
    Sync,
    /// Everything is folded into the page file, a few keys at a time.
    Checkpoint,
    /// A snapshot of the version so far back is held from now on, or let go.
    Hold(u64),
    /// Parity of pages is turned on or off.
    Parity(bool),
    /// Every page is read, and what is wrong repaired.
    Scrub,
    /// A page of the swept disk itself rots, chosen and damaged by this number, and is repaired.
    Rot(u64),
    /// Everything is folded, and versions that need not stay are pruned.
    Compact,
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

impl Step {
    /// Whether the disk fails or is full from then on.
    pub(crate) const fn is_fault(&self) -> bool {
        matches!(self, Self::FailSync(..) | Self::FailWrite(_) | Self::Fill(_) | Self::Short)
    }
}

fn change(dice: &mut Dice) -> Change {
    let len = match dice.choose(20) {
        0..=3 => None,
        4..=14 => Some(dice.choose(200)),
        15..=17 => Some(dice.choose(6_000)),
        18 => Some(20_000 + dice.choose(8_000)),
        _ => Some(40_000 + dice.choose(50_000)),
    };
    Change { table: dice.choose(3) as u8, key: dice.choose(9) as u8, len: len.map(|len| len as usize) }
}

fn changes(dice: &mut Dice) -> Vec<Change> {
    (0..1 + dice.choose(4)).map(|_| change(dice)).collect()
}

/// Changes of every key of two tables, in an order that makes the runs overlap.
fn bulk(dice: &mut Dice) -> Vec<Change> {
    let first = dice.choose(3) as u8;
    let keys = (0..9).flat_map(|key| [(first, key), ((first + 1) % 3, 8 - key)]);
    let mut change = |(table, key)| {
        let len = match dice.choose(8) {
            0 => None,
            1 => Some(20_000 + dice.choose(30_000) as usize),
            _ => Some(4_000 + dice.choose(3_000) as usize),
        };
        Change { table, key, len }
    };
    keys.map(&mut change).collect()
}

fn on_branch(dice: &mut Dice) -> OnBranch {
    match dice.choose(12) {
        0..=6 => OnBranch::Commit(changes(dice)),
        7 => OnBranch::Commit(bulk(dice)),
        8 => OnBranch::Merge,
        _ => OnBranch::Discard,
    }
}

/// A step at random. Faults are rare, or little else would happen.
pub(crate) fn any_step(dice: &mut Dice) -> Step {
    match dice.choose(152) {
        146..=148 => Step::Parity(dice.one_in(2)),
        149..=151 => Step::Scrub,
        126..=145 => Step::Branch(dice.choose(3) as u8, on_branch(dice)),
        100..=112 => Step::Checkpoint,
        113..=116 => Step::Hold(dice.choose(5)),
        117..=119 => Step::Compact,
        120..=125 => Step::Bulk(bulk(dice)),
        0..=39 => Step::Commit(changes(dice), dice.one_in(4)),
        40..=57 => {
            let count = 2 + dice.choose(4);
            Step::Group((0..count).map(|_| changes(dice)).collect())
        }
        58..=60 => Step::Drop(changes(dice)),
        61..=66 => Step::RollbackTo(dice.choose(6)),
        67..=70 => Step::Name(dice.choose(3) as u8),
        71..=75 => Step::Tend,
        76..=82 => Step::Idle,
        83..=86 => Step::Sync,
        87..=91 => Step::Reopen,
        92..=93 => Step::FailSync(dice.choose(12), dice.one_in(2)),
        94 => Step::FailWrite(dice.choose(12)),
        95..=96 => Step::Fill(dice.choose(40) * 8_192),
        97..=98 => Step::Room,
        _ => Step::Short,
    }
}
