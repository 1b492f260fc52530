//! `contrail-lb events`: what happened, oldest first, and with `--follow` whatever happens next.

use std::io::Write;
use std::path::PathBuf;

use super::{DEFAULT_SOCKET, Exit, client};
use crate::control::events::EventView;

#[derive(Debug, clap::Args)]
pub struct EventsArguments {
    /// Go on with whatever happens next.
    #[arg(long, short)]
    follow: bool,
    /// The daemon's admin socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Machine-readable output, an object on each line.
    #[arg(long)]
    json: bool,
}

pub fn events(arguments: &EventsArguments) -> Exit {
    let mut seen = 0;
    let mut wait = "";
    loop {
        let reply = match client::ask(&arguments.socket, &format!("show events json after {seen}{wait}")) {
            Ok(reply) => reply,
            Err(exit) => return exit,
        };
        for line in reply.lines() {
            let Ok(event) = serde_json::from_str::<EventView>(line) else {
                eprintln!("contrail-lb: the daemon answered something that is no event: {line}");
                return Exit::Unavailable;
            };
            seen = event.id;
            let line = if arguments.json { line.to_owned() } else { event.line() };
            if writeln!(std::io::stdout(), "{line}").is_err() {
                return Exit::Done; // the reader has gone away (`| head`)
            }
        }
        if !arguments.follow {
            return Exit::Done;
        }
        wait = " wait";
    }
}
