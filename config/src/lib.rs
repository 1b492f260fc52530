//! The configuration: one TOML file in, one valid-by-type [`Config`] out, or every problem at once.
//!
//! This crate owns the names and limits of `docs/configuration.md`. It knows no tokio, opens no socket and reads no
//! clock. Data flow: file → [`raw`] (serde mirror with spans) → [`resolve`] (defaults, presets, cross-checks) → [`Config`].

pub mod model;
pub mod types;

pub use model::*;
pub use types::*;
