//! What happens to the VIPs: their life cycles fed with what the host, the operator and health say.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use config::{Name, Vip};

use super::why::{Chain, why};
use super::{Duty, Steer};
use crate::events::{EventId, EventKind, Journal};
use crate::vip::life_cycle::{Desire, Input, LifeCycle, Phase};

/// A VIP has entered a phase of its life cycle.
#[derive(Debug, Clone, Copy)]
pub struct Entered {
    pub address: IpAddr,
    pub phase: Phase,
    /// The phase before.
    pub left: Phase,
    /// Which time it entered a phase; an answer names it, so that a late one is known for what it is.
    pub turn: u64,
    /// While draining: when all is to be over.
    pub deadline: Instant,
}

/// One VIP.
pub(super) struct VipState {
    config: Vip,
    life_cycle: LifeCycle,
    since: Instant,
    /// What its health amounts to, in words.
    health: String,
    /// The event that made its health what it is.
    health_event: EventId,
    /// Why it is on its way up or down, in words.
    way: String,
    /// Counts once it drains.
    deadline: Instant,
    /// How often it has entered a phase.
    turn: u64,
    /// The newest event about it: the cause of what the host brings about next.
    last_event: EventId,
}

/// Why an operator's wish for a VIP or the host is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the daemon is stopping: there is no way back")]
    Stopping,
    #[error("this host is not drained")]
    NotDrained,
    #[error("no such VIP: {0}")]
    NoSuchVip(IpAddr),
}

impl Steer {
    /// The host has done what a VIP's life cycle wanted on its `turn`; `None`: it found something out by itself.
    pub fn vip(&mut self, address: IpAddr, turn: Option<u64>, input: Input, why: &str, now: Instant) {
        let Some(vip) = self.vips.get(&address) else { return };
        if turn.is_some_and(|turn| turn != vip.turn) {
            return; // an answer to a question that is no longer asked
        }
        let (cause, phase) = (vip.last_event, vip.life_cycle.phase());
        if input == Input::TrafficEnded && phase == Phase::Listening {
            self.journal.record(now, EventKind::TrafficEnded, address.to_string(), why, cause);
            return;
        }
        self.vip_input(address, input, why, cause, now);
        let over = self.vips.get(&address).filter(|v| v.life_cycle.phase() == Phase::AddressDown);
        if let Some(gone) = over.map(VipState::last_event)
            && self.duty == Duty::Serving
        {
            self.vips.remove(&address);
            self.route_causes.remove(&address.into());
            // Configured again while it was on its way out?
            let config = Arc::clone(&self.config);
            if let Some(vip) = config.vips.iter().find(|v| v.address == address) {
                self.add_vip(vip, gone, now);
                self.know_fellows();
            }
        }
        let cause = self.vips.get(&address).map_or(cause, VipState::last_event);
        self.judge(cause, now);
    }

    /// The host cannot yet bring about what a VIP's phase asks for.
    pub fn vip_waits(&mut self, address: IpAddr, why: String) {
        if let Some(vip) = self.vips.get_mut(&address) {
            vip.way = why;
        }
    }

    /// These peers have not acknowledged what became of the route of a VIP on its way out, on its `turn`; the drain goes on.
    pub fn unacknowledged(&mut self, address: IpAddr, turn: u64, peers: &[Name], now: Instant) {
        let Some(vip) = self.vips.get_mut(&address).filter(|vip| vip.turn == turn) else { return };
        for peer in peers {
            let what = "has not acknowledged the change of the route to";
            let text = format!(
                "{what} {address}: it may send traffic here until it notices that the session is over"
            );
            self.journal.record(now, EventKind::PeerNote, peer.as_str(), text, vip.last_event);
            let said =
                format!("; {peer} has not acknowledged it, and may send traffic here until it notices");
            if !vip.way.contains(&said) {
                vip.way.push_str(&said);
            }
        }
    }

    /// This host is to serve no more, for now or, `Stopping`, for good; all is to be over by `deadline`. Answers what it
    /// was meant to do before.
    pub fn drain(&mut self, duty: Duty, why: &str, deadline: Instant, now: Instant) -> Duty {
        let before = self.duty;
        if before == Duty::Stopping || duty == Duty::Serving {
            return before;
        }
        self.duty = duty;
        let cause = self.journal.record(now, EventKind::Draining, "", why, EventId::NONE);
        let all: Vec<IpAddr> = self.vips.keys().copied().collect();
        for address in all {
            self.drain_vip(address, deadline, why, cause, now);
        }
        self.decide_routes(cause, now);
        before
    }

