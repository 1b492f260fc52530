//! The gate of a VIP: from the health of its services to what it may claim. Pure, without memory; the life cycle of the
//! VIP decides what is then announced, and when.
//!
//! A service is short in the instant in which it has fewer than `min_healthy` backends. The other half of the hysteresis
//! is the life cycle's: what was short counts as whole only after it stayed so for `announce_delay`.
#![deny(clippy::disallowed_methods)]

use std::fmt;

use config::{Backend, Name, Service};

use crate::book::Book;

/// Whether the results that a service's health rests on can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// Short so far, but some backend has not been checked yet.
    Pending,
    Fresh,
    /// No backend has a recent result: our own checker hangs.
    Stale,
}

/// One service in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceHealth<'a> {
    pub name: &'a Name,
    pub required: bool,
    pub min_healthy: u32,
    /// Backends that are up by a fresh result and may take traffic, backups among them.
    pub healthy: u32,
    /// Backends that may take traffic.
    pub total: u32,
    pub results: Results,
}

impl<'a> ServiceHealth<'a> {
    /// Counts `service` by the book. `usable`: whether a backend may take traffic at all (enabled, weight above 0). One that
    /// its agent keeps out of traffic counts no more than one that an operator does.
    pub fn tally(service: &'a Service, book: &Book, usable: impl Fn(&Backend) -> bool) -> Self {
        let usable = service.backends.iter().filter(|b| usable(b));
        let entries = usable
            .map(|b| book.get(&service.backend_id(b)))
            .filter(|entry| entry.is_none_or(|e| e.agent.takes_traffic()));
        let (mut total, mut healthy, mut unchecked, mut stale) = (0, 0, 0, 0);
        for entry in entries {
            total += 1;
            match entry {
                Some(e) if e.is_stale() => stale += 1,
                Some(e) if e.health().is_up() => healthy += 1,
                Some(e) if e.health().is_known() => {}
                Some(_) | None => unchecked += 1,
            }
        }
        let results = if healthy >= service.min_healthy {
            Results::Fresh
        } else if unchecked > 0 {
            Results::Pending
        } else if stale > 0 && stale == total {
            Results::Stale
        } else {
            Results::Fresh
        };
        let Service { name, required, min_healthy, .. } = service;
        ServiceHealth { name, required: *required, min_healthy: *min_healthy, healthy, total, results }
    }

    fn is_whole(&self) -> bool {
        self.results == Results::Fresh && self.healthy >= self.min_healthy
    }
    fn is_down(&self) -> bool {
        self.results == Results::Fresh && self.healthy == 0
    }
}

/// What a VIP may claim now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VipHealth {
    /// Every required service is whole.
    Healthy,
    /// The fate of `services` is not known yet; `short` are known to be short already.
    Pending { services: Vec<Name>, short: Vec<Name> },
    /// These required services have fewer than `min_healthy` backends, but not all is lost.
    Short { services: Vec<Name> },
    /// No required service has a healthy backend.
    AllDown { services: Vec<Name> },
    /// These services have no recent result: nothing may be claimed.
    Stale { services: Vec<Name> },
}

/// Judges a VIP by its services.
///
/// Only required services count. If none is required, the VIP is healthy while any of its services is whole. A VIP
/// without services is `AllDown`: nothing would answer.
pub fn evaluate(services: &[ServiceHealth<'_>]) -> VipHealth {
    let required: Vec<_> = services.iter().filter(|s| s.required).copied().collect();
    if required.is_empty() {
        return evaluate_optional(services);
    }
    let stale = names(&required, |s| s.results == Results::Stale);
    let pending = names(&required, |s| s.results == Results::Pending);
    let short = names(&required, |s| s.results == Results::Fresh && !s.is_whole());
    if !stale.is_empty() {
        VipHealth::Stale { services: stale }
    } else if !pending.is_empty() {
        VipHealth::Pending { services: pending, short }
    } else if short.is_empty() {
        VipHealth::Healthy
    } else if required.iter().all(ServiceHealth::is_down) {
        VipHealth::AllDown { services: short }
    } else {
        VipHealth::Short { services: short }
    }
}

fn evaluate_optional(services: &[ServiceHealth<'_>]) -> VipHealth {
    let pending = names(services, |s| s.results == Results::Pending);
    let stale = names(services, |s| s.results == Results::Stale);
    if services.iter().any(ServiceHealth::is_whole) {
        VipHealth::Healthy
    } else if !pending.is_empty() {
        VipHealth::Pending { services: pending, short: Vec::new() }
    } else if !stale.is_empty() {
        VipHealth::Stale { services: stale }
    } else if services.iter().all(ServiceHealth::is_down) {
        VipHealth::AllDown { services: names(services, |_| true) }
    } else {
        VipHealth::Short { services: names(services, |_| true) }
    }
}

fn names(services: &[ServiceHealth<'_>], wanted: impl Fn(&ServiceHealth<'_>) -> bool) -> Vec<Name> {
    services.iter().filter(|s| wanted(s)).map(|s| s.name.clone()).collect()
}

impl fmt::Display for VipHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, services) = match self {
            VipHealth::Healthy => return f.write_str("healthy"),
            VipHealth::Pending { services, .. } => ("not checked yet", services),
            VipHealth::Short { services } => ("short of healthy backends", services),
            VipHealth::AllDown { services } => ("no healthy backend at all", services),
            VipHealth::Stale { services } => ("no recent check result", services),
        };
        let names: Vec<_> = services.iter().map(Name::as_str).collect();
        write!(f, "{words}: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests;
