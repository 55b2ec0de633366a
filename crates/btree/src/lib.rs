//! An ordered map from byte keys to byte values on copy-on-write pages.
//!
//! **Concept.** A tree is a [`TreeRoot`]: a reference to a page that leads to all others, each reference proving the content
//! of its page. [`merge`] makes a new root from an old one and sorted edits; a [`Builder`] makes one from rows in order. Both
//! write pages of one generation through [`PageWrite`](keepstone_pager::PageWrite) and free what the new tree does without.
//! [`Tree`] and [`Cursor`] read through [`PageRead`](keepstone_pager::PageRead). Values longer than two sevenths of a page
//! ([`inline_len_max`]) have pages of their own, a [`Chain`]; a row can hand its chain to another row.
//!
//! **Guarantees.** A page is written once, when everything below it is, and never changed. A root can be read as long as the
//! pages of its generation are kept. Bytes that are read are not trusted, though their checksum is right: damage is an error
//! that names the page, never a panic, and nothing makes a cursor or a walk go round. [`walk`] checks everything that must be
//! true of a tree. A cursor takes no memory for a row.
//!
//! **Limits.** Keys have at most a fifth of a page's payload ([`key_len_max`]), values at most [`VALUE_LEN_MAX`]. Only content
//! that grows at its end leaves full pages behind when it is merged; descending loads leave them half full. After an error in
//! the midst of writing, the generation being built must be given up. There are no locks here: who writes does so alone.
//!
//! ```
//! use keepstone_btree::{Builder, Fill, NewValue, Tree};
//! use keepstone_pager::MemoryPages;
//! use keepstone_types::ValueRef;
//!
//! let mut pages = MemoryPages::new(4_056);
//! let mut builder = Builder::new(&mut pages, Fill::FULL);
//! for (key, value) in [("ash", "grey"), ("oak", "brown"), ("yew", "red")] {
//!     builder.push(key.as_bytes(), NewValue::bytes(ValueRef::copy_from(value.as_bytes())))?;
//! }
//! let root = builder.finish()?;
//!
//! let mut cursor = Tree::new(&pages, root).cursor();
//! cursor.seek(b"b")?;
//! assert_eq!((cursor.key(), cursor.head()), (Some(&b"oak"[..]), &b"brown"[..]));
//! cursor.previous()?;
//! assert_eq!(cursor.key(), Some(&b"ash"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod builder;
mod chain;
mod cursor;
mod error;
#[cfg(test)]
mod format_doc;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod inner;
mod items;
mod keys;
mod layout;
mod leaf;
mod limits;
mod merge;
mod relocate;
mod root;
mod run;
mod tree;
mod value;
mod walk;

pub use builder::Builder;
pub use chain::{CHAIN_HEAD_LEN, Chain};
pub use cursor::Cursor;
pub use error::TreeError;
pub use limits::{
    Fill, HEIGHT_MAX, PAYLOAD_LEN_MAX, PAYLOAD_LEN_MIN, VALUE_LEN_MAX, inline_len_max, key_len_max,
};
pub use merge::merge;
pub use relocate::{free_tree, relocate, relocate_without_values};
pub use root::TreeRoot;
pub use run::{LeafRun, RunRow};
pub use tree::Tree;
pub use value::{Decision, Edit, Found, NewValue, Prefix, Stored};
pub use walk::{TreeShape, walk};