    /// This host serves again.
    pub fn undrain(&mut self, why: &str, now: Instant) -> Result<(), Refused> {
        match self.duty {
            Duty::Stopping => return Err(Refused::Stopping),
            Duty::Serving => return Err(Refused::NotDrained),
            Duty::Drained => {}
        }
        self.duty = Duty::Serving;
        let cause = self.journal.record(now, EventKind::Undrained, "", why, EventId::NONE);
        // One whose address is just about to go starts anew once it has gone; one that is configured no more is over.
        let config = Arc::clone(&self.config);
        for vip in &config.vips {
            self.vip_input(vip.address, Input::Undrain, why, cause, now);
        }
        self.vips.retain(|_, vip| vip.life_cycle.phase() != Phase::AddressDown);
        self.judge(cause, now);
        Ok(())
    }

    /// A VIP that came and went too often is held back no longer. Whether it was.
    pub fn release(&mut self, address: IpAddr, now: Instant) -> Result<bool, Refused> {
        self.let_go(address, "held back no longer", now)
    }

    pub(super) fn let_go(&mut self, address: IpAddr, text: &str, now: Instant) -> Result<bool, Refused> {
        let Some(vip) = self.vips.get_mut(&address) else { return Err(Refused::NoSuchVip(address)) };
        let cause = self.journal.record(now, EventKind::Released, address.to_string(), text, EventId::NONE);
        let (before, was_held_back) = (vip.life_cycle.phase(), vip.life_cycle.held_back().is_some());
        vip.life_cycle.release(now);
        let changed = vip.note_change(before, text, cause, now, &mut self.journal);
        self.effects.entered.extend(changed);
        self.decide_routes(cause, now);
        Ok(was_held_back)
    }

    /// The chain behind the newest change of `subject` and, for a VIP, where it is now. `None`: nothing is known of it.
    pub fn why(&self, subject: &str, now: Instant) -> Option<Chain> {
        let address = subject.parse::<IpAddr>().ok();
        let standing = address.and_then(|address| self.vips.get(&address)).map(|vip| vip.standing(now));
        match why(&self.journal, subject) {
            Some(chain) => Some(Chain { standing, ..chain }),
            None if standing.is_some() => {
                Some(Chain { subject: subject.to_owned(), events: Vec::new(), is_cut: false, standing })
            }
            None => None,
        }
    }

    pub(super) fn add_vip(&mut self, vip: &Vip, cause: EventId, now: Instant) {
        let state = VipState {
            config: vip.clone(),
            life_cycle: LifeCycle::new(vip),
            since: now,
            health: "not checked yet".into(),
            health_event: EventId::NONE,
            way: "just configured".into(),
            deadline: now,
            turn: 0,
            last_event: cause,
        };
        self.effects.entered.push(state.entered(Phase::Init));
        self.vips.insert(vip.address, state);
    }

    pub(super) fn drain_vip(
        &mut self,
        address: IpAddr,
        deadline: Instant,
        why: &str,
        cause: EventId,
        now: Instant,
    ) {
        let Some(vip) = self.vips.get_mut(&address) else { return };
        match vip.life_cycle.phase() {
            Phase::Holding
            | Phase::Draining
            | Phase::Withdrawn
            | Phase::Quiet
            | Phase::Closed
            | Phase::AddressDown => return,
            Phase::Init | Phase::AddressUp | Phase::Listening | Phase::Arriving => {}
            Phase::Announced | Phase::Degraded | Phase::LastResort => {}
        }
        vip.deadline = deadline;
        self.vip_input(address, Input::Drain, why, cause, now);
    }

    pub(super) fn vip_input(
        &mut self,
        address: IpAddr,
        input: Input,
        why: &str,
        cause: EventId,
        now: Instant,
    ) {
        let Some(vip) = self.vips.get_mut(&address) else { return };
        let before = vip.life_cycle.phase();
        match &input {
            Input::Health(_) => {
                if vip.health != why {
                    vip.health_event = cause;
                }
                why.clone_into(&mut vip.health);
            }
            Input::Drain | Input::Undrain => why.clone_into(&mut vip.way),
            // At the end of a drain that is no news.
            Input::AddressGone if before != Phase::Closed => why.clone_into(&mut vip.way),
            Input::AddressGone
            | Input::AddressReady
            | Input::ListenersReady
            | Input::FellowsTold
            | Input::DoorHeld
            | Input::TrafficShifted
            | Input::WithdrawAcked
            | Input::TrafficEnded
            | Input::ConnectionsClosed => {}
        }
        vip.life_cycle.handle(input, now);
        self.effects.entered.extend(vip.note_change(before, why, cause, now, &mut self.journal));
    }

