//! Random programs of nodes, links, deletions, rollbacks, checkpoints, compactions and reopenings against a model that is too
//! simple to be wrong: every version, every history and every difference must be as the model says. Where older versions
//! are not kept, each must be as the model says or be told as gone, and nothing that was promised may be gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use keepstone::{
    ChangeError, ChangeKind, Collection, CommitError, Direction, Fingerprint, Node, NodeId, NodePatch,
    OpenError, Read, ReadError, Retention, Store, StoreOptions, Version,
};
use proptest::prelude::*;

use crate::{Disk, assert_sound};

const COLLECTIONS: [&str; 2] = ["left", "right"];
const KEYS: [&str; 5] = ["a", "b", "ba", "c", "d"];
const VERBS: [&str; 3] = ["knows", "knows well", "likes"];

/// A collection and a key, as indexes.
type Place = (usize, usize);

#[derive(Clone, Debug)]
struct Patch {
    label: Option<u8>,
    body: Option<u16>,
    strength: Option<i8>,
    clear: bool,
    fingerprint: Option<(u8, bool)>,
    embedding: Option<(u8, bool)>,
}

#[derive(Clone, Debug)]
enum Step {
    Put(Place, Patch),
    PutBody(Place, u16),
    PutWithId(Place, u8, u16),
    Delete(Place),
    Link(Place, usize, Place, i8),
    Unlink(Place, usize, Place),
}

#[derive(Clone, Debug)]
enum Act {
    /// Steps and whether they are committed.
    Transaction(Vec<Step>, bool),
    /// Back to one of the versions so far.
    RollBack(proptest::sample::Index),
    /// Closed and opened again, or dropped and opened again.
    Reopen(bool),
    /// Everything goes to the page file.
    Checkpoint,
    /// Everything goes to the page file, and what nothing keeps goes.
    Compact,
    /// One of the versions so far gets a name.
    Name(proptest::sample::Index),
}

#[derive(Clone, Debug, PartialEq)]
struct ModelNode {
    id: NodeId,
    label: Option<String>,
    strength: f32,
    body: Option<u16>,
    fingerprint: Option<Vec<u8>>,
    embedding: Option<Vec<f32>>,
}

