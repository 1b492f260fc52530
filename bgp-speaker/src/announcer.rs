//! What an Established session still has to say, and proof that it got through.
//!
//! Pure. Owns the session's Adj-RIB-Out, pending refreshes and the changes that TCP has not acknowledged. Offsets count
//! the octets of one connection from its start: a change is written when TCP has taken the octet at its end, and
//! acknowledged when the peer's TCP has.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgpkit_parser::error::EncodingError;
use bytes::BytesMut;
use config::Family;
use ipnet::IpNet;

use crate::pack::{self, Changes, Dialect};
use crate::policy::Policy;
use crate::rib::AdjRibOut;
use crate::route::RouteSet;
use crate::status::Unannounced;
use crate::wire::{Refresh, RefreshKind};

/// Changes on their way at once; beyond it the newest decision waits, and older ones are never said.
const MAX_IN_FLIGHT: usize = 32;
/// Acknowledgements are looked for this soon after a write, then at doubling distances.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// One version on its way to the peer.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) version: u64,
    pub(crate) cause: u64,
    /// When it was decided, or the session came up, whichever was later.
    since: Instant,
    announced: Vec<IpNet>,
    withdrawn: Vec<IpNet>,
    /// Routes the peer then holds.
    pub(crate) routes: usize,
    end: u64,
    deadline: Instant,
    queued: Instant,
    written: bool,
}

impl InFlight {
    pub(crate) fn is_change(&self) -> bool {
        !self.announced.is_empty() || !self.withdrawn.is_empty()
    }
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
    pub(crate) fn since_queued(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.queued)
    }
    pub(crate) fn announced(&self) -> &[IpNet] {
        &self.announced
    }
    pub(crate) fn withdrawn(&self) -> &[IpNet] {
        &self.withdrawn
    }
}

/// Octets to send, and what they are for the counters.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) octets: BytesMut,
    pub(crate) updates: u64,
    pub(crate) refreshes: u64,
}

/// The announcing half of a session.
#[derive(Debug)]
pub(crate) struct Announcer {
    policy: Policy,
    dialect: Dialect,
    /// Refreshes are demarcated (RFC 7313).
    demarcate: bool,
    /// Until when a change must be acknowledged after it was queued.
    ack_limit: Duration,
    up_since: Instant,
    rib: AdjRibOut,
    /// The set that `rib` reflects; `None`: nothing was said yet.
    said: Option<Arc<RouteSet>>,
    refreshes: BTreeSet<Family>,
    in_flight: VecDeque<InFlight>,
    unannounced: Vec<Unannounced>,
    next_look: Option<(Instant, Duration)>,
}

impl Announcer {
    pub(crate) fn new(
        policy: Policy,
        dialect: Dialect,
        demarcate: bool,
        ack_limit: Duration,
        now: Instant,
    ) -> Self {
        Announcer {
            policy,
            dialect,
            demarcate,
            ack_limit,
            up_since: now,
            rib: AdjRibOut::default(),
            said: None,
            refreshes: BTreeSet::new(),
            in_flight: VecDeque::new(),
            unannounced: Vec::new(),
            next_look: None,
        }
    }

    /// The peer wants everything of `family` again. False: it is about to get it anyway.
    pub(crate) fn refresh(&mut self, family: Family) -> bool {
        self.refreshes.insert(family)
    }

    pub(crate) fn routes(&self) -> usize {
        self.rib.len()
    }

    pub(crate) fn unannounced(&self) -> &[Unannounced] {
        &self.unannounced
    }

    /// What to send now for the peer to hold `desired`; its octets start at offset `queued`. Call it when everything
    /// before has been written: what changes meanwhile is then said once, as it finally is.
    pub(crate) fn next_batch(
        &mut self,
        desired: &Arc<RouteSet>,
        queued: u64,
        now: Instant,
    ) -> Result<Option<Batch>, EncodingError> {
        let mut batch = Batch::default();
        let current = self.said.as_ref().is_some_and(|said| Arc::ptr_eq(said, desired));
        if !current && self.in_flight.len() < MAX_IN_FLIGHT {
            let changes = self.say(desired, &mut batch)?;
            self.depart(desired, changes, queued + batch.octets.len() as u64, now);
        }
        while let Some(family) = self.refreshes.pop_first() {
            self.say_again(family, &mut batch)?;
        }
        Ok((!batch.octets.is_empty()).then_some(batch))
    }

