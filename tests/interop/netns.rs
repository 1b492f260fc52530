//! Network namespaces that vanish with the value that made them, with every process in them.
//!
//! Names carry the process id and a counter, so parallel tests never meet; what a killed test run left behind is removed
//! by the next one. A closure can be run inside ([`Namespace::within`]): sockets it opens stay there.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process, thread};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

const PREFIX: &str = "contrail-lb-test";

#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// An empty namespace with `lo` up and no duplicate address detection (an address is usable at once).
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{label}", process::id());
        command("ip", &["netns", "add", &name]);
        let namespace = Namespace { name };
        namespace.run(&["ip", "link", "set", "lo", "up"]);
        namespace.sysctl("net.ipv6.conf.default.accept_dad=0");
        namespace.sysctl("net.ipv6.conf.all.accept_dad=0");
        namespace
    }

    /// What goes before a command to run it inside; the command keeps the process id.
    pub fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Runs a command inside, which must succeed, and answers its output.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> String {
        let argv = [&self.prefix(), argv].concat();
        command(argv[0], &argv[1..])
    }

    pub fn sysctl(&self, setting: &str) {
        self.run(&["sysctl", "-q", "-w", setting]);
    }

    /// Connects two namespaces with a veth pair; each end is `(interface, addresses with prefix lengths)`.
    pub fn connect(&self, own: (&str, &[&str]), other: &Namespace, others: (&str, &[&str])) {
        let pair = ["type", "veth", "peer", "name", others.0, "netns", &other.name];
        command("ip", &[&["-n", &self.name, "link", "add", own.0][..], &pair].concat());
        for (namespace, (interface, addresses)) in [(self, own), (other, others)] {
            namespace.run(&["ip", "link", "set", interface, "up"]);
            for address in addresses {
                namespace.run(&["ip", "address", "add", address, "dev", interface, "nodad"]);
            }
        }
    }

    /// The kernel's routes to exactly this destination, as `ip -j route` tells.
    pub fn routes(&self, destination: &str) -> Vec<Value> {
        let family = if destination.contains(':') { "-6" } else { "-4" };
        let text = self.run(&["ip", family, "-j", "route", "show", "exact", destination]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"))
    }

    /// Whether an interface has an address.
    pub fn has_address(&self, interface: &str, address: &str) -> bool {
        let text = self.run(&["ip", "-j", "address", "show", "dev", interface]);
        let links: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"));
        let addresses = links.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
        addresses.into_iter().any(|a| a["local"] == address)
    }

    /// Runs `inside` on a thread that lives in this namespace.
    pub fn within<R: Send>(&self, inside: impl FnOnce() -> R + Send) -> R {
        let namespace = File::open(Path::new("/run/netns").join(&self.name)).expect("the namespace");
        thread::scope(|scope| {
            let entered = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("setns");
                inside()
            });
            entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Ends every process inside, then removes the name.
fn remove(name: &str) {
    let ip = |arguments: &[&str]| process::Command::new("ip").args(arguments).output();
    let pids = ip(&["netns", "pids", name]).map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    for pid in pids.unwrap_or_default().lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = ip(&["netns", "delete", name]);
}

/// Removes namespaces of test processes that are no more.
fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

#[track_caller]
fn command(program: &str, arguments: &[&str]) -> String {
    let out = process::Command::new(program).args(arguments).output();
    let out = out.unwrap_or_else(|e| panic!("{program} {arguments:?}: {e}"));
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}
