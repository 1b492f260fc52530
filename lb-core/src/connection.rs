//! One client's connection from accept to its end: its stages, which deadline each has, and how its sockets are closed.
//! The rules are pure; the event loop applies them.
//!
//! ```text
//!  accepted ──▶ Opening ──▶ Connecting ──▶ Relaying ──▶ closed
//!               what the    the chosen     bytes both
//!               client has  backend        ways
//!               to say first
//! ```
//!
//! Each stage has one deadline, and a reason with which the connection ends at it. Every stage but the first may be the
//! first: a service that asks nothing of its clients begins with `Connecting`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::BackendId;

use crate::address::AddressGuard;
use crate::clock::Clock;
use crate::connect::{Attempt, Link};
use crate::opening::Opening;
use crate::poll::Watch;
use crate::record::{AccessRecord, Concurrent, Journey, Reached};
use crate::relay::copy::Plain;
use crate::relay::{Delivered, End, Relay, Side};
use crate::service::{ServiceGuard, Settings};
use crate::socket::{self, Close};
use crate::tls::Secured;
use crate::wheel::{Tick, Ticks};
use crate::{CloseReason, ConnectCause, ConnectFailure};

/// A connect that takes longer has its client watched: one that goes away meanwhile gives its place free.
pub(crate) const UNDECIDED: Duration = Duration::from_millis(30);

/// Whom a connection is from and which address it came to. With a PROXY header: what that says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The client has to say something before a backend is chosen.
    Opening(Opening),
    /// It waits for a place at a backend, or the backend's socket is connecting.
    Connecting(Attempt),
    /// Both sides are connected.
    Relaying(Relay),
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) service: ServiceGuard,
    pub(crate) local: AddressGuard,
    pub(crate) client: Client,
    pub(crate) client_end: End,
    /// What was read from the client and not used in its opening: the first that the backend gets.
    pub(crate) received: Vec<u8>,
    /// Before it relays: what speaks TLS of it. Then it is the relay.
    pub(crate) secured: Option<Box<Secured>>,
    /// From when a backend was chosen.
    pub(crate) link: Option<Link>,
    pub(crate) stage: Stage,
    /// Waits in the run queue.
    pub(crate) queued: bool,
    /// What the client's socket is watched for; `None` at first, see [`Connection::look_again`].
    pub(crate) client_watch: Option<Watch>,
    pub(crate) journey: Journey,
}

impl Connection {
    /// The next moment at which it ends if nothing happens before, and why it would.
    pub(crate) fn deadline(&self) -> (Tick, CloseReason) {
        match (&self.stage, &self.link) {
            (Stage::Opening(opening), _) => opening.deadline(),
            (Stage::Relaying(relay), Some(link)) => {
                idle_deadline(relay, &self.client_end, &link.end, self.service.settings())
            }
            (Stage::Connecting(attempt), _) => (attempt.deadline, attempt.ends_with()),
            (Stage::Relaying(_), None) => (self.client_end.touched, CloseReason::NoBackend),
        }
    }

    /// When a connection whose stage begins at `now` is to be looked at: at its deadline, and while it connects once
    /// before that for the sake of the client. Most backends answer sooner, and until then the client's socket costs
    /// no system call.
    pub(crate) fn look_again(&self, now: Tick) -> Tick {
        let deadline = self.deadline().0;
        match self.client_watch {
            None => deadline.min(now.after(Ticks::from(UNDECIDED))),
            Some(_) => deadline,
        }
    }

    /// The backend took the connection.
    pub(crate) fn begin_to_relay(&mut self, now: Duration) {
        self.client_end.touched = Tick::at(now);
        self.journey.connected = Some(now);
        if let Stage::Connecting(attempt) = &mut self.stage {
            self.journey.tried = std::mem::take(&mut attempt.tried);
        }
        let early = std::mem::take(&mut self.received);
        self.stage = Stage::Relaying(match self.secured.take() {
            Some(mut secured) => {
                secured.begin_with(early);
                Relay::Secured(secured)
            }
            None => Relay::Plain(Plain::with_early((!early.is_empty()).then(|| early.into_boxed_slice()))),
        });
    }

