//! The state machine, paragraph by paragraph of RFC 5880.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin; the tests move time themselves")]

use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use super::packet::{ControlPacket, Diagnostic, SessionState};
use super::sm::{Action, Machine, next_state};
use super::status::DownReason;
use SessionState::{AdminDown, Down, Init, Up};

const OURS: config::Bfd =
    config::Bfd { min_tx: Duration::from_millis(300), min_rx: Duration::from_millis(200), multiplier: 3 };

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What a neighbor says that sends every 100 ms, wants nothing faster than 400 ms, and is missed after 5 packets.
fn from_neighbor(state: SessionState) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        authenticated: false,
        demand: false,
        detect_mult: NonZeroU8::new(5).unwrap(),
        my_discriminator: NonZeroU32::new(77).unwrap(),
        your_discriminator: NonZeroU32::new(1),
        desired_min_tx: ms(100),
        required_min_rx: ms(400),
        required_min_echo_rx: Duration::ZERO,
    }
}

struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(timers: config::Bfd) -> Self {
        let now = Instant::now();
        let mut bench = Bench { machine: Machine::new(timers, NonZeroU32::MIN, 42, now), now };
        bench.machine.handle_timeout(now);
        bench.actions();
        bench
    }

    /// Brought into a state by what a neighbor may say, and asked for nothing since.
    fn in_state(state: SessionState) -> Self {
        let mut bench = Bench::new(OURS);
        let said: &[SessionState] = match state {
            Down => &[],
            Init => &[Down],
            Up => &[Down, Init],
            AdminDown => {
                bench.machine.disable(bench.now);
                &[]
            }
        };
        for state in said {
            bench.hear(from_neighbor(*state));
        }
        if state == Up {
            // The neighbor answers the Poll that comes with the faster rate.
            bench.hear(ControlPacket { is_final: true, ..from_neighbor(Up) });
            bench.hear(from_neighbor(Up));
        }
        assert_eq!(bench.machine.state(), state);
        bench.actions();
        bench
    }

    fn hear(&mut self, packet: ControlPacket) -> Vec<Action> {
        self.machine.handle_packet(&packet, self.now);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.poll_action()).collect()
    }

    fn advance(&mut self, duration: Duration) -> Vec<Action> {
        self.now += duration;
        self.machine.handle_timeout(self.now);
        self.actions()
    }

    /// Runs to time, timer by timer, and collects what is sent: after how long, and what.
    fn sent_within(&mut self, duration: Duration) -> Vec<(Duration, ControlPacket)> {
        let (start, end) = (self.now, self.now + duration);
        let mut sent = Vec::new();
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            let actions = self.advance(at - self.now);
            sent.extend(transmitted(&actions).map(|packet| (self.now - start, packet)));
        }
        self.now = end;
        sent
    }
}

fn transmitted(actions: &[Action]) -> impl Iterator<Item = ControlPacket> {
    actions.iter().filter_map(|action| match action {
        Action::Transmit(packet) => Some(*packet),
        Action::Changed { .. } => None,
    })
}

fn change(actions: &[Action]) -> Option<(SessionState, Option<DownReason>)> {
    actions.iter().find_map(|action| match action {
        Action::Changed { to, reason } => Some((*to, *reason)),
        Action::Transmit(_) => None,
    })
}

#[test]
fn every_state_and_every_received_state_lead_where_section_6_8_6_says() {
    let table = [
        // received: AdminDown, Down, Init, Up
        (AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown]),
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
    ];
    for (state, row) in table {
        for (received, to) in SessionState::ALL.into_iter().zip(row) {
            assert_eq!(next_state(state, received), to, "{state}, received {received}");
            let mut bench = Bench::in_state(state);
            let actions = bench.hear(from_neighbor(received));
            assert_eq!(bench.machine.state(), to, "{state}, received {received}");
            let changed = (to != state).then_some(to);
            assert_eq!(change(&actions).map(|(to, _)| to), changed, "{state}, received {received}");
            assert_eq!(transmitted(&actions).count(), usize::from(changed.is_some()), "told at once, once");
        }
    }
}

