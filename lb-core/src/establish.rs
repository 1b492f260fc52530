//! A client's way from its accept to a backend that took the connection.
//!
//! ```text
//! admit ─▶ begin_opening (opening.rs) ─▶ begin_to_connect ─▶ connect_decided ─▶ drive (worker.rs)
//!                                              ▲                   │
//!                                              └── connect_failed ─┘
//! ```

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::CloseReason;
use crate::address::{AddressGuard, LocalAddress};
use crate::backend::BackendGuard;
use crate::connect::{Attempt, Caller, Failure, Here, Phase};
use crate::connection::{Client, Connection, Stage};
use crate::poll::{Token, Watch};
use crate::proxy_protocol;
use crate::record::Journey;
use crate::relay::{End, Side};
use crate::ring::Place;
use crate::ringing::is_for_ring;
use crate::service::{ServiceEntry, ServiceGuard};
use crate::slab::Key;
use crate::socket;
use crate::tls::Shaken;
use crate::worker::Worker;

impl Worker {
    /// Takes a client in, for which there is room in the plane and in the service, and begins with what it has to say, if anything.
    pub(crate) fn admit(
        &mut self,
        socket: OwnedFd,
        client: Client,
        entry: Arc<ServiceEntry>,
        local: Arc<LocalAddress>,
    ) {
        self.counters().accepted.increment();
        let service = ServiceGuard::new(entry, self.id);
        let key = self.connections.insert(Connection {
            service,
            local: AddressGuard::new(local),
            client,
            client_end: End::new(socket, self.tick()),
            received: Vec::new(),
            secured: None,
            link: None,
            stage: Stage::Connecting(Attempt::new(self.now)),
            queued: false,
            client_watch: None,
            journey: Journey::new(client.local, self.now),
        });
        self.begin_opening(key);
    }

