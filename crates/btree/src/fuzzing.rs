//! Fuzz targets of the tree: the decoders of its three kinds of page, and whole trees of pages that nobody has written.
//!
//! Pages are verified by a checksum before they come here, so what a target looks at is what a forger could make, or a bug.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a target reports by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Result, Unstructured};
use keepstone_pager::{MemoryPages, PageKind, PageRead, PageWriteExt};
use keepstone_types::{Generation, PageId, PageRef, ValueRef};

use crate::chain::{self, CELL_LEN, Chain, OVERFLOW};
use crate::error::TreeError;
use crate::inner::{CHILD_LEN, INNER, Inner};
use crate::items::{Items, Room, Spread};
use crate::leaf::{LEAF, Leaf};
use crate::{
    Decision, Edit, Fill, HEIGHT_MAX, NewValue, Stored, Tree, TreeRoot, free_tree, merge, relocate, walk,
};

/// A target: name, function, most bytes of heap at once, fixed and per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// Any bytes as a leaf: what is sound is written again byte by byte.
pub const LEAF_PAGE: Target = ("leaf", leaf, [512 << 10, 64]);
/// Any bytes as an inner page, likewise.
pub const INNER_PAGE: Target = ("inner", inner, [512 << 10, 64]);
/// Large values: written and read back, damaged, and pages that nobody wrote.
pub const OVERFLOW_PAGE: Target = ("overflow", overflow, [4 << 20, 64]);
/// A tree of arbitrary pages, and a sound tree with one page changed.
pub const PAGES: Target = ("pages", pages, [4 << 20, 256]);
/// Merges against a map.
pub const MERGES: Target = ("merges", merges, [8 << 20, 1 << 10]);

/// Every target of the crate.
pub const TARGETS: [Target; 5] = [LEAF_PAGE, INNER_PAGE, OVERFLOW_PAGE, PAGES, MERGES];

const PAYLOADS: [usize; 4] = [320, 501, 1_024, 4_056];

/// A payload length by the first byte, and the rest as a page of it.
fn page_of(input: &[u8]) -> (MemoryPages, Vec<u8>) {
    let (first, rest) = input.split_first().unwrap_or((&0, &[]));
    let payload_len = PAYLOADS[usize::from(*first) % PAYLOADS.len()];
    let mut payload = rest.to_vec();
    payload.resize(payload_len, 0);
    (MemoryPages::new(payload_len), payload)
}

/// An error has a message with a bound.
fn told<T>(result: std::result::Result<T, TreeError>) -> Option<T> {
    result.map_err(|error| assert!((1..900).contains(&error.to_string().len()), "{error}")).ok()
}

fn leaf(input: &[u8]) {
    let (mut pages, payload) = page_of(input);
    let at = pages.put(LEAF, &payload).unwrap();
    let page = pages.read(at).unwrap();
    let Some(leaf) = told(Leaf::parse(&page)) else { return };
    let (mut key, mut keys) = (Vec::new(), Vec::new());
    for index in 0..leaf.len() {
        if told(leaf.assemble(index, &mut key)).is_some() {
            keys.push(key.clone());
            told(leaf.search(&key));
        }
        if let Some(row) = told(leaf.row(index)) {
            assert_eq!(leaf.found(&row).stored().unwrap().len(), row.body.value_len());
        }
    }
    if told(leaf.check()).is_none() {
        return;
    }
    assert!(keys.len() == leaf.len() && keys.is_sorted_by(|a, b| a < b));
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(leaf.search(key).unwrap(), Ok(index));
    }
    let mut rows = Items::new(0);
    rows.push_rows(&leaf, 0..leaf.len()).unwrap();
    check_written(&mut pages, rows, &payload);
}

