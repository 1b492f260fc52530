//! The machine against hand-made events.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin; the tests move time themselves")]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use config::{Asn, Family, HoldTime, Role, RouterId};

use super::{Action, Closing, ConnId, Event, Params, PeerFsm, Slot};
use crate::status::{CloseReason, Negotiated, Origin, PeerState};
use crate::wire::{
    Capability, Cease, Disposition, Frame, HEADER_LEN, MessageKind, Notification, Open, WireError,
};

const SECOND: Duration = Duration::from_secs(1);

fn params() -> Params {
    Params {
        local_as: Asn::new(64512).unwrap(),
        router_id: RouterId::new([10, 0, 0, 5].into()).unwrap(),
        remote_as: Asn::new(64513).unwrap(),
        hold_time: HoldTime::from_secs(9).unwrap(),
        families: vec![Family::Ipv4, Family::Ipv6],
        passive: false,
        role: None,
        role_strict: false,
        extended_next_hop: false,
        has_key: false,
        connect_retry: 8 * SECOND,
    }
}

fn peer_open(router_id: [u8; 4]) -> Open {
    let asn = Asn::new(64513).unwrap();
    Open {
        my_as: Open::short_as(asn),
        hold_time: HoldTime::from_secs(90).unwrap(),
        router_id: RouterId::new(router_id.into()).unwrap(),
        capabilities: Capability::offer(asn, &[Family::Ipv4]),
    }
}

const LOWER: [u8; 4] = [10, 0, 0, 1];
const HIGHER: [u8; 4] = [10, 0, 0, 9];

struct Bench {
    fsm: PeerFsm,
    now: Instant,
}

impl Bench {
    fn new(params: Params) -> Self {
        let mut bench = Bench { fsm: PeerFsm::new(params, 3), now: Instant::now() };
        bench.event(Event::Start);
        bench
    }

    fn event(&mut self, event: Event<'_>) {
        self.fsm.handle(event, self.now);
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.fsm.poll_action()).collect()
    }

    /// Lets time pass, firing what is due at its time.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.fsm.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.fsm.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn message(&mut self, id: ConnId, kind: MessageKind, body: &[u8]) {
        self.event(Event::Received(id, Frame { kind, body }));
    }

    fn open(&mut self, id: ConnId, open: &Open) {
        let message = open.encode();
        self.message(id, MessageKind::Open, &message[HEADER_LEN..]);
    }

    fn keepalive(&mut self, id: ConnId) {
        self.message(id, MessageKind::Keepalive, &[]);
    }

    /// The dial that the machine asked for.
    fn dial(&mut self) -> ConnId {
        let dials = self.actions().into_iter().filter_map(|action| match action {
            Action::Dial(id) => Some(id),
            _ => None,
        });
        dials.last().expect("a dial")
    }

    /// Brings the outbound connection to OpenSent.
    fn connected(&mut self) -> ConnId {
        let id = self.dial();
        self.event(Event::Connected(id));
        id
    }

    fn established(&mut self) -> ConnId {
        let id = self.connected();
        self.open(id, &peer_open(LOWER));
        self.keepalive(id);
        assert_eq!(self.fsm.state(), PeerState::Established);
        self.event(Event::Flushed(id));
        self.actions();
        id
    }

    /// The NOTIFICATIONs among the actions, and whether each is followed by the close of its connection.
    fn farewells(&mut self) -> Vec<(Slot, u8, u8, Vec<u8>)> {
        let actions = self.actions();
        let mut farewells = Vec::new();
        for (index, action) in actions.iter().enumerate() {
            if let Action::Send(id, MessageKind::Notification, octets) = action {
                let close = Action::Close(*id, Closing::Flush);
                assert!(actions[index..].contains(&close), "a NOTIFICATION without a close: {actions:?}");
                let said = Notification::decode(&octets[HEADER_LEN..]).unwrap();
                farewells.push((id.slot, said.code(), said.subcode(), said.data().to_vec()));
            }
        }
        farewells
    }
}

fn kinds(actions: &[Action]) -> Vec<MessageKind> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send(_, kind, _) => Some(*kind),
        _ => None,
    });
    sent.collect()
}

