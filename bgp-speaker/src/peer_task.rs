//! The task of one peer: sockets and clock around the pure machine.
//!
//! Owns the peer's [`PeerFsm`], its connections (at most one per slot, plus closed ones whose last octets get through)
//! and its session. Reads desired routes from a `watch`, commands from a bounded `mpsc`. It never waits for a write, and
//! reads a bounded piece at a time: commands, desired routes and timers come before what the peer has to say.
#![allow(clippy::disallowed_methods, reason = "this driver owns the peer's clock")]

use std::future::pending;
use std::io;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::Ready;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::blueprint::Blueprint;
use crate::connection::{Connection, Connections};
use crate::dialect::{Dialect, NextHops};
use crate::dialling::Dialling;
use crate::fsm::{Action, Closing, ConnId, Event, PeerFsm, Slot};
use crate::lingering::Lingering;
use crate::md5::Md5Key;
use crate::path_watch::{PathNews, PathWatch};
use crate::session::{Session, Standing};
use crate::status::{CloseReason, Negotiated, PeerEvent};
use crate::wire::{Cease, Disposition, MessageKind, Notification};

/// What the handle asks of a peer's task.
#[derive(Debug)]
pub(crate) enum Command {
    /// A connection from the peer's address.
    Accepted(TcpStream),
    /// A changed `connect_retry`.
    ConnectRetry(Duration),
    /// A changed TCP-MD5 key.
    Key(Md5Key),
    /// Leave with this NOTIFICATION, for good.
    Stop(Notification),
}

pub(crate) struct PeerTask<'a> {
    blueprint: Blueprint,
    commands: &'a mut mpsc::Receiver<Command>,
    fsm: PeerFsm,
    dial: Dialling,
    connections: Connections,
    session: Option<Session>,
    lingering: Lingering,
    stopping: bool,
    path: PathWatch,
}

/// What woke the task.
enum Wake {
    Command(Option<Command>),
    Desired,
    Path,
    Dialled(ConnId, io::Result<TcpStream>),
    Deadline,
    Ready(Slot, io::Result<Ready>),
}

impl<'a> PeerTask<'a> {
    pub(crate) fn new(blueprint: Blueprint, commands: &'a mut mpsc::Receiver<Command>) -> Self {
        let fsm = PeerFsm::new(blueprint.params.clone(), blueprint.seed);
        PeerTask {
            blueprint,
            commands,
            fsm,
            dial: Dialling::default(),
            connections: Connections::default(),
            session: None,
            lingering: Lingering::default(),
            stopping: false,
            path: PathWatch::default(),
        }
    }

    /// Until it is told to stop, or nobody is left to tell it; then until its last octets are through.
    pub(crate) async fn run(mut self) {
        self.fsm.handle(Event::Start, Instant::now());
        self.carry_out();
        while !self.stopping {
            match self.wait().await {
                Wake::Command(command) => self.obey(command),
                Wake::Desired => {}
                Wake::Path => self.path_changed(),
                Wake::Dialled(id, outcome) => self.dialled(id, outcome),
                Wake::Deadline => self.fsm.handle_timeout(Instant::now()),
                Wake::Ready(slot, ready) => self.receive(slot, ready),
            }
            self.carry_out();
        }
        self.lingering.all_ended().await;
    }

