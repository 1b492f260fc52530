//! A worker's listeners: taking clients in, and letting them wait where there is no room.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::address::LocalAddress;
use crate::connection::Client;
use crate::gate::Gate;
use crate::poll::Token;
use crate::service::ServiceEntry;
use crate::slab::Key;
use crate::socket::{self, Newcomers};
use crate::worker::{Shortage, Worker};

/// Clients accepted before others get their turn.
pub(crate) const BATCH: usize = 16;

/// One worker's socket for one address.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    socket: OwnedFd,
    /// Of the newest snapshot that has the address: a listener that is being closed serves its queue with the last.
    entry: Arc<ServiceEntry>,
    local: Arc<LocalAddress>,
    watched: bool,
}

impl Listener {
    pub(crate) fn new(
        address: SocketAddr,
        socket: OwnedFd,
        entry: Arc<ServiceEntry>,
        local: Arc<LocalAddress>,
    ) -> Self {
        let mut listener = Listener { address, socket, entry: entry.clone(), local, watched: false };
        listener.serve(entry);
        listener
    }

    /// Whom its clients come to from now on. Those who wait already keep the socket options of the service before.
    fn serve(&mut self, entry: Arc<ServiceEntry>) {
        if let Err(error) = socket::set_options(&self.socket, entry.settings.client_options()) {
            tracing::warn!(address = %self.address, %error, "cannot set keep-alive or the user timeout of a listener");
        }
        self.entry = entry;
    }

    /// The next client that waits.
    pub(crate) fn accept(&self) -> Accepted {
        match socket::accept(&self.socket) {
            Ok((socket, address)) => match self.address_of(&socket) {
                Ok(local) => Accepted::Client(socket, Client { address, local }),
                Err(_) => Accepted::Gone,
            },
            Err(Errno::AGAIN) => Accepted::Nobody,
            // accept(2): an error that is already pending on the new socket is passed on as one of accept.
            Err(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::PERM,
            ) => Accepted::Gone,
            Err(error) => Accepted::Failed(error),
        }
    }

    /// Where the client that has this socket came to.
    fn address_of(&self, socket: &OwnedFd) -> rustix::io::Result<SocketAddr> {
        match self.address.ip().is_unspecified() {
            true => socket::local_address(socket),
            false => Ok(self.address),
        }
    }

    pub(crate) fn entry(&self) -> &Arc<ServiceEntry> {
        &self.entry
    }

    /// What its clients come to.
    pub(crate) fn destination(&self) -> (Arc<ServiceEntry>, Arc<LocalAddress>) {
        (self.entry.clone(), self.local.clone())
    }
}

/// What came of one accept.
pub(crate) enum Accepted {
    Client(OwnedFd, Client),
    /// The client is gone already.
    Gone,
    /// Nobody waits.
    Nobody,
    Failed(Errno),
}

impl Worker {
    pub(crate) fn open_listeners(&mut self, listeners: Vec<Listener>) {
        for listener in listeners {
            self.listeners.insert(listener);
        }
        self.apply_gate();
    }

    /// Lets clients begin handshakes with this local address, or makes them wait.
    pub(crate) fn set_newcomers(&mut self, ip: IpAddr, newcomers: Newcomers) {
        for key in self.listeners.keys() {
            let Some(listener) = self.listeners.get_mut(key) else { continue };
            if listener.address.ip() != ip {
                continue;
            }
            if let Err(error) = socket::set_newcomers(&listener.socket, newcomers) {
                tracing::warn!(address = %listener.address, %error, ?newcomers, "cannot set the filter of a listener");
            }
        }
    }

    /// Takes the listeners of these addresses out of the event loop.
    pub(crate) fn take_listeners(&mut self, addresses: &BTreeSet<SocketAddr>) -> Vec<Listener> {
        let mut taken = Vec::new();
        for key in self.listeners.keys() {
            if self.listeners.get_mut(key).is_none_or(|listener| !addresses.contains(&listener.address)) {
                continue;
            }
            let Some(listener) = self.listeners.remove(key) else { continue };
            if listener.watched {
                // If it fails the loop is woken for nothing until the socket is closed, which is soon.
                let _ = self.poll.remove(&listener.socket);
            }
            taken.push(listener);
        }
        self.apply_gate();
        taken
    }

    pub(crate) fn accept_batch(&mut self, key: Key) {
        for _ in 0..BATCH {
            if self.gate != Gate::Open {
                return;
            }
            let Some(listener) = self.listeners.get_mut(key) else { return };
            if let Some(newest) = self.shared.snapshot.load().listener(listener.address)
                && !Arc::ptr_eq(newest, &listener.entry)
            {
                listener.serve(newest.clone());
            }
            match self.shared.reserve(&listener.entry, 0) {
                Ok(()) => {}
                Err(Shortage::Plane) => return self.shut_gate(Gate::full(self.tick())),
                Err(Shortage::Service) => return self.pause(key),
            }
            match listener.accept() {
                Accepted::Client(socket, client) => {
                    let (entry, local) = listener.destination();
                    self.admit(socket, client, entry, local);
                    continue;
                }
                Accepted::Gone => {}
                Accepted::Nobody => return self.shared.release(&listener.entry),
                Accepted::Failed(error) => {
                    self.shared.release(&listener.entry);
                    return self.starve(error);
                }
            }
            self.shared.release(&listener.entry);
        }
    }

    /// Lets clients of a service at its limit wait in the kernel's queue.
    fn pause(&mut self, key: Key) {
        self.full.push((key, Gate::full(self.tick())));
        self.apply_gate();
    }

    /// Stops accepting for a while, and says so once per episode.
    pub(crate) fn starve(&mut self, error: Errno) {
        self.shut_gate(Gate::starved(self.tick()));
        if self.starvation.note(self.tick()) {
            tracing::warn!(
                worker = self.id.0,
                %error,
                connections = self.connections.len(),
                "out of resources, new clients wait: raise the limit on open files or lower max_connections"
            );
        }
    }

    fn shut_gate(&mut self, gate: Gate) {
        self.gate = gate;
        self.apply_gate();
    }

    /// Opens the gate when it is time.
    pub(crate) fn look_at_gate(&mut self) {
        let tick = self.tick();
        let before = (self.gate, self.full.len());
        self.gate = self.gate.at(tick, self.capacity());
        let listeners = &mut self.listeners;
        self.full.retain_mut(|(key, gate)| {
            let Some(listener) = listeners.get_mut(*key) else { return false };
            *gate = gate.at(tick, listener.entry.capacity());
            *gate != Gate::Open
        });
        if (before.0 != Gate::Open && self.gate == Gate::Open) || self.full.len() < before.1 {
            self.apply_gate();
        }
    }

    /// Watches the listeners that may accept.
    fn apply_gate(&mut self) {
        let tick = self.tick();
        let mut paused = 0;
        for key in self.listeners.keys() {
            let Some(listener) = self.listeners.get_mut(key) else { continue };
            let wanted = self.gate == Gate::Open && !self.full.iter().any(|(full, _)| *full == key);
            if listener.watched != wanted {
                let changed = match wanted {
                    true => self.poll.add_level(&listener.socket, Token::Listener(key)),
                    false => self.poll.remove(&listener.socket),
                };
                match changed {
                    Ok(()) => listener.watched = wanted,
                    Err(error) => {
                        tracing::error!(address = %listener.address, %error, "cannot change what a listener is watched for");
                        self.gate = Gate::starved(tick);
                    }
                }
            }
            paused += u64::from(!listener.watched);
        }
        self.counters().paused.set(paused);
    }
}
