//! `contrail-lb drain`, `undrain` and `release`: take this host out, put it back, trust a VIP again.
#![allow(clippy::disallowed_methods, reason = "the command line waits for the daemon")]

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DEFAULT_SOCKET, DaemonArguments, Exit, client};

/// Between looks at a drain that is waited for.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub struct DrainArguments {
    /// Return at once, without waiting until the VIPs are gone.
    #[arg(long)]
    no_wait: bool,
    /// The daemon's admin socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Machine-readable output: how it began, then an object for each phase that a VIP enters.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct ReleaseArguments {
    /// The VIP that came and went too often.
    vip: IpAddr,
    /// The daemon's admin socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

pub fn drain(arguments: &DrainArguments) -> Exit {
    match client::carry_out(&arguments.socket, "drain", arguments.json) {
        Exit::Done if !arguments.no_wait => wait(&arguments.socket, arguments.json),
        exit => exit,
    }
}

pub fn undrain(arguments: &DaemonArguments) -> Exit {
    client::carry_out(&arguments.socket, "undrain", arguments.json)
}

pub fn release(arguments: &ReleaseArguments) -> Exit {
    client::carry_out(&arguments.socket, &format!("release vip {}", arguments.vip), arguments.json)
}

/// Says each phase that a VIP enters, until all are down.
fn wait(socket: &Path, as_json: bool) -> Exit {
    let mut said = Vec::new();
    loop {
        let reply = match client::ask(socket, "show status json") {
            Ok(reply) => reply,
            Err(exit) => return exit,
        };
        let Ok(status) = serde_json::from_str::<serde_json::Value>(&reply) else {
            eprintln!("contrail-lb: the daemon answered something that is no status: {reply}");
            return Exit::Unavailable;
        };
        let vips = status["vips"].as_array().map(Vec::as_slice).unwrap_or_default();
        for vip in vips {
            let now = (vip["address"].to_string(), vip["phase"].to_string());
            if !said.contains(&now) {
                let text = |field: &str| vip[field].as_str().unwrap_or_default().to_owned();
                let step = [text("address"), text("phase"), text("reason")];
                let [address, phase, reason] = &step;
                if as_json {
                    println!("{}", serde_json::json!({ "vip": address, "phase": phase, "reason": reason }));
                } else {
                    println!("{address} {phase}: {reason}");
                }
                said.push(now);
            }
        }
        let is_over = |vip: &serde_json::Value| vip["phase"] == "address_down";
        match status["draining"].as_bool() {
            Some(true) if vips.iter().all(is_over) => return Exit::Done,
            Some(true) => std::thread::sleep(POLL),
            Some(false) | None => {
                if !as_json {
                    println!("the drain was ended: this host serves again");
                }
                return Exit::Done;
            }
        }
    }
}
