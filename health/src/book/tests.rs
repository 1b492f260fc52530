use std::collections::HashMap;

use config::{BackendAddr, CheckKind, Passive};
use proptest::prelude::*;

use super::*;
use crate::agent::{Agent, Condition};
use crate::outcome::{CheckStatus, Outcome, Verdict};
use crate::testing::{http, id, start, target, tcp_status};

const FRESH: Duration = Duration::from_secs(7); // 2 × interval 2 s + timeout 2 s + 1 s

fn tcp(backend: &str) -> Target {
    target(backend, "10.84.14.1:8082".parse().unwrap(), CheckKind::Tcp)
}

fn unchecked(backend: &str) -> Target {
    target(backend, "10.84.14.1:8082".parse().unwrap(), CheckKind::None)
}

/// A book with its clock.
struct Desk {
    book: Book,
    now: Instant,
    epochs: HashMap<BackendId, Epoch>,
}

impl Desk {
    fn with(targets: &[Target]) -> Self {
        let mut desk = Desk { book: Book::new(), now: start(), epochs: HashMap::new() };
        desk.reconcile(targets);
        desk
    }

    fn reconcile(&mut self, targets: &[Target]) {
        let running = self.book.reconcile(targets, self.now);
        assert_eq!(running.len(), targets.len());
        self.epochs = running.into_iter().map(|(t, epoch)| (t.id, epoch)).collect();
    }

    fn report(&mut self, backend: &str, verdict: Verdict) -> Option<Transition> {
        let epoch = self.epochs[&id(backend)];
        self.report_of(backend, epoch, verdict)
    }

    fn report_of(&mut self, backend: &str, epoch: Epoch, verdict: Verdict) -> Option<Transition> {
        let detail = match verdict {
            Verdict::Passed => "connect to 10.84.14.1:8082: accepted in 0.2 ms",
            Verdict::Failed => "connect to 10.84.14.1:8082: refused in 0.3 ms",
            Verdict::NotMade => "connect to 10.84.14.1:8082: not made, too many open files",
        };
        let outcome = Outcome::new(tcp_status(verdict), detail, Duration::from_micros(300));
        self.book.record(&Report { id: id(backend), epoch, outcome, at: self.now })
    }

    fn connect_failed(&mut self, backend: &str) -> Option<Transition> {
        self.book.connect_failed(&id(backend), "connect to 10.84.14.1:8082: refused", self.now)
    }

    fn wait(&mut self, time: Duration) -> Vec<Transition> {
        self.now += time;
        let transitions = self.book.handle_timeout(self.now);
        assert!(self.book.poll_timeout().is_none_or(|at| at > self.now), "a deadline in the past would spin");
        transitions
    }

    fn health(&self, backend: &str) -> Health {
        self.entry(backend).health()
    }

    fn entry(&self, backend: &str) -> &Entry {
        self.book.get(&id(backend)).unwrap()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_backend_is_unknown_until_its_first_check_which_decides_at_once() {
    let mut desk = Desk::with(&[tcp("a"), tcp("b")]);
    assert_eq!(desk.health("a"), Health::Unknown);
    let up = desk.report("a", Verdict::Passed).unwrap();
    assert_eq!((up.from, up.to, up.failing_since), (Health::Unknown, Health::Up, None));
    assert_eq!(up.reason, "first check passed: connect to 10.84.14.1:8082: accepted in 0.2 ms");
    let down = desk.report("b", Verdict::Failed).unwrap();
    assert_eq!((down.from, down.to, down.failing_since), (Health::Unknown, Health::Down, Some(desk.now)));
}

#[test]
fn fall_bad_results_in_a_row_lower_it_and_the_reason_says_which_and_since_when() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Passed);
    let failing_since = desk.now;
    assert_eq!(desk.report("a", Verdict::Failed), None);
    desk.wait(SECOND * 2);
    assert_eq!(desk.report("a", Verdict::Failed), None);
    desk.wait(SECOND * 2);
    let down = desk.report("a", Verdict::Failed).unwrap();
    assert_eq!(down.to, Health::Down);
    assert_eq!(down.failing_since, Some(failing_since));
    assert_eq!(
        down.reason,
        "3 failed checks in 4.0 s, the last: connect to 10.84.14.1:8082: refused in 0.3 ms"
    );
    assert_eq!(desk.entry("a").reason, down.reason);
    assert_eq!(desk.entry("a").since, desk.now);
}

