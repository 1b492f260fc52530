//! Interop tests: the real binary and real routers (BIRD 2, BIRD 1.6, FRR, GoBGP), each in a network namespace of its own.
//!
//! They need root and what `.ci/setup routers` installs. Without root they say so in one line and count as skipped; with
//! root, a router that is not installed is named and its tests count as skipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in the functions its tests share as well"
)]
#![allow(clippy::disallowed_methods, reason = "a test measures real time; it never sleeps")]

#[path = "../common/mod.rs"]
mod common;

mod harness;
mod lab;
mod netns;
mod ports;
mod recording;
mod router;
mod scenarios;
mod transparent;
