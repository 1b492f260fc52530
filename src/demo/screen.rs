//! The demo's screen and keys. On a terminal: one screen, redrawn, single keys. Elsewhere: a first screen, then a line
//! whenever something changes, and commands as lines on standard input.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use super::mock::{Instance, Mood};
use super::router::Learnt;
use super::{INSTANCES, SERVICES};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Quit,
    /// Of one instance, or of all.
    Set(Option<usize>, Mood),
    Redraw,
}

/// All that is shown.
pub struct View<'a> {
    pub vip: Ipv4Addr,
    pub admin: SocketAddr,
    /// How this program was called.
    pub program: String,
    pub socket: PathBuf,
    pub instances: &'a [Instance],
    pub learnt: Learnt,
    pub status: Option<serde_json::Value>,
    pub log: String,
}

pub struct Screen {
    /// The terminal's settings before us; `None`: not a terminal.
    terminal: Option<Termios>,
    input: mpsc::Receiver<u8>,
    verb: Mood,
    word: String,
    shown: Option<String>,
}

impl Screen {
    pub fn open() -> Self {
        let terminal = (std::io::stdin().is_terminal() && std::io::stdout().is_terminal())
            .then(|| tcgetattr(std::io::stdin()).ok())
            .flatten();
        if let Some(before) = &terminal {
            let mut keys = before.clone();
            keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &keys);
            print!("\x1b[?1049h\x1b[?25l");
        }
        let (bytes, input) = mpsc::channel(64);
        // A thread of its own: a runtime would wait for a read that never returns when it ends.
        std::thread::spawn(move || {
            for byte in std::io::stdin().lock().bytes().map_while(Result::ok) {
                if bytes.blocking_send(byte).is_err() {
                    return;
                }
            }
        });
        Screen { terminal, input, verb: Mood::Killed, word: String::new(), shown: None }
    }

    /// The next thing the user asks for.
    pub async fn action(&mut self) -> Action {
        match self.input.recv().await {
            Some(byte) if self.terminal.is_some() => self.key(char::from(byte)),
            Some(b'\n') => self.line(),
            Some(byte) => {
                self.word.truncate(64);
                self.word.push(char::from(byte));
                Action::Redraw
            }
            // Standard input has ended: the demo goes on until it is stopped.
            None => std::future::pending().await,
        }
    }

    /// A letter chooses what to do, a digit to whom: `h` then `3`, or `0` for all.
    fn key(&mut self, key: char) -> Action {
        match key {
            'q' => return Action::Quit,
            'k' => self.verb = Mood::Killed,
            'h' => self.verb = Mood::Hung,
            's' => self.verb = Mood::Slow,
            'r' => self.verb = Mood::Well,
            '0' => return Action::Set(None, self.verb),
            '1'..='9' => return Action::Set(Some(usize::from(key as u8 - b'1')), self.verb),
            _ => {}
        }
        Action::Redraw
    }

    /// The same as a line: `kill 3`, `hang 0`, `slow 2`, `revive 0`, `quit`.
    fn line(&mut self) -> Action {
        let line = std::mem::take(&mut self.word);
        let letters = line.split_whitespace().filter_map(|word| word.chars().next());
        letters.map(|letter| self.key(letter)).last().unwrap_or(Action::Redraw)
    }

    /// Draws what is new.
    pub fn show(&mut self, view: &View<'_>) {
        let text = if self.terminal.is_some() {
            format!("\x1b[H\x1b[J{}{}", body(view), footer(view, self.verb))
        } else if self.shown.is_none() {
            body(view) + &help(view)
        } else {
            changes(view)
        };
        if self.shown.as_ref() != Some(&text) {
            let mut out = std::io::stdout().lock();
            // Nobody reads any more: the next signal ends the demo.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            // What is compared next time is the kind of text that is shown next time.
            self.shown = Some(if self.terminal.is_some() { text } else { changes(view) });
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = &self.terminal {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
            print!("\x1b[?25h\x1b[?1049l");
            let _ = std::io::stdout().flush();
        }
    }
}

