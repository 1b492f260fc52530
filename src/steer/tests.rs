//! The steering core fed by hand: no socket, no clock, no runtime.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{BackendId, Config, Name};
use health::{CheckStatus, Epoch, Outcome, Report, Target, Verdict};
use lb_core::{Eligible, Standing};

use super::others::Session;
use super::vips::Refused;
use super::{Duty, Effects, STALL_BOUND, Steer};
use crate::events::{EventId, EventKind};
use crate::vip::life_cycle::{Desire, Input, Phase};

mod fellows;

const VIP: &str = "10.84.13.100";

fn configuration(more: &str) -> Arc<Config> {
    let text = format!(
        r#"
[bgp]
local_as = 64512
router_id = "10.84.14.11"
[[bgp.peer]]
name = "tor-a"
address = "10.84.14.254"
remote_as = 64500
[[vip]]
address = "{VIP}"
announce_delay = "5s"
[[service]]
name = "api"
vip = "{VIP}"
ports = [8082]
check = {{ kind = "tcp", rise = 1, fall = 1 }}
[[service.backend]]
name = "a"
address = "10.84.14.1:8082"
[[service.backend]]
name = "b"
address = "10.84.14.2:8082"
{more}
"#
    );
    match config::parse(&text, "test") {
        Ok(loaded) => Arc::new(loaded.config),
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

/// The core with its inputs, and a clock that moves only when told to.
struct Bench {
    steer: Steer,
    start: Instant,
    now: Instant,
    checks: Vec<(Target, Epoch)>,
}

impl Bench {
    fn start(config: &Arc<Config>) -> Self {
        #[allow(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        let now = Instant::now();
        let mut steer = Steer::new(now);
        let checks = steer.configure(Arc::clone(config), "test", now);
        let mut bench = Bench { steer, start: now, now, checks };
        bench.vip(Input::AddressReady);
        bench.vip(Input::ListenersReady);
        bench
    }

    fn vip(&mut self, input: Input) {
        self.steer.vip(address(), None, input, "test", self.now);
    }

    fn result(&mut self, backend: &str, verdict: Verdict) -> Effects {
        let status = match verdict {
            Verdict::Passed => CheckStatus::Connected,
            Verdict::Failed => CheckStatus::ConnectFailed,
            Verdict::NotMade => CheckStatus::NotMade,
        };
        self.take(backend, Outcome::new(status, "test", Duration::ZERO))
    }

    fn take(&mut self, backend: &str, outcome: Outcome) -> Effects {
        let id = id(backend);
        let epoch = self.checks.iter().find(|(t, _)| t.id == id).map(|(_, e)| *e).unwrap();
        self.steer.report(&Report { id, epoch, outcome, at: self.now }, self.now);
        self.steer.take_effects()
    }

    /// An agent's reply.
    fn says(&mut self, backend: &str, line: &str) -> Effects {
        let reply = health::Reply::parse(line.as_bytes()).unwrap();
        self.take(
            backend,
            Outcome { agent: Some(reply), ..Outcome::new(CheckStatus::AnswerGood, line, Duration::ZERO) },
        )
    }

    /// What the one session, established `since` the start, shows of the VIP.
    fn shown(&mut self, is_shown: bool, since: Duration) {
        let vips = is_shown.then(address).into_iter().collect();
        let session = Session {
            peer: Name::new("tor-a").unwrap(),
            since: self.start + since,
            vips,
            coming: BTreeSet::new(),
        };
        self.steer.others(&[session], self.now);
    }

    fn pass(&mut self, time: Duration) -> Effects {
        self.now += time;
        self.steer.handle_timeout(self.now);
        self.steer.take_effects()
    }

    fn desire(&self) -> Desire {
        self.steer.view(self.now).vips[&address()].desire
    }

    fn announced(config: &Arc<Config>) -> Self {
        let mut bench = Bench::start(config);
        for (target, _) in bench.checks.clone() {
            bench.result(target.id.backend.as_str(), Verdict::Passed);
        }
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.desire(), Desire::Normal);
        bench
    }
}

fn address() -> IpAddr {
    VIP.parse().unwrap()
}

fn id(backend: &str) -> BackendId {
    BackendId { service: Name::new("api").unwrap(), backend: Name::new(backend).unwrap() }
}

#[test]
fn nothing_is_announced_and_nothing_eligible_before_the_first_check() {
    let mut bench = Bench::start(&configuration(""));
    let effects = bench.steer.take_effects();
    assert!(effects.desired.is_none_or(|set| set.routes.is_empty()));
    assert!(effects.standing.iter().all(|(_, standing)| standing.eligible == Eligible::No));
    assert!(bench.pass(Duration::from_secs(3)).desired.is_none());
}

#[test]
fn a_passed_check_makes_eligible_at_once_and_announces_after_the_delay() {
    let mut bench = Bench::start(&configuration(""));
    let effects = bench.result("a", Verdict::Passed);
    assert!(effects.standing.contains(&(id("a"), Standing::UP)));
    bench.result("b", Verdict::Failed);
    assert!(bench.pass(Duration::from_millis(4_999)).desired.is_none());
    let routes = bench.pass(Duration::from_millis(1)).desired.unwrap();
    assert_eq!(routes.routes.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.84.13.100/32"]);
    assert_eq!(routes.decided, bench.now);
}

#[test]
fn the_last_backend_down_withdraws_in_the_same_step_and_names_the_chain_of_causes() {
    let mut bench = Bench::announced(&configuration(""));
    assert!(bench.result("a", Verdict::Failed).desired.is_none());
    let effects = bench.result("b", Verdict::Failed);
    let routes = effects.desired.unwrap();
    assert!(routes.routes.is_empty());
    let kinds: Vec<EventKind> = effects.events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::BackendDown, EventKind::ServiceShort, EventKind::VipChanged]);
    let [down, short, vip] = effects.events.as_slice() else { panic!("{kinds:?}") };
    assert_eq!((short.cause, vip.cause, EventId(routes.cause)), (down.id, short.id, vip.id));
}

