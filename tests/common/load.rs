//! Clients that never stop asking, to show that something costs no request.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::eventually::eventually;
use super::http::{self, Connection};

/// How a client uses connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    ConnectionPerRequest,
    KeepAlive,
}

/// Requests of one client.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub answered: BTreeMap<String, usize>,
    pub failed: Vec<(Instant, String)>,
}

#[derive(Debug)]
pub struct Load {
    state: Arc<State>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    answered: AtomicUsize,
    report: Mutex<Report>,
}

impl Load {
    /// Two clients of `GET /` per address, one of each [`Reuse`].
    pub fn on(addrs: &[SocketAddr]) -> Self {
        let state = Arc::<State>::default();
        let clients = addrs
            .iter()
            .flat_map(|addr| [(*addr, Reuse::ConnectionPerRequest), (*addr, Reuse::KeepAlive)])
            .map(|(addr, reuse)| {
                let state = Arc::clone(&state);
                thread::spawn(move || run(addr, reuse, &state))
            })
            .collect();
        Load { state, clients }
    }

    /// Waits until `n` more requests were answered.
    #[track_caller]
    pub fn answers(&self, n: usize) {
        let goal = self.state.answered.load(Ordering::SeqCst) + n;
        eventually("the load is answered", Duration::from_secs(30), || {
            match self.state.answered.load(Ordering::SeqCst) {
                now if now >= goal => Ok(()),
                now => Err(format!("{now} of {goal} answers")),
            }
        });
    }

    /// Ends the load and says how it went.
    pub fn finish(mut self) -> Report {
        self.stop();
        self.state.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the load; not one request may have failed.
    #[track_caller]
    pub fn finish_without_failure(self) {
        let report = self.finish();
        let answered: usize = report.answered.values().sum();
        let first: Vec<_> = report.failed.iter().take(5).map(|(_, why)| why).collect();
        assert!(report.failed.is_empty(), "{} of {answered} requests failed: {first:?}", report.failed.len());
    }

    fn stop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(addr: SocketAddr, reuse: Reuse, state: &State) {
    let mut kept = None;
    while !state.stop.load(Ordering::SeqCst) {
        let answer = ask(addr, reuse, &mut kept);
        let mut report = state.report.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(response) if response.status == 200 => {
                *report.answered.entry(response.text()).or_default() += 1;
                state.answered.fetch_add(1, Ordering::SeqCst);
            }
            Ok(response) => {
                report.failed.push((Instant::now(), format!("{addr}: status {}", response.status)))
            }
            Err(e) => {
                report.failed.push((Instant::now(), format!("{addr} {reuse:?}: {e}")));
                kept = None;
            }
        }
    }
}

fn ask(addr: SocketAddr, reuse: Reuse, kept: &mut Option<Connection>) -> io::Result<http::Response> {
    match reuse {
        Reuse::ConnectionPerRequest => http::get(addr, "/"),
        Reuse::KeepAlive => {
            if kept.is_none() {
                *kept = Some(Connection::open(addr)?);
            }
            kept.as_mut().ok_or(io::ErrorKind::NotConnected)?.get("/")
        }
    }
}
