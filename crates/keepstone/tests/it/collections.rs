//! Collections: schemas, widths, limits, ids, iterators, and handles of another store.

use keepstone::{
    ChangeError, CollectionOptions, Fingerprint, NodeId, NodePatch, OpenError, ReadError, Store, WriteError,
    limits,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Disk, assert_sound, store};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
    #[serde(default)]
    born: Option<u16>,
}

fn change_error<T: std::fmt::Debug>(result: Result<T, WriteError>) -> ChangeError {
    match result.unwrap_err() {
        WriteError::Change(error) => error,
        other => panic!("expected a refused change, found {other}"),
    }
}

#[test]
fn opening_writes_nothing_and_reading_what_is_not_there_finds_nothing() {
    let store = store();
    let before = store.visible_version();
    let people = store.collection::<Person>("people").unwrap();
    assert_eq!(people.get(&store, "ada").unwrap(), None);
    assert_eq!((people.len(&store).unwrap(), people.is_empty(&store).unwrap()), (0, true));
    assert_eq!(people.iter(&store).count(), 0);
    assert!(store.collections(&store).unwrap().is_empty());
    assert!(!store.write(|txn| people.delete(txn, "ada")).unwrap().value);
    assert_eq!(store.visible_version(), before);
}

#[test]
fn a_schema_is_for_good() {
    let disk = Disk::new();
    let store = disk.open();
    let first = || CollectionOptions::new().schema("person.v1");
    let people = store.collection_with::<Person>("people", first()).unwrap();
    let early = store.collection_with::<Value>("people", CollectionOptions::new().schema("other")).unwrap();
    let ada = Person { name: "Ada".into(), born: Some(1815) };
    store.write(|txn| people.put(txn, "ada", &ada)).unwrap();
    // A handle that was opened before the collection was made is refused when it writes.
    let refused = change_error(store.write(|txn| early.put(txn, "x", &json!(1))));
    assert!(matches!(refused, ChangeError::SchemaMismatch { .. }), "{refused}");
    store.close().unwrap();

    let store = disk.open();
    for options in [CollectionOptions::new(), CollectionOptions::new().schema("person.v2")] {
        match store.collection_with::<Person>("people", options).unwrap_err() {
            OpenError::SchemaMismatch { collection, stored, .. } => {
                assert_eq!((&*collection, &*stored), ("people", "person.v1"));
            }
            other => panic!("{other}"),
        }
    }
    let people = store.collection_with::<Person>("people", first()).unwrap();
    assert_eq!(people.get(&store, "ada").unwrap(), Some(ada));
    let any = store.collection_with::<Value>("people", CollectionOptions::new().any_schema()).unwrap();
    assert_eq!(any.get(&store, "ada").unwrap(), Some(json!({"name": "Ada", "born": 1815})));
    store.write(|txn| any.put(txn, "bob", &json!({"name": "Bob"}))).unwrap();
    assert_eq!(people.get(&store, "bob").unwrap().unwrap().born, None);
}

#[test]
fn a_body_of_another_type_is_an_error_that_names_the_node() {
    let store = store();
    let numbers = store.collection::<u32>("numbers").unwrap();
    store.write(|txn| numbers.put(txn, "one", &1)).unwrap();
    let people = store.collection::<Person>("numbers").unwrap();
    let error = people.get(&store, "one").unwrap_err();
    assert!(matches!(&error, ReadError::Body { key, .. } if key == "one"), "{error}");
    let mut nodes = people.iter(&store);
    assert!(nodes.next().unwrap().is_err());
    assert!(nodes.next().is_none() && nodes.next_back().is_none(), "an iterator ends after an error");
}

#[test]
fn a_null_body_is_a_body() {
    let store = store();
    let values = store.collection::<Value>("values").unwrap();
    store
        .write(|txn| {
            values.put(txn, "null", &Value::Null)?;
            values.put_node(txn, "none", &NodePatch::new().label("nothing"))
        })
        .unwrap();
    let body = |key| values.node(&store, key).unwrap().unwrap().body;
    assert_eq!((body("null"), body("none")), (Some(Value::Null), None));
}

