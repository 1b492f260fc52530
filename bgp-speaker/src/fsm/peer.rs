//! The machine itself: carries out what the table says, for both slots, and decides when to try again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::farewell::{Cause, last_words, lost_collision, transport};
use super::link::Link;
use super::negotiate::our_open;
use super::retry::Retry;
use super::table::{Farewell, Input, Step, step};
use super::timers::Timer;
use super::{Action, Closing, ConnId, Event, Params, Slot};
use crate::status::{Deadlines, PeerState};
use crate::wire::{MessageKind, Notification, keepalive};

/// Until the peer's OPEN (RFC 4271 §8.2.2: "a HoldTimer value of 4 minutes is suggested").
const OPEN_HOLD: Duration = Duration::from_secs(240);
/// RFC 9687 §3.1: the greater of this and twice the hold time.
const SEND_HOLD: Duration = Duration::from_secs(480);
/// A passive peer with a TCP-MD5 key that lets us wait that long may have another key: the kernel says nothing of what it
/// drops.
const UNHEARD: Duration = Duration::from_secs(60);

/// The state machine of one peer.
#[derive(Debug)]
pub(crate) struct PeerFsm {
    pub(super) params: Params,
    outbound: Link,
    inbound: Link,
    started: bool,
    /// Both slots stay Idle until then (IdleHoldTimer).
    idle_hold: Option<Instant>,
    /// Until then a peer that only dials has to be heard of.
    unheard: Option<Instant>,
    /// A session failed in the event being handled.
    failed: bool,
    retry: Retry,
    pub(super) actions: VecDeque<Action>,
}

impl PeerFsm {
    /// Idle; [`Event::Start`] sets it going.
    pub(crate) fn new(params: Params, seed: u64) -> Self {
        let retry = Retry::new(params.connect_retry, seed);
        PeerFsm {
            params,
            outbound: Link::new(),
            inbound: Link::new(),
            started: false,
            idle_hold: None,
            unheard: None,
            failed: false,
            retry,
            actions: VecDeque::new(),
        }
    }

    /// The furthest of both slots; before a connection, the slot that dials if one does.
    pub(crate) fn state(&self) -> PeerState {
        let furthest = self.outbound.state.max(self.inbound.state);
        if furthest >= PeerState::OpenSent {
            furthest
        } else if self.params.passive {
            self.inbound.state
        } else {
            self.outbound.state
        }
    }

    /// Of the slot that dials and of the one that accepts.
    #[cfg(test)]
    pub(crate) fn states(&self) -> [PeerState; 2] {
        [self.outbound.state, self.inbound.state]
    }

    /// Whether the peer may send messages of up to 65,535 octets on this connection (RFC 8654).
    pub(crate) fn extends_messages(&self, id: ConnId) -> bool {
        let negotiated = self.link(id.slot).negotiated.as_ref();
        self.is_current(id) && negotiated.is_some_and(|negotiated| negotiated.extended_messages)
    }

    /// For people: the timers of the furthest connection, and when the next attempt is due without one.
    pub(crate) fn deadlines(&self) -> Deadlines {
        let furthest = if self.inbound.state > self.outbound.state { &self.inbound } else { &self.outbound };
        let timers = &furthest.timers;
        let (hold, keepalive) = (timers.get(Timer::Hold), timers.get(Timer::Keepalive));
        let dial = Some(&self.outbound).filter(|link| link.state == PeerState::Active);
        let retry = self.idle_hold.or_else(|| dial?.timers.get(Timer::ConnectRetry));
        Deadlines { hold, keepalive, retry: retry.filter(|_| !furthest.is_connected()) }
    }

