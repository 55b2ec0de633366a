//! Pins: named, byte-bounded holds on the log, which outlive the process.
//!
//! The file `pins` also says what was released, so that a missing segment can be told from a released one, how far the log
//! had come when it was opened last, so that neither a missing last segment goes unnoticed nor a timeline is begun twice
//! when what began it is lost, and which store the folder belongs to.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use keepstone_types::checksum::checksum;
use keepstone_types::wire::{Reader, Truncated};
use keepstone_types::{Lsn, StoreId, Timeline};
use keepstone_vfs::{IoError, Vfs, VfsExt};

use crate::error::{Damage, OpenError, PinError};
use crate::layout::{Field, is_zero};
use crate::sync::Arc;

/// The file's name.
pub(crate) const PINS: &str = "pins";
/// What the file begins with.
pub(crate) const PINS_MAGIC: [u8; 8] = *b"KSWALPIN";
/// The format that is written, and the last that is read.
const FORMAT: u32 = 0;
/// The most pins.
pub(crate) const PINS_MAX: usize = 1_000;
/// Characters of a name that an error prints.
const NAME_CHARS_TOLD: usize = 32;
/// The longest name in bytes.
pub(crate) const NAME_LEN_MAX: usize = 255;

pub(crate) const MAGIC: Field = Field::first("magic", 8, "`KSWALPIN`");
pub(crate) const CHECKSUM: Field = MAGIC.then("checksum", 8, "of all that follows, no seed");
pub(crate) const FORMAT_VERSION: Field = CHECKSUM.then("format", 4, "0: unstable");
pub(crate) const COUNT: Field = FORMAT_VERSION.then("count", 4, "pins that follow");
pub(crate) const STORE: Field = COUNT.then("store", 16, "id of the store");
pub(crate) const RELEASED: Field = STORE.then("released", 8, "all through this LSN may be gone");
pub(crate) const SEGMENT: Field =
    RELEASED.then("segment", 8, "a segment of this number or a later one is there");
pub(crate) const REACHED: Field = SEGMENT.then("reached", 8, "the next LSN when the log was opened last");
pub(crate) const TIMELINE: Field = REACHED.then("timeline", 2, "the timeline then");
pub(crate) const RESERVED: Field = TIMELINE.then("reserved", 6, "zero");
#[cfg(test)]
pub(crate) const PINS_FIELDS: [Field; 10] =
    [MAGIC, CHECKSUM, FORMAT_VERSION, COUNT, STORE, RELEASED, SEGMENT, REACHED, TIMELINE, RESERVED];
/// Bytes before the first pin.
pub(crate) const PINS_HEADER_LEN: usize = RESERVED.end();

pub(crate) const PIN_FROM: Field = Field::first("from", 8, "the first LSN that is held");
pub(crate) const PIN_BYTES: Field = PIN_FROM.then("bytes", 8, "the most bytes it may hold");
pub(crate) const PIN_LOST: Field = PIN_BYTES.then("lost", 1, "1: it held more and let go");
pub(crate) const PIN_NAME_LEN: Field = PIN_LOST.then("name length", 1, "bytes of its name, which follows");
#[cfg(test)]
pub(crate) const PIN_FIELDS: [Field; 4] = [PIN_FROM, PIN_BYTES, PIN_LOST, PIN_NAME_LEN];
const PIN_LEN: usize = PIN_NAME_LEN.end();

/// The longest file that this build writes.
const FILE_LEN_MAX: u64 = 1 << 20;
const _: () = assert!(PINS_HEADER_LEN == 72 && PIN_LEN == 18);

/// A pin as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinState {
    pub(crate) from: u64,
    pub(crate) max_bytes: u64,
    pub(crate) lost: bool,
}

/// How far a log had come when it was opened last: written after the segment that it goes on in has its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The segment it went on in.
    pub(crate) segment: u64,
    /// The next LSN.
    pub(crate) next_lsn: u64,
    pub(crate) timeline: Timeline,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinsFile {
    pub(crate) store: StoreId,
    pub(crate) released: u64,
    pub(crate) reach: Reach,
    pub(crate) pins: BTreeMap<String, PinState>,
}

/// The first LSN that any pin holds.
pub(crate) fn held_from(pins: &BTreeMap<String, PinState>) -> u64 {
    pins.values().filter(|pin| !pin.lost).map(|pin| pin.from).min().unwrap_or(u64::MAX)
}

enum Fault {
    Newer(u32),
    Bytes(String),
}

