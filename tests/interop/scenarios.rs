//! What must hold with every router. Each scenario is one test per router.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::SOON;
use crate::common::backend::Backend;
use crate::common::configuration::LOCAL_AS;
use crate::common::eventually::eventually;
use crate::lab::{LB4, LB6, Lab, Options, VIP4, VIP6};
use crate::router::{Router, Sessions, with_every_router};

with_every_router! {
    vip_is_in_rib_and_fib_with_its_attributes_and_clients_reach_it
    all_backends_killed_takes_the_route_away_and_one_back_brings_it_after_announce_delay
    short_service_degrades_the_route
    sigterm_takes_the_route_away_before_the_listener_closes
    kill_9_takes_the_route_away_and_a_restart_brings_it_back
    address_is_on_lo_before_the_route_and_gone_after_it
    address_that_somebody_takes_off_withdraws_and_comes_back
    refused_reload_leaves_every_address_where_it_is
    vip_follows_its_interface_setting
    router_that_restarts_learns_the_vip_again
    router_may_dial_us
    both_sides_may_dial
    session_may_be_secured_by_md5_and_ttl
}

/// No delay: for scenarios that are about something else.
fn at_once() -> Options {
    Options { vip: "announce_delay = \"0s\"\n".into(), ..Options::default() }
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn vip_is_in_rib_and_fib_with_its_attributes_and_clients_reach_it<R: Router>() {
    let mut options = at_once();
    options.vip += "announce = { med = 7, prepend = 1, communities = [\"64512:100\", \"64512:200\"], \
                    large_communities = [\"64512:1:2\"] }\n";
    let lab = Lab::<R>::start(&options);
    lab.wait_established();
    for (vip, next_hop) in [(VIP4, LB4), (VIP6, LB6)] {
        let route = lab.wait_rib(vip);
        assert_eq!(route.next_hop.to_string(), next_hop);
        assert_eq!((route.med, route.as_path), (Some(7), vec![LOCAL_AS; 2]));
        assert_eq!(route.communities, set(&["64512:100", "64512:200"]));
        assert_eq!(route.large_communities, set(&["64512:1:2"]));
        lab.wait_fib(vip);
        for backend in ["a", "b"] {
            eventually(&format!("{backend} answers behind {vip}"), SOON, || {
                lab.fetch(vip).unwrap() == backend
            });
        }
    }
    assert_eq!(lab.wait_fib(VIP4), LB4);
}

fn all_backends_killed_takes_the_route_away_and_one_back_brings_it_after_announce_delay<R: Router>() {
    let options = Options { vip: "announce_delay = \"2s\"\n".into(), ..Options::default() };
    let mut lab = Lab::<R>::announced(&options);
    lab.backends.iter_mut().for_each(Backend::stop);
    for vip in [VIP4, VIP6] {
        lab.wait_no_fib(vip, SOON);
    }
    assert!(lab.fetch(VIP4).is_err());
    let back = Instant::now();
    let lb = &lab.lb_ns;
    let one = &mut lab.backends[1];
    lb.within(|| one.start_again());
    lab.wait_fib(VIP4);
    let took = back.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_secs(8)).contains(&took), "{took:?}");
    assert_eq!(lab.fetch(VIP4).unwrap(), "b");
    lab.wait_fib(VIP6);
    assert_eq!(lab.fetch(VIP6).unwrap(), "b");
}

fn short_service_degrades_the_route<R: Router>() {
    let mut options = at_once();
    options.service += "min_healthy = 2\n";
    options.vip += "degraded = { med = 200, prepend = 2 }\n";
    let mut lab = Lab::<R>::announced(&options);
    lab.backends[0].stop();
    for vip in [VIP4, VIP6] {
        eventually("the router has the degraded route", SOON, || {
            let route = lab.wait_rib(vip);
            route.med == Some(200) && route.as_path == [LOCAL_AS; 3]
        });
    }
    assert_eq!(lab.fetch(VIP4).unwrap(), "b");
}

