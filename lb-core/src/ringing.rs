//! What the ring's answers mean to a worker's connections: the way from `ring` to `relay::Ringed`, and out of it.
//!
//! ```text
//!            ┌──────────── small pieces, taken whole ───────────┐
//! relay ─▶ Ringed ── anything else ─▶ leave ─▶ landed ─▶ Plain ─▶ drive (worker.rs)
//! ```

use rustix::io::Errno;

use crate::CloseReason;
use crate::connection::{Connection, Stage, UNDECIDED};
use crate::poll::{Token, Watch};
use crate::relay::{Delivered, End, Relay, Ringed, Side, Step};
use crate::ring::{Chunk, Completion, Operation, Place, Receive, seen};
use crate::slab::Key;
use crate::socket;
use crate::wheel::Ticks;
use crate::worker::Worker;

/// Whether a connection may be relayed by the ring: neither side speaks TLS, nothing is held already, and the event queue does not watch the client for bytes.
pub(crate) fn is_for_ring(connection: &Connection) -> bool {
    connection.secured.is_none()
        && connection.received.is_empty()
        && connection.client_watch.is_none_or(|watch| watch == Watch::Gone)
        && !connection.service.entry().tls.is_begun_anew()
}

impl Worker {
    /// Takes in one answer. `Poll` and `Cancel` are no business of a connection.
    pub(crate) fn complete(&mut self, completion: Completion) {
        let Completion { operation, result, chunk, receive, .. } = completion;
        match operation {
            Operation::Poll | Operation::Cancel => {}
            Operation::Connect(place, _) => {
                if let Some(key) = self.landed(place, operation) {
                    // A poll that fails is one of a socket that failed.
                    let flags = seen(result.unwrap_or(libc::POLLERR as u32));
                    self.connect_decided(key, flags);
                }
            }
            Operation::Receive(place, _) => match self.landed(place, operation) {
                Some(key) => self.received(key, place.side, (result, chunk), receive),
                None => self.give_back(chunk),
            },
            Operation::Send(place, number) => self.sent(place, number, result),
        }
    }

    /// The connection whose open question this answers.
    fn landed(&mut self, place: Place, operation: Operation) -> Option<Key> {
        let key = self.connections.key_at(place.index)?;
        let end = self.connections.get_mut(key)?.end_mut(place.side)?;
        end.flight.land(operation).then_some(key)
    }

    /// Begins to relay a connection by the ring.
    pub(crate) fn begin_ringed(&mut self, key: Key) {
        let (Some(ring), Some(connection)) = (&mut self.ring, self.connections.get_mut(key)) else { return };
        connection.stage = Stage::Relaying(Relay::Ringed(Ringed::default()));
        let place = |side| Place { index: key.index, side };
        // Most clients speak first, and have spoken while the backend was connected.
        ring.receive(&mut connection.client_end, place(Side::Client), Receive::Now);
        if let Some(link) = &mut connection.link {
            ring.receive(&mut link.end, place(Side::Backend), Receive::OnceReadable);
        }
        let deadline = connection.deadline().0;
        if deadline < self.wheel.due(key.index) {
            self.wheel.set(key.index, deadline);
        }
    }

    /// What this side sent, or why it sends no more.
    fn received(
        &mut self,
        key: Key,
        side: Side,
        (result, chunk): (Result<u32, Errno>, Option<Chunk>),
        receive: Receive,
    ) {
        let now = self.tick();
        let (Some(ring), Some(connection)) = (&mut self.ring, self.connections.get_mut(key)) else { return };
        let Some((relay, source, destination)) = ringed(connection, side) else {
            return self.give_back(chunk);
        };
        let (step, spent) = match (result, chunk) {
            (Ok(length), Some(chunk)) if length > 0 => {
                let bytes = ring.bytes(&chunk);
                relay.received(side, source, (chunk, bytes), now)
            }
            (result, chunk) => (relay.ended(side, source, result.map(|_| ())), chunk),
        };
        if step == Step::Relay
            && let Some(chunk) = relay.sending_to(side.other())
        {
            ring.send(destination, Place { index: key.index, side: side.other() }, chunk);
        }
        if matches!(step, Step::Relay | Step::Receive) {
            ring.receive(source, Place { index: key.index, side }, receive);
        }
        if let Some(chunk) = spent {
            ring.give_back(chunk);
        }
        self.take_step(key, side, step);
    }