fn ups(actions: &[Action]) -> Vec<&Negotiated> {
    let ups = actions.iter().filter_map(|action| match action {
        Action::Up(_, negotiated) => Some(negotiated),
        _ => None,
    });
    ups.collect()
}

fn downs(actions: &[Action]) -> Vec<&CloseReason> {
    let downs = actions.iter().filter_map(|action| match action {
        Action::Down(reason) => Some(reason),
        _ => None,
    });
    downs.collect()
}

#[test]
fn the_first_dial_is_at_once_and_open_and_keepalive_lead_to_established() {
    let mut bench = Bench::new(params());
    assert_eq!(bench.fsm.state(), PeerState::Connect);
    let id = bench.connected();
    assert_eq!(bench.fsm.state(), PeerState::OpenSent);
    assert_eq!(kinds(&bench.actions()), [MessageKind::Open]);
    bench.open(id, &peer_open(LOWER));
    assert_eq!(bench.fsm.state(), PeerState::OpenConfirm);
    assert_eq!(kinds(&bench.actions()), [MessageKind::Keepalive]);
    bench.keepalive(id);
    let actions = bench.actions();
    assert_eq!(ups(&actions)[0].families, [Family::Ipv4]);
    assert_eq!(ups(&actions)[0].hold_time, 9);
}

#[test]
fn before_the_start_nothing_is_accepted() {
    let mut fsm = PeerFsm::new(params(), 1);
    assert_eq!(fsm.accept(Instant::now()), Err(PeerState::Idle));
    assert_eq!(fsm.poll_timeout(), None);
}

#[test]
fn a_passive_peer_never_dials_and_accepts() {
    let mut bench = Bench::new(Params { passive: true, ..params() });
    bench.pass(600 * SECOND);
    assert_eq!((bench.fsm.state(), bench.actions()), (PeerState::Active, vec![]));
    let id = bench.fsm.accept(bench.now).unwrap();
    bench.open(id, &peer_open(LOWER));
    bench.keepalive(id);
    assert_eq!(bench.fsm.state(), PeerState::Established);
}

#[test]
fn a_dial_that_fails_is_tried_again_after_a_growing_jittered_pause() {
    let mut bench = Bench::new(params());
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let id = bench.dial();
        bench.event(Event::Disconnected(id, "refused".to_owned()));
        assert_eq!(bench.fsm.state(), PeerState::Active);
        let due = bench.fsm.poll_timeout().unwrap();
        pauses.push((due - bench.now).as_millis());
        bench.pass(due - bench.now);
    }
    for (pause, full) in pauses.iter().zip([400, 800, 1000, 1000, 1000, 1000]) {
        assert!((full * 3 / 4..=full).contains(pause), "{pauses:?}");
    }
}

#[test]
fn a_peer_that_accepts_and_closes_is_dialled_less_and_less_often() {
    let mut bench = Bench::new(params());
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let id = bench.connected();
        bench.event(Event::Disconnected(id, "closed".to_owned()));
        let due = bench.fsm.poll_timeout().unwrap();
        pauses.push((due - bench.now).as_millis());
        bench.pass(due - bench.now);
    }
    assert!(pauses[0] <= 1000 && pauses[4] >= 6000, "{pauses:?}");
}

#[test]
fn a_dial_without_an_answer_is_given_up_and_tried_again() {
    let mut bench = Bench::new(params());
    let first = bench.dial();
    bench.pass(8 * SECOND);
    let actions = bench.actions();
    assert!(actions.contains(&Action::Close(first, Closing::Abort)), "{actions:?}");
    assert!(actions.iter().any(|action| matches!(action, Action::Dial(id) if *id != first)));
    bench.event(Event::Connected(first));
    assert_eq!(bench.fsm.state(), PeerState::Connect, "a late answer to the old dial is ignored");
}

/// Why attempts failed, in words.
fn failures(actions: &[Action]) -> Vec<&str> {
    let failures = actions.iter().filter_map(|action| match action {
        Action::AttemptFailed(reason) => Some(reason.text.as_str()),
        _ => None,
    });
    failures.collect()
}

