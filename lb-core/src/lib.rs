//! The data plane (being written).

mod close_reason;
mod limits;
mod observer;
mod plane;
mod stats;

pub use close_reason::CloseReason;
pub use limits::{max_connections_for, raise_descriptor_limit};
pub use observer::{ConnectCause, ConnectFailure, Observer};
pub use plane::{Applied, DataPlane, Eligible, PlaneOptions, PrepareError, Prepared, StartError};
pub use stats::{BackendStats, CloseCounts, PlaneStats, ServiceStats};
