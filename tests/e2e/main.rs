//! End-to-end tests: the real binary against mock backends and a scripted BGP peer, on loopback addresses, without root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in the functions its tests share as well"
)]
#![allow(clippy::disallowed_methods, reason = "a test measures real time; it never sleeps")]

#[path = "../common/mod.rs"]
mod common;

mod agents;
mod announcing;
mod balancing;
mod config;
mod demo;
mod draining;
mod encrypting;
mod fellows;
mod freezing;
mod harness;
mod health;
mod lab;
mod limits;
mod recording;
mod reload;
mod robustness;
mod saturating;
mod seeing;
mod streams;
