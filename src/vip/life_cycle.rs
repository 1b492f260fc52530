//! The life cycle of one VIP: routes move first, traffic second, sockets third, the address last; the other way round
//! when coming up. Pure: it takes `(input, now)`; its phase is what the driver works towards, its desire what the route
//! is to be. Neither a driver's answer that comes out of turn nor one that comes twice moves it.
//!
//! ```text
//!  Init → AddressUp → Listening ⇄ Announced ⇄ Degraded ⇄ LastResort     health moves it between these four, any to any;
//!                         │           └──────────┴───────────┘           with fellows, up from Listening through Arriving
//!                         │ Drain, as from       │ Drain          ┌ Undrain: as it was before
//!                         │ the two before   Holding → Draining ──┘
//!                         │                      │ no new connection arrives, or health withdraws it
//!                         └─────────────────▶ Withdrawn → Quiet → Closed → AddressDown
//!                                                └──────────┴─ Undrain: from Init
//! ```
//!
//! - Worse is immediate; better must be earned: a route is raised to a level only after the VIP was fit for that level
//!   or a better one for `announce_delay` without a break. That goes for the first announcement, for each one after a
//!   withdrawal, and for the way back from `Degraded` to `Announced`.
//! - While a service is not checked yet (`Pending`), nothing is raised; what is announced stays, or gets worse if
//!   another service is known to be short.
//! - A stale health (`Stale`) withdraws under every policy: a checker that hangs proves nothing.
//! - Where fellow hosts hear of it, a VIP arrives first: only they are told, so that they let newcomers wait for the moment in
//!   which the routers move some of their flows here. It is announced when they have been told, and while it is fit.
//! - A drain first holds the door: newcomers wait a moment, and short connections end, because a router that moves a flow
//!   to another host cuts it. Then it makes the route the worst there is (`GRACEFUL_SHUTDOWN`, RFC 8326), so that the
//!   routers move the traffic while they still have a way, and withdraws it when no new connection arrives. The waits are
//!   the driver's, and so are their caps.
//! - A VIP that comes and goes must stay fit for longer each time: see `governor`.
//! - An address that vanishes while it is needed withdraws the route and starts again from `Init`.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use config::{Flap, OnAllDown, OnShort, Vip};
use health::VipHealth;

use super::governor::Governor;

/// Where a VIP is in its life, and what its driver is to bring about next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Put the address on the host, then say [`Input::AddressReady`].
    Init,
    /// Open the listeners, then say [`Input::ListenersReady`].
    AddressUp,
    /// Accepts, and is not announced.
    Listening,
    /// About to be announced: wait until the fellow hosts have been told and let newcomers wait, then say
    /// [`Input::FellowsTold`].
    Arriving,
    Announced,
    Degraded,
    LastResort,
    /// About to be drained, announced as before: let newcomers wait until the connections that are short have ended, then
    /// say [`Input::DoorHeld`].
    Holding,
    /// Announced as the worst way there is: wait until the peers have that and no new connection arrives
    /// ([`Input::TrafficShifted`]).
    Draining,
    /// Draining: wait until the peers have the withdrawal ([`Input::WithdrawAcked`]), then until no new connection
    /// arrives ([`Input::TrafficEnded`]).
    Withdrawn,
    /// Draining: close the listeners, let connections end, then say [`Input::ConnectionsClosed`].
    Quiet,
    /// Draining: remove the address, then say [`Input::AddressGone`].
    Closed,
    AddressDown,
}

impl Phase {
    /// Draining, and can still come back without going all the way.
    pub fn is_leaving(self) -> bool {
        matches!(self, Phase::Holding | Phase::Draining | Phase::Withdrawn | Phase::Quiet)
    }

    /// A word for logs, labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Init => "init",
            Phase::AddressUp => "address_up",
            Phase::Listening => "listening",
            Phase::Arriving => "arriving",
            Phase::Announced => "announced",
            Phase::Degraded => "degraded",
            Phase::LastResort => "last_resort",
            Phase::Holding => "holding",
            Phase::Draining => "draining",
            Phase::Withdrawn => "withdrawn",
            Phase::Quiet => "quiet",
            Phase::Closed => "closed",
            Phase::AddressDown => "address_down",
        }
    }
}

