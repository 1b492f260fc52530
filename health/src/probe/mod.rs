//! One attempt to reach a backend, ending in words within `check.timeout` and in bounded memory.
//!
//! Owns the socket of the attempt, and its clock to say how long things took. Knows neither schedule nor history. What
//! does not change from one attempt to the next (the request, the CA certificates) is made once, by [`Probe::new`].
#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock it measures with")]

mod agent;
mod connect;
mod http;
mod send_expect;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::time::{Duration, Instant};

use config::{CheckKind, Endpoint, ProxyVersion, SendExpect};
use tokio::time::timeout_at;

use crate::agent::Reply;
use crate::outcome::{CheckStatus, Outcome, Target};
use stream::Stream;
pub(crate) use tls::Clients;

/// How one target is checked.
#[derive(Debug)]
pub(crate) struct Probe {
    endpoint: Endpoint,
    timeout: Duration,
    /// Sent before anything else.
    proxy_header: &'static [u8],
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp,
    Tls(tls::Prepared),
    Http(http::Exchange),
    Https(http::Exchange, tls::Prepared),
    SendExpect(Vec<SendExpect>),
    /// What is sent first.
    Agent(Vec<u8>),
}

/// How an attempt ended, without the words about where and how long.
struct Ending {
    status: CheckStatus,
    code: Option<u16>,
    agent: Option<Reply>,
    words: String,
}

impl Ending {
    fn new(status: CheckStatus, words: impl Into<String>) -> Self {
        Ending { status, code: None, agent: None, words: words.into() }
    }

    /// The backend broke off in the middle of an exchange.
    fn broken(error: &io::Error) -> Self {
        Ending::new(CheckStatus::AnswerInvalid, connect::in_words(error))
    }
}

/// How far an attempt has come: what a timeout is about.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Connecting,
    ShakingHands,
    Exchanging,
}

impl Probe {
    /// `None` for a target that is not checked. Reads certificate files; `clients` keeps those that were read already.
    pub(crate) fn new(target: &Target, clients: &mut Clients) -> Option<Self> {
        let endpoint = target.endpoint()?;
        let mut tls = || clients.prepare(target, &endpoint);
        let kind = match &target.check.kind {
            CheckKind::None => return None,
            CheckKind::Tcp => Kind::Tcp,
            CheckKind::Tls => Kind::Tls(tls()),
            CheckKind::Http(check) => Kind::Http(http::Exchange::new(check, &endpoint)),
            CheckKind::Https(check) => Kind::Https(http::Exchange::new(check, &endpoint), tls()),
            CheckKind::SendExpect(steps) => Kind::SendExpect(steps.clone()),
            CheckKind::Agent { send } => Kind::Agent(send.clone()),
        };
        // A port of its own is not the one that expects the header.
        let proxy_header = match (target.check.port, target.send_proxy) {
            (None, Some(version)) => proxy_header(version),
            (Some(_), _) | (None, None) => &[],
        };
        Some(Probe { endpoint, timeout: target.check.timeout, proxy_header, kind })
    }

    /// Whether it goes by files that may have changed.
    pub(crate) fn reads_files(&self) -> bool {
        matches!(self.kind, Kind::Tls(_) | Kind::Https(..))
    }

    /// Makes one attempt.
    pub(crate) async fn attempt(&self) -> Outcome {
        let started = Instant::now();
        let mut stage = Stage::Connecting;
        let ending = timeout_at((started + self.timeout).into(), self.run(&mut stage)).await;
        let ending = ending.unwrap_or_else(|_| self.timed_out(stage));
        let took = started.elapsed();
        let detail = format!("{}: {} {}", self.tried(stage), ending.words, Took(took));
        Outcome { status: ending.status, code: ending.code, detail, took, agent: ending.agent }
    }

    async fn run(&self, stage: &mut Stage) -> Ending {
        let stream = match connect::connect(&self.endpoint, self.proxy_header).await {
            Ok(stream) => stream,
            Err(error) => return connect::failed(&error),
        };
        let (Ok(ending) | Err(ending)) = self.exchange(stream, stage).await;
        ending
    }

    /// What comes after the connect. `Err` only saves words: the attempt ended early.
    async fn exchange(&self, stream: Stream, stage: &mut Stage) -> Result<Ending, Ending> {
        match &self.kind {
            Kind::Tcp => Ok(Ending::new(CheckStatus::Connected, "accepted")),
            Kind::Tls(prepared) => {
                *stage = Stage::ShakingHands;
                let stream = tls::shake_hands(stream, prepared).await?;
                Ok(Ending::new(CheckStatus::TlsEstablished, tls::version(&stream)))
            }
            Kind::Http(exchange) => {
                *stage = Stage::Exchanging;
                Ok(exchange.run(stream).await)
            }
            Kind::Https(exchange, prepared) => {
                *stage = Stage::ShakingHands;
                let stream = tls::shake_hands(stream, prepared).await?;
                *stage = Stage::Exchanging;
                Ok(exchange.run(stream).await)
            }
            Kind::SendExpect(steps) => {
                *stage = Stage::Exchanging;
                Ok(send_expect::run(stream, steps).await)
            }
            Kind::Agent(send) => {
                *stage = Stage::Exchanging;
                Ok(agent::run(stream, send).await)
            }
        }
    }

    /// What was tried, up to the stage where it ended.
    fn tried(&self, stage: Stage) -> String {
        let Probe { endpoint, kind, .. } = self;
        match (stage, kind) {
            (Stage::Connecting, _) | (_, Kind::Tcp) => format!("connect to {endpoint}"),
            (Stage::ShakingHands, _) | (Stage::Exchanging, Kind::Tls(_)) => format!("TLS with {endpoint}"),
            (Stage::Exchanging, Kind::Http(exchange)) => {
                format!("{} from {endpoint}", exchange.request_line())
            }
            (Stage::Exchanging, Kind::Https(exchange, _)) => {
                format!("{} from {endpoint} over TLS", exchange.request_line())
            }
            (Stage::Exchanging, Kind::SendExpect(_)) => format!("exchange with {endpoint}"),
            (Stage::Exchanging, Kind::Agent(_)) => format!("agent at {endpoint}"),
        }
    }

    fn timed_out(&self, stage: Stage) -> Ending {
        let (status, words) = match stage {
            Stage::Connecting => (CheckStatus::ConnectTimedOut, "no answer"),
            Stage::ShakingHands => (CheckStatus::TlsTimedOut, "connected, but no complete handshake"),
            Stage::Exchanging => (CheckStatus::AnswerTimedOut, "connected, but no complete answer"),
        };
        Ending::new(status, format!("{words} within {:?},", self.timeout))
    }
}

/// A PROXY header that speaks for this host itself: it names no client.
fn proxy_header(version: ProxyVersion) -> &'static [u8] {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
        // The signature, version 2 with LOCAL, AF_UNSPEC, no addresses.
        ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

/// How long an attempt took, as it ends the words about it.
struct Took(Duration);

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "in {:.1} ms", self.0.as_secs_f64() * 1000.0)
    }
}