#[test]
fn a_neighbor_that_says_down_or_admin_down_is_told_apart_but_gets_the_same_diagnostic() {
    for (said, reason, fails) in
        [(Down, DownReason::NeighborDown, true), (AdminDown, DownReason::NeighborAdminDown, false)]
    {
        let mut bench = Bench::in_state(Up);
        let actions = bench.hear(from_neighbor(said));
        assert_eq!(change(&actions), Some((Down, Some(reason))));
        assert_eq!(reason.is_failure(), fails);
        let packet = transmitted(&actions).next().unwrap();
        assert_eq!((packet.state, packet.diagnostic), (Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN));
    }
}

#[test]
fn silence_for_the_detection_time_leads_from_init_and_up_to_down() {
    for state in [Init, Up] {
        let mut bench = Bench::in_state(state);
        // 5 packets, each at most 200 ms apart: our min_rx, the neighbor would send faster.
        assert_eq!(bench.machine.detection_time(), Some(ms(1000)), "{state}");
        assert_eq!(change(&bench.advance(ms(999))), None, "{state}");
        let actions = bench.advance(ms(1));
        assert_eq!(change(&actions), Some((Down, Some(DownReason::DetectionTimeExpired))), "{state}");
        let packet = transmitted(&actions).next().unwrap();
        assert_eq!((packet.state, packet.diagnostic), (Down, Diagnostic::DETECTION_TIME_EXPIRED));
        assert_eq!(packet.your_discriminator, None, "§6.8.1: bfd.RemoteDiscr is forgotten");
    }
}

#[test]
fn every_packet_starts_the_detection_time_anew() {
    let mut bench = Bench::in_state(Up);
    for _ in 0..10 {
        assert_eq!(change(&bench.advance(ms(999))), None);
        bench.hear(from_neighbor(Up));
    }
}

#[test]
fn a_neighbor_that_was_down_all_along_is_forgotten_after_the_detection_time() {
    let mut bench = Bench::in_state(Down);
    bench.hear(from_neighbor(Up));
    assert_eq!(bench.machine.state(), Down);
    assert_eq!(bench.machine.remote().discriminator, NonZeroU32::new(77));
    let actions = bench.advance(ms(1000));
    assert_eq!((change(&actions), bench.machine.remote().discriminator), (None, None));
}

#[test]
fn being_told_late_grants_a_neighbor_one_more_interval_once() {
    let mut bench = Bench::in_state(Up);
    assert_eq!(change(&bench.advance(ms(60_000))), None, "we were frozen, not the neighbor");
    assert_eq!(change(&bench.advance(ms(199))), None);
    let late = change(&bench.advance(ms(1)));
    assert_eq!(late, Some((Down, Some(DownReason::DetectionTimeExpired))));

    let mut bench = Bench::in_state(Up);
    bench.advance(ms(60_000));
    let again = change(&bench.advance(ms(60_000)));
    assert_eq!(again, Some((Down, Some(DownReason::DetectionTimeExpired))), "not twice without a packet");

    let mut bench = Bench::in_state(Up);
    let expired = change(&bench.advance(ms(1200)));
    assert_eq!(expired, Some((Down, Some(DownReason::DetectionTimeExpired))), "a little late is not frozen");
}

#[test]
fn a_session_that_is_not_up_sends_once_a_second() {
    let mut bench = Bench::in_state(Down);
    let sent = bench.sent_within(ms(100_000));
    assert!((100..=134).contains(&sent.len()), "{}", sent.len());
    assert!(sent.iter().all(|(_, packet)| packet.desired_min_tx == ms(1000) && packet.state == Down));
}