    /// Raises the routes whose VIPs have been fit for long enough.
    pub(super) fn raise_earned(&mut self, now: Instant) {
        for vip in self.vips.values_mut() {
            let before = vip.life_cycle.phase();
            let held_back = vip.life_cycle.held_back();
            vip.life_cycle.handle_timeout(now);
            let why = match held_back {
                None => "healthy for announce_delay".to_owned(),
                Some(delay) => format!("healthy for {delay:.0?}; it came and went too often for less"),
            };
            // Of what it needed, the last to come: its health, or its way up.
            let cause = vip.health_event.max(vip.last_event);
            self.effects.entered.extend(vip.note_change(before, &why, cause, now, &mut self.journal));
        }
    }
}

impl VipState {
    pub(super) fn config(&self) -> &Vip {
        &self.config
    }

    pub(super) fn life_cycle(&self) -> &LifeCycle {
        &self.life_cycle
    }

    pub(super) fn desire(&self) -> Desire {
        self.life_cycle.desire()
    }

    pub(super) fn last_event(&self) -> EventId {
        self.last_event
    }

    /// When it entered its phase.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// What the new policy makes of it shows when its health is judged next.
    pub(super) fn reconfigure(&mut self, vip: &Vip, now: Instant) {
        self.config = vip.clone();
        self.life_cycle.set_policy(vip, now);
    }

    /// Where it is and why, in one line.
    fn standing(&self, now: Instant) -> String {
        let Self { life_cycle, .. } = self;
        let waits = life_cycle.waiting_until().map_or_else(String::new, |at| {
            format!(", better in {:.1} s", at.saturating_duration_since(now).as_secs_f64())
        });
        let (phase, route) = (life_cycle.phase().as_str(), life_cycle.desire().as_str());
        format!("{phase}, route {route}{waits}: {}", self.reason(now))
    }

    /// Whether there are fellow hosts to be told before the routers are, and until when more are waited for.
    pub(super) fn set_fellows(&mut self, has_fellows: bool, by: Option<Instant>) {
        self.life_cycle.set_fellows(has_fellows, by);
    }

    /// Why it is where it is, in words.
    pub(super) fn reason(&self, now: Instant) -> String {
        let left = self.deadline.saturating_duration_since(now).as_secs_f64();
        let way = &self.way;
        match self.life_cycle.phase() {
            Phase::Listening | Phase::Announced | Phase::Degraded | Phase::LastResort => self.health.clone(),
            Phase::Arriving => format!("{}; the fellow hosts are told before the routers", self.health),
            Phase::Init | Phase::AddressUp => way.clone(),
            Phase::AddressDown => format!("{way}; it is down"),
            Phase::Holding => format!("{way}; lets newcomers wait while short connections end"),
            Phase::Draining => format!("{way}; announced as the worst way until no new connection arrives"),
            Phase::Withdrawn => format!("{way}; waits until no new connection arrives"),
            Phase::Quiet => format!("{way}; waits for its connections to end, for {left:.0} s at most"),
            Phase::Closed => format!("{way}; its address goes last"),
        }
    }

    fn entered(&self, left: Phase) -> Entered {
        Entered {
            address: self.config.address,
            phase: self.life_cycle.phase(),
            left,
            turn: self.turn,
            deadline: self.deadline,
        }
    }

    /// Records that the VIP moved, if it did.
    fn note_change(
        &mut self,
        before: Phase,
        why: &str,
        cause: EventId,
        now: Instant,
        journal: &mut Journal,
    ) -> Option<Entered> {
        let phase = self.life_cycle.phase();
        if before == phase {
            return None;
        }
        self.since = now;
        self.turn += 1;
        let text = format!("{} → {}: {why}", before.as_str(), phase.as_str());
        self.last_event =
            journal.record(now, EventKind::VipChanged, self.config.address.to_string(), text, cause);
        Some(self.entered(before))
    }
}