#[test]
fn an_equal_verdict_makes_no_new_decision() {
    let mut bench = Bench::announced(&configuration(""));
    for _ in 0..10 {
        let effects = bench.result("a", Verdict::Passed);
        assert!(effects.desired.is_none() && effects.standing.is_empty() && effects.events.is_empty());
    }
}

#[test]
fn a_checker_that_hangs_withdraws() {
    let mut bench = Bench::announced(&configuration(""));
    let effects = bench.pass(Duration::from_secs(60));
    assert!(effects.desired.unwrap().routes.is_empty());
    let kinds: Vec<EventKind> = effects.events.iter().map(|e| e.kind).collect();
    use EventKind::{CheckStale, ServiceShort, VipChanged};
    assert_eq!(kinds, [CheckStale, CheckStale, ServiceShort, VipChanged]);
    assert!(
        effects.events.iter().skip(2).all(|event| event.cause != EventId::NONE),
        "the chain has a beginning"
    );
}

#[test]
fn a_data_plane_that_hangs_withdraws_and_is_announced_again_after_the_delay() {
    let mut bench = Bench::announced(&configuration(""));
    bench.steer.plane_turned(STALL_BOUND + Duration::from_millis(1), bench.now);
    assert!(bench.steer.take_effects().desired.unwrap().routes.is_empty());
    bench.steer.plane_turned(Duration::ZERO, bench.now);
    assert!(bench.steer.take_effects().desired.is_none());
    bench.pass(Duration::from_secs(1));
    bench.result("a", Verdict::Passed); // still fresh when the delay is over
    assert_eq!(bench.pass(Duration::from_secs(4)).desired.unwrap().routes.len(), 1);
}

#[test]
fn failed_connects_of_live_traffic_take_a_backend_out() {
    let mut bench = Bench::announced(&configuration(""));
    for _ in 0..3 {
        bench.steer.connect_failed(&id("a"), "connect to 10.84.14.1:8082: refused", bench.now);
    }
    assert_eq!(bench.steer.take_effects().standing, [(id("a"), Standing::DOWN)]);
}

#[test]
fn a_reload_that_changes_nothing_decides_nothing_about_routes() {
    let config = configuration("");
    let mut bench = Bench::announced(&config);
    bench.checks = bench.steer.configure(config, "again", bench.now);
    assert!(bench.steer.take_effects().desired.is_none());
    assert_eq!(bench.desire(), Desire::Normal);
}

