//! What is checked and what came back: the plain data that monitor, probe and book exchange. No I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{
    Backend, BackendAddr, BackendId, BackendTls, Check, CheckKind, Endpoint, Passive, ProxyVersion, Service,
};

use crate::agent::Reply;

/// One backend and how its health is found out. Equal targets are the same to a reload: nothing about them moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub id: BackendId,
    /// Where clients are sent; the check goes there too unless `check.port` says otherwise.
    pub address: BackendAddr,
    /// The name that `address` is, or was resolved from: what a certificate must be for, unless `backend_tls` has another.
    pub host: Option<Arc<str>>,
    /// The service's first port: where a backend is checked that is reached on whatever port the client used.
    pub service_port: u16,
    pub check: Check,
    pub passive: Passive,
    /// What https and tls checks go by, enabled or not.
    pub backend_tls: BackendTls,
    pub send_proxy: Option<ProxyVersion>,
}

impl Target {
    /// As configured. Whoever resolves a backend's name puts the answer into `address`.
    pub fn of(service: &Service, backend: &Backend) -> Self {
        let host = match &backend.address {
            BackendAddr::Name { host, .. } => Some(Arc::clone(host)),
            BackendAddr::Ip(_) | BackendAddr::ClientPort(_) | BackendAddr::Unix(_) => None,
        };
        Target {
            host,
            id: service.backend_id(backend),
            address: backend.address.clone(),
            service_port: service.listen.first().map_or(0, |listen| listen.port()),
            check: service.check.clone(),
            passive: service.passive,
            backend_tls: service.backend_tls.clone(),
            send_proxy: service.send_proxy,
        }
    }

    /// Where the check connects to; `None`: a name that is not resolved. The check's own port means nothing to a Unix
    /// socket.
    pub fn endpoint(&self) -> Option<Endpoint> {
        let endpoint = self.address.for_port(self.service_port)?;
        Some(match (endpoint, self.check.port) {
            (Endpoint::Tcp(mut address), Some(port)) => {
                address.set_port(port);
                Endpoint::Tcp(address)
            }
            (same @ (Endpoint::Tcp(_) | Endpoint::Unix(_)), _) => same,
        })
    }

    /// Whether attempts are made at all.
    pub(crate) fn is_checked(&self) -> bool {
        self.check.kind != CheckKind::None && self.endpoint().is_some()
    }
}

/// Tells the results of a target from late ones of the target it replaced. Handed out by [`crate::Book::reconcile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub(crate) u64);

/// What one attempt says about the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    /// This host could not make the attempt (no descriptor, no local port): it says nothing about the backend. Too many
    /// of these in a row make the entry stale.
    NotMade,
}

/// How far an attempt got and what ended it, with HAProxy's names for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckStatus {
    /// Not made by this host's own fault.
    NotMade,
    Connected,
    ConnectFailed,
    ConnectTimedOut,
    TlsEstablished,
    TlsFailed,
    TlsTimedOut,
    AnswerGood,
    /// The answer came too late or not at all.
    AnswerTimedOut,
    /// No such protocol, cut short, or beyond its bounds.
    AnswerInvalid,
    /// Understood, but not what was expected.
    AnswerWrong,
}

impl CheckStatus {
    pub fn verdict(self) -> Verdict {
        match self {
            CheckStatus::NotMade => Verdict::NotMade,
            CheckStatus::Connected | CheckStatus::TlsEstablished | CheckStatus::AnswerGood => Verdict::Passed,
            CheckStatus::ConnectFailed
            | CheckStatus::ConnectTimedOut
            | CheckStatus::TlsFailed
            | CheckStatus::TlsTimedOut
            | CheckStatus::AnswerTimedOut
            | CheckStatus::AnswerInvalid
            | CheckStatus::AnswerWrong => Verdict::Failed,
        }
    }

    /// As in HAProxy's `check_status`.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::NotMade => "UNK",
            CheckStatus::Connected => "L4OK",
            CheckStatus::ConnectFailed => "L4CON",
            CheckStatus::ConnectTimedOut => "L4TOUT",
            CheckStatus::TlsEstablished => "L6OK",
            CheckStatus::TlsFailed => "L6RSP",
            CheckStatus::TlsTimedOut => "L6TOUT",
            CheckStatus::AnswerGood => "L7OK",
            CheckStatus::AnswerTimedOut => "L7TOUT",
            CheckStatus::AnswerInvalid => "L7RSP",
            CheckStatus::AnswerWrong => "L7STS",
        }
    }
}

/// The end of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub status: CheckStatus,
    /// The HTTP status that came back, if one did.
    pub code: Option<u16>,
    /// What was tried and what came back, e.g. `connect to 10.84.14.2:8082: refused in 0.3 ms`.
    pub detail: String,
    pub took: Duration,
    /// What an agent said, if it was one that answered.
    pub agent: Option<Reply>,
}

impl Outcome {
    /// An outcome of which no more is known.
    pub fn new(status: CheckStatus, detail: impl Into<String>, took: Duration) -> Self {
        Outcome { status, code: None, detail: detail.into(), took, agent: None }
    }

    pub fn verdict(&self) -> Verdict {
        self.status.verdict()
    }
}

/// An [`Outcome`] on its way to the book.
#[derive(Debug, Clone)]
pub struct Report {
    pub id: BackendId,
    pub epoch: Epoch,
    pub outcome: Outcome,
    /// When the attempt ended.
    pub at: Instant,
}
