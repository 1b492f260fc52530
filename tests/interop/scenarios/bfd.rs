//! BFD with real routers: both directions, and what each end of it means to the BGP session.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Row, scenarios};
use crate::common::SOON;
use crate::common::eventually::eventually;
use crate::common::process::Process;
use crate::lab::{LB4, LB6, Lab, Options, VIP4, VIP6};
use crate::router::Kind;

scenarios! {
    bfd_comes_up_and_agrees_on_timers: bird2 frr, not bird1 "as with BIRD 2", not gobgp "no BFD";
    bfd_of_the_router_freezes: bird2 frr, not bird1 "as with BIRD 2", not gobgp "no BFD";
    bfd_packets_are_lost_and_only_they: bird2 frr, not bird1 "as with BIRD 2", not gobgp "no BFD";
    bfd_notices_a_frozen_load_balancer: bird2 frr, not bird1 "as with BIRD 2", not gobgp "no BFD";
    bfd_says_admin_down_at_the_end:
        frr, not bird2 "does not show what the neighbor says", not bird1 "as with BIRD 2", not gobgp "no BFD";
}

/// What may come on top of a detection time: a busy machine, and a poll of our own.
const SLACK: Duration = Duration::from_millis(700);

/// BFD on both sides with this interval in milliseconds, missed after three.
fn with_bfd(interval: u32) -> Options {
    let timers = format!("min_tx = \"{interval}ms\", min_rx = \"{interval}ms\", multiplier = 3");
    let peer = format!("bfd = {{ enabled = true, {timers} }}\n");
    let mut options = Options { peer, ..Options::default() };
    options.manner.bfd = Some(interval);
    options
}

fn is_up(peer: &Value) -> bool {
    peer["bfd"]["state"] == "Up"
}

/// Announced, with BFD Up on both sessions at its final rate.
fn watched(router: Kind, interval: u32) -> Lab {
    let lab = Lab::announced(router, with_bfd(interval));
    let detection = f64::from(interval) * 3.0 / 1000.0;
    for session in 0..2 {
        lab.wait_peer(session, "BFD is Up and has agreed", |peer| {
            let agreed = peer["bfd"]["detection_time_seconds"].as_f64();
            is_up(peer) && agreed.is_some_and(|agreed| (agreed - detection).abs() < 1e-6)
        });
    }
    lab
}

/// Waits until BFD has taken the first session down, and answers how long that took.
fn time_to_failure(lab: &Lab, since: Instant) -> Duration {
    let lost = lab.wait_peer(0, "BFD has taken the session down", |peer| peer["bfd"]["failures"] == 1);
    let took = since.elapsed();
    assert_eq!(lost["bfd"]["last_down"], "detection_time_expired");
    lab.wait_peer(0, "Cease/BFD Down", |peer| peer["last_sent"]["code"] == json!([6, 10]));
    took
}

fn bfd_comes_up_and_agrees_on_timers(router: Kind) {
    let lab = watched(router, 100);
    for session in 0..2 {
        let peer = lab.peer(session);
        assert_eq!((&peer["bfd"]["failures"], &peer["flaps"]), (&json!(0), &json!(0)), "{peer}");
        assert_eq!(peer["bfd"]["remote_state"], "Up");
    }
    let up = lab.lb_ns.within(|| lab.daemon.metric("contrail_lb_bfd_up{peer=\"router-0\"}"));
    assert_eq!(up, Some(1.0));
}

fn bfd_of_the_router_freezes(router: Kind) {
    let lab = watched(router, 100);
    let frozen = Instant::now();
    lab.router().bfd_speakers().iter().for_each(|process| process.signal(Signal::STOP));
    let took = time_to_failure(&lab, frozen);
    println!("{router:?} frozen: BFD down after {took:?}");
    assert!(took < Duration::from_millis(300) + SLACK, "{took:?}");
    lab.router().bfd_speakers().iter().for_each(|process| process.signal(Signal::CONT));
    lab.wait_peer(0, "all is well again", |peer| is_up(peer) && peer["state"] == "Established");
    lab.wait_fib(VIP4);
}

