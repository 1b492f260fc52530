//! One speaker of the simulation: the real machine, framer and announcer, and a record of what it saw.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use config::{Asn, AttributeOverrides, Family, HoldTime, Name, RouterId};
use ipnet::IpNet;

use crate::announcer::Announcer;
use crate::dialect::{Dialect, NextHops};
use crate::fixture;
use crate::fsm::{Action, ConnId, Event, Params, PeerFsm};
use crate::policy::Policy;
use crate::route::RouteSet;
use crate::status::{Negotiated, PeerState};
use crate::wire::{AttributeContext, Frame, Framer, MessageKind, Update};

/// What a side wants of the network.
#[derive(Debug)]
pub(super) enum Request {
    Dial(ConnId),
    Send(ConnId, BytesMut),
    Close(ConnId),
}

struct Connection {
    framer: Framer,
    queued: u64,
}

struct Session {
    id: ConnId,
    announcer: Announcer,
    /// What the peer announced to us on this session: prefix and MED.
    received: BTreeMap<IpNet, u32>,
}

pub(super) struct Side {
    params: Params,
    fsm: PeerFsm,
    connections: HashMap<ConnId, Connection>,
    session: Option<Session>,
    desired: Arc<RouteSet>,
    requests: Vec<Request>,
    ups: u64,
    downs: u64,
}

impl Side {
    pub(super) fn new(number: u8, passive: bool, seed: u64, now: Instant) -> Self {
        let asn = |number: u8| Asn::new(64512 + u32::from(number)).unwrap();
        let params = Params {
            local_as: asn(number),
            router_id: RouterId::new([10, 0, 0, 1 + number].into()).unwrap(),
            remote_as: asn(1 - number),
            hold_time: HoldTime::from_secs(9).unwrap(),
            families: vec![Family::Ipv4],
            passive,
            role: None,
            role_strict: false,
            extended_next_hop: false,
            has_key: false,
            connect_retry: Duration::from_secs(2),
        };
        let mut fsm = PeerFsm::new(params.clone(), seed);
        fsm.handle(Event::Start, now);
        let desired = Arc::new(RouteSet::empty(now));
        Side {
            params,
            fsm,
            connections: HashMap::new(),
            session: None,
            desired,
            requests: vec![],
            ups: 0,
            downs: 0,
        }
    }

    /// Wants these host numbers announced, with this MED.
    pub(super) fn want(&mut self, hosts: impl Iterator<Item = u8>, med: u32, now: Instant) {
        let prefixes: Vec<_> = hosts.map(|host| format!("192.0.2.{host}/32")).collect();
        let routes: Vec<_> = prefixes.iter().map(|prefix| (prefix.as_str(), med)).collect();
        self.desired = Arc::new(fixture::decision(self.desired.version + 1, &routes, now));
    }

    pub(super) fn is_passive(&self) -> bool {
        self.params.passive
    }
    pub(super) fn state(&self) -> PeerState {
        self.fsm.state()
    }
    pub(super) fn sessions(&self) -> u64 {
        self.ups
    }
    pub(super) fn wanted(&self) -> BTreeMap<IpNet, u32> {
        self.desired.routes.iter().map(|(prefix, route)| (*prefix, route.attributes.med)).collect()
    }
    pub(super) fn received(&self) -> Option<&BTreeMap<IpNet, u32>> {
        self.session.as_ref().map(|session| &session.received)
    }
    pub(super) fn session_id(&self) -> Option<ConnId> {
        self.session.as_ref().map(|session| session.id)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let announcer = self.session.as_ref().and_then(|session| session.announcer.poll_timeout());
        [self.fsm.poll_timeout(), announcer].into_iter().flatten().min()
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.fsm.handle_timeout(now);
    }
    pub(super) fn accept(&mut self, now: Instant) -> Option<ConnId> {
        let id = self.fsm.accept(now).ok()?;
        self.open(id);
        Some(id)
    }
    pub(super) fn connected(&mut self, id: ConnId, now: Instant) {
        self.open(id);
        self.fsm.handle(Event::Connected(id), now);
    }
    pub(super) fn disconnected(&mut self, id: ConnId, now: Instant) {
        self.fsm.handle(Event::Disconnected(id, "lost".to_owned()), now);
    }
    fn open(&mut self, id: ConnId) {
        self.connections.insert(id, Connection { framer: Framer::default(), queued: 0 });
    }

    pub(super) fn receive(&mut self, id: ConnId, octets: &[u8], now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.framer.space().put_slice(octets);
        while let Some((kind, body)) = self.next_message(id) {
            let frame = Frame { kind, body: &body };
            self.fsm.handle(Event::Received(id, frame), now);
            self.carry_out(now);
            if let (MessageKind::Update, Some(session)) = (kind, &mut self.session) {
                session.take(frame);
            }
        }
    }

