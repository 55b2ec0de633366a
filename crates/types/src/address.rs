//! The 16-bit address view of a store: an 8-bit prefix that says what kind of place it is, and an 8-bit slot.

use std::fmt;
use std::str::FromStr;

/// What kind of place an address is; its prefix decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressRegion {
    /// Prefixes `0x00` to `0x0F`: fixed operations.
    Surface,
    /// Prefixes `0x10` to `0x7F`: working memory whose entries expire.
    Fluid,
    /// Prefixes `0x80` to `0xFF`: nodes that stay.
    Node,
}

/// A place in the 16-bit address view: `prefix × 256 + slot`, printed as four hexadecimal digits such as `80:0a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(u16);

impl Address {
    /// The address of a prefix and a slot.
    #[must_use]
    pub const fn new(prefix: u8, slot: u8) -> Self {
        Self(u16::from_be_bytes([prefix, slot]))
    }

    /// The address with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The upper eight bits.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        let [prefix, _] = self.0.to_be_bytes();
        prefix
    }

    /// The lower eight bits.
    #[must_use]
    pub const fn slot(self) -> u8 {
        let [_, slot] = self.0.to_be_bytes();
        slot
    }

    /// What kind of place this is.
    #[must_use]
    pub const fn region(self) -> AddressRegion {
        match self.prefix() {
            0x00..=0x0F => AddressRegion::Surface,
            0x10..=0x7F => AddressRegion::Fluid,
            0x80..=0xFF => AddressRegion::Node,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}", self.prefix(), self.slot())
    }
}

/// A text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: expected PREFIX:SLOT in two hexadecimal digits each, such as 80:0a")]
pub struct ParseAddressError {
    /// What was found.
    pub text: String,
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseAddressError { text: text.to_owned() };
        let part = |part: &str| match part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => u8::from_str_radix(part, 16).map_err(|_| error()),
            false => Err(error()),
        };
        let (prefix, slot) = text.split_once(':').ok_or_else(error)?;
        Ok(Self::new(part(prefix)?, part(slot)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_65536_addresses_have_a_region_and_round_trip() {
        let mut counts = [0_u32; 3];
        for number in 0..=u16::MAX {
            let address = Address::from_number(number);
            assert_eq!(Address::new(address.prefix(), address.slot()), address);
            assert_eq!(address.to_string().parse(), Ok(address));
            let (region, first, last) = match address.region() {
                AddressRegion::Surface => (0, 0x0000, 0x0FFF),
                AddressRegion::Fluid => (1, 0x1000, 0x7FFF),
                AddressRegion::Node => (2, 0x8000, 0xFFFF),
            };
            assert!((first..=last).contains(&number), "{address}");
            counts[region] += 1;
        }
        assert_eq!(counts, [4_096, 28_672, 32_768]);
    }

    #[test]
    fn refuses_what_is_not_an_address() {
        for text in ["", "80", "800a", "80:", "80:0", "80:0g", "80:00a", "+8:00", "80:0a:00"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