/// What the VIP's route should be, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Desire {
    Withdrawn,
    /// GRACEFUL_SHUTDOWN community, worst MED, and to fellow hosts only.
    Arriving,
    /// GRACEFUL_SHUTDOWN community, the VIP's `degraded` attributes.
    Draining,
    /// GRACEFUL_SHUTDOWN community, worst MED.
    LastResort,
    /// The VIP's `degraded` attributes.
    Degraded,
    /// The VIP's `announce` attributes.
    Normal,
}

impl Desire {
    /// A word for logs, labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Desire::Withdrawn => "withdrawn",
            Desire::Arriving => "arriving",
            Desire::Draining => "draining",
            Desire::LastResort => "last_resort",
            Desire::Degraded => "degraded",
            Desire::Normal => "normal",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The address is on the host, or the operator sees to it.
    AddressReady,
    /// Every listener of the VIP accepts.
    ListenersReady,
    Health(VipHealth),
    /// The fellow hosts know that it comes and have had the time for it, or it was waited for long enough.
    FellowsTold,
    /// A planned stop, or the VIP's removal.
    Drain,
    /// It is wanted again: unless its address is about to go, it comes up from the start.
    Undrain,
    /// Newcomers wait and short connections have ended, or it was waited for long enough.
    DoorHeld,
    /// The peers have the drained route and no new connection arrives, or it was waited for long enough.
    TrafficShifted,
    /// Every established peer's TCP has acknowledged the withdrawal, or it was waited for long enough.
    WithdrawAcked,
    /// No new connection has arrived for a while, or it was waited for long enough.
    TrafficEnded,
    /// The listeners are closed and no connection is left.
    ConnectionsClosed,
    /// The address is no longer on the host.
    AddressGone,
}

/// Levels a route is raised to, from worst to best, as in `Serving::fit_since`.
const LEVELS: [Desire; 3] = [Desire::LastResort, Desire::Degraded, Desire::Normal];

#[derive(Debug, Clone, Copy)]
enum State {
    Init,
    AddressUp,
    Serving(Serving),
    /// As it will be announced.
    Arriving(Serving),
    /// As it would be without the drain.
    Holding(Serving),
    /// The same.
    Draining(Serving),
    Withdrawn {
        acked: bool,
    },
    Quiet,
    Closed,
    AddressDown,
}

