//! What the end-to-end and interop tests share: the real binary as a child, mock backends, a scripted BGP peer,
//! addresses nobody else uses, and waiting for conditions.
//!
//! Owns no state of its own; everything a test starts is a value that stops it when dropped, on a panic too.
#![allow(dead_code, reason = "two test crates share these modules and each uses a part of them")]

pub mod agent;
pub mod backend;
pub mod bgp_peer;
pub mod bgp_wire;
pub mod configuration;
pub mod daemon;
pub mod eventually;
pub mod forbid;
pub mod freeze;
pub mod http;
pub mod journal;
pub mod load;
pub mod ports;
pub mod process;
pub mod resources;
pub mod status;
pub mod tls;

use std::time::Duration;

/// Generous bound for anything that takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(15);