#[test]
fn rise_good_results_in_a_row_raise_it() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Failed);
    assert_eq!(desk.report("a", Verdict::Passed), None);
    desk.report("a", Verdict::Failed);
    assert_eq!(desk.report("a", Verdict::Passed), None);
    let up = desk.report("a", Verdict::Passed).unwrap();
    assert_eq!((up.to, up.failing_since), (Health::Up, None));
    let entry = desk.entry("a");
    assert_eq!((entry.checks_passed, entry.checks_failed, entry.transitions), (3, 2, 2));
    assert_eq!(entry.streak(), Some((Verdict::Passed, 2)));
}

#[test]
fn an_attempt_that_could_not_be_made_says_nothing_about_the_backend() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Passed);
    for _ in 0..10 {
        assert_eq!(desk.report("a", Verdict::NotMade), None);
    }
    assert_eq!(desk.health("a"), Health::Up);
    assert_eq!(desk.entry("a").checks_not_made, 10);
}

#[test]
fn without_a_conclusive_result_an_entry_goes_stale_and_the_next_one_refreshes_it() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Passed);
    assert_eq!(desk.book.poll_timeout(), Some(desk.now + FRESH));
    desk.wait(FRESH - SECOND);
    desk.report("a", Verdict::NotMade);
    assert!(!desk.entry("a").is_stale());
    desk.wait(SECOND);
    assert!(desk.entry("a").is_stale());
    assert_eq!(desk.health("a"), Health::Up, "traffic that still comes is served");
    desk.report("a", Verdict::Passed);
    assert!(!desk.entry("a").is_stale());
}

#[test]
fn an_entry_whose_first_check_never_ends_goes_stale() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.wait(FRESH);
    assert!(desk.entry("a").is_stale());
    assert_eq!(desk.health("a"), Health::Unknown);
}

#[test]
fn late_results_of_a_replaced_or_removed_target_are_ignored() {
    let mut desk = Desk::with(&[tcp("a"), tcp("b")]);
    let (old_a, old_b) = (desk.epochs[&id("a")], desk.epochs[&id("b")]);
    let moved = Target { address: BackendAddr::Ip("10.84.14.9:8082".parse().unwrap()), ..tcp("a") };
    desk.reconcile(&[moved]);
    assert_eq!(desk.report_of("a", old_a, Verdict::Passed), None);
    assert_eq!(desk.report_of("b", old_b, Verdict::Passed), None);
    assert_eq!(desk.health("a"), Health::Unknown);
    assert!(desk.book.get(&id("b")).is_none());
}

#[test]
fn a_reload_leaves_unchanged_targets_alone() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Passed);
    desk.report("a", Verdict::Failed);
    desk.report("a", Verdict::Failed);
    let epoch = desk.epochs[&id("a")];
    desk.reconcile(&[tcp("a"), tcp("new")]);
    assert_eq!(desk.epochs[&id("a")], epoch);
    assert_eq!(desk.entry("a").checks_failed, 2);
    assert!(desk.report("a", Verdict::Failed).is_some(), "the third in a row");
}

#[test]
fn a_changed_check_keeps_the_health_until_it_says_otherwise_itself() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Passed);
    desk.report("a", Verdict::Failed);
    desk.report("a", Verdict::Failed);
    let mut changed = tcp("a");
    changed.check.kind = CheckKind::Http(http());
    let old = desk.epochs[&id("a")];
    desk.reconcile(&[changed]);
    assert_ne!(desk.epochs[&id("a")], old);
    assert_eq!(desk.health("a"), Health::Up);
    assert_eq!(desk.report("a", Verdict::Failed), None, "the old check's failures do not count");
}

#[test]
fn a_backend_that_loses_its_active_check_is_up() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Failed);
    desk.reconcile(&[unchecked("a")]);
    assert_eq!(desk.health("a"), Health::Up);
}