fn sigterm_takes_the_route_away_before_the_listener_closes<R: Router>() {
    let mut lab = Lab::<R>::announced(&at_once());
    let mark = lab.router_events.stdout().len();
    lab.daemon.signal(Signal::TERM);
    for vip in [VIP4, VIP6] {
        let gone = |line: &String| line.starts_with("Deleted") && line.contains(vip);
        assert!(
            lab.router_events.stdout().wait_since(mark, SOON, gone).is_some(),
            "{vip} stays in the kernel"
        );
        assert!(lab.fetch_locally(vip).is_ok(), "{vip} was closed before the router had let go of it");
    }
    lab.daemon.wait_code(SOON * 3, 0);
    assert!(lab.fetch_locally(VIP4).is_err());
}

fn kill_9_takes_the_route_away_and_a_restart_brings_it_back<R: Router>() {
    let mut lab = Lab::<R>::announced(&at_once());
    lab.daemon.signal(Signal::KILL);
    lab.daemon.wait_exit(SOON);
    for vip in [VIP4, VIP6] {
        lab.wait_no_fib(vip, SOON);
    }
    lab.restart(&at_once());
    for vip in [VIP4, VIP6] {
        lab.wait_fib(vip);
        assert!(lab.fetch(vip).is_ok(), "{vip}");
    }
}

fn address_is_on_lo_before_the_route_and_gone_after_it<R: Router>() {
    let mut lab = Lab::<R>::announced(&at_once());
    for vip in [VIP4, VIP6] {
        let added = |line: &String| line.contains(&format!(" {vip}/"));
        let address = lab.lb_events.stdout().wait_since(0, SOON, added).unwrap();
        let routed = |line: &String| !line.starts_with("Deleted") && line.contains(vip);
        let route = lab.router_events.stdout().wait_since(0, SOON, routed).unwrap();
        assert!(address.at < route.at, "{vip} was routed before it was there");
        assert!(lab.lb_ns.has_address("lo", vip));
    }
    let (routes, addresses) = (lab.router_events.stdout().len(), lab.lb_events.stdout().len());
    lab.daemon.signal(Signal::TERM);
    lab.daemon.wait_code(SOON * 3, 0);
    for vip in [VIP4, VIP6] {
        let deleted = |line: &String| line.starts_with("Deleted") && line.contains(vip);
        let route = lab.router_events.stdout().wait_since(routes, SOON, deleted).unwrap();
        let address = lab.lb_events.stdout().wait_since(addresses, SOON, deleted).unwrap();
        assert!(route.at < address.at, "{vip} left the host before the route was gone");
        assert!(!lab.lb_ns.has_address("lo", vip));
    }
}

fn address_that_somebody_takes_off_withdraws_and_comes_back<R: Router>() {
    // Long enough for the slower router to take the route out of its kernel in between.
    let lab = Lab::<R>::announced(&Options { vip: "announce_delay = \"1s\"\n".into(), ..Options::default() });
    let mark = lab.router_events.stdout().len();
    lab.lb_ns.run(&["ip", "address", "del", &format!("{VIP4}/32"), "dev", "lo"]);
    let withdrawn = |line: &String| line.starts_with("Deleted") && line.contains(VIP4);
    lab.router_events.stdout().wait_since(mark, SOON, withdrawn).expect("the route goes");
    lab.wait_fib(VIP4);
    assert!(lab.lb_ns.has_address("lo", VIP4));
    assert!(lab.fetch(VIP4).is_ok());
}

/// The configuration with each VIP on an interface of its own.
fn on_interfaces<R: Router>(lab: &Lab<R>, of_vip4: &str, of_vip6: &str) -> String {
    let on = |config: String, vip: &str, interface: &str| {
        let address = format!("address = \"{vip}\"\n");
        assert!(config.contains(&address), "{config}");
        config.replace(&address, &format!("{address}interface = \"{interface}\"\n"))
    };
    on(on(lab.config(&at_once()), VIP4, of_vip4), VIP6, of_vip6)
}

