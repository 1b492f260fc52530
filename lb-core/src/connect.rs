//! From a client to a backend: candidates in turn until one takes the connection or none is left.
//!
//! Owns the attempts of one connection; the event loop owns the sockets and the time.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use config::BackendAddr;
use rustix::io::Errno;

use crate::backend::{Backend, BackendGuard};
use crate::choice::{Ask, Miss};
use crate::connection::Client;
use crate::counters::WorkerId;
use crate::queue::Ticket;
use crate::relay::End;
use crate::service::{ServiceGuard, Settings};
use crate::socket;
use crate::tls::TlsFailure;
use crate::wheel::Tick;
use crate::{CloseReason, ConnectCause, ConnectFailure, Observer};

/// What a connect needs to know of the worker it runs on.
#[derive(Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) worker: WorkerId,
    /// Since the start of the event loop.
    pub(crate) now: Duration,
    pub(crate) observer: &'a dyn Observer,
}

/// On whose behalf.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) client: &'a Client,
    /// That the connection came to, whatever a PROXY header says of it: nobody but the configuration decides which ports of
    /// the backends are reached.
    pub(crate) port: u16,
}

/// A connection's way to a backend.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// When the current connect began, and when it is given up.
    started: Duration,
    pub(crate) deadline: Tick,
    pub(crate) phase: Phase,
    /// Candidates that failed; none is tried twice.
    pub(crate) tried: Vec<Arc<Backend>>,
    /// While it waits for a place at a backend.
    pub(crate) ticket: Option<Ticket>,
    /// What the connection ends with if there is no further candidate.
    last: CloseReason,
    /// The host had no descriptor or memory for it.
    pub(crate) exhausted: Option<Errno>,
}

/// The backend that was chosen, and the socket towards it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) backend: BackendGuard,
    pub(crate) end: End,
    /// The ring watches its socket, not the event queue.
    pub(crate) by_ring: bool,
}

/// How a connect failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    TimedOut,
    /// The backend's name has no address yet.
    Unresolved,
    Error(Errno),
    Tls(TlsFailure),
}

/// How far a connect has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The kernel connects.
    Tcp,
    /// Connected; the TLS handshake goes on, within the same time.
    Tls,
}

impl Attempt {
    pub(crate) fn new(now: Duration) -> Self {
        Attempt {
            started: now,
            deadline: Tick::at(now),
            phase: Phase::Tcp,
            tried: Vec::new(),
            ticket: None,
            last: CloseReason::NoBackend,
            exhausted: None,
        }
    }

    /// It waits for a place, until `deadline`.
    pub(crate) fn wait(&mut self, ticket: Ticket, deadline: Tick) {
        self.ticket = Some(ticket);
        self.deadline = deadline;
    }

    /// Why it ends at its deadline.
    pub(crate) fn ends_with(&self) -> CloseReason {
        if self.ticket.is_some() { CloseReason::QueueTimeout } else { CloseReason::ConnectTimeout }
    }

    /// Begins to connect to the backend where it has a `place`, or to the next candidate. Refusals that the kernel knows at
    /// once go on to the one after. `Ok(None)`: every candidate is full.
    pub(crate) fn next(
        &mut self,
        service: &ServiceGuard,
        caller: Caller<'_>,
        mut place: Option<BackendGuard>,
        here: Here<'_>,
    ) -> Result<Option<Link>, CloseReason> {
        loop {
            let ask = Ask { client: caller.client.address.ip(), tried: &self.tried, now: here.now };
            let backend = match place.take().map_or_else(|| service.entry().pick(&ask, here.worker), Ok) {
                Ok(backend) => backend,
                Err(Miss::Full) => return Ok(None),
                Err(Miss::Nobody) => return Err(self.last),
            };
            if !self.tried.is_empty() {
                service.counters().retries.increment();
            }
            backend.counters().connects.increment();
            self.started = here.now;
            self.phase = Phase::Tcp;
            self.deadline = Tick::at(here.now).after(service.settings().connect);
            match connect(backend.backend(), service.settings(), caller) {
                Ok(socket) => {
                    return Ok(Some(Link {
                        backend,
                        end: End::new(socket, Tick::at(here.now)),
                        by_ring: false,
                    }));
                }
                Err(failure) => self.failed(failure, &backend, service, here)?,
            }
        }
    }

    /// Takes down that the current candidate failed. `Err`: there is no further attempt.
    pub(crate) fn failed(
        &mut self,
        failure: Failure,
        backend: &BackendGuard,
        service: &ServiceGuard,
        here: Here<'_>,
    ) -> Result<(), CloseReason> {
        self.last = match failure {
            Failure::TimedOut => CloseReason::ConnectTimeout,
            Failure::Error(error) if is_ours(error) => CloseReason::Resources,
            Failure::Error(_) | Failure::Unresolved | Failure::Tls(_) => CloseReason::ConnectFailed,
        };
        if self.last != CloseReason::Resources {
            backend.counters().failures.increment();
            let after = here.now.saturating_sub(self.started);
            let described = describe(backend.backend().address().clone(), failure, after);
            here.observer.connect_failed(backend.backend().id(), &described);
        }
        if let Failure::Error(error) = failure
            && is_exhausted(error)
        {
            self.exhausted = Some(error);
            return Err(self.last);
        }
        let retries = usize::try_from(service.settings().retries).unwrap_or(usize::MAX);
        if self.tried.len() >= retries {
            return Err(self.last);
        }
        self.tried.push(backend.backend().clone());
        Ok(())
    }
}

/// No descriptor or no memory: no other candidate would fare better.
fn is_exhausted(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)
}

/// This host's failure, not the backend's. Source ports may be used up towards one backend only (ADDRNOTAVAIL, AGAIN).
fn is_ours(error: Errno) -> bool {
    is_exhausted(error) || matches!(error, Errno::ADDRNOTAVAIL | Errno::AGAIN)
}

/// Begins to connect to a backend, in the client's name where the service says so.
fn connect(backend: &Backend, settings: &Settings, caller: Caller<'_>) -> Result<OwnedFd, Failure> {
    let endpoint = backend.address().for_port(caller.port).ok_or(Failure::Unresolved)?;
    let source = settings.source(caller.client.address.ip(), &endpoint);
    socket::connect(&endpoint, source, settings.backend_options()).map_err(Failure::Error)
}

fn describe(address: BackendAddr, failure: Failure, after: Duration) -> ConnectFailure {
    let cause = match failure {
        Failure::TimedOut | Failure::Error(Errno::TIMEDOUT) => ConnectCause::TimedOut,
        Failure::Unresolved => ConnectCause::Unresolved,
        Failure::Error(Errno::CONNREFUSED) => ConnectCause::Refused,
        Failure::Error(Errno::CONNRESET | Errno::PIPE) => ConnectCause::Reset,
        Failure::Error(Errno::HOSTUNREACH | Errno::NETUNREACH) => ConnectCause::Unreachable,
        Failure::Tls(failure) => ConnectCause::Tls(failure),
        Failure::Error(error) => ConnectCause::Other(error.kind()),
    };
    ConnectFailure { address, cause, after }
}
