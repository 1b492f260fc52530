//! The data plane: TCP connections from clients to backends.
//!
//! Owns the listeners, the relayed connections, the choice of a backend and the numbers about all of these. It must
//! not decide whether a backend is healthy (its caller says so with [`DataPlane::set_standing`]), read files, or know
//! of BGP.
//!
//! [`DataPlane`] starts N worker threads. Each has an event loop of its own (io_uring and epoll), its own `SO_REUSEPORT` listener per
//! address, its own connections and one relay buffer, so that a packet meets no lock, no allocation and no cache line
//! of another thread. Per connection a few lines are shared: the service's turn, the numbers of open connections, the backend's load.
//!
//! ```text
//!  kernel ──accept──▶ opening ──pick──▶ attempt ──connect──▶ relay ──▶ end: reason, counters
//!       (accept.rs) (opening.rs) (service.rs) (connect.rs) (relay/)   (connection.rs)
//! ```
//!
//! Pure parts: [`balance`], `choice`, `table`, [`snapshot`], `plan`, `address`, `wheel`, `slab`, `gate`, [`proxy_protocol`], the deadlines and closing rules of `connection`.
//! Drivers: `worker` with `accept`, `closing`, `opening`, `waiting`, `establish` and `ringing` (one thread each), `plane` (the caller's threads). All socket calls
//! are in `socket`, all of the event queue's in `poll`, all of io_uring's in `ring`, the time is read in `clock`. Orders reach a worker through a
//! channel that it looks into when its eventfd says so.

mod accept;
mod address;
mod backend;
pub mod balance;
mod choice;
mod clients;
mod clock;
mod close_reason;
mod closing;
mod connect;
mod connection;
mod counters;
mod establish;
mod gate;
mod limits;
mod observer;
mod opening;
mod plan;
mod plane;
mod poll;
pub mod proxy_protocol;
mod queue;
mod record;
mod relay;
mod ring;
mod ringing;
mod service;
mod slab;
pub mod snapshot;
mod socket;
mod standing;
mod stats;
mod table;
mod tls;
mod waiting;
mod wheel;
mod worker;

pub use close_reason::CloseReason;
pub use limits::{descriptors_of_plane, max_connections_for, raise_descriptor_limit};
pub use observer::{ConnectCause, ConnectFailure, Observer};
pub use plane::{Applied, DataPlane, PlaneOptions, PrepareError, Prepared, Recording, StartError};
pub use record::{AccessRecord, Concurrent, Reached};
pub use standing::{Eligible, Standing};
pub use stats::{BackendStats, CloseCounts, PlaneStats, ServiceStats};
pub use tls::hello;
pub use tls::{CertificateFault, TlsFailure, TlsFileError};