fn refused_reload_leaves_every_address_where_it_is<R: Router>() {
    let lab = Lab::<R>::announced(&at_once());
    lab.lb_ns.run(&["ip", "link", "add", "there", "type", "veth", "peer", "name", "other"]);
    let mark = lab.lb_events.stdout().len();
    lab.daemon.write_config(&on_interfaces(&lab, "there", "not-there"));
    let ran = lab.daemon.cli("reload", &[]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.stderr.contains("not-there") && ran.stderr.contains("nothing was changed"), "{}", ran.stderr);
    assert!(lab.lb_ns.has_address("lo", VIP4) && lab.lb_ns.has_address("lo", VIP6));
    assert!(!lab.lb_ns.has_address("there", VIP4));
    let left_lo = |line: &&String| line.starts_with("Deleted") && line.contains(": lo ");
    let events: Vec<String> = lab.lb_events.stdout().since(mark).into_iter().map(|line| line.what).collect();
    assert_eq!(events.iter().find(left_lo), None, "{events:?}");
    assert!(lab.fetch(VIP4).is_ok() && lab.fetch(VIP6).is_ok());
}

fn vip_follows_its_interface_setting<R: Router>() {
    let lab = Lab::<R>::announced(&at_once());
    lab.lb_ns.run(&["ip", "link", "add", "there", "type", "veth", "peer", "name", "other"]);
    lab.lb_ns.run(&["ip", "link", "set", "there", "up"]);
    let mark = lab.router_events.stdout().len();
    lab.daemon.reload(&on_interfaces(&lab, "there", "lo"));
    assert!(lab.lb_ns.has_address("there", VIP4) && !lab.lb_ns.has_address("lo", VIP4));
    assert!(lab.fetch(VIP4).is_ok());
    let lost = |line: &String| line.starts_with("Deleted") && line.contains(VIP4);
    assert!(!lab.router_events.stdout().since(mark).iter().any(|line| lost(&line.what)), "the route stays");
    // The interface goes, and with it the address; the next setting is what counts then.
    lab.lb_ns.run(&["ip", "link", "del", "there"]);
    lab.router_events.stdout().wait_since(mark, SOON, lost).expect("the route goes");
    lab.daemon.reload(&on_interfaces(&lab, "lo", "lo"));
    lab.wait_fib(VIP4);
    assert!(lab.fetch(VIP4).is_ok());
}

fn router_that_restarts_learns_the_vip_again<R: Router>() {
    let mut lab = Lab::<R>::announced(&at_once());
    lab.restart_router(&Sessions::default());
    lab.wait_established();
    for vip in [VIP4, VIP6] {
        lab.wait_rib(vip);
        lab.wait_fib(vip);
        assert!(lab.fetch(vip).is_ok(), "{vip}");
    }
}

fn router_may_dial_us<R: Router>() {
    let mut options = at_once();
    options.bgp += &format!("listen = [\"{LB4}:179\", \"[{LB6}]:179\"]\n");
    options.peer += "passive = true\n";
    let lab = Lab::<R>::announced(&options);
    assert!(lab.fetch(VIP4).is_ok() && lab.fetch(VIP6).is_ok());
}

fn both_sides_may_dial<R: Router>() {
    let mut options = at_once();
    options.bgp += &format!("listen = [\"{LB4}:179\", \"[{LB6}]:179\"]\n");
    let lab = Lab::<R>::announced(&options);
    lab.wait_established();
    assert!(lab.fetch(VIP4).is_ok() && lab.fetch(VIP6).is_ok());
}

fn session_may_be_secured_by_md5_and_ttl<R: Router>() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "between-us\n").unwrap();
    let mut options = at_once();
    options.peer += &format!("password_file = {file:?}\nttl_security = true\n");
    options.router = Sessions { password: Some("between-us"), ttl_security: true, ..Sessions::default() };
    let lab = Lab::<R>::announced(&options);
    assert!(lab.fetch(VIP4).is_ok() && lab.fetch(VIP6).is_ok());
}
