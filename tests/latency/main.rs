//! How quickly a VIP that cannot serve any more is withdrawn. A test binary of its own: cargo runs those one after the
//! other, so nothing of ours competes for the processor meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in the functions its tests share as well"
)]
#![allow(clippy::disallowed_methods, reason = "a test measures real time; it never sleeps")]

#[path = "../common/mod.rs"]
mod common;

use common::SOON;
use common::backend::Backend;
use common::bgp_peer::BgpPeer;
use common::bgp_wire::Prefix;
use common::configuration::{ROUTER_AS, bgp, bgp_peer, quick_check, vip, vip_service};
use common::daemon::Daemon;
use common::ports::Loopback;

const ROUNDS: usize = 9;
const BOUND_MS: f64 = 5.0;

#[test]
fn update_is_on_the_wire_within_5_ms_of_the_event_that_made_the_vip_unhealthy() {
    let (local, address) = (Loopback::take(), Loopback::take());
    let mut backend = Backend::http("a", local.addr());
    let peer = BgpPeer::start(ROUTER_AS);
    let config = bgp("")
        + &bgp_peer("tor-a", &peer, local.ip(), "")
        + &vip(address.ip(), "announce_delay = \"0s\"\nflap = { max_delay = \"0s\" }\n")
        + &vip_service("web", address.ip(), 8082, &quick_check(), &[&backend]);
    let daemon = Daemon::start(&local, &config);
    let prefix = Prefix::host(address.ip());
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        peer.wait_announced(prefix, SOON);
        let mark = daemon.stderr().len();
        backend.stop();
        peer.wait_withdrawn(prefix, SOON);
        daemon.wait_log(mark, SOON, &["\"update_sent\""]);
        let records = daemon.records(mark);
        let sent = records.iter().find(|r| r["event"] == "update_sent").unwrap();
        took.push(sent["after_ms"].as_f64().unwrap_or_else(|| panic!("no after_ms in {sent}")));
        backend.start_again();
    }
    took.sort_by(f64::total_cmp);
    assert!(took[ROUNDS / 2] < BOUND_MS, "median of {took:?} ms is not below {BOUND_MS} ms");
    println!("from the failed check to the UPDATE: {took:?} ms");
}