#[test]
fn a_backend_that_gains_an_active_check_stays_up_until_it_fails() {
    let mut desk = Desk::with(&[unchecked("a")]);
    desk.reconcile(&[tcp("a")]);
    assert_eq!(desk.health("a"), Health::Up);
    desk.wait(FRESH);
    assert!(desk.entry("a").is_stale(), "its checks are waited for from now on");
}

#[test]
fn failed_connects_of_live_traffic_lower_a_backend_and_its_check_raises_it() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Passed);
    let failing_since = desk.now;
    assert_eq!(desk.connect_failed("a"), None);
    assert_eq!(desk.connect_failed("a"), None);
    let down = desk.connect_failed("a").unwrap();
    assert_eq!((down.to, down.failing_since), (Health::Down, Some(failing_since)));
    assert_eq!(
        down.reason,
        "3 failed connections of live traffic in 0.0 s, the last: connect to 10.84.14.1:8082: refused"
    );
    assert_eq!(desk.connect_failed("a"), None, "it is down already");
    assert_eq!(desk.report("a", Verdict::Passed), None);
    assert_eq!(desk.report("a", Verdict::Passed).unwrap().to, Health::Up);
}

#[test]
fn failures_from_before_a_recovery_do_not_count_after_it() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Passed);
    desk.connect_failed("a");
    desk.connect_failed("a");
    for _ in 0..3 {
        desk.report("a", Verdict::Failed);
    }
    desk.report("a", Verdict::Passed);
    desk.report("a", Verdict::Passed);
    assert_eq!(desk.connect_failed("a"), None);
}

#[test]
fn passive_checks_that_are_off_only_count() {
    let mut off = tcp("a");
    off.passive = Passive { enabled: false, ..off.passive };
    let mut desk = Desk::with(&[off]);
    desk.report("a", Verdict::Passed);
    for _ in 0..10 {
        assert_eq!(desk.connect_failed("a"), None);
    }
    assert_eq!(desk.entry("a").connects_failed, 10);
}

#[test]
fn live_traffic_never_lowers_what_was_not_checked_yet() {
    let mut desk = Desk::with(&[tcp("a")]);
    for _ in 0..10 {
        assert_eq!(desk.connect_failed("a"), None);
    }
    assert_eq!(desk.health("a"), Health::Unknown);
}

#[test]
fn without_an_active_check_a_backend_is_up_from_the_start_and_never_stale() {
    let mut desk = Desk::with(&[unchecked("a")]);
    assert_eq!((desk.health("a"), desk.book.poll_timeout()), (Health::Up, None));
    desk.wait(SECOND * 3600);
    assert!(!desk.entry("a").is_stale());
}

#[test]
fn without_an_active_check_it_is_out_for_the_window_and_then_on_trial() {
    let window = Duration::from_secs(10);
    let mut desk = Desk::with(&[unchecked("a")]);
    for _ in 0..3 {
        desk.connect_failed("a");
    }
    assert_eq!(desk.health("a"), Health::Down);
    assert_eq!(desk.book.poll_timeout(), Some(desk.now + window));
    assert_eq!(desk.wait(window - SECOND), []);
    let back = desk.wait(SECOND).pop().unwrap();
    assert_eq!((back.to, back.reason.as_str()), (Health::Up, "out for 10s, now on trial"));

    let out_again = desk.connect_failed("a").unwrap();
    assert_eq!(out_again.to, Health::Down, "one failure is enough on trial");

    desk.wait(window);
    desk.wait(window + SECOND);
    assert_eq!(desk.connect_failed("a"), None, "the trial is over, it takes three again");
}

fn agent(backend: &str) -> Target {
    target(backend, "10.84.14.1:8082".parse().unwrap(), CheckKind::Agent { send: Vec::new() })
}

impl Desk {
    fn says(&mut self, backend: &str, line: &str) -> Option<Transition> {
        let reply = crate::agent::Reply::parse(line.as_bytes()).unwrap();
        let status = match reply.condition {
            Some(Condition::Down | Condition::Failed | Condition::Stopped) => CheckStatus::AnswerWrong,
            Some(Condition::Up) | None => CheckStatus::AnswerGood,
        };
        let outcome = Outcome { agent: Some(reply), ..Outcome::new(status, line, Duration::ZERO) };
        let epoch = self.epochs[&id(backend)];
        self.book.record(&Report { id: id(backend), epoch, outcome, at: self.now })
    }
}

