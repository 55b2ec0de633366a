//! Random programs of one thread against a model that has a list of guards and a list of items.

use keepstone_epoch::{Epoch, Epochs, Guard};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter,
    /// The guard at this place among those alive leaves.
    Leave(usize),
    Submit,
    Advance,
    /// Steals and takes so many items out of the batch.
    Steal(usize),
    RunDue,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Enter),
        4 => any::<usize>().prop_map(Step::Leave),
        6 => Just(Step::Submit),
        3 => Just(Step::Advance),
        3 => (0_usize..6).prop_map(Step::Steal),
        1 => Just(Step::RunDue),
    ];
    prop::collection::vec(step, 0..200)
}

/// What must be so.
#[derive(Default)]
struct Model {
    current: u64,
    guards: Vec<u64>,
    /// Epoch and number of the items that wait, as they were submitted: epochs ascend.
    items: Vec<(u64, usize)>,
}

impl Model {
    fn horizon(&self) -> u64 {
        self.guards.iter().copied().min().unwrap_or(self.current).min(self.current)
    }

    /// Takes the oldest items that are due, at most so many.
    fn take_due(&mut self, most: usize) -> Vec<(u64, usize)> {
        let horizon = self.horizon();
        let due = self.items.iter().take_while(|(epoch, _)| *epoch < horizon).count();
        self.items.drain(..due.min(most)).collect()
    }
}

fn numbers(items: impl Iterator<Item = (Epoch, usize)>) -> Vec<(u64, usize)> {
    items.map(|(epoch, item)| (epoch.get(), item)).collect()
}

fn run(steps: &[Step]) {
    let epochs = Epochs::new();
    let mut guards: Vec<Guard<'_, usize>> = Vec::new();
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Enter => {
                guards.push(epochs.enter());
                model.guards.push(model.current);
            }
            Step::Leave(place) if !guards.is_empty() => {
                let place = place % guards.len();
                drop(guards.swap_remove(place));
                model.guards.swap_remove(place);
            }
            Step::Leave(_) => {}
            Step::Submit => {
                assert_eq!(epochs.submit(number).get(), model.current);
                model.items.push((model.current, number));
            }
            Step::Advance => {
                model.current += 1;
                assert_eq!(epochs.advance().get(), model.current);
            }
            Step::Steal(most) => {
                let due = model.items.iter().filter(|(epoch, _)| *epoch < model.horizon()).count();
                let batch = epochs.try_steal();
                assert_eq!(batch.as_ref().map_or(0, ExactSizeIterator::len), due);
                // One thread submits, but from any slot: within an epoch the order is not promised.
                let Some(mut batch) = batch else { continue };
                assert_eq!(batch.horizon().get(), model.horizon());
                let taken = numbers(batch.by_ref().take(most));
                assert!(taken.is_sorted_by_key(|(epoch, _)| *epoch));
                for item in taken {
                    let place = model.items.iter().position(|found| *found == item);
                    model.items.remove(place.expect("an item that waits"));
                }
            }
            Step::RunDue => {
                let mut due = model.take_due(usize::MAX);
                let mut ran = Vec::new();
                assert_eq!(epochs.run_due(|item| ran.push(item)), due.len());
                due.sort_unstable_by_key(|(_, item)| *item);
                ran.sort_unstable();
                assert_eq!(ran, due.iter().map(|(_, item)| *item).collect::<Vec<_>>());
            }
        }
        assert_eq!(epochs.current().get(), model.current);
        assert_eq!(epochs.horizon().get(), model.horizon());
        assert_eq!(epochs.waiting(), model.items.len());
        assert!(guards.iter().map(|guard| guard.epoch().get()).eq(model.guards.iter().copied()));
    }
    drop(guards);
    let mut left = numbers(epochs.into_items().into_iter());
    assert!(left.is_sorted_by_key(|(epoch, _)| *epoch));
    left.sort_unstable_by_key(|(_, item)| *item);
    model.items.sort_unstable_by_key(|(_, item)| *item);
    assert_eq!(left, model.items);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_a_list_of_guards_and_items(steps in steps()) {
        run(&steps);
    }
}

/// More guards than the first block has slots, and than the second.
#[test]
fn there_is_room_for_any_number_of_guards() {
    let epochs = Epochs::<usize>::new();
    let guards: Vec<_> = (0..1_000_u64)
        .map(|number| {
            let guard = epochs.enter();
            assert_eq!(guard.epoch().get(), number);
            assert_eq!(epochs.submit(1).get(), number);
            epochs.advance();
            guard
        })
        .collect();
    assert!(epochs.try_steal().is_none());
    for (number, guard) in (1..).zip(guards) {
        drop(guard);
        assert_eq!(epochs.horizon().get(), number);
        assert_eq!(epochs.run_due(drop), 1);
    }
    assert_eq!(epochs.waiting(), 0);
}
