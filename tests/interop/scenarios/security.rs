//! Sessions that only the right peer can have.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::{Row, scenarios};
use crate::common::eventually::throughout;
use crate::lab::{Lab, Options, VIP4, VIP6};
use crate::router::Kind;

scenarios! {
    md5_with_the_same_key_on_both_sides: bird2 bird1 frr gobgp;
    md5_with_another_key_is_hinted_at_and_the_right_one_establishes: bird2 bird1 frr gobgp;
    md5_key_changed_on_both_sides: bird2 bird1 frr gobgp;
    ttl_security_on_both_sides: bird2 bird1 frr gobgp;
}

/// A file with our key.
struct Key {
    dir: TempDir,
}

impl Key {
    fn new(key: &str) -> Self {
        let file = Key { dir: tempfile::tempdir().unwrap() };
        file.write(key);
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    fn write(&self, key: &str) {
        std::fs::write(self.path(), format!("{key}\n")).unwrap();
    }

    /// Options with this key on our side and another on the router's.
    fn options(&self, routers: &'static str) -> Options {
        let mut options =
            Options { peer: format!("password_file = {:?}\n", self.path()), ..Options::default() };
        options.manner.password = Some(routers);
        options
    }
}

fn md5_with_the_same_key_on_both_sides(router: Kind) {
    let key = Key::new("between-us");
    let lab = Lab::announced(router, key.options("between-us"));
    assert_eq!(lab.peer(0)["flaps"], 0);
}

fn md5_with_another_key_is_hinted_at_and_the_right_one_establishes(router: Kind) {
    let key = Key::new("misspelt");
    let lab = Lab::start(router, key.options("between-us"));
    lab.wait_peer(0, "an attempt has failed", |peer| !peer["last_error"].is_null());
    throughout("no session", Duration::from_secs(1), || lab.peer(0)["established"] == 0);
    let seen = lab.daemon.cli("bgp", &[]).stdout;
    assert!(seen.contains("TCP-MD5"), "{seen}");
    key.write("between-us");
    lab.daemon.reload(&lab.config());
    for vip in [VIP4, VIP6] {
        lab.wait_announced(vip);
    }
}

/// Each of these routers resets the session when its key changes; it comes back with the new one. That ours keeps it is
/// a test of the speaker (`with_equal_md5_keys_a_session_establishes_and_survives_a_change_of_the_key`).
fn md5_key_changed_on_both_sides(router: Kind) {
    let key = Key::new("old");
    let lab = Lab::announced(router, key.options("old"));
    let mut manner = lab.options().manner.clone();
    manner.password = Some("new");
    lab.router().reconfigure(&lab.options().sessions, &manner);
    lab.wait_peer(0, "the router has reset the session", |peer| peer["flaps"] == 1);
    key.write("new");
    lab.daemon.reload(&lab.config());
    let peer = lab.wait_peer(0, "the session is back", |peer| peer["state"] == "Established");
    assert_eq!(peer["flaps"], json!(1), "{peer}");
    for vip in [VIP4, VIP6] {
        lab.wait_announced(vip);
    }
}

fn ttl_security_on_both_sides(router: Kind) {
    let mut options = Options { peer: "ttl_security = true\n".into(), ..Options::default() };
    options.manner.ttl_security = true;
    Lab::announced(router, options);
}
