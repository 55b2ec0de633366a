//! The address view: all 65,536 addresses, expiry by the clock, promotion and demotion.

use std::time::Duration;

use keepstone::{
    Address, AddressContent, AddressRegion, ChangeError, NodeId, SurfaceOperation, TxnOptions, WriteError,
};

use crate::{Disk, assert_sound, store};

#[test]
fn all_65536_addresses_do_what_their_region_says() {
    let (disk, clock) = Disk::with_manual_clock();
    let store = disk.open();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let id = store.write(|txn| nodes.put(txn, "k", &1)).unwrap().value;
    let mut txn = store.begin().unwrap();
    for number in 0..=u16::MAX {
        let address = Address::from_number(number);
        let region = address.region();
        let for_good = store.address_put(&mut txn, address, id);
        let for_a_time = store.address_put_for(&mut txn, address, id, Duration::from_secs(1));
        let wrong = |result: &Result<Option<NodeId>, ChangeError>| matches!(result, Err(ChangeError::Address { address: named, found, .. }) if *named == address && *found == region);
        match region {
            AddressRegion::Surface => {
                assert!(wrong(&for_good) && wrong(&for_a_time));
                assert!(store.address_clear(&mut txn, address).is_err());
            }
            AddressRegion::Fluid => assert!(wrong(&for_good) && matches!(for_a_time, Ok(None))),
            AddressRegion::Node => assert!(wrong(&for_a_time) && matches!(for_good, Ok(None))),
        }
    }
    txn.commit().unwrap();
    let mut operations = 0;
    for number in 0..=u16::MAX {
        let address = Address::from_number(number);
        match (address.region(), store.address(&store, address).unwrap()) {
            (AddressRegion::Surface, None) => assert_eq!(SurfaceOperation::at(address), None),
            (AddressRegion::Surface, Some(AddressContent::Surface { operation, .. })) => {
                assert_eq!(operation.address(), address);
                operations += 1;
            }
            (AddressRegion::Fluid, Some(AddressContent::Fluid { id: found, .. })) => assert_eq!(found, id),
            (AddressRegion::Node, Some(AddressContent::Node { id: found })) => assert_eq!(found, id),
            other => panic!("{address}: {other:?}"),
        }
    }
    assert_eq!(operations, SurfaceOperation::ALL.len());
    assert_eq!(store.addresses(&store).unwrap().len(), 28_672 + 32_768);
    assert_sound(&store);
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.addresses(&store).unwrap().len(), 32_768);
    assert_eq!(store.write(|txn| store.addresses_sweep(txn)).unwrap().value, 28_672);
    // Deleting the node empties what is left, in that commit.
    store.write(|txn| nodes.delete(txn, "k")).unwrap();
    assert!(store.addresses(&store).unwrap().is_empty());
    assert_eq!(store.check().unwrap().addresses, 0);
    assert_sound(&store);
}

#[test]
fn working_memory_expires_by_the_clock_of_the_reader() {
    let (disk, clock) = Disk::with_manual_clock();
    let store = disk.open();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let address = Address::new(0x10, 0);
    let made = store
        .write(|txn| {
            let id = nodes.put(txn, "k", &1)?;
            store.address_put_for(txn, address, id, Duration::from_secs(10))?;
            Ok(id)
        })
        .unwrap();
    let snapshot = store.snapshot().unwrap();
    let found =
        |reader: &keepstone::Snapshot| store.address(reader, address).unwrap().and_then(|found| found.id());
    clock.advance(Duration::from_micros(9_999_999));
    assert_eq!(store.address(&store, address).unwrap().and_then(|found| found.id()), Some(made.value));
    clock.advance(Duration::from_micros(1));
    assert_eq!(store.address(&store, address).unwrap(), None);
    // A snapshot's clock stands still; a version of the past is judged at its own time.
    assert_eq!(found(&snapshot), Some(made.value));
    assert_eq!(snapshot.age(), Duration::from_secs(10));
    assert_eq!(found(&store.at(made.version.unwrap()).unwrap()), Some(made.value));
    assert_eq!(found(&store.at_time(made.time.plus(Duration::from_secs(11))).unwrap()), None);
    // An expired entry is no entry: it cannot be promoted, and clearing it finds nothing.
    let refused = store.write(|txn| store.address_promote(txn, address, Address::new(0x80, 0))).unwrap_err();
    assert!(matches!(refused, WriteError::Change(ChangeError::AddressEmpty { .. })), "{refused}");
    assert!(!store.write(|txn| store.address_clear(txn, address)).unwrap().value);
    assert_sound(&store);
}