fn bfd_packets_are_lost_and_only_they(router: Kind) {
    let lab = watched(router, 100);
    lab.lb_ns.run(&["nft", "add", "table", "inet", "loss"]);
    lab.lb_ns.run(&["nft", "add chain inet loss input { type filter hook input priority 0; }"]);
    let lost = Instant::now();
    lab.lb_ns.run(&["nft", "add", "rule", "inet", "loss", "input", "udp", "dport", "3784", "drop"]);
    let took = time_to_failure(&lab, lost);
    println!("{router:?} unheard: BFD down after {took:?}");
    assert!(took < Duration::from_millis(300) + SLACK, "{took:?}");
    // BFD that is Down holds nothing up: the session may come back before it.
    lab.wait_peer(0, "BGP is back without BFD", |peer| peer["state"] == "Established" && !is_up(peer));
    lab.lb_ns.run(&["nft", "delete", "table", "inet", "loss"]);
    lab.wait_peer(0, "BFD is back as well", is_up);
}

fn bfd_notices_a_frozen_load_balancer(router: Kind) {
    let lab = watched(router, 300);
    let mark = lab.router_events.stdout().len();
    let frozen = Instant::now();
    lab.daemon.signal(Signal::STOP);
    for vip in [VIP4, VIP6] {
        let gone = |line: &String| line.starts_with("Deleted") && line.contains(vip);
        let gone = lab.router_events.stdout().wait_since(mark, SOON, gone).expect("the route goes");
        let took = gone.at - frozen;
        println!("load balancer frozen: {vip} gone from the kernel of {router:?} after {took:?}");
        assert!(took < Duration::from_millis(900) + SLACK, "{took:?}");
    }
    lab.daemon.signal(Signal::CONT);
    for vip in [VIP4, VIP6] {
        lab.wait_fib(vip);
    }
    lab.wait_peer(0, "BFD is back", is_up);
}

fn bfd_says_admin_down_at_the_end(router: Kind) {
    let mut lab = watched(router, 100);
    let mark = lab.router_events.stdout().len();
    lab.daemon.signal(Signal::TERM);
    for (peer, vip) in [(LB4, VIP4), (LB6, VIP6)] {
        let peer = peer.parse().unwrap();
        let gone = |line: &String| line.starts_with("Deleted") && line.contains(vip);
        lab.router_events.stdout().wait_since(mark, SOON, gone).expect("the route goes");
        eventually("the router was told", SOON, || lab.router().was_told_admin_down(peer));
    }
    lab.daemon.wait_code(SOON * 3, 0);
}

/// BFD at 3 × 100 ms while wrk keeps every core busy; `BFD_HOLD_SECONDS` says for how long. The router is put ahead of the
/// load, as one on a machine of its own would be.
#[test]
#[ignore = "minutes long, on a quiet machine: BFD_HOLD_SECONDS=600 cargo test --release --test interop bfd_holds -- --ignored --nocapture"]
fn bfd_holds_while_every_core_is_busy() {
    if !crate::lab::can_run(Kind::Bird2) {
        return;
    }
    let seconds =
        std::env::var("BFD_HOLD_SECONDS").map_or(60, |text| text.parse().expect("a number of seconds"));
    let lab = watched(Kind::Bird2, 100);
    for process in lab.router().bfd_speakers() {
        crate::common::process::run("chrt", &["chrt", "--fifo", "--pid", "1", &process.id().to_string()]);
    }
    let (duration, url) = (format!("{seconds}s"), format!("http://{VIP4}:{}/", crate::lab::PORT));
    let argv = ["wrk", "--threads", "4", "--connections", "256", "--duration", &duration, &url];
    let mut load = Process::start("wrk", &[&lab.client_ns.prefix()[..], &argv].concat());
    load.wait_exit(Duration::from_secs(seconds + 30));
    for line in load.stdout().since(0) {
        println!("{}", line.what);
    }
    for session in 0..2 {
        let bfd = &lab.peer(session)["bfd"];
        let shown = ["failures", "last_down", "packets_in", "packets_out", "real_time"].map(|key| &bfd[key]);
        println!("{seconds} s, session {session}: failures, last down, in, out, real time: {shown:?}");
        assert_eq!((&bfd["failures"], &bfd["state"]), (&json!(0), &json!("Up")));
    }
}
