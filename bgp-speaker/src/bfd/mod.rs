//! Bidirectional Forwarding Detection (RFC 5880): tells within a second that the way to a peer, or the peer, is dead.
//! Single hop (RFC 5881) and multihop (RFC 5883), asynchronous mode, no authentication, no Echo, no Demand mode of ours.

mod demux;
mod packet;
mod session;
#[cfg(test)]
mod simulation;
mod sm;
#[cfg(test)]
mod sm_tests;
mod socket;
mod status;
mod sys;
mod thread;
mod timing;

pub use packet::{ControlPacket, Diagnostic, Discard, SessionState};
pub(crate) use session::{Path, Report, SessionConfig};
pub use status::{BfdStatus, Discards, DownReason};
pub(crate) use thread::Bfd;
