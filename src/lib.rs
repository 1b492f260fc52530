//! contrail-lb: a layer-4 load balancer with health checks and an embedded BGP speaker, wired into one process.
//!
//! This crate is the only place that knows all the others. `app` wires, `steer` decides, `vip` holds the life cycle of
//! an address, `control` lets people look and ask, `cli` is the command line, `demo` shows the whole thing without root.

mod app;
pub mod cli;
mod control;
mod demo;
mod events;
mod logging;
mod names;
mod reload;
mod return_path;
mod shutdown;
#[cfg(test)]
mod simulation;
mod steer;
mod vip;
mod watchdog;
