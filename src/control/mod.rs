//! How people and tools look at the running daemon and ask it for things.
//!
//! `view` is the state to show, as plain data; `text` and `metrics` render it; `command` is the runtime command set;
//! `socket` and `http` carry them. Nothing here owns state of the product or blocks the data path: reading asks the
//! steering task for a copy, writing sends it a command.

pub mod command;
pub mod events;
pub mod http;
pub mod metrics;
pub mod socket;
pub mod text;
pub mod view;
