//! One backend as the data plane knows it: where it is, whether it may be picked, what went through it.
//!
//! It lives as long as its service, name and address stay the same, over any number of reloads, and as long as a
//! connection uses it. Weight and role (`backup`) belong to the configuration: see [`crate::snapshot`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use config::{BackendAddr, BackendId};

use crate::counters::{BackendCounters, PerWorker, WorkerId};
use crate::{BackendStats, Eligible};

/// See the module's text.
#[derive(Debug)]
pub struct Backend {
    id: BackendId,
    address: BackendAddr,
    eligible: AtomicBool,
    pub(crate) counters: PerWorker<BackendCounters>,
}

impl Backend {
    /// A backend that nothing is known of: not eligible.
    pub(crate) fn new(id: BackendId, address: BackendAddr, workers: usize) -> Self {
        Backend { id, address, eligible: AtomicBool::new(false), counters: PerWorker::new(workers) }
    }

    pub fn id(&self) -> &BackendId {
        &self.id
    }

    pub fn address(&self) -> &BackendAddr {
        &self.address
    }

    pub fn eligible(&self) -> Eligible {
        if self.eligible.load(Relaxed) { Eligible::Yes } else { Eligible::No }
    }

    /// Whoever changes it compiles the service's table anew.
    pub(crate) fn set_eligible(&self, eligible: Eligible) {
        self.eligible.store(eligible == Eligible::Yes, Relaxed);
    }

    pub(crate) fn stats(&self) -> BackendStats {
        BackendStats {
            id: self.id.clone(),
            address: self.address.clone(),
            eligible: self.eligible(),
            active: self.counters.sum(|c| &c.active),
            connects: self.counters.sum(|c| &c.connects),
            connect_failures: self.counters.sum(|c| &c.failures),
            bytes_in: self.counters.sum(|c| &c.bytes_in),
            bytes_out: self.counters.sum(|c| &c.bytes_out),
        }
    }
}

/// One connection's use of a backend: counts it in `active` for as long as it lives.
#[derive(Debug)]
pub(crate) struct BackendGuard {
    backend: Arc<Backend>,
    worker: WorkerId,
}

impl BackendGuard {
    pub(crate) fn new(backend: Arc<Backend>, worker: WorkerId) -> Self {
        let guard = BackendGuard { backend, worker };
        guard.counters().active.increment();
        guard
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub(crate) fn counters(&self) -> &BackendCounters {
        self.backend.counters.of(self.worker)
    }
}

impl Drop for BackendGuard {
    fn drop(&mut self) {
        self.counters().active.decrement();
    }
}
