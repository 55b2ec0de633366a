//! The state of a simulated disk: names, and of each file what is seen, what is stable, and the writes between the two.
//!
//! Invariants:
//! * The pending pieces of a file, applied in order to what is stable, give what is seen, unless a sync of it has failed
//!   or a fate says otherwise.
//! * A state is a function of the state before it and the event: the disk and a replay of its trace agree.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::TEAR;
use super::choose::{Choose, Dice};
use super::content::{Content, Source};
use super::event::{Event, Inode, Payload, WriteFate};
use super::names::{Names, Node, Tree};

/// A write that no sync has made stable.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) offset: usize,
    pub(super) payload: Payload,
    pub(super) fate: WriteFate,
}

impl Piece {
    /// The parts of the piece that a power loss keeps or loses each by itself: from, to (within the piece).
    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (start, len) = (self.offset, self.payload.source().len());
        let first = TEAR.saturating_sub(start % TEAR).min(len);
        let rest = (first..len).step_by(TEAR).map(move |from| (from, from.saturating_add(TEAR).min(len)));
        std::iter::once((0, first)).filter(|(_, to)| *to > 0).chain(rest)
    }

    /// Puts a part of the piece where it lands.
    pub(super) fn land(&self, content: &mut Content, (from, to): (usize, usize)) {
        let part = self.payload.source().part(from, to);
        let at = self.offset.saturating_add(from);
        let mut put = |at: Option<usize>| {
            // What would land behind the end of the file hits nothing of it.
            let Some(at) = at.filter(|at| *at < content.len()) else { return };
            let room = content.len().saturating_sub(at);
            content.write(at, part.part(0, part.len().min(room)));
        };
        match self.fate {
            WriteFate::Arrives => put(Some(at)),
            WriteFate::Lost => {}
            WriteFate::Misdirected(by) => put(moved(at, by)),
            WriteFate::Duplicated(by) => {
                put(Some(at));
                put(moved(at, by));
            }
        }
    }
}

fn moved(at: usize, by: i64) -> Option<usize> {
    isize::try_from(by).ok().and_then(|by| at.checked_add_signed(by))
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) live: Content,
    pub(super) durable: Content,
    pub(super) pending: Arc<Vec<Piece>>,
    /// Lengths that the file has had since it was synced, in order.
    pub(super) lengths: Arc<Vec<usize>>,
}

impl File {
    /// A file whose content is all stable.
    pub(super) fn stable(content: Content) -> Self {
        Self { live: content.clone(), durable: content, ..Self::default() }
    }

    fn write(&mut self, piece: Piece, durable: bool) {
        let len = self.live.len();
        self.live.write(piece.offset, piece.payload.source());
        if self.live.len() != len {
            self.note_length();
        }
        if durable && self.pending.is_empty() {
            if self.durable.len() < self.live.len() {
                self.durable.set_len(self.live.len());
            }
            piece.parts().for_each(|part| piece.land(&mut self.durable, part));
            self.lengths = Arc::default();
            return;
        }
        Arc::make_mut(&mut self.pending).push(piece);
        if durable {
            // A write that is stable by itself takes what it overlaps with it; taking everything is as good for a
            // caller that uses one way of writing per file.
            self.sync();
        }
    }

    fn note_length(&mut self) {
        Arc::make_mut(&mut self.lengths).push(self.live.len());
    }

    fn set_len(&mut self, len: usize) {
        let cut = self.live.len().saturating_sub(len);
        if cut > 0 {
            // Should the file grow again, nothing of what was cut may show: a piece that lands only if it does.
            let (payload, fate) = (Payload::Zeros(cut), WriteFate::Arrives);
            Arc::make_mut(&mut self.pending).push(Piece { offset: len, payload, fate });
        }
        self.live.set_len(len);
        self.note_length();
    }

    fn sync(&mut self) {
        if self.lengths.is_empty() && self.pending.is_empty() {
            return;
        }
        self.durable.set_len(self.live.len());
        for piece in self.pending.iter() {
            piece.parts().for_each(|part| piece.land(&mut self.durable, part));
        }
        (self.pending, self.lengths) = (Arc::default(), Arc::default());
    }