#[test]
fn widths_are_fixed_by_first_use_by_the_collection_and_by_the_store() {
    let print = |bytes: usize| Fingerprint::from_bytes(vec![0xA5; bytes]).unwrap();
    let store = store();
    let free = store.collection::<()>("free").unwrap();
    let put = |patch: NodePatch<()>| store.write(|txn| free.put_node(txn, "k", &patch));
    put(NodePatch::new().fingerprint(print(16)).embedding([1.0, 2.0])).unwrap();
    let refused = change_error(put(NodePatch::new().fingerprint(print(8))));
    assert!(matches!(refused, ChangeError::Width { expected: 128, found: 64, .. }), "{refused}");
    let refused = change_error(put(NodePatch::new().embedding([1.0])));
    assert!(matches!(refused, ChangeError::Width { expected: 2, found: 1, .. }), "{refused}");
    let info = &store.collections(&store).unwrap()[0];
    assert_eq!((info.fingerprint_bits, info.embedding_dimension), (Some(128), Some(2)));
    let other = CollectionOptions::new().embedding_dimension(3);
    let refused = store.collection_with::<()>("free", other).unwrap_err();
    assert!(matches!(refused, OpenError::WidthMismatch { stored: 2, asked: 3, .. }), "{refused}");

    let fixed = CollectionOptions::new().fingerprint_bits(64).embedding_dimension(1);
    let fixed = store.collection_with::<()>("fixed", fixed).unwrap();
    let wide = NodePatch::new().fingerprint(print(16));
    let refused = change_error(store.write(|txn| fixed.put_node(txn, "k", &wide)));
    assert!(matches!(refused, ChangeError::Width { expected: 64, .. }), "{refused}");
    // The refused change made nothing, not even the collection.
    assert_eq!(store.collections(&store).unwrap().len(), 1);

    let options = keepstone::StoreOptions::new().embedding_dimension(384);
    let store = Disk::new().open_as(&options).unwrap();
    let nodes = store.collection::<()>("nodes").unwrap();
    let narrow = NodePatch::new().embedding([1.0]);
    let refused = change_error(store.write(|txn| nodes.put_node(txn, "k", &narrow)));
    assert!(matches!(refused, ChangeError::Width { expected: 384, .. }), "{refused}");
}

#[test]
fn every_limit_has_its_error_at_limit_plus_one_and_none_at_the_limit() {
    let store = store();
    let nodes = store.collection::<String>("nodes").unwrap();
    let long = |len: usize| "x".repeat(len);
    let put = |key: &str, patch: NodePatch<String>| store.write(|txn| nodes.put_node(txn, key, &patch));
    let check = |at_limit: Result<_, WriteError>, above: Result<_, WriteError>, part: &str| {
        at_limit.unwrap();
        match change_error(above) {
            ChangeError::Limit { what, .. } => assert_eq!(what, part),
            other => panic!("{part}: {other}"),
        }
    };
    let patch = NodePatch::new;
    check(put(&long(limits::KEY_BYTES_MAX), patch()), put(&long(limits::KEY_BYTES_MAX + 1), patch()), "key");
    check(put("k", patch()), put("", patch()), "key");
    let label = |len| put("k", patch().label(long(len)));
    check(label(limits::LABEL_BYTES_MAX), label(limits::LABEL_BYTES_MAX + 1), "label");
    let embedding = |len| put("k", patch().embedding(vec![0.5; len]));
    check(
        embedding(limits::EMBEDDING_DIMENSION_MAX),
        embedding(limits::EMBEDDING_DIMENSION_MAX + 1),
        "embedding",
    );
    let link = |verb: usize| {
        store.write(|txn| nodes.link(txn, "k", &long(verb), "to", 1.0).map(|_| NodeId::of_content(b"")))
    };
    check(link(limits::VERB_BYTES_MAX), link(limits::VERB_BYTES_MAX + 1), "verb");
    check(link(1), link(0), "verb");
    let too_large = long(limits::BODY_BYTES_MAX);
    check(put("k", patch()), store.write(|txn| nodes.put(txn, "k", &too_large)), "encoded body");
    for (strength, confidence) in
        [(f32::NAN, 0.0), (f32::INFINITY, 0.0), (0.0, 1.1), (0.0, -0.1), (0.0, f32::NAN)]
    {
        let refused = change_error(put("k", patch().strength(strength).confidence(confidence)));
        assert!(matches!(refused, ChangeError::Number { .. }), "{refused}");
    }
    let refused = change_error(put("k", patch().embedding([0.0, f32::NEG_INFINITY])));
    assert!(matches!(refused, ChangeError::Number { .. }), "{refused}");
    for weight in [f64::NAN, f64::INFINITY] {
        let refused = change_error(store.write(|txn| nodes.link(txn, "k", "v", "to", weight)));
        assert!(matches!(refused, ChangeError::Number { .. }), "{refused}");
    }
    let names = [String::new(), long(limits::COLLECTION_NAME_BYTES_MAX + 1), "a\nb".into()];
    for name in names {
        let refused = store.collection::<()>(&name).unwrap_err();
        assert!(matches!(refused, OpenError::CollectionName { .. }), "{refused}");
    }
    store.collection::<()>(&long(limits::COLLECTION_NAME_BYTES_MAX)).unwrap();
    assert_sound(&store);
}

