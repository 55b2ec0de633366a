//! What is found when the power is back: of everything that was not stable, what the choices kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::TEAR;
use super::choose::{Choose, Dice};
use super::content::{Content, Source};
use super::names::{Names, Node, by_choice};
use super::platter::{File, Piece, Platter};

/// How a power loss treats what was not stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tearing {
    /// Nothing of it is kept.
    LoseAll,
    /// All of it is kept.
    KeepAll,
    /// Each write, name and length is kept or lost whole.
    Whole,
    /// Each sector of 512 bytes is kept or lost by itself, in any order.
    Sectors,
    /// As [`Sectors`](Tearing::Sectors), but about one in eight is lost.
    LoseFew,
    /// As [`Sectors`](Tearing::Sectors), but about one in eight is kept.
    KeepFew,
    /// Each sector of 512 bytes that was being written is kept, lost, or holds noise: all of it, also the bytes that the
    /// write did not touch.
    Noise,
}

impl Tearing {
    /// One of them all.
    pub fn any(choose: &mut dyn Choose) -> Self {
        match choose.choose(9) {
            0 => Self::LoseAll,
            1 => Self::KeepAll,
            2 | 3 => Self::Whole,
            4 => Self::LoseFew,
            5 => Self::KeepFew,
            6 => Self::Noise,
            _ => Self::Sectors,
        }
    }

    fn keeps(self, choose: &mut dyn Choose) -> bool {
        match self {
            Self::LoseAll => false,
            Self::KeepAll => true,
            Self::Whole | Self::Sectors => choose.choose(2) == 1,
            Self::Noise | Self::LoseFew => choose.choose(8) != 0,
            Self::KeepFew => choose.choose(8) == 0,
        }
    }
}

impl Platter {
    /// What a power loss leaves: a state in which everything is stable.
    pub(super) fn after_power_loss(&self, tearing: Tearing, choose: &mut dyn Choose) -> Self {
        let tree = match tearing {
            Tearing::LoseAll => self.names.after_power_loss(&mut || false),
            Tearing::KeepAll => self.names.after_power_loss(&mut || true),
            _ => self.names.after_power_loss(&mut by_choice(choose)),
        };
        let mut files = BTreeMap::new();
        for node in tree.values() {
            let Node::File(inode) = node else { continue };
            if let Some(file) = self.files.get(inode) {
                files.insert(*inode, File::stable(file.found(tearing, choose)));
            }
        }
        Self { names: Names::durable(tree), files: Arc::new(files) }
    }
}

impl File {
    fn found(&self, tearing: Tearing, choose: &mut dyn Choose) -> Content {
        let mut content = self.durable.clone();
        if self.pending.is_empty() && self.lengths.is_empty() {
            return content;
        }
        content.set_len(self.length_found(tearing, choose));
        let mut parts: Vec<(&Piece, (usize, usize))> = Vec::new();
        for piece in self.pending.iter() {
            match tearing {
                Tearing::LoseAll => {}
                Tearing::KeepAll | Tearing::Whole => {
                    if tearing.keeps(choose) {
                        parts.extend(piece.parts().map(|part| (piece, part)));
                    }
                }
                Tearing::Sectors | Tearing::LoseFew | Tearing::KeepFew | Tearing::Noise => {
                    parts.extend(piece.parts().filter(|_| tearing.keeps(choose)).map(|part| (piece, part)));
                }
            }
        }
        let noise = if tearing == Tearing::Noise { self.noise(choose) } else { Vec::new() };
        if tearing != Tearing::KeepAll && self.overlaps() {
            shuffle(&mut parts, choose);
        }
        for (piece, part) in parts {
            piece.land(&mut content, part);
        }
        for (sector, seed) in noise {
            scramble(&mut content, sector, seed);
        }
        content
    }

    /// Sectors that were being written and hold noise now, each with the seed of it.
    fn noise(&self, choose: &mut dyn Choose) -> Vec<(usize, u64)> {
        let mut sectors = Vec::new();
        for piece in self.pending.iter() {
            for (from, _) in piece.parts() {
                if choose.one_in(4) {
                    sectors.push((piece.offset.saturating_add(from) / TEAR, choose.choose(u64::MAX)));
                }
            }
        }
        sectors
    }

    fn length_found(&self, tearing: Tearing, choose: &mut dyn Choose) -> usize {
        let (old, new) = (self.durable.len(), self.live.len());
        match tearing {
            Tearing::LoseAll => old,
            Tearing::KeepAll => new,
            _ => {
                let sides = u64::try_from(self.lengths.len()).unwrap_or(0).saturating_add(1);
                let chosen = usize::try_from(choose.choose(sides)).unwrap_or(0);
                chosen.checked_sub(1).and_then(|place| self.lengths.get(place)).copied().unwrap_or(old)
            }
        }
    }

    /// Whether two pending writes touch the same bytes, so that their order matters.
    fn overlaps(&self) -> bool {
        let ends = |piece: &Piece| (piece.offset, piece.offset.saturating_add(piece.payload.source().len()));
        let mut ranges: Vec<_> = self.pending.iter().map(ends).collect();
        ranges.sort_unstable();
        ranges.iter().zip(ranges.iter().skip(1)).any(|((_, end), (start, _))| start < end)
    }
}

/// Fills a sector with noise, as far as the file goes.
fn scramble(content: &mut Content, sector: usize, seed: u64) {
    let mut dice = Dice::new(seed);
    let offset = sector.saturating_mul(TEAR);
    let len = content.len().saturating_sub(offset).min(TEAR);
    let bytes: Vec<u8> = std::iter::repeat_with(|| dice.draw().to_le_bytes()).flatten().take(len).collect();
    content.write(offset, Source::Bytes(&bytes));
}

/// Puts the parts in any order.
fn shuffle<T>(parts: &mut [T], choose: &mut dyn Choose) {
    for last in (1..parts.len()).rev() {
        let sides = u64::try_from(last).unwrap_or(0).saturating_add(1);
        parts.swap(last, usize::try_from(choose.choose(sides)).unwrap_or(0));
    }
}
