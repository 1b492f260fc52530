//! What this crate's tests share.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Instant;

use config::{BackendId, CheckKind, HttpCheck, Name, Service};

use crate::outcome::{CheckStatus, Target, Verdict};

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

/// `contrail-api` as a file gives it: the stock check (every 2 s, rise 2, fall 3), all else as it is by default.
pub(crate) fn service(backends: &[&str]) -> Service {
    let mut text = String::from("[[service]]\nname = \"contrail-api\"\nlisten = [\"127.0.0.1:8082\"]\n");
    for (n, backend) in backends.iter().enumerate() {
        text +=
            &format!("[[service.backend]]\nname = \"{backend}\"\naddress = \"10.84.14.{}:8082\"\n", n + 1);
    }
    match config::parse(&text, "test") {
        Ok(mut loaded) => loaded.config.services.remove(0),
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

/// The stock check of `kind` on `address`.
pub(crate) fn target(backend: &str, address: SocketAddr, kind: CheckKind) -> Target {
    static STOCK: LazyLock<Service> = LazyLock::new(|| service(&["any"]));
    let mut target = Target::of(&STOCK, &STOCK.backends[0]);
    target.id.backend = name(backend);
    target.address = address.into();
    target.check.kind = kind;
    target
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

/// How a TCP check with this verdict ends.
pub(crate) fn tcp_status(verdict: Verdict) -> CheckStatus {
    match verdict {
        Verdict::Passed => CheckStatus::Connected,
        Verdict::Failed => CheckStatus::ConnectFailed,
        Verdict::NotMade => CheckStatus::NotMade,
    }
}
