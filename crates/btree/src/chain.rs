//! Chains: a large value in pages of its own, in runs of pages that stand one after the other.
//!
//! Invariants:
//! * The pages of a chain are written by one generation, last to first: each holds the reference to the next, and so its
//!   checksum. Each says how many bytes of the value are left from it on.
//! * Within a run, the slot of a page is one more than that of the page before. So a run is read in few steps, and freed
//!   without reading more than its first page, which says where the next run is and how long.
//! * Every page but the last is full, and every run is used to its end.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_pager::{Page, PageKind, PageRead, PageRun, PageWrite};
use keepstone_types::wire::Reader;
use keepstone_types::{PageId, PageRef, ValueRef};

use crate::error::TreeError;
use crate::layout::{Field, disk_len, is_zero, memory_len};
use crate::limits::VALUE_LEN_MAX;

/// The kind of a page of a large value.
pub(crate) const OVERFLOW: PageKind = PageKind::new(18);
/// Bytes of a value that stand in its cell even if it has pages of its own.
pub const CHAIN_HEAD_LEN: usize = 16;
/// Bytes that are read in one go.
const STEP_BYTES: usize = 1 << 20;

pub(crate) const CELL_HEAD: Field = Field::first("head", CHAIN_HEAD_LEN, "the first bytes of the value");
pub(crate) const CELL_FIRST: Field = CELL_HEAD.then("first", PageRef::LEN, "reference to the first page");
pub(crate) const CELL_PAGES: Field = CELL_FIRST.then("pages", 4, "pages of the first run");
#[cfg(test)]
pub(crate) const CELL_FIELDS: [Field; 3] = [CELL_HEAD, CELL_FIRST, CELL_PAGES];
/// Bytes of a chain in its cell, behind the length.
pub(crate) const CELL_LEN: usize = CELL_PAGES.end();

pub(crate) const NEXT: Field = Field::first("next", PageRef::LEN, "reference to the next page; zeros: none");
pub(crate) const LEFT: Field = NEXT.then("left", 4, "bytes of the value from this page on");
pub(crate) const PAGES: Field = LEFT.then("pages", 4, "pages of the run that begins here; 0: none does");
pub(crate) const NEXT_RUN: Field =
    PAGES.then("next run", PageRef::LEN, "where a run begins: the first page of the next; zeros: none");
pub(crate) const NEXT_PAGES: Field =
    NEXT_RUN.then("next pages", 4, "where a run begins: pages of the next; 0: none");
#[cfg(test)]
pub(crate) const OVERFLOW_FIELDS: [Field; 5] = [NEXT, LEFT, PAGES, NEXT_RUN, NEXT_PAGES];

/// Bytes before the value within a run, and more at its beginning.
const PAGE_HEADER_LEN: usize = PAGES.end();
const RUN_HEADER_LEN: usize = NEXT_PAGES.end();
const RUN_EXTRA: usize = RUN_HEADER_LEN.saturating_sub(PAGE_HEADER_LEN);

/// Pages that stand one after the other, by a reference to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) first: PageRef,
    pub(crate) pages: u32,
}

/// A large value: its length, its first bytes, and where the rest is. Its pages are those of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    len: u64,
    head: [u8; CHAIN_HEAD_LEN],
    pub(crate) run: Run,
}

impl Chain {
    /// Bytes of the value.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Always `false`: only long values have pages of their own.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first 16 bytes of the value.
    #[must_use]
    pub const fn head(&self) -> &[u8] {
        &self.head
    }

    /// The first page.
    #[must_use]
    pub const fn first_page(&self) -> PageRef {
        self.run.first
    }

    /// The stored form in a cell, behind the length.
    pub(crate) fn to_cell(self) -> [u8; CELL_LEN] {
        let mut cell = [0; CELL_LEN];
        CELL_HEAD.put(&mut cell, &self.head);
        CELL_FIRST.put(&mut cell, &self.run.first.to_bytes());
        CELL_PAGES.put(&mut cell, &self.run.pages.to_le_bytes());
        cell
    }