#[test]
fn a_reload_tells_the_data_plane_every_eligibility_again() {
    let config = configuration("");
    let mut bench = Bench::announced(&config);
    bench.steer.configure(config, "again", bench.now);
    let told = bench.steer.take_effects().standing;
    assert_eq!(told, [(id("a"), Standing::UP), (id("b"), Standing::UP)]);
}

#[test]
fn a_vip_that_is_gone_from_the_file_is_withdrawn_at_once_and_forgotten_when_its_address_is_off() {
    let mut bench = Bench::announced(&configuration(""));
    let mut without = (*configuration("")).clone();
    without.vips.clear();
    without.services[0].vips.clear();
    bench.steer.configure(Arc::new(without), "removed", bench.now);
    let effects = bench.steer.take_effects();
    assert!(effects.desired.is_none(), "first the door is held");
    bench.vip(Input::DoorHeld);
    let effects = bench.steer.take_effects();
    let routes = effects.desired.unwrap();
    let route = routes.routes.values().next().unwrap();
    assert!(route.attributes.communities.contains(&config::Community::GRACEFUL_SHUTDOWN));
    assert_eq!(effects.entered.last().map(|e| e.phase), Some(Phase::Draining));
    bench.vip(Input::TrafficShifted);
    assert!(bench.steer.take_effects().desired.unwrap().routes.is_empty());
    for input in [Input::WithdrawAcked, Input::TrafficEnded, Input::ConnectionsClosed, Input::AddressGone] {
        bench.vip(input);
    }
    assert!(bench.steer.view(bench.now).vips.is_empty());
}

#[test]
fn a_vip_configured_again_while_it_leaves_comes_up_again() {
    let config = configuration("");
    let mut bench = Bench::announced(&config);
    let mut without = (*config).clone();
    without.vips.clear();
    without.services[0].vips.clear();
    bench.steer.configure(Arc::new(without), "removed", bench.now);
    bench.steer.configure(config, "added", bench.now);
    assert_eq!(bench.steer.take_effects().entered.last().map(|e| e.phase), Some(Phase::Announced));
}

#[test]
fn a_vip_configured_again_when_its_address_is_about_to_go_starts_anew_once_it_has_gone() {
    let config = configuration("");
    let mut bench = Bench::announced(&config);
    let mut without = (*config).clone();
    without.vips.clear();
    without.services[0].vips.clear();
    bench.steer.configure(Arc::new(without), "removed", bench.now);
    let answers = [
        Input::DoorHeld,
        Input::TrafficShifted,
        Input::WithdrawAcked,
        Input::TrafficEnded,
        Input::ConnectionsClosed,
    ];
    for input in answers {
        bench.vip(input);
    }
    bench.steer.configure(config, "added", bench.now);
    assert_ne!(bench.steer.take_effects().entered.last().map(|e| e.phase), Some(Phase::Init));
    bench.vip(Input::AddressGone);
    assert_eq!(bench.steer.take_effects().entered.last().map(|e| e.phase), Some(Phase::Init));
}

#[test]
fn a_peer_that_repeats_itself_is_noted_once_a_minute() {
    let mut bench = Bench::start(&configuration(""));
    bench.steer.take_effects();
    let peer = Name::new("tor-a").unwrap();
    let asks = bgp_speaker::PeerEvent::RefreshRequested { peer, family: config::Family::Ipv4 };
    for _ in 0..100 {
        bench.steer.peer_event(&asks, bench.now);
    }
    assert_eq!(bench.steer.take_effects().events.len(), 1);
    bench.steer.peer_event(&asks, bench.now + Duration::from_secs(60));
    assert_eq!(bench.steer.take_effects().events.len(), 1);
}

#[test]
fn a_drain_withdraws_and_no_good_news_brings_the_route_back() {
    let mut bench = Bench::announced(&configuration(""));
    bench.steer.drain(Duty::Stopping, "stop", bench.now + Duration::from_secs(30), bench.now);
    bench.vip(Input::DoorHeld);
    assert_eq!(bench.desire(), Desire::Draining);
    bench.vip(Input::TrafficShifted);
    assert!(bench.steer.take_effects().desired.unwrap().routes.is_empty());
    bench.result("a", Verdict::Passed);
    assert!(bench.pass(Duration::from_secs(6)).desired.is_none());
    assert_eq!(bench.desire(), Desire::Withdrawn);
}

