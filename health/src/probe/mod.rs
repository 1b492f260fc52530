//! One attempt to reach a backend, ending in words within `check.timeout` and in bounded memory.
//!
//! Owns the socket of the attempt, and its clock to say how long things took. Knows neither schedule nor history.
#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock it measures with")]

mod bounded;
mod http;
mod tcp;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::CheckKind;
use rustix::io::Errno;
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
        // Not accepted from a file yet.
        CheckKind::Https(_) | CheckKind::Tls | CheckKind::SendExpect(_) | CheckKind::Agent { .. } => None,
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

    /// Connects, so that closing resets: a check leaves no TIME_WAIT behind, and so takes no local port away.
    async fn connect(&self) -> Result<TcpStream, Outcome> {
        let connect = async {
            let stream = TcpStream::connect(self.address).await?;
            // On this host, a closed port in the range of local ports can be connected to itself.
            if stream.local_addr()? == self.address {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            stream.set_zero_linger()?;
            Ok(stream)
        };
        let tried = format!("connect to {}", self.address);
        match timeout_at(self.deadline(), connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(e)) if is_ours(&e) => {
                Err(self.ended(Verdict::NotMade, format!("{tried}: not made, {}", in_words(&e))))
            }
            Ok(Err(e)) => {
                Err(self.ended(Verdict::Failed, format!("{tried}: {} in {}", in_words(&e), self.took())))
            }
            Err(_) => Err(self.timed_out(&format!("{tried}: no answer"))),
        }
    }

    fn took(&self) -> String {
        format!("{:.1} ms", self.started.elapsed().as_secs_f64() * 1000.0)
    }

    fn ended(&self, verdict: Verdict, detail: String) -> Outcome {
        Outcome { verdict, detail, took: self.started.elapsed() }
    }

    fn timed_out(&self, detail: &str) -> Outcome {
        self.ended(Verdict::Failed, format!("{detail} within {:?}", self.timeout))
    }
}

/// Whether an error is about this host's resources and so says nothing about the backend.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".into(),
        io::ErrorKind::ConnectionReset => "reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::TimedOut => "timed out".into(),
        io::ErrorKind::AddrNotAvailable => "no local address or port is left".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
