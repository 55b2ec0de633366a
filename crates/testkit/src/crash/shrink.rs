//! Makes a failing program short: steps are left out as long as the rest fails in the same way.

use super::sweep::{Found, Plan, Run, Subject};
use super::tally::Tally;

/// How many programs are tried, at most.
const TRIES: usize = 400;

/// The shortest program found that still fails with the same kind of failure, and how it fails.
pub(super) fn shrink<S: Subject>(
    subject: &S,
    plan: &Plan,
    seed: u64,
    mut lives: Vec<Vec<S::Step>>,
    mut found: Found,
) -> (Vec<Vec<S::Step>>, super::Failure, String) {
    let mut tries = 0;
    let kind = found.0.kind;
    let mut fails = |lives: &[Vec<S::Step>]| {
        tries += 1;
        if tries > TRIES {
            return None;
        }
        let mut tally = Tally::default();
        let result = Run { subject, plan, seed, tally: &mut tally }.program(lives);
        result.err().filter(|(failure, _)| failure.kind == kind)
    };
    // Lives behind the one that fails were never run; those before it may not matter.
    for life in (0..lives.len()).rev() {
        let mut shorter = lives.clone();
        shorter.remove(life);
        if let Some(how) = fails(&shorter) {
            (lives, found) = (shorter, how);
        }
    }
    for life in 0..lives.len() {
        let mut chunk = lives[life].len().div_ceil(2).max(1);
        loop {
            let mut from = 0;
            while from < lives[life].len() {
                let mut shorter = lives.clone();
                let to = (from + chunk).min(shorter[life].len());
                shorter[life].drain(from..to);
                match fails(&shorter) {
                    Some(how) => (lives, found) = (shorter, how),
                    None => from += chunk,
                }
            }
            if chunk == 1 {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
    }
    (lives, found.0, found.1)
}