#[test]
fn a_dial_without_an_answer_hints_at_the_password_where_there_is_one_and_may_be_one() {
    for (has_key, hint) in [(true, "compare password_file with"), (false, "does it want a password?")] {
        let mut bench = Bench::new(Params { has_key, ..params() });
        bench.pass(8 * SECOND);
        let actions = bench.actions();
        let text = failures(&actions)[0];
        assert!(
            text.starts_with("the peer did not answer the dial in time; is it up") && text.contains(hint),
            "{text}"
        );
    }
}

#[test]
fn a_passive_peer_that_is_not_heard_of_hints_once_at_its_password_where_there_is_one() {
    let passive = |has_key| Bench::new(Params { passive: true, has_key, ..params() });
    let mut bench = passive(true);
    bench.pass(3600 * SECOND);
    let actions = bench.actions();
    let [text] = failures(&actions)[..] else { panic!("{actions:?}") };
    assert!(
        text.starts_with("nobody has connected for 60 s; is it up")
            && text.contains("compare password_file with")
    );
    let mut without_key = passive(false);
    without_key.pass(3600 * SECOND);
    assert_eq!(without_key.actions(), []);
    let mut heard = passive(true);
    heard.fsm.accept(heard.now).unwrap();
    heard.pass(100 * SECOND);
    assert_eq!(failures(&heard.actions()), Vec::<&str>::new());
}

#[test]
fn a_dead_path_ends_every_connection_with_what_it_was_given_and_is_tried_again() {
    let dead = || Event::PathDown(Notification::cease(Cease::BfdDown, ""), "silent".to_owned());
    for established in [false, true] {
        let mut bench = Bench::new(params());
        if established {
            bench.established()
        } else {
            bench.connected()
        };
        bench.event(dead());
        assert_eq!(bench.farewells(), [(Slot::Outbound, 6, 10, vec![])]);
        assert_eq!(bench.fsm.state(), PeerState::Idle);
        bench.pass(SECOND);
        assert_eq!(bench.fsm.state(), PeerState::Connect);
        bench.event(dead());
        assert_eq!(bench.fsm.state(), PeerState::Connect, "a dial finds out for itself");
    }
}

#[test]
fn a_role_mismatch_is_2_11_where_an_open_is_expected_and_an_fsm_error_elsewhere() {
    let mut mismatched = peer_open(LOWER);
    mismatched.capabilities.push(Capability::Role(crate::wire::role_number(Role::Customer)));
    for (state, expected) in
        [(PeerState::OpenSent, (2, 11)), (PeerState::OpenConfirm, (5, 2)), (PeerState::Established, (5, 3))]
    {
        let mut bench = Bench::new(Params { role: Some(Role::Customer), ..params() });
        let id = bench.connected();
        if state >= PeerState::OpenConfirm {
            bench.open(id, &peer_open(LOWER));
        }
        if state == PeerState::Established {
            bench.keepalive(id);
        }
        bench.open(id, &mismatched);
        let farewells = bench.farewells();
        assert_eq!(farewells.iter().map(|said| (said.1, said.2)).collect::<Vec<_>>(), [expected], "{state}");
    }
}

#[test]
fn hold_timer_expiry_sends_notification_4_0() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    bench.pass(8 * SECOND);
    bench.keepalive(id);
    bench.pass(8 * SECOND);
    assert_eq!(bench.fsm.state(), PeerState::Established);
    bench.pass(2 * SECOND);
    assert_eq!(bench.farewells(), [(Slot::Outbound, 4, 0, vec![])]);
}

#[test]
fn a_silent_peer_in_open_sent_is_left_after_four_minutes() {
    let mut bench = Bench::new(params());
    bench.connected();
    bench.pass(239 * SECOND);
    assert_eq!(bench.fsm.state(), PeerState::OpenSent);
    bench.pass(SECOND);
    assert_eq!(bench.farewells(), [(Slot::Outbound, 4, 0, vec![])]);
}

#[test]
fn a_silent_peer_in_open_confirm_is_left_after_the_negotiated_hold_time() {
    let mut bench = Bench::new(params());
    let id = bench.connected();
    bench.open(id, &peer_open(LOWER));
    bench.actions();
    bench.pass(8 * SECOND);
    assert_eq!(bench.fsm.state(), PeerState::OpenConfirm);
    bench.pass(SECOND);
    assert_eq!(bench.farewells(), [(Slot::Outbound, 4, 0, vec![])]);
}

