//! Places of chains under a model checker: `cargo xtask test --lane models`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use keepstone_types::sync::model::{self, thread};
use keepstone_xor_dag::chain::{ChainLength, Place, PlaceError, Places};

/// A chain of one entry, named 0, in which `max` have room.
fn chain(max: u16) -> Places<u32> {
    let places = Places::new(ChainLength::new(max).unwrap());
    places.claim(None).unwrap().keep(0).unwrap();
    places
}

/// Three at once, each doing something with the places.
fn three(places: &Places<u32>, act: fn(&Places<u32>, u32) -> bool) -> usize {
    let threads = [1, 2, 3].map(|number| {
        let places = places.clone();
        thread::spawn(move || act(&places, number))
    });
    threads.into_iter().map(|thread| thread.join().unwrap()).filter(|done| *done).count()
}

#[test]
fn the_last_places_go_to_as_many_as_there_are() {
    model::check("the last places", || {
        let places = chain(3);
        let kept = three(&places, |places, number| match places.claim(Some(&0)) {
            Ok(place) => place.keep(number).is_ok(),
            Err(refused) => {
                assert_eq!(refused, PlaceError::ChainTooLong { length: 4, max: 3 });
                false
            }
        });
        assert_eq!((kept, places.length(&0)), (2, Some(3)));
    });
}

#[test]
fn what_is_given_back_is_there_again_and_counted_once() {
    model::check("places given back", || {
        let places = chain(3);
        let kept = three(&places, |places, number| {
            let Ok(place) = places.claim(Some(&0)) else { return false };
            assert!(places.length(&0).unwrap() <= 3);
            if number == 1 {
                drop(place);
                return false;
            }
            place.keep(number).is_ok() && (number == 2 || places.remove(&number).is_err())
        });
        let expected = kept + 1;
        assert_eq!(places.length(&0), Some(expected));
        let free: Vec<Place<u32>> = (expected..3).map(|_| places.claim(Some(&0)).unwrap()).collect();
        assert!(places.claim(Some(&0)).is_err());
        drop(free);
    });
}

#[test]
fn a_parent_stays_while_a_place_hangs_on_it() {
    model::check("a parent that is removed", || {
        let places = chain(4);
        let other = places.clone();
        let removing = thread::spawn(move || other.remove(&0));
        let claimed = places.claim(Some(&0)).and_then(|place| place.keep(1));
        match (claimed, removing.join().unwrap()) {
            (Ok(()), Err(PlaceError::HasDependents { dependents: 1 })) => {
                assert_eq!(places.length(&1), Some(2))
            }
            (Err(PlaceError::ParentNotFound), Ok(())) => assert_eq!(places.length(&0), None),
            other => panic!("both or neither: {other:?}"),
        }
    });
}

/// What a claim in two steps would be: a look, then the count.
#[test]
fn a_claim_that_looks_and_then_counts_is_caught() {
    let caught = model::catch("a look before the count", || {
        let places = chain(8);
        let kept = three(&places, |places, number| {
            let has_room = places.length(&0).unwrap() < 3;
            has_room && places.claim(Some(&0)).unwrap().keep(number).is_ok()
        });
        assert!(kept <= 2, "more than there was room for");
    });
    assert!(caught.message.contains("more than there was room for"), "{caught}");
}
