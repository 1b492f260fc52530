//! The data plane's handle: starts the workers, gives them configurations, reads their numbers.
//!
//! A change has two phases. [`DataPlane::prepare`] does all that can fail and changes nothing;
//! [`DataPlane::commit`] cannot fail. The handle's lock is never held while it waits for a worker.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use config::{BackendId, Engine, Name, OnDown, Service, SourceAddress};
use rustix::io::Errno;

use crate::accept::Listener;
use crate::address::Addresses;
use crate::clock::Clock;
use crate::counters::{PerWorker, WorkerId};
use crate::plan::Plan;
use crate::poll::Wake;
use crate::snapshot::{Snapshot, TlsByService, compile_with};
use crate::socket::{self, Newcomers, Presence};
use crate::tls::{ServiceTls, TlsFileError};
use crate::worker::{Errand, Order, Shared, Worker};
use crate::{CloseReason, Eligible, Observer, PlaneStats, Standing};

/// How the data plane is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneOptions {
    /// Threads; at least one is started.
    pub workers: usize,
    /// Client connections at once, at least one; beyond it clients wait in the kernel's backlog.
    pub max_connections: u32,
    pub engine: Engine,
}

/// Whether an [`crate::AccessRecord`] is made of every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    On,
    Off,
}

/// The data plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot set up the event loop of data-plane thread {worker}: {source}")]
    EventLoop { worker: usize, source: std::io::Error },
    #[error("cannot start data-plane thread {worker}: {source}")]
    Thread { worker: usize, source: std::io::Error },
}

/// A service cannot be set up: an address cannot be listened on, or a file of its TLS not be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(
        "service {service} cannot listen on {address}: something else listens there already; \
         stop it (`ss -ltnp` names it) or change the service's address"
    )]
    InUse { service: Name, address: SocketAddr },
    #[error(
        "service {service} cannot listen on {address}: this host does not have the address; add it to an interface \
         or make it the service's `vip`"
    )]
    NoSuchAddress { service: Name, address: SocketAddr },
    #[error(
        "service {service} cannot listen on {address}: not permitted; ports below 1024 need CAP_NET_BIND_SERVICE"
    )]
    NotPermitted { service: Name, address: SocketAddr },
    #[error("service {service} cannot listen on {address}: {source}")]
    Other { service: Name, address: SocketAddr, source: std::io::Error },
    #[error(
        "service {service} cannot show its backends the clients' own addresses (source_address = \"transparent\"): {source}; \
         it needs CAP_NET_ADMIN or CAP_NET_RAW, and routing that leads the backends' answers back into this host \
         (docs/operations.md)"
    )]
    Transparent { service: Name, source: std::io::Error },
    #[error("service {service}: {source}")]
    Tls { service: Name, source: TlsFileError },
}

impl PrepareError {
    fn new(service: &Name, address: SocketAddr, error: Errno) -> Self {
        let service = service.clone();
        match error {
            Errno::ADDRINUSE => PrepareError::InUse { service, address },
            Errno::ADDRNOTAVAIL => PrepareError::NoSuchAddress { service, address },
            Errno::ACCESS | Errno::PERM => PrepareError::NotPermitted { service, address },
            other => PrepareError::Other { service, address, source: other.into() },
        }
    }
}

/// A configuration whose new listeners are open, but not accepted from yet. Dropping it closes them again.
#[derive(Debug)]
#[must_use = "nothing changes until it is committed"]
pub struct Prepared {
    services: Vec<Service>,
    tls: TlsByService,
    plan: Plan,
    /// One socket per worker.
    sockets: BTreeMap<SocketAddr, Vec<OwnedFd>>,
}

/// What a commit did to the listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub opened: Vec<SocketAddr>,
    pub kept: usize,
    pub closed: Vec<SocketAddr>,
}

/// Longest wait for the workers to carry out an order; closing listeners takes them 200 ms.
const WORKER_PATIENCE: Duration = Duration::from_secs(3);

/// Whether the workers carried out an order in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    All,
    NotAll,
}

