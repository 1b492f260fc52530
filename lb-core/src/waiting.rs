//! Clients that wait for a place at a backend: a worker's side of `queue`.
//!
//! Whoever waits is watched for its end only, and has one deadline. Whose stream ends steps back. Who leaves, in whatever way, leaves the line; a place
//! that was given to a client that has left goes to the next.

use crate::CloseReason;
use crate::connection::Stage;
use crate::poll::Watch;
use crate::queue::{Answer, Outcome, Waiter};
use crate::slab::Key;
use crate::worker::Worker;

impl Worker {
    /// Every backend is full: the client gets in line, or is refused.
    pub(crate) fn wait_in_line(&mut self, key: Key) {
        let now = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Connecting(attempt) = &mut connection.stage else { return };
        let Some(longest) = connection.service.settings().queue else {
            return self.close(key, CloseReason::QueueFull);
        };
        // A candidate that failed has its place back before the line is looked at.
        connection.link = None;
        let waiter = Waiter {
            client: connection.client.address.ip(),
            tried: attempt.tried.clone(),
            worker: self.id,
            key,
            mailbox: self.mailbox.clone(),
        };
        let Some(ticket) = connection.service.entry().wait(waiter) else {
            return self.close(key, CloseReason::QueueFull);
        };
        let deadline = now.after(longest);
        attempt.wait(ticket, deadline);
        self.wheel.set(key.index, deadline);
        let has_ended = connection.client_end.has_fin();
        self.watch_client(key, Watch::Gone);
        if has_ended {
            self.step_back(key);
        }
    }

    /// The client's stream has ended: it may be gone, so others come first.
    pub(crate) fn step_back(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Stage::Connecting(attempt) = &mut connection.stage
            && let Some(ticket) = &mut attempt.ticket
            && let Some(back) = connection.service.entry().state.step_back(*ticket)
        {
            *ticket = back;
        }
    }

    /// Goes on with the clients for whom there is a place.
    pub(crate) fn read_mail(&mut self) {
        for Answer { key, outcome } in self.mailbox.take() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Stage::Connecting(attempt) = &mut connection.stage else { continue };
            if attempt.ticket.take().is_none() {
                continue;
            }
            match outcome {
                Outcome::Place(place) => self.connect_next(key, Some(place)),
                Outcome::Nobody => self.connect_next(key, None),
                Outcome::Crowded => self.close(key, CloseReason::QueueFull),
            }
        }
    }
}
