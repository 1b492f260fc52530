//! Reading `status --json` and `bgp --json`: the one place in the tests that knows their field names.

use std::net::IpAddr;

use serde_json::Value;

use super::daemon::Daemon;
use super::eventually::eventually;
use super::{SOON, http};

/// The reply to `show status json`.
#[derive(Debug, Clone)]
pub struct Status(pub Value);

impl Status {
    pub fn of(daemon: &Daemon) -> std::io::Result<Self> {
        daemon.ask("show status json").map(Status)
    }

    pub fn service(&self, name: &str) -> Option<&Value> {
        named(&self.0["services"], name)
    }

    pub fn backend(&self, service: &str, name: &str) -> Option<&Value> {
        named(&self.service(service)?["backends"], name)
    }

    /// `up`, `down`, `unknown` or `disabled`.
    pub fn health(&self, service: &str, backend: &str) -> Option<&str> {
        self.backend(service, backend)?["health"].as_str()
    }

    pub fn vip(&self, address: IpAddr) -> Option<&Value> {
        let address = address.to_string();
        self.0["vips"].as_array()?.iter().find(|vip| vip["address"] == address.as_str())
    }

    /// Where in its life cycle a VIP is.
    pub fn phase(&self, address: IpAddr) -> Option<&str> {
        self.vip(address)?["phase"].as_str()
    }

    /// Ended connections of a service by reason.
    pub fn closes(&self, service: &str, reason: &str) -> u64 {
        self.service(service).and_then(|s| s["closes"][reason].as_u64()).unwrap_or(0)
    }
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item["name"] == name)
}

/// Waits until a backend's health is this.
#[track_caller]
pub fn wait_health(daemon: &Daemon, service: &str, backend: &str, health: &str) {
    eventually(&format!("{service}/{backend} is {health}"), SOON, || {
        let status = Status::of(daemon).map_err(|e| e.to_string())?;
        match status.health(service, backend) {
            Some(now) if now == health => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Waits until a VIP's phase is this.
#[track_caller]
pub fn wait_phase(daemon: &Daemon, vip: IpAddr, phase: &str) {
    eventually(&format!("{vip} is {phase}"), SOON, || {
        let status = Status::of(daemon).map_err(|e| e.to_string())?;
        match status.phase(vip) {
            Some(now) if now == phase => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Waits until connections of a service have ended for this reason.
#[track_caller]
pub fn wait_closes(daemon: &Daemon, service: &str, reason: &str, count: u64) {
    eventually(&format!("{count} × {reason}"), SOON, || {
        let status = Status::of(daemon).map_err(|e| e.to_string())?;
        if status.closes(service, reason) >= count {
            Ok(())
        } else {
            Err(format!("{:?}", status.service(service)))
        }
    });
}

/// `event` of a log record: the kind of transition it tells of.
pub fn event(record: &Value) -> Option<&str> {
    record["event"].as_str()
}

/// Whether a log record is of this kind and about this subject.
pub fn is_event(record: &Value, kind: &str, subject: &str) -> bool {
    event(record) == Some(kind) && record["subject"] == subject
}

/// The status code of `/readyz`.
pub fn readiness(daemon: &Daemon) -> std::io::Result<u16> {
    http::get(daemon.admin(), "/readyz").map(|response| response.status)
}
