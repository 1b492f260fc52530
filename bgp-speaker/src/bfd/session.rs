//! One session around its state machine: its sockets, what it counts, and its [`BfdStatus`].
//!
//! Owned by the BFD thread. Never blocks; what the kernel does not take is counted and not kept.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket};
use tokio::sync::watch;

use super::demux::{Identity, Neighbor};
use super::packet::{ControlPacket, SessionState};
use super::sm::{Action, Machine};
use super::socket::{self, Place};
use super::status::{BfdStatus, Discards};

/// Where a session's status is left; `None`: there is no session.
pub(crate) type Report = watch::Sender<Option<BfdStatus>>;

/// Sockets that failed are tried again, and counters published, so often.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What a session is configured to be.
#[derive(Debug, Clone)]
pub(crate) struct SessionConfig {
    pub(crate) path: Path,
    pub(crate) timers: config::Bfd,
    pub(crate) report: Report,
}

/// What cannot change without being another session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) neighbor: IpAddr,
    /// `None`: what the kernel picks.
    pub(crate) local: Option<IpAddr>,
    /// Of a link-local neighbor.
    pub(crate) interface: Option<String>,
    pub(crate) multihop: bool,
    /// Packets that come with less are dropped.
    pub(crate) min_hop_limit: u8,
}

impl Path {
    /// RFC 5881 where the neighbor is one hop away. Inside an AS it need not be, and other implementations take RFC 5883
    /// there as well.
    pub(crate) fn of(peer: &config::Peer, internal: bool) -> Self {
        let link_local = peer.interface.is_some();
        let multihop = (internal && !link_local) || peer.multihop > 1;
        let min_hop_limit = match (multihop, peer.ttl_security) {
            (false, _) => u8::MAX,
            (true, true) => u8::MAX.saturating_sub(peer.multihop.saturating_sub(1)),
            // RFC 5883 §5 sets no limit, and some neighbors send with their system's own TTL.
            (true, false) => 0,
        };
        Path {
            neighbor: peer.address,
            local: peer.local_address,
            interface: peer.interface.clone(),
            multihop,
            min_hop_limit,
        }
    }
}

/// A socket that sessions with the same local address share.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) local: Place,
    pub(super) multihop: bool,
    pub(super) socket: Socket,
}

#[derive(Debug)]
struct Sockets {
    transmitter: Socket,
    neighbor: SockAddr,
    /// Keeps it open.
    receiver: Rc<Receiver>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) path: Path,
    pub(super) machine: Machine,
    report: Report,
    scope: u32,
    sockets: Option<Sockets>,
    housekeeping: Instant,
    /// No longer configured: until then its neighbor is told.
    leaving: Option<Instant>,
    arbitrary: u64,
    status: BfdStatus,
}

