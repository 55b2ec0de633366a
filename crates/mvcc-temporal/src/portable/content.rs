//! What the rows of a version add up to, whatever order and form they are in.
//!
//! Each row has a checksum over its table, key and value; the sum of them, which wraps, is that of the version. A row that
//! changes takes its old part away and adds its new one, so a delta knows the sum of its result without reading all of it,
//! and whoever puts a chain together knows at the end whether the right rows came out.

use keepstone_types::checksum::{checksum, checksum_seeded};

/// The rows of a version, counted and added up. Made from a file, it is what the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) rows: u64,
    pub(super) sum: u64,
}

fn part(table: &str, key: &[u8], value: &[u8]) -> u64 {
    checksum_seeded(checksum_seeded(checksum(table.as_bytes()), key), value)
}

impl Content {
    pub(super) fn add(&mut self, table: &str, key: &[u8], value: &[u8]) {
        self.rows = self.rows.saturating_add(1);
        self.sum = self.sum.wrapping_add(part(table, key, value));
    }

    pub(super) fn take(&mut self, table: &str, key: &[u8], value: &[u8]) {
        self.rows = self.rows.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(part(table, key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_rows_in_any_order() {
        let mut one = Content::default();
        one.add("t", b"a", b"1");
        one.add("t", b"b", b"2");
        let mut other = Content::default();
        other.add("t", b"b", b"x");
        other.add("t", b"a", b"1");
        other.take("t", b"b", b"x");
        other.add("t", b"b", b"2");
        assert_eq!(one, other);
        for (table, key, value) in [("u", "b", "2"), ("t", "b2", ""), ("t", "", "b2"), ("tb", "", "2")] {
            let mut third = Content::default();
            third.add("t", b"a", b"1");
            third.add(table, key.as_bytes(), value.as_bytes());
            assert_ne!(third.sum, one.sum, "{table} {key} {value}");
        }
    }
}
