//! A client's way from its accept to a backend that took the connection.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::CloseReason;
use crate::address::{AddressGuard, LocalAddress};
use crate::connect::{Attempt, Failure, Here};
use crate::connection::Connection;
use crate::poll::{Token, Watch};
use crate::relay::{Relay, Side};
use crate::service::{ServiceEntry, ServiceGuard};
use crate::slab::Key;
use crate::socket::{self, Close};
use crate::worker::Worker;

impl Worker {
    /// Takes a client in, which is counted in `open` already, and begins to connect it to a backend.
    pub(crate) fn admit(&mut self, client: OwnedFd, entry: Arc<ServiceEntry>, local: Arc<LocalAddress>) {
        self.counters().accepted.increment();
        let local = AddressGuard::new(local);
        let service = ServiceGuard::new(entry, self.id);
        let mut attempt = Attempt::new(self.now);
        let connecting = match attempt.next(&service, self.here()) {
            Ok(connecting) => connecting,
            Err(reason) => {
                self.shared.open.fetch_sub(1, Relaxed);
                service.close(reason);
                drop(local);
                socket::close(client, Close::Reset);
                return self.pause_if_exhausted(&attempt);
            }
        };
        // Without it the connection works; only a client that vanished is noticed later.
        let _ = socket::keep_alive(&client, service.settings().keepalive);
        let connection = Connection {
            service,
            local,
            backend: connecting.backend,
            relay: Relay::new(client, connecting.socket, self.tick()),
            attempt: Some(attempt),
            queued: false,
            client_watch: None,
        };
        let look_again = connection.look_again(self.tick());
        let key = self.connections.insert(connection);
        self.wheel.set(key.index, look_again);
        self.watch_backend(key);
    }

    fn watch_backend(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let token = Token::End(key, Side::Backend);
        if self.poll.add(&connection.relay.backend.socket, token, Watch::ReadsAndWrites).is_err() {
            self.close(key, CloseReason::Resources);
        }
    }

    /// The kernel reports on a socket that was connecting.
    pub(crate) fn connect_decided(&mut self, key: Key, flags: EventFlags) {
        let tick = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            let error = socket::outcome(&connection.relay.backend.socket).err().unwrap_or(Errno::CONNRESET);
            self.connect_failed(key, Failure::Error(error));
        } else if flags.contains(EventFlags::OUT) {
            connection.attempt = None;
            connection.relay.begin(flags, tick);
            self.drive(key);
        }
    }

    /// The current candidate did not take the connection: on to the next.
    pub(crate) fn connect_failed(&mut self, key: Key, failure: Failure) {
        let tick = self.tick();
        let here = Here { worker: self.id, now: self.now, observer: &*self.shared.observer };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(attempt) = &mut connection.attempt else { return };
        let next = attempt
            .failed(failure, &connection.backend, &connection.service, here)
            .and_then(|()| attempt.next(&connection.service, here));
        match next {
            Ok(connecting) => {
                connection.backend = connecting.backend;
                connection.relay.connect_to(connecting.socket, tick);
                self.wheel.set(key.index, connection.look_again(tick));
                self.watch_backend(key);
            }
            Err(reason) => {
                let attempt = connection.attempt.take();
                self.close(key, reason);
                attempt.iter().for_each(|attempt| self.pause_if_exhausted(attempt));
            }
        }
    }

    /// Lets further clients wait where this one could only be refused.
    fn pause_if_exhausted(&mut self, attempt: &Attempt) {
        if let Some(error) = attempt.exhausted {
            self.starve(error);
        }
    }

    /// Watches the client: for its end only while its backend is connecting, for bytes from when that is connected, and
    /// whether it takes bytes from when it first did not; most never come to that.
    pub(crate) fn watch_client(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let wanted = match (&connection.attempt, connection.relay.owes(Side::Client)) {
            (Some(_), _) => Watch::Gone,
            (None, true) => Watch::ReadsAndWrites,
            (None, false) => Watch::Reads,
        };
        let (socket, token) = (&connection.relay.client.socket, Token::End(key, Side::Client));
        let changed = match (connection.client_watch, wanted) {
            (None, _) => self.poll.add(socket, token, wanted),
            (Some(Watch::Gone), Watch::Reads | Watch::ReadsAndWrites)
            | (Some(Watch::Reads), Watch::ReadsAndWrites) => self.poll.watch(socket, token, wanted),
            (Some(Watch::Gone | Watch::Reads | Watch::ReadsAndWrites), _) => return,
        };
        connection.client_watch = Some(wanted);
        if changed.is_err() {
            self.close(key, CloseReason::Resources);
        }
    }
}
