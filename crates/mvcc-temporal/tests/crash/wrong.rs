//! Mistakes of a checkpoint, each built in on purpose: the sweep must catch every one.

use keepstone_mvcc_temporal::wrong::{Wrong, with};
use keepstone_mvcc_temporal::{Durability, Retention};
use keepstone_testkit::crash::{FailureKind, Plan, Tally, sweep, sweep_program};

use crate::program::{Change, OnBranch, Step};
use crate::subject::{Parity, StoreSubject};

/// Seeds that are tried before a mistake counts as not caught.
const SEEDS: u64 = 60;

fn subject(wrong: Wrong) -> StoreSubject {
    let durability = match wrong {
        // At the other levels everything visible is durable already.
        Wrong::FlipBeforeLogSync => Durability::None,
        _ => Durability::Normal,
    };
    let retention = match wrong {
        // Nothing is pruned where everything stays.
        Wrong::BaseForgotten | Wrong::BasePrunedApart => Retention::None,
        _ => Retention::Forever,
    };
    StoreSubject { durability, sector: 4_096, faults: false, retention, rotten: true, parity: Parity::On }
}

fn put(key: u8) -> Step {
    Step::Commit(vec![Change { table: 0, key, len: Some(3_000) }], false)
}

/// A program in which a mistake has its occasion, for one that random ones seldom give one.
fn program(wrong: Wrong) -> Option<Vec<Step>> {
    match wrong {
        // Segments must be full, and so free to be recycled, while the header before still needs them.
        Wrong::ReleasePastFallback => {
            let fill = (0..60).map(|number| {
                Step::Commit(vec![Change { table: 0, key: number % 5, len: Some(9_000) }], false)
            });
            Some(fill.chain([Step::Checkpoint, put(7)]).collect())
        }
        // A commit with runs that is folded, and the header before in use again.
        Wrong::RunRemovedEarly => {
            let large = (0..9).map(|key| Change { table: 0, key, len: Some(20_000) }).collect();
            Some(vec![put(1), Step::Checkpoint, Step::Bulk(large), Step::Checkpoint, put(7)])
        }
        // A row that is written again above the branch, and what is pruned then.
        Wrong::BaseForgotten => {
            Some(vec![put(1), Step::Branch(0, OnBranch::Merge), put(1), put(2), Step::Compact])
        }
        Wrong::NoteForgotten => {
            let own = OnBranch::Commit(vec![Change { table: 0, key: 3, len: Some(30) }]);
            let on_branch = |action| Step::Branch(0, action);
            let discarded = [on_branch(OnBranch::Merge), on_branch(own), on_branch(OnBranch::Discard)];
            Some([put(1)].into_iter().chain(discarded).chain([Step::Checkpoint]).collect())
        }
        // Of several versions of a row the newer ones go, and one that hangs on them has a name.
        Wrong::BasePrunedApart => {
            let named = [put(1), put(1), Step::Name(0)];
            Some(named.into_iter().chain([put(1), put(1), put(1), Step::Checkpoint, Step::Compact]).collect())
        }
        _ => None,
    }
}

/// Sweeps until the mistake shows, and prints the seed.
fn is_caught(wrong: Wrong) -> bool {
    let (subject, mut plan) = (subject(wrong), Plan { seeds: SEEDS, ..Plan::from_env() });
    if program(wrong).is_some() {
        // It is long, and made for one moment.
        plan = Plan { exhaustive: 1, samples: 0, double_every: 0, ..plan };
    }
    let mut tally = Tally::default();
    let found = match program(wrong) {
        Some(steps) => with(wrong, || sweep_program(&subject, &plan, &[steps], &mut tally)),
        None => with(wrong, || sweep(&subject, &plan, &mut tally)),
    };
    let Err(report) = found else { return false };
    println!("{wrong:?} is caught after {} images by {report}", tally.images);
    // The same programs on the right store: what was caught is the mistake.
    let plan = Plan { seed: report.seed, seeds: 1, ..plan };
    let right = match program(wrong) {
        Some(steps) => sweep_program(&subject, &plan, &[steps], &mut Tally::default()),
        None => sweep(&subject, &plan, &mut Tally::default()),
    };
    right.map_err(|report| println!("and without it: {report}")).is_ok()
}

#[test]
fn every_mistake_of_a_checkpoint_is_caught() {
    let caught: Vec<Wrong> = Wrong::ALL.into_iter().filter(|wrong| is_caught(*wrong)).collect();
    let tally = Tally { canary_caught: caught.len() as u64, ..Tally::default() };
    println!("crash-tally {}", tally.to_json(0.0));
    assert_eq!(caught, Wrong::ALL);
}

/// A checkpoint that refreshes the parity of another group than the one it changed: found by whoever adds up the groups, and not by
/// those who keep parity.
#[test]
fn parity_of_the_wrong_block_is_caught() {
    // A group is made anew of what it had when some of it stays, which takes more pages than there are groups.
    let steps: Vec<Step> = (0..12).flat_map(|key| [put(key % 7), Step::Checkpoint]).collect();
    let subject = subject(Wrong::DisplacedForgotten);
    let plan = Plan { seed: 1, seeds: 1, ..Plan::from_env() };
    let swept = || sweep_program(&subject, &plan, std::slice::from_ref(&steps), &mut Tally::default());
    let report = keepstone_pager::wrong::with(keepstone_pager::wrong::Wrong::WrongBlock, swept).unwrap_err();
    println!("WrongBlock is caught by {report}");
    assert_eq!(report.failure.kind, FailureKind::WrongParity, "{report}");
    swept().unwrap_or_else(|report| panic!("and without it: {report}"));
    println!("crash-tally {}", Tally { canary_caught: 1, ..Tally::default() }.to_json(0.0));
}