fn inner(input: &[u8]) {
    let (mut pages, payload) = page_of(input);
    let level = payload[crate::inner::LEVEL.offset];
    let at = pages.put(INNER, &payload).unwrap();
    let page = pages.read(at).unwrap();
    let Some(inner) = told(Inner::parse(&page, level)) else { return };
    assert!(Inner::parse(&page, level.wrapping_add(1)).is_err());
    let mut key = Vec::new();
    for child in 0..inner.len() {
        told(inner.separator(child, &mut key));
        told(inner.child_for(&key));
        let birth = told(inner.child(child)).map_or(inner.birth(child), |child| child.birth);
        assert_eq!(inner.birth(child), birth);
    }
    if level == 0 || told(inner.check()).is_none() {
        return;
    }
    for child in 1..inner.len() {
        assert!(inner.separator(child, &mut key).unwrap());
        assert_eq!(inner.child_for(&key).unwrap(), child);
        key.pop();
        assert!(inner.child_for(&key).unwrap() < child);
    }
    let mut children = Items::new(level);
    children.push_children(&inner, 0..inner.len(), &[]).unwrap();
    check_written(&mut pages, children, &payload);
}

/// What is sound is written again byte by byte: a page has one form.
fn check_written(pages: &mut MemoryPages, mut items: Items, payload: &[u8]) {
    let room = Room::new(payload.len(), Fill::FULL);
    let mut parents = Items::new(items.level().saturating_add(1));
    items.write(pages, room, Spread::Even, &[], &mut parents).unwrap();
    assert_eq!(parents.len(), 1, "what was on one page fits one page");
    let again = pages.read(parents.child(0).unwrap()).unwrap();
    assert_eq!(again.payload(), payload, "a page has one form");
}

fn overflow(input: &[u8]) {
    any_value(&mut Unstructured::new(input)).unwrap_or_default();
}

fn any_value(input: &mut Unstructured<'_>) -> Result<()> {
    let payload_len = *input.choose(&PAYLOADS)?;
    let mut pages = MemoryPages::new(payload_len);
    if input.arbitrary()? {
        return written_value(input, &mut pages);
    }
    // Pages that nobody wrote, each naming the one before.
    let mut next = None;
    for _ in 0..input.int_in_range(1..=4_u8)? {
        let mut payload = vec![0; payload_len];
        let noise: &[u8] = input.arbitrary()?;
        payload.iter_mut().zip(noise).for_each(|(to, from)| *to = *from);
        if input.arbitrary()? {
            chain::NEXT.put(&mut payload, &PageRef::optional_to_bytes(next));
            chain::NEXT_RUN.put(&mut payload, &PageRef::optional_to_bytes(next));
            chain::PAGES.put(&mut payload, &u32::from(input.arbitrary::<bool>()?).to_le_bytes());
            chain::LEFT.put(&mut payload, &u32::from(input.arbitrary::<u16>()?).to_le_bytes());
        }
        next = Some(pages.put(OVERFLOW, &payload).unwrap());
    }
    let mut cell = vec![0; CELL_LEN];
    chain::CELL_FIRST.put(&mut cell, &next.unwrap().to_bytes());
    chain::CELL_PAGES.put(&mut cell, &input.arbitrary::<u32>()?.to_le_bytes());
    let len = if input.arbitrary()? { input.arbitrary::<u16>()?.into() } else { input.arbitrary()? };
    if let Some(chain) = Chain::from_cell(len, &cell) {
        exercise_chain(&mut pages, chain);
    }
    Ok(())
}