#[test]
fn keepalives_go_out_at_a_third_of_the_hold_time_or_a_little_sooner() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    let mut sent = 0;
    for _ in 0..100 {
        bench.pass(3 * SECOND);
        bench.keepalive(id);
        let now = kinds(&bench.actions()).len();
        assert!(now >= 1);
        sent += now;
    }
    assert!((100..=134).contains(&sent), "{sent} in 300 s");
}

#[test]
fn with_hold_time_zero_there_are_neither_keepalives_nor_an_end() {
    let zero = HoldTime::from_secs(0).unwrap();
    let mut bench = Bench::new(Params { hold_time: zero, ..params() });
    bench.established();
    bench.pass(3600 * SECOND);
    assert_eq!((bench.fsm.state(), bench.actions()), (PeerState::Established, vec![]));
}

#[test]
fn a_peer_that_takes_nothing_is_reset_when_the_send_hold_timer_expires() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    for _ in 0..300 {
        bench.pass(2 * SECOND);
        bench.keepalive(id);
    }
    let actions = bench.actions();
    assert!(actions.contains(&Action::Close(id, Closing::Abort)));
    assert_eq!(downs(&actions)[0].code, Some((8, 0)));
}

#[test]
fn an_update_that_is_not_acknowledged_resets_the_session() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    bench.event(Event::Unacknowledged(id));
    let actions = bench.actions();
    assert!(actions.contains(&Action::Close(id, Closing::Abort)));
    assert_eq!(downs(&actions).len(), 1);
}

#[test]
fn a_message_that_a_state_does_not_expect_is_that_error_with_its_type() {
    let unexpected = [
        (PeerState::OpenSent, vec![MessageKind::Keepalive, MessageKind::Update, MessageKind::RouteRefresh]),
        (PeerState::OpenConfirm, vec![MessageKind::Open, MessageKind::Update, MessageKind::RouteRefresh]),
        (PeerState::Established, vec![MessageKind::Open]),
    ];
    for (state, kinds) in unexpected {
        for kind in kinds {
            let mut bench = Bench::new(params());
            let id = bench.connected();
            if state >= PeerState::OpenConfirm {
                bench.open(id, &peer_open(LOWER));
            }
            if state == PeerState::Established {
                bench.keepalive(id);
            }
            assert_eq!(bench.fsm.state(), state);
            bench.message(id, kind, &[0xEE; 10]);
            let subcode = state as u8 - PeerState::OpenSent as u8 + 1;
            assert_eq!(bench.farewells(), [(Slot::Outbound, 5, subcode, vec![kind as u8])], "{kind:?}");
        }
    }
}

#[test]
fn a_notification_is_never_answered_and_its_text_is_kept() {
    for state in [PeerState::OpenSent, PeerState::OpenConfirm, PeerState::Established] {
        let mut bench = Bench::new(params());
        let id = bench.connected();
        if state >= PeerState::OpenConfirm {
            bench.open(id, &peer_open(LOWER));
        }
        if state == PeerState::Established {
            bench.keepalive(id);
        }
        bench.actions();
        bench.message(id, MessageKind::Notification, b"\x06\x02\x03bye");
        let actions = bench.actions();
        assert_eq!(kinds(&actions), []);
        let reason = actions.iter().find_map(|action| match action {
            Action::Down(reason) | Action::AttemptFailed(reason) => Some(reason.clone()),
            _ => None,
        });
        let text = "Cease/Administrative Shutdown: bye".to_owned();
        assert_eq!(reason, Some(CloseReason { origin: Origin::Remote, code: Some((6, 2)), text }));
    }
}

#[test]
fn a_defect_in_an_open_or_a_header_gets_its_notification() {
    let mut bench = Bench::new(params());
    let id = bench.connected();
    bench.message(id, MessageKind::Open, &[3; 10]);
    assert_eq!(bench.farewells(), [(Slot::Outbound, 2, 1, vec![0, 4])]);
    let mut bench = Bench::new(params());
    let id = bench.established();
    bench.event(Event::Malformed(id, WireError::BadLength(5)));
    assert_eq!(bench.farewells(), [(Slot::Outbound, 1, 2, vec![0, 5])]);
}

