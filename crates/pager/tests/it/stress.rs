//! A hundred threads read through roots while one commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keepstone_pager::{PageError, PageFile, PageRead, PageWrite, PageWriteExt, Root};
use keepstone_types::PageRef;
use keepstone_types::wire::Reader;

use crate::support::*;

const READERS: usize = 100;
const GENERATIONS: u64 = 400;
const PAGES: usize = 40;

/// The pages that a root leads to: its meta leads to a page of references.
fn pages_of(file: &PageFile, root: &Root) -> Result<Vec<PageRef>, PageError> {
    let mut meta = Reader::new(root.meta());
    let Some(index) = PageRef::read(&mut meta).ok().flatten() else { return Ok(Vec::new()) };
    let page = file.read(index)?;
    let mut entries = Reader::new(page.payload());
    Ok(std::iter::from_fn(|| PageRef::read(&mut entries).unwrap()).collect())
}

/// Every page of a generation says which generation it was last seen in, or an earlier one.
fn read_all(file: &PageFile, root: &Root) -> Result<usize, PageError> {
    let pages = pages_of(file, root)?;
    for at in &pages {
        let page = file.read(*at)?;
        let tag = u64::from_le_bytes(page.payload()[..8].try_into().unwrap());
        assert_eq!(page.payload()[..24], payload(tag));
        assert_eq!(tag, at.birth.get(), "a page holds what its generation wrote");
        assert!(at.birth <= root.generation());
    }
    Ok(pages.len())
}

#[test]
fn a_hundred_readers_beside_a_writer() {
    let (_disk, file) = create();
    let done = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let (file, done, rounds) = (file.clone(), Arc::clone(&done), Arc::clone(&rounds));
            std::thread::spawn(move || {
                let mut held = file.root();
                while !done.load(Ordering::Acquire) {
                    // Some hold on to a root for long, most take the newest each time.
                    if number % 10 != 0 || rounds.load(Ordering::Relaxed).is_multiple_of(7) {
                        held = file.root();
                    }
                    let count = read_all(&file, &held).unwrap();
                    assert!(count == PAGES || held.generation().get() == 1);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut pages: Vec<PageRef> = Vec::new();
    let mut index: Option<PageRef> = None;
    for generation in 2..GENERATIONS + 2 {
        let mut writer = file.begin().unwrap();
        assert_eq!(writer.generation().get(), generation);
        for place in 0..PAGES {
            if pages.len() <= place {
                pages.push(writer.put(KIND, &payload(generation)).unwrap());
            } else if (place as u64 + generation).is_multiple_of(5) {
                let old = pages[place];
                writer.free(old.page, old.birth).unwrap();
                pages[place] = writer.put(KIND, &payload(generation)).unwrap();
            }
        }
        if let Some(old) = index {
            writer.free(old.page, old.birth).unwrap();
        }
        let entries: Vec<u8> = pages.iter().flat_map(|at| at.to_bytes()).collect();
        let at = writer.put(KIND, &entries).unwrap();
        index = Some(at);
        writer.commit(&at.to_bytes()).unwrap();
    }
    done.store(true, Ordering::Release);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(rounds.load(Ordering::Relaxed) > 0);
    pages.extend(index);
    assert_sound(&file, &pages);
    assert_eq!(file.stats().commits, GENERATIONS);
}