    pub(crate) fn set_connect_retry(&mut self, base: Duration) {
        self.params.connect_retry = base;
        self.retry.set_base(base);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`PeerFsm::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timers = [self.outbound.timers.next(), self.inbound.timers.next(), self.idle_hold, self.unheard];
        timers.into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for slot in Slot::BOTH {
            while let Some(timer) = self.link_mut(slot).timers.expired(now) {
                let input = match timer {
                    Timer::ConnectRetry => Input::ConnectRetryExpired,
                    Timer::Hold => Input::HoldExpired,
                    Timer::Keepalive => Input::KeepaliveExpired,
                    Timer::SendHold => Input::SendHoldExpired,
                };
                self.advance(slot, input, Cause::None, now);
            }
        }
        if self.idle_hold.is_some_and(|deadline| deadline <= now) {
            self.idle_hold = None;
        }
        if self.unheard.take_if(|deadline| *deadline <= now).is_some() {
            let text =
                format!("nobody has connected for {} s; {}", UNHEARD.as_secs(), hint(self.params.has_key));
            self.actions.push_back(Action::AttemptFailed(transport(&text)));
        }
        self.settle(now);
    }

    pub(crate) fn handle(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Start => self.started = true,
            Event::Stop(notification) => self.stop(&notification, now),
            Event::Connected(id) => self.advance_current(id, Input::TcpUp, Cause::None, now),
            Event::Disconnected(id, text) => {
                self.advance_current(id, Input::TcpDown, Cause::Transport(text), now);
            }
            Event::Received(id, frame) if self.is_current(id) => self.receive(id.slot, frame, now),
            Event::Received(_, _) => {}
            Event::Malformed(id, error) => {
                self.advance_current(id, Input::HeaderInvalid, Cause::defect(&error), now);
            }
            Event::Flushed(id) if self.is_current(id) => {
                self.link_mut(id.slot).timers.set(Timer::SendHold, None);
            }
            Event::Flushed(_) => {}
            Event::UpdatesSent(id) if self.is_current(id) => self.restart_keepalive(id.slot, now),
            Event::UpdatesSent(_) => {}
            Event::PathDown(notification, why) => self.path_down(&notification, &why, now),
            Event::Unacknowledged(id) => self.advance_current(id, Input::SendHoldExpired, Cause::None, now),
        }
        self.settle(now);
    }

    /// A connection from the peer: its id, or why it has to be closed at once. One that comes while an earlier one
    /// still waits for its OPEN replaces that: the peer would not dial again had it not given up.
    pub(crate) fn accept(&mut self, now: Instant) -> Result<ConnId, PeerState> {
        match self.inbound.state {
            PeerState::Active => {}
            PeerState::OpenSent => {
                let cause = Cause::Transport("the peer opened another connection".to_owned());
                self.advance(Slot::Inbound, Input::TcpDown, cause, now);
            }
            state @ (PeerState::Idle
            | PeerState::Connect
            | PeerState::OpenConfirm
            | PeerState::Established) => return Err(state.max(self.outbound.state)),
        }
        self.inbound.generation += 1;
        let id = self.id(Slot::Inbound);
        self.advance(Slot::Inbound, Input::TcpUp, Cause::None, now);
        self.settle(now);
        Ok(id)
    }

    pub(super) fn link(&self, slot: Slot) -> &Link {
        match slot {
            Slot::Outbound => &self.outbound,
            Slot::Inbound => &self.inbound,
        }
    }

    pub(super) fn link_mut(&mut self, slot: Slot) -> &mut Link {
        match slot {
            Slot::Outbound => &mut self.outbound,
            Slot::Inbound => &mut self.inbound,
        }
    }

    fn id(&self, slot: Slot) -> ConnId {
        ConnId { slot, generation: self.link(slot).generation }
    }

    /// Whether `id` is the connection or dial that its slot has now.
    fn is_current(&self, id: ConnId) -> bool {
        let link = self.link(id.slot);
        link.generation == id.generation && (link.is_connected() || link.state == PeerState::Connect)
    }

    fn stop(&mut self, notification: &Notification, now: Instant) {
        self.started = false;
        (self.idle_hold, self.unheard) = (None, None);
        for slot in Slot::BOTH {
            self.advance(slot, Input::Stop, Cause::Give(notification.clone(), None), now);
        }
    }

    /// Every connection ends as a session that failed; new ones are tried after the usual back-off.
    fn path_down(&mut self, notification: &Notification, why: &str, now: Instant) {
        for slot in Slot::BOTH {
            let cause = Cause::Give(notification.clone(), Some(why.to_owned()));
            self.advance(slot, Input::PathDown, cause, now);
        }
    }

    fn advance_current(&mut self, id: ConnId, input: Input, cause: Cause, now: Instant) {
        if self.is_current(id) {
            self.advance(id.slot, input, cause, now);
        }
    }

    /// The one place where a slot's state changes.
    pub(super) fn advance(&mut self, slot: Slot, input: Input, cause: Cause, now: Instant) {
        match step(self.link(slot).state, input) {
            Step::Ignore | Step::AnswerRefresh => {}
            Step::Dial => self.dial(slot, now),
            Step::Wait => self.wait(slot, cause, now),
            Step::SendOpen => self.send_open(slot, now),
            Step::Confirm => {
                self.retry.answered();
                self.link_mut(slot).state = PeerState::OpenConfirm;
                self.send(slot, MessageKind::Keepalive, keepalive(), now);
                self.restart_hold(slot, now);
                self.restart_keepalive(slot, now);
            }
            Step::Establish => self.establish(slot, now),
            Step::RestartHold | Step::TakeUpdate => self.restart_hold(slot, now),
            Step::SendKeepalive => {
                self.send(slot, MessageKind::Keepalive, keepalive(), now);
                self.restart_keepalive(slot, now);
            }
            Step::Close(farewell) => self.close(slot, input, farewell, cause, now),
        }
    }

    fn dial(&mut self, slot: Slot, now: Instant) {
        if self.link(slot).state == PeerState::Connect {
            self.actions.push_back(Action::Close(self.id(slot), Closing::Abort));
            let text = format!("the peer did not answer the dial in time; {}", hint(self.params.has_key));
            self.actions.push_back(Action::AttemptFailed(transport(&text)));
        }
        let timeout = self.retry.dial_timeout(now);
        let link = self.link_mut(slot);
        link.state = PeerState::Connect;
        link.generation += 1;
        link.timers.set(Timer::ConnectRetry, Some(now + timeout));
        self.actions.push_back(Action::Dial(self.id(slot)));
    }

    fn wait(&mut self, slot: Slot, cause: Cause, now: Instant) {
        let id = self.id(slot);
        let link = self.link_mut(slot);
        let (was_connected, was_dialling) = (link.is_connected(), link.state == PeerState::Connect);
        link.state = PeerState::Active;
        link.timers.stop_all();
        if was_connected || was_dialling {
            self.actions.push_back(Action::Close(id, Closing::Flush));
            if let Cause::Transport(text) = cause {
                self.actions.push_back(Action::AttemptFailed(transport(&text)));
            }
        }
        if slot == Slot::Inbound && self.params.passive && self.params.has_key {
            self.unheard = Some(now + UNHEARD);
        }
        if slot == Slot::Outbound {
            let pause = if was_connected { self.retry.after_close() } else { self.retry.after_refusal(now) };
            self.link_mut(slot).timers.set(Timer::ConnectRetry, Some(now + pause));
        }
    }

    fn send_open(&mut self, slot: Slot, now: Instant) {
        self.unheard = None;
        let link = self.link_mut(slot);
        link.state = PeerState::OpenSent;
        link.timers.stop_all();
        link.timers.set(Timer::Hold, Some(now + OPEN_HOLD));
        let open = our_open(&self.params).encode();
        self.send(slot, MessageKind::Open, open, now);
    }

    fn establish(&mut self, slot: Slot, now: Instant) {
        let id = self.id(slot);
        let Some(negotiated) = self.link(slot).negotiated.clone() else { return };
        self.link_mut(slot).state = PeerState::Established;
        self.restart_hold(slot, now);
        self.retry.established(now);
        self.actions.push_back(Action::Up(id, negotiated));
        // §6.8: next to an Established connection there is no other.
        self.advance(slot.other(), Input::CollisionLost, lost_collision(), now);
    }

    /// The one way out of a connection that was made, and of a dial that is given up for good.
    fn close(&mut self, slot: Slot, input: Input, farewell: Farewell, cause: Cause, now: Instant) {
        let id = self.id(slot);
        let was = self.link(slot).state;
        let (notification, reason) = last_words(farewell, cause);
        let closing = match farewell {
            Farewell::SendHoldTimer => Closing::Abort,
            Farewell::Silent | Farewell::Given | Farewell::HoldTimer | Farewell::Unexpected(_) => {
                Closing::Flush
            }
        };
        if let (Some(notification), Closing::Flush) = (notification, closing) {
            self.send(slot, MessageKind::Notification, notification.encode(), now);
        }
        let link = self.link_mut(slot);
        link.state = PeerState::Idle;
        link.timers.stop_all();
        link.negotiated = None;
        if was != PeerState::Active {
            self.actions.push_back(Action::Close(id, closing));
        }
        if was == PeerState::Established {
            let reason = reason.unwrap_or_else(|| transport("the session ended"));
            self.actions.push_back(Action::Down(reason));
        } else if let (Some(reason), true) = (reason, input != Input::CollisionLost) {
            self.actions.push_back(Action::AttemptFailed(reason));
        }
        self.failed |= was >= PeerState::OpenSent && input != Input::CollisionLost;
    }

    /// Decides what both slots do next once an event is through.
    fn settle(&mut self, now: Instant) {
        let failed = std::mem::take(&mut self.failed);
        if !self.started {
            return;
        }
        if failed {
            self.idle_hold = Some(now + self.retry.after_session(now));
            for slot in Slot::BOTH {
                if !self.link(slot).is_connected() {
                    self.advance(slot, Input::Stop, Cause::None, now);
                }
            }
        }
        if self.idle_hold.is_none() && !self.outbound.is_agreed() && !self.inbound.is_agreed() {
            if !self.params.passive {
                self.advance_idle(Slot::Outbound, Input::Start, now);
            }
            self.advance_idle(Slot::Inbound, Input::StartPassive, now);
        }
    }

    fn advance_idle(&mut self, slot: Slot, input: Input, now: Instant) {
        if self.link(slot).state == PeerState::Idle {
            self.advance(slot, input, Cause::None, now);
        }
    }

    fn send(&mut self, slot: Slot, kind: MessageKind, message: BytesMut, now: Instant) {
        let hold = self.hold_time(slot).unwrap_or_default();
        let timers = &mut self.link_mut(slot).timers;
        if timers.get(Timer::SendHold).is_none() {
            timers.set(Timer::SendHold, Some(now + SEND_HOLD.max(hold * 2)));
        }
        self.actions.push_back(Action::Send(self.id(slot), kind, message));
    }

    fn hold_time(&self, slot: Slot) -> Option<Duration> {
        let secs = self.link(slot).negotiated.as_ref()?.hold_time;
        (secs != 0).then(|| Duration::from_secs(u64::from(secs)))
    }

    fn restart_hold(&mut self, slot: Slot, now: Instant) {
        let deadline = self.hold_time(slot).map(|hold| now + hold);
        self.link_mut(slot).timers.set(Timer::Hold, deadline);
    }

    /// A third of the hold time, jittered (§10); also after UPDATEs, which keep the peer alive as well (§8.2.2).
    fn restart_keepalive(&mut self, slot: Slot, now: Instant) {
        let interval = self.hold_time(slot).map(|hold| self.retry.jitter().shorten(hold / 3));
        self.link_mut(slot).timers.set(Timer::Keepalive, interval.map(|interval| now + interval));
    }
}

/// What an operator can look at when nothing comes from the peer.
fn hint(has_key: bool) -> &'static str {
    if has_key {
        "is it up and reachable? Either side drops what is not signed with its own TCP-MD5 password: compare \
         password_file with what the peer has"
    } else {
        "is it up and reachable, and does it want a password?"
    }
}
