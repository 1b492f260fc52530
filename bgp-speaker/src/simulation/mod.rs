//! A speaker and its peer on a bad network with virtual time: the real machines, framers and announcers over a model of TCP.
//!
//! [`Link`] is the handle, for the simulations of this crate and of whoever enables the feature `simulation`. A seed
//! decides everything: delays and how octets are cut. What goes wrong is the caller's to say. After every step a speaker
//! that contradicts itself panics.

#[cfg(test)]
mod adversary;
mod network;
mod side;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod victim;

pub use network::{Farewell, Link};
pub use side::Path;