    /// Whether the service takes the client, of which it is known now whom it is from; if not, why.
    pub(crate) fn admit(&mut self) -> Result<(), CloseReason> {
        self.service.admit(self.client.address.ip())
    }

    /// Whether it is connected, or connecting, to this backend.
    pub(crate) fn is_with(&self, backend: &BackendId) -> bool {
        self.link.as_ref().is_some_and(|link| link.backend.backend().id() == backend)
    }

    /// The socket of this side, once there is one.
    pub(crate) fn end_mut(&mut self, side: Side) -> Option<&mut End> {
        match side {
            Side::Client => Some(&mut self.client_end),
            Side::Backend => self.link.as_mut().map(|link| &mut link.end),
        }
    }

    /// Whether bytes wait for this side to take them.
    pub(crate) fn owes(&self, side: Side) -> bool {
        match &self.stage {
            Stage::Relaying(relay) => relay.owes(side),
            Stage::Opening(_) | Stage::Connecting(_) => false,
        }
    }

    /// Counts what was delivered on top of `before`.
    pub(crate) fn count(&self, before: Delivered, after: Delivered) {
        let (up, down) = (after.up - before.up, after.down - before.down);
        self.service.counters().bytes_in.add(up);
        self.service.counters().bytes_out.add(down);
        if let Some(link) = &self.link {
            link.backend.counters().bytes_in.add(up);
            link.backend.counters().bytes_out.add(down);
        }
    }

    /// What its backend did, if it has reset the connection before it sent a byte of which any was delivered or waits.
    pub(crate) fn unanswered(&self, now: Duration) -> Option<(BackendId, ConnectFailure)> {
        let Stage::Relaying(relay) = &self.stage else { return None };
        let delivered = relay.delivered();
        let link = self.link.as_ref().filter(|link| !link.end.eof)?;
        // What a client has said may be why.
        if delivered.up > 0 || delivered.down > 0 || self.owes(Side::Client) {
            return None;
        }
        let backend = link.backend.backend();
        let after = now.saturating_sub(self.journey.connected.unwrap_or(now));
        let address = backend.address().clone();
        let failure = ConnectFailure { address, cause: ConnectCause::ResetUnanswered, after };
        Some((backend.id().clone(), failure))
    }

    /// Whether one of its sides has sent all it will.
    pub(crate) fn has_ended(&self) -> bool {
        self.client_end.eof || self.link.as_ref().is_some_and(|link| link.end.eof)
    }

    /// How far it has come.
    fn reached(&self) -> Reached {
        match &self.stage {
            Stage::Opening(_) => Reached::Opening,
            Stage::Connecting(attempt) if attempt.ticket.is_some() => Reached::Queued,
            Stage::Connecting(_) => Reached::Connecting,
            Stage::Relaying(_) if self.link.as_ref().is_some_and(|link| link.end.eof) => Reached::Last,
            Stage::Relaying(_) => Reached::Relaying,
        }
    }

    /// What there is to say about it if it ends `now`.
    pub(crate) fn record(
        &self,
        reason: CloseReason,
        clock: &Clock,
        now: Duration,
        open: u64,
    ) -> AccessRecord {
        let (failed, delivered) = match &self.stage {
            Stage::Opening(_) => (&self.journey.tried, Delivered::default()),
            Stage::Connecting(attempt) => (&attempt.tried, Delivered::default()),
            Stage::Relaying(relay) => (&self.journey.tried, relay.delivered()),
        };
        let last = self.link.as_ref().map(|link| link.backend.backend());
        // The last candidate may be among those that failed.
        let tried =
            failed.iter().chain(last.filter(|last| failed.last().is_none_or(|f| !Arc::ptr_eq(f, last))));
        let connected = self.journey.connected.and(last);
        AccessRecord {
            accepted_at: clock.time_of(self.journey.accepted),
            service: self.service.entry().name.clone(),
            listener: self.journey.listener,
            client: self.client.address,
            backend: connected.map(|backend| backend.id().backend.clone()),
            tried: tried.map(|backend| backend.id().backend.clone()).collect(),
            bytes_in: delivered.up,
            bytes_out: delivered.down,
            queue: self.journey.queue(),
            connect: self.journey.connect(),
            total: now.saturating_sub(self.journey.accepted),
            reason,
            reached: self.reached(),
            concurrent: Concurrent {
                total: open,
                service: self.service.entry().state.counters.sum(|c| &c.active),
                backend: connected.map_or(0, |backend| backend.active()),
            },
        }
    }

