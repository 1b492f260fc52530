//! One service as the data plane knows it: what lives over reloads ([`ServiceState`]) and what one configuration says
//! ([`ServiceEntry`]).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use config::{Endpoint, Name, ProxyVersion, SourceAddress};
use ipnet::IpNet;

use crate::backend::Backend;
use crate::balance::Ring;
use crate::counters::{PerWorker, ServiceCounters, WorkerId};
use crate::socket::{KeepAlive, Options, Source};
use crate::tls::ServiceTls;
use crate::wheel::Ticks;
use crate::{CloseCounts, CloseReason, Eligible, ServiceStats};

/// What a service keeps over reloads: its turn and its counters, by name.
#[derive(Debug)]
pub(crate) struct ServiceState {
    /// Whose turn it is: one for all workers, so that the sequence is the same whatever their number.
    cursor: AtomicU64,
    pub(crate) counters: PerWorker<ServiceCounters>,
}

impl ServiceState {
    pub(crate) fn new(workers: usize) -> Self {
        ServiceState { cursor: AtomicU64::new(0), counters: PerWorker::new(workers) }
    }
}

/// A service as one configuration describes it. A connection keeps the entry it was accepted under.
#[derive(Debug)]
pub struct ServiceEntry {
    pub(crate) name: Name,
    pub(crate) state: Arc<ServiceState>,
    pub(crate) settings: Settings,
    pub(crate) tls: Arc<ServiceTls>,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) members: Vec<Member>,
    table: ArcSwap<Table>,
}

/// What a connection's life depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Every client begins with a PROXY header, and is one of these. `None`: no client does.
    pub(crate) accept_proxy: Option<Vec<IpNet>>,
    /// Every backend is sent one.
    pub(crate) send_proxy: Option<ProxyVersion>,
    /// What backends see the connection come from.
    pub(crate) source: SourceAddress,
    /// `TCP_USER_TIMEOUT` in milliseconds, of clients and of backends.
    pub(crate) user_timeouts: [u32; 2],
    pub(crate) connect: Ticks,
    pub(crate) client: Ticks,
    pub(crate) server: Ticks,
    pub(crate) client_fin: Ticks,
    pub(crate) server_fin: Ticks,
    pub(crate) retries: u32,
    pub(crate) keepalive: KeepAlive,
    pub(crate) linger: bool,
}

impl Settings {
    /// How sockets of clients are to behave.
    pub(crate) fn client_options(&self) -> Options {
        Options { keepalive: self.keepalive, user_timeout: self.user_timeouts[0] }
    }

    /// How sockets towards backends are to behave.
    pub(crate) fn backend_options(&self) -> Options {
        Options { keepalive: self.keepalive, user_timeout: self.user_timeouts[1] }
    }

    /// What the backend at `endpoint` is to see this client come from. A client of the other family cannot be shown.
    pub(crate) fn source(&self, client: IpAddr, endpoint: &Endpoint) -> Source {
        match (self.source, endpoint) {
            (SourceAddress::Kernel, _) | (_, Endpoint::Unix(_)) => Source::Kernel,
            (SourceAddress::Fixed(ip), Endpoint::Tcp(_)) => Source::Own(ip),
            (SourceAddress::Transparent, Endpoint::Tcp(address)) if address.is_ipv4() == client.is_ipv4() => {
                Source::Foreign(client)
            }
            (SourceAddress::Transparent, Endpoint::Tcp(_)) => Source::Kernel,
        }
    }
}

/// A backend's part in a service.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) backend: Arc<Backend>,
    pub(crate) weight: u16,
    pub(crate) backup: bool,
}

/// The eligible backends in the order of their turns.
#[derive(Debug)]
struct Table {
    primaries: Ring<Arc<Backend>>,
    /// Used only once no primary is left.
    backups: Ring<Arc<Backend>>,
}