/// Address and listeners are there; health decides.
#[derive(Debug, Clone, Copy)]
struct Serving {
    desire: Desire,
    /// Per level: since when the VIP has been fit for it or better.
    fit_since: [Option<Instant>; LEVELS.len()],
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LifeCycle {
    policy: Policy,
    health: VipHealth,
    state: State,
    governor: Governor,
    /// How long it must be fit for a better route: `announce_delay`, or longer for a VIP that comes and goes.
    delay: Duration,
    /// Its route was made worse and not better since: what makes it worse still belongs to that.
    sinks: bool,
    /// Whether somebody is there to be told first.
    has_fellows: bool,
    /// Until then those that are to be told and are not there yet are waited for.
    fellows_by: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Policy {
    on_short: OnShort,
    on_all_down: OnAllDown,
    announce_delay: Duration,
    flap: Flap,
}

impl From<&Vip> for Policy {
    fn from(vip: &Vip) -> Self {
        let Vip { on_short, on_all_down, announce_delay, flap, .. } = *vip;
        Policy { on_short, on_all_down, announce_delay, flap }
    }
}

impl LifeCycle {
    /// In `Init`, with nothing known about its health.
    pub fn new(vip: &Vip) -> Self {
        let health = VipHealth::Pending { services: Vec::new(), short: Vec::new() };
        let policy = Policy::from(vip);
        LifeCycle {
            policy,
            health,
            state: State::Init,
            governor: Governor::default(),
            delay: policy.announce_delay,
            sinks: false,
            has_fellows: false,
            fellows_by: None,
        }
    }

    /// Whether there are fellow hosts to be told before the routers are, and until when more of them are waited for. Counts for the next
    /// announcement.
    pub fn set_fellows(&mut self, has_fellows: bool, by: Option<Instant>) {
        self.has_fellows = has_fellows;
        self.fellows_by = by;
    }

    pub fn phase(&self) -> Phase {
        match self.state {
            State::Init => Phase::Init,
            State::AddressUp => Phase::AddressUp,
            // Neither of these is a route that health asks for: such a state is not made.
            State::Serving(Serving {
                desire: Desire::Withdrawn | Desire::Arriving | Desire::Draining,
                ..
            }) => Phase::Listening,
            State::Arriving(_) => Phase::Arriving,
            State::Serving(Serving { desire: Desire::LastResort, .. }) => Phase::LastResort,
            State::Serving(Serving { desire: Desire::Degraded, .. }) => Phase::Degraded,
            State::Serving(Serving { desire: Desire::Normal, .. }) => Phase::Announced,
            State::Holding(_) => Phase::Holding,
            State::Draining(_) => Phase::Draining,
            State::Withdrawn { .. } => Phase::Withdrawn,
            State::Quiet => Phase::Quiet,
            State::Closed => Phase::Closed,
            State::AddressDown => Phase::AddressDown,
        }
    }

    /// What the route is to be.
    pub fn desire(&self) -> Desire {
        match self.state {
            State::Serving(Serving { desire, .. }) | State::Holding(Serving { desire, .. }) => desire,
            State::Arriving(_) => Desire::Arriving,
            State::Draining(_) => Desire::Draining,
            State::Init
            | State::AddressUp
            | State::Withdrawn { .. }
            | State::Quiet
            | State::Closed
            | State::AddressDown => Desire::Withdrawn,
        }
    }

    /// When the route will be raised if the health stays as it is: the end of `announce_delay`, or of the wait for fellows.
    pub fn waiting_until(&self) -> Option<Instant> {
        let State::Serving(serving) = self.state else { return None };
        let better = LEVELS.into_iter().zip(serving.fit_since).filter(|(level, _)| *level > serving.desire);
        let earned = better.filter_map(|(_, since)| Some(since? + self.delay)).min()?;
        let awaited = self.fellows_by.filter(|_| serving.desire == Desire::Withdrawn);
        Some(awaited.map_or(earned, |by| earned.max(by)))
    }

    /// How long the way up takes now, where that is longer than `announce_delay`: it came and went too often.
    pub fn held_back(&self) -> Option<Duration> {
        (self.delay > self.policy.announce_delay).then_some(self.delay)
    }

    /// It is held back no longer, whatever it did: an operator says so, or nobody else has the address.
    pub fn release(&mut self, now: Instant) {
        self.governor = Governor::default();
        self.delay = self.policy.announce_delay;
        self.judge(now);
    }

    /// When [`LifeCycle::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting_until()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.judge(now);
    }

    /// A reload's new policy for the same VIP. It counts from the next input on, which is its health as of that reload.
    pub fn set_policy(&mut self, vip: &Vip, now: Instant) {
        self.policy = vip.into();
        self.delay = self.governor.delay(self.policy.announce_delay, &self.policy.flap, now);
    }

    pub fn handle(&mut self, input: Input, now: Instant) {
        if let Input::Health(health) = &input {
            self.health.clone_from(health);
        }
        self.state = next(self.state, &input);
        self.judge(now);
    }

    /// Moves the route to what health and policy allow: down at once, up when earned.
    fn judge(&mut self, now: Instant) {
        match &mut self.state {
            State::Serving(serving) => {
                let before = serving.desire;
                let fit = fit_for(&self.health, &self.policy, before);
                if fit < before && !self.sinks {
                    self.sinks = true;
                    self.governor.lowered(&self.policy.flap, now);
                    self.delay = self.governor.delay(self.policy.announce_delay, &self.policy.flap, now);
                }
                serving.move_to(fit, self.delay, now);
                let arrives = before == Desire::Withdrawn && serving.desire > before;
                if arrives && self.fellows_by.is_some_and(|by| now < by) {
                    serving.desire = before;
                }
                self.sinks &= serving.desire <= before;
                if arrives && serving.desire > before && self.has_fellows {
                    self.state = State::Arriving(*serving);
                }
            }
            State::Arriving(serving) => {
                let fit = fit_for(&self.health, &self.policy, Desire::Withdrawn);
                serving.move_to(fit, self.delay, now);
                if serving.desire == Desire::Withdrawn {
                    self.state = State::Serving(*serving);
                }
            }
            State::Holding(serving) | State::Draining(serving) => {
                let fit = fit_for(&self.health, &self.policy, serving.desire);
                serving.move_to(fit, self.delay, now);
                if serving.desire == Desire::Withdrawn {
                    self.state = State::Withdrawn { acked: false };
                }
            }
            State::Init
            | State::AddressUp
            | State::Withdrawn { .. }
            | State::Quiet
            | State::Closed
            | State::AddressDown => {}
        }
    }
}

impl Serving {
    const UNANNOUNCED: Serving = Serving { desire: Desire::Withdrawn, fit_since: [None; LEVELS.len()] };

