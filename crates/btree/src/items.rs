//! The content of pages in the making: rows of leaves or children of inner pages, more of them than fit one page.
//!
//! Invariants:
//! * Keys ascend strictly; so no page is ever written out of order, whatever damaged page its rows came from.
//! * A page that is cut from the items takes as many as fit it, counted with the prefix that just those have in common.
//! * The key of a child is the lowest that it may hold. That of the first child of a page is not stored in the page.

use std::ops::Range;

use keepstone_pager::{PageKind, PageWrite, PageWriteExt};
use keepstone_types::PageRef;

use crate::error::TreeError;
use crate::inner::{self, INNER, Inner};
use crate::keys::{HEAD_LEN, HEADER_LEN, OFFSET_LEN, common_len, head_of, stored_len};
use crate::layout::{disk_len, page_len};
use crate::leaf::{self, LEAF, Leaf};
use crate::limits::{Fill, used_len_min};

/// How many pages full of bytes are gathered before the first of them are written.
const GATHERED_PAGES: usize = 10;
/// How many pages full of bytes are cut anew together.
const ANEW_PAGES: usize = 8;
/// How full pages are that are cut anew because they all change, in percent of the payload: the next edits find some room.
const ANEW_PERCENT: usize = 92;

/// Rows (level 0) or children (levels above), sorted.
#[derive(Debug)]
pub(crate) struct Items {
    level: u8,
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// Bytes at which it is worth looking whether whole pages can be written.
    flush_at: usize,
}

/// Where a key and what belongs to it stand.
#[derive(Clone, Copy, Debug)]
struct Item {
    at: usize,
    key_len: usize,
    body_len: usize,
}

/// Items that make up a page, the bytes it uses with them, and what their keys begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    range: Range<usize>,
    used_len: usize,
    prefix_len: usize,
}

/// How items that do not fit one page are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Every page as full as it may be, the last takes what is left: for content that grew at its end.
    Ascending,
    /// As before, but the last two share evenly when the last would be nearly empty.
    Bulk,
    /// All pages alike.
    Even,
    /// All pages alike, of content that came from so many: no more if they fit, but for some room in each.
    Anew(usize),
}

/// How full pages are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes of payload.
    pub(crate) payload_len: usize,
    /// Bytes that are used when there is a choice.
    pub(crate) fill_len: usize,
}

impl Room {
    pub(crate) fn new(payload_len: usize, fill: Fill) -> Self {
        Self { payload_len, fill_len: fill.of(payload_len) }
    }
}

impl Items {
    pub(crate) const fn new(level: u8) -> Self {
        Self { level, bytes: Vec::new(), items: Vec::new(), flush_at: 0 }
    }

    pub(crate) const fn level(&self) -> u8 {
        self.level
    }