    fn say(&mut self, desired: &Arc<RouteSet>, batch: &mut Batch) -> Result<Changes, EncodingError> {
        let diff = self.rib.advance(desired, &self.policy, &self.dialect);
        self.unannounced = diff.unannounced;
        batch.updates += pack::pack(&diff.changes, &self.dialect, &mut batch.octets)?;
        if self.said.replace(desired.clone()).is_none() {
            for family in &self.dialect.families {
                pack::end_of_rib(*family, &mut batch.octets);
                batch.updates += 1;
            }
        }
        Ok(diff.changes)
    }

    fn say_again(&mut self, family: Family, batch: &mut Batch) -> Result<(), EncodingError> {
        self.demarcate(family, RefreshKind::Begin, batch);
        batch.updates += pack::pack(&self.rib.again(family), &self.dialect, &mut batch.octets)?;
        self.demarcate(family, RefreshKind::End, batch);
        Ok(())
    }

    fn demarcate(&self, family: Family, kind: RefreshKind, batch: &mut Batch) {
        if self.demarcate {
            batch.octets.unsplit(Refresh { family, kind }.encode());
            batch.refreshes += 1;
        }
    }

    fn depart(&mut self, desired: &RouteSet, changes: Changes, end: u64, now: Instant) {
        self.in_flight.push_back(InFlight {
            version: desired.version,
            cause: desired.cause,
            since: desired.decided.max(self.up_since),
            announced: changes.announced.into_values().flatten().collect(),
            withdrawn: changes.withdrawn,
            routes: self.rib.len(),
            end,
            deadline: now + self.ack_limit,
            queued: now,
            written: false,
        });
        self.next_look = Some((now, FIRST_LOOK));
    }