#[test]
fn ids_are_time_ordered_given_or_of_content() {
    let store = store();
    let nodes = store.collection::<String>("nodes").unwrap();
    let body = |text: &str| NodePatch::body(text.to_owned());
    let id = |byte| NodeId::from_bytes([byte; 16]);
    let (first, second) = store
        .write(|txn| Ok((nodes.put(txn, "z", &"1".into())?, nodes.put(txn, "a", &"2".into())?)))
        .unwrap()
        .value;
    assert!(first < second);
    let with_id = |id, key, patch| store.write(|txn| nodes.put_with_id(txn, id, key, &patch));
    assert_eq!(with_id(id(7), "given", body("x")).unwrap().value, id(7));
    // The very same node again changes nothing; anything else under the id is an error.
    assert_eq!(with_id(id(7), "given", body("x")).unwrap().version, None);
    let refused = change_error(with_id(id(7), "given", body("y")));
    assert!(matches!(refused, ChangeError::IdTaken { .. }), "{refused}");
    let refused = change_error(with_id(id(7), "other", body("x")));
    assert!(matches!(&refused, ChangeError::IdTaken { key, .. } if key == "given"), "{refused}");
    let refused = change_error(with_id(id(8), "given", body("x")));
    assert!(matches!(refused, ChangeError::KeyTaken { .. }), "{refused}");

    let content = |key: &str, text: &str| store.write(|txn| nodes.put_content(txn, key, &text.to_owned()));
    let made = content("c", "same").unwrap().value;
    assert_eq!(content("c", "same").unwrap().version, None);
    assert!(matches!(change_error(content("c", "changed")), ChangeError::KeyTaken { .. }));
    let elsewhere = crate::store();
    let other = elsewhere.collection::<String>("nodes").unwrap();
    assert_eq!(elsewhere.write(|txn| other.put_content(txn, "c", &"same".into())).unwrap().value, made);
    assert_eq!(nodes.node_by_id(&store, made).unwrap().unwrap().key, "c");
    assert_eq!(nodes.node_by_id(&store, id(9)).unwrap(), None);
    assert_sound(&store);
}

