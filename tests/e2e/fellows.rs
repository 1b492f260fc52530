//! Fellow hosts: who comes back says so to them first, and who hears it lets newcomers wait.

use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::SOON;
use crate::common::backend::{Backend, Manner};
use crate::common::bgp_peer::BgpPeer;
use crate::common::bgp_wire::frame;
use crate::common::configuration::{LOCAL_AS, ROUTER_AS, bgp, bgp_peer, quick_check, vip, vip_service};
use crate::common::daemon::Daemon;
use crate::common::status::wait_phase;
use crate::lab::{NO_DELAY, PORT, Places};

const GRACEFUL_SHUTDOWN: u32 = 0xFFFF_0000;

struct Lab {
    at: Places,
    backend: Backend,
    router: BgpPeer,
    fellow: BgpPeer,
    daemon: Daemon,
}

fn lab(make_backend: impl FnOnce(&Places) -> Backend) -> Lab {
    let at = Places::take();
    let backend = make_backend(&at);
    let (router, fellow) = (BgpPeer::start(ROUTER_AS), BgpPeer::start(LOCAL_AS));
    let config = bgp("")
        + &bgp_peer("tor-a", &router, at.local.ip(), "")
        + &bgp_peer("lb-b", &fellow, at.local.ip(), "fellow = true\n")
        + &vip(at.vip.ip(), NO_DELAY)
        + &vip_service("web", at.vip.ip(), PORT, &quick_check(), &[&backend]);
    let daemon = Daemon::start(&at.local, &config);
    router.wait_established(SOON);
    fellow.wait_established(SOON);
    Lab { at, backend, router, fellow, daemon }
}

#[test]
fn a_host_that_comes_back_tells_its_fellows_before_the_routers() {
    let mut lab = lab(|at| Backend::stopped("a", at.local.addr(), Manner::Http));
    lab.backend.start_again();
    let is_coming =
        |said: &crate::common::bgp_wire::Attributes| said.communities.contains(&GRACEFUL_SHUTDOWN);
    let told = lab.fellow.wait_attributes(lab.at.prefix(), SOON, is_coming);
    let (announced, attributes) = lab.router.wait_announced(lab.at.prefix(), SOON);
    assert!(!is_coming(&attributes), "the router is told when it is there");
    assert!(announced >= told + Duration::from_millis(200), "{:?}", announced - told);
    lab.fellow.wait_attributes(lab.at.prefix(), SOON, |said| !is_coming(said));
    let why = lab.daemon.cli("why", &[&lab.at.vip.ip().to_string()]).stdout;
    for words in ["listening → arriving", "arriving → announced"] {
        assert!(why.contains(words), "no {words:?} in\n{why}");
    }
}

/// An UPDATE of a fellow in the same AS: it is about to announce `vip`.
fn coming(vip: Ipv4Addr) -> Vec<u8> {
    let attributes = [
        &[0x40, 1, 1, 0][..],
        &[0x40, 2, 0],
        &[0x40, 3, 4, 192, 0, 2, 77],
        &[0x40, 5, 4, 0, 0, 0, 0],
        &[0xC0, 8, 4],
        &GRACEFUL_SHUTDOWN.to_be_bytes(),
    ]
    .concat();
    let mut body = vec![0, 0, 0, u8::try_from(attributes.len()).unwrap()];
    body.extend(attributes);
    body.push(32);
    body.extend(vip.octets());
    frame(2, &body)
}

#[test]
fn newcomers_wait_for_a_fellow_that_comes_and_are_served_a_second_later() {
    let lab = lab(|at| Backend::http("a", at.local.addr()));
    wait_phase(&lab.daemon, lab.at.vip.ip(), "announced");
    let IpAddr::V4(vip) = lab.at.vip.ip() else { panic!("IPv4") };
    lab.fellow.send(&coming(vip));
    // It never gets on, so the door is held for 0.9 s: one of these comes meanwhile, and asks again a second later.
    let start = Instant::now();
    let longest = loop {
        let asked = Instant::now();
        TcpStream::connect_timeout(&lab.at.front(), SOON).expect("nobody is refused");
        let took = asked.elapsed();
        if took > Duration::from_millis(900) || start.elapsed() > SOON {
            break took;
        }
    };
    assert!(longest > Duration::from_millis(900), "{longest:?}");
    let events = lab.daemon.cli("events", &[]).stdout;
    assert!(events.contains("newcomers wait until the routers have moved"), "{events}");
}