#[test]
fn a_disabled_backend_is_neither_checked_nor_used_nor_counted() {
    let more = "[[service.backend]]\nname = \"c\"\naddress = \"10.84.14.3:8082\"\ndisabled = true\n";
    let bench = Bench::start(&configuration(more));
    assert!(bench.checks.iter().all(|(t, _)| t.id != id("c")));
    assert_eq!(bench.checks.len(), 2);
}

#[test]
fn short_but_not_all_lost_degrades_with_the_degraded_attributes() {
    let config = configuration(&format!(
        "[[service]]\nname = \"disco\"\nvip = \"{VIP}\"\nports = [5998]\n\
         [[service.backend]]\nname = \"d\"\naddress = \"10.84.14.1:5998\"\n"
    ));
    let mut bench = Bench::start(&config);
    bench.result("a", Verdict::Passed);
    bench.result("b", Verdict::Passed);
    let disco = BackendId { service: Name::new("disco").unwrap(), backend: Name::new("d").unwrap() };
    let epoch = bench.checks.iter().find(|(t, _)| t.id == disco).unwrap().1;
    let outcome = Outcome::new(CheckStatus::ConnectFailed, "refused", Duration::ZERO);
    bench.steer.report(&Report { id: disco, epoch, outcome, at: bench.now }, bench.now);
    bench.steer.take_effects();
    let routes = bench.pass(Duration::from_secs(5)).desired.unwrap();
    let route = routes.routes.values().next().unwrap();
    assert_eq!((route.attributes.med, route.attributes.prepend, route.attributes.local_pref), (200, 1, 50));
}

#[test]
fn an_undrained_host_serves_as_before_wherever_the_drain_was() {
    let answers = [
        Input::DoorHeld,
        Input::TrafficShifted,
        Input::WithdrawAcked,
        Input::TrafficEnded,
        Input::ConnectionsClosed,
        Input::AddressGone,
    ];
    for answered in 0..=answers.len() {
        let mut bench = Bench::announced(&configuration(""));
        bench.steer.drain(Duty::Drained, "test", bench.now + Duration::from_secs(30), bench.now);
        answers.iter().take(answered).for_each(|answer| bench.vip(answer.clone()));
        bench.steer.undrain("test", bench.now).unwrap();
        for rest in answers.iter().skip(answered) {
            bench.vip(rest.clone()); // late, or the end of what was under way
        }
        bench.vip(Input::AddressReady);
        bench.vip(Input::ListenersReady);
        for backend in ["a", "b"] {
            bench.result(backend, Verdict::Passed);
        }
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.desire(), Desire::Normal, "after {answered} answers");
    }
}

#[test]
fn a_stopping_daemon_cannot_be_undrained_and_a_serving_one_need_not_be() {
    let mut bench = Bench::announced(&configuration(""));
    assert_eq!(bench.steer.undrain("test", bench.now), Err(Refused::NotDrained));
    bench.steer.drain(Duty::Stopping, "stop", bench.now, bench.now);
    assert_eq!(bench.steer.undrain("test", bench.now), Err(Refused::Stopping));
}

#[test]
fn a_late_answer_to_an_earlier_phase_moves_nothing() {
    let mut bench = Bench::announced(&configuration(""));
    let later = bench.now + Duration::from_secs(30);
    bench.steer.drain(Duty::Drained, "first", later, bench.now);
    let first = bench.steer.take_effects().entered.last().copied().unwrap();
    bench.steer.undrain("test", bench.now).unwrap();
    bench.steer.drain(Duty::Drained, "second", later, bench.now);
    bench.steer.vip(address(), Some(first.turn), Input::DoorHeld, "late", bench.now);
    assert_eq!(bench.desire(), Desire::Normal);
    let second = bench.steer.take_effects().entered.last().copied().unwrap();
    bench.steer.vip(address(), Some(second.turn), Input::DoorHeld, "in time", bench.now);
    assert_eq!(bench.desire(), Desire::Draining);
}

