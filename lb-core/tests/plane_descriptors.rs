//! What the plane says that it holds of descriptors is what it holds. They are the process's, so this test has its
//! process to itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use config::Engine;
use lb_core::{DataPlane, descriptors_of_plane};

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

#[test]
fn a_plane_holds_the_descriptors_that_are_kept_for_it() {
    let ports = [(); 5].map(|()| Reserved::new(LOCALHOST));
    let before = open_descriptors();
    let plane = DataPlane::start(options((3, 10)), std::sync::Arc::new(())).unwrap();
    let mut service = service(ports[0].address, &[ports[0].address]);
    service.listen = ports.iter().map(|port| port.address).collect();
    let _ = plane.commit(plane.prepare(&[service]).unwrap());
    let pipes = descriptors_of_plane(3, 0) - 3 * 3;
    let rings = if options((3, 10)).engine == Engine::Epoll { 3 } else { 0 };
    let kept = descriptors_of_plane(3, 5);
    assert_eq!(open_descriptors() - before, kept - pipes - rings, "nothing was bulk yet");
    drop(plane);
    assert_eq!(open_descriptors(), before);
}