    /// The kernel took what was sent to this side, or not.
    fn sent(&mut self, Place { index, side }: Place, number: u32, result: Result<u32, Errno>) {
        let now = self.tick();
        let Some(key) = self.connections.key_at(index) else { return };
        let (Some(ring), Some(connection)) = (&mut self.ring, self.connections.get_mut(key)) else { return };
        let before = delivered(connection);
        let Some((relay, source, destination)) = ringed(connection, side.other()) else { return };
        let Some(chunk) = relay.take_sent(side, number) else { return };
        let taken = (ring.bytes(&chunk), result.map(|taken| taken as usize));
        let step = relay.sent(side, destination, source.eof, taken, now);
        ring.give_back(chunk);
        connection.count(before, delivered(connection));
        self.take_step(key, side.other(), step);
    }

    /// Does what follows for a connection, of which `source` is the side it came from.
    fn take_step(&mut self, key: Key, source: Side, step: Step) {
        match step {
            Step::Wait | Step::Receive | Step::Relay => {}
            Step::Complete => self.close(key, CloseReason::Completed),
            Step::Broken => self.broke(key, source),
            Step::Leave => self.leave_ring(key),
            Step::Finish => {
                let Some(connection) = self.connections.get_mut(key) else { return };
                if let Some(end) = connection.end_mut(source.other()) {
                    // A failure shows when it is read.
                    let _ = socket::finish(&end.socket);
                }
                // A side that has ended is not listened to any more: if the other does not follow soon, the event queue shall tell
                // when it is gone.
                let look = self.tick().after(Ticks::from(UNDECIDED));
                self.wheel.set(key.index, look.min(self.wheel.due(key.index)));
            }
        }
    }

    /// On with this connection as [`Relay::Plain`], once the ring has no question about it.
    pub(crate) fn leave_ring(&mut self, key: Key) {
        let (Some(ring), Some(connection)) = (&mut self.ring, self.connections.get_mut(key)) else { return };
        let (Stage::Relaying(Relay::Ringed(relay)), Some(link)) =
            (&mut connection.stage, &mut connection.link)
        else {
            return;
        };
        let ends = [&mut connection.client_end, &mut link.end];
        if relay.leave() {
            ends.iter().for_each(|end| ring.cancel(end));
        }
        if !relay.is_quiet() || ends.iter().any(|end| end.flight.is_open()) {
            return;
        }
        let [client, backend] = ends;
        let relay = std::mem::take(relay).into_plain(client, backend);
        let token = Token::End(key, Side::Backend);
        let watched = self.poll.add(&backend.socket, token, Watch::ReadsAndWrites);
        connection.stage = Stage::Relaying(Relay::Plain(relay));
        match watched {
            Ok(()) => self.drive(key),
            Err(_) => self.close(key, CloseReason::Resources),
        }
    }

    /// The ring lets go of a connection that is about to be closed.
    pub(crate) fn forget(&mut self, connection: &mut Connection) {
        let Some(ring) = &mut self.ring else { return };
        ring.forget(&mut connection.client_end);
        if let Some(link) = &mut connection.link {
            ring.forget(&mut link.end);
        }
        if let Stage::Relaying(Relay::Ringed(relay)) = &mut connection.stage {
            relay.take_chunks().for_each(|chunk| ring.give_back(chunk));
        }
    }

    fn give_back(&mut self, chunk: Option<Chunk>) {
        if let (Some(ring), Some(chunk)) = (&mut self.ring, chunk) {
            ring.give_back(chunk);
        }
    }
}

/// The relay of a connection that the ring moves; then its source, which is on this side, and its destination.
fn ringed(connection: &mut Connection, source: Side) -> Option<(&mut Ringed, &mut End, &mut End)> {
    let (Stage::Relaying(Relay::Ringed(relay)), Some(link)) = (&mut connection.stage, &mut connection.link)
    else {
        return None;
    };
    match source {
        Side::Client => Some((relay, &mut connection.client_end, &mut link.end)),
        Side::Backend => Some((relay, &mut link.end, &mut connection.client_end)),
    }
}

fn delivered(connection: &Connection) -> Delivered {
    match &connection.stage {
        Stage::Relaying(relay) => relay.delivered(),
        Stage::Opening(_) | Stage::Connecting(_) => Delivered::default(),
    }
}
