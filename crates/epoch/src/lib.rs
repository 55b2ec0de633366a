//! Work that waits until no reader is left who could need what it takes away: epochs, guards, and batches for one thief at
//! a time.
//!
//! **Concept.** Readers [`enter`](Epochs::enter) and hold a [`Guard`] while they look. Whoever takes something away first puts it
//! out of reach of new readers, then [`submit`](Epochs::submit)s the rest of the work as an item, which lands in the current
//! epoch. [`advance`](Epochs::advance) ends an epoch. An item is *due* when its epoch is over: it has ended and everybody who
//! entered in it, or before it, has left. Any thread may then [`try_steal`](Epochs::try_steal) all that is due and run it.
//!
//! **Guarantees.** Each item is handed out once, in a [`Batch`], and never while a guard is alive that was entered in its epoch
//! or before, nor while somebody is still submitting to its epoch: an epoch is handed out whole. What happened before a submit
//! is seen by every reader that enters in a later epoch; what a reader did happens before the items that waited for it. A panic
//! in an item or a thief loses no other item and leaves stealing enabled. No call waits for a reader. The argument, with its memory
//! orderings, stands in `epochs.rs`, and the models of `tests/models` hold it, mistakes built in included.
//!
//! **Limits.** One reader that stays inside holds back every item of its epoch and later ones; nothing here throws it out. Nobody
//! steals by itself: who submits calls [`run_due`](Epochs::run_due) some time. Two readers on one thread take two slots. Each
//! [`Epochs`] has 64 slots of 128 bytes or more, and makes more when more are inside at once.
//!
//! ```
//! use keepstone_epoch::Epochs;
//!
//! let epochs = Epochs::new();
//! let reader = epochs.enter();
//! epochs.submit("free the old page");
//! epochs.advance();
//! assert!(epochs.try_steal().is_none(), "the reader may still look at it");
//!
//! drop(reader);
//! let due: Vec<_> = epochs.try_steal().into_iter().flatten().map(|(_, item)| item).collect();
//! assert_eq!(due, ["free the old page"]);
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod batch;
mod deferred;
mod epoch;
mod epochs;
mod slots;
mod sync;
#[doc(hidden)]
pub mod wrong;

pub use batch::Batch;
pub use deferred::Deferred;
pub use epoch::Epoch;
pub use epochs::{Epochs, Guard};