impl From<Node<u16>> for ModelNode {
    fn from(node: Node<u16>) -> Self {
        Self {
            id: node.id,
            label: node.label,
            strength: node.strength,
            body: node.body,
            fingerprint: node.fingerprint.map(|fingerprint| fingerprint.as_bytes().to_vec()),
            embedding: node.embedding,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    nodes: BTreeMap<Place, ModelNode>,
    links: BTreeMap<(Place, usize, Place), f64>,
    /// Bytes of fingerprints and numbers of embeddings, by collection.
    widths: BTreeMap<usize, (Option<usize>, Option<usize>)>,
}

fn fingerprint((byte, wide): (u8, bool)) -> Vec<u8> {
    vec![byte; if wide { 16 } else { 8 }]
}

fn embedding((number, wide): (u8, bool)) -> Vec<f32> {
    vec![f32::from(number); if wide { 3 } else { 2 }]
}

impl Model {
    /// Whether the widths fit; fixes them when they are not fixed yet.
    fn fix_widths(&mut self, collection: usize, patch: &Patch) -> bool {
        let mut widths = self.widths.get(&collection).copied().unwrap_or_default();
        let wanted = (
            patch.fingerprint.map(|wanted| fingerprint(wanted).len()),
            patch.embedding.map(|wanted| embedding(wanted).len()),
        );
        let fits = |fixed: Option<usize>, wanted: Option<usize>| {
            fixed.is_none() || wanted.is_none() || fixed == wanted
        };
        if !fits(widths.0, wanted.0) || !fits(widths.1, wanted.1) {
            return false;
        }
        widths = (widths.0.or(wanted.0), widths.1.or(wanted.1));
        self.widths.insert(collection, widths);
        true
    }

    fn put(&mut self, place: Place, patch: &Patch, id: NodeId) {
        let node = self.nodes.entry(place).or_insert(ModelNode {
            id,
            label: None,
            strength: 1.0,
            body: None,
            fingerprint: None,
            embedding: None,
        });
        if patch.clear {
            (node.label, node.body, node.fingerprint, node.embedding) = (None, None, None, None);
        }
        node.label = patch.label.map(|label| format!("label {label}")).or(node.label.take());
        node.body = patch.body.or(node.body);
        node.strength = patch.strength.map_or(node.strength, f32::from);
        node.fingerprint = patch.fingerprint.map(fingerprint).or(node.fingerprint.take());
        node.embedding = patch.embedding.map(embedding).or(node.embedding.take());
    }

    fn delete(&mut self, place: Place) -> bool {
        self.links.retain(|(from, _, to), _| *from != place && *to != place);
        self.nodes.remove(&place).is_some()
    }
}

fn to_patch(patch: &Patch) -> NodePatch<u16> {
    let mut made = NodePatch::new();
    if patch.clear {
        made = made.no_label().no_body().no_fingerprint().no_embedding();
    }
    if let Some(label) = patch.label {
        made = made.label(format!("label {label}"));
    }
    if let Some(body) = patch.body {
        made = made.with_body(body);
    }
    if let Some(strength) = patch.strength {
        made = made.strength(f32::from(strength));
    }
    if let Some(wanted) = patch.fingerprint {
        made = made.fingerprint(Fingerprint::from_bytes(fingerprint(wanted)).unwrap());
    }
    if let Some(wanted) = patch.embedding {
        made = made.embedding(embedding(wanted));
    }
    made
}

/// The store under test with its collections.
struct Subject {
    store: Store,
    collections: Vec<Collection<u16>>,
}

impl Subject {
    fn open(disk: &Disk, options: &StoreOptions) -> Self {
        let give_up = Instant::now() + Duration::from_secs(60);
        let store = loop {
            match disk.open_as(options) {
                // A store that was dropped closes when the thread that looks after it has let it go.
                Err(OpenError::Locked { .. }) if Instant::now() < give_up => std::thread::yield_now(),
                store => break store.unwrap(),
            }
        };
        let collections = COLLECTIONS.map(|name| store.collection(name).unwrap()).to_vec();
        Self { store, collections }
    }

    /// Does a step in store and model alike; the places put or deleted go to `touched`.
    fn step(&self, txn: &mut keepstone::Txn, model: &mut Model, step: &Step, touched: &mut BTreeSet<Place>) {
        match step {
            Step::Put(place, patch) => {
                let result = self.collections[place.0].put_node(txn, KEYS[place.1], &to_patch(patch));
                if model.fix_widths(place.0, patch) {
                    model.put(*place, patch, result.unwrap());
                    assert_eq!(
                        model.nodes[place].id,
                        self.collections[place.0].id(txn, KEYS[place.1]).unwrap().unwrap()
                    );
                    touched.insert(*place);
                } else {
                    assert!(matches!(result, Err(ChangeError::Width { .. })), "{result:?}");
                }
            }
            Step::PutBody(place, body) => {
                let id = self.collections[place.0].put(txn, KEYS[place.1], body).unwrap();
                model.put(*place, &Patch { body: Some(*body), ..NOTHING }, id);
                touched.insert(*place);
            }
            Step::PutWithId(place, id, body) => {
                let id = NodeId::from_bytes([*id; 16]);
                let patch = NodePatch::body(*body);
                let result = self.collections[place.0].put_with_id(txn, id, KEYS[place.1], &patch);
                let holder = model.nodes.iter().find(|(_, node)| node.id == id).map(|(place, _)| *place);
                match (model.nodes.get(place), holder) {
                    (Some(node), _) if node.id != id => {
                        assert!(matches!(result, Err(ChangeError::KeyTaken { .. })), "{result:?}");
                    }
                    (Some(node), _) if node.body == Some(*body) => assert_eq!(result.unwrap(), id),
                    (None, None) => {
                        model.put(*place, &Patch { body: Some(*body), ..NOTHING }, result.unwrap());
                        touched.insert(*place);
                    }
                    _ => assert!(matches!(result, Err(ChangeError::IdTaken { .. })), "{result:?}"),
                }
            }
            Step::Delete(place) => {
                let deleted = self.collections[place.0].delete(txn, KEYS[place.1]).unwrap();
                // A place that is only reserved stays, with its links.
                if model.nodes.contains_key(place) {
                    assert!(model.delete(*place) && deleted);
                    touched.insert(*place);
                } else {
                    assert!(!deleted);
                }
            }
            Step::Link(from, verb, to, weight) => {
                let (near, far) = (&self.collections[from.0], &self.collections[to.0]);
                let result =
                    near.link_to(txn, KEYS[from.1], VERBS[*verb], far, KEYS[to.1], f64::from(*weight));
                if model.nodes.contains_key(from) {
                    let before = model.links.insert((*from, *verb, *to), f64::from(*weight));
                    assert_eq!(result.unwrap(), before.is_none());
                } else {
                    assert!(matches!(result, Err(ChangeError::NotFound { .. })), "{result:?}");
                }
            }
            Step::Unlink(from, verb, to) => {
                let (near, far) = (&self.collections[from.0], &self.collections[to.0]);
                let ended = near.unlink_from(txn, KEYS[from.1], VERBS[*verb], far, KEYS[to.1]).unwrap();
                assert_eq!(ended, model.links.remove(&(*from, *verb, *to)).is_some());
            }
        }
    }

    /// Holds everything a reader sees against the model.
    fn compare(&self, reader: &impl Read, model: &Model) {
        for (index, collection) in self.collections.iter().enumerate() {
            let expected: BTreeMap<_, _> = model
                .nodes
                .iter()
                .filter(|((at, _), _)| *at == index)
                .map(|((_, key), node)| (KEYS[*key], node.clone()))
                .collect();
            let nodes: Vec<_> = collection.iter(reader).map(Result::unwrap).collect();
            let keys: Vec<_> = nodes.iter().map(|node| node.key.clone()).collect();
            assert_eq!(keys, expected.keys().copied().collect::<Vec<_>>());
            assert_eq!(
                collection.keys(reader).rev().map(Result::unwrap).collect::<Vec<_>>(),
                keys.iter().rev().cloned().collect::<Vec<_>>()
            );
            for node in nodes {
                let (key, node) = (node.key.clone(), ModelNode::from(node));
                assert_eq!(&node, &expected[&*key]);
                assert_eq!(collection.get(reader, &key).unwrap(), node.body);
                assert_eq!(collection.embedding(reader, &key).unwrap(), node.embedding);
            }
            for (key_index, key) in KEYS.iter().enumerate() {
                self.compare_links(reader, model, (index, key_index), key);
            }
        }
    }

    fn compare_links(&self, reader: &impl Read, model: &Model, place: Place, key: &str) {
        for direction in [Direction::Out, Direction::In] {
            let mut expected: Vec<_> = model
                .links
                .iter()
                .filter_map(|((from, verb, to), weight)| match direction {
                    Direction::Out => (*from == place).then_some((*to, *verb, *weight)),
                    Direction::In => (*to == place).then_some((*from, *verb, *weight)),
                })
                .map(|(far, verb, weight)| {
                    let written = model.nodes.contains_key(&far);
                    (
                        COLLECTIONS[far.0].to_owned(),
                        KEYS[far.1].to_owned(),
                        VERBS[verb].to_owned(),
                        weight.to_bits(),
                        written,
                    )
                })
                .collect();
            let links = self.collections[place.0].links(reader, key, direction).map(Result::unwrap);
            let mut found: Vec<_> = links
                .map(|link| (link.collection, link.key, link.verb, link.weight.to_bits(), link.written))
                .collect();
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "{direction:?} {place:?}");
        }
    }
}

const NOTHING: Patch =
    Patch { label: None, body: None, strength: None, clear: false, fingerprint: None, embedding: None };

/// A version, the model at it, and the places it put or deleted.
type Past = (Version, Model, BTreeSet<Place>);

/// What can be read of the past.
struct Kept {
    /// The oldest version that everybody can read.
    floor: Version,
    named: BTreeSet<Version>,
}

impl Kept {
    fn has(&self, version: Version) -> bool {
        version >= self.floor || self.named.contains(&version)
    }

