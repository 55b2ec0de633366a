//! The vocabulary of Keepstone: what every other crate speaks, and no I/O.
//!
//! * [`Version`], [`Timeline`] and [`Lsn`] number commits and log records.
//! * [`PageRef`] leads to a page and proves its content; [`PageId`] and [`Generation`] are its parts.
//! * [`NodeId`], [`StoreId`] and [`Address`] name things.
//! * [`Fingerprint`] is a binary vector with Hamming distance.
//! * [`Timestamp`] and [`Clock`] are time, replaceable in tests.
//! * [`ValueRef`] is how bytes are handed out: owned, cheap to clone, valid after anything.
//! * [`KeyCodec`] turns typed keys into bytes that sort the same way.
//! * [`checksum`], [`wire`] and [`layout`] are what on-disk formats are written and read with.
//! * [`sync`] and [`lock_rank`] are every lock of the product, ranked so that no two threads can wait for each other.
//!
//! ```
//! use keepstone_types::{NodeId, Timeline, Version};
//!
//! let version: Version = "2:17".parse()?;
//! assert_eq!(version.timeline(), Timeline::new(2));
//! assert_eq!(version.sequence(), 17);
//! assert_eq!(version.to_string(), "2:17");
//!
//! let id: NodeId = "00112233445566778899aabbccddeeff".parse()?;
//! assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod address;
pub mod checksum;
mod codec;
mod fingerprint;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
pub mod layout;
pub mod lock_rank;
mod lsn;
#[cfg(any(test, feature = "wrong-variants"))]
pub mod mistake;
mod page;
pub mod sync;
mod time;
mod value;
mod version;
pub mod wire;

pub use address::{Address, AddressRegion, ParseAddressError};
pub use codec::{CodecId, KeyCodec, KeyError};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use id::{NodeId, ParseIdError, StoreId, TimeOrderedIds};
pub use lsn::Lsn;
pub use page::{Generation, PageId, PageRef};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use value::{Packer, ValueChunk, ValueRef};
pub use version::{ParseVersionError, Timeline, Version};
