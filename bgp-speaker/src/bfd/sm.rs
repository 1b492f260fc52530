//! The state machine of one session (RFC 5880 §6.2, §6.8), asynchronous mode, active role, sans I/O.
//!
//! Pure: packets and the time in, [`Action`]s out; the owner does what [`Machine::poll_action`] says, in order, and calls
//! [`Machine::handle_timeout`] at [`Machine::poll_timeout`]. What it hands in has passed every check of §6.8.6.

use std::collections::VecDeque;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use super::packet::{ControlPacket, Diagnostic, SessionState};
use super::status::DownReason;
use super::timing::{Intervals, Negotiation};
use crate::fsm::Jitter;

/// §6.8.3: a session that is not Up sends no more often than this.
const SLOW: Duration = Duration::from_secs(1);
/// bfd.RemoteMinRxInterval before the neighbor says (§6.8.1).
const INITIAL_REMOTE_MIN_RX: Duration = Duration::from_micros(1);

/// What the owner has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Transmit(ControlPacket),
    /// The state changed; with the reason where that was a way down.
    Changed {
        to: SessionState,
        reason: Option<DownReason>,
    },
}

/// What the neighbor said last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote {
    pub(super) discriminator: Option<NonZeroU32>,
    pub(super) state: SessionState,
    pub(super) diagnostic: Diagnostic,
    min_rx: Duration,
    min_tx: Duration,
    detect_mult: u32,
    demand: bool,
}

impl Remote {
    const UNHEARD: Remote = Remote {
        discriminator: None,
        state: SessionState::Down,
        diagnostic: Diagnostic::NONE,
        min_rx: INITIAL_REMOTE_MIN_RX,
        min_tx: Duration::ZERO,
        detect_mult: 0,
        demand: false,
    };
}

#[derive(Debug)]
pub(super) struct Machine {
    timers: config::Bfd,
    discriminator: NonZeroU32,
    state: SessionState,
    diagnostic: Diagnostic,
    remote: Remote,
    negotiation: Negotiation,
    jitter: Jitter,
    next_transmission: Option<Instant>,
    /// When a packet last counted for the Detection Time; `None`: nothing to time out.
    heard: Option<Instant>,
    /// Added to the Detection Time once, where we ourselves had not been running.
    grace: Option<Duration>,
    actions: VecDeque<Action>,
}

/// §6.8.6: the state that a packet with state `received` leads to.
pub(super) fn next_state(state: SessionState, received: SessionState) -> SessionState {
    use SessionState::{AdminDown, Down, Init, Up};
    match (state, received) {
        (AdminDown, AdminDown | Down | Init | Up) => AdminDown,
        (Down | Init | Up, AdminDown) => Down,
        (Down, Down) => Init,
        (Down, Init) => Up,
        (Down, Up) => Down,
        (Init, Down) => Init,
        (Init, Init | Up) => Up,
        (Up, Down) => Down,
        (Up, Init | Up) => Up,
    }
}

impl Machine {
    /// Down, and about to say so.
    pub(super) fn new(timers: config::Bfd, discriminator: NonZeroU32, seed: u64, now: Instant) -> Self {
        Machine {
            timers,
            discriminator,
            state: SessionState::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNHEARD,
            negotiation: Negotiation::new(intervals(&timers, SessionState::Down)),
            jitter: Jitter::new(seed),
            next_transmission: Some(now),
            heard: None,
            grace: None,
            actions: VecDeque::new(),
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Machine::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.next_transmission, self.detection_deadline()].into_iter().flatten().min()
    }

    /// A valid packet of this session's neighbor: §6.8.6 from "Set bfd.RemoteDiscr" on.
    pub(super) fn handle_packet(&mut self, packet: &ControlPacket, now: Instant) {
        self.remote = Remote {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            min_rx: packet.required_min_rx,
            min_tx: packet.desired_min_tx,
            detect_mult: packet.detect_mult.get().into(),
            demand: packet.demand,
        };
        self.negotiation.heard(packet.is_final, self.is_up());
        if self.state == SessionState::AdminDown {
            return;
        }
        (self.heard, self.grace) = (Some(now), None);
        let to = next_state(self.state, packet.state);
        let changed = to != self.state;
        if changed {
            let (diagnostic, reason) = match packet.state {
                _ if to != SessionState::Down => (Diagnostic::NONE, None),
                SessionState::AdminDown => {
                    (Diagnostic::NEIGHBOR_SIGNALED_DOWN, Some(DownReason::NeighborAdminDown))
                }
                SessionState::Down | SessionState::Init | SessionState::Up => {
                    (Diagnostic::NEIGHBOR_SIGNALED_DOWN, Some(DownReason::NeighborDown))
                }
            };
            self.enter(to, diagnostic, reason);
        }
        // A change is told at once (§6.8.7); the answer to a Poll tells it as well.
        if packet.poll {
            let answer = ControlPacket { poll: false, is_final: true, ..self.packet() };
            self.actions.push_back(Action::Transmit(answer));
        } else if changed {
            self.transmit(now);
        }
        self.reschedule(now);
    }

