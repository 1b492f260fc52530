//! An embedded BGP speaker that only originates: it announces the routes it is told to and imports nothing.
//!
//! [`Speaker`] is the handle. Behind it every peer has one task that owns a pure state machine, the routes it has sent
//! and its connections. Desired routes come in over a `watch` (last value wins), events go out over a bounded `mpsc`
//! whose overflow is counted.

mod announcer;
pub mod bfd;
mod blueprint;
mod connection;
mod dialect;
mod dialling;
#[cfg(test)]
mod fixture;
mod fsm;
mod lingering;
mod listener;
mod md5;
mod observer;
mod own_paths;
pub mod pack;
mod path_watch;
mod peer_task;
mod policy;
mod rib;
mod roster;
mod route;
mod session;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod sockopt;
mod speaker;
mod status;
mod supervisor;
mod transport;
pub mod wire;

pub use route::{Attributes, Preference, Route, RouteSet};
pub use speaker::{Settled, Speaker, SpeakerError};
pub use status::{
    CloseReason, Deadlines, MessageCounts, Negotiated, Origin, OwnPath, PeerEvent, PeerState, PeerStatus,
    Unannounced,
};
