use std::time::{Duration, Instant};

use config::Weight;
use proptest::prelude::*;

use super::*;
use crate::outcome::{CheckStatus, Epoch, Outcome, Report, Target, Verdict};
use crate::testing::{name, start, tcp_status};

/// A service in numbers: healthy of `total`, needing `min_healthy`.
struct Given {
    name: Name,
    required: bool,
    min_healthy: u32,
    healthy: u32,
    results: Results,
}

fn required(text: &str, healthy: u32, results: Results) -> Given {
    Given { name: name(text), required: true, min_healthy: 2, healthy, results }
}

fn optional(text: &str, healthy: u32, results: Results) -> Given {
    Given { required: false, ..required(text, healthy, results) }
}

fn judged(given: &[Given]) -> VipHealth {
    let services: Vec<_> = given
        .iter()
        .map(|g| ServiceHealth {
            name: &g.name,
            required: g.required,
            min_healthy: g.min_healthy,
            healthy: g.healthy,
            total: 3,
            results: g.results,
        })
        .collect();
    evaluate(&services)
}

fn of(names: &[&str]) -> Vec<Name> {
    names.iter().map(|n| name(n)).collect()
}

#[test]
fn healthy_means_every_required_service_is_whole() {
    let given = [required("api", 2, Results::Fresh), required("discovery", 3, Results::Fresh)];
    assert_eq!(judged(&given), VipHealth::Healthy);
}

#[test]
fn one_service_short_of_backends_makes_the_vip_short() {
    for healthy in [0, 1] {
        let given = [required("api", healthy, Results::Fresh), required("discovery", 3, Results::Fresh)];
        assert_eq!(judged(&given), VipHealth::Short { services: of(&["api"]) });
    }
}

#[test]
fn all_down_means_no_required_service_has_a_healthy_backend() {
    let given = [
        required("api", 0, Results::Fresh),
        required("discovery", 0, Results::Fresh),
        optional("webui", 3, Results::Fresh),
    ];
    assert_eq!(judged(&given), VipHealth::AllDown { services: of(&["api", "discovery"]) });
}

#[test]
fn optional_services_do_not_count_beside_required_ones() {
    for results in [Results::Fresh, Results::Pending, Results::Stale] {
        let given = [required("api", 3, Results::Fresh), optional("webui", 0, results)];
        assert_eq!(judged(&given), VipHealth::Healthy);
    }
}

#[test]
fn an_unchecked_service_leaves_the_verdict_open_and_names_who_is_short_already() {
    let given = [
        required("api", 1, Results::Pending),
        required("discovery", 0, Results::Fresh),
        required("analytics", 3, Results::Fresh),
    ];
    assert_eq!(judged(&given), VipHealth::Pending { services: of(&["api"]), short: of(&["discovery"]) });
}

#[test]
fn a_stale_service_outweighs_everything_else() {
    let given = [
        required("api", 0, Results::Stale),
        required("discovery", 0, Results::Pending),
        required("analytics", 0, Results::Fresh),
    ];
    assert_eq!(judged(&given), VipHealth::Stale { services: of(&["api"]) });
}

#[test]
fn with_optional_services_only_one_whole_service_is_enough() {
    let whole = optional("a", 2, Results::Fresh);
    assert_eq!(judged(&[whole, optional("b", 0, Results::Stale)]), VipHealth::Healthy);
    let (short, down) = (optional("a", 1, Results::Fresh), optional("b", 0, Results::Fresh));
    assert_eq!(judged(&[short, down]), VipHealth::Short { services: of(&["a", "b"]) });
    let (down, pending) = (optional("a", 0, Results::Fresh), optional("b", 0, Results::Pending));
    assert_eq!(judged(&[down, pending]), VipHealth::Pending { services: of(&["b"]), short: Vec::new() });
    let (down, stale) = (optional("a", 0, Results::Fresh), optional("b", 0, Results::Stale));
    assert_eq!(judged(&[down, stale]), VipHealth::Stale { services: of(&["b"]) });
    let (one, two) = (optional("a", 0, Results::Fresh), optional("b", 0, Results::Fresh));
    assert_eq!(judged(&[one, two]), VipHealth::AllDown { services: of(&["a", "b"]) });
}

#[test]
fn a_vip_without_services_has_nothing_that_answers() {
    assert_eq!(judged(&[]), VipHealth::AllDown { services: Vec::new() });
}

#[test]
fn the_verdict_reads_as_a_sentence() {
    let short = VipHealth::Short { services: of(&["api", "discovery"]) };
    assert_eq!(short.to_string(), "short of healthy backends: api, discovery");
    assert_eq!(VipHealth::Healthy.to_string(), "healthy");
}

// From here on: from the book to the numbers.

fn service(backends: &[&str]) -> Service {
    Service { min_healthy: 2, ..crate::testing::service(backends) }
}

/// A book of a service's backends, each with the result it had, if any.
struct Desk {
    book: Book,
    running: Vec<(Target, Epoch)>,
    now: Instant,
}

impl Desk {
    fn of(service: &Service) -> Self {
        let targets: Vec<_> = service.backends.iter().map(|b| Target::of(service, b)).collect();
        let (mut book, now) = (Book::new(), start());
        let running = book.reconcile(&targets, now);
        Desk { book, running, now }
    }

    fn report(&mut self, backend: &str, verdict: Verdict) {
        let (target, epoch) = self.running.iter().find(|(t, _)| t.id.backend.as_str() == backend).unwrap();
        let outcome = Outcome::new(tcp_status(verdict), "connect", Duration::ZERO);
        self.book.record(&Report { id: target.id.clone(), epoch: *epoch, outcome, at: self.now });
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.book.handle_timeout(self.now);
    }