#[test]
fn received_routes_are_counted_and_a_malformed_attribute_does_not_end_the_session() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    let origin_9 = [0, 0, 0, 4, 0x40, 1, 1, 9, 8, 10, 8, 11];
    bench.message(id, MessageKind::Update, &origin_9);
    let disposition = Disposition::TreatAsWithdraw;
    assert_eq!(bench.actions(), [Action::Update { announced: 2, disposition }]);
    bench.message(id, MessageKind::Update, &[0, 0, 0, 0, 33]);
    assert_eq!(bench.farewells(), [(Slot::Outbound, 3, 10, vec![])]);
}

#[test]
fn a_refresh_is_passed_on_for_a_negotiated_family_only() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    bench.message(id, MessageKind::RouteRefresh, &[0, 1, 0, 1]);
    assert_eq!(bench.actions(), [Action::Refresh(Family::Ipv4)]);
    for ignored in [[0, 2, 0, 1], [0, 1, 1, 1], [0, 1, 2, 1], [0, 25, 0, 70]] {
        bench.message(id, MessageKind::RouteRefresh, &ignored);
    }
    assert_eq!(bench.actions(), []);
    bench.message(id, MessageKind::RouteRefresh, &[0, 1, 1, 1, 0]);
    assert_eq!(bench.farewells()[0].1, 7);
}

#[test]
fn a_stop_says_goodbye_on_every_connection_and_nothing_restarts() {
    let mut bench = Bench::new(params());
    bench.connected();
    bench.fsm.accept(bench.now).unwrap();
    bench.event(Event::Stop(Notification::cease(Cease::AdministrativeShutdown, "x")));
    let both = [(Slot::Outbound, 6, 2, vec![1, b'x']), (Slot::Inbound, 6, 2, vec![1, b'x'])];
    assert_eq!(bench.farewells(), both);
    bench.pass(3600 * SECOND);
    assert_eq!((bench.fsm.state(), bench.actions()), (PeerState::Idle, vec![]));
    assert!(bench.fsm.accept(bench.now).is_err());
}

#[test]
fn down_comes_once_after_each_up_whatever_follows() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    bench.event(Event::Disconnected(id, "reset".to_owned()));
    bench.event(Event::Disconnected(id, "reset".to_owned()));
    bench.event(Event::Unacknowledged(id));
    bench.keepalive(id);
    bench.event(Event::Malformed(id, WireError::NotSynchronized));
    bench.event(Event::Stop(Notification::cease(Cease::PeerDeconfigured, "")));
    let actions = bench.actions();
    assert_eq!(downs(&actions).len(), 1);
    assert_eq!(kinds(&actions), []);
}

#[test]
fn after_a_session_the_peer_is_idle_for_a_while_and_refuses_connections() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    bench.event(Event::Disconnected(id, "reset".to_owned()));
    assert_eq!(bench.fsm.state(), PeerState::Idle);
    assert_eq!(bench.fsm.accept(bench.now), Err(PeerState::Idle));
    bench.actions();
    bench.pass(SECOND);
    assert_eq!(bench.fsm.state(), PeerState::Connect);
    assert!(bench.fsm.accept(bench.now).is_ok());
}

/// Both directions connected; `first` has had its OPEN answered, `second`'s OPEN comes now.
fn collide(router_id: [u8; 4], first: Slot) -> (Bench, ConnId, ConnId) {
    let mut bench = Bench::new(params());
    let outbound = bench.connected();
    let inbound = bench.fsm.accept(bench.now).unwrap();
    let (first, second) = match first {
        Slot::Outbound => (outbound, inbound),
        Slot::Inbound => (inbound, outbound),
    };
    bench.open(first, &peer_open(router_id));
    bench.actions();
    bench.open(second, &peer_open(router_id));
    (bench, outbound, inbound)
}