fn body(view: &View<'_>) -> String {
    let mut out = String::from(
        "contrail-lb demo · clients → VIP → 9 mock instances · a router learns the VIP by BGP\n\nTRY (each call goes to the next healthy instance)\n",
    );
    for (service, port) in SERVICES {
        let _ = writeln!(out, "  curl http://{}:{port}/    # {service}", view.vip);
    }
    let _ = writeln!(out, "  curl http://{}/metrics", view.admin);
    let _ = writeln!(out, "  {} status --socket {}", view.program, view.socket.display());
    out.push_str("\nROUTER\n");
    out.push_str(&routes(&view.learnt));
    let _ = writeln!(out, "\nLOAD BALANCER  {}", verdict(view.status.as_ref()));
    for (index, (service, _)) in SERVICES.iter().enumerate() {
        let first = index * usize::from(INSTANCES);
        let _ = write!(out, "  {service:<23}");
        for (number, instance) in view.instances.iter().enumerate().skip(first).take(usize::from(INSTANCES)) {
            let health = health(view.status.as_ref(), instance);
            let _ = write!(out, " {}: {:<6} lb: {:<8}", number + 1, instance.mood().as_str(), health);
        }
        out.push('\n');
    }
    out
}

fn help(view: &View<'_>) -> String {
    format!(
        "\nBREAK IT: write lines here: kill N, hang N, slow N, revive N (N = 1..{}, 0 = all), quit. Ctrl-C leaves nothing behind.\n",
        view.instances.len()
    )
}

fn footer(view: &View<'_>, verb: Mood) -> String {
    let verb = match verb {
        Mood::Well => "revive",
        Mood::Killed => "kill",
        Mood::Hung => "hang",
        Mood::Slow => "slow",
    };
    format!(
        "\nBREAK IT  k kill · h hang · s slow · r revive, then 1-{} or 0 for all (now: {verb}) · q quit\n\nLOG\n{}\n",
        view.instances.len(),
        view.log.lines().map(short).collect::<Vec<_>>().join("\n")
    )
}

/// A log line without its date and fields.
fn short(line: &str) -> &str {
    let words = line.split(" event=").next().unwrap_or(line);
    words.split_once('T').map_or(words, |(_, from_time)| from_time)
}

fn routes(learnt: &Learnt) -> String {
    let mut out = String::new();
    for (prefix, attributes) in &learnt.routes {
        let _ = writeln!(out, "  {prefix}  {attributes}");
    }
    if learnt.routes.is_empty() {
        let session = if learnt.established { "session up" } else { "no session" };
        let _ = writeln!(out, "  no route to the VIP ({session})");
    }
    if let Some(end) = learnt.last_end.as_ref().filter(|_| !learnt.established) {
        let _ = writeln!(out, "  last session: {end}");
    }
    out
}

/// One block per change where there is no screen to redraw.
fn changes(view: &View<'_>) -> String {
    let moods: Vec<&str> = view.instances.iter().map(|i| i.mood().as_str()).collect();
    let health: Vec<String> = view.instances.iter().map(|i| health(view.status.as_ref(), i)).collect();
    format!(
        "instances: {}\n  lb says: {}\n   router: {}",
        moods.join(" "),
        health.join(" "),
        routes(&view.learnt).trim_start()
    )
}

fn verdict(status: Option<&serde_json::Value>) -> String {
    let Some(vip) = status.and_then(|s| s["vips"].get(0)) else { return "starting".into() };
    let text = |key: &str| vip[key].as_str().unwrap_or("?").to_owned();
    format!("VIP {} · {} · {}", text("address"), text("phase"), text("reason"))
}

fn health(status: Option<&serde_json::Value>, instance: &Instance) -> String {
    let services = status.and_then(|s| s["services"].as_array());
    services
        .into_iter()
        .flatten()
        .filter(|service| service["name"] == instance.service)
        .flat_map(|service| service["backends"].as_array().into_iter().flatten())
        .find(|backend| backend["address"] == instance.address.to_string())
        .and_then(|backend| backend["health"].as_str())
        .unwrap_or("?")
        .to_owned()
}