    /// From the stored form; `None` when it is cut or leads nowhere.
    pub(crate) fn from_cell(len: u64, cell: &[u8]) -> Option<Self> {
        let cell =
            cell.get(..CELL_LEN).filter(|_| (disk_len(CHAIN_HEAD_LEN)..=VALUE_LEN_MAX).contains(&len))?;
        let first = PageRef::read(&mut Reader::new(CELL_FIRST.bytes(cell))).ok()??;
        Some(Self { len, head: CELL_HEAD.array(cell), run: Run { first, pages: CELL_PAGES.u32(cell) } })
    }
}

/// Bytes of the value that a page holds at most, not being the first of a run.
const fn page_capacity(payload_len: usize) -> usize {
    payload_len.saturating_sub(PAGE_HEADER_LEN)
}

/// Bytes of the value that a run holds at most.
fn run_capacity(payload_len: usize, pages: u32) -> u64 {
    let all = disk_len(page_capacity(payload_len)).saturating_mul(u64::from(pages));
    all.saturating_sub(disk_len(RUN_EXTRA))
}

/// Pages that one run needs for so many bytes.
fn pages_for(payload_len: usize, len: u64) -> u32 {
    let capacity = disk_len(page_capacity(payload_len)).max(1);
    u32::try_from(len.saturating_add(disk_len(RUN_EXTRA)).div_ceil(capacity)).unwrap_or(u32::MAX)
}

/// A page of a chain, its fields read.
struct Link<'a> {
    next: Option<PageRef>,
    pages: u32,
    next_run: Option<Run>,
    data: &'a [u8],
}

impl<'a> Link<'a> {
    /// Reads a page from which on `left` bytes should be left, at the beginning of a run of `begins` pages or, for 0,
    /// within one.
    fn parse(page: &'a Page, left: u64, begins: u32) -> Result<Self, TreeError> {
        if page.kind() != OVERFLOW {
            page.clone().expect_kind(OVERFLOW)?;
        }
        let (id, payload) = (page.reference().page, page.payload());
        let wrong = |what, expected: u64, found: u64| {
            Err(TreeError::damaged(id, what, expected.to_string(), found.to_string()))
        };
        let (found, pages) = (LEFT.u32(payload), PAGES.u32(payload));
        if u64::from(found) != left {
            return wrong("bytes left of a value", left, found.into());
        }
        if pages != begins {
            return wrong("pages of a run", begins.into(), pages.into());
        }
        let read = |field: Field| PageRef::read(&mut Reader::new(field.bytes(payload))).ok().flatten();
        let next_run = if pages > 0 { read(NEXT_RUN) } else { None };
        let header_len = if pages > 0 { RUN_HEADER_LEN } else { PAGE_HEADER_LEN };
        let data = payload.get(header_len..).unwrap_or_default();
        let data = data.get(..memory_len(left)).unwrap_or(data);
        if data.is_empty() {
            return wrong("bytes of a value in a page", 1, 0);
        }
        let next_run = next_run.map(|first| Run { first, pages: NEXT_PAGES.u32(payload) });
        Ok(Self { next: read(NEXT), pages, next_run, data })
    }

    /// Whether everything behind the value is zero.
    fn is_clean(&self, page: &Page) -> bool {
        let header_len = if self.pages > 0 { RUN_HEADER_LEN } else { PAGE_HEADER_LEN };
        let end = header_len.saturating_add(self.data.len());
        page.payload().get(end..).is_none_or(is_zero)
    }
}