/// A value that is written is read back; with any byte of it changed it is not taken for another.
fn written_value(input: &mut Unstructured<'_>, pages: &mut MemoryPages) -> Result<()> {
    let len = input.int_in_range(CHAIN_MIN..=20_000_usize)?;
    let noise: &[u8] = input.arbitrary()?;
    let value: Vec<u8> = noise.iter().copied().chain(0..=u8::MAX).cycle().take(len).collect();
    let (prefix, body) = value.split_at(input.choose_index(17)?);
    let chain = chain::write(pages, prefix, body).unwrap();
    assert_eq!(chain::load(pages, &chain).unwrap(), value[..]);
    assert_eq!((chain.len(), chain.head()), (u64::try_from(len).unwrap(), &value[..16]));
    let first = pages.read(chain.first_page()).unwrap();
    let mut payload = first.payload().to_vec();
    let at = input.choose_index(payload.len())?;
    payload[at] ^= input.int_in_range(1..=u8::MAX)?;
    let changed = pages.put(OVERFLOW, &payload).unwrap();
    let mut cell = chain.to_cell();
    chain::CELL_FIRST.put(&mut cell, &changed.to_bytes());
    let changed = Chain::from_cell(chain.len(), &cell).unwrap();
    if let Some(found) = told(chain::load(pages, &changed)) {
        let differ = found.iter().zip(&value).filter(|(a, b)| a != b).count();
        assert!(found.len() == len && differ <= 1 && at >= chain::PAGES.end(), "a changed head is found");
    }
    chain::free(pages, &chain).unwrap();
    assert_eq!(pages.live().count(), 1, "the changed page");
    Ok(())
}

const CHAIN_MIN: usize = 17;

fn exercise_chain(pages: &mut MemoryPages, chain: Chain) {
    if let Some(value) = told(chain::load(pages, &chain)) {
        assert_eq!(value.len() as u64, chain.len());
        let mut seen = BTreeSet::new();
        chain::each_page(pages, &chain, &mut |at, _| {
            assert!(seen.insert(at.page), "a page holds one part");
            Ok(())
        })
        .unwrap();
    }
    told(chain::free(pages, &chain));
}

/// A root that says what it likes.
fn root_of(page: PageRef, height: u8, rows: u64) -> TreeRoot {
    TreeRoot::new(page, height.clamp(1, HEIGHT_MAX), rows.max(1))
}

fn pages(input: &[u8]) {
    any_pages(&mut Unstructured::new(input)).unwrap_or_default();
}

fn any_pages(input: &mut Unstructured<'_>) -> Result<()> {
    if input.arbitrary()? {
        return changed_tree(input);
    }
    let mut pages = MemoryPages::new(*input.choose(&PAYLOADS)?);
    let mut made: Vec<(PageRef, u8)> = Vec::new();
    for _ in 0..input.int_in_range(1..=12_u8)? {
        if input.ratio(1_u8, 8)? {
            pages.next_generation();
        }
        made.push(arbitrary_page(input, &mut pages, &made)?);
    }
    let (top, level) = *made.last().unwrap();
    let height = if input.ratio(7_u8, 8)? { level + 1 } else { input.arbitrary()? };
    exercise(&mut pages, root_of(top, height, input.arbitrary::<u8>()?.into()));
    Ok(())
}

/// A page of noise, or one that a writer could have made of what is there, whether or not it belongs together.
fn arbitrary_page(
    input: &mut Unstructured<'_>,
    pages: &mut MemoryPages,
    made: &[(PageRef, u8)],
) -> Result<(PageRef, u8)> {
    let payload_len = pages.payload_len();
    if input.ratio(1_u8, 6)? {
        let noise: &[u8] = input.arbitrary()?;
        let kind = PageKind::new(input.int_in_range(15..=19)?);
        let payload = &noise[..noise.len().min(payload_len)];
        return Ok((pages.put(kind, payload).unwrap(), input.int_in_range(0..=2)?));
    }
    let level = if made.is_empty() { 0 } else { input.int_in_range(0..=40)? };
    let mut content: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for _ in 0..input.int_in_range(1..=6_u8)? {
        let key = input.arbitrary::<&[u8]>()?;
        let body = if level == 0 {
            let value = input.arbitrary::<&[u8]>()?;
            let mut body = Vec::new();
            NewValue::bytes(ValueRef::copy_from(value)).encode(pages, &mut body).unwrap();
            body
        } else {
            made[input.choose_index(made.len())?].0.to_bytes().to_vec()
        };
        content.insert(key[..key.len().min(payload_len / 5)].to_vec(), body);
    }
    let (mut items, mut parents) = (Items::new(level), Items::new(level + 1));
    for (key, body) in &content {
        items.push([key, &[], &[]], body).unwrap();
    }
    items.write(pages, Room::new(payload_len, Fill::FULL), Spread::Even, &[], &mut parents).unwrap();
    Ok((parents.child(0).unwrap(), level))
}

