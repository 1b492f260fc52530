//! The runtime commands: a line in, a text out. The framing is the socket's business.

use std::fmt::Write as _;
use std::time::Duration;

use super::{socket, text};
use crate::app::Daemon;

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

const COMMANDS: &[(&str, &str)] = &[
    ("help", "list the commands"),
    ("prompt", "toggle the interactive mode"),
    ("quit", "close the connection"),
    ("reload [json]", "apply the changed configuration file; a wrong one changes nothing"),
    ("set timeout cli <seconds>", "how long an idle connection to this socket is kept"),
    ("show bgp [json]", "BGP sessions"),
    ("show status [json]", "VIPs, services and backends"),
    ("show version", "the version"),
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
        ["reload"] => daemon.reload().await.text,
        ["reload", "json"] => json(&daemon.reload().await),
        _ => help("Unknown command. Please enter one of the following commands only:"),
    })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}")) + "\n"
}

fn help(first_line: &str) -> String {
    let mut text = format!("{first_line}\n");
    for (usage, description) in COMMANDS {
        let _ = writeln!(text, "  {usage:<42}: {description}");
    }
    text
}