    /// TCP has taken everything before `offset`: the changes that are newly written.
    pub(crate) fn written(&mut self, offset: u64) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter_mut().filter(move |change| !change.written && change.end <= offset).map(
            |change| {
                change.written = true;
                &*change
            },
        )
    }

    /// The peer's TCP has acknowledged everything before `offset`: the changes that have arrived.
    pub(crate) fn acknowledged(&mut self, offset: u64, now: Instant) -> Vec<InFlight> {
        let arrived = self.in_flight.iter().take_while(|change| change.end <= offset).count();
        let arrived = self.in_flight.drain(..arrived).collect();
        self.next_look = match self.next_look {
            Some((_, distance)) if !self.in_flight.is_empty() => {
                Some((now + distance, LAST_LOOK.min(distance * 2)))
            }
            _ => None,
        };
        arrived
    }

    /// Whether some change should have been acknowledged by now.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.in_flight.front().is_some_and(|change| change.deadline <= now)
    }

    /// When to look for acknowledgements again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_look.map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use config::{AttributeOverrides, Name};

    use super::*;
    use crate::fixture;
    use crate::wire::{Framer, MessageKind};

    const LIMIT: Duration = Duration::from_secs(6);

    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; the tests move time themselves")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn announcer(now: Instant) -> Announcer {
        let (announce, degraded) = (AttributeOverrides::default(), AttributeOverrides::default());
        let policy = Policy { peer: Name::new("peer").unwrap(), announce, degraded };
        Announcer::new(policy, fixture::dialect(), true, LIMIT, now)
    }

    fn decision(version: u64, hosts: &[u8], now: Instant) -> Arc<RouteSet> {
        let prefixes: Vec<_> = hosts.iter().map(|host| format!("10.0.0.{host}/32")).collect();
        let routes: Vec<_> = prefixes.iter().map(|prefix| (prefix.as_str(), 1)).collect();
        Arc::new(fixture::decision(version, &routes, now))
    }

    fn kinds(octets: &[u8]) -> Vec<MessageKind> {
        let mut framer = Framer::default();
        bytes::BufMut::put_slice(&mut framer.space(), octets);
        std::iter::from_fn(|| framer.next_frame().unwrap().map(|frame| frame.kind)).collect()
    }

    #[test]
    fn a_session_begins_with_the_routes_and_end_of_rib_and_then_says_changes_only() {
        let now = origin();
        let mut announcer = announcer(now);
        let first = decision(1, &[1, 2], now);
        assert_eq!(announcer.next_batch(&first, 0, now).unwrap().unwrap().updates, 2);
        assert!(announcer.next_batch(&first, 100, now).unwrap().is_none(), "the same decision again");
        let second = decision(2, &[1], now);
        assert_eq!(announcer.next_batch(&second, 100, now).unwrap().unwrap().updates, 1);
        let third = decision(3, &[1], now);
        assert!(announcer.next_batch(&third, 200, now).unwrap().is_none(), "an equal decision");
        assert_eq!(announcer.routes(), 1);
    }

    #[test]
    fn a_change_is_written_and_acknowledged_when_its_last_octet_is() {
        let now = origin();
        let mut announcer = announcer(now);
        let batch = announcer.next_batch(&decision(1, &[1], now), 50, now).unwrap().unwrap();
        let end = 50 + batch.octets.len() as u64;
        assert_eq!(announcer.written(end - 1).count(), 0);
        assert_eq!(announcer.written(end).map(|change| change.version).collect::<Vec<_>>(), [1]);
        assert_eq!(announcer.written(end).count(), 0, "told once");
        assert!(announcer.acknowledged(end - 1, now).is_empty());
        assert_eq!(announcer.acknowledged(end, now)[0].version, 1);
        assert_eq!(announcer.poll_timeout(), None, "nothing is looked for any more");
    }

    #[test]
    fn a_decision_that_changes_nothing_for_this_peer_is_acknowledged_with_what_was_before() {
        let now = origin();
        let mut announcer = announcer(now);
        let batch = announcer.next_batch(&decision(1, &[1], now), 0, now).unwrap().unwrap();
        announcer.next_batch(&decision(2, &[1], now), batch.octets.len() as u64, now).unwrap();
        let arrived = announcer.acknowledged(batch.octets.len() as u64, now);
        let arrived: Vec<_> = arrived.iter().map(|change| (change.version, change.is_change())).collect();
        assert_eq!(arrived, [(1, true), (2, false)]);
    }

    #[test]
    fn looking_for_acknowledgements_slows_down_and_ends_at_the_deadline() {
        let start = origin();
        let (mut announcer, mut now, mut looks) = (announcer(start), start, 0);
        announcer.next_batch(&decision(1, &[1], start), 0, start).unwrap();
        while !announcer.is_overdue(now) {
            now = announcer.poll_timeout().unwrap();
            announcer.acknowledged(0, now);
            looks += 1;
        }
        assert!(now - start < LIMIT + LAST_LOOK && looks < 80, "{looks} looks in {:?}", now - start);
    }

    #[test]
    fn with_too_much_unacknowledged_the_newest_decision_waits_and_is_said_at_last() {
        let now = origin();
        let mut announcer = announcer(now);
        let decisions: Vec<_> = (1..=100).map(|n| decision(n, &[n as u8], now)).collect();
        let mut queued = 0;
        for decision in &decisions {
            let batch = announcer.next_batch(decision, queued, now).unwrap();
            queued += batch.map_or(0, |batch| batch.octets.len() as u64);
        }
        assert_eq!(announcer.in_flight.len(), MAX_IN_FLIGHT);
        announcer.acknowledged(queued, now);
        let batch = announcer.next_batch(&decisions[99], queued, now).unwrap().unwrap();
        assert_eq!(batch.updates, 2, "one withdrawal, one announcement");
        assert!(announcer.next_batch(&decisions[99], queued, now).unwrap().is_none());
    }

    #[test]
    fn a_refresh_is_demarcated_where_the_peer_understands_it() {
        use MessageKind::{RouteRefresh, Update};
        let now = origin();
        for (demarcate, expected) in [(true, vec![RouteRefresh, Update, RouteRefresh]), (false, vec![Update])]
        {
            let mut announcer = Announcer { demarcate, ..announcer(now) };
            let decision = decision(1, &[1], now);
            announcer.next_batch(&decision, 0, now).unwrap();
            assert!(announcer.refresh(Family::Ipv4));
            assert!(!announcer.refresh(Family::Ipv4), "it is about to get them");
            let batch = announcer.next_batch(&decision, 0, now).unwrap().unwrap();
            assert_eq!(kinds(&batch.octets), expected);
            assert!(announcer.next_batch(&decision, 0, now).unwrap().is_none());
        }
    }
}