    async fn wait(&mut self) -> Wake {
        // A peer that never stops sending must not keep other tasks from running.
        tokio::task::consume_budget().await;
        self.lingering.forget_ended();
        let proof = self.session.as_ref().and_then(Session::poll_timeout);
        let deadline = [self.fsm.poll_timeout(), proof].into_iter().flatten().min();
        let [outbound, inbound] = self.connections.both();
        tokio::select! {
            biased;
            command = self.commands.recv() => Wake::Command(command),
            Ok(()) = self.blueprint.desired.changed() => Wake::Desired,
            Ok(()) = self.blueprint.bfd.changed() => Wake::Path,
            // A dial that was answered before its deadline was noticed is no failed one.
            (id, outcome) = self.dial.outcome() => Wake::Dialled(id, outcome),
            () = until(deadline) => Wake::Deadline,
            ready = Connection::ready(outbound) => Wake::Ready(Slot::Outbound, ready),
            ready = Connection::ready(inbound) => Wake::Ready(Slot::Inbound, ready),
        }
    }

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Accepted(stream)) => self.accept(stream),
            Some(Command::ConnectRetry(base)) => self.fsm.set_connect_retry(base),
            Some(Command::Key(key)) => self.change_key(key),
            Some(Command::Stop(notification)) => self.stop(notification),
            None => self.stop(Notification::cease(Cease::AdministrativeShutdown, "")),
        }
    }

    fn path_changed(&mut self) {
        let status = self.blueprint.bfd.borrow_and_update().clone();
        let observer = &self.blueprint.observer;
        for news in self.path.changed(status.as_ref()) {
            let peer = observer.name().clone();
            match news {
                PathNews::Up => observer.emit(PeerEvent::BfdUp { peer }),
                PathNews::Down(reason) => observer.emit(PeerEvent::BfdDown { peer, reason }),
                PathNews::Failed(reason) => {
                    let notification = Notification::cease(Cease::BfdDown, "");
                    self.fsm.handle(Event::PathDown(notification, reason.to_string()), Instant::now());
                }
            }
        }
    }

    /// Without a reset where the kernel allows it: the peer changes its key at about the same time.
    fn change_key(&mut self, key: Md5Key) {
        let peer = self.blueprint.endpoint.remote.ip();
        for connection in self.connections.iter_mut() {
            if let Err(error) = connection.set_md5_key(peer, &key) {
                tracing::warn!(peer = %self.blueprint.observer.name(), %error, "the key of a connection stays");
            }
        }
        self.blueprint.endpoint.key = Some(key);
    }

    fn stop(&mut self, notification: Notification) {
        self.fsm.handle(Event::Stop(notification), Instant::now());
        self.stopping = true;
    }

    fn accept(&mut self, stream: TcpStream) {
        let observer = &self.blueprint.observer;
        if let Err(error) = self.blueprint.endpoint.prepare(SockRef::from(&stream)) {
            tracing::debug!(peer = %observer.name(), %error, "an accepted connection cannot be set up");
            return;
        }
        match self.fsm.accept(Instant::now()) {
            Ok(id) => {
                if let Err(error) = self.install(id, stream) {
                    self.fsm.handle(Event::Disconnected(id, error.to_string()), Instant::now());
                }
            }
            Err(state) => {
                tracing::debug!(peer = %observer.name(), %state, "a connection of the peer is refused");
                observer.update(|status| status.connections_refused += 1);
                let id = ConnId { slot: Slot::Inbound, generation: 0 };
                let Ok(mut refused) = Connection::new(id, stream) else { return };
                refused.queue(Notification::cease(Cease::ConnectionRejected, "").encode());
                self.lingering.add(refused);
            }
        }
    }

    /// Puts a new connection into its slot. The machine has given up what was there before; its `Close` of that then
    /// finds nothing left to do.
    fn install(&mut self, id: ConnId, stream: TcpStream) -> io::Result<()> {
        if let Some(replaced) = self.connections.insert(Connection::new(id, stream)?) {
            self.lingering.add(replaced);
        }
        Ok(())
    }

    fn dialled(&mut self, id: ConnId, outcome: io::Result<TcpStream>) {
        let event = match outcome.and_then(|stream| self.install(id, stream)) {
            Ok(()) => Event::Connected(id),
            Err(error) => {
                let remote = self.blueprint.endpoint.remote;
                Event::Disconnected(id, format!("cannot connect to {remote}: {error}"))
            }
        };
        self.fsm.handle(event, Instant::now());
    }

    /// One read's worth of messages; writing is done when everything is carried out.
    fn receive(&mut self, slot: Slot, ready: io::Result<Ready>) {
        let now = Instant::now();
        let Some(connection) = self.connections.in_slot(slot) else { return };
        let id = connection.id;
        let outcome = match ready {
            Ok(ready) if ready.is_readable() || ready.is_read_closed() => connection.read(),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            return self.fsm.handle(Event::Disconnected(id, error.to_string()), now);
        }
        while let Some(connection) = self.connections.get(id) {
            match connection.framer.next_frame() {
                Ok(Some(frame)) => {
                    self.blueprint.observer.update(|status| status.messages_in.count(frame.kind));
                    self.fsm.handle(Event::Received(id, frame), now);
                    if let (MessageKind::Update, Some(session)) = (frame.kind, &mut self.session) {
                        session.hear(frame.body, &self.blueprint.observer);
                    }
                    if self.fsm.extends_messages(id) {
                        connection.framer.extend_messages();
                    }
                }
                Ok(None) => return,
                Err(error) => return self.fsm.handle(Event::Malformed(id, error), now),
            }
            self.act_all();
        }
    }

    /// Does what the machine says and what the session has to say, until neither has more.
    fn carry_out(&mut self) {
        loop {
            self.act_all();
            self.announce();
            let news = self.flush();
            if !(self.prove() || news) {
                break;
            }
        }
        let (state, deadlines) = (self.fsm.state(), self.fsm.deadlines());
        self.blueprint.observer.update(|status| {
            status.deadlines = deadlines;
            if status.state != state {
                tracing::debug!(peer = %status.name, from = %status.state, to = %state, "BGP state");
                (status.state, status.since) = (state, Instant::now());
            }
        });
    }

    fn act_all(&mut self) {
        while let Some(action) = self.fsm.poll_action() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        let observer = &self.blueprint.observer;
        match action {
            Action::Dial(id) => {
                self.dial.start(id, self.blueprint.endpoint.clone());
                observer.update(|status| status.connection_attempts += 1);
            }
            Action::Send(id, kind, octets) => {
                if let Some(connection) = self.connections.get(id) {
                    connection.queue(octets);
                    observer.update(|status| status.messages_out.count(kind));
                }
            }
            Action::Close(id, closing) => self.close(id, closing),
            Action::Up(id, negotiated) => self.up(id, negotiated),
            Action::Down(reason) => self.down(reason),
            Action::AttemptFailed(reason) => {
                observer.note(&reason);
                observer.remark(PeerEvent::AttemptFailed { peer: observer.name().clone(), reason });
            }
            Action::Update { announced, disposition } => observer.update(|status| {
                status.prefixes_dropped += announced as u64;
                status.updates_malformed += u64::from(disposition != Disposition::Accept);
            }),
            Action::Refresh(family) => {
                if self.session.as_mut().is_some_and(|session| session.refresh(family)) {
                    observer.remark(PeerEvent::RefreshRequested { peer: observer.name().clone(), family });
                }
            }
        }
    }

    fn close(&mut self, id: ConnId, closing: Closing) {
        self.dial.give_up(id);
        let Some(connection) = self.connections.take(id) else { return };
        match closing {
            Closing::Flush => self.lingering.add(connection),
            Closing::Abort => connection.abort(),
        }
    }

    fn up(&mut self, id: ConnId, negotiated: Negotiated) {
        let Some((local, remote)) = self.connections.get(id).map(|c| (c.local, c.remote)) else { return };
        let Blueprint { params, policy, next_hop, observer, .. } = &self.blueprint;
        let next_hops = NextHops::of(local.ip(), *next_hop, negotiated.extended_next_hop);
        let dialect = Dialect::of(params, &negotiated, next_hops);
        let watching = self.blueprint.desired.borrow().clone();
        let policy = policy.clone();
        self.session = Some(Session::new(id, policy, dialect, &negotiated, watching, Instant::now()));
        observer.update(|status| {
            status.established += 1;
            status.negotiated = Some(negotiated.clone());
            (status.local_address, status.remote_address) = (Some(local), Some(remote));
        });
        observer.emit(PeerEvent::Up { peer: observer.name().clone(), negotiated, local, remote });
    }

    fn down(&mut self, reason: CloseReason) {
        if self.session.take().is_none() {
            return;
        }
        let observer = &self.blueprint.observer;
        observer.note(&reason);
        observer.update(|status| {
            status.flaps += 1;
            status.session_ended();
        });
        observer.emit(PeerEvent::Down { peer: observer.name().clone(), reason });
    }

    fn announce(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Some(connection) = self.connections.get(session.id) else { return };
        let desired = self.blueprint.desired.borrow_and_update().clone();
        let now = Instant::now();
        match session.announce(connection, &desired, &self.blueprint.observer, now) {
            Ok(true) => self.fsm.handle(Event::UpdatesSent(session.id), now),
            Ok(false) => {}
            // Obstacles are asked for first, so this is a bug; without the session the peer holds no wrong route.
            Err(error) => {
                tracing::error!(peer = %self.blueprint.observer.name(), %error, "a route cannot be encoded");
                self.fsm.handle(Event::Stop(Notification::cease(Cease::AdministrativeReset, "")), now);
                self.fsm.handle(Event::Start, now);
            }
        }
    }

    /// Writes what TCP takes; whether that was news to the machine.
    fn flush(&mut self) -> bool {
        let mut news = false;
        for connection in self.connections.iter_mut().filter(|connection| !connection.is_flushed()) {
            let event = match connection.flush() {
                Ok(()) if connection.is_flushed() => Event::Flushed(connection.id),
                Ok(()) => continue,
                Err(error) => Event::Disconnected(connection.id, error.to_string()),
            };
            self.fsm.handle(event, Instant::now());
            news = true;
        }
        news
    }

    /// Whether the session has to end because the peer does not acknowledge.
    fn prove(&mut self) -> bool {
        let Some(session) = &mut self.session else { return false };
        let Some(connection) = self.connections.get(session.id) else { return false };
        let now = Instant::now();
        match session.prove(connection, &self.blueprint.observer, now) {
            Standing::Fine => false,
            Standing::Overdue => {
                self.fsm.handle(Event::Unacknowledged(session.id), now);
                true
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
