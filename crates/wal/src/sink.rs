//! The layer above the log, called at the moments of a record's way.

use std::convert::Infallible;

use keepstone_types::Lsn;

/// What the layer above does when a record is admitted, written and durable.
///
/// Order: queue order is LSN order is the order of [`apply`](LogSink::apply) and [`publish`](LogSink::publish). Only one
/// thread at a time is in `apply` or `publish`; [`durable`](LogSink::durable) is called by one thread
/// at a time too, with LSNs that never fall.
///
/// A panic in any of these poisons the log: it takes no more records until it is opened again.
pub trait LogSink: Send + Sync + 'static {
    /// State guarded by the queue's own lock.
    type Admission: Send;
    /// What travels with a queued record.
    type Item: Send;
    /// Why a record is refused.
    type Refusal: Send;

    /// Step 1, under the queue's lock, with room reserved: gives the record its place, and fills `head`, the first
    /// [`head_len`](crate::LogOptions#structfield.head_len) bytes of its payload. Must be short and must not call the log.
    ///
    /// # Errors
    /// A refusal; the record is then not queued.
    fn admit(
        &self,
        admission: &mut Self::Admission,
        lsn: Lsn,
        head: &mut [u8],
        item: &mut Self::Item,
    ) -> Result<(), Self::Refusal>;

    /// Step 2, the leader only: room on disk is secured and the write follows.
    fn apply(&self, lsn: Lsn, item: Self::Item);

    /// Step 3, the leader only: everything through `lsn` is as durable as was asked; make it visible.
    fn publish(&self, lsn: Lsn);

    /// Everything through `lsn` is on stable storage: with `Normal` and `Full` just before it is published, so that nothing
    /// is seen that is not called durable; with `Relaxed` and `None` later.
    fn durable(&self, lsn: Lsn);

    /// Nothing was written of a record, and it fails: take back what [`admit`](LogSink::admit) did. Under the queue's
    /// lock, newest first.
    fn revoke(&self, admission: &mut Self::Admission, item: Self::Item);
}

/// No layer above: the log used alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl LogSink for NoSink {
    type Admission = ();
    type Item = ();
    type Refusal = Infallible;

    fn admit(&self, (): &mut (), _lsn: Lsn, _head: &mut [u8], (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn apply(&self, _lsn: Lsn, (): ()) {}

    fn publish(&self, _lsn: Lsn) {}

    fn durable(&self, _lsn: Lsn) {}

    fn revoke(&self, (): &mut (), (): ()) {}
}
