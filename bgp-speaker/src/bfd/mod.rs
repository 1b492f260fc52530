//! Bidirectional Forwarding Detection (RFC 5880): tells within a second that the way to a peer, or the peer, is dead.
//! Single hop (RFC 5881) and multihop (RFC 5883), asynchronous mode, no authentication, no Echo, no Demand mode of ours.

mod demux;
mod packet;
#[cfg(test)]
mod simulation;
mod sm;
#[cfg(test)]
mod sm_tests;
mod status;
mod timing;

pub use packet::{ControlPacket, Diagnostic, Discard, SessionState};
pub use status::{BfdStatus, Discards, DownReason};