impl Table {
    fn compile(members: &[Member]) -> Self {
        let ring = |backup: bool| {
            let eligible = |m: &&Member| m.backup == backup && m.backend.eligible() == Eligible::Yes;
            Ring::weighted(members.iter().filter(eligible).map(|m| (m.backend.clone(), m.weight)).collect())
        };
        Table { primaries: ring(false), backups: ring(true) }
    }
}

impl ServiceEntry {
    pub(crate) fn new(
        name: Name,
        state: Arc<ServiceState>,
        settings: Settings,
        tls: Arc<ServiceTls>,
        listen: Vec<SocketAddr>,
        members: Vec<Member>,
    ) -> Self {
        let table = ArcSwap::from_pointee(Table::compile(&members));
        ServiceEntry { name, state, settings, tls, listen, members, table }
    }

    /// The backend whose turn it is and that is not among `tried`: a primary as long as there is one, then a backup.
    pub fn pick(&self, tried: &[Arc<Backend>]) -> Option<Arc<Backend>> {
        let turn = self.state.cursor.fetch_add(1, Relaxed);
        // The table may be older than the last change if this entry is: what is tried again asks the backend itself.
        let wanted = |candidate: &Arc<Backend>| {
            candidate.eligible() == Eligible::Yes && !tried.iter().any(|t| Arc::ptr_eq(t, candidate))
        };
        let table = self.table.load();
        table.primaries.pick(turn, wanted).or_else(|| table.backups.pick(turn, wanted)).cloned()
    }

    /// Reads every backend's eligibility again. Counting goes on where it was.
    pub(crate) fn recompile(&self) {
        self.table.store(Arc::new(Table::compile(&self.members)));
    }

    pub(crate) fn counters(&self, worker: WorkerId) -> &ServiceCounters {
        self.state.counters.of(worker)
    }

    /// Its numbers, with those of its addresses that are `listening`.
    pub(crate) fn stats(&self, listening: &BTreeSet<SocketAddr>) -> ServiceStats {
        let sum = &self.state.counters;
        ServiceStats {
            name: self.name.clone(),
            listeners: self.listen.iter().filter(|address| listening.contains(address)).copied().collect(),
            active: sum.sum(|c| &c.active),
            accepted: sum.sum(|c| &c.accepted),
            bytes_in: sum.sum(|c| &c.bytes_in),
            bytes_out: sum.sum(|c| &c.bytes_out),
            retries: sum.sum(|c| &c.retries),
            tls_handshakes: sum.sum(|c| &c.tls_handshakes),
            tls_resumed: sum.sum(|c| &c.tls_resumed),
            closes: CloseCounts(CloseReason::ALL.map(|reason| sum.sum(|c| &c.closes[reason as usize]))),
            backends: self.members.iter().map(|member| member.backend.stats()).collect(),
        }
    }
}

/// One client's connection to a service: counts it in `accepted` and `active`, and its end by reason.
#[derive(Debug)]
pub(crate) struct ServiceGuard {
    entry: Arc<ServiceEntry>,
    worker: WorkerId,
    /// Stays as it is only if the worker goes away with its connections.
    reason: CloseReason,
}

impl ServiceGuard {
    pub(crate) fn new(entry: Arc<ServiceEntry>, worker: WorkerId) -> Self {
        let guard = ServiceGuard { entry, worker, reason: CloseReason::Killed };
        guard.counters().accepted.increment();
        guard.counters().active.increment();
        guard
    }

    /// It is another service's from now on, and counted as accepted there too.
    pub(crate) fn route_to(&mut self, entry: Arc<ServiceEntry>) {
        self.counters().active.decrement();
        self.entry = entry;
        self.counters().accepted.increment();
        self.counters().active.increment();
    }

    pub(crate) fn entry(&self) -> &Arc<ServiceEntry> {
        &self.entry
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.entry.settings
    }

    pub(crate) fn counters(&self) -> &ServiceCounters {
        self.entry.counters(self.worker)
    }

    pub(crate) fn close(mut self, reason: CloseReason) {
        self.reason = reason;
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        self.counters().active.decrement();
        self.counters().closes[self.reason as usize].increment();
    }
}