#[test]
fn a_collision_keeps_the_connection_of_the_side_with_the_higher_identifier() {
    for first in Slot::BOTH {
        let (mut bench, outbound, _) = collide(LOWER, first);
        assert_eq!(bench.farewells(), [(Slot::Inbound, 6, 7, vec![])], "{first:?} first");
        bench.keepalive(outbound);
        assert_eq!(bench.fsm.state(), PeerState::Established);
        let (mut bench, _, inbound) = collide(HIGHER, first);
        assert_eq!(bench.farewells(), [(Slot::Outbound, 6, 7, vec![])], "{first:?} first");
        bench.keepalive(inbound);
        assert_eq!(bench.fsm.state(), PeerState::Established);
        bench.pass(8 * SECOND);
        assert!(!bench.actions().iter().any(|action| matches!(action, Action::Dial(_))));
    }
}

#[test]
fn once_established_the_other_connection_is_closed_whatever_the_identifiers() {
    for router_id in [LOWER, HIGHER] {
        let mut bench = Bench::new(params());
        let outbound = bench.connected();
        let inbound = bench.fsm.accept(bench.now).unwrap();
        bench.open(inbound, &peer_open(router_id));
        bench.keepalive(inbound);
        assert_eq!(bench.farewells(), [(Slot::Outbound, 6, 7, vec![])]);
        bench.open(outbound, &peer_open(router_id));
        assert_eq!((bench.fsm.state(), bench.actions()), (PeerState::Established, vec![]));
        assert_eq!(bench.fsm.accept(bench.now), Err(PeerState::Established));
    }
}

#[test]
fn an_inbound_connection_in_open_sent_gives_way_to_a_newer_one() {
    let mut bench = Bench::new(Params { passive: true, ..params() });
    let old = bench.fsm.accept(bench.now).unwrap();
    let new = bench.fsm.accept(bench.now).unwrap();
    assert!(bench.actions().contains(&Action::Close(old, Closing::Flush)));
    bench.open(old, &peer_open(LOWER));
    assert_eq!(bench.fsm.state(), PeerState::OpenSent, "a late message of the old connection is ignored");
    bench.open(new, &peer_open(LOWER));
    assert_eq!(bench.fsm.state(), PeerState::OpenConfirm);
    assert_eq!(bench.fsm.accept(bench.now), Err(PeerState::OpenConfirm));
}

#[test]
fn an_error_on_one_connection_leaves_the_other_alone() {
    let mut bench = Bench::new(params());
    let outbound = bench.connected();
    let inbound = bench.fsm.accept(bench.now).unwrap();
    bench.message(inbound, MessageKind::Open, &[3; 10]);
    assert_eq!(bench.farewells(), [(Slot::Inbound, 2, 1, vec![0, 4])]);
    bench.open(outbound, &peer_open(LOWER));
    bench.keepalive(outbound);
    assert_eq!(bench.fsm.state(), PeerState::Established);
}

#[test]
fn a_connection_lost_in_open_sent_goes_back_to_active() {
    let mut bench = Bench::new(params());
    let id = bench.connected();
    bench.event(Event::Disconnected(id, "reset".to_owned()));
    assert_eq!(bench.fsm.state(), PeerState::Active);
    bench.pass(SECOND);
    assert_eq!(bench.fsm.state(), PeerState::Connect);
}

#[test]
fn sending_updates_counts_as_keeping_alive() {
    let mut bench = Bench::new(params());
    let id = bench.established();
    for _ in 0..100 {
        bench.pass(SECOND);
        bench.event(Event::UpdatesSent(id));
        bench.keepalive(id);
    }
    assert_eq!(kinds(&bench.actions()), []);
}

#[test]
fn the_open_we_send_is_what_is_configured() {
    let mut bench = Bench::new(params());
    bench.connected();
    let actions = bench.actions();
    let Some(Action::Send(_, MessageKind::Open, octets)) = actions.first() else { panic!("{actions:?}") };
    let open = Open::decode(&BytesMut::from(&octets[HEADER_LEN..])).unwrap();
    assert_eq!((open.asn(), open.hold_time.as_secs()), (64512, 9));
    assert!(open.has(Capability::multiprotocol(Family::Ipv6)) && open.has(Capability::EnhancedRefresh));
}
