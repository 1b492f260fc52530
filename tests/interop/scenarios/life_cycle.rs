//! The life of a VIP on its host, as the router and its clients see it.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Row, scenarios};
use crate::common::SOON;
use crate::common::backend::Backend;
use crate::common::configuration::LOCAL_AS;
use crate::lab::{Lab, Options, VIP4, VIP6};
use crate::router::Kind;

scenarios! {
    all_backends_killed_takes_the_route_away_and_one_back_brings_it_after_announce_delay:
        bird2 frr, not bird1 "as with BIRD 2", not gobgp "no kernel routes";
    short_service_degrades_the_route: bird2 bird1 frr gobgp;
    sigterm_takes_the_route_away_before_the_listener_closes:
        bird2 frr, not bird1 "as with BIRD 2", not gobgp "no kernel routes";
    kill_9_takes_the_route_away_and_a_restart_brings_it_back: bird2 bird1 frr gobgp;
    address_is_on_lo_before_the_route_and_gone_after_it:
        bird2 frr, not bird1 "as with BIRD 2", not gobgp "no kernel routes";
    address_that_somebody_takes_off_withdraws_and_comes_back:
        bird2 frr, not bird1 "as with BIRD 2", not gobgp "no kernel routes";
    refused_reload_leaves_every_address_where_it_is:
        bird2 frr, not bird1 "as with BIRD 2", not gobgp "no kernel routes";
    vip_follows_its_interface_setting:
        bird2 frr, not bird1 "as with BIRD 2", not gobgp "no kernel routes";
}

fn all_backends_killed_takes_the_route_away_and_one_back_brings_it_after_announce_delay(router: Kind) {
    let options = Options { vip: "announce_delay = \"2s\"\n".into(), ..Options::default() };
    let mut lab = Lab::announced(router, options);
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

fn short_service_degrades_the_route(router: Kind) {
    let mut options = Options { service: "min_healthy = 2\n".into(), ..Options::default() };
    options.vip += "degraded = { med = 200, prepend = 2 }\n";
    let mut lab = Lab::announced(router, options);
    lab.backends[0].stop();
    for vip in [VIP4, VIP6] {
        lab.wait_rib_with(vip, |route| route.med == Some(200) && route.as_path == [LOCAL_AS; 3]);
    }
    assert_eq!(lab.fetch_locally(VIP4).unwrap(), "b");
}

fn sigterm_takes_the_route_away_before_the_listener_closes(router: Kind) {
    let mut lab = Lab::announced(router, Options::default());
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

fn kill_9_takes_the_route_away_and_a_restart_brings_it_back(router: Kind) {
    let mut lab = Lab::announced(router, Options::default());
    lab.daemon.signal(Signal::KILL);
    lab.daemon.wait_exit(SOON);
    for vip in [VIP4, VIP6] {
        lab.wait_no_rib(vip);
    }
    lab.restart();
    for vip in [VIP4, VIP6] {
        lab.wait_announced(vip);
    }
}

fn address_is_on_lo_before_the_route_and_gone_after_it(router: Kind) {
    let mut lab = Lab::announced(router, Options::default());
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

fn address_that_somebody_takes_off_withdraws_and_comes_back(router: Kind) {
    // Long enough for the slower router to take the route out of its kernel in between.
    let lab =
        Lab::announced(router, Options { vip: "announce_delay = \"1s\"\n".into(), ..Options::default() });
    let mark = lab.router_events.stdout().len();
    lab.lb_ns.run(&["ip", "address", "del", &format!("{VIP4}/32"), "dev", "lo"]);
    let withdrawn = |line: &String| line.starts_with("Deleted") && line.contains(VIP4);
    lab.router_events.stdout().wait_since(mark, SOON, withdrawn).expect("the route goes");
    lab.wait_fib(VIP4);
    assert!(lab.lb_ns.has_address("lo", VIP4));
    assert!(lab.fetch(VIP4).is_ok());
}

/// The configuration with each VIP on an interface of its own.
fn on_interfaces(lab: &Lab, of_vip4: &str, of_vip6: &str) -> String {
    let on = |config: String, vip: &str, interface: &str| {
        let address = format!("address = \"{vip}\"\n");
        assert!(config.contains(&address), "{config}");
        config.replace(&address, &format!("{address}interface = \"{interface}\"\n"))
    };
    on(on(lab.config(), VIP4, of_vip4), VIP6, of_vip6)
}

fn refused_reload_leaves_every_address_where_it_is(router: Kind) {
    let lab = Lab::announced(router, Options::default());
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

fn vip_follows_its_interface_setting(router: Kind) {
    let lab = Lab::announced(router, Options::default());
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