#[test]
fn an_agents_word_counts_at_once_in_both_directions() {
    let mut desk = Desk::with(&[agent("a")]);
    assert_eq!(desk.says("a", "up").unwrap().to, Health::Up);
    let down = desk.says("a", "down # disk").unwrap();
    assert_eq!((down.to, down.reason.as_str()), (Health::Down, "1 failed check: down # disk"));
    assert_eq!(desk.says("a", "up").unwrap().to, Health::Up);
}

#[test]
fn an_agent_that_is_not_reached_or_not_understood_goes_by_fall_and_rise() {
    let mut desk = Desk::with(&[agent("a")]);
    desk.says("a", "50%");
    assert_eq!(desk.health("a"), Health::Up, "it answers");
    for _ in 0..2 {
        assert_eq!(desk.report("a", Verdict::Failed), None);
    }
    assert_eq!(desk.report("a", Verdict::Failed).unwrap().to, Health::Down);
    assert_eq!(desk.says("a", "50%"), None);
    assert_eq!(desk.says("a", "50%").unwrap().to, Health::Up);
}

#[test]
fn only_the_agent_takes_back_what_it_said() {
    let mut desk = Desk::with(&[agent("a")]);
    desk.says("a", "down");
    for line in ["ready", "75%", "maxconn:3"] {
        assert_eq!(desk.says("a", line), None, "{line}");
    }
    assert_eq!(desk.says("a", "up").unwrap().to, Health::Up);
    let expected = Agent {
        weight_percent: Some(75),
        max_connections: Some(3),
        condition: Some(Condition::Up),
        ..Agent::default()
    };
    assert_eq!(desk.entry("a").agent, expected);
}

#[test]
fn an_agents_drain_keeps_traffic_away_and_the_health_as_it_is() {
    let mut desk = Desk::with(&[agent("a")]);
    desk.says("a", "up");
    for line in ["drain", "ready 0%", "100% maint"] {
        assert_eq!(desk.says("a", line), None);
        assert!(!desk.entry("a").takes_traffic(), "{line}");
        assert_eq!(desk.health("a"), Health::Up);
    }
    desk.says("a", "ready");
    assert!(desk.entry("a").takes_traffic());
}

#[test]
fn without_its_agent_a_backend_has_no_agents_state() {
    let mut desk = Desk::with(&[agent("a")]);
    desk.says("a", "up drain 10%");
    desk.reconcile(&[agent("a")]);
    assert!(!desk.entry("a").takes_traffic(), "a reload that changes nothing");
    desk.reconcile(&[tcp("a")]);
    assert_eq!((desk.health("a"), desk.entry("a").agent), (Health::Up, Agent::default()));
}

#[test]
fn a_name_without_an_address_is_down_and_its_address_is_another_server() {
    let host = BackendAddr::Name { host: "api.example.org".into(), port: 8082, answer: None };
    for resolved in [tcp("a"), unchecked("a")] {
        let mut desk = Desk::with(&[Target { address: host.clone(), ..resolved.clone() }]);
        assert_eq!(desk.health("a"), Health::Down);
        assert_eq!(desk.entry("a").reason, "name api.example.org not resolved");
        desk.wait(SECOND * 3600);
        assert!(!desk.entry("a").is_stale(), "there is nothing to wait for");
        let expected = if resolved.check.kind == CheckKind::None { Health::Up } else { Health::Unknown };
        desk.reconcile(&[resolved]);
        assert_eq!(desk.health("a"), expected);
    }
}