#[test]
fn an_up_session_sends_at_the_slower_of_both_wishes_with_jitter() {
    // Ours is 300 ms, the neighbor's 400 ms.
    let mut bench = Bench::in_state(Up);
    assert_eq!(bench.machine.transmit_interval(), Some(ms(400)));
    let mut gaps = Vec::new();
    for _ in 0..200 {
        let sent = bench.sent_within(ms(900));
        gaps.extend(sent.windows(2).map(|pair| pair[1].0 - pair[0].0));
        bench.hear(from_neighbor(Up));
    }
    assert!(gaps.iter().all(|gap| (ms(300)..=ms(400)).contains(gap)), "{gaps:?}");
    assert!(
        gaps.iter().min().unwrap() < &ms(310) && gaps.iter().max().unwrap() > &ms(390),
        "all of the range"
    );
}

#[test]
fn with_a_multiplier_of_one_jitter_leaves_a_tenth() {
    let mut bench = Bench::new(config::Bfd { multiplier: 1, ..OURS });
    let sent = bench.sent_within(ms(300_000));
    let gaps: Vec<_> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| (ms(750)..=ms(900)).contains(gap)), "{gaps:?}");
    assert!(sent.iter().all(|(_, packet)| packet.detect_mult.get() == 1));
}

#[test]
fn coming_up_asks_for_the_configured_rate_with_a_poll_and_uses_it_at_once() {
    let mut bench = Bench::in_state(Init);
    let actions = bench.hear(from_neighbor(Up));
    let packet = transmitted(&actions).next().unwrap();
    assert_eq!((packet.state, packet.poll, packet.desired_min_tx), (Up, true, ms(300)));
    assert_eq!(bench.machine.transmit_interval(), Some(ms(400)), "less than a second is no worse for anyone");
    assert!(bench.sent_within(ms(900)).iter().all(|(_, packet)| packet.poll), "until the Final");
    bench.hear(ControlPacket { is_final: true, ..from_neighbor(Up) });
    assert!(bench.sent_within(ms(900)).iter().all(|(_, packet)| !packet.poll));
}

#[test]
fn going_down_falls_back_to_one_second() {
    let mut bench = Bench::in_state(Up);
    let actions = bench.hear(from_neighbor(Down));
    assert_eq!(transmitted(&actions).next().unwrap().desired_min_tx, ms(1000));
    assert_eq!(bench.machine.transmit_interval(), Some(ms(1000)));
}

#[test]
fn a_poll_is_answered_at_once_in_every_state_but_admin_down_and_never_polls_itself() {
    for state in [Down, Init, Up] {
        let mut bench = Bench::in_state(state);
        let next = bench.machine.poll_timeout();
        let said = if state == Init { Down } else { Up };
        let actions = bench.hear(ControlPacket { poll: true, ..from_neighbor(said) });
        let answers: Vec<_> = transmitted(&actions).collect();
        assert_eq!(answers.len(), 1, "{state}");
        assert!(answers[0].is_final && !answers[0].poll, "{state}");
        assert!(bench.machine.poll_timeout() <= next, "{state}: the periodic packets go on");
    }
    let mut bench = Bench::in_state(AdminDown);
    assert!(bench.hear(ControlPacket { poll: true, ..from_neighbor(Up) }).is_empty(), "§6.8.6 discards it");
}

#[test]
fn an_answer_to_a_poll_tells_the_change_it_made() {
    let mut bench = Bench::in_state(Init);
    let actions = bench.hear(ControlPacket { poll: true, ..from_neighbor(Up) });
    let sent: Vec<_> = transmitted(&actions).collect();
    assert_eq!((sent.len(), sent[0].is_final, sent[0].state), (1, true, Up));
}

#[test]
fn slower_sending_waits_for_the_final() {
    let mut bench = Bench::in_state(Up);
    bench.machine.configure(config::Bfd { min_tx: ms(900), ..OURS }, bench.now);
    assert_eq!(bench.machine.state(), Up, "no restart");
    assert_eq!(bench.machine.transmit_interval(), Some(ms(400)));
    let sent = bench.sent_within(ms(400));
    assert!(sent.iter().all(|(_, packet)| packet.poll && packet.desired_min_tx == ms(900)), "{sent:?}");
    bench.hear(ControlPacket { is_final: true, ..from_neighbor(Up) });
    assert_eq!(bench.machine.transmit_interval(), Some(ms(900)));
}

