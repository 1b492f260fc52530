//! What is checked and what came back: the plain data that monitor, probe and book exchange. No behaviour, no I/O.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::{BackendId, Check, Passive};

/// One backend and how its health is found out. Equal targets are the same to a reload: nothing about them moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub id: BackendId,
    /// Where clients are sent; the check goes there too unless `check.port` says otherwise.
    pub address: SocketAddr,
    pub check: Check,
    pub passive: Passive,
}

/// Tells the results of a target from late ones of the target it replaced. Handed out by [`crate::Book::reconcile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub(crate) u64);

/// What one attempt says about the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    /// This host could not make the attempt (no descriptor, no local port): it says nothing about the backend. Too many
    /// of these in a row make the entry stale.
    NotMade,
}

/// The end of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// What was tried and what came back, e.g. `connect to 10.84.14.2:8082: refused in 0.3 ms`.
    pub detail: String,
    pub took: Duration,
}

/// An [`Outcome`] on its way to the book.
#[derive(Debug, Clone)]
pub struct Report {
    pub id: BackendId,
    pub epoch: Epoch,
    pub outcome: Outcome,
    /// When the attempt ended.
    pub at: Instant,
}
