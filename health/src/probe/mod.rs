//! One attempt to reach a backend, ending in words within `check.timeout` and in bounded memory.
//!
//! Owns the socket of the attempt, and its clock to say how long things took. Knows neither schedule nor history.
#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock it measures with")]

mod http;
mod tcp;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::CheckKind;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::outcome::{Outcome, Target, Verdict};

/// Makes one attempt; `None` for a target without an active check.
pub(crate) async fn attempt(target: &Target) -> Option<Outcome> {
    let mut address = target.address;
    address.set_port(target.check.port.unwrap_or(address.port()));
    let attempt = Attempt::begin(address, target.check.timeout);
    match &target.check.kind {
        CheckKind::None => None,
        CheckKind::Tcp => Some(tcp::attempt(attempt).await),
        CheckKind::Http(check) => Some(http::attempt(attempt, check).await),
    }
}

/// One attempt while it runs.
struct Attempt {
    address: SocketAddr,
    started: Instant,
    timeout: Duration,
}

impl Attempt {
    fn begin(address: SocketAddr, timeout: Duration) -> Self {
        Attempt { address, started: Instant::now(), timeout }
    }

    fn deadline(&self) -> tokio::time::Instant {
        (self.started + self.timeout).into()
    }

    /// Connects, so that closing resets: no TIME_WAIT and no local port is left behind by a check.
    async fn connect(&self) -> Result<TcpStream, Outcome> {
        let tried = format!("connect to {}", self.address);
        match timeout_at(self.deadline(), TcpStream::connect(self.address)).await {
            Ok(Ok(stream)) => match stream.set_zero_linger() {
                Ok(()) => Ok(stream),
                Err(e) => Err(self.ended(Verdict::Failed, &tried, &in_words(&e))),
            },
            Ok(Err(e)) if is_ours(&e) => Err(self.ended(Verdict::NotMade, &tried, &in_words(&e))),
            Ok(Err(e)) => Err(self.ended(Verdict::Failed, &tried, &in_words(&e))),
            Err(_) => Err(self.timed_out(&tried, "no answer")),
        }
    }

    /// `TRIED: CAME_BACK in 0.3 ms`.
    fn ended(&self, verdict: Verdict, tried: &str, came_back: &str) -> Outcome {
        let took = self.started.elapsed();
        let detail = format!("{tried}: {came_back} in {:.1} ms", took.as_secs_f64() * 1000.0);
        Outcome { verdict, detail, took }
    }

    /// `TRIED: MISSING within 2s`.
    fn timed_out(&self, tried: &str, missing: &str) -> Outcome {
        let detail = format!("{tried}: {missing} within {:?}", self.timeout);
        Outcome { verdict: Verdict::Failed, detail, took: self.started.elapsed() }
    }
}

/// Whether an error is about this host's resources and so says nothing about the backend.
fn is_ours(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS: std has no kind of its own for these.
    const OURS: [i32; 3] = [24, 23, 105];
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
        || error.raw_os_error().is_some_and(|code| OURS.contains(&code))
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".into(),
        io::ErrorKind::ConnectionReset => "reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::TimedOut => "timed out".into(),
        io::ErrorKind::AddrNotAvailable => "not made, no local address or port left".into(),
        _ if is_ours(error) => format!("not made, {error}"),
        _ => error.to_string(),
    }
}