#[test]
fn intervals_follow_the_health() {
    let (fast, usual, slow) = (SECOND / 2, SECOND * 2, SECOND * 20);
    let mut target = tcp("a");
    target.check.fast_interval = Some(fast);
    target.check.down_interval = Some(slow);
    let mut desk = Desk::with(&[target.clone()]);
    let mut then = |event: fn(&mut Desk) -> Option<Transition>, expected: &[Duration]| {
        event(&mut desk);
        let told: Vec<_> = desk.book.take_intervals().into_iter().map(|(_, interval)| interval).collect();
        assert_eq!(told, expected);
        let bound = desk.now + desk.entry("a").interval() * 2 + SECOND * 3;
        assert_eq!(
            desk.book.poll_timeout(),
            Some(bound),
            "what counts as recent goes by the interval in force"
        );
    };
    then(|d| d.report("a", Verdict::Passed), &[]);
    then(|d| d.report("a", Verdict::Failed), &[fast]);
    then(|d| d.report("a", Verdict::Failed), &[]);
    then(|d| d.report("a", Verdict::Failed), &[slow]);
    then(|d| d.report("a", Verdict::Passed), &[fast]);
    then(|d| d.report("a", Verdict::Passed), &[usual]);
    for expected in [&[][..], &[], &[fast]] {
        then(|d| d.connect_failed("a"), expected);
    }
    then(|d| d.report("a", Verdict::Failed), &[slow]);

    target.check.timeout = SECOND * 3;
    desk.reconcile(&[target]);
    let told = desk.book.take_intervals();
    assert_eq!(told, [(id("a"), fast)], "its new check has not said that it is down");
}

#[test]
fn success_of_live_traffic_raises_nothing_and_failures_do_not_add_to_failed_checks() {
    let mut desk = Desk::with(&[tcp("a")]);
    desk.report("a", Verdict::Passed);
    desk.report("a", Verdict::Failed);
    desk.report("a", Verdict::Failed);
    assert_eq!(desk.connect_failed("a"), None);
    assert_eq!(desk.entry("a").streak(), Some((Verdict::Failed, 2)));
    assert!(desk.report("a", Verdict::Failed).is_some());
}

#[derive(Debug, Clone)]
enum Event {
    Report(u8, Verdict),
    ConnectFailed(u8),
    Wait(u64),
    Reload(u8),
}

fn events() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![Just(Verdict::Passed), Just(Verdict::Failed), Just(Verdict::NotMade)];
    prop_oneof![
        4 => (0u8..3, verdict).prop_map(|(n, v)| Event::Report(n, v)),
        2 => (0u8..3).prop_map(Event::ConnectFailed),
        2 => (0u64..12_000).prop_map(Event::Wait),
        1 => any::<u8>().prop_map(Event::Reload),
    ]
}

/// Three backends, by the bits of `choice` with or without an active check and passive checks.
fn some_targets(choice: u8) -> Vec<Target> {
    let one = |n: u8| {
        let mut t = if choice >> n & 1 == 0 { tcp(&format!("b{n}")) } else { unchecked(&format!("b{n}")) };
        t.passive.enabled = choice >> (n + 3) & 1 == 0;
        t
    };
    (0..3).map(one).collect()
}

proptest! {
    #[test]
    fn transitions_tell_the_whole_story_between_reloads(events in proptest::collection::vec(events(), 1..200)) {
        let mut desk = Desk::with(&some_targets(0));
        let mut told: HashMap<BackendId, Health> = HashMap::new();
        for event in events {
            let transitions = match event {
                Event::Report(n, verdict) => desk.report(&format!("b{n}"), verdict).into_iter().collect(),
                Event::ConnectFailed(n) => desk.connect_failed(&format!("b{n}")).into_iter().collect(),
                Event::Wait(ms) => desk.wait(Duration::from_millis(ms)),
                Event::Reload(choice) => {
                    desk.reconcile(&some_targets(choice));
                    told.extend(desk.book.iter().map(|e| (e.target.id.clone(), e.health())));
                    Vec::new()
                }
            };
            for t in transitions {
                let before = told.insert(t.id.clone(), t.to).unwrap_or(Health::Unknown);
                prop_assert_eq!(t.from, before);
                prop_assert_ne!(t.from, t.to);
                prop_assert_eq!(t.failing_since.is_some(), t.to == Health::Down);
            }
            for entry in desk.book.iter() {
                let known = told.get(&entry.target.id).copied().unwrap_or(Health::Unknown);
                prop_assert_eq!(entry.health(), known);
            }
        }
    }
}