/// A sound tree with one byte of one page changed, and all references to it put right.
fn changed_tree(input: &mut Unstructured<'_>) -> Result<()> {
    let mut pages = MemoryPages::new(*input.choose(&PAYLOADS)?);
    let rows = input.int_in_range(1..=300_u32)?;
    let mut edits = Vec::new();
    for number in 0..rows {
        let len = if number % 50 == 3 { 3_000 } else { usize::from(input.arbitrary::<u8>()?) };
        let value = NewValue::bytes(ValueRef::from(vec![3; len]));
        edits.push(Edit { key: ValueRef::from((number * 3).to_be_bytes().to_vec()), value });
    }
    let root = merge(&mut pages, TreeRoot::EMPTY, &edits, Fill::FULL, &mut |_, _| Decision::Replace).unwrap();
    pages.next_generation();
    let (mut visited, which) = (0, input.int_in_range(0..=40)?);
    let change = (input.arbitrary::<u16>()?, input.int_in_range(1..=u8::MAX)?);
    let (top, level) = root.top().unwrap();
    let changed = change_below(&mut pages, top, level, &mut visited, which, change);
    exercise(&mut pages, root_of(changed, root.height(), root.rows()));
    Ok(())
}

fn change_below(
    pages: &mut MemoryPages,
    at: PageRef,
    level: u8,
    visited: &mut u32,
    which: u32,
    change: (u16, u8),
) -> PageRef {
    let page = pages.read(at).unwrap();
    let mut payload = page.payload().to_vec();
    if level > 0 {
        let inner = Inner::parse(&page, level).unwrap();
        for index in 0..inner.len() {
            let child = inner.child(index).unwrap();
            let changed = change_below(pages, child, level - 1, visited, which, change);
            let child_at = inner.child_at(index);
            payload[child_at..child_at + CHILD_LEN].copy_from_slice(&changed.to_bytes());
        }
    }
    if *visited == which {
        let used = usize::from(crate::leaf::USED.u16(&payload));
        payload[usize::from(change.0) % used] ^= change.1;
    }
    *visited += 1;
    if payload == page.payload() {
        return at;
    }
    pages.put(page.kind(), &payload).unwrap()
}

/// Everything that can be done with a tree. What a walk finds sound must be sound in every other way.
fn exercise(pages: &mut MemoryPages, root: TreeRoot) {
    let sound = told(walk(pages, root, &mut |_, _| Ok(())));
    let mut keys = Vec::new();
    for since in [None, Some(1), Some(2)] {
        let tree = Tree::new(pages, root);
        let since = since.map(|since| Generation::new(since).unwrap());
        let mut cursor = since.map_or_else(|| tree.cursor(), |since| tree.cursor_since(since));
        let mut found = Vec::new();
        let mut good = told(cursor.seek_first()).is_some();
        while let Some(key) = cursor.key().filter(|_| good) {
            assert!(found.last().is_none_or(|last: &Vec<u8>| key > &last[..]));
            found.push(key.to_vec());
            told(cursor.stored().unwrap().load(pages));
            good = told(cursor.next()).is_some();
        }
        let mut back = 0;
        good &= told(cursor.seek_last()).is_some();
        while cursor.key().is_some() && good {
            back += 1;
            good = told(cursor.previous()).is_some();
        }
        assert!(good || sound.is_none(), "a cursor fails on a tree that a walk finds sound");
        assert!(!good || sound.is_none() || found.len() == back);
        if since.is_none() {
            keys = found;
        }
    }
    let tree = Tree::new(pages, root);
    for key in &keys {
        let found = told(tree.get(key)).flatten();
        assert!(found.is_some() || sound.is_none());
        let mut cursor = tree.cursor();
        told(cursor.seek(key));
        told(cursor.seek_before(key));
    }
    if let Some(shape) = sound {
        assert_eq!((shape.rows, shape.rows), (root.rows(), keys.len() as u64));
    }
    let edits: Vec<Edit> = keys
        .iter()
        .step_by(7)
        .map(|key| Edit { key: ValueRef::copy_from(key), value: NewValue::Delete })
        .collect();
    let decide = &mut |_: &Edit, _: Option<&Stored>| Decision::ReplaceKeepingOld;
    let merged = told(merge(pages, root, &edits, Fill::FULL, decide));
    assert!(merged.is_some() || sound.is_none(), "a merge fails on a tree that a walk finds sound");
    pages.next_generation();
    told(relocate(pages, root, &|page: PageId| page.get().is_multiple_of(2)));
    told(free_tree(pages, root));
}

