//! Health of the backends: who is probed when, what came back, and what a VIP may therefore claim.
//!
//! Data flow: [`Monitor`] (driver: one task per target) → [`Report`] on a bounded channel → [`Book`] (pure, single
//! owner of every backend's health) → [`Transition`], and [`evaluate`] (pure) → [`VipHealth`]. Live traffic's failed
//! connects reach the book through [`Book::connect_failed`]; how often a target is checked goes back from the book to the
//! monitor ([`Book::take_intervals`]).
//!
//! Only `monitor` and `probe` know tokio and hyper, own a clock or open a socket; everything else takes `now`. This
//! crate knows nothing of routes, listeners or the data plane.

mod agent;
mod book;
mod gate;
mod monitor;
mod outcome;
mod passive;
mod probe;
mod schedule;
mod state;
#[cfg(test)]
mod testing;

pub use agent::{Agent, AgentAdmin, AgentError, Condition, Reply};
pub use book::{Book, Entry, Transition};
pub use gate::{Results, ServiceHealth, VipHealth, evaluate};
pub use monitor::Monitor;
pub use outcome::{CheckStatus, Epoch, Outcome, Report, Target, Verdict};
#[cfg(feature = "simulation")]
pub use schedule::{Clock, Schedule};
pub use state::Health;