#[test]
fn promotion_and_demotion_move_one_entry() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let (fluid, kept) = (Address::new(0x7F, 0xFF), Address::new(0xFF, 0xFF));
    let minute = Duration::from_secs(60);
    let (one, two) = store
        .write(|txn| {
            let (one, two) = (nodes.put(txn, "one", &1)?, nodes.put(txn, "two", &2)?);
            store.address_put_for(txn, fluid, one, minute)?;
            assert_eq!(store.address_put(txn, kept, two)?, None);
            Ok((one, two))
        })
        .unwrap()
        .value;
    assert_eq!(store.write(|txn| store.address_promote(txn, fluid, kept)).unwrap().value, one);
    assert_eq!(
        store.addresses(&store).unwrap(),
        [(kept, AddressContent::Node { id: one })].map(|entry| entry)
    );
    assert_eq!(store.write(|txn| store.address_demote(txn, kept, fluid, minute)).unwrap().value, one);
    assert_eq!(store.addresses(&store).unwrap().len(), 1);
    let replaced = store.write(|txn| store.address_put_for(txn, fluid, two, minute)).unwrap();
    assert_eq!(replaced.value, Some(one));
    assert!(store.write(|txn| store.address_clear(txn, fluid)).unwrap().value);
    let unknown = store.write(|txn| store.address_put(txn, kept, NodeId::from_bytes([1; 16]))).unwrap_err();
    assert!(matches!(unknown, WriteError::Change(ChangeError::UnknownId { .. })), "{unknown}");
    let backwards = store.write(|txn| store.address_promote(txn, kept, fluid)).unwrap_err();
    assert!(matches!(backwards, WriteError::Change(ChangeError::Address { .. })), "{backwards}");
    assert_sound(&store);
}

#[test]
fn an_address_never_names_a_deleted_node_at_either_isolation_level() {
    for isolation in [keepstone::Isolation::Snapshot, keepstone::Isolation::Serializable] {
        let store = store();
        let nodes = store.collection::<u32>("nodes").unwrap();
        let id = store.write(|txn| nodes.put(txn, "k", &1)).unwrap().value;
        let options = TxnOptions::new().isolation(isolation);
        let (mut first, mut second) =
            (store.begin_with(options).unwrap(), store.begin_with(options).unwrap());
        store.address_put(&mut first, Address::new(0x80, 1), id).unwrap();
        nodes.delete(&mut second, "k").unwrap();
        first.commit().unwrap();
        assert!(second.commit().is_err());
        assert_sound(&store);
    }
}

#[test]
fn surface_operations_read_numbers() {
    let (disk, clock) = Disk::with_manual_clock();
    let store = disk.open();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let read = |operation: SurfaceOperation| match store.address(&store, operation.address()).unwrap() {
        Some(AddressContent::Surface { value, .. }) => value,
        other => panic!("{other:?}"),
    };
    let now = keepstone::Clock::now(&*clock).as_micros();
    assert_eq!(SurfaceOperation::ALL.map(read), [0, 0, now, 0, 0, 0]);
    store
        .write(|txn| {
            let id = nodes.put(txn, "k", &1)?;
            store.address_put(txn, Address::new(0x90, 0), id)?;
            store.address_put_for(txn, Address::new(0x20, 0), id, Duration::from_secs(1))?;
            store.address_put_for(txn, Address::new(0x20, 1), id, Duration::from_secs(9))
        })
        .unwrap();
    clock.advance(Duration::from_secs(2));
    let version = store.visible_version().to_raw();
    assert_eq!(SurfaceOperation::ALL.map(read), [version, version, now + 2_000_000, 1, 1, 1]);
}
