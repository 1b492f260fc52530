//! What this crate's tests share.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::{BackendId, Check, CheckKind, HttpCheck, Name, Passive};

use crate::outcome::Target;

/// An instant to count from.
#[allow(clippy::disallowed_methods, reason = "std offers no other way to make an Instant")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn id(backend: &str) -> BackendId {
    BackendId { service: name("contrail-api"), backend: name(backend) }
}

/// The stock check (every 2 s, rise 2, fall 3) of `kind` on `address`.
pub(crate) fn target(backend: &str, address: SocketAddr, kind: CheckKind) -> Target {
    Target {
        id: id(backend),
        address,
        check: Check {
            kind,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            port: None,
        },
        passive: Passive { enabled: true, failures: 3, window: Duration::from_secs(10) },
    }
}

/// `GET /`, 200-399.
pub(crate) fn http() -> HttpCheck {
    HttpCheck {
        method: "GET".into(),
        path: "/".into(),
        host: None,
        expect_status: vec![(200, 399)],
        expect_body: None,
    }
}
