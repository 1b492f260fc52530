//! The runtime commands: a line in, a text out. The framing is the socket's business.

use std::fmt::Write as _;
use std::time::Duration;

use super::{socket, text};
use crate::app::Daemon;
use crate::events::EventId;
use crate::reload::Outcome;

/// Who runs commands: the daemon, or what a test puts in its place.
pub trait Commands: Send + Sync + 'static {
    /// Runs one command; one that is not known, such as an empty one, is answered with the list of commands.
    fn run(&self, session: &mut Session, command: &str) -> impl Future<Output = Reply> + Send;
}

/// What one connection to the runtime socket has set for itself.
#[derive(Debug)]
pub struct Session {
    pub interactive: bool,
    pub idle_timeout: Duration,
}

impl Default for Session {
    fn default() -> Self {
        Session { interactive: false, idle_timeout: socket::IDLE_TIMEOUT }
    }
}

/// What the socket does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Text(String),
    Quit,
}

/// The longest that `show events wait` waits for one.
const LONG_POLL: Duration = Duration::from_secs(10);

const COMMANDS: &[(&str, &str)] = &[
    ("drain [json]", "withdraw this host's VIPs in order, until `undrain`"),
    ("help", "list the commands"),
    ("prompt", "toggle the interactive mode"),
    ("quit", "close the connection"),
    ("release vip <address> [json]", "stop holding back a VIP that came and went"),
    ("reload [json]", "apply the changed configuration file; a wrong one changes nothing"),
    ("set timeout cli <seconds>", "how long an idle connection to this socket is kept"),
    ("show bgp [json]", "BGP sessions"),
    ("show events [json] [after <id>] [wait]", "events; `wait`: until there is one, for 10 s at most"),
    ("show status [json]", "VIPs, services and backends"),
    ("show version", "the version"),
    ("show why <VIP|SERVICE/BACKEND> [json]", "the chain of events behind its newest change"),
    ("shutdown sessions server <service/backend>", "end every connection of this backend with a reset"),
    ("undrain [json]", "serve again after `drain`"),
];

impl Commands for Daemon {
    async fn run(&self, session: &mut Session, command: &str) -> Reply {
        run(self, session, command).await
    }
}

async fn run(daemon: &Daemon, session: &mut Session, command: &str) -> Reply {
    let words: Vec<&str> = command.split_whitespace().collect();
    Reply::Text(match words.as_slice() {
        ["help"] => help("The following commands are valid at this level:"),
        ["quit"] => return Reply::Quit,
        ["prompt"] => {
            session.interactive = !session.interactive;
            String::new()
        }
        ["set", "timeout", "cli", seconds] => match seconds.parse() {
            Ok(seconds @ 1..=86_400) => {
                session.idle_timeout = Duration::from_secs(seconds);
                String::new()
            }
            Ok(_) | Err(_) => "Invalid timeout value.\n".into(),
        },
        ["show", "version"] => format!("{}\n", env!("CARGO_PKG_VERSION")),
        ["show", "status"] => match daemon.status().await {
            Ok(status) => text::status(&status),
            Err(error) => format!("{error}\n"),
        },
        ["show", "status", "json"] => match daemon.status().await {
            Ok(status) => json(&status),
            Err(error) => json(&serde_json::json!({ "error": error.to_string() })),
        },
        ["show", "bgp"] => text::bgp(&daemon.bgp()),
        ["show", "bgp", "json"] => json(&daemon.bgp()),
        ["show", "events", options @ ..] => show_events(daemon, options).await,
        ["show", "why", subject] => match daemon.why(subject).await {
            Some(chain) => chain.text(),
            None => format!("nothing about {subject} is remembered\n"),
        },
        ["show", "why", subject, "json"] => json(&daemon.why(subject).await),
        ["drain", form @ ..] if is_form(form) => told(&daemon.drain("drained by an operator").await, form),
        ["undrain", form @ ..] if is_form(form) => told(&daemon.undrain("by an operator").await, form),
        ["release", "vip", address, form @ ..] if is_form(form) => match address.parse() {
            Ok(address) => told(&daemon.release(address).await, form),
            Err(_) => format!("Not an address: {address}.\n"),
        },
        ["shutdown", "sessions", "server", rest @ ..] => shut_down_sessions(daemon, rest),
        ["reload"] => daemon.reload().await.text,
        ["reload", "json"] => json(&daemon.reload().await),
        _ => help("Unknown command. Please enter one of the following commands only:"),
    })
}

/// Nothing, or the word that asks for JSON.
fn is_form(words: &[&str]) -> bool {
    matches!(words, [] | ["json"])
}

/// How a command ended, for people or, in the form `json`, for programs.
fn told(outcome: &Outcome, form: &[&str]) -> String {
    if form == ["json"] { json(outcome) } else { format!("{}\n", outcome.text) }
}

/// `shutdown sessions server SERVICE/BACKEND`: says nothing where it has done so, as HAProxy.
fn shut_down_sessions(daemon: &Daemon, words: &[&str]) -> String {
    let Some((service, backend)) = words.first().and_then(|word| word.split_once('/')) else {
        return "Require 'backend/server'.\n".into();
    };
    let config = daemon.config();
    let Some(service) = config.services.iter().find(|s| s.name.as_str() == service) else {
        return "No such backend.\n".into();
    };
    let Some(backend) = service.backends.iter().find(|b| b.name.as_str() == backend) else {
        return "No such server.\n".into();
    };
    let id = service.backend_id(backend);
    tracing::info!(backend = %id, "its connections are ended by command");
    tokio::task::block_in_place(|| daemon.plane().kill_backend(&id));
    String::new()
}

/// `show events`: a line for each.
async fn show_events(daemon: &Daemon, options: &[&str]) -> String {
    let (mut after, mut as_json, mut wait) = (EventId::NONE, false, false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match (*option, options.as_slice().first().and_then(|id| id.parse().ok())) {
            ("json", _) => as_json = true,
            ("wait", _) => wait = true,
            ("after", Some(id)) => {
                after = EventId(id);
                options.next();
            }
            _ => return "Usage: show events [json] [after <id>] [wait]\n".into(),
        }
    }
    if wait {
        daemon.event_after(after, LONG_POLL).await;
    }
    let mut out = String::new();
    for event in daemon.events(after).await {
        let line = if as_json { serde_json::to_string(&event).unwrap_or_default() } else { event.line() };
        let _ = writeln!(out, "{line}");
    }
    out
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}")) + "\n"
}

fn help(first_line: &str) -> String {
    let mut text = format!("{first_line}\n");
    for (usage, description) in COMMANDS {
        let _ = writeln!(text, "  {usage:<44}: {description}");
    }
    text
}
