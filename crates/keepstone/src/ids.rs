//! Where the ids of new nodes come from: time-ordered, so that nodes written one after another lie one after another.

use keepstone_types::{Clock, NodeId, TimeOrderedIds, lock_rank};

use crate::sync::{Arc, Mutex};

/// The state that one lock guards; every step leaves it whole.
#[derive(Debug)]
struct State {
    ordered: TimeOrderedIds,
    /// The state of SplitMix64 (Steele, Lea, Flood 2014), seeded by the operating system: ids must differ, not surprise.
    random: u64,
}

/// Makes ids that ascend within the process and differ between processes.
#[derive(Debug)]
pub(crate) struct IdSource {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl IdSource {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Result<Self, getrandom::Error> {
        let mut seed = [0_u8; 8];
        getrandom::fill(&mut seed)?;
        let state = State { ordered: TimeOrderedIds::new(), random: u64::from_le_bytes(seed) };
        Ok(Self { clock, state: Mutex::new(lock_rank::KEEPSTONE_IDS, state) })
    }

    pub(crate) fn next(&self) -> NodeId {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.random = state.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state.ordered.next(now, mixed ^ (mixed >> 31))
    }
}

#[cfg(test)]
mod tests {
    use keepstone_types::SystemClock;

    use super::*;

    #[test]
    fn ids_ascend_and_two_sources_differ() {
        let source = || IdSource::new(Arc::new(SystemClock::default())).unwrap();
        let (one, other) = (source(), source());
        let ids: Vec<_> = (0..10_000).map(|_| one.next()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!((0..10_000).all(|_| ids.binary_search(&other.next()).is_err()));
    }
}
