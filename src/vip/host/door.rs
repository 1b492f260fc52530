//! The door of a VIP: newcomers who are made to wait while the routers move, by the data plane's filter on its listeners.
//!
//! Whoever holds it, for a drain of this host or for a fellow that comes, it opens again by itself.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Host, now};
use crate::steer::Door;

/// The longest that newcomers wait before the route moves: a SYN that is dropped comes again after 1 s (RFC 6298 §2.1), and
/// by then the routers must have moved.
const HOLD_CAP: Duration = Duration::from_millis(500);
/// No connection for so long while newcomers wait: the handshakes that had begun are over as well.
const HOLD_QUIET: Duration = Duration::from_millis(100);
/// How often connections are counted while newcomers wait.
const HOLD_POLL: Duration = Duration::from_millis(5);
/// Newcomers wait no longer than this, whatever else happens.
const HOLD_BOUND: Duration = Duration::from_millis(1500);
/// What a router takes, at most, from the UPDATE to its forwarding table (seen: 3 ms BIRD, 75 ms FRR).
const ROUTER_GRACE: Duration = Duration::from_millis(300);

impl Host {
    /// Lets newcomers wait, or no longer, for a fellow host that comes; never for long.
    pub fn move_door(&self, vip: IpAddr, door: Door) {
        let host = self.clone();
        tokio::spawn(async move {
            match door {
                Door::Open => tokio::task::block_in_place(|| host.0.plane.admit_newcomers_on(vip)),
                Door::Held => host.hold_newcomers(vip),
            }
        });
    }

    /// Until they are admitted, or for [`HOLD_BOUND`] unless they are made to wait anew.
    fn hold_newcomers(&self, vip: IpAddr) {
        let time = {
            let mut doors = self.0.doors.lock().unwrap_or_else(PoisonError::into_inner);
            let times = doors.entry(vip).or_default();
            *times += 1;
            *times
        };
        tokio::task::block_in_place(|| self.0.plane.hold_newcomers_on(vip));
        let host = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HOLD_BOUND).await;
            let newest = host.0.doors.lock().unwrap_or_else(PoisonError::into_inner).get(&vip).copied();
            if newest == Some(time) {
                tokio::task::block_in_place(|| host.0.plane.admit_newcomers_on(vip));
            }
        });
    }

    /// Lets newcomers wait until no connection is left, or for as long as they can.
    pub(super) async fn hold_door(&self, vip: IpAddr, deadline: Instant) -> String {
        let started = now();
        let cap = started + HOLD_CAP.min(deadline.saturating_duration_since(started) / 4);
        self.hold_newcomers(vip);
        let mut poll = tokio::time::interval(HOLD_POLL);
        let mut last = (self.0.plane.accepted_on(vip), started);
        loop {
            let now = poll.tick().await.into_std();
            let (accepted, open) = (self.0.plane.accepted_on(vip), self.0.plane.active_on(vip));
            if accepted != last.0 || open > 0 {
                last = (accepted, now);
            }
            if now >= last.1 + HOLD_QUIET || now >= cap {
                return format!("newcomers wait, {open} connections open");
            }
        }
    }

    /// Newcomers are let in again, once the routers have had the time to move: who still comes here has no other way.
    pub(super) async fn open_door(&self, vip: IpAddr, deadline: Instant) {
        tokio::time::sleep(ROUTER_GRACE.min(deadline.saturating_duration_since(now()) / 4)).await;
        tokio::task::block_in_place(|| self.0.plane.admit_newcomers_on(vip));
    }
}
