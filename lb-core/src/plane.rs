//! (being written)
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::BackendId;

use crate::{Observer, PlaneStats};

/// How the data plane is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneOptions {
    /// Threads, at least 1.
    pub workers: usize,
    /// Client connections at once; beyond it clients wait in the kernel's backlog.
    pub max_connections: u32,
}

/// Whether new connections may go to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligible {
    Yes,
    No,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot set up the event loop: {0}")]
    EventLoop(#[source] std::io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("service {service}: {address} is in use")]
    AddressInUse { service: config::Name, address: SocketAddr },
}

/// Opened listeners and the services they are for.
#[derive(Debug)]
#[must_use = "nothing changes until it is committed"]
pub struct Prepared {}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub opened: Vec<SocketAddr>,
    pub kept: usize,
    pub closed: Vec<SocketAddr>,
}

/// The running data plane.
pub struct DataPlane {}

impl DataPlane {
    pub fn start(_options: PlaneOptions, _observer: Arc<dyn Observer>) -> Result<DataPlane, StartError> {
        todo!()
    }
    pub fn prepare(&self, _services: &[config::Service]) -> Result<Prepared, PrepareError> {
        todo!()
    }
    pub fn commit(&self, _prepared: Prepared) -> Applied {
        todo!()
    }
    pub fn set_eligible(&self, _changes: &[(BackendId, Eligible)]) {
        todo!()
    }
    pub fn stats(&self) -> PlaneStats {
        todo!()
    }
    pub fn active(&self) -> u64 {
        todo!()
    }
    pub fn accepted(&self) -> u64 {
        todo!()
    }
    pub fn stalest_turn(&self) -> Duration {
        todo!()
    }
    pub fn close_listeners(&self) {
        todo!()
    }
    pub fn kill_connections(&self) {
        todo!()
    }
}