#[test]
fn a_handle_of_another_store_is_refused_everywhere() {
    let (here, there) = (store(), store());
    let nodes = here.collection::<u8>("nodes").unwrap();
    here.write(|txn| nodes.put(txn, "k", &1)).unwrap();
    let wrong = |error: ReadError| assert!(matches!(error, ReadError::WrongStore { .. }), "{error}");
    wrong(nodes.get(&there, "k").unwrap_err());
    wrong(nodes.node(&there.snapshot().unwrap(), "k").unwrap_err());
    wrong(nodes.len(&there.begin().unwrap()).unwrap_err());
    wrong(nodes.iter(&there).next().unwrap().unwrap_err());
    wrong(nodes.links(&there, "k", keepstone::Direction::Out).next().unwrap().unwrap_err());
    wrong(nodes.history(&there, "k").next().unwrap().unwrap_err());
    wrong(here.collections(&there).unwrap_err());
    wrong(here.address(&there, keepstone::Address::new(0, 0)).unwrap_err());
    let mut txn = there.begin().unwrap();
    let id = nodes.id(&here, "k").unwrap().unwrap();
    let node_address = keepstone::Address::new(0x80, 0);
    let refused = [
        nodes.put(&mut txn, "k", &2).map(drop),
        nodes.delete(&mut txn, "k").map(drop),
        nodes.link(&mut txn, "k", "v", "k", 1.0).map(drop),
        nodes.unlink(&mut txn, "k", "v", "k").map(drop),
        here.address_put(&mut txn, node_address, id).map(drop),
        here.address_clear(&mut txn, node_address).map(drop),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert!(matches!(error, ChangeError::WrongStore { .. }), "{error}");
    }
    // Refused changes leave the transaction as it was.
    assert_eq!(txn.commit().unwrap().version, None);
    assert_eq!(there.visible_version(), keepstone::Version::ZERO);
}

#[test]
fn iterators_go_from_both_ends_over_ranges_and_prefixes() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let other = store.collection::<u32>("other").unwrap();
    let keys = ["", "a", "ab", "abc", "b", "\u{10FFFF}"].map(|tail| format!("k{tail}"));
    store
        .write(|txn| {
            for (number, key) in (0..).zip(&keys) {
                nodes.put(txn, key, &number)?;
                other.put(txn, key, &number)?;
            }
            // A reserved id is no node.
            nodes.link(txn, "k", "points to", "ka0", 1.0)
        })
        .unwrap();
    let found = |nodes: keepstone::Nodes<u32>| nodes.map(|node| node.unwrap().key).collect::<Vec<_>>();
    let txn = store.begin().unwrap();
    assert_eq!(found(nodes.iter(&store)), keys);
    assert_eq!(found(nodes.iter(&txn)), keys);
    let mut backwards: Vec<_> = nodes.iter(&store).rev().map(|node| node.unwrap().key).collect();
    backwards.reverse();
    assert_eq!(backwards, keys);
    let mut both = nodes.iter(&txn);
    assert_eq!(both.next().unwrap().unwrap().key, keys[0]);
    assert_eq!(both.next_back().unwrap().unwrap().key, keys[5]);
    assert_eq!(both.count(), 4);
    assert_eq!(found(nodes.range(&store, "ka".."kb")), keys[1..4]);
    assert_eq!(found(nodes.range(&store, "ka"..="kb")), keys[1..5]);
    assert_eq!(found(nodes.range(&store, "kb"..)), keys[4..]);
    assert_eq!(found(nodes.range(&store, .."ka")), keys[..1]);
    assert_eq!(found(nodes.prefix(&store, "kab")), keys[2..4]);
    assert_eq!(nodes.keys(&store).map(Result::unwrap).collect::<Vec<_>>(), keys);
    assert_eq!(nodes.keys(&store).next_back().unwrap().unwrap(), keys[5]);
    assert_eq!(nodes.len(&store).unwrap(), 6);
    assert_eq!(store.collections(&store).unwrap().len(), 2);
}

#[test]
fn handles_can_be_sent_and_shared() {
    fn free<T: Send + Sync + 'static>() {}
    fn sendable<T: Send + 'static>() {}
    free::<Store>();
    free::<keepstone::Snapshot>();
    free::<keepstone::Collection<std::rc::Rc<u8>>>();
    free::<ReadError>();
    free::<ChangeError>();
    sendable::<keepstone::Txn>();
    sendable::<keepstone::Nodes<Person>>();
    sendable::<keepstone::Links>();
    sendable::<keepstone::PendingCommit>();
}
