//! What a root of the page file says of the store: how far the log is folded, and where the trees are. `FORMAT.md` draws
//! it; it stands in the header of the page file.
//!
//! Invariants:
//! * Everything through `through` is folded, and so are some rows through `folded`, which is not below it. A checkpoint
//!   that is done leaves both equal.
//! * Records of the log through `through_lsn` are not needed; the log reaches at least through `folded_lsn`.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_btree::TreeRoot;
use keepstone_types::wire::Reader;
use keepstone_types::{Generation, Lsn, Timeline, Timestamp, Version};

/// The fields in order, each with its length and meaning: what `FORMAT.md` is rendered from.
#[cfg(test)]
pub(crate) const META_FIELDS: &[(usize, &str)] = &[
    (8, "through: everything at or below this version is folded"),
    (8, "its commit time, microseconds since the Unix epoch"),
    (8, "the LSN of its record"),
    (8, "folded: the newest version of which any row is folded"),
    (8, "the LSN of its record"),
    (8, "floor: versions below it may be pruned"),
    (6, "the first generation of the checkpoint that is under way, or was last"),
    (2, "the timeline of the log at `through`"),
    (TreeRoot::LEN, "tree of tables: number, big-endian, to the root of its tree"),
    (TreeRoot::LEN, "tree of older versions"),
    (TreeRoot::LEN, "tree of commits"),
    (1, "forms of older rows beside whole ones, a bit each: 1 for entries of chains"),
    (7, "reserved, zero"),
];

const RESERVED_LEN: usize = 7;

/// The bit of entries of chains among the forms of older rows.
pub(crate) const CHAINS: u8 = 1;

/// What a root says of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) through: Version,
    pub(crate) through_time: Timestamp,
    pub(crate) through_lsn: Lsn,
    pub(crate) folded: Version,
    pub(crate) folded_lsn: Lsn,
    pub(crate) floor: Version,
    /// The first generation of the checkpoint that is under way, or was last: rows above `through` are in pages that are
    /// not older.
    pub(crate) begun: Generation,
    pub(crate) timeline: Timeline,
    pub(crate) tables: TreeRoot,
    pub(crate) history: TreeRoot,
    pub(crate) commits: TreeRoot,
    /// Forms of older rows beside whole ones: a build that does not know one must not take its rows for others.
    pub(crate) forms: u8,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        for number in [
            self.through.to_raw(),
            self.through_time.as_micros(),
            self.through_lsn.get(),
            self.folded.to_raw(),
            self.folded_lsn.get(),
            self.floor.to_raw(),
        ] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.begun.to_bytes());
        out.extend(self.timeline.get().to_le_bytes());
        for root in [&self.tables, &self.history, &self.commits] {
            out.extend(root.to_bytes());
        }
        out.push(self.forms);
        out.extend([0; RESERVED_LEN]);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; no bytes at all are an empty store.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        let meta = Self::read(&mut reader).map_err(|error| error.to_string())?;
        if !reader.is_empty() {
            return Err(format!("{} bytes too many", reader.rest().len()));
        }
        if meta.through > meta.folded || meta.through_lsn > meta.folded_lsn || meta.floor > meta.folded {
            return Err(format!(
                "through version {} (record {}), folded {} (record {}), floor {}: out of order",
                meta.through, meta.through_lsn, meta.folded, meta.folded_lsn, meta.floor
            ));
        }
        Ok(meta)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Box<dyn std::error::Error>> {
        let meta = Self {
            through: Version::from_raw(reader.u64()?),
            through_time: Timestamp::from_micros(reader.u64()?),
            through_lsn: Lsn::new(reader.u64()?),
            folded: Version::from_raw(reader.u64()?),
            folded_lsn: Lsn::new(reader.u64()?),
            floor: Version::from_raw(reader.u64()?),
            begun: Generation::from_bytes(reader.array()?),
            timeline: Timeline::new(reader.u16()?),
            tables: TreeRoot::read(reader)?,
            history: TreeRoot::read(reader)?,
            commits: TreeRoot::read(reader)?,
            forms: reader.u8()?,
        };
        if meta.forms & !CHAINS != 0 {
            let forms = meta.forms;
            return Err(format!("older rows in forms {forms:#04x}, expected none beside {CHAINS:#04x}; a newer build made them").into());
        }
        if reader.array::<RESERVED_LEN>()? != [0; RESERVED_LEN] {
            return Err("reserved bytes that are not zero".into());
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            through: Version::from_raw(7),
            through_time: Timestamp::from_micros(70),
            through_lsn: Lsn::new(8),
            folded: Version::from_raw(9),
            folded_lsn: Lsn::new(10),
            floor: Version::from_raw(3),
            begun: Generation::new(4).unwrap(),
            timeline: Timeline::new(0),
            forms: CHAINS,
            ..Meta::default()
        }
    }

    #[test]
    fn round_trips_and_has_the_length_of_its_fields() {
        let bytes = meta().encode();
        assert_eq!(bytes.len(), META_FIELDS.iter().map(|(len, _)| len).sum::<usize>());
        assert_eq!(Meta::decode(&bytes), Ok(meta()));
        assert_eq!(Meta::decode(&[]), Ok(Meta::default()));
    }

    #[test]
    fn what_is_cut_longer_or_out_of_order_is_refused() {
        let bytes = meta().encode();
        for len in 1..bytes.len() {
            assert!(Meta::decode(&bytes[..len]).is_err(), "{len}");
        }
        assert!(Meta::decode(&[&bytes[..], &[0]].concat()).is_err());
        let ahead = Meta { through: Version::from_raw(10), ..meta() };
        assert!(Meta::decode(&ahead.encode()).unwrap_err().contains("out of order"));
        let mut reserved = bytes.clone();
        *reserved.last_mut().unwrap() = 1;
        assert!(Meta::decode(&reserved).unwrap_err().contains("reserved"));
        let mut newer = bytes;
        let forms = newer.len() - RESERVED_LEN - 1;
        newer[forms] = 4;
        assert!(Meta::decode(&newer).unwrap_err().contains("forms 0x04"));
    }
}