    /// Nothing more is to be known of the client: chooses a backend and begins to connect to it.
    pub(crate) fn begin_to_connect(&mut self, key: Key) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.stage = Stage::Connecting(Attempt::new(now));
        connection.journey.opened = now;
        self.connect_next(key, None);
    }

    /// Begins to connect to the backend where there is a place for it, or to the next candidate. It waits while all are full;
    /// without one it ends.
    pub(crate) fn connect_next(&mut self, key: Key, place: Option<BackendGuard>) {
        let tick = self.tick();
        let here = Here { worker: self.id, now: self.now, observer: &*self.shared.observer };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Connecting(attempt) = &mut connection.stage else { return };
        let caller = Caller { client: &connection.client, port: connection.journey.listener.port() };
        match attempt.next(&connection.service, caller, place, here) {
            Ok(Some(link)) => {
                connection.link = Some(link);
                connection.journey.placed.get_or_insert(here.now);
                self.wheel.set(key.index, connection.look_again(tick));
                self.watch_backend(key);
            }
            Ok(None) => self.wait_in_line(key),
            Err(reason) => self.give_up(key, reason),
        }
    }

    fn watch_backend(&mut self, key: Key) {
        let prefers_ring = self.prefers_ring();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let by_ring = prefers_ring && is_for_ring(connection);
        let Some(link) = &mut connection.link else { return };
        let token = Token::End(key, Side::Backend);
        if let Some(ring) = self.ring.as_mut().filter(|_| by_ring) {
            link.by_ring = true;
            return ring.connect(&mut link.end, Place { index: key.index, side: Side::Backend });
        }
        if self.poll.add(&link.end.socket, token, Watch::ReadsAndWrites).is_err() {
            self.close(key, CloseReason::Resources);
        }
    }

    /// The kernel reports on a socket that was connecting.
    pub(crate) fn connect_decided(&mut self, key: Key, flags: EventFlags) {
        let tick = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (Stage::Connecting(attempt), Some(link)) = (&mut connection.stage, &mut connection.link) else {
            return;
        };
        if attempt.phase == Phase::Tls {
            link.end.note(flags);
            return self.secure_backend(key);
        }
        // A hang-up alone is a backend behind a Unix socket that took the connection and has closed it already.
        if flags.contains(EventFlags::ERR) {
            let error = socket::outcome(&link.end.socket).err().unwrap_or(Errno::CONNRESET);
            self.connect_failed(key, Failure::Error(error));
        } else if flags.contains(EventFlags::OUT) {
            link.end.connected(flags, tick);
            if let Some(version) = connection.service.settings().send_proxy {
                let Client { address, local } = connection.client;
                let header = proxy_protocol::encode(version, address, local);
                // A new socket takes it whole. If it does not, its connection broke, which is what it looks like.
                if link.end.write(header.as_bytes(), tick) < header.as_bytes().len() {
                    return self.connect_failed(key, Failure::Error(Errno::CONNRESET));
                }
            }
            match connection.service.entry().tls.session_with(link.backend.backend()) {
                None => self.relay(key),
                Some(Ok(session)) => {
                    attempt.phase = Phase::Tls;
                    connection.secured.get_or_insert_default().connect(session);
                    self.secure_backend(key);
                }
                Some(Err(failure)) => self.connect_failed(key, Failure::Tls(failure)),
            }
        }
    }

    /// Goes on with the TLS handshake with the backend.
    fn secure_backend(&mut self, key: Key) {
        let tick = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (Some(secured), Some(link)) = (&mut connection.secured, &mut connection.link) else { return };
        match secured.layer_mut(Side::Backend).shake_hands(&mut link.end, self.buffers.current(), tick) {
            Shaken::Waiting => {}
            Shaken::Done => self.relay(key),
            Shaken::Failed(failure) => self.connect_failed(key, Failure::Tls(failure)),
            Shaken::Broken => self.connect_failed(key, Failure::Error(Errno::CONNRESET)),
        }
    }

    /// The backend took the connection.
    fn relay(&mut self, key: Key) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let by_ring = connection.link.as_ref().is_some_and(|link| link.by_ring);
        connection.begin_to_relay(now);
        match by_ring {
            true => self.begin_ringed(key),
            false => self.drive(key),
        }
    }

    /// The current candidate did not take the connection: on to the next.
    pub(crate) fn connect_failed(&mut self, key: Key, failure: Failure) {
        let here = Here { worker: self.id, now: self.now, observer: &*self.shared.observer };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (Stage::Connecting(attempt), Some(link)) = (&mut connection.stage, &mut connection.link) else {
            return;
        };
        if let Some(ring) = &mut self.ring {
            ring.forget(&mut link.end);
        }
        match attempt.failed(failure, &link.backend, &connection.service, here) {
            Ok(()) => self.connect_next(key, None),
            Err(reason) => self.give_up(key, reason),
        }
    }

    /// No backend took the connection. Where this host ran out of something, further clients wait rather than be refused.
    fn give_up(&mut self, key: Key, reason: CloseReason) {
        let exhausted = self.connections.get_mut(key).and_then(|connection| match &connection.stage {
            Stage::Connecting(attempt) => attempt.exhausted,
            Stage::Opening(_) | Stage::Relaying(_) => None,
        });
        self.close(key, reason);
        if let Some(error) = exhausted {
            self.starve(error);
        }
    }

    /// Watches the client for no less than `wanted`. What it is watched for is never taken back: each change costs a system
    /// call, and what is not asked for is only taken down.
    pub(crate) fn watch_client(&mut self, key: Key, wanted: Watch) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.client_watch.is_some_and(|watched| watched >= wanted) {
            return;
        }
        let (socket, token) = (&connection.client_end.socket, Token::End(key, Side::Client));
        let changed = match connection.client_watch {
            None => self.poll.add(socket, token, wanted),
            Some(_) => self.poll.watch(socket, token, wanted),
        };
        connection.client_watch = Some(wanted);
        if changed.is_err() {
            self.close(key, CloseReason::Resources);
        }
    }
}