    fn next_message(&mut self, id: ConnId) -> Option<(MessageKind, Vec<u8>)> {
        let framer = &mut self.connections.get_mut(&id)?.framer;
        let frame = framer.next_frame().expect("our speakers send no garbage")?;
        Some((frame.kind, frame.body.to_vec()))
    }

    /// `acknowledged` octets of connection `id` have arrived at the other side.
    pub(super) fn acknowledged(&mut self, id: ConnId, offset: u64, now: Instant) {
        let Some(session) = self.session.as_mut().filter(|session| session.id == id) else { return };
        session.announcer.acknowledged(offset, now);
        if session.announcer.is_overdue(now) {
            self.fsm.handle(Event::Unacknowledged(id), now);
        }
    }

    /// What the machine and the announcer want, carried out as the peer's task does it.
    pub(super) fn requests(&mut self, now: Instant) -> Vec<Request> {
        loop {
            self.carry_out(now);
            let Some(session) = &mut self.session else { break };
            let Some(connection) = self.connections.get_mut(&session.id) else { break };
            let batch = session.announcer.next_batch(&self.desired, connection.queued, now).unwrap();
            let Some(batch) = batch else { break };
            connection.queued += batch.octets.len() as u64;
            session.announcer.written(connection.queued).for_each(drop);
            self.requests.push(Request::Send(session.id, batch.octets));
            self.fsm.handle(Event::UpdatesSent(session.id), now);
        }
        self.check();
        std::mem::take(&mut self.requests)
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(action) = self.fsm.poll_action() {
            self.act(action, now);
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Dial(id) => self.requests.push(Request::Dial(id)),
            Action::Send(id, _, octets) => {
                let connection =
                    self.connections.get_mut(&id).expect("nothing is sent on a closed connection");
                connection.queued += octets.len() as u64;
                self.requests.push(Request::Send(id, octets));
                self.fsm.handle(Event::Flushed(id), now);
            }
            Action::Close(id, _) => {
                self.connections.remove(&id);
                self.requests.push(Request::Close(id));
            }
            Action::Up(id, negotiated) => {
                self.ups += 1;
                assert_eq!(self.ups, self.downs + 1, "up twice");
                self.session = Some(self.session_on(id, &negotiated, now));
            }
            Action::Down(_) => {
                self.downs += 1;
                assert_eq!(self.ups, self.downs, "down twice");
                self.session = None;
            }
            Action::AttemptFailed(_) => {}
            Action::Update { disposition, .. } => {
                assert_eq!(disposition, crate::wire::Disposition::Accept);
            }
            Action::Refresh(_) => unreachable!("nobody asks for one"),
        }
    }

    fn session_on(&self, id: ConnId, negotiated: &Negotiated, now: Instant) -> Session {
        let next_hops = NextHops { v4: Some([10, 0, 0, 1].into()), ..NextHops::default() };
        let dialect = Dialect::of(&self.params, negotiated, next_hops);
        let limit = Duration::from_secs(6);
        let (announce, degraded) = (AttributeOverrides::default(), AttributeOverrides::default());
        let policy = Policy { peer: Name::new("peer").unwrap(), announce, degraded };
        Session {
            id,
            announcer: Announcer::new(policy, dialect, true, limit, now),
            received: BTreeMap::new(),
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        let established = self.state() == PeerState::Established;
        assert_eq!(established, self.session.is_some());
        assert_eq!(established, self.ups == self.downs + 1);
        assert!(self.connections.len() <= 2);
        let waits_for_the_peer = self.params.passive && self.state() == PeerState::Active;
        assert!(self.fsm.poll_timeout().is_some() || waits_for_the_peer, "stuck in {}", self.state());
    }
}

impl Session {
    /// Applies the peer's UPDATE to what it has announced. The MED is all that distinguishes routes here.
    fn take(&mut self, frame: Frame<'_>) {
        let context =
            AttributeContext { as4: true, internal: false, families: &[Family::Ipv4], v4_over_v6: false };
        let update = Update::decode(frame.body, context).unwrap();
        for prefix in update.withdrawn.iter() {
            assert!(self.received.remove(&prefix).is_some(), "{prefix} is withdrawn but was not announced");
        }
        let med = med(update.attributes);
        self.received.extend(update.announced.iter().map(|prefix| (prefix, med.expect("a MED"))));
    }
}

fn med(mut attributes: &[u8]) -> Option<u32> {
    while attributes.remaining() > 3 {
        let (flags, kind) = (attributes.get_u8(), attributes.get_u8());
        let length = if flags & 0x10 == 0 { attributes.get_u8().into() } else { attributes.get_u16() };
        let (value, rest) = attributes.split_at(length.into());
        if kind == 4 {
            return Some(u32::from_be_bytes(value.try_into().unwrap()));
        }
        attributes = rest;
    }
    None
}
