//! What the peers show of our own VIPs: whether this host is known to be the last one that could announce one. Pure.
//!
//! A router shows its best path at most, and many show none: that nothing is shown says something only where the same
//! session has shown a path to the VIP before. While we announce it ourselves, ours may be the best path and the reason
//! why nothing is shown; so nothing counts before the VIP has been withdrawn for long enough that routers have settled.
#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use config::Name;

use super::Steer;
use crate::vip::life_cycle::Phase;

/// How long routers may take to show another path in place of ours.
const SETTLED: Duration = Duration::from_secs(3);

/// What an Established session shows now.
#[derive(Debug, Clone)]
pub struct Session {
    pub peer: Name,
    /// When it was established.
    pub since: Instant,
    /// VIPs of ours that others announce as well.
    pub vips: BTreeSet<IpAddr>,
    /// Those of them with GRACEFUL_SHUTDOWN.
    pub coming: BTreeSet<IpAddr>,
}

/// What the sessions that there are show and have shown.
#[derive(Debug, Default)]
pub(super) struct Others {
    shown: BTreeSet<IpAddr>,
    /// Which session has shown a path to which VIP.
    ever: BTreeSet<(Name, Instant, IpAddr)>,
}

impl Others {
    fn hear(&mut self, sessions: &[Session]) {
        let lives = |peer: &Name, since| sessions.iter().any(|s| s.peer == *peer && s.since == since);
        self.ever.retain(|(peer, since, _)| lives(peer, *since));
        self.shown.clear();
        for Session { peer, since, vips, .. } in sessions {
            self.shown.extend(vips);
            self.ever.extend(vips.iter().map(|vip| (peer.clone(), *since, *vip)));
        }
    }

    /// Somebody would show a path to this VIP if there were one.
    fn are_gone(&self, vip: IpAddr) -> bool {
        !self.shown.contains(&vip) && self.ever.iter().any(|(_, _, known)| *known == vip)
    }
}

impl Steer {
    /// Takes in what every Established session shows now. A VIP that nobody else announces is held back no longer: a
    /// host that comes and goes is better than none.
    pub fn others(&mut self, sessions: &[Session], now: Instant) {
        self.hear_fellows(sessions, now);
        self.others.hear(sessions);
        let is_last = |(address, vip): (&IpAddr, &super::VipState)| {
            let waits = vip.life_cycle().phase() == Phase::Listening
                && vip.life_cycle().held_back().is_some()
                && now.saturating_duration_since(vip.since()) >= SETTLED;
            (waits && self.others.are_gone(*address)).then_some(*address)
        };
        let last: Vec<IpAddr> = self.vips.iter().filter_map(is_last).collect();
        for address in last {
            // It is there: it was just found.
            let _ = self.let_go(address, "held back no longer: no other host announces it", now);
        }
    }
}