#[test]
fn what_becomes_of_the_traffic_of_a_withdrawn_vip_ends_its_chain() {
    let mut bench = Bench::announced(&configuration(""));
    bench.result("a", Verdict::Failed);
    let effects = bench.result("b", Verdict::Failed);
    let (entered, withdrawn) = (effects.entered.last().unwrap(), effects.events.last().unwrap().id);
    let later = bench.now + Duration::from_secs(2);
    bench.steer.vip(address(), Some(entered.turn), Input::TrafficEnded, "no new connection", later);
    let events = bench.steer.take_effects().events;
    assert_eq!((events[0].kind, events[0].cause), (EventKind::TrafficEnded, withdrawn));
    let chain = super::why::why(bench.steer.journal(), VIP).unwrap();
    assert_eq!(chain.events.last().map(|event| event.kind), Some(EventKind::TrafficEnded));
    assert_eq!(chain.events.first().map(|event| event.kind), Some(EventKind::BackendDown));
}

#[test]
fn an_announcement_earned_by_waiting_names_what_made_it_fit() {
    let mut bench = Bench::start(&configuration(""));
    bench.result("a", Verdict::Passed);
    bench.result("b", Verdict::Passed);
    let events = bench.pass(Duration::from_secs(5)).events;
    assert_eq!(events[0].kind, EventKind::VipChanged);
    assert_ne!(events[0].cause, EventId::NONE);
}

#[test]
fn an_agent_s_word_is_what_the_data_plane_is_told_and_a_drain_is_no_downfall() {
    let mut bench = Bench::announced(&configuration(""));
    for (said, expected) in [
        ("50%", Standing { weight_percent: 50, ..Standing::UP }),
        ("maxconn:3", Standing { weight_percent: 50, max_connections: Some(3), ..Standing::UP }),
        ("drain", Standing { weight_percent: 0, max_connections: Some(3), ..Standing::UP }),
        ("ready 300% maxconn:0", Standing { max_connections: Some(u32::MAX), ..Standing::UP }),
        ("down #full", Standing::DOWN),
    ] {
        let told = bench.says("a", said).standing;
        assert_eq!(told, [(id("a"), expected)], "{said}");
    }
}

/// Healthy again after it was lost twice, and held back.
fn held_back() -> Bench {
    let mut bench = Bench::announced(&configuration(""));
    for _ in 0..2 {
        for backend in ["a", "b"] {
            bench.result(backend, Verdict::Failed);
        }
        assert_eq!(bench.desire(), Desire::Withdrawn);
        for backend in ["a", "b"] {
            bench.result(backend, Verdict::Passed);
        }
        if bench.steer.view(bench.now).vips[&address()].held_back.is_none() {
            bench.pass(Duration::from_secs(5));
        }
    }
    let held_back = bench.steer.view(bench.now).vips[&address()].held_back;
    assert!(held_back > Some(Duration::from_secs(9)), "{held_back:?}");
    bench
}

#[test]
fn the_last_announcer_is_not_held_back() {
    let mut bench = held_back();
    bench.shown(true, Duration::ZERO);
    bench.pass(Duration::from_secs(2));
    bench.shown(false, Duration::ZERO);
    assert!(bench.pass(Duration::from_secs(1)).desired.is_none(), "a router may not have settled yet");
    bench.shown(false, Duration::ZERO);
    let released = bench.pass(Duration::ZERO).events;
    assert_eq!(released.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::Released]);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.desire(), Desire::Normal, "after announce_delay as anybody else");
}

#[test]
fn who_may_not_be_the_last_one_stays_held_back() {
    let (mut never, mut still, mut anew) = (held_back(), held_back(), held_back());
    anew.shown(true, Duration::ZERO);
    for bench in [&mut never, &mut still, &mut anew] {
        bench.pass(Duration::from_secs(6));
    }
    never.shown(false, Duration::ZERO);
    still.shown(true, Duration::ZERO);
    anew.shown(false, Duration::from_secs(1)); // another session, which has shown nothing yet
    for bench in [never, still, anew] {
        assert_eq!(bench.desire(), Desire::Withdrawn);
        assert!(bench.steer.view(bench.now).vips[&address()].held_back.is_some());
    }
}

