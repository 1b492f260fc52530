//! One service as the data plane knows it: what lives over reloads ([`ServiceState`]) and what one configuration says
//! ([`ServiceEntry`]).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use config::{Endpoint, Name, OnDown, ProxyVersion, SourceAddress};
use ipnet::IpNet;

use crate::backend::{Backend, BackendGuard};
use crate::choice::{Ask, Miss, Turns};
use crate::clients::{Admission, Connected, Presence};
use crate::clock::Clock;
use crate::counters::{PerWorker, ServiceCounters, WorkerId};
use crate::gate::Capacity;
use crate::queue::{self, Queue, Ticket, Waiter};
use crate::socket::{KeepAlive, Options, Source};
use crate::table::{Roster, Table};
use crate::tls::ServiceTls;
use crate::wheel::Ticks;
use crate::{CloseCounts, CloseReason, ServiceStats};

/// What a service keeps over reloads, by name: its turn, its counters, who uses it and who waits for it.
#[derive(Debug)]
pub(crate) struct ServiceState {
    clock: Clock,
    turns: Turns,
    pub(crate) counters: PerWorker<ServiceCounters>,
    /// The backends that picks choose from: of the newest configuration, whichever a connection was accepted under.
    table: ArcSwap<Table>,
    queue: Queue,
    connected: Arc<Connected>,
    /// Client connections now.
    open: AtomicU64,
}

impl ServiceState {
    pub(crate) fn new(workers: usize, clock: Clock, seed: u64) -> Self {
        ServiceState {
            clock,
            turns: Turns::new(seed),
            counters: PerWorker::new(workers),
            table: ArcSwap::from_pointee(Table::empty()),
            queue: Queue::default(),
            connected: Arc::new(Connected::new()),
            open: AtomicU64::new(0),
        }
    }

    /// Takes a place at a backend.
    fn pick(self: &Arc<Self>, ask: &Ask<'_>, worker: WorkerId) -> Result<BackendGuard, Miss> {
        let table = self.table.load();
        let backend = table.pick(ask, &self.turns)?.clone();
        Ok(BackendGuard::new(backend, self.clone(), worker))
    }

    /// A backend has a place again.
    pub(crate) fn released(self: &Arc<Self>, backend: &Arc<Backend>) {
        self.table.load().released(backend, || self.clock.elapsed());
        self.serve_queue();
    }

    fn serve_queue(self: &Arc<Self>) {
        self.queue.serve(|waiter| {
            let ask = Ask { client: waiter.client, tried: &waiter.tried, now: self.clock.elapsed() };
            self.pick(&ask, waiter.worker)
        });
    }

    /// Lets everybody else in the queue come first. The new ticket, if it is still in it.
    pub(crate) fn step_back(&self, ticket: Ticket) -> Option<Ticket> {
        self.queue.step_back(ticket)
    }

    /// Leaves the queue, if still in it.
    pub(crate) fn leave(&self, ticket: Ticket) {
        self.queue.leave(ticket);
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
    pub(crate) max_connections: Option<u32>,
    pub(crate) admission: Admission,
    pub(crate) roster: Roster,
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
    /// Longest wait for a place at a backend; `None`: there is no queue.
    pub(crate) queue: Option<Ticks>,
    pub(crate) on_down: OnDown,
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

impl ServiceEntry {
    /// Takes a place at a backend for a connection. Who comes first to a service where others wait finds it full.
    pub(crate) fn pick(&self, ask: &Ask<'_>, worker: WorkerId) -> Result<BackendGuard, Miss> {
        if ask.tried.is_empty() && self.state.queue.len() > 0 {
            return Err(Miss::Full);
        }
        self.state.pick(ask, worker)
    }

    /// Gets in line for a place. Its answer, which may be there at once, comes to the waiter's mailbox. `None`: there is
    /// no room in the queue.
    pub(crate) fn wait(&self, waiter: Waiter) -> Option<Ticket> {
        let bound = queue::bound(self.state.table.load().room());
        let ticket = self.state.queue.enter(waiter, bound)?;
        self.state.serve_queue();
        Some(ticket)
    }

    /// Counts one more connection if there may be one, or if there are fewer than so many `beyond` the limit.
    pub(crate) fn reserve(&self, beyond: u64) -> bool {
        let limit = self.max_connections.map_or(u64::MAX, |limit| u64::from(limit) + beyond);
        let one_more = |open| (open < limit).then_some(open + 1);
        self.state.open.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// Takes back what was reserved and is not needed.
    pub(crate) fn release(&self) {
        self.state.open.fetch_sub(1, Relaxed);
    }

    pub(crate) fn capacity(&self) -> Capacity {
        let limit = self.max_connections.map_or(u64::MAX, u64::from);
        Capacity { open: self.state.open.load(Relaxed), limit }
    }

    /// Makes this what picks choose from, by how the backends stand now. Counting goes on where it was.
    pub(crate) fn recompile(&self) {
        let now = self.state.clock.elapsed();
        let table = Arc::new(self.roster.compile(&self.state.table.load(), now));
        self.state.table.store(table.clone());
        table.look_again(now);
        self.state.serve_queue();
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
            queued: self.state.queue.len() as u64,
            max_connections: self.max_connections,
            backends: self.roster.members.iter().map(|member| member.backend.stats(member.limit)).collect(),
        }
    }
}

/// One client's connection to a service, which was [reserved](ServiceEntry::reserve): counts it in `accepted` and `active`,
/// and its end by reason.
#[derive(Debug)]
pub(crate) struct ServiceGuard {
    entry: Arc<ServiceEntry>,
    worker: WorkerId,
    /// Where connections are counted by client.
    presence: Option<Presence>,
    /// Stays as it is only if the worker goes away with its connections.
    reason: CloseReason,
}

impl ServiceGuard {
    pub(crate) fn new(entry: Arc<ServiceEntry>, worker: WorkerId) -> Self {
        let guard = ServiceGuard { entry, worker, presence: None, reason: CloseReason::Killed };
        guard.counters().accepted.increment();
        guard.counters().active.increment();
        guard
    }

    /// It is another service's from now on, and counted as accepted there too.
    pub(crate) fn route_to(&mut self, entry: Arc<ServiceEntry>) {
        self.entry.release();
        self.counters().active.decrement();
        self.entry = entry;
        self.entry.state.open.fetch_add(1, Relaxed);
        self.counters().accepted.increment();
        self.counters().active.increment();
    }

    /// Whether the service takes this client; if not, why.
    pub(crate) fn admit(&mut self, client: IpAddr) -> Result<(), CloseReason> {
        self.presence = self.entry.admission.admit(client, &self.entry.state.connected)?;
        Ok(())
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
        self.entry.release();
        self.counters().active.decrement();
        self.counters().closes[self.reason as usize].increment();
    }
}
