use std::time::{Duration, Instant};

use config::Weight;

use super::*;
use crate::outcome::{Epoch, Outcome, Report, Target, Verdict};
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
