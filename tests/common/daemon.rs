//! The real binary under test, with a configuration of its own in a temporary directory.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::eventually::eventually;
use super::ports::Loopback;
use super::process::{self, Process, Ran};
use super::{SOON, http};

/// The binary that cargo built for this test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_contrail-lb");

/// A running `contrail-lb run`. What a [`Process`] can do, it can.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    dir: TempDir,
    admin: SocketAddr,
    /// What stands before every configuration of this daemon.
    admin_table: String,
}

impl Deref for Daemon {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Daemon {
    /// Starts with `config`, to which `[admin]` and `[global.log]` are added, and waits until it is alive.
    #[track_caller]
    pub fn start(lab: &Loopback, config: &str) -> Self {
        Daemon::start_with_admin(lab, "", config)
    }

    /// The same with further keys of `[admin]`.
    #[track_caller]
    pub fn start_with_admin(lab: &Loopback, admin_keys: &str, config: &str) -> Self {
        let daemon = Daemon::spawn(lab.addr(), admin_keys, config, &[]);
        eventually("the daemon answers /healthz", SOON, || match http::get(daemon.admin, "/healthz") {
            Ok(response) if response.status == 200 => Ok(()),
            Ok(response) => Err(format!("status {}", response.status)),
            Err(e) => Err(e.to_string()),
        });
        daemon
    }

    /// Starts with `config` and waits for nothing. `prefix` goes before the command (`ip netns exec NAME`).
    pub fn spawn(admin: SocketAddr, admin_keys: &str, config: &str, prefix: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("contrail-lb-").tempdir().expect("a temporary directory");
        let admin_table = format!(
            "[admin]\nsocket = {:?}\nlisten = \"{admin}\"\n{admin_keys}\n[global.log]\nlevel = \"debug\"\nformat = \"json\"\n",
            dir.path().join(SOCKET)
        );
        write_config(dir.path(), &format!("{admin_table}{config}"));
        let file = dir.path().join(CONFIG);
        let file = file.to_str().expect("a path in UTF-8");
        let argv: Vec<&str> = prefix.iter().copied().chain([BINARY, "run", "--config", file]).collect();
        Daemon { process: Process::start("contrail-lb", &argv), dir, admin, admin_table }
    }

    /// Its HTTP endpoint.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// Replaces the configuration file, and does not tell the daemon.
    pub fn write_config(&self, config: &str) {
        write_config(self.dir.path(), &format!("{}{config}", self.admin_table));
    }

    /// `contrail-lb VERB --socket … ARGUMENTS`.
    #[track_caller]
    pub fn cli(&self, verb: &str, arguments: &[&str]) -> Ran {
        let socket = self.socket();
        let mut argv = vec![BINARY, verb, "--socket", socket.to_str().expect("a path in UTF-8")];
        argv.extend(arguments);
        process::run(verb, &argv)
    }

    /// Replaces the configuration and applies it with `contrail-lb reload`, which must succeed.
    #[track_caller]
    pub fn reload(&self, config: &str) -> Ran {
        self.write_config(config);
        let ran = self.cli("reload", &[]);
        assert_eq!(ran.code, Some(0), "reload failed: {ran:?}");
        ran
    }

    /// Asks over the admin socket, as `contrail-lb VERB --json` does.
    pub fn ask(&self, command: &str) -> io::Result<Value> {
        let reply = self.say(command)?;
        serde_json::from_str(&reply).map_err(|e| io::Error::other(format!("{e} in {reply:?}")))
    }

    /// The reply to a line on the admin socket, framing included.
    pub fn say(&self, command: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    }

    /// The value of a metric in `/metrics`, by its name with labels as exposed.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = http::get(self.admin, "/metrics").ok()?.text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// The log records since the journal of standard error had `mark` entries.
    pub fn records(&self, mark: usize) -> Vec<Value> {
        let lines = self.stderr().since(mark).into_iter();
        lines.filter_map(|line| serde_json::from_str(&line.what).ok()).collect()
    }

    /// Waits until `/readyz` answers 200.
    #[track_caller]
    pub fn wait_ready(&self, within: Duration) {
        eventually("/readyz is 200", within, || match http::get(self.admin, "/readyz") {
            Ok(response) if response.status == 200 => Ok(()),
            Ok(response) => Err(format!("{}: {}", response.status, response.text())),
            Err(e) => Err(e.to_string()),
        });
    }
}

const CONFIG: &str = "contrail-lb.toml";
const SOCKET: &str = "admin.sock";

fn write_config(dir: &Path, text: &str) {
    // Renamed into place: a daemon that reads meanwhile sees the old file or the new one.
    let fresh = dir.join("fresh.toml");
    std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, dir.join(CONFIG))).expect("the file");
}