    pub(crate) const fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.truncate(0);
        self.flush_at = 0;
    }

    /// Forgets all but the first `len` items.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Some(item) = self.items.get(len) {
            self.bytes.truncate(item.at);
            self.items.truncate(len);
        }
    }

    /// Forgets the first `len` items.
    fn drop_front(&mut self, len: usize) {
        let cut = self.items.get(len).map_or(self.bytes.len(), |item| item.at);
        self.bytes.drain(..cut);
        self.items.drain(..len.min(self.items.len()));
        self.items.iter_mut().for_each(|item| item.at -= cut);
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        self.part(index, |item| item.at..item.at + item.key_len)
    }

    pub(crate) fn body(&self, index: usize) -> &[u8] {
        self.part(index, |item| item.at + item.key_len..item.at + item.key_len + item.body_len)
    }

    #[inline]
    fn part(&self, index: usize, range: impl Fn(&Item) -> Range<usize>) -> &[u8] {
        self.items.get(index).and_then(|item| self.bytes.get(range(item))).unwrap_or_default()
    }

    /// Adds an item behind all others. Its key may come in parts.
    #[inline]
    pub(crate) fn push(&mut self, key: [&[u8]; 3], body: &[u8]) -> Result<(), TreeError> {
        let at = self.bytes.len();
        for part in key {
            self.bytes.extend_from_slice(part);
        }
        let key_len = self.bytes.len() - at;
        if let Some(last) = self.items.len().checked_sub(1) {
            let (last, new) = (self.key(last), self.bytes.get(at..).unwrap_or_default());
            if last >= new {
                return Err(TreeError::order(last, new));
            }
        }
        self.bytes.extend_from_slice(body);
        self.items.push(Item { at, key_len, body_len: body.len() });
        Ok(())
    }

    /// Adds some rows of a leaf.
    pub(crate) fn push_rows(&mut self, leaf: &Leaf<'_>, range: Range<usize>) -> Result<(), TreeError> {
        for index in range {
            let row = leaf.row(index)?;
            self.push([leaf.prefix(), row.rest.front(), row.rest.tail()], row.stored)?;
        }
        Ok(())
    }

    /// Adds some children of an inner page, the first of which begins at `lowest`.
    pub(crate) fn push_children(
        &mut self,
        inner: &Inner<'_>,
        range: Range<usize>,
        lowest: &[u8],
    ) -> Result<(), TreeError> {
        let mut key = Vec::new();
        for index in range {
            let own = inner.separator(index, &mut key)?;
            let key = if own { &key } else { lowest };
            self.push([key, &[], &[]], &inner.child(index)?.to_bytes())?;
        }
        Ok(())
    }

    /// Adds all of `other`.
    pub(crate) fn append(&mut self, other: &Self) -> Result<(), TreeError> {
        (0..other.len()).try_for_each(|index| self.push([other.key(index), &[], &[]], other.body(index)))
    }

    /// The reference that an item of an inner page is.
    pub(crate) fn child(&self, index: usize) -> Option<PageRef> {
        PageRef::read(&mut keepstone_types::wire::Reader::new(self.body(index))).ok().flatten()
    }

    /// Bytes that an item takes in a page whose keys begin with `prefix_len` common ones.
    fn cost(&self, index: usize, prefix_len: usize, first: usize) -> usize {
        let Some(item) = self.items.get(index) else { return 0 };
        if index < first {
            return item.body_len;
        }
        stored_len(item.key_len.saturating_sub(prefix_len)) + item.body_len
    }

    /// The page that begins with the item `from`: as many items as use at most `limit` bytes, at least one.
    fn cut(&self, from: usize, limit: usize) -> Cut {
        // The first child of an inner page has no key there.
        let first = from + usize::from(self.level > 0);
        let mut cut = Cut { range: from..from, used_len: HEADER_LEN, prefix_len: 0 };
        let mut cost = 0;
        for index in from..self.items.len() {
            let prefix_len = match index {
                _ if index < first => 0,
                _ if index == first => self.key(first).len(),
                _ => common_len(self.key(first).get(..cut.prefix_len).unwrap_or_default(), self.key(index)),
            };
            if prefix_len != cut.prefix_len && index > first {
                cost = (from..index).map(|index| self.cost(index, prefix_len, first)).sum();
            }
            cost += self.cost(index, prefix_len, first);
            let used_len = HEADER_LEN + prefix_len + cost;
            if used_len > limit && index > from {
                break;
            }
            cut = Cut { range: from..index + 1, used_len, prefix_len };
        }
        cut
    }

    /// Pages that are filled one after the other.
    fn cuts(&self, limit: usize) -> Vec<Cut> {
        let (mut cuts, mut from) = (Vec::new(), 0);
        while from < self.items.len() {
            let cut = self.cut(from, limit);
            from = cut.range.end;
            cuts.push(cut);
        }
        cuts
    }

    /// Bytes that a page of all items uses, if one page can hold them.
    pub(crate) fn used_len(&self, room: Room) -> Option<usize> {
        if self.is_empty() {
            return Some(HEADER_LEN);
        }
        let cut = self.cut(0, room.payload_len);
        (cut.range.end == self.items.len() && cut.used_len <= room.payload_len).then_some(cut.used_len)
    }

    /// Whether there is so much of it that it is written before more is added.
    pub(crate) const fn is_much(&self, room: Room) -> bool {
        self.bytes.len() >= ANEW_PAGES * room.payload_len
    }

    /// Whether values or references alone take fewer bytes than this: a quick look before a page is measured.
    pub(crate) fn bodies_len_below(&self, len: usize) -> bool {
        let mut sum = 0;
        self.items.iter().all(|item| {
            sum += item.body_len;
            sum < len
        })
    }

    /// The pages that the items become.
    fn plan(&self, room: Room, spread: Spread) -> Vec<Cut> {
        let whole = self.cut(0, room.payload_len);
        if whole.range.end == self.items.len() {
            return if self.is_empty() { Vec::new() } else { vec![whole] };
        }
        if spread == Spread::Even {
            // What fits two pages goes to two, whatever the fill: a page that overflowed is split in halves.
            let full = self.cuts(room.payload_len);
            let pages = if full.len() == 2 { 2 } else { self.cuts(room.fill_len).len() };
            return self.even(&full, pages, room);
        }
        if let Spread::Anew(taken) = spread {
            let full = self.cuts(room.payload_len);
            let roomy = self.cuts(room.fill_len.min(room.payload_len * ANEW_PERCENT / 100)).len();
            let pages = if full.len() <= taken { roomy.min(taken).max(full.len()) } else { roomy };
            return self.even(&full, pages, room);
        }
        let mut cuts = self.cuts(room.fill_len);
        let last_two = cuts.len().saturating_sub(2);
        if spread == Spread::Bulk && cuts.last().is_some_and(|last| last.used_len < room.fill_len / 2) {
            let shared = self.even(cuts.get(last_two..).unwrap_or_default(), 2, room);
            cuts.truncate(last_two);
            cuts.extend(shared);
        }
        cuts
    }

    /// The items of neighbouring pages in `pages` pages that use about as much each; one more where an item is so long that
    /// it does not come out even.
    fn even(&self, full: &[Cut], pages: usize, room: Room) -> Vec<Cut> {
        let mut left: usize = full.iter().map(|cut| cut.used_len).sum();
        let mut from = full.first().map_or(0, |cut| cut.range.start);
        let mut cuts = Vec::new();
        while from < self.items.len() {
            let pages_left = pages.saturating_sub(cuts.len());
            let target = if pages_left > 1 { left.div_ceil(pages_left) } else { room.payload_len };
            let mut cut = self.cut(from, target.min(room.payload_len));
            // The item that crosses the line belongs to whichever side comes nearer to it.
            let wider = self.cut_to(from, cut.range.end + 1);
            if wider.used_len <= room.payload_len
                && wider.used_len.abs_diff(target) < target.abs_diff(cut.used_len)
            {
                cut = wider;
            }
            from = cut.range.end;
            left = left.saturating_sub(cut.used_len);
            cuts.push(cut);
        }
        // Where long items left nearly nothing for the last page, it shares with the one before.
        let is_poor = cuts.last().is_some_and(|last| last.used_len < used_len_min(room.payload_len));
        if is_poor && cuts.len() > 2 {
            let tail = cuts.split_off(cuts.len().saturating_sub(2));
            cuts.extend(self.even(&tail, 2, room));
        }
        cuts
    }

    /// The page of the items from `from` to before `end`.
    fn cut_to(&self, from: usize, end: usize) -> Cut {
        let end = end.min(self.items.len());
        let first = from + usize::from(self.level > 0);
        let prefix_len = match end.checked_sub(1) {
            Some(last) if last > first => common_len(self.key(first), self.key(last)),
            Some(last) if last == first => self.key(first).len(),
            _ => 0,
        };
        let cost: usize = (from..end).map(|index| self.cost(index, prefix_len, first)).sum();
        Cut { range: from..end, used_len: HEADER_LEN + prefix_len + cost, prefix_len }
    }

    /// Writes all items to pages and adds those to `parents`, the first with the key `lowest`. Nothing is left.
    pub(crate) fn write<W: PageWrite + ?Sized>(
        &mut self,
        pages: &mut W,
        room: Room,
        spread: Spread,
        lowest: &[u8],
        parents: &mut Self,
    ) -> Result<(), TreeError> {
        for cut in self.plan(room, spread) {
            self.write_page(pages, &cut, lowest, parents)?;
        }
        self.clear();
        Ok(())
    }

    /// Writes whole pages from the front when many items have gathered, so that memory stays bounded. What is left begins
    /// with the key that is put into `lowest`.
    #[inline]
    pub(crate) fn write_gathered<W: PageWrite + ?Sized>(
        &mut self,
        pages: &mut W,
        room: Room,
        lowest: &mut Vec<u8>,
        parents: &mut Self,
    ) -> Result<(), TreeError> {
        let worth = self.flush_at.max(GATHERED_PAGES * room.payload_len);
        if self.bytes.len() < worth {
            return Ok(());
        }
        self.write_front(pages, room, lowest, parents)
    }

    fn write_front<W: PageWrite + ?Sized>(
        &mut self,
        pages: &mut W,
        room: Room,
        lowest: &mut Vec<u8>,
        parents: &mut Self,
    ) -> Result<(), TreeError> {
        let mut cuts = self.cuts(room.fill_len);
        // The last two may still be spread anew.
        cuts.truncate(cuts.len().saturating_sub(2));
        let Some(end) = cuts.last().map(|cut| cut.range.end) else {
            self.flush_at = self.bytes.len() * 2;
            return Ok(());
        };
        for cut in &cuts {
            self.write_page(pages, cut, lowest, parents)?;
        }
        lowest.clear();
        lowest.extend_from_slice(self.lowest_of(end));
        self.drop_front(end);
        self.flush_at = 0;
        Ok(())
    }

    /// The key from which on a page that begins with this item holds keys: for rows, as short as tells it from the row
    /// before.
    fn lowest_of(&self, index: usize) -> &[u8] {
        let key = self.key(index);
        match index.checked_sub(1) {
            Some(before) if self.level == 0 => {
                let len = common_len(self.key(before), key) + 1;
                key.get(..len).unwrap_or(key)
            }
            _ => key,
        }
    }

    fn write_page<W: PageWrite + ?Sized>(
        &self,
        pages: &mut W,
        cut: &Cut,
        lowest: &[u8],
        parents: &mut Self,
    ) -> Result<(), TreeError> {
        let payload = self.encode(cut);
        let page = pages.put(self.kind(), &payload)?;
        let lowest = if cut.range.start == 0 { lowest } else { self.lowest_of(cut.range.start) };
        parents.push([lowest, &[], &[]], &page.to_bytes())
    }

    const fn kind(&self) -> PageKind {
        if self.level == 0 { LEAF } else { INNER }
    }

    /// The payload of a page.
    fn encode(&self, cut: &Cut) -> Vec<u8> {
        let range = cut.range.clone();
        let keyed = range.start + usize::from(self.level > 0)..range.end;
        let mut payload = Vec::with_capacity(cut.used_len);
        payload.resize(HEADER_LEN, 0);
        let rest = |index: usize| self.key(index).get(cut.prefix_len..).unwrap_or_default();
        for index in keyed.clone() {
            payload.extend_from_slice(&head_of(rest(index)));
        }
        let offsets_at = payload.len();
        payload.resize(offsets_at + keyed.len() * OFFSET_LEN, 0);
        if self.level > 0 {
            range.clone().for_each(|index| payload.extend_from_slice(self.body(index)));
        }
        payload.extend_from_slice(self.key(keyed.start).get(..cut.prefix_len).unwrap_or_default());
        let (mut chains, mut offset_at) = (0, offsets_at);
        for index in keyed {
            let at = page_len(payload.len()).to_le_bytes();
            if let Some(to) = payload.get_mut(offset_at..offset_at + at.len()) {
                to.copy_from_slice(&at);
            }
            offset_at += at.len();
            let rest = rest(index);
            keepstone_types::wire::put_varint(&mut payload, disk_len(rest.len()));
            payload.extend_from_slice(rest.get(HEAD_LEN..).unwrap_or_default());
            if self.level == 0 {
                let body = self.body(index);
                chains += usize::from(body.first().is_some_and(|byte| byte & 1 == 1));
                payload.extend_from_slice(body);
            }
        }
        self.put_header(&mut payload, cut, chains);
        payload
    }

    fn put_header(&self, payload: &mut [u8], cut: &Cut, chains: usize) {
        let numbers = [cut.range.len(), cut.prefix_len, payload.len()].map(|len| page_len(len).to_le_bytes());
        let fields = if self.level == 0 {
            [leaf::COUNT, leaf::PREFIX_LEN, leaf::USED]
        } else {
            [inner::COUNT, inner::PREFIX_LEN, inner::USED]
        };
        for (field, number) in fields.into_iter().zip(numbers) {
            field.put(payload, &number);
        }
        if self.level == 0 {
            leaf::CHAINS.put(payload, &page_len(chains).to_le_bytes());
        } else {
            inner::LEVEL.put(payload, &[self.level]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(lens: &[usize]) -> Items {
        let mut items = Items::new(0);
        for (number, len) in lens.iter().enumerate() {
            let key = u32::try_from(number).unwrap().to_be_bytes();
            items.push([&key, &[], &[]], &vec![0; *len]).unwrap();
        }
        items
    }

    /// Pages in order, none left out, each of the size it says.
    fn check(items: &Items, cuts: &[Cut], room: Room) {
        let mut end = 0;
        for cut in cuts {
            assert_eq!(cut.range.start, end);
            assert_eq!(items.encode(cut).len(), cut.used_len);
            assert!(!cut.range.is_empty() && cut.used_len <= room.payload_len);
            end = cut.range.end;
        }
        assert_eq!(end, items.len());
    }

    #[test]
    fn what_is_split_for_one_row_makes_two_halves_whatever_the_fill() {
        for percent in [50, 70, 100] {
            let room = Room::new(4_056, Fill::percent(percent).unwrap());
            let items = rows(&[200; 20]);
            let cuts = items.plan(room, Spread::Even);
            check(&items, &cuts, room);
            assert_eq!(cuts.iter().map(|cut| cut.range.len()).collect::<Vec<_>>(), [10, 10]);
        }
    }

    #[test]
    fn what_ascends_leaves_full_pages_and_a_bulk_no_page_nearly_empty() {
        let (room, items) = (Room::new(4_056, Fill::FULL), rows(&[200; 40]));
        let lens = |spread| -> Vec<usize> {
            let cuts = items.plan(room, spread);
            check(&items, &cuts, room);
            cuts.iter().map(|cut| cut.range.len()).collect()
        };
        assert_eq!(lens(Spread::Ascending), [19, 19, 2]);
        assert_eq!(lens(Spread::Bulk), [19, 11, 10]);
        assert_eq!(lens(Spread::Even), [13, 14, 13]);
    }

    #[test]
    fn items_out_of_order_are_refused() {
        let mut items = rows(&[1, 2]);
        for key in [&[0, 0, 0, 1][..], &[0], &[]] {
            assert!(matches!(items.push([key, &[], &[]], &[]), Err(TreeError::Order { .. })));
        }
    }

    proptest! {
        #[test]
        fn pages_are_even_as_far_as_rows_allow(
            lens in prop::collection::vec(1..1_000_usize, 1..120), percent in 50..=100_u8,
        ) {
            let room = Room::new(4_056, Fill::percent(percent).unwrap());
            let items = rows(&lens);
            for spread in [Spread::Ascending, Spread::Bulk, Spread::Even] {
                let cuts = items.plan(room, spread);
                check(&items, &cuts, room);
                let least = cuts.iter().map(|cut| cut.used_len).min().unwrap();
                if spread == Spread::Even && cuts.len() > 1 {
                    prop_assert!(least >= used_len_min_of(room), "{:?}", cuts);
                }
            }
        }
    }

    fn used_len_min_of(room: Room) -> usize {
        used_len_min(room.payload_len) / 2
    }
}