/// The running data plane. Dropping it ends every connection and waits for the workers.
pub struct DataPlane {
    shared: Arc<Shared>,
    workers: Vec<Handle>,
    control: Mutex<Control>,
}

/// What changes by command; also serialises the writers of the snapshot.
#[derive(Default)]
struct Control {
    listening: BTreeSet<SocketAddr>,
    addresses: Addresses,
}

struct Handle {
    errands: mpsc::Sender<Errand>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl DataPlane {
    /// Starts the workers; there is no service yet.
    pub fn start(options: PlaneOptions, observer: Arc<dyn Observer>) -> Result<DataPlane, StartError> {
        let count = options.workers.max(1);
        let clock = Clock::start();
        // Two hosts that begin together are not to choose the same backends together.
        let seed = RandomState::new().hash_one(count);
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(Snapshot::at(count, clock, seed)),
            observer,
            clock,
            counters: PerWorker::new(count),
            open: AtomicU64::new(0),
            limit: u64::from(options.max_connections.max(1)),
            recording: AtomicBool::new(false),
        });
        let mut plane = DataPlane { shared, workers: Vec::with_capacity(count), control: Mutex::default() };
        for worker in 0..count {
            let handle = start_worker(worker, options.engine, plane.shared.clone())?;
            plane.workers.push(handle);
        }
        Ok(plane)
    }

    /// Reads the certificates of `services`, and opens the listeners that they have more than what runs. Nothing running is touched, and nothing is left
    /// behind if it fails. One change at a time: what is prepared is committed or dropped before the next.
    pub fn prepare(&self, services: &[Service]) -> Result<Prepared, PrepareError> {
        let wanted = services.iter().flat_map(|service| service.listen.iter().copied()).collect();
        let mut ours = self.control().listening.clone();
        let plan = Plan::new(&ours, &wanted);
        let tls = self.load_tls(services)?;
        let mut sockets = BTreeMap::new();
        for service in services {
            if service.source_address == SourceAddress::Transparent {
                socket::probe_transparent().map_err(|error| PrepareError::Transparent {
                    service: service.name.clone(),
                    source: error.into(),
                })?;
            }
            for address in service.listen.iter().filter(|address| plan.open.contains(address)) {
                let opened = self.listen(service, *address, &ours);
                sockets.insert(*address, opened.map_err(|e| PrepareError::new(&service.name, *address, e))?);
                ours.insert(*address);
            }
        }
        Ok(Prepared { services: services.to_vec(), tls, plan, sockets })
    }

    /// Reads every file again; what has not changed stays as it is.
    fn load_tls(&self, services: &[Service]) -> Result<TlsByService, PrepareError> {
        let running = self.shared.snapshot.load();
        let load = |service: &Service| {
            let previous = running.service(&service.name).map(|entry| &*entry.tls);
            let tls = ServiceTls::load(service, previous)
                .map_err(|source| PrepareError::Tls { service: service.name.clone(), source })?;
            Ok((service.name.clone(), Arc::new(tls)))
        };
        services.iter().map(load).collect()
    }

    /// A listener per worker on an address that nobody else listens on.
    fn listen(
        &self,
        service: &Service,
        address: SocketAddr,
        ours: &BTreeSet<SocketAddr>,
    ) -> rustix::io::Result<Vec<OwnedFd>> {
        let presence = match service.vips.contains(&address.ip()) {
            true => Presence::Optional,
            false => Presence::Required,
        };
        // Where a listener of our own covers the address, a probe would only find that.
        if !ours.iter().any(|own| overlap(*own, address)) {
            socket::probe(address, presence)?;
        }
        self.workers.iter().map(|_| socket::listener(address, presence)).collect()
    }

    /// Makes a prepared configuration the running one: opens its new listeners first, then closes the old ones as
    /// [`DataPlane::close_listeners`] does. Returns when that is done. Connections, and backends that stay the same, notice
    /// nothing; backends that are new are not eligible.
    pub fn commit(&self, prepared: Prepared) -> Applied {
        let Prepared { services, tls, plan, mut sockets } = prepared;
        let mut open: Vec<_> = self.workers.iter().map(|_| Vec::new()).collect();
        {
            let mut control = self.control();
            let snapshot = Arc::new(compile_with(&services, &tls, &self.shared.snapshot.load()));
            self.shared.snapshot.store(snapshot.clone());
            snapshot.services.iter().for_each(|entry| entry.recompile());
            control.listening = &plan.open | &plan.keep;
            control.addresses.forget_unused();
            for address in &plan.open {
                let (Some(entry), Some(sockets)) = (snapshot.listener(*address), sockets.remove(address))
                else {
                    continue;
                };
                let parts = control.addresses.take_up(address.ip(), self.workers.len());
                for ((listeners, socket), local) in open.iter_mut().zip(sockets).zip(parts) {
                    listeners.push(Listener::new(*address, socket, entry.clone(), local.clone()));
                }
            }
        }
        self.order_each(open.into_iter().map(Order::Open));
        if !plan.close.is_empty() {
            self.order_all(|| Order::Close(plan.close.clone()));
        }
        Applied {
            opened: plan.open.into_iter().collect(),
            kept: plan.keep.len(),
            closed: plan.close.into_iter().collect(),
        }
    }

    /// Changes how backends stand; holds for the next pick when it returns. Unknown backends are ignored. Connections of
    /// a backend that goes down are ended where the service says so (`on_down`), which this does not wait for.
    pub fn set_standing(&self, changes: &[(BackendId, Standing)]) {
        for id in self.change_standing(changes) {
            for worker in &self.workers {
                let order = Order::KillBackend(id.clone(), CloseReason::BackendDown);
                worker.send(Errand { order, done: mpsc::channel().0 });
            }
        }
    }

    /// Those that went down and whose connections are to end with that.
    fn change_standing(&self, changes: &[(BackendId, Standing)]) -> Vec<BackendId> {
        let _control = self.control();
        let snapshot = self.shared.snapshot.load();
        let now = self.shared.clock.elapsed();
        let mut touched: BTreeSet<&Name> = BTreeSet::new();
        let mut ending = Vec::new();
        for (id, standing) in changes {
            let Some(entry) = snapshot.service(&id.service) else { continue };
            let Some(member) = entry.roster.members.iter().find(|member| member.backend.id() == id) else {
                continue;
            };
            let before = member.backend.set_standing(*standing, now);
            if before != *standing {
                touched.insert(&id.service);
            }
            let went_down = (before.eligible, standing.eligible) == (Eligible::Yes, Eligible::No);
            if went_down && entry.settings.on_down == OnDown::Close {
                ending.push(id.clone());
            }
        }
        for entry in touched.into_iter().filter_map(|name| snapshot.service(name)) {
            entry.recompile();
        }
        ending
    }

    /// Whether the observer is told of every connection that ends, from now on. At first it is not.
    pub fn set_recording(&self, recording: Recording) {
        self.shared.recording.store(recording == Recording::On, Relaxed);
    }

    /// Everything that is counted.
    pub fn stats(&self) -> PlaneStats {
        let listening = self.control().listening.clone();
        let snapshot = self.shared.snapshot.load();
        PlaneStats {
            services: snapshot.services.iter().map(|entry| entry.stats(&listening)).collect(),
            workers: self.workers.len(),
            ringed_workers: self.shared.counters.sum(|c| &c.ringed),
            active: self.active(),
            accepted: self.accepted(),
            max_connections: u32::try_from(self.shared.limit).unwrap_or(u32::MAX),
            paused_listeners: self.shared.counters.sum(|c| &c.paused),
        }
    }

    /// Client connections now.
    pub fn active(&self) -> u64 {
        self.shared.open.load(Relaxed)
    }

    /// Client connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.counters.sum(|c| &c.accepted)
    }

    /// Client connections now that were accepted on this local address, whatever their service and port. Those that a
    /// listener on every address accepted are the unspecified address's.
    pub fn active_on(&self, ip: IpAddr) -> u64 {
        self.control().addresses.sum(ip, |address| &address.active)
    }

    /// Client connections accepted on this local address for as long as it has been in use without a break.
    pub fn accepted_on(&self, ip: IpAddr) -> u64 {
        self.control().addresses.sum(ip, |address| &address.accepted)
    }

    /// How long ago the slowest worker last turned its loop. An idle one turns every 500 ms.
    pub fn stalest_turn(&self) -> Duration {
        let oldest = self.shared.counters.iter().map(|c| c.turned_at.value()).min().unwrap_or(0);
        self.shared.clock.elapsed().saturating_sub(Duration::from_millis(oldest))
    }

    /// Serves who waits at every listener, then closes it. Returns when that is done, after about 200 ms at the latest:
    /// who waits longer, or beyond the limit on connections and a little more, is reset. Connections go on.
    pub fn close_listeners(&self) {
        let listening = std::mem::take(&mut self.control().listening);
        self.order_all(|| Order::Close(listening.clone()));
    }

    /// Makes clients that begin a handshake with this local address wait: what they send is dropped, and they ask again
    /// after a second, by when a router may have another way for them. Whoever is here already notices nothing.
    pub fn hold_newcomers_on(&self, ip: IpAddr) {
        self.order_all(|| Order::Newcomers(ip, Newcomers::Held));
    }

    /// Ends what [`DataPlane::hold_newcomers_on`] began.
    pub fn admit_newcomers_on(&self, ip: IpAddr) {
        self.order_all(|| Order::Newcomers(ip, Newcomers::Admitted));
    }

    /// Ends every connection with RST. Returns when that is done.
    pub fn kill_connections(&self) {
        self.order_all(|| Order::Kill);
    }

    /// The same for the connections that were accepted on this local address; see [`DataPlane::active_on`].
    pub fn kill_connections_on(&self, ip: IpAddr) {
        self.order_all(|| Order::KillOn(ip));
    }

    /// The same for the connections that are with this backend, connecting ones included.
    pub fn kill_backend(&self, id: &BackendId) {
        self.order_all(|| Order::KillBackend(id.clone(), CloseReason::Killed));
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order_all(&self, order: impl Fn() -> Order) -> Answered {
        self.order_each(self.workers.iter().map(|_| order()))
    }

    /// Gives each worker its order and waits until all are done, but not for a worker that hangs: whether all were. A
    /// worker that is gone counts as done.
    fn order_each(&self, orders: impl Iterator<Item = Order>) -> Answered {
        let (done, all_done) = mpsc::channel();
        for (worker, order) in self.workers.iter().zip(orders) {
            worker.send(Errand { order, done: done.clone() });
        }
        drop(done);
        // Nothing is ever sent: the channel closes with the last errand.
        match all_done.recv_timeout(WORKER_PATIENCE) {
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => Answered::All,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                tracing::error!(
                    "a data-plane thread has not done what it was told to for {WORKER_PATIENCE:?}: going on"
                );
                Answered::NotAll
            }
        }
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        if self.order_all(|| Order::Stop) == Answered::NotAll {
            return; // joining a thread that hangs would hang this one too
        }
        for thread in self.workers.iter_mut().filter_map(|worker| worker.thread.take()) {
            // A worker that panicked said so when it did.
            let _ = thread.join();
        }
    }
}

impl Handle {
    fn send(&self, errand: Errand) {
        if self.errands.send(errand).is_ok() {
            self.wake.signal();
        }
    }
}

fn start_worker(number: usize, engine: Engine, shared: Arc<Shared>) -> Result<Handle, StartError> {
    let failed = |error: Errno| StartError::EventLoop { worker: number, source: error.into() };
    let (errands, received) = mpsc::channel();
    let wake = Arc::new(Wake::new().map_err(failed)?);
    let worker = Worker::new(WorkerId(number), engine, shared, received, wake.clone()).map_err(failed)?;
    let thread = std::thread::Builder::new()
        .name(format!("lb-worker-{number}"))
        .spawn(|| worker.run())
        .map_err(|source| StartError::Thread { worker: number, source })?;
    Ok(Handle { errands, wake, thread: Some(thread) })
}

/// Whether a client's connection may match both.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let every = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (every || a.ip() == b.ip())
}