    fn move_to(&mut self, fit: Desire, delay: Duration, now: Instant) {
        self.desire = self.desire.min(fit);
        for (level, since) in LEVELS.into_iter().zip(&mut self.fit_since) {
            *since = (level <= fit).then(|| since.unwrap_or(now));
            if since.is_some_and(|since| since + delay <= now) {
                self.desire = self.desire.max(level);
            }
        }
    }
}

/// The order of things: every state with every input. What is not named here comes out of turn and moves nothing.
fn next(state: State, input: &Input) -> State {
    match (state, input) {
        (State::Init, Input::AddressReady) => State::AddressUp,
        (State::AddressUp, Input::ListenersReady) => State::Serving(Serving::UNANNOUNCED),
        (State::AddressUp | State::Serving(_) | State::Arriving(_), Input::AddressGone) => State::Init,
        (State::Arriving(serving), Input::FellowsTold) => State::Serving(serving),
        // Whoever was sent here finds nothing any more: the way out need not be soft.
        (State::Holding(_) | State::Draining(_), Input::AddressGone) => State::Withdrawn { acked: false },
        (State::Serving(serving), Input::Drain) if serving.desire > Desire::Withdrawn => {
            State::Holding(serving)
        }
        (State::Holding(serving), Input::DoorHeld) => State::Draining(serving),
        (State::Init | State::AddressUp | State::Serving(_) | State::Arriving(_), Input::Drain)
        | (State::Draining(_), Input::TrafficShifted) => State::Withdrawn { acked: false },
        (State::Holding(serving) | State::Draining(serving), Input::Undrain) => State::Serving(serving),
        (State::Withdrawn { .. }, Input::WithdrawAcked) => State::Withdrawn { acked: true },
        // Before that, whoever still has the route may yet send something.
        (State::Withdrawn { acked: true }, Input::TrafficEnded) => State::Quiet,
        (State::Quiet, Input::ConnectionsClosed) => State::Closed,
        (State::Closed, Input::AddressGone) => State::AddressDown,
        // The address may never have been there: from the start, which is quick when nothing is missing.
        (State::Withdrawn { .. } | State::Quiet | State::AddressDown, Input::Undrain) => State::Init,
        (
            state,
            Input::AddressReady
            | Input::ListenersReady
            | Input::Health(_)
            | Input::FellowsTold
            | Input::Drain
            | Input::Undrain
            | Input::DoorHeld
            | Input::TrafficShifted
            | Input::WithdrawAcked
            | Input::TrafficEnded
            | Input::ConnectionsClosed
            | Input::AddressGone,
        ) => state,
    }
}

/// The best route that health and policy allow, with `current` being announced.
fn fit_for(health: &VipHealth, policy: &Policy, current: Desire) -> Desire {
    let short = match policy.on_short {
        OnShort::Degrade => Desire::Degraded,
        OnShort::Withdraw => Desire::Withdrawn,
    };
    match health {
        VipHealth::Healthy => Desire::Normal,
        VipHealth::Pending { short: known, .. } if known.is_empty() => current,
        VipHealth::Pending { .. } => current.min(short),
        VipHealth::Short { .. } => short,
        VipHealth::AllDown { .. } => match policy.on_all_down {
            OnAllDown::Withdraw => Desire::Withdrawn,
            OnAllDown::LastResort => Desire::LastResort,
            OnAllDown::Hold => current,
        },
        VipHealth::Stale { .. } => Desire::Withdrawn,
    }
}

#[cfg(test)]
mod tests;