    /// Holds that a version is told as gone exactly when nothing promises it.
    fn read<R>(&self, version: Version, read: Result<R, ReadError>) -> Option<R> {
        match read {
            Ok(read) => {
                assert!(self.has(version), "version {version} is below {} and can be read", self.floor);
                Some(read)
            }
            Err(ReadError::HistoryGone { asked, oldest }) => {
                assert!(!self.has(version), "version {version} is promised and gone");
                assert_eq!((asked, oldest), (version, self.floor));
                None
            }
            Err(error) => panic!("version {version}: {error}"),
        }
    }
}

/// Holds each node's history against what the model was.
fn compare_histories(subject: &Subject, past: &[Past], kept: &Kept) {
    for place in (0..COLLECTIONS.len()).flat_map(|at| (0..KEYS.len()).map(move |key| (at, key))) {
        let mut all = Vec::new();
        let mut before: Option<&ModelNode> = None;
        for (version, model, touched) in past {
            let after = model.nodes.get(&place);
            if touched.contains(&place) && (before.is_some() || after.is_some()) {
                all.push((*version, after.cloned()));
            }
            before = after;
        }
        all.reverse();
        let history = subject.collections[place.0].history(&subject.store, KEYS[place.1]);
        let found: Vec<_> = history
            .map(Result::unwrap)
            .map(|entry| (entry.version, entry.node.map(ModelNode::from)))
            .collect();
        // What is promised: everything from the floor on, and what was current at it. A deletion at the end of what is
        // kept has nothing before it that would show that there was a node.
        let is_floor = |version: Version| version <= kept.floor;
        let at_floor = all.iter().position(|(version, _)| is_floor(*version));
        let promised = at_floor.map_or(all.len(), |place| place + 1);
        let mut expected = all[..promised].to_vec();
        while kept.floor > Version::ZERO && expected.last().is_some_and(|(_, node)| node.is_none()) {
            expected.pop();
        }
        // What was current at the floor stands under its newest version that still has a row: of one that only took
        // something away nothing is left.
        if let Some((last, newest)) = found.get(expected.len().wrapping_sub(1)).zip(expected.last_mut())
            && is_floor(newest.0)
            && last.0 < newest.0
        {
            newest.0 = last.0;
        }
        let begins = found.len() >= expected.len() && found[..expected.len()] == expected;
        assert!(begins, "history of {place:?}: {found:?}\nexpected {expected:?}");
        // Versions with a name may show more of what was.
        for more in &found[expected.len()..] {
            assert!(all.contains(more), "history of {place:?}: {more:?}");
            assert!(!kept.named.is_empty(), "history of {place:?}: {more:?}");
        }
    }
}

/// What differs between two models.
fn difference(before: &Model, after: &Model) -> Vec<(String, String, ChangeKind)> {
    let mut found = BTreeMap::new();
    let places: BTreeSet<_> = before.nodes.keys().chain(after.nodes.keys()).collect();
    for place in places {
        let kind = match (before.nodes.get(place), after.nodes.get(place)) {
            (None, Some(_)) => ChangeKind::Created,
            (Some(_), None) => ChangeKind::Deleted,
            (Some(old), Some(new)) if old != new => ChangeKind::Updated,
            _ => {
                // A link to a key that was deleted, linked again and is only reserved has another target.
                let of = |model: &Model| -> BTreeMap<_, _> {
                    let links = model.links.iter().filter(|((from, _, to), _)| from == place || to == place);
                    links.map(|(link, weight)| (*link, weight.to_bits())).collect()
                };
                if of(before) == of(after) {
                    continue;
                }
                ChangeKind::LinksChanged
            }
        };
        found.insert((COLLECTIONS[place.0].to_owned(), KEYS[place.1].to_owned()), kind);
    }
    found.into_iter().map(|((collection, key), kind)| (collection, key, kind)).collect()
}

fn compare_diff(store: &Store, kept: &Kept, (from, before, _): &Past, (to, after, _): &Past) {
    let found = match store.diff(*from, *to) {
        Err(ReadError::HistoryGone { asked, .. }) => {
            assert!(!kept.has(asked) && (asked == *from || asked == *to), "{from} to {to}: {asked}");
            return;
        }
        found => found.unwrap(),
    };
    let mut found: Vec<_> =
        found.into_iter().map(|change| (change.collection, change.key, change.kind)).collect();
    let mut expected = difference(before, after);
    // A node whose link names a key anew (another id under the same key) is reported, and the model knows no ids of
    // what is not written: such reports are allowed where both sides have links.
    let known: BTreeSet<_> = expected.iter().cloned().collect();
    let may_differ = |place: &(String, String)| {
        let place = (
            COLLECTIONS.iter().position(|name| *name == place.0).unwrap(),
            KEYS.iter().position(|key| *key == place.1).unwrap(),
        );
        let linked = |model: &Model| model.links.keys().any(|(from, _, to)| *from == place || *to == place);
        linked(before) && linked(after)
    };
    found.retain(|change| {
        known.contains(change)
            || !(change.2 == ChangeKind::LinksChanged && may_differ(&(change.0.clone(), change.1.clone())))
    });
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{from} to {to}");
}

/// Goes back to a version; gives what that made, or `None` when the version is gone, which must not be promised.
fn roll_back(
    store: &Store,
    model: &Model,
    (version, target, _): &Past,
    named: &BTreeSet<Version>,
) -> Option<Option<Past>> {
    let receipt = match store.rollback_to(*version) {
        Err(CommitError::Read(ReadError::HistoryGone { asked, .. })) => {
            assert!(asked == *version && !named.contains(version), "{version} is promised");
            return None;
        }
        receipt => receipt.unwrap(),
    };
    let places = model.nodes.keys().chain(target.nodes.keys());
    let touched = places.filter(|place| model.nodes.get(place) != target.nodes.get(place)).copied().collect();
    Some(receipt.version.map(|made| (made, target.clone(), touched)))
}

/// Gives a version a name, unless it is gone.
fn name(store: &Store, version: Version) -> Option<Version> {
    match store.tag(&format!("name of {version}"), version) {
        Ok(()) => Some(version),
        Err(CommitError::Read(ReadError::HistoryGone { .. })) => None,
        Err(error) => panic!("{version}: {error}"),
    }
}

fn run(
    options: &StoreOptions,
    acts: &[Act],
    pairs: &[(proptest::sample::Index, proptest::sample::Index)],
) -> Kept {
    let disk = Disk::new();
    let mut subject = Subject::open(&disk, options);
    let mut named = BTreeSet::new();
    let mut model = Model::default();
    let mut past: Vec<Past> = vec![(Version::ZERO, Model::default(), BTreeSet::new())];
    for act in acts {
        match act {
            Act::Transaction(steps, commits) => {
                let (mut inside, mut touched) = (model.clone(), BTreeSet::new());
                let mut txn = subject.store.begin().unwrap();
                for step in steps {
                    subject.step(&mut txn, &mut inside, step, &mut touched);
                }
                subject.compare(&txn, &inside);
                if *commits {
                    if let Some(version) = txn.commit().unwrap().version {
                        past.push((version, inside.clone(), touched));
                    }
                    model = inside;
                } else {
                    txn.rollback();
                }
            }
            Act::RollBack(index) => {
                let target = index.get(&past).clone();
                if let Some(made) = roll_back(&subject.store, &model, &target, &named) {
                    past.extend(made);
                    model = target.1;
                }
            }
            Act::Reopen(clean) => {
                let Subject { store, collections } = subject;
                drop(collections);
                if *clean {
                    store.close().unwrap();
                } else {
                    drop(store);
                }
                subject = Subject::open(&disk, options);
            }
            Act::Checkpoint => drop(subject.store.checkpoint().unwrap()),
            Act::Compact => drop(subject.store.compact().unwrap()),
            Act::Name(index) => named.extend(name(&subject.store, index.get(&past).0)),
        }
        subject.compare(&subject.store, &model);
    }
    let floor = subject.store.stats().oldest_version.parse().unwrap();
    let kept = Kept { floor, named };
    for (version, model, _) in &past {
        if let Some(then) = kept.read(*version, subject.store.at(*version)) {
            subject.compare(&then, model);
        }
    }
    compare_histories(&subject, &past, &kept);
    for (from, to) in pairs {
        compare_diff(&subject.store, &kept, from.get(&past), to.get(&past));
    }
    assert_sound(&subject.store);
    kept
}

fn place() -> impl Strategy<Value = Place> {
    (0..COLLECTIONS.len(), 0..KEYS.len())
}

fn patch() -> impl Strategy<Value = Patch> {
    let vector = || proptest::option::weighted(0.4, (0_u8..4, proptest::bool::weighted(0.1)));
    (
        any::<Option<u8>>(),
        any::<Option<u16>>(),
        any::<Option<i8>>(),
        proptest::bool::weighted(0.15),
        vector(),
        vector(),
    )
        .prop_map(|(label, body, strength, clear, fingerprint, embedding)| Patch {
            label,
            body,
            strength,
            clear,
            fingerprint,
            embedding,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (place(), patch()).prop_map(|(place, patch)| Step::Put(place, patch)),
        2 => (place(), any::<u16>()).prop_map(|(place, body)| Step::PutBody(place, body)),
        1 => (place(), 1_u8..4, 0_u16..2).prop_map(|(place, id, body)| Step::PutWithId(place, id, body)),
        2 => place().prop_map(Step::Delete),
        6 => (place(), 0..VERBS.len(), place(), any::<i8>())
            .prop_map(|(from, verb, to, weight)| Step::Link(from, verb, to, weight)),
        2 => (place(), 0..VERBS.len(), place()).prop_map(|(from, verb, to)| Step::Unlink(from, verb, to)),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (proptest::collection::vec(step(), 1..12), proptest::bool::weighted(0.85))
            .prop_map(|(steps, commits)| Act::Transaction(steps, commits)),
        1 => any::<proptest::sample::Index>().prop_map(Act::RollBack),
        1 => any::<bool>().prop_map(Act::Reopen),
        1 => Just(Act::Checkpoint),
        1 => Just(Act::Compact),
        1 => any::<proptest::sample::Index>().prop_map(Act::Name),
    ]
}

/// How many programs are run: `KEEPSTONE_MODEL_CASES`, or 128.
fn cases() -> u32 {
    std::env::var("KEEPSTONE_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(128)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_are_what_the_model_says(
        acts in proptest::collection::vec(act(), 1..20),
        pairs in proptest::collection::vec(any::<(proptest::sample::Index, proptest::sample::Index)>(), 6),
    ) {
        // One key a slice: every row is folded in a generation of its own.
        let kept = run(&StoreOptions::default().retention(Retention::Forever).checkpoint_slice_keys(1), &acts, &pairs);
        assert_eq!(kept.floor, Version::ZERO, "everything is kept");
    }

    #[test]
    fn what_is_not_kept_is_gone_and_the_rest_is_what_the_model_says(
        mut acts in proptest::collection::vec(act(), 1..20),
        pairs in proptest::collection::vec(any::<(proptest::sample::Index, proptest::sample::Index)>(), 6),
    ) {
        acts.push(Act::Compact);
        run(&StoreOptions::default().retention(Retention::None).page_size(4_096), &acts, &pairs);
    }
}
