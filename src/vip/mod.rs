//! The VIP: its life cycle, its address on the host, and the hands that carry out what the life cycle wants.

pub mod address;
pub mod governor;
pub mod host;
pub mod life_cycle;
mod listening;
mod placement;