    /// Takes down why it ends, then closes both sockets: who sees the end finds it counted.
    pub(crate) fn close(self, reason: CloseReason) {
        let linger = self.service.settings().linger;
        let owed = [self.owes(Side::Client), self.owes(Side::Backend)];
        self.service.close(reason);
        drop(self.local);
        let backend = self.link.map(|Link { backend, end, .. }| {
            drop(backend);
            end
        });
        let ends = [(Side::Client, Some(self.client_end), owed[0]), (Side::Backend, backend, owed[1])];
        for (side, end, owed) in ends {
            let Some(end) = end else { continue };
            let drained = || socket::unacknowledged(&end.socket) == Ok(0);
            let how = how_to_close(side, reason, linger, owed, drained);
            socket::close(end.socket, how);
        }
    }
}

/// Each side that the connection waits for has its own time; after a half-close the times for a closing connection
/// hold.
fn idle_deadline(
    relay: &Relay,
    client_end: &End,
    backend_end: &End,
    settings: &Settings,
) -> (Tick, CloseReason) {
    let half_closed = client_end.eof || backend_end.eof;
    let client = match half_closed {
        false => (client_end.touched.after(settings.client), CloseReason::ClientTimeout),
        true => (client_end.touched.after(settings.client_fin), CloseReason::ClientFinTimeout),
    };
    let server = match half_closed {
        false => (backend_end.touched.after(settings.server), CloseReason::ServerTimeout),
        true => (backend_end.touched.after(settings.server_fin), CloseReason::ServerFinTimeout),
    };
    match (relay.waits_for(Side::Client, client_end), relay.waits_for(Side::Backend, backend_end)) {
        (true, false) => client,
        (true, true) if client.0 < server.0 => client,
        _ => server,
    }
}

