//! The queue of a service whose backends are all full: one for all workers, first come, first served.
//!
//! Whoever finds no place gets in line, and whoever comes later gets in behind. Each place that is given back, and each
//! change of the backends, serves the line from its head; a place that is found goes by mail to the worker that holds the
//! client. Entering takes the line's lock and looks for a place once more, so none that came free meanwhile is missed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, BackendGuard};
use crate::choice::Miss;
use crate::counters::WorkerId;
use crate::poll::Wake;
use crate::slab::Key;

/// Clients that may wait at a service whose backends' limits are smaller than that.
const SMALLEST_BOUND: u64 = 1024;

/// How many may wait at backends that take so many connections together: as many as they can be given within one more
/// round of connections.
pub(crate) fn bound(room: Option<u64>) -> usize {
    usize::try_from(room.unwrap_or(0).max(SMALLEST_BOUND)).unwrap_or(usize::MAX)
}

/// A client in line.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) client: IpAddr,
    pub(crate) tried: Vec<Arc<Backend>>,
    pub(crate) worker: WorkerId,
    /// Under which its worker knows it.
    pub(crate) key: Key,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// A place in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// What came of waiting: a place, or that there is no backend any more.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) key: Key,
    pub(crate) place: Option<BackendGuard>,
}

/// The line.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Gets in line behind everybody; `None`: so many as `bound` wait already. The line is to be served then.
    pub(crate) fn enter(&self, waiter: Waiter, bound: usize) -> Option<Ticket> {
        let mut line = self.line();
        if line.waiters.len() >= bound {
            return None;
        }
        let ticket = line.next;
        line.next += 1;
        line.waiters.insert(ticket, waiter);
        self.waiting.store(line.waiters.len(), SeqCst);
        Some(Ticket(ticket))
    }

    /// Leaves the line, if still in it.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let mut line = self.line();
        line.waiters.remove(&ticket.0);
        self.waiting.store(line.waiters.len(), SeqCst);
    }

    /// Gives whoever is in line a place while `find` has one, in order. Who has tried some of the backends may find none
    /// where the one behind does.
    pub(crate) fn serve(&self, find: impl Fn(&Waiter) -> Result<BackendGuard, Miss>) {
        if self.len() == 0 {
            return;
        }
        let mut line = self.line();
        let mut from = 0;
        while let Some((ticket, waiter)) = line.waiters.range(from..).next() {
            from = *ticket + 1;
            let place = match find(waiter) {
                Ok(place) => Some(place),
                Err(Miss::Nobody) => None,
                Err(Miss::Full) if waiter.tried.is_empty() => break,
                Err(Miss::Full) => continue,
            };
            let ticket = *ticket;
            if let Some(Waiter { key, mailbox, .. }) = line.waiters.remove(&ticket) {
                mailbox.put(Answer { key, place });
            }
        }
        self.waiting.store(line.waiters.len(), SeqCst);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a worker finds the answers to its clients.
#[derive(Debug)]
pub(crate) struct Mailbox {
    answers: Mutex<Vec<Answer>>,
    wake: Arc<Wake>,
}

impl Mailbox {
    pub(crate) fn new(wake: Arc<Wake>) -> Self {
        Mailbox { answers: Mutex::default(), wake }
    }

    fn put(&self, answer: Answer) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        self.wake.signal();
    }

    pub(crate) fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
