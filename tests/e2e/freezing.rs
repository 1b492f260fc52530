//! The dead-man's switch: whatever thread of the daemon hangs, the route does not outlive it.

use std::time::Duration;

use crate::common::SOON;
use crate::common::eventually::eventually;
use crate::common::freeze::Frozen;
use crate::common::http;
use crate::common::status::wait_phase;
use crate::lab::announced;

#[test]
fn a_data_plane_thread_that_hangs_withdraws_the_vip_until_it_turns_again() {
    let mut lab = announced("", "");
    let frozen = Frozen::threads(&lab.daemon, "lb-worker-0");
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    assert!(lab.daemon.is_running(), "it only withdraws");
    let alive = || http::get(lab.daemon.admin(), "/healthz").map(|answer| (answer.status, answer.text()));
    assert_eq!(alive().unwrap(), (503, "a data-plane thread hangs: restart\n".to_owned()));
    drop(frozen);
    eventually("/healthz is 200 again", SOON, || alive().is_ok_and(|(status, _)| status == 200));
    lab.peer.wait_announced(lab.at.prefix(), SOON);
    wait_phase(&lab.daemon, lab.at.vip.ip(), "announced");
}

#[test]
fn control_threads_that_hang_take_the_process_and_its_session_with_them() {
    let mut lab = announced("", "");
    let mark = lab.peer.journal().len();
    let frozen = Frozen::threads(&lab.daemon, "control");
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    assert!(lab.peer.journal().since(mark).iter().any(|e| e.what == crate::common::bgp_peer::Seen::Closed));
    drop(frozen);
    lab.daemon.wait_exit(SOON);
}

#[test]
fn a_process_that_was_frozen_as_a_whole_goes_on() {
    use rustix::process::Signal;
    let mut lab = announced("", "");
    lab.daemon.signal(Signal::STOP);
    std::thread::park_timeout(Duration::from_secs(5));
    lab.daemon.signal(Signal::CONT);
    eventually("it serves", SOON, || http::backend_of(lab.at.front()).is_ok());
    lab.peer.wait_announced(lab.at.prefix(), SOON);
    assert!(lab.daemon.is_running());
}