/// Writes a value, in two parts, to pages of its own.
pub(crate) fn write<W: PageWrite + ?Sized>(
    pages: &mut W,
    prefix: &[u8],
    body: &[u8],
) -> Result<Chain, TreeError> {
    let payload_len = pages.payload_len();
    let len = disk_len(prefix.len().saturating_add(body.len()));
    let (mut runs, mut left): (Vec<(PageRun, u64)>, u64) = (Vec::new(), len);
    while left > 0 {
        let want = pages_for(payload_len, left);
        let mut run = pages.allocate(want)?;
        run.count = run.count.min(want);
        runs.push((run, left));
        left = left.saturating_sub(run_capacity(payload_len, run.count));
    }
    let (mut next, mut next_run) = (None, None);
    let mut payload = Vec::with_capacity(payload_len);
    for (run, left) in runs.into_iter().rev() {
        let last = run.count.saturating_sub(1);
        for index in (0..run.count).rev() {
            let extra = if index == 0 { 0 } else { disk_len(RUN_EXTRA) };
            let before =
                disk_len(page_capacity(payload_len)).saturating_mul(index.into()).saturating_sub(extra);
            let left = left.saturating_sub(before);
            payload.clear();
            payload.resize(if index == 0 { RUN_HEADER_LEN } else { PAGE_HEADER_LEN }, 0);
            NEXT.put(&mut payload, &PageRef::optional_to_bytes(next));
            LEFT.put(&mut payload, &u32::try_from(left).unwrap_or(u32::MAX).to_le_bytes());
            if index == 0 {
                PAGES.put(&mut payload, &run.count.to_le_bytes());
                NEXT_RUN.put(&mut payload, &PageRef::optional_to_bytes(next_run.map(|run: Run| run.first)));
                NEXT_PAGES.put(&mut payload, &next_run.map_or(0, |run| run.pages).to_le_bytes());
            }
            let room = payload_len.saturating_sub(payload.len());
            extend_from_parts(&mut payload, prefix, body, memory_len(len.saturating_sub(left)), room);
            let slot = run.get(index).ok_or_else(|| ends(run.first, last))?;
            next = Some(pages.write(slot, OVERFLOW, &payload)?);
        }
        next_run = next.map(|first| Run { first, pages: run.count });
    }
    let mut head = Vec::with_capacity(CHAIN_HEAD_LEN);
    extend_from_parts(&mut head, prefix, body, 0, CHAIN_HEAD_LEN);
    let (Some(run), Ok(head)) = (next_run, <[u8; CHAIN_HEAD_LEN]>::try_from(head)) else {
        return Err(TreeError::damaged(PageId::ZERO, "value", "more than 16 bytes", len.to_string()));
    };
    Ok(Chain { len, head, run })
}

/// Slots that do not exist.
#[cold]
fn ends(first: PageId, more: u32) -> TreeError {
    TreeError::damaged(
        first,
        "pages of a run",
        format!("{more} slots after it"),
        "the last slot there can be",
    )
}

/// Appends at most `len` bytes from `from` on of two parts that stand one after the other.
fn extend_from_parts(out: &mut Vec<u8>, prefix: &[u8], body: &[u8], from: usize, len: usize) {
    let end = from.saturating_add(len);
    let front = prefix.get(from..end.min(prefix.len())).unwrap_or_default();
    out.extend_from_slice(front);
    let from = from.saturating_sub(prefix.len());
    let end = end.saturating_sub(prefix.len()).min(body.len());
    out.extend_from_slice(body.get(from..end).unwrap_or_default());
}

/// A whole value.
pub(crate) fn load<P: PageRead + ?Sized>(pages: &P, chain: &Chain) -> Result<ValueRef, TreeError> {
    let mut value = Vec::new();
    let whole = memory_len(chain.len);
    each_page(pages, chain, &mut |_, data| {
        // The length is believed as far as pages bear it out: memory is taken for what was read, and as much again.
        if value.len().saturating_add(data.len()) > value.capacity() {
            let more = value.capacity().max(STEP_BYTES).min(whole.saturating_sub(value.len()));
            value.reserve_exact(more.max(data.len()));
        }
        value.extend_from_slice(data);
        Ok(())
    })?;
    if value.get(..CHAIN_HEAD_LEN) != Some(chain.head()) {
        let found = value.get(..CHAIN_HEAD_LEN).unwrap_or(&value).escape_ascii().to_string();
        let expected = chain.head().escape_ascii().to_string();
        return Err(TreeError::damaged(chain.run.first.page, "head of a value", expected, found));
    }
    Ok(ValueRef::from(value))
}

/// What is done with each page of a chain and its part of the value.
type VisitPage<'v> = &'v mut dyn FnMut(PageRef, &[u8]) -> Result<(), TreeError>;

/// Visits every page of a chain in order, with its part of the value.
pub(crate) fn each_page<P: PageRead + ?Sized>(
    pages: &P,
    chain: &Chain,
    visit: VisitPage<'_>,
) -> Result<(), TreeError> {
    let payload_len = pages.payload_len();
    let (mut left, mut run) = (chain.len, Some(chain.run));
    while left > 0 {
        let Some(this) = run else { return Err(broken(chain.run.first.page, "another run", "none")) };
        check_run(payload_len, &this, left)?;
        run = each_page_of_run(pages, &this, &mut left, visit)?;
    }
    match run {
        None => Ok(()),
        Some(run) => Err(broken(run.first.page, "no run behind the end of the value", "one")),
    }
}

