//! The bytes of a simulated file: pages shared between copies, so that a copy costs nothing and a change costs a page.

use std::sync::Arc;

/// Bytes in a page, which is also the unit in which space is counted.
pub(super) const PAGE: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Page {
    /// Never written: takes no space.
    Hole,
    /// Written with zeros: takes space, but no memory here.
    Zeros,
    Bytes(Arc<[u8; PAGE]>),
}

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: Arc<Vec<Page>>,
    len: usize,
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    Bytes(&'a [u8]),
    Zeros(usize),
}

impl Source<'_> {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Zeros(len) => *len,
        }
    }

    /// A part of it; empty where there is none.
    pub(super) fn part(&self, from: usize, to: usize) -> Self {
        match self {
            Self::Bytes(bytes) => Source::Bytes(bytes.get(from..to).unwrap_or_default()),
            Self::Zeros(len) => Source::Zeros(to.min(*len).saturating_sub(from)),
        }
    }
}

/// The pages that a range touches: page, from, to (within the page).
fn split(offset: usize, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let end = offset.saturating_add(len);
    let first = offset / PAGE;
    let after = end.div_ceil(PAGE).max(first);
    (first..if len == 0 { first } else { after }).map(move |page| {
        let base = page.saturating_mul(PAGE);
        (page, offset.saturating_sub(base), end.saturating_sub(base).min(PAGE))
    })
}

impl Content {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Pages that take space.
    pub(super) fn allocated(&self) -> usize {
        self.pages.iter().filter(|page| **page != Page::Hole).count()
    }

    /// Pages that a write of this range would take beside those that are taken.
    pub(super) fn missing(&self, offset: usize, len: usize) -> usize {
        split(offset, len)
            .filter(|(page, ..)| self.pages.get(*page).is_none_or(|page| *page == Page::Hole))
            .count()
    }

    /// Copies what is there from `offset`, and says how many bytes that were.
    pub(super) fn read(&self, buf: &mut [u8], offset: usize) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len());
        let mut done = 0_usize;
        for (page, from, to) in split(offset, count) {
            let len = to.saturating_sub(from);
            let Some(target) = buf.get_mut(done..done.saturating_add(len)) else { break };
            match self.pages.get(page) {
                Some(Page::Bytes(bytes)) => target.copy_from_slice(bytes.get(from..to).unwrap_or_default()),
                Some(Page::Zeros | Page::Hole) | None => target.fill(0),
            }
            done = done.saturating_add(len);
        }
        count
    }

    /// Puts bytes at `offset`; the file grows when needed.
    pub(super) fn write(&mut self, offset: usize, source: Source<'_>) {
        let end = offset.saturating_add(source.len());
        if end > self.len {
            self.grow(end);
        }
        let pages = Arc::make_mut(&mut self.pages);
        let mut done = 0_usize;
        for (page, from, to) in split(offset, source.len()) {
            let len = to.saturating_sub(from);
            if let Some(page) = pages.get_mut(page) {
                put(page, from, to, source.part(done, done.saturating_add(len)));
            }
            done = done.saturating_add(len);
        }
    }

    fn grow(&mut self, len: usize) {
        let pages = len.div_ceil(PAGE);
        if self.pages.len() < pages {
            Arc::make_mut(&mut self.pages).resize(pages, Page::Hole);
        }
        self.len = len;
    }

    /// Cuts or extends; new bytes read as zero.
    pub(super) fn set_len(&mut self, len: usize) {
        if len >= self.len {
            self.grow(len);
            return;
        }
        let within = len % PAGE;
        if within > 0 && self.pages.get(len / PAGE).is_some_and(|page| *page != Page::Hole) {
            let rest = PAGE.saturating_sub(within);
            self.write(len, Source::Zeros(rest.min(self.len.saturating_sub(len))));
        }
        Arc::make_mut(&mut self.pages).truncate(len.div_ceil(PAGE));
        self.len = len;
    }

    /// All bytes.
    #[cfg(test)]
    fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(&mut bytes, 0);
        bytes
    }
}

fn put(page: &mut Page, from: usize, to: usize, source: Source<'_>) {
    let whole = from == 0 && to == PAGE;
    match source {
        Source::Zeros(_) if whole || *page == Page::Hole || *page == Page::Zeros => *page = Page::Zeros,
        source => {
            let mut bytes = match std::mem::replace(page, Page::Zeros) {
                Page::Bytes(bytes) => bytes,
                Page::Hole | Page::Zeros => Arc::new([0; PAGE]),
            };
            if let Some(target) = Arc::make_mut(&mut bytes).get_mut(from..to) {
                match source {
                    Source::Bytes(source) => target.copy_from_slice(source),
                    Source::Zeros(_) => target.fill(0),
                }
            }
            *page = Page::Bytes(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::{Choose, Dice};

    #[test]
    fn pages_agree_with_a_plain_vector() {
        for seed in 0..40 {
            let mut dice = Dice::new(seed);
            let (mut content, mut model) = (Content::default(), Vec::<u8>::new());
            for step in 0..60_u8 {
                let at = usize::try_from(dice.choose(20_000)).unwrap();
                let len = usize::try_from(dice.choose(9_000)).unwrap();
                let before = content.clone();
                let expected_before = model.clone();
                match dice.choose(4) {
                    0 => {
                        content.set_len(at);
                        model.resize(at, 0);
                    }
                    1 => {
                        content.write(at, Source::Zeros(len));
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].fill(0);
                    }
                    _ => {
                        content.write(at, Source::Bytes(&vec![step; len]));
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].fill(step);
                    }
                }
                assert_eq!(content.to_vec(), model, "seed {seed} step {step}");
                assert_eq!(before.to_vec(), expected_before, "a copy does not change, seed {seed}");
                let mut part = vec![9; 5_000];
                let got = content.read(&mut part, at);
                assert_eq!(part[..got], model[at.min(model.len())..(at + 5_000).min(model.len())]);
            }
        }
    }

    #[test]
    fn space_is_counted_in_pages_that_were_written() {
        let mut content = Content::default();
        content.set_len(10 * PAGE);
        assert_eq!((content.allocated(), content.missing(PAGE - 1, 2)), (0, 2));
        content.write(PAGE, Source::Zeros(PAGE));
        assert_eq!((content.allocated(), content.missing(PAGE - 1, 2)), (1, 1));
        content.write(0, Source::Bytes(&[1]));
        assert_eq!((content.allocated(), content.missing(PAGE - 1, 2)), (2, 0));
        content.set_len(1);
        assert_eq!(content.allocated(), 1);
    }
}
