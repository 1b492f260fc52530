//! An Established session: feeds the connection with what the announcer has to say, and tells what became of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bgpkit_parser::error::EncodingError;
use config::Family;

use crate::announcer::Announcer;
use crate::connection::Connection;
use crate::dialect::Dialect;
use crate::fsm::ConnId;
use crate::observer::Observer;
use crate::own_paths::OwnPaths;
use crate::policy::Policy;
use crate::route::RouteSet;
use crate::status::{Negotiated, PeerEvent};
use crate::wire::{Refresh, RefreshKind};

/// A change must be acknowledged within two thirds of the hold time, and within this.
const MAX_ACK_LIMIT: Duration = Duration::from_secs(30);

/// The announcing half of a session, on its connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: ConnId,
    announcer: Announcer,
    paths: OwnPaths,
    /// The peer answers route refreshes.
    can_ask: bool,
}

/// Whether the peer keeps up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Fine,
    /// A change was not acknowledged in time.
    Overdue,
}

impl Session {
    pub(crate) fn new(
        id: ConnId,
        policy: Policy,
        dialect: Dialect,
        negotiated: &Negotiated,
        watching: Arc<RouteSet>,
        now: Instant,
    ) -> Self {
        let limit = ack_limit(negotiated.hold_time);
        let paths = OwnPaths::new(dialect.internal, negotiated.clone(), watching);
        let announcer = Announcer::new(policy, dialect, negotiated.enhanced_refresh, limit, now);
        Session { id, announcer, paths, can_ask: negotiated.route_refresh }
    }

    pub(crate) fn refresh(&mut self, family: Family) -> bool {
        self.announcer.refresh(family)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.announcer.poll_timeout()
    }

    /// Queues what the peer does not hold yet, once everything before is written. Whether there was something.
    pub(crate) fn announce(
        &mut self,
        connection: &mut Connection,
        desired: &Arc<RouteSet>,
        observer: &Observer,
        now: Instant,
    ) -> Result<bool, EncodingError> {
        if !connection.is_flushed() {
            return Ok(false);
        }
        self.watch(connection, desired, observer);
        let Some(batch) = self.announcer.next_batch(desired, connection.queued(), now)? else {
            return Ok(false);
        };
        connection.queue(batch.octets);
        observer.update(|status| {
            status.messages_out.update += batch.updates;
            status.messages_out.route_refresh += batch.refreshes;
        });
        Ok(true)
    }

    /// Tells what TCP has taken, and looks for acknowledgements when it is time to.
    pub(crate) fn prove(&mut self, connection: &Connection, observer: &Observer, now: Instant) -> Standing {
        let peer = observer.name();
        for change in self.announcer.written(connection.written()) {
            observer.update(|status| {
                status.version_sent = change.version;
                status.routes_sent = change.routes;
            });
            if change.is_change() {
                observer.emit(PeerEvent::Sent {
                    peer: peer.clone(),
                    version: change.version,
                    cause: change.cause,
                    announced: change.announced().to_vec(),
                    withdrawn: change.withdrawn().to_vec(),
                    since_decided: change.age(now),
                });
            }
        }
        if self.announcer.poll_timeout().is_some_and(|at| at <= now) {
            // Where the kernel does not say, nothing counts as acknowledged, and the deadline decides.
            let offset = connection.acknowledged().unwrap_or(0);
            self.acknowledged(offset, observer, now);
        }
        observer.update(|status| {
            status.routes_desired = self.announcer.routes();
            if status.unannounced != self.announcer.unannounced() {
                status.unannounced = self.announcer.unannounced().to_vec();
            }
        });
        if self.announcer.is_overdue(now) { Standing::Overdue } else { Standing::Fine }
    }

    fn acknowledged(&mut self, offset: u64, observer: &Observer, now: Instant) {
        for change in self.announcer.acknowledged(offset, now) {
            observer.update(|status| {
                status.version_acknowledged = change.version;
                status.routes_acknowledged = change.routes;
            });
            if change.is_change() {
                observer.emit(PeerEvent::Acked {
                    peer: observer.name().clone(),
                    version: change.version,
                    cause: change.cause,
                    since_decided: change.age(now),
                    since_sent: change.since_queued(now),
                    withdrawn: change.withdrawn().len(),
                });
            }
        }
    }

    /// What an UPDATE says of our own prefixes.
    pub(crate) fn hear(&mut self, body: &[u8], observer: &Observer) {
        let graceful = self.paths.graceful();
        if self.paths.hear(body) {
            self.show_paths(observer);
        }
        if graceful != self.paths.graceful() {
            observer.remark(PeerEvent::GracefulPathsChanged { peer: observer.name().clone() });
        }
    }

    /// Asks the peer for everything again where prefixes are newly watched.
    fn watch(&mut self, connection: &mut Connection, desired: &Arc<RouteSet>, observer: &Observer) {
        let families = self.paths.watch(desired);
        if !families.is_empty() {
            self.show_paths(observer);
        }
        for family in families.into_iter().filter(|_| self.can_ask) {
            connection.queue(Refresh { family, kind: RefreshKind::Request }.encode());
            observer.update(|status| status.messages_out.route_refresh += 1);
        }
    }

    fn show_paths(&self, observer: &Observer) {
        observer.update(|status| status.paths = self.paths.iter().cloned().collect());
    }
}

/// Below the hold time, so that a route that has to go goes either way.
pub(crate) fn ack_limit(hold_time: u16) -> Duration {
    match hold_time {
        0 => MAX_ACK_LIMIT,
        secs => MAX_ACK_LIMIT.min(Duration::from_secs(u64::from(secs)) * 2 / 3),
    }
}
