//! Closing listeners: who waits at them is served first, within bounds.
//!
//! The kernel resets whoever waits at a socket that is closed. So the listeners of an order to close stay for a moment,
//! out of the event loop, and are served in batches between the turns of everything else. Clients may keep coming
//! meanwhile; what ends it is the length of the kernel's queue, the time, and the limit on connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::accept::{Accepted, BATCH, Listener};
use crate::socket::BACKLOG;
use crate::wheel::{Tick, Ticks};
use crate::worker::Worker;

/// Clients who still wait after this are reset.
const PATIENCE: Duration = Duration::from_millis(200);

/// Connections beyond the limit, over all workers: at the limit, a few who wait are served rather than reset.
const ALLOWANCE: u64 = 64;

/// What is left of an order to close listeners.
#[derive(Debug)]
pub(crate) struct Closing {
    listeners: Vec<Waiting>,
    /// When to serve the next batch.
    pub(crate) next: Tick,
    until: Tick,
    /// Dropping it tells that all are closed.
    _done: Sender<()>,
}

/// A listener at which this many may wait.
#[derive(Debug)]
struct Waiting {
    listener: Listener,
    left: u16,
}

impl Worker {
    /// Begins to close the listeners of these addresses; no other turn is held up by it.
    pub(crate) fn begin_to_close(&mut self, addresses: &BTreeSet<SocketAddr>, done: Sender<()>) {
        let now = self.tick();
        let listeners = self.take_listeners(addresses);
        self.closing.push(Closing {
            listeners: listeners.into_iter().map(|listener| Waiting { listener, left: BACKLOG }).collect(),
            next: now,
            until: now.after(Ticks::from(PATIENCE)),
            _done: done,
        });
    }

    /// Serves a batch of each order to close, and closes what is done.
    pub(crate) fn serve_closing(&mut self) {
        for mut closing in std::mem::take(&mut self.closing) {
            if self.tick() >= closing.until {
                tracing::warn!(
                    listeners = closing.listeners.len(),
                    "no room or no time for all who wait at listeners that close: who still waits is reset"
                );
            } else if self.serve_waiting(&mut closing) {
                self.closing.push(closing);
            }
        }
    }

    /// Whether more may wait after this batch.
    fn serve_waiting(&mut self, closing: &mut Closing) -> bool {
        let now = self.tick();
        let mut room = BATCH;
        while let Some(Waiting { listener, left }) = closing.listeners.last_mut() {
            closing.next = now;
            if room == 0 {
                return true;
            }
            if self.shared.reserve(listener.entry(), ALLOWANCE).is_err() {
                closing.next = now.next();
                return true;
            }
            let accepted = if *left == 0 { Accepted::Nobody } else { listener.accept() };
            *left = left.saturating_sub(1);
            room -= 1;
            match accepted {
                Accepted::Client(socket, client) => {
                    let (entry, local) = listener.destination();
                    self.admit(socket, client, entry, local);
                    continue;
                }
                Accepted::Gone => {}
                Accepted::Nobody => {
                    room += 1;
                    self.shared.release(listener.entry());
                    closing.listeners.pop();
                    continue;
                }
                Accepted::Failed(_) => {
                    self.shared.release(listener.entry());
                    closing.next = now.next();
                    return true;
                }
            }
            self.shared.release(listener.entry());
        }
        false
    }
}