impl From<Truncated> for Fault {
    fn from(truncated: Truncated) -> Self {
        Self::Bytes(truncated.to_string())
    }
}

impl PinsFile {
    /// Of a log that has neither pins nor releases.
    pub(crate) fn new(store: StoreId) -> Self {
        Self { store, released: 0, reach: Reach::default(), pins: BTreeMap::new() }
    }

    /// All through it may be gone: it was released, and no pin held it.
    pub(crate) fn gone(&self) -> u64 {
        self.released.min(held_from(&self.pins).saturating_sub(1))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; PINS_HEADER_LEN];
        MAGIC.put(&mut bytes, &PINS_MAGIC);
        FORMAT_VERSION.put(&mut bytes, &FORMAT.to_le_bytes());
        COUNT.put(&mut bytes, &u32::try_from(self.pins.len()).unwrap_or(u32::MAX).to_le_bytes());
        STORE.put(&mut bytes, &self.store.to_bytes());
        RELEASED.put(&mut bytes, &self.released.to_le_bytes());
        SEGMENT.put(&mut bytes, &self.reach.segment.to_le_bytes());
        REACHED.put(&mut bytes, &self.reach.next_lsn.to_le_bytes());
        TIMELINE.put(&mut bytes, &self.reach.timeline.get().to_le_bytes());
        for (name, pin) in &self.pins {
            let mut head = [0; PIN_LEN];
            PIN_FROM.put(&mut head, &pin.from.to_le_bytes());
            PIN_BYTES.put(&mut head, &pin.max_bytes.to_le_bytes());
            PIN_LOST.put(&mut head, &[u8::from(pin.lost)]);
            PIN_NAME_LEN.put(&mut head, &[u8::try_from(name.len()).unwrap_or(u8::MAX)]);
            bytes.extend(head);
            bytes.extend(name.as_bytes());
        }
        let sum = checksum(bytes.get(CHECKSUM.end()..).unwrap_or_default());
        CHECKSUM.put(&mut bytes, &sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        let header = reader.bytes(PINS_HEADER_LEN)?;
        if MAGIC.bytes(header) != PINS_MAGIC {
            return Err(Fault::Bytes("another magic".to_owned()));
        }
        let sum = checksum(bytes.get(CHECKSUM.end()..).unwrap_or_default());
        if CHECKSUM.u64(header) != sum {
            let found = CHECKSUM.u64(header);
            return Err(Fault::Bytes(format!("checksum {found:#018x} instead of {sum:#018x}")));
        }
        if FORMAT_VERSION.u32(header) > FORMAT {
            return Err(Fault::Newer(FORMAT_VERSION.u32(header)));
        }
        if !is_zero(RESERVED.bytes(header)) {
            return Err(Fault::Bytes("reserved bytes that are not zero".to_owned()));
        }
        let mut pins = BTreeMap::new();
        for _ in 0..COUNT.u32(header) {
            let head = reader.bytes(PIN_LEN)?;
            let [len] = PIN_NAME_LEN.array(head);
            let name = std::str::from_utf8(reader.bytes(usize::from(len))?)
                .map_err(|error| Fault::Bytes(format!("a name that is not UTF-8: {error}")))?;
            // Of two pins of one name the second would end the hold of the first without a word.
            if pins.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name) {
                // Escaped, a long name would fill a screen.
                let name: String = name.chars().take(NAME_CHARS_TOLD).collect();
                return Err(Fault::Bytes(format!("the pin {name:?} out of the order of names")));
            }
            let lost = match PIN_LOST.bytes(head) {
                [0] => false,
                [1] => true,
                other => return Err(Fault::Bytes(format!("{other:?} for whether a pin is lost"))),
            };
            let pin = PinState { from: PIN_FROM.u64(head), max_bytes: PIN_BYTES.u64(head), lost };
            pins.insert(name.to_owned(), pin);
        }
        if !reader.is_empty() {
            return Err(Fault::Bytes(format!("{} bytes after the last pin", reader.rest().len())));
        }
        let store = StoreId::from_bytes(STORE.array(header));
        let (segment, next_lsn) = (SEGMENT.u64(header), REACHED.u64(header));
        let reach = Reach { segment, next_lsn, timeline: Timeline::new(TIMELINE.u16(header)) };
        Ok(Self { store, released: RELEASED.u64(header), reach, pins })
    }

    /// Reads the file of a folder, if there is one.
    pub(crate) fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(PINS);
        let bytes = match vfs.read_file(&path, FILE_LEN_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match Self::decode(&bytes) {
            Ok(pins) => Ok(Some(pins)),
            Err(Fault::Newer(found)) => Err(OpenError::NewerFormat { file: path, found, supported: FORMAT }),
            Err(Fault::Bytes(found)) => {
                let damage = Damage::new(path, 0, "what pins and releases the log has", found);
                Err(OpenError::Damaged { damage: Box::new(damage), next_lsn: Lsn::FIRST })
            }
        }
    }

    /// Replaces the file of a folder, durably.
    pub(crate) fn write(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), IoError> {
        vfs.replace_file(&dir.join(PINS), &self.encode())
    }
}

