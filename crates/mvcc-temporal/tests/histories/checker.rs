//! The histories as the independent checker `adya` reads them, and what it says.
//!
//! It is told registers: every key is one, and every mark a value. A deletion is a value too, and a scan is a read of
//! every key in its range, the absent ones included; as the keys are few and known, that leaves nothing of a predicate
//! out, and an anomaly over a predicate shows as one over items (`G2-item` for G2). The order of a key's versions is
//! stated by a read ahead of each blind write, of what the store's history has before it; adya takes "writes follow
//! reads" from there. So no order over all keys is assumed, and dirty writes (G0) would show as such.

use std::collections::BTreeMap;
use std::time::Duration;

use adya::history::{Interner, Mop, Op, OpType, ReadValue, Scalar};
use adya::{Opts, Valid, Workload, check};

use crate::audit::History;
use crate::record::{Key, Mark, Outcome, Step, Transaction};

/// So long the search for one cycle may take before it gives up, which is no verdict and fails the test.
const SEARCH_MAX: Duration = Duration::from_secs(600);

/// What the checker says of a history.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Whether the history keeps what the model promises. "Unknown" is not.
    pub(crate) valid: bool,
    /// The anomalies by name.
    pub(crate) anomalies: Vec<String>,
    /// How the first was found.
    pub(crate) explanation: String,
}

/// Turns transactions into the checker's.
struct Translator<'a> {
    history: &'a History,
    predecessors: BTreeMap<(Key, Mark), Mark>,
    interner: Interner,
}

impl Translator<'_> {
    fn number(&mut self, number: u64) -> u32 {
        self.interner.intern(Scalar::Int(i64::try_from(number).unwrap()))
    }

    fn read(&mut self, key: Key, found: Option<Mark>) -> Mop {
        let value = found.map_or(ReadValue::Nil, |mark| ReadValue::Scalar(self.number(mark)));
        Mop::Read { key: self.number(u64::from(key)), value }
    }

    fn mops(&mut self, transaction: &Transaction) -> Vec<Mop> {
        let mut mops = Vec::with_capacity(transaction.steps.len());
        let mut touched: Vec<Key> = Vec::new();
        for step in &transaction.steps {
            let (Step::Read { key, .. } | Step::Write { key, .. }) = *step;
            let first = !touched.contains(&key);
            touched.push(key);
            match *step {
                Step::Read { key, found } => mops.push(self.read(key, found)),
                Step::Write { key, mark } => {
                    if first && transaction.made().is_some() {
                        let last = transaction.wrote(key).unwrap_or(mark);
                        let before = self.predecessors.get(&(key, last)).copied();
                        mops.extend(before.map(|before| self.read(key, Some(before))));
                    }
                    mops.push(Mop::Write { key: self.number(u64::from(key)), value: self.number(mark) });
                }
            }
        }
        mops
    }

    fn translate(mut self) -> (adya::History, BTreeMap<u64, i64>) {
        let mut events: Vec<(u64, &Transaction, bool)> = Vec::new();
        for transaction in &self.history.transactions {
            events.push((transaction.begun, transaction, false));
            events.push((transaction.ended, transaction, true));
        }
        events.sort_by_key(|(tick, _, _)| *tick);
        let mut ops = Vec::with_capacity(events.len());
        let mut places = BTreeMap::new();
        for (index, (_, transaction, is_end)) in (0_u64..).zip(events) {
            let (kind, value) = if is_end {
                let kind = match transaction.outcome {
                    Outcome::Wrote(_) | Outcome::Read(_) => OpType::Ok,
                    Outcome::Refused | Outcome::TooLate | Outcome::RolledBack => OpType::Fail,
                    Outcome::Unanswered => OpType::Info,
                };
                (kind, self.mops(transaction))
            } else {
                (OpType::Invoke, Vec::new())
            };
            if let Some(version) = transaction.made().filter(|_| is_end) {
                places.insert(index, i64::try_from(version.to_raw()).unwrap());
            }
            ops.push(Op { index, kind, process: Some(transaction.process), value, time: None });
        }
        (adya::History::from_ops(ops, self.interner), places)
    }
}

/// A history in the checker's form, to be held against several models.
pub(crate) struct Subject {
    history: adya::History,
    places: BTreeMap<u64, i64>,
}

impl Subject {
    pub(crate) fn new(history: &History) -> Self {
        let predecessors = history.predecessors();
        let translator = Translator { history, predecessors, interner: Interner::default() };
        let (history, places) = translator.translate();
        Self { history, places }
    }

    /// Holds the history against a model, by the checker's name of it.
    pub(crate) fn check(&self, model: &str) -> Verdict {
        self.check_with(model, false)
    }

    /// As [`check`](Self::check); the acknowledged versions are a second statement of the order. Where updates may be
    /// lost, a writer need not have read what it overwrote, and the first statement has gaps.
    pub(crate) fn check_with_versions(&self, model: &str) -> Verdict {
        self.check_with(model, true)
    }

    fn check_with(&self, model: &str, versions: bool) -> Verdict {
        assert!(adya::model::canonical(model).is_some(), "the checker knows no model {model}");
        let order = self.places.iter().map(|(index, place)| (*index, *place)).collect();
        let options = Opts {
            models: vec![model.to_owned()],
            timeout: SEARCH_MAX,
            wfr_keys: true,
            transaction_order: versions.then_some(order),
            ..Opts::default()
        };
        let report = check(&self.history, Workload::RwRegister, &options);
        let first = report.anomalies.values().flatten().next();
        Verdict {
            valid: report.valid == Valid::True,
            anomalies: report.anomaly_types,
            explanation: first.map(|anomaly| anomaly.explanation.clone()).unwrap_or_default(),
        }
    }
}
