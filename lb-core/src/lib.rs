//! The data plane (being written).

mod accept;
mod backend;
pub mod balance;
mod clock;
mod close_reason;
mod connect;
mod connection;
mod counters;
mod establish;
mod gate;
mod limits;
mod observer;
mod plan;
mod plane;
mod poll;
mod relay;
mod service;
mod slab;
pub mod snapshot;
mod socket;
mod stats;
mod wheel;
mod worker;

pub use close_reason::CloseReason;
pub use limits::{max_connections_for, raise_descriptor_limit};
pub use observer::{ConnectCause, ConnectFailure, Observer};
pub use plane::{Applied, DataPlane, Eligible, PlaneOptions, PrepareError, Prepared, StartError};
pub use stats::{BackendStats, CloseCounts, PlaneStats, ServiceStats};