    /// The owner has handed in everything that came before `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(deadline) = self.detection_deadline().filter(|deadline| *deadline <= now) {
            self.detection_time_over(now - deadline, now);
        }
        if self.next_transmission.is_some_and(|at| at <= now) {
            self.transmit(now);
        }
    }

    /// Takes changed timers over without a restart (§6.8.3, §6.8.12).
    pub(super) fn configure(&mut self, timers: config::Bfd, now: Instant) {
        self.timers = timers;
        self.negotiate();
        self.reschedule(now);
    }

    /// §6.8.16: holds the session down and tells the neighbor.
    pub(super) fn disable(&mut self, now: Instant) {
        if self.state != SessionState::AdminDown {
            (self.heard, self.grace) = (None, None);
            let reason = Some(DownReason::AdminDown);
            self.enter(SessionState::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, reason);
            self.transmit(now);
        }
    }

    /// Ends [`Machine::disable`].
    pub(super) fn enable(&mut self, now: Instant) {
        if self.state == SessionState::AdminDown {
            self.enter(SessionState::Down, Diagnostic::NONE, None);
            self.transmit(now);
        }
    }

    pub(super) fn discriminator(&self) -> NonZeroU32 {
        self.discriminator
    }
    pub(super) fn state(&self) -> SessionState {
        self.state
    }
    pub(super) fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }
    /// While it is Up, the neighbor's discriminator.
    pub(super) fn known_neighbor(&self) -> Option<NonZeroU32> {
        self.remote.discriminator.filter(|_| self.is_up())
    }
    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }
    pub(super) fn is_polling(&self) -> bool {
        self.negotiation.is_polling()
    }
    /// Between our packets, before jitter; `None`: none are sent of our own accord.
    pub(super) fn transmit_interval(&self) -> Option<Duration> {
        let silenced = self.remote.min_rx.is_zero();
        // §6.6: a neighbor in Demand mode wants to hear from us only when we poll.
        let is_both_up = self.is_up() && self.remote.state == SessionState::Up;
        let on_demand = self.remote.demand && is_both_up && !self.is_polling();
        let interval = self.negotiation.effective().min_tx.max(self.remote.min_rx);
        (!silenced && !on_demand).then_some(interval)
    }
    /// §6.8.4, while there is a neighbor to time out.
    pub(super) fn detection_time(&self) -> Option<Duration> {
        self.heard.map(|_| self.remote_interval() * self.remote.detect_mult)
    }
    /// How long the neighbor takes to miss us, at what it has been told (§6.8.16).
    pub(super) fn farewell(&self) -> Duration {
        self.negotiation.advertised().min_tx * u32::from(self.timers.multiplier)
    }

    fn is_up(&self) -> bool {
        self.state == SessionState::Up
    }

    fn remote_interval(&self) -> Duration {
        self.negotiation.effective().min_rx.max(self.remote.min_tx)
    }

    fn detection_deadline(&self) -> Option<Instant> {
        Some(self.heard? + self.detection_time()? + self.grace.unwrap_or_default())
    }

    /// The Detection Time is over since `late`. Being told so much later than asked means that we were not running:
    /// frozen, starved, or the whole machine stood still, and what the neighbor sent meanwhile may be lost with no fault
    /// of its own. One more interval, once, tells that from a neighbor that is gone.
    fn detection_time_over(&mut self, late: Duration, now: Instant) {
        let interval = self.remote_interval();
        if late > interval && self.grace.is_none() {
            self.grace = Some(late + interval);
            return;
        }
        (self.heard, self.grace) = (None, None);
        let Remote { state, diagnostic, .. } = self.remote;
        self.remote = Remote { state, diagnostic, ..Remote::UNHEARD };
        if matches!(self.state, SessionState::Init | SessionState::Up) {
            let reason = Some(DownReason::DetectionTimeExpired);
            self.enter(SessionState::Down, Diagnostic::DETECTION_TIME_EXPIRED, reason);
            self.transmit(now);
        }
        self.reschedule(now);
    }

    /// The one place where the state changes.
    fn enter(&mut self, to: SessionState, diagnostic: Diagnostic, reason: Option<DownReason>) {
        (self.state, self.diagnostic) = (to, diagnostic);
        self.negotiate();
        self.actions.push_back(Action::Changed { to, reason });
    }

    fn negotiate(&mut self) {
        self.negotiation.want(intervals(&self.timers, self.state), self.is_up());
    }

    /// A periodic packet, on time or brought forward.
    fn transmit(&mut self, now: Instant) {
        self.actions.push_back(Action::Transmit(self.packet()));
        self.next_transmission = None;
        self.reschedule(now);
    }

    /// Never later than the present interval has it; an interval that grew shows from the next packet on.
    fn reschedule(&mut self, now: Instant) {
        let Some(interval) = self.transmit_interval() else {
            self.next_transmission = None;
            return;
        };
        if self.next_transmission.is_none_or(|at| at > now + interval) {
            self.next_transmission = Some(now + self.jittered(interval));
        }
    }

    /// §6.8.7: 75 % to 100 %, with a multiplier of 1 to 90 %.
    fn jittered(&mut self, interval: Duration) -> Duration {
        let most = if self.timers.multiplier == 1 { 900 } else { 1000 };
        self.jitter.thousandths(interval, 750..=most)
    }

    fn packet(&self) -> ControlPacket {
        let Intervals { min_tx, min_rx } = self.negotiation.advertised();
        ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.is_polling(),
            is_final: false,
            control_plane_independent: false,
            authenticated: false,
            demand: false,
            detect_mult: NonZeroU8::new(self.timers.multiplier).unwrap_or(NonZeroU8::MIN),
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: min_tx,
            required_min_rx: min_rx,
            required_min_echo_rx: Duration::ZERO,
        }
    }
}

fn intervals(timers: &config::Bfd, state: SessionState) -> Intervals {
    let min_tx = match state {
        SessionState::Up => timers.min_tx,
        SessionState::AdminDown | SessionState::Down | SessionState::Init => timers.min_tx.max(SLOW),
    };
    Intervals { min_tx, min_rx: timers.min_rx }
}
