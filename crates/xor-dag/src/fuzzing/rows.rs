//! Chains: a program of changes against a plain list, in memory and row by row.

use arbitrary::{Result, Unstructured};

use crate::chain::{Chain, ChainLength, Newer, RowCoder, Unwind};

pub(super) fn chain(input: &[u8]) {
    // A program that ends early is a short one.
    let _end = run(&mut Unstructured::new(input));
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let length = ChainLength::new(input.int_in_range(1..=6)?).unwrap();
    let mut chain = Chain::new(length);
    let mut rows = Rows::new(length);
    let mut values: Vec<(u8, Option<Vec<u8>>)> = Vec::new();
    for label in 0..24 {
        if input.is_empty() {
            break;
        }
        match input.int_in_range(0..=9)? {
            0 => {
                let bits: u64 = input.arbitrary()?;
                let keep = |label: &u8| bits >> (label % 64) & 1 == 1;
                values.retain(|(label, _)| keep(label));
                chain.prune(keep).unwrap();
            }
            1 => chain.consolidate(ChainLength::new(input.int_in_range(1..=6)?).unwrap()).unwrap(),
            2 => push(&mut chain, &mut values, label, None),
            _ => {
                let mut value =
                    values.first().and_then(|(_, value)| value.clone()).unwrap_or_else(|| vec![3; 60]);
                let at = input.choose_index(value.len() + 1)?;
                let bytes: [u8; 3] = input.arbitrary()?;
                let end = value.len().min(at + usize::from(bytes[0] % 8));
                value.splice(at..end, bytes);
                rows.displace(&value);
                push(&mut chain, &mut values, label, Some(value));
            }
        }
        chain.check_invariants().unwrap();
        for (at, (_, value)) in values.iter().enumerate() {
            assert_eq!(chain.reconstruct(at).unwrap(), *value);
        }
        rows.check();
    }
    Ok(())
}

fn push(chain: &mut Chain<u8>, values: &mut Vec<(u8, Option<Vec<u8>>)>, label: u8, value: Option<Vec<u8>>) {
    chain.push(label, value.as_deref()).unwrap();
    values.insert(0, (label, value));
}

/// What a store keeps of an item that is only changed: the newest value whole, and a row for each older one.
struct Rows {
    coder: RowCoder,
    newest: Option<Vec<u8>>,
    hanging: u16,
    /// Newest first, each with what it was made from.
    rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Rows {
    fn new(length: ChainLength) -> Self {
        Self { coder: RowCoder::new(length), newest: None, hanging: 0, rows: Vec::new() }
    }

    fn displace(&mut self, value: &[u8]) {
        if let Some(displaced) = self.newest.replace(value.to_vec()) {
            let mut row = Vec::new();
            let newer = Some(Newer { value, ahead: 0 });
            self.hanging = self.coder.code(&displaced, newer, self.hanging, &mut row).hanging_on_newer;
            self.rows.insert(0, (row, displaced));
        }
    }

    fn check(&self) {
        let (mut unwind, mut out) = (Unwind::new(self.coder.length()), Vec::new());
        for (at, (_, value)) in self.rows.iter().enumerate() {
            unwind.clear();
            for (row, _) in self.rows[..=at].iter().rev() {
                if unwind.push(row).unwrap() == crate::chain::Need::Nothing {
                    break;
                }
            }
            assert!(unwind.deltas() <= self.coder.length().deltas());
            unwind.value(self.newest.as_deref(), 1 << 20, &mut out).unwrap();
            assert_eq!(out, *value);
        }
    }
}