fn merges(input: &[u8]) {
    any_merges(&mut Unstructured::new(input)).unwrap_or_default();
}

fn any_merges(input: &mut Unstructured<'_>) -> Result<()> {
    let mut pages = MemoryPages::new(*input.choose(&PAYLOADS)?);
    let fill = Fill::percent(input.int_in_range(50..=100)?).unwrap();
    let (mut root, mut model) = (TreeRoot::EMPTY, BTreeMap::<Vec<u8>, Vec<u8>>::new());
    for _ in 0..input.int_in_range(1..=6_u8)? {
        let mut edits = BTreeMap::new();
        for _ in 0..input.int_in_range(0..=60_u8)? {
            let (key, value) = arbitrary_row(input, pages.payload_len())?;
            edits.insert(key, value);
        }
        let all: Vec<Edit> = edits
            .iter()
            .map(|(key, value)| {
                let new = |value: &Vec<u8>| NewValue::bytes(ValueRef::copy_from(value));
                Edit { key: ValueRef::copy_from(key), value: value.as_ref().map_or(NewValue::Delete, new) }
            })
            .collect();
        root = merge(&mut pages, root, &all, fill, &mut |_, _| Decision::Replace).unwrap();
        for (key, value) in edits {
            match value {
                Some(value) => drop(model.insert(key, value)),
                None => drop(model.remove(&key)),
            }
        }
        let mut walked = BTreeSet::new();
        let visit = &mut |at: PageRef, _| {
            assert!(walked.insert(at.page));
            Ok(())
        };
        let shape = walk(&pages, root, visit).unwrap();
        assert_eq!(walked, pages.live().collect());
        assert_eq!(shape.rows, model.len() as u64);
        if input.arbitrary()? {
            pages.next_generation();
        }
    }
    let mut cursor = Tree::new(&pages, root).cursor();
    for (key, value) in &model {
        cursor.next().unwrap();
        assert_eq!(cursor.key(), Some(&key[..]));
        assert_eq!(cursor.stored().unwrap().load(&pages).unwrap(), value[..]);
    }
    cursor.next().unwrap();
    assert_eq!(cursor.key(), None);
    free_tree(&mut pages, root).unwrap();
    assert_eq!(pages.live().count(), 0);
    Ok(())
}

/// A key, and its new value or none.
fn arbitrary_row(input: &mut Unstructured<'_>, payload_len: usize) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let mut key = vec![b'k'; input.int_in_range(0..=payload_len / 5 - 4)?];
    key.extend_from_slice(&input.arbitrary::<[u8; 4]>()?[..input.int_in_range(0..=4)?]);
    if input.ratio(1_u8, 4)? {
        return Ok((key, None));
    }
    let len =
        if input.ratio(1_u8, 8)? { input.int_in_range(0..=3_000)? } else { input.int_in_range(0..=90)? };
    Ok((key, Some(vec![input.arbitrary()?; len])))
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn targets_hold_on_kept_and_made_inputs() {
        let made = |name: &str| match name {
            "leaf" | "inner" => 20_000,
            "overflow" => 5_000,
            _ => 2_000,
        };
        keepstone_testkit::fuzzing::run_all(env!("CARGO_MANIFEST_DIR"), &TARGETS, made);
    }
}
