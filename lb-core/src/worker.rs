//! One worker: a thread with an event loop of its own, its own listeners and connections. Nothing of it is shared with
//! other workers but the snapshot, the number of open connections and the turn of each service.
//!
//! One turn: wait for events, read the clock, handle the events, fire timers, serve who waits at closing listeners, continue what was busy. Orders from the
//! plane come through a channel and an eventfd; an order is done when its sender's other end is dropped.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use arc_swap::ArcSwap;
use config::{BackendId, Engine};
use rustix::event::epoll::EventFlags;

use crate::accept::Listener;
use crate::clock::Clock;
use crate::closing::Closing;
use crate::connect::{Attempt, Failure};
use crate::connection::{Connection, Stage};
use crate::counters::{PerWorker, WorkerCounters, WorkerId};
use crate::gate::{Capacity, Gate, Starvation};
use crate::poll::{Events, Poll, Token, Wake, Watch};
use crate::queue::Mailbox;
use crate::relay::{Buffers, Progress, Relay, Side};
use crate::ring::{Completion, Operation, Ring};
use crate::service::ServiceEntry;
use crate::slab::{Key, Slab};
use crate::snapshot::Snapshot;
use crate::socket::Newcomers;
use crate::wheel::{Tick, Ticks, Wheel};
use crate::{CloseReason, Observer};

/// The longest a worker sleeps: the pace of its heartbeat.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// So few connections of a worker are better off without the ring.
const FEW: usize = 2;

/// A pause while the kernel has no memory for the ring's turn.
const BREATH: Duration = Duration::from_millis(5);

/// What the workers and the plane share.
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) clock: Clock,
    pub(crate) counters: PerWorker<WorkerCounters>,
    /// Client connections now.
    pub(crate) open: AtomicU64,
    pub(crate) limit: u64,
    /// Whether the observer is told of connections that end.
    pub(crate) recording: AtomicBool,
}

/// Where there is no room for one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    Plane,
    Service,
}

impl Shared {
    /// Counts one more connection of this service if there may be one, or if there are fewer than so many `beyond` a limit.
    pub(crate) fn reserve(&self, service: &ServiceEntry, beyond: u64) -> Result<(), Shortage> {
        let one_more = |open| (open < self.limit + beyond).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, one_more).map_err(|_| Shortage::Plane)?;
        if service.reserve(beyond) {
            return Ok(());
        }
        self.open.fetch_sub(1, Relaxed);
        Err(Shortage::Service)
    }

    /// Takes back what was reserved for nobody.
    pub(crate) fn release(&self, service: &ServiceEntry) {
        service.release();
        self.open.fetch_sub(1, Relaxed);
    }
}

/// What the plane asks of a worker.
pub(crate) enum Order {
    /// Accept on these.
    Open(Vec<Listener>),
    /// Serve who waits at these addresses, within bounds, then close them.
    Close(BTreeSet<SocketAddr>),
    /// Let clients begin handshakes with this local address, or make them wait.
    Newcomers(IpAddr, Newcomers),
    /// End every connection.
    Kill,
    /// End every connection that was accepted on this local address.
    KillOn(IpAddr),
    /// End every connection that is with this backend, for this reason.
    KillBackend(BackendId, CloseReason),
    /// End every connection and the thread.
    Stop,
}

/// An order; dropping `done` tells that it was carried out, or that there is no worker to do so.
pub(crate) struct Errand {
    pub(crate) order: Order,
    pub(crate) done: Sender<()>,
}

pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) poll: Poll,
    engine: Engine,
    /// Where the engine has one.
    pub(crate) ring: Option<Ring>,
    /// The event queue may have more.
    polled: bool,
    errands: Receiver<Errand>,
    wake: Arc<Wake>,
    /// Where places come in for clients that wait.
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) listeners: Slab<Listener>,
    /// Listeners of services at their limit.
    pub(crate) full: Vec<(Key, Gate)>,
    pub(crate) closing: Vec<Closing>,
    pub(crate) gate: Gate,
    pub(crate) starvation: Starvation,
    pub(crate) connections: Slab<Connection>,
    pub(crate) wheel: Wheel,
    /// Connections that used up their budget.
    ready: VecDeque<Key>,
    pub(crate) buffers: Buffers,
    /// Since the start of the plane, as of this turn.
    pub(crate) now: Duration,
    stopping: bool,
}

impl Worker {
    pub(crate) fn new(
        id: WorkerId,
        engine: Engine,
        shared: Arc<Shared>,
        errands: Receiver<Errand>,
        wake: Arc<Wake>,
    ) -> rustix::io::Result<Self> {
        let poll = Poll::new()?;
        poll.add_level(&*wake, Token::Wake)?;
        let now = shared.clock.elapsed();
        Ok(Worker {
            id,
            shared,
            poll,
            engine,
            ring: None,
            polled: false,
            errands,
            mailbox: Arc::new(Mailbox::new(wake.clone())),
            wake,
            listeners: Slab::new(),
            full: Vec::new(),
            closing: Vec::new(),
            gate: Gate::Open,
            starvation: Starvation::default(),
            connections: Slab::new(),
            wheel: Wheel::new(Tick::at(now)),
            ready: VecDeque::new(),
            buffers: Buffers::new(),
            now,
            stopping: false,
        })
    }