#[test]
fn expecting_more_waits_for_the_final_and_expecting_less_does_not() {
    let mut bench = Bench::in_state(Up);
    bench.machine.configure(config::Bfd { min_rx: ms(50), ..OURS }, bench.now);
    assert_eq!(bench.machine.detection_time(), Some(ms(1000)));
    bench.hear(ControlPacket { is_final: true, ..from_neighbor(Up) });
    assert_eq!(bench.machine.detection_time(), Some(ms(500)), "now the neighbor's own 100 ms count");

    let mut bench = Bench::in_state(Up);
    bench.machine.configure(config::Bfd { min_rx: ms(600), ..OURS }, bench.now);
    assert_eq!(bench.machine.detection_time(), Some(ms(3000)));
}

#[test]
fn a_changed_multiplier_goes_out_with_the_next_packet_without_a_poll() {
    let mut bench = Bench::in_state(Up);
    bench.machine.configure(config::Bfd { multiplier: 7, ..OURS }, bench.now);
    let sent = bench.sent_within(ms(400));
    assert!(sent.iter().all(|(_, packet)| packet.detect_mult.get() == 7 && !packet.poll), "{sent:?}");
}

#[test]
fn a_neighbor_that_wants_more_gets_it_at_once() {
    let mut bench = Bench::in_state(Up);
    bench.hear(ControlPacket { required_min_rx: ms(10), ..from_neighbor(Up) });
    assert_eq!(bench.machine.transmit_interval(), Some(ms(300)));
    assert!(bench.machine.poll_timeout().unwrap() <= bench.now + ms(300));
}

#[test]
fn a_neighbor_that_wants_nothing_gets_answers_only() {
    let mut bench = Bench::in_state(Up);
    bench.hear(ControlPacket { required_min_rx: Duration::ZERO, ..from_neighbor(Up) });
    assert!(bench.sent_within(ms(900)).is_empty());
    let silenced = ControlPacket { required_min_rx: Duration::ZERO, poll: true, ..from_neighbor(Up) };
    assert_eq!(transmitted(&bench.hear(silenced)).count(), 1);
    bench.hear(from_neighbor(Up));
    assert!(!bench.sent_within(ms(900)).is_empty());
}

#[test]
fn a_neighbor_in_demand_mode_hears_from_us_when_we_poll() {
    let mut bench = Bench::in_state(Up);
    let on_demand = ControlPacket { demand: true, ..from_neighbor(Up) };
    bench.hear(on_demand);
    assert!(bench.sent_within(ms(900)).is_empty());
    bench.hear(on_demand);
    bench.machine.configure(config::Bfd { min_tx: ms(900), ..OURS }, bench.now);
    assert!(!bench.sent_within(ms(950)).is_empty());
    bench.hear(ControlPacket { is_final: true, ..on_demand });
    assert!(bench.sent_within(ms(900)).is_empty());
}

#[test]
fn admin_down_is_told_at_once_and_on_and_keeps_until_enabled() {
    let mut bench = Bench::in_state(Up);
    bench.machine.disable(bench.now);
    let actions = bench.actions();
    assert_eq!(change(&actions), Some((AdminDown, Some(DownReason::AdminDown))));
    let packet = transmitted(&actions).next().unwrap();
    assert_eq!((packet.state, packet.diagnostic), (AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN));
    assert_eq!(bench.machine.farewell(), ms(3000), "the neighbor's Detection Time at one packet a second");
    assert!((3..=4).contains(&bench.sent_within(ms(3000)).len()), "until the neighbor must know");
    bench.machine.enable(bench.now);
    assert_eq!(change(&bench.actions()), Some((Down, None)));
}