#[test]
fn after_a_stall_an_old_result_announces_nothing() {
    let mut bench = Bench::start(&configuration(""));
    bench.result("a", Verdict::Passed);
    bench.result("b", Verdict::Passed);
    bench.now += Duration::from_secs(60); // nobody looked: the delay is over, and so is what the results are good for
    bench.steer.handle_timeout(bench.now);
    let effects = bench.steer.take_effects();
    assert!(effects.entered.is_empty() && effects.desired.is_none(), "{:?}", effects.events);
    let id = id("a");
    let epoch = bench.checks.iter().find(|(t, _)| t.id == id).map(|(_, e)| *e).unwrap();
    let outcome = Outcome::new(CheckStatus::Connected, "test", Duration::ZERO);
    let old = Report { id, epoch, outcome, at: bench.now - Duration::from_secs(50) };
    bench.steer.report(&old, bench.now);
    bench.steer.handle_timeout(bench.now);
    assert!(bench.steer.take_effects().desired.is_none());
    assert_eq!(bench.desire(), Desire::Withdrawn);
}

#[test]
fn a_result_that_lay_around_is_told_of_as_of_when_it_is_taken_in() {
    let mut bench = Bench::announced(&configuration(""));
    let measured = bench.now;
    bench.now += Duration::from_secs(2);
    let (id, now) = (id("a"), bench.now);
    let epoch = bench.checks.iter().find(|(target, _)| target.id == id).map(|(_, epoch)| *epoch).unwrap();
    let outcome = Outcome::new(CheckStatus::ConnectFailed, "test", Duration::ZERO);
    bench.steer.report(&Report { id, epoch, outcome, at: measured }, now);
    let events = bench.steer.take_effects().events;
    let down = events.iter().find(|event| event.kind == EventKind::BackendDown).unwrap();
    assert_eq!(down.at, now, "the log tells it now as well");
}

#[test]
fn a_drain_names_the_peer_that_did_not_acknowledge() {
    let mut bench = Bench::announced(&configuration(""));
    bench.steer.drain(Duty::Drained, "drained", bench.now + Duration::from_secs(30), bench.now);
    bench.vip(Input::DoorHeld);
    let turn = bench.steer.take_effects().entered.last().unwrap().turn;
    let peers = [Name::new("tor-a").unwrap()];
    bench.steer.unacknowledged(address(), turn - 1, &peers, bench.now);
    assert!(!bench.steer.view(bench.now).vips[&address()].reason.contains("tor-a"), "that was before");
    bench.steer.unacknowledged(address(), turn, &peers, bench.now);
    let reason = bench.steer.view(bench.now).vips[&address()].reason.clone();
    assert!(reason.contains("tor-a has not acknowledged it"), "{reason}");
    let chain = bench.steer.why(VIP, bench.now).unwrap();
    assert!(chain.events.iter().any(|event| event.subject == "tor-a"), "{chain:?}");
}

#[test]
fn why_says_of_a_vip_that_never_was_healthy_what_status_says() {
    let mut bench = Bench::start(&configuration(""));
    bench.result("a", Verdict::Failed);
    bench.result("b", Verdict::Failed);
    let standing = bench.steer.why(VIP, bench.now).unwrap().standing.unwrap();
    assert_eq!(standing, "listening, route withdrawn: healthy backends: api 0 of 2");
    assert_eq!(bench.steer.why("api/a", bench.now).unwrap().standing, None);
}

#[test]
fn a_drain_and_a_release_say_what_was_before() {
    let mut bench = Bench::announced(&configuration(""));
    assert_eq!(bench.steer.release(address(), bench.now), Ok(false), "nothing was held back");
    let deadline = bench.now + Duration::from_secs(30);
    let mut drain = |duty| bench.steer.drain(duty, "test", deadline, bench.now);
    assert_eq!(drain(Duty::Drained), Duty::Serving);
    assert_eq!(drain(Duty::Drained), Duty::Drained);
    assert_eq!(drain(Duty::Stopping), Duty::Drained);
    assert_eq!(drain(Duty::Drained), Duty::Stopping);
}