    /// Turns until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::new();
        let mut completions = Vec::new();
        let mut fired = Vec::new();
        self.open_ring();
        while !self.stopping {
            self.wait(&mut events, &mut completions);
            self.now = self.shared.clock.elapsed();
            self.counters().turned_at.set(u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX));
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            for (token, flags) in events.iter() {
                self.handle(token, flags);
            }
            self.wheel.advance(self.tick(), &mut fired);
            for index in fired.drain(..) {
                self.fire(index);
            }
            self.look_at_gate();
            self.serve_closing();
            for _ in 0..self.ready.len() {
                self.resume();
            }
        }
    }

    /// The ring belongs to the thread that makes it.
    fn open_ring(&mut self) {
        if self.engine == Engine::Epoll {
            return;
        }
        match Ring::new() {
            Ok(mut ring) => {
                ring.watch(&self.poll);
                self.ring = Some(ring);
                self.counters().ringed.set(1);
            }
            Err(error) => {
                let why = match error.raw_os_error() {
                    Some(libc::ENOMEM) => "too little memory may be locked (ulimit -l, LimitMEMLOCK)",
                    Some(libc::EPERM | libc::EACCES) => "it is forbidden (kernel.io_uring_disabled, seccomp)",
                    _ => "it needs Linux 6.1",
                };
                tracing::info!(
                    worker = self.id.0,
                    %error,
                    "io_uring cannot be used here: {why}; epoll does all of its work"
                );
            }
        }
    }

    /// Whether a connection goes to the ring, if it can: what the ring saves it saves for several at once, and alone it is slower to wake up.
    pub(crate) fn prefers_ring(&self) -> bool {
        self.ring.is_some() && (self.engine == Engine::IoUring || self.connections.len() > FEW)
    }

    /// Waits until there is something to do.
    fn wait(&mut self, events: &mut Events, completions: &mut Vec<Completion>) {
        let patience = self.patience();
        let Some(ring) = &mut self.ring else { return self.poll.wait(events, patience) };
        // Where the ring has nothing to do, the event queue is the quicker way to wait.
        if ring.is_idle() {
            return self.poll.wait(events, patience);
        }
        events.clear();
        let turned = ring.turn(if self.polled { Duration::ZERO } else { patience });
        // What is answered is answered, whatever the turn came to.
        ring.take(completions);
        if turned.is_err() {
            // For as long as it lasts, the event queue sets the pace: no spinning.
            self.polled = true;
            self.poll.wait(events, patience.min(BREATH));
        }
        for completion in completions.iter().filter(|c| c.operation == Operation::Poll) {
            self.polled = true;
            if completion.last {
                ring.watch(&self.poll);
            }
        }
        // The ring tells once that the event queue has something, and then no more before it was emptied.
        if self.polled && turned.is_ok() {
            self.poll.wait(events, Duration::ZERO);
            self.polled = !events.is_empty();
        }
    }

    pub(crate) fn tick(&self) -> Tick {
        Tick::at(self.now)
    }

    pub(crate) fn counters(&self) -> &WorkerCounters {
        self.shared.counters.of(self.id)
    }

    pub(crate) fn capacity(&self) -> Capacity {
        Capacity { open: self.shared.open.load(Relaxed), limit: self.shared.limit }
    }

    /// How long there is nothing to do but for events.
    fn patience(&self) -> Duration {
        if !self.ready.is_empty() {
            return Duration::ZERO;
        }
        let timer = self.wheel.next_tick(Ticks::from(LONGEST_WAIT));
        let closing = self.closing.iter().map(|closing| closing.next);
        let full = self.full.iter().filter_map(|(_, gate)| gate.until());
        let next = timer.into_iter().chain(self.gate.until()).chain(full).chain(closing).min();
        next.map_or(LONGEST_WAIT, |tick| tick.wait_from(self.now).min(LONGEST_WAIT))
    }

    fn handle(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Wake => {
                self.run_errands();
                self.read_mail();
            }
            Token::Listener(key) => self.accept_batch(key),
            Token::End(key, side) => self.handle_end(key, side, flags),
        }
    }

    fn handle_end(&mut self, key: Key, side: Side, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match (&connection.stage, side) {
            (Stage::Opening(_), Side::Client) => return self.go_on_opening(key, flags),
            (Stage::Connecting(_), Side::Backend) => return self.connect_decided(key, flags),
            // A client that half-closed waits for an answer, one that reset its connection does not.
            (Stage::Connecting(_), Side::Client) if flags.intersects(EventFlags::ERR | EventFlags::HUP) => {
                return self.close(key, CloseReason::ClientReset);
            }
            // Its ring is told the same.
            (Stage::Relaying(Relay::Ringed(_)), _) => return,
            (Stage::Opening(_) | Stage::Connecting(_) | Stage::Relaying(_), _) => {}
        }
        if let Some(end) = connection.end_mut(side) {
            end.note(flags);
        }
        if side == Side::Client && flags.contains(EventFlags::RDHUP) {
            self.step_back(key);
        }
        self.drive(key);
    }

    /// Moves the bytes of a connection that is relayed, and does what follows from it.
    pub(crate) fn drive(&mut self, key: Key) {
        let tick = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (Stage::Relaying(relay), Some(link)) = (&mut connection.stage, &mut connection.link) else {
            return;
        };
        let before = relay.delivered();
        let progress = relay.drive(&mut connection.client_end, &mut link.end, &mut self.buffers, tick);
        let after = relay.delivered();
        let client_watch = if relay.owes(Side::Client) { Watch::ReadsAndWrites } else { Watch::Reads };
        connection.count(before, after);
        match progress {
            Progress::Completed => return self.close(key, CloseReason::Completed),
            Progress::Broken(side) => return self.broke(key, side),
            Progress::Busy if !connection.queued => {
                connection.queued = true;
                self.ready.push_back(key);
            }
            // Its reset is behind bytes that are not read while the backend takes none: nobody waits for those any more.
            Progress::Waiting if connection.client_end.has_failed() && connection.owes(Side::Backend) => {
                return self.broke(key, Side::Client);
            }
            Progress::Busy | Progress::Waiting => {}
        }
        let deadline = connection.deadline().0;
        if deadline < self.wheel.due(key.index) {
            self.wheel.set(key.index, deadline);
        }
        self.watch_client(key, client_watch);
    }

    /// The connection on this side is gone.
    pub(crate) fn broke(&mut self, key: Key, side: Side) {
        let reason = match side {
            Side::Client => CloseReason::ClientReset,
            Side::Backend => CloseReason::ServerReset,
        };
        let unanswered = self.connections.get_mut(key).filter(|_| side == Side::Backend);
        if let Some((backend, failure)) = unanswered.and_then(|connection| connection.unanswered(self.now)) {
            self.shared.observer.connect_failed(&backend, &failure);
        }
        self.close(key, reason);
    }

    /// Goes on with the connection that waits longest for its next turn.
    fn resume(&mut self) {
        let Some(key) = self.ready.pop_front() else { return };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.queued = false;
            self.drive(key);
        }
    }

    /// A timer fired: the deadline may have moved since it was set.
    fn fire(&mut self, index: u32) {
        let Some(key) = self.connections.key_at(index) else { return };
        let tick = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (deadline, reason) = connection.deadline();
        if tick < deadline {
            self.wheel.set(index, deadline);
            match &connection.stage {
                // One side has ended and the other takes longer than usual.
                Stage::Relaying(Relay::Ringed(_)) if connection.has_ended() => self.leave_ring(key),
                Stage::Relaying(Relay::Ringed(_)) => {}
                // Connecting takes longer than usual.
                Stage::Opening(_) | Stage::Connecting(_) | Stage::Relaying(_) => {
                    self.watch_client(key, Watch::Gone)
                }
            }
            return;
        }
        match &connection.stage {
            Stage::Connecting(attempt) if attempt.ticket.is_none() => {
                self.connect_failed(key, Failure::TimedOut)
            }
            Stage::Connecting(_) | Stage::Opening(_) | Stage::Relaying(_) => self.close(key, reason),
        }
    }

    /// Ends a connection: the only place where one goes.
    pub(crate) fn close(&mut self, key: Key, reason: CloseReason) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        self.forget(&mut connection);
        self.wheel.cancel(key.index);
        let open = self.shared.open.fetch_sub(1, Relaxed);
        let Shared { observer, clock, recording, .. } = &*self.shared;
        let record = recording.load(Relaxed).then(|| connection.record(reason, clock, self.now, open));
        if let Stage::Connecting(Attempt { ticket: Some(ticket), .. }) = &connection.stage {
            connection.service.entry().state.leave(*ticket);
        }
        connection.close(reason);
        if let Some(record) = record {
            observer.connection_ended(record);
        }
    }

    /// Carries out what was ordered. Each `done` is dropped at the end of that, by what it was handed to or here.
    fn run_errands(&mut self) {
        self.wake.drain();
        while let Ok(Errand { order, done }) = self.errands.try_recv() {
            match order {
                Order::Open(listeners) => self.open_listeners(listeners),
                Order::Close(addresses) => self.begin_to_close(&addresses, done),
                Order::Newcomers(ip, newcomers) => self.set_newcomers(ip, newcomers),
                Order::Kill => self.kill(CloseReason::Killed, |_| true),
                Order::KillOn(ip) => self.kill(CloseReason::Killed, |connection| connection.local.ip() == ip),
                Order::KillBackend(id, reason) => self.kill(reason, |connection| connection.is_with(&id)),
                Order::Stop => self.stopping = true,
            }
        }
    }

    fn kill(&mut self, reason: CloseReason, is_meant: impl Fn(&Connection) -> bool) {
        for key in self.connections.keys() {
            if self.connections.get_mut(key).is_some_and(|connection| is_meant(connection)) {
                self.close(key, reason);
            }
        }
    }
}

/// However the thread ends, nobody is left with a stream that seems to end well, and the plane's count is right.
impl Drop for Worker {
    fn drop(&mut self) {
        self.kill(CloseReason::Killed, |_| true);
        if let Some(ring) = &mut self.ring {
            // What is still open is let go of with the ring at the latest.
            let _ = ring.turn(Duration::ZERO);
        }
    }
}
