//! The queue of a service whose backends are all full: one for all workers, first come, first served.
//!
//! Whoever finds no place gets in line, and whoever comes later gets in behind. Each place that is given back, and each
//! change of the backends, serves the line from its head; a place that is found goes by mail to the worker that holds the
//! client. Entering takes the line's lock and looks for a place once more, so none that came free meanwhile is missed.
//!
//! A client whose stream has ended may wait for an answer all the same, or be gone: a close looks just like a half-close
//! until something is sent. So it is not thrown out, but steps back behind everybody whose stream has not ended, and when
//! there is no room for one more, the last of those makes it.

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

impl Ticket {
    /// Tickets from this on are of those who stepped back.
    const BACK: u64 = 1 << 63;
}

/// What came of waiting.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) key: Key,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Place(BackendGuard),
    /// There is no backend any more.
    Nobody,
    /// It had stepped back, and somebody else needed its room.
    Crowded,
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

    /// Gets in line behind everybody but those who stepped back; `None`: so many as `bound` wait already. The line is to be
    /// served then.
    pub(crate) fn enter(&self, waiter: Waiter, bound: usize) -> Option<Ticket> {
        let mut line = self.line();
        if line.waiters.len() >= bound {
            let (last, _) = line.waiters.range(Ticket::BACK..).next_back()?;
            let last = *last;
            if let Some(Waiter { key, mailbox, .. }) = line.waiters.remove(&last) {
                mailbox.put(Answer { key, outcome: Outcome::Crowded });
            }
        }
        let ticket = line.next;
        line.next += 1;
        line.waiters.insert(ticket, waiter);
        self.waiting.store(line.waiters.len(), SeqCst);
        Some(Ticket(ticket))
    }

    /// Behind everybody, for good. The new ticket, if it is still in line.
    pub(crate) fn step_back(&self, ticket: Ticket) -> Option<Ticket> {
        let mut line = self.line();
        let waiter = line.waiters.remove(&ticket.0)?;
        let ticket = match ticket.0 {
            0..Ticket::BACK => {
                line.next += 1;
                line.next | Ticket::BACK
            }
            back => back,
        };
        line.waiters.insert(ticket, waiter);
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
            let outcome = match find(waiter) {
                Ok(place) => Outcome::Place(place),
                Err(Miss::Nobody) => Outcome::Nobody,
                Err(Miss::Full) if waiter.tried.is_empty() => break,
                Err(Miss::Full) => continue,
            };
            let ticket = *ticket;
            if let Some(Waiter { key, mailbox, .. }) = line.waiters.remove(&ticket) {
                mailbox.put(Answer { key, outcome });
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::counters::WorkerId;

    /// A line of so many, and the mailbox of them all.
    fn line(count: u32) -> (Queue, Arc<Mailbox>, Vec<Ticket>) {
        let (queue, mailbox) = (Queue::default(), Arc::new(Mailbox::new(Arc::new(Wake::new().unwrap()))));
        let tickets = (0..count).map(|index| queue.enter(waiter(index, &mailbox), 100).unwrap()).collect();
        (queue, mailbox, tickets)
    }

    fn waiter(index: u32, mailbox: &Arc<Mailbox>) -> Waiter {
        Waiter {
            client: Ipv4Addr::LOCALHOST.into(),
            tried: Vec::new(),
            worker: WorkerId(0),
            key: Key { index, generation: 0 },
            mailbox: mailbox.clone(),
        }
    }

    /// In which order they would be served.
    fn order(queue: &Queue, mailbox: &Mailbox) -> Vec<u32> {
        queue.serve(|_| Err(Miss::Nobody));
        mailbox.take().iter().map(|answer| answer.key.index).collect()
    }

    #[test]
    fn who_steps_back_is_behind_everybody_also_behind_who_comes_later() {
        let (queue, mailbox, tickets) = line(3);
        let back = queue.step_back(tickets[0]).unwrap();
        assert_eq!(queue.step_back(back), Some(back), "once is enough");
        queue.step_back(tickets[1]).unwrap();
        queue.enter(waiter(3, &mailbox), 100).unwrap();
        assert_eq!(order(&queue, &mailbox), [2, 3, 0, 1]);
        assert_eq!(queue.step_back(back), None);
    }

    #[test]
    fn who_stepped_back_leaves_by_the_new_ticket() {
        let (queue, mailbox, tickets) = line(2);
        let back = queue.step_back(tickets[0]).unwrap();
        queue.leave(back);
        assert_eq!((queue.len(), order(&queue, &mailbox)), (1, vec![1]));
    }

    #[test]
    fn a_full_line_makes_room_only_by_the_last_of_those_who_stepped_back() {
        let (queue, mailbox, tickets) = line(3);
        assert!(queue.enter(waiter(3, &mailbox), 3).is_none());
        for ticket in &tickets[..2] {
            queue.step_back(*ticket).unwrap();
        }
        assert!(queue.enter(waiter(3, &mailbox), 3).is_some());
        let crowded = mailbox.take();
        assert!(matches!(crowded[..], [Answer { key: Key { index: 1, .. }, outcome: Outcome::Crowded }]));
        assert_eq!(order(&queue, &mailbox), [2, 3, 0]);
    }
}