/// How the socket of `side` is closed.
///
/// FIN after a complete stream. RST to the other side of one that broke, so that a stream which was cut off there does
/// not look complete, and to both of one that was killed.
///
/// At a timeout, as HAProxy does: FIN, although neither side has finished and the peer cannot tell it from a complete
/// stream; RST to who is `owed` bytes that this process still holds, and without `linger`, so that nothing stays behind
/// in the kernel. RST drops what the peer has not acknowledged; a side that let its own time pass has had its chance, the
/// other one is reset only when `drained`.
fn how_to_close(
    side: Side,
    reason: CloseReason,
    linger: bool,
    owed: bool,
    drained: impl FnOnce() -> bool,
) -> Close {
    let resets = match reason {
        CloseReason::Completed => false,
        CloseReason::ClientTimeout | CloseReason::ClientFinTimeout => {
            owed || (!linger && (side == Side::Client || drained()))
        }
        CloseReason::ServerTimeout | CloseReason::ServerFinTimeout => {
            owed || (!linger && (side == Side::Backend || drained()))
        }
        // After a failed handshake the client is told why, by an alert that a RST might overtake.
        CloseReason::ClientReset | CloseReason::TlsHandshakeFailed => side == Side::Backend,
        CloseReason::ServerReset
        | CloseReason::ConnectFailed
        | CloseReason::ConnectTimeout
        | CloseReason::NoBackend
        | CloseReason::Resources
        | CloseReason::Untrusted
        | CloseReason::ProxyHeader
        | CloseReason::TlsTimeout
        | CloseReason::Denied
        | CloseReason::ClientConnections
        | CloseReason::ClientRate
        | CloseReason::QueueFull
        | CloseReason::QueueTimeout => side == Side::Client,
        CloseReason::BackendDown | CloseReason::Killed => true,
    };
    if resets { Close::Reset } else { Close::Plain }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::socket::KeepAlive;

    /// A different time for each timeout.
    fn settings() -> Settings {
        let ticks = |n: u64| Ticks::from(Duration::from_millis(10 * n));
        Settings {
            accept_proxy: None,
            send_proxy: None,
            source: config::SourceAddress::Kernel,
            user_timeouts: [0; 2],
            connect: ticks(1000),
            client: ticks(100),
            server: ticks(200),
            client_fin: ticks(30),
            server_fin: ticks(40),
            queue: None,
            on_down: config::OnDown::Keep,
            retries: 3,
            keepalive: KeepAlive::Off,
            linger: true,
        }
    }

    /// A client's and a backend's end.
    fn idle_ends() -> [End; 2] {
        [(); 2].map(|()| End::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap(), Tick(0)))
    }

    fn deadline([client, backend]: &[End; 2]) -> (u64, CloseReason) {
        let (tick, reason) = idle_deadline(&Relay::Plain(Plain::default()), client, backend, &settings());
        (tick.0 - 1, reason)
    }

    #[test]
    fn the_side_whose_time_runs_out_first_ends_an_idle_connection() {
        let mut ends = idle_ends();
        assert_eq!(deadline(&ends), (100, CloseReason::ClientTimeout));
        ends[0].touched = Tick(150);
        assert_eq!(deadline(&ends), (200, CloseReason::ServerTimeout));
    }

    #[test]
    fn after_a_half_close_the_other_side_has_its_fin_timeout() {
        let mut ends = idle_ends();
        ends[0].eof = true;
        assert_eq!(deadline(&ends), (40, CloseReason::ServerFinTimeout));
        let mut ends = idle_ends();
        ends[1].eof = true;
        assert_eq!(deadline(&ends), (30, CloseReason::ClientFinTimeout));
    }

    fn how(side: Side, reason: CloseReason) -> Close {
        how_to_close(side, reason, true, false, || panic!("not asked while lingering"))
    }

    #[test]
    fn a_stream_that_was_cut_off_ends_with_a_reset_and_a_complete_one_with_a_fin() {
        use CloseReason::*;
        for reason in CloseReason::ALL {
            let expected = match reason {
                Completed | ClientTimeout | ServerTimeout | ClientFinTimeout | ServerFinTimeout => {
                    (Close::Plain, Close::Plain)
                }
                ClientReset | TlsHandshakeFailed => (Close::Plain, Close::Reset),
                ServerReset | ConnectFailed | ConnectTimeout | NoBackend | Resources | Untrusted
                | ProxyHeader | TlsTimeout | Denied | ClientConnections | ClientRate | QueueFull
                | QueueTimeout => (Close::Reset, Close::Plain),
                BackendDown | Killed => (Close::Reset, Close::Reset),
            };
            assert_eq!((how(Side::Client, reason), how(Side::Backend, reason)), expected, "{reason}");
        }
    }

    #[test]
    fn at_a_timeout_who_is_owed_bytes_is_reset_though_it_lingers() {
        let close = how_to_close(Side::Client, CloseReason::ClientTimeout, true, true, || false);
        assert_eq!(close, Close::Reset);
    }

    #[test]
    fn without_lingering_a_timeout_resets_whom_it_was_for_and_the_other_once_nothing_is_lost_by_it() {
        let close = |side, reason, drained| how_to_close(side, reason, false, false, || drained);
        assert_eq!(close(Side::Client, CloseReason::ClientTimeout, false), Close::Reset);
        assert_eq!(close(Side::Backend, CloseReason::ClientTimeout, false), Close::Plain);
        assert_eq!(close(Side::Backend, CloseReason::ClientTimeout, true), Close::Reset);
        assert_eq!(close(Side::Client, CloseReason::ServerFinTimeout, false), Close::Plain);
        assert_eq!(close(Side::Client, CloseReason::ServerFinTimeout, true), Close::Reset);
    }

    #[test]
    fn without_lingering_a_complete_stream_still_ends_with_a_fin() {
        let close = |side| how_to_close(side, CloseReason::Completed, false, false, || true);
        assert_eq!((close(Side::Client), close(Side::Backend)), (Close::Plain, Close::Plain));
    }
}