#[cold]
fn broken(page: PageId, expected: &str, found: &str) -> TreeError {
    TreeError::damaged(page, "chain of a value", expected, found)
}

/// A run is never longer than what is left of the value needs.
fn check_run(payload_len: usize, run: &Run, left: u64) -> Result<(), TreeError> {
    let most = pages_for(payload_len, left);
    if run.pages == 0 || run.pages > most {
        let expected = format!("1 to {most}");
        return Err(TreeError::damaged(run.first.page, "pages of a run", expected, run.pages.to_string()));
    }
    Ok(())
}

/// Visits the pages of a run, takes from `left` what they hold, and gives the next run.
fn each_page_of_run<P: PageRead + ?Sized>(
    pages: &P,
    run: &Run,
    left: &mut u64,
    visit: VisitPage<'_>,
) -> Result<Option<Run>, TreeError> {
    let step = STEP_BYTES.checked_div(pages.payload_len()).and_then(|step| u32::try_from(step.max(1)).ok());
    let step = step.unwrap_or(1);
    let (mut at, mut rest, mut next_run) = (run.first, run.pages, None);
    while rest > 0 {
        // What cannot be read in one go is read page by page, from where it may be repaired.
        let read = pages.read_run(PageRun { first: at.page, count: rest.min(step) }).unwrap_or_default();
        let mut read = read.into_iter().take(memory_len(rest.into())).map(Some).collect::<Vec<_>>();
        if read.is_empty() {
            read.push(None);
        }
        for unverified in read {
            let verified = unverified.and_then(|page| page.verify(at).ok());
            let page = verified.map_or_else(|| pages.read(at), Ok)?;
            let begins = if rest == run.pages { run.pages } else { 0 };
            let link = Link::parse(&page, *left, begins)?;
            if begins > 0 {
                next_run = link.next_run;
            }
            visit(at, link.data)?;
            *left = left.saturating_sub(disk_len(link.data.len()));
            rest = rest.saturating_sub(1);
            if !link.is_clean(&page) {
                return Err(broken(at.page, "zeros behind the value", "others"));
            }
            let follows = match link.next {
                Some(next) if rest > 0 => Some(next.page) == at.page.plus(1) && *left > 0,
                next => rest == 0 && next == next_run.map(|run| run.first) && next.is_some() == (*left > 0),
            };
            if !follows || link.next.is_some_and(|next| next.birth != run.first.birth) {
                let found = link.next.map_or_else(|| "none".to_owned(), |next| next.to_string());
                return Err(broken(at.page, "the next page of the run, or of the next run", &found));
            }
            at = link.next.unwrap_or(at);
        }
    }
    Ok(next_run)
}

/// Visits every run of a chain, reading the first page of each that has another behind it.
pub(crate) fn each_run<P: PageRead + ?Sized>(
    pages: &P,
    chain: &Chain,
    visit: &mut dyn FnMut(Run) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let payload_len = pages.payload_len();
    let (mut left, mut run) = (chain.len, chain.run);
    loop {
        check_run(payload_len, &run, left)?;
        visit(run)?;
        let capacity = run_capacity(payload_len, run.pages);
        if left <= capacity {
            return Ok(());
        }
        let page = pages.read(run.first)?;
        let link = Link::parse(&page, left, run.pages)?;
        let next = link.next_run.filter(|next| next.first.birth == run.first.birth);
        run = next.ok_or_else(|| broken(run.first.page, "another run of the same generation", "none"))?;
        left = left.saturating_sub(capacity);
    }
}

/// Frees every page of a chain.
pub(crate) fn free<W: PageWrite + ?Sized>(pages: &mut W, chain: &Chain) -> Result<(), TreeError> {
    // All runs are found before the first page goes: what this generation wrote is gone when it is freed.
    let mut runs = Vec::new();
    each_run(pages, chain, &mut |run| {
        runs.push(run);
        Ok(())
    })?;
    for run in runs {
        let slots = PageRun { first: run.first.page, count: run.pages };
        for index in 0..run.pages {
            let slot = slots.get(index).ok_or_else(|| ends(run.first.page, run.pages))?;
            pages.free(slot, run.first.birth)?;
        }
    }
    Ok(())
}