impl Session {
    pub(super) fn new(
        config: SessionConfig,
        discriminator: NonZeroU32,
        arbitrary: u64,
        real_time: bool,
        now: Instant,
    ) -> Self {
        let SessionConfig { path, timers, report } = config;
        let machine = Machine::new(timers, discriminator, arbitrary, now);
        let status = BfdStatus::new(discriminator, path.multihop, real_time, now);
        Session {
            path,
            machine,
            report,
            scope: 0,
            sockets: None,
            housekeeping: now,
            leaving: None,
            arbitrary,
            status,
        }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            neighbor: Neighbor {
                address: self.path.neighbor,
                scope: self.scope,
                multihop: self.path.multihop,
            },
            discriminator: self.machine.discriminator(),
            remote: self.machine.known_neighbor(),
            min_hop_limit: self.path.min_hop_limit,
        }
    }

    /// Takes over what may change, and goes on if it was about to leave.
    pub(super) fn configure(&mut self, config: SessionConfig, now: Instant) {
        self.report = config.report;
        self.machine.configure(config.timers, now);
        (self.leaving, self.housekeeping) = (None, now);
    }

    /// No longer configured: nobody looks at it any more, but its neighbor has to know.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.leaving.is_none() {
            self.machine.disable(now);
            self.leaving = Some(now + self.machine.farewell());
            self.report.send_replace(None);
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(super) fn has_left(&self, now: Instant) -> bool {
        self.leaving.is_some_and(|until| until <= now)
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let next = [self.machine.poll_timeout(), self.leaving].into_iter().flatten().min();
        next.map_or(self.housekeeping, |at| at.min(self.housekeeping))
    }

    pub(super) fn received(&mut self, packet: &ControlPacket, now: Instant) {
        self.status.packets_in += 1;
        self.machine.handle_packet(packet, now);
    }

    /// Does what the machine wants, and what is due once a second.
    pub(super) fn serve(&mut self, receivers: &mut Vec<Rc<Receiver>>, discarded: &Discards, now: Instant) {
        let tidy = self.housekeeping <= now;
        if tidy {
            self.housekeeping = now + HOUSEKEEPING;
            self.look_after_sockets(receivers);
        }
        let mut changed = false;
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Transmit(packet) => self.transmit(&packet),
                Action::Changed { to, reason } => {
                    changed = true;
                    self.status.changed(to, reason, now);
                }
            }
        }
        if (changed || tidy) && self.leaving.is_none() {
            self.publish(discarded, changed);
        }
    }

    fn transmit(&mut self, packet: &ControlPacket) {
        let sent = self.sockets.as_ref().map(|to| to.transmitter.send_to(&packet.encode(), &to.neighbor));
        match sent {
            Some(Ok(_)) => self.status.packets_out += 1,
            Some(Err(_)) | None => self.status.packets_unsent += 1,
        }
    }

    /// Opens what is not open. Where the kernel picks the source address, it may pick another while the session is down.
    fn look_after_sockets(&mut self, receivers: &mut Vec<Rc<Receiver>>) {
        let is_fixed = self.path.local.is_some() || self.machine.state() == SessionState::Up;
        if self.sockets.is_some() && is_fixed {
            return;
        }
        let error = self.open(receivers).err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|_| self.status.socket_error != error) {
            tracing::warn!(neighbor = %self.path.neighbor, error, "no BFD socket; trying again every second");
        }
        if error.is_some() {
            self.sockets = None;
        }
        self.status.local_address = self.sockets.as_ref().map(|sockets| sockets.receiver.local.address);
        self.status.socket_error = error;
    }

    fn open(&mut self, receivers: &mut Vec<Rc<Receiver>>) -> io::Result<()> {
        self.scope = match &self.path.interface {
            Some(name) => socket::interface_index(name)?,
            None => 0,
        };
        let multihop = self.path.multihop;
        let neighbor = Place { address: self.path.neighbor, scope: self.scope };
        let local = match self.path.local {
            Some(address) => Place { address, scope: self.scope },
            None => neighbor.source(multihop)?,
        };
        if self.sockets.as_ref().is_some_and(|sockets| sockets.receiver.local == local) {
            return Ok(());
        }
        let shared = receivers.iter().find(|shared| shared.local == local && shared.multihop == multihop);
        let receiver = match shared {
            Some(shared) => Rc::clone(shared),
            None => {
                let socket = socket::receiver(local, multihop)?;
                let receiver = Rc::new(Receiver { local, multihop, socket });
                receivers.push(Rc::clone(&receiver));
                receiver
            }
        };
        let transmitter = socket::transmitter(local, self.arbitrary)?;
        let neighbor = neighbor.listening(multihop).into();
        self.sockets = Some(Sockets { transmitter, neighbor, receiver });
        Ok(())
    }

    /// Readers are woken by changes of state only, and by the first status.
    fn publish(&mut self, discarded: &Discards, wake: bool) {
        self.status.describe(&self.machine);
        self.status.discarded = *discarded;
        self.report.send_if_modified(|report| report.replace(self.status.clone()).is_none() || wake);
    }
}
