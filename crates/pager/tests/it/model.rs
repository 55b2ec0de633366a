//! Random programs against a set: no slot is given away twice, none is lost, and what a root leads to stays as long as
//! somebody holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keepstone_pager::{PageError, PageFile, PageSize, PageWrite, PageWriteExt, PageWriter, Root};
use keepstone_types::{PageId, PageRef};
use keepstone_vfs::MemoryVfs;
use keepstone_vfs::simulated::{Choose, Dice};

use crate::support::*;

/// Live pages, each with the number of its content.
type Live = BTreeMap<PageId, (PageRef, u64)>;

struct Model {
    disk: MemoryVfs,
    file: PageFile,
    live: Live,
    /// Roots that are held, with what they lead to.
    held: Vec<(Arc<Root>, Live)>,
    tag: u64,
}

impl Model {
    fn new() -> Self {
        let (disk, file) = create();
        Self { disk, file, live: Live::new(), held: Vec::new(), tag: 0 }
    }

    /// A generation of random changes, committed or not.
    fn generation(&mut self, dice: &mut Dice) {
        let mut writer = self.file.begin().unwrap();
        assert!(matches!(self.file.begin(), Err(PageError::WriterBusy)));
        let mut live = self.live.clone();
        let mut reserved = BTreeSet::new();
        for _ in 0..dice.choose(40) {
            self.change(&mut writer, &mut live, &mut reserved, dice);
        }
        for (at, tag) in live.values() {
            assert!(reads(&writer, *at, *tag).unwrap(), "the writer reads what it wrote");
        }
        if dice.one_in(4) {
            drop(writer);
        } else {
            let meta = self.tag.to_le_bytes();
            let root = writer.commit(&meta).unwrap();
            assert_eq!(root.meta(), meta);
            self.live = live;
        }
        if dice.one_in(2) {
            self.held.push((self.file.root(), self.live.clone()));
        }
        if self.held.len() > 4 || dice.one_in(3) {
            let place = dice.choose(self.held.len() as u64) as usize;
            self.held.drain(place..(place + 1).min(self.held.len()));
        }
    }

    fn change(
        &mut self,
        writer: &mut PageWriter,
        live: &mut Live,
        reserved: &mut BTreeSet<PageId>,
        dice: &mut Dice,
    ) {
        match dice.choose(10) {
            0..=3 => {
                let want = if dice.one_in(3) { 1 + dice.choose(30) as u32 } else { 1 };
                let run = writer.allocate(want).unwrap();
                assert!(run.count >= 1 && run.count <= want);
                for index in 0..run.count {
                    let page = run.get(index).unwrap();
                    assert!(!live.contains_key(&page), "page {page} is in use");
                    assert!(reserved.insert(page), "page {page} was given away");
                    for (root, held) in &self.held {
                        assert!(!held.contains_key(&page), "page {page} is held by {}", root.generation());
                    }
                    if dice.one_in(8) {
                        continue;
                    }
                    self.tag += 1;
                    let at = writer.write(page, KIND, &payload(self.tag)).unwrap();
                    assert!(writer.write(page, KIND, b"").is_err(), "content is given once");
                    live.insert(page, (at, self.tag));
                }
            }
            4 => {
                self.tag += 1;
                let at = writer.put(KIND, &payload(self.tag)).unwrap();
                assert!(live.insert(at.page, (at, self.tag)).is_none());
                reserved.insert(at.page);
            }
            _ => {
                let place = dice.choose(live.len() as u64) as usize;
                let Some((page, (at, _))) = live.iter().nth(place).map(|(page, found)| (*page, *found))
                else {
                    return;
                };
                writer.free(page, at.birth).unwrap();
                assert!(matches!(writer.free(page, at.birth), Err(PageError::Misuse { .. })));
                live.remove(&page);
                reserved.remove(&page);
            }
        }
    }

    fn check(&self) {
        let pages: Vec<PageRef> = self.live.values().map(|(at, _)| *at).collect();
        assert_sound(&self.file, &pages);
        for (root, live) in &self.held {
            for (at, tag) in live.values() {
                assert!(reads(&self.file, *at, *tag).unwrap(), "root {} reads as before", root.generation());
            }
        }
        let stats = self.file.stats();
        let own = stats.used_slots - pages.len() as u64;
        assert!((8..20).contains(&own), "{own} slots beside the {} pages", pages.len());
        assert!(stats.used_slots + stats.pending_slots <= stats.file_bytes / 4_096, "{stats:?}");
    }

    fn reopen(&mut self) {
        self.held.clear();
        self.disk = self.disk.snapshot();
        self.file = open(&self.disk).unwrap();
        assert_eq!(self.file.open_report().healed, Vec::<String>::new());
        for (at, tag) in self.live.values() {
            assert!(reads(&self.file, *at, *tag).unwrap());
        }
    }
}

#[test]
fn random_programs_agree_with_a_set() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut model = Model::new();
        for _ in 0..25 {
            match dice.choose(16) {
                0 => model.reopen(),
                1 => {
                    let slots = dice.choose(60);
                    model.file.reserve(slots).unwrap();
                }
                2 => drop(model.file.shrink().unwrap()),
                3 => {
                    let pages: Vec<PageRef> = model.live.values().map(|(at, _)| *at).collect();
                    let report =
                        model.file.rebuild_free_space::<PageError>(|audit| mark(audit, &pages)).unwrap();
                    assert_eq!(report.used, model.file.stats().used_slots);
                }
                _ => model.generation(&mut dice),
            }
            model.check();
        }
    }
}

/// Runs go on through more regions than one page of the directory counts.
#[test]
fn a_large_file_has_a_directory_of_several_levels() {
    let (disk, file) = create();
    assert_eq!(file.page_size(), PageSize::KIB_4);
    // 144 regions are counted by one page of the directory; a page of 4 KiB is written in every region.
    let mut writer = file.begin().unwrap();
    let mut pages = Vec::new();
    for _ in 0..150 {
        let mut left = 1_024_u32;
        while left > 0 {
            let run = writer.allocate(left).unwrap();
            left -= run.count.min(left);
            pages.push(writer.write(run.first, KIND, &payload(run.first.get())).unwrap());
        }
    }
    writer.commit(b"large").unwrap();
    assert_sound(&file, &pages);
    let file = open(&disk).unwrap();
    assert_sound(&file, &pages);
    assert!(pages.iter().all(|at| reads(&file, *at, at.page.get()).unwrap()));
    // Nothing of the map but a path was read to write one page more.
    let before = file.stats().pages_read;
    let more = commit(&file, 5..6);
    assert!(file.stats().pages_read - before <= 4, "{} pages read", file.stats().pages_read - before);
    assert!(more[0].page.get() < 200, "the first free slot is taken: {}", more[0].page);
    // A map made anew has as many levels, and loses and forgets nothing.
    let all = [&pages[..], &more].concat();
    let report = file.rebuild_free_space::<PageError>(|audit| mark(audit, &all)).unwrap();
    assert_eq!(report.used, file.stats().used_slots);
    assert_sound(&file, &all);
    assert_sound(&open(&disk).unwrap(), &all);
    // And back again.
    commit_freeing(&file, &pages);
    let cut = file.shrink().unwrap();
    assert!(cut > 149 * 1_024, "{cut} slots were cut");
    assert_sound(&file, &more);
    assert_sound(&open(&disk).unwrap(), &more);
    assert!(file.stats().file_bytes < 1 << 20, "{:?}", file.stats());
}
