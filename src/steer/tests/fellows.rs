//! Fellow hosts, as the steering core hears of them.

use super::*;
use crate::steer::Door;

const LONGEST: Duration = Duration::from_millis(900);

fn with_fellow() -> Arc<Config> {
    let mut config = Config::clone(&configuration(""));
    let bgp = config.bgp.as_mut().unwrap();
    let fellow =
        config::Peer { name: Name::new("lb-b").unwrap(), fellow: true, ..bgp.peers.first().unwrap().clone() };
    bgp.peers.push(fellow);
    Arc::new(config)
}

/// What a session with `peer` shows of the VIP.
#[derive(Clone, Copy)]
enum Shows {
    Nothing,
    Coming,
    There,
}

impl Bench {
    fn session(&mut self, peer: &str, shows: Shows) -> Vec<(IpAddr, Door)> {
        let of = |is_shown: bool| is_shown.then(address).into_iter().collect();
        let session = Session {
            peer: Name::new(peer).unwrap(),
            since: self.start,
            vips: of(!matches!(shows, Shows::Nothing)),
            coming: of(matches!(shows, Shows::Coming)),
        };
        self.steer.others(&[session], self.now);
        self.steer.take_effects().doors
    }
}

#[test]
fn newcomers_wait_for_a_fellow_that_comes_until_the_routers_have_moved() {
    let mut bench = Bench::announced(&with_fellow());
    assert_eq!(bench.session("lb-b", Shows::Nothing), []);
    assert_eq!(bench.session("lb-b", Shows::Coming), [(address(), Door::Held)]);
    bench.now += Duration::from_millis(200);
    assert_eq!(bench.session("lb-b", Shows::There), []);
    assert_eq!(bench.pass(Duration::from_millis(299)).doors, []);
    assert_eq!(bench.pass(Duration::from_millis(1)).doors, [(address(), Door::Open)]);
    assert_eq!(bench.pass(Duration::from_secs(60)).doors, []);
}

#[test]
fn newcomers_do_not_wait_for_a_fellow_that_goes_away_again_or_does_not_get_on() {
    let mut bench = Bench::announced(&with_fellow());
    bench.session("lb-b", Shows::Coming);
    assert_eq!(bench.session("lb-b", Shows::Nothing), [(address(), Door::Open)]);
    let mut bench = Bench::announced(&with_fellow());
    bench.session("lb-b", Shows::Coming);
    assert_eq!(bench.steer.poll_timeout().map(|at| at - bench.now), Some(LONGEST));
    assert_eq!(bench.pass(LONGEST).doors, [(address(), Door::Open)]);
    let mut bench = Bench::announced(&with_fellow());
    bench.session("lb-b", Shows::Coming);
    bench.steer.others(&[], bench.now);
    assert_eq!(bench.steer.take_effects().doors, [(address(), Door::Open)], "its session is gone");
}

#[test]
fn a_fellow_that_comes_again_and_again_is_waited_for_once_in_five_seconds() {
    let mut bench = Bench::announced(&with_fellow());
    let mut held = 0;
    for _ in 0..100 {
        let doors = bench.session("lb-b", Shows::Coming);
        held += doors.iter().filter(|(_, door)| *door == Door::Held).count();
        bench.session("lb-b", Shows::Nothing);
        for backend in ["a", "b"] {
            bench.result(backend, Verdict::Passed);
        }
        bench.pass(Duration::from_millis(200));
    }
    assert_eq!(held, 4, "in 20 s");
}

#[test]
fn nobody_waits_for_a_router_nor_for_a_fellow_on_its_way_out_nor_where_nothing_is_announced() {
    let mut bench = Bench::announced(&with_fellow());
    assert_eq!(bench.session("tor-a", Shows::Coming), []);
    let mut bench = Bench::announced(&with_fellow());
    bench.session("lb-b", Shows::There);
    assert_eq!(bench.session("lb-b", Shows::Coming), []);
    let mut bench = Bench::start(&with_fellow());
    assert_eq!(bench.session("lb-b", Shows::Coming), []);
}

#[test]
fn a_host_that_comes_tells_its_fellows_first_and_only_those() {
    let mut bench = Bench::start(&with_fellow());
    bench.session("lb-b", Shows::There);
    for (target, _) in bench.checks.clone() {
        bench.result(target.id.backend.as_str(), Verdict::Passed);
    }
    let routes = bench.pass(Duration::from_secs(5)).desired.unwrap();
    assert_eq!(bench.desire(), Desire::Arriving);
    let route = routes.routes.values().next().unwrap();
    assert!(route.peers.contains(&Name::new("lb-b").unwrap()));
    assert!(!route.peers.contains(&Name::new("tor-a").unwrap()));
    bench.vip(Input::FellowsTold);
    let routes = bench.steer.take_effects().desired.unwrap();
    assert!(routes.routes.values().all(|route| route.peers.contains(&Name::new("tor-a").unwrap())));
    assert_eq!(bench.desire(), Desire::Normal);
}

#[test]
fn a_host_that_has_just_started_waits_for_its_fellows_two_seconds_at_most() {
    let healthy = || {
        let mut config = Config::clone(&with_fellow());
        config.vips.first_mut().unwrap().announce_delay = Duration::from_millis(100);
        let mut bench = Bench::start(&Arc::new(config));
        for (target, _) in bench.checks.clone() {
            bench.result(target.id.backend.as_str(), Verdict::Passed);
        }
        bench
    };
    let mut nobody_there = healthy();
    nobody_there.pass(Duration::from_millis(1999));
    assert_eq!(nobody_there.desire(), Desire::Withdrawn);
    assert_eq!(
        nobody_there.steer.poll_timeout().map(|at| at - nobody_there.now),
        Some(Duration::from_millis(1))
    );
    nobody_there.pass(Duration::from_millis(1));
    assert_eq!(nobody_there.desire(), Desire::Normal);

    let mut there_in_time = healthy();
    there_in_time.pass(Duration::from_millis(500));
    assert_eq!(there_in_time.desire(), Desire::Withdrawn);
    there_in_time.session("lb-b", Shows::There);
    there_in_time.pass(Duration::ZERO);
    assert_eq!(there_in_time.desire(), Desire::Arriving);
}

#[test]
fn a_session_that_was_there_before_the_configuration_counts() {
    let mut bench = Bench::start(&configuration(""));
    bench.session("lb-b", Shows::Nothing);
    bench.checks = bench.steer.configure(with_fellow(), "test", bench.now);
    for (target, _) in bench.checks.clone() {
        bench.result(target.id.backend.as_str(), Verdict::Passed);
    }
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.desire(), Desire::Arriving);
}

#[test]
fn without_a_session_with_a_fellow_nobody_is_told_first() {
    let mut bench = Bench::announced(&with_fellow());
    assert_eq!(bench.desire(), Desire::Normal);
    bench.session("lb-b", Shows::There);
    assert_eq!(bench.desire(), Desire::Normal, "nor once it is announced");
}
