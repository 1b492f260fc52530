//! One client's connection from accept to its end: which deadline it has, and how its sockets are closed. The rules
//! are pure; the event loop applies them.

use std::time::Duration;

use crate::CloseReason;
use crate::address::AddressGuard;
use crate::backend::BackendGuard;
use crate::connect::Attempt;
use crate::poll::Watch;
use crate::relay::{Relay, Side};
use crate::service::{ServiceGuard, Settings};
use crate::socket::{self, Close};
use crate::wheel::{Tick, Ticks};

/// A connect that takes longer has its client watched: one that goes away meanwhile gives its place free.
const UNDECIDED: Duration = Duration::from_millis(30);

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) service: ServiceGuard,
    pub(crate) local: AddressGuard,
    pub(crate) backend: BackendGuard,
    /// While `attempt` is there, the backend's socket is still connecting and nothing is relayed.
    pub(crate) relay: Relay,
    pub(crate) attempt: Option<Attempt>,
    /// Waits in the run queue.
    pub(crate) queued: bool,
    /// What the client's socket is watched for; `None` at first, see [`Connection::look_again`].
    pub(crate) client_watch: Option<Watch>,
}

impl Connection {
    /// The next moment at which it ends if nothing happens before, and why it would.
    pub(crate) fn deadline(&self) -> (Tick, CloseReason) {
        match &self.attempt {
            Some(attempt) => (attempt.deadline, CloseReason::ConnectTimeout),
            None => idle_deadline(&self.relay, self.service.settings()),
        }
    }

    /// When a connection that begins to connect at `now` is to be looked at: at its deadline, and before that once for
    /// the sake of the client. Most backends answer sooner, and until then the client's socket costs no system call.
    pub(crate) fn look_again(&self, now: Tick) -> Tick {
        let deadline = self.deadline().0;
        match self.client_watch {
            None => deadline.min(now.after(Ticks::from(UNDECIDED))),
            Some(_) => deadline,
        }
    }

    /// Counts what was delivered since the flows had delivered `before`.
    pub(crate) fn count_since(&self, before: (u64, u64)) {
        let (up, down) = (self.relay.up.bytes - before.0, self.relay.down.bytes - before.1);
        self.service.counters().bytes_in.add(up);
        self.service.counters().bytes_out.add(down);
        self.backend.counters().bytes_in.add(up);
        self.backend.counters().bytes_out.add(down);
    }

    /// Takes down why it ends, then closes both sockets: who sees the end finds it counted.
    pub(crate) fn close(self, reason: CloseReason) {
        let linger = self.service.settings().linger;
        let owed = [self.relay.owes(Side::Client), self.relay.owes(Side::Backend)];
        self.service.close(reason);
        drop((self.backend, self.local));
        let Relay { client, backend, .. } = self.relay;
        for (side, end, owed) in [(Side::Client, client, owed[0]), (Side::Backend, backend, owed[1])] {
            let drained = || socket::unacknowledged(&end.socket) == Ok(0);
            let how = how_to_close(side, reason, linger, owed, drained);
            socket::close(end.socket, how);
        }
    }
}

/// Each side that the connection waits for has its own time; after a half-close the times for a closing connection
/// hold.
fn idle_deadline(relay: &Relay, settings: &Settings) -> (Tick, CloseReason) {
    let half_closed = relay.client.eof || relay.backend.eof;
    let client = match half_closed {
        false => (relay.client.touched.after(settings.client), CloseReason::ClientTimeout),
        true => (relay.client.touched.after(settings.client_fin), CloseReason::ClientFinTimeout),
    };
    let server = match half_closed {
        false => (relay.backend.touched.after(settings.server), CloseReason::ServerTimeout),
        true => (relay.backend.touched.after(settings.server_fin), CloseReason::ServerFinTimeout),
    };
    match (relay.waits_for(Side::Client), relay.waits_for(Side::Backend)) {
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
        CloseReason::ClientReset => side == Side::Backend,
        CloseReason::ServerReset
        | CloseReason::ConnectFailed
        | CloseReason::ConnectTimeout
        | CloseReason::NoBackend
        | CloseReason::Resources => side == Side::Client,
        CloseReason::Killed => true,
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
            connect: ticks(1000),
            client: ticks(100),
            server: ticks(200),
            client_fin: ticks(30),
            server_fin: ticks(40),
            retries: 3,
            keepalive: KeepAlive::Off,
            linger: true,
        }
    }

    fn idle_relay() -> Relay {
        let descriptor = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        Relay::new(descriptor(), descriptor(), Tick(0))
    }

    fn deadline(relay: &Relay) -> (u64, CloseReason) {
        let (tick, reason) = idle_deadline(relay, &settings());
        (tick.0 - 1, reason)
    }

    #[test]
    fn the_side_whose_time_runs_out_first_ends_an_idle_connection() {
        let mut relay = idle_relay();
        assert_eq!(deadline(&relay), (100, CloseReason::ClientTimeout));
        relay.client.touched = Tick(150);
        assert_eq!(deadline(&relay), (200, CloseReason::ServerTimeout));
    }

    #[test]
    fn after_a_half_close_the_other_side_has_its_fin_timeout() {
        let mut relay = idle_relay();
        relay.client.eof = true;
        assert_eq!(deadline(&relay), (40, CloseReason::ServerFinTimeout));
        let mut relay = idle_relay();
        relay.backend.eof = true;
        assert_eq!(deadline(&relay), (30, CloseReason::ClientFinTimeout));
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
                ClientReset => (Close::Plain, Close::Reset),
                ServerReset | ConnectFailed | ConnectTimeout | NoBackend | Resources => {
                    (Close::Reset, Close::Plain)
                }
                Killed => (Close::Reset, Close::Reset),
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