    fn tally(&self, service: &Service) -> (u32, u32, Results) {
        let tally = ServiceHealth::tally(service, &self.book, |b| !b.disabled && b.weight.as_u16() > 0);
        (tally.healthy, tally.total, tally.results)
    }
}

#[test]
fn a_service_is_pending_until_it_is_whole_or_every_backend_was_checked() {
    let service = service(&["a", "b", "c"]);
    let mut desk = Desk::of(&service);
    assert_eq!(desk.tally(&service), (0, 3, Results::Pending));
    desk.report("a", Verdict::Failed);
    desk.report("b", Verdict::Passed);
    assert_eq!(desk.tally(&service), (1, 3, Results::Pending), "the last one may yet make it whole");
    let mut other = Desk::of(&service);
    other.report("a", Verdict::Passed);
    other.report("b", Verdict::Passed);
    assert_eq!(other.tally(&service), (2, 3, Results::Fresh));
    desk.report("c", Verdict::Failed);
    assert_eq!(desk.tally(&service), (1, 3, Results::Fresh));
}

#[test]
fn only_backends_that_may_take_traffic_count() {
    let mut service = service(&["a", "b", "c"]);
    let mut desk = Desk::of(&service);
    for backend in ["a", "b", "c"] {
        desk.report(backend, Verdict::Passed);
    }
    service.backends[0].disabled = true;
    service.backends[1].weight = Weight::new(0).unwrap();
    service.backends[2].backup = true;
    assert_eq!(desk.tally(&service), (1, 1, Results::Fresh), "a backup counts");
}

#[test]
fn a_stale_backend_is_not_healthy_and_a_service_of_stale_backends_is_stale() {
    let service = service(&["a", "b"]);
    let mut desk = Desk::of(&service);
    desk.report("a", Verdict::Passed);
    desk.report("b", Verdict::Passed);
    desk.wait(6);
    desk.report("a", Verdict::Passed);
    desk.wait(6);
    assert_eq!(desk.tally(&service), (1, 2, Results::Fresh));
    desk.wait(6);
    assert_eq!(desk.tally(&service), (0, 2, Results::Stale));
}

impl Desk {
    fn verdict(&self, service: &Service) -> VipHealth {
        let tally = ServiceHealth::tally(service, &self.book, |b| !b.disabled && b.weight.as_u16() > 0);
        evaluate(&[tally])
    }

    fn of_healthy(service: &Service) -> Self {
        let mut desk = Desk::of(service);
        for backend in &service.backends {
            desk.report(backend.name.as_str(), Verdict::Passed);
        }
        desk
    }

    /// The next thing that is noticed about a backend that is not there: a failed check or a failed connection.
    fn notice_absence(&mut self, service: &Service, backend: &Backend, by_traffic: bool) {
        if by_traffic {
            self.book.connect_failed(&service.backend_id(backend), "connect: refused", self.now);
        } else {
            self.report(backend.name.as_str(), Verdict::Failed);
        }
    }

    fn is_up(&self, service: &Service, backend: &Backend) -> bool {
        self.book.get(&service.backend_id(backend)).unwrap().health().is_up()
    }
}

fn many(backends: usize, min_healthy: u32) -> Service {
    let names: Vec<_> = (0..backends).map(|n| format!("b{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    Service { min_healthy, ..crate::testing::service(&names) }
}

proptest! {
    /// With one backend to spare, and the next restarted once the one before is up again.
    #[test]
    fn backends_restarted_one_by_one_never_move_the_vip(
        to_spare in 1usize..3,
        min_healthy in 1u32..4,
        restarts in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0usize..8), 1..20),
    ) {
        let service = many(min_healthy as usize + to_spare, min_healthy);
        let mut desk = Desk::of_healthy(&service);
        for (which, by_traffic, noticed) in restarts {
            let restarted = which.get(&service.backends);
            for _ in 0..noticed {
                desk.notice_absence(&service, restarted, by_traffic);
                prop_assert_eq!(desk.verdict(&service), VipHealth::Healthy);
            }
            while !desk.is_up(&service, restarted) {
                desk.report(restarted.name.as_str(), Verdict::Passed);
                prop_assert_eq!(desk.verdict(&service), VipHealth::Healthy);
            }
        }
    }

    /// What goes below the mark is short in that very instant, whatever noticed it.
    #[test]
    fn the_way_down_is_not_delayed(
        backends in 1usize..6,
        min_healthy in 1u32..4,
        by_traffic in any::<bool>(),
    ) {
        let service = many(backends, min_healthy.min(backends as u32));
        let mut desk = Desk::of_healthy(&service);
        for (backend, left) in service.backends.iter().zip((0..backends as u32).rev()) {
            while desk.is_up(&service, backend) {
                desk.notice_absence(&service, backend, by_traffic);
            }
            let names = vec![service.name.clone()];
            let expected = match left {
                0 => VipHealth::AllDown { services: names },
                left if left < service.min_healthy => VipHealth::Short { services: names },
                _ => VipHealth::Healthy,
            };
            prop_assert_eq!(desk.verdict(&service), expected);
        }
    }
}

#[test]
fn a_backend_that_its_agent_drains_counts_no_more_than_one_that_an_operator_does() {
    let mut service = service(&["a", "b", "c"]);
    service.check.kind = config::CheckKind::Agent { send: Vec::new() };
    let mut desk = Desk::of_healthy(&service);
    let (target, epoch) = desk.running[0].clone();
    let reply = crate::agent::Reply::parse(b"up drain").unwrap();
    let good = Outcome::new(CheckStatus::AnswerGood, "agent", Duration::ZERO);
    let outcome = Outcome { agent: Some(reply), ..good };
    desk.book.record(&Report { id: target.id, epoch, outcome, at: desk.now });
    assert_eq!(desk.tally(&service), (2, 2, Results::Fresh));
}