/// What is known of a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinInfo {
    /// Its name.
    pub name: String,
    /// The first record it holds.
    pub from: Lsn,
    /// The bytes of segments and side files it may hold.
    pub max_bytes: u64,
    /// The bytes it holds now.
    pub held_bytes: u64,
    /// It held more than it may and let go.
    pub lost: bool,
}

/// Moves and removes pins: what a [`Pin`] needs of its log.
pub(crate) trait PinKeeper: Send + Sync {
    fn advance_pin(&self, name: &str, to: Lsn) -> Result<(), PinError>;
    fn remove_pin(&self, name: &str) -> Result<(), PinError>;
}

/// A named hold on the log from a record on.
///
/// It is stored in the log's folder and stays when the handle is dropped and when the process ends, until it is
/// [released](Pin::release) or holds more bytes than it may.
#[derive(Clone)]
pub struct Pin {
    pub(crate) name: String,
    pub(crate) keeper: Arc<dyn PinKeeper>,
}

impl Pin {
    /// The pin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Holds only from `to` on; moving backwards changes nothing.
    ///
    /// # Errors
    /// [`PinError::Lost`] when the pin let go, [`PinError::Unknown`] when it was released, or the disk's refusal.
    pub fn advance(&self, to: Lsn) -> Result<(), PinError> {
        self.keeper.advance_pin(&self.name, to)
    }

    /// Removes the pin.
    ///
    /// # Errors
    /// [`PinError::Unknown`] when it was released before, or the disk's refusal.
    pub fn release(self) -> Result<(), PinError> {
        self.keeper.remove_pin(&self.name)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_do_not_ascend_and_flags_that_are_none_are_refused() {
        let state = PinState { from: 1, max_bytes: 2, lost: false };
        let pins = BTreeMap::from([("a".to_owned(), state.clone()), ("b".to_owned(), state)]);
        let file =
            PinsFile { store: StoreId::from_bytes([3; 16]), released: 7, reach: Reach::default(), pins };
        let second = PINS_HEADER_LEN + PIN_LEN + 1;
        for (at, byte, expected) in [
            (second + PIN_LEN, b'a', "the pin \"a\" out of the order of names"),
            (PINS_HEADER_LEN + PIN_LEN, b'c', "the pin \"b\" out of the order of names"),
            (second + PIN_LOST.offset, 2, "[2] for whether a pin is lost"),
        ] {
            let mut bytes = file.encode();
            bytes[at] = byte;
            let sum = checksum(&bytes[CHECKSUM.end()..]);
            CHECKSUM.put(&mut bytes, &sum.to_le_bytes());
            let Err(Fault::Bytes(found)) = PinsFile::decode(&bytes) else { panic!("was read: {expected}") };
            assert_eq!(found, expected);
        }
    }

    proptest! {
        #[test]
        fn the_file_round_trips_and_notices_every_change(
            released: u64, segment: u64, next_lsn: u64, timeline: u16,
            pins in prop::collection::btree_map(".{1,20}", (any::<u64>(), any::<u64>(), any::<bool>()), 0..5),
            at: prop::sample::Index, change in 1..=u8::MAX,
        ) {
            let pins = pins
                .into_iter()
                .map(|(name, (from, max_bytes, lost))| (name, PinState { from, max_bytes, lost }))
                .collect();
            let reach = Reach { segment, next_lsn, timeline: Timeline::new(timeline) };
            let file = PinsFile { store: StoreId::from_bytes([3; 16]), released, reach, pins };
            let mut bytes = file.encode();
            prop_assert!(matches!(PinsFile::decode(&bytes), Ok(found) if found == file));
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(PinsFile::decode(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(PinsFile::decode(&bytes).is_err());
        }
    }
}
