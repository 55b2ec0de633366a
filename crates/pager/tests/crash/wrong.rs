//! A mistake, built in on purpose: the sweep must catch it.

use keepstone_pager::wrong::{Wrong, with};
use keepstone_pager::{PageSize, Parity};
use keepstone_testkit::crash::{Plan, Tally, sweep};

use crate::subject::PagerSubject;

/// Seeds that are tried before a mistake counts as not caught.
const SEEDS: u64 = 20;

/// Sweeps until the mistake shows, and prints the seed.
fn is_caught(wrong: Wrong) -> bool {
    let subject = PagerSubject { page_size: PageSize::KIB_4, faults: false, parity: Parity::Xor };
    let plan = Plan { seeds: SEEDS, ..Plan::from_env() };
    let mut tally = Tally::default();
    let Err(report) = with(wrong, || sweep(&subject, &plan, &mut tally)) else { return false };
    println!("{wrong:?} is caught after {} images by {report}", tally.images);
    // The same program on the right page file: what was caught is the mistake.
    let plan = Plan { seed: report.seed, seeds: 1, ..plan };
    let found = sweep(&subject, &plan, &mut Tally::default());
    found.map_err(|report| println!("and without it: {report}")).is_ok()
}

#[test]
fn every_wrong_variant_is_caught() {
    let mut tally = Tally::default();
    for wrong in Wrong::SWEPT {
        assert!(is_caught(wrong), "{wrong:?} is not caught by {SEEDS} seeds");
        println!("wrong variant caught: {wrong:?}");
        tally.canary_caught += 1;
    }
    println!("crash-tally {}", tally.to_json(0.0));
}