    fn fail_sync(&mut self, seed: u64, reads_back: bool) {
        let mut dice = Dice::new(seed);
        if self.durable.len() < self.live.len() && dice.one_in(2) {
            self.durable.set_len(self.live.len());
        }
        for piece in self.pending.iter() {
            piece.parts().filter(|_| dice.one_in(2)).for_each(|part| piece.land(&mut self.durable, part));
        }
        (self.pending, self.lengths) = (Arc::default(), Arc::default());
        if !reads_back {
            self.live = self.durable.clone();
        }
    }

    fn rot(&mut self, offset: usize, mask: &[u8]) {
        for content in [&mut self.live, &mut self.durable] {
            let mut bytes = vec![0; mask.len()];
            let got = content.read(&mut bytes, offset);
            bytes.truncate(got);
            bytes.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
            if got > 0 {
                content.write(offset, Source::Bytes(&bytes));
            }
        }
    }
}

/// The state of a disk.
#[derive(Clone, Debug)]
pub(super) struct Platter {
    pub(super) names: Names,
    pub(super) files: Arc<BTreeMap<Inode, File>>,
}

impl Platter {
    /// An empty disk.
    pub(super) fn empty() -> Self {
        Self { names: Names::durable(Tree::new()), files: Arc::default() }
    }

    pub(super) fn node(&self, path: &Path) -> Option<Node> {
        if path == Path::new("/") {
            return Some(Node::Directory);
        }
        self.names.live().get(path).copied()
    }

    pub(super) fn file(&self, inode: Inode) -> Option<&File> {
        self.files.get(&inode)
    }

    /// Pages that take space: those of every file with a name.
    pub(super) fn allocated(&self) -> usize {
        let inodes = self.names.live().values().filter_map(|node| match node {
            Node::File(inode) => self.files.get(inode),
            Node::Directory => None,
        });
        inodes.map(|file| file.live.allocated()).sum()
    }

    /// Whether something is not stable: a power loss now has more than one outcome.
    pub(super) fn is_undecided(&self) -> bool {
        self.names.pending() > 0
            || self.files.values().any(|file| !file.pending.is_empty() || !file.lengths.is_empty())
    }

    /// How many names, lengths and sectors are undecided.
    pub(super) fn open_questions(&self) -> u64 {
        let of_file = |file: &File| {
            let parts: usize = file.pending.iter().map(|piece| piece.parts().count()).sum();
            parts.saturating_add(usize::from(!file.lengths.is_empty()))
        };
        let of_files: usize = self.files.values().map(of_file).sum();
        u64::try_from(self.names.pending().saturating_add(of_files)).unwrap_or(u64::MAX)
    }

    /// The state after an event.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { inode, path } => {
                Arc::make_mut(&mut self.files).insert(*inode, File::default());
                self.names.link(path.clone(), Node::File(*inode));
            }
            Event::CreateDir { path } => self.names.link(path.clone(), Node::Directory),
            Event::Rename { from, to } => self.names.rename(from.clone(), to.clone()),
            Event::Remove { path } => self.names.unlink(path.clone()),
            Event::SyncDir { path } => self.names.sync(path),
            Event::Write { inode, offset, payload, durable, fate } => {
                let piece = Piece { offset: *offset, payload: payload.clone(), fate: *fate };
                self.change(*inode, |file| file.write(piece, *durable));
            }
            Event::SetLen { inode, len } => self.change(*inode, |file| file.set_len(*len)),
            Event::Sync { inode } => self.change(*inode, File::sync),
            Event::SyncFailed { inode, seed, reads_back } => {
                self.change(*inode, |file| file.fail_sync(*seed, *reads_back));
            }
            Event::Rot { inode, offset, mask } => self.change(*inode, |file| file.rot(*offset, mask)),
            Event::Note(_) => {}
        }
    }

    fn change(&mut self, inode: Inode, change: impl FnOnce(&mut File)) {
        if let Some(file) = Arc::make_mut(&mut self.files).get_mut(&inode) {
            change(file);
        }
    }
}
