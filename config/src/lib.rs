//! The configuration: one TOML file in, one valid-by-type [`Config`] out, or every problem at once.
//!
//! This crate owns the names and limits of `docs/configuration.md`. It knows no tokio, opens no socket and reads no
//! clock. Data flow: file → spanned TOML → `raw` (typed keys with their places) → `presets` → `checks`
//! (cross-checks) → `resolve` → [`Config`].

mod checks;
mod duration;
mod error;
mod expand;
mod findings;
mod load;
pub mod model;
mod presets;
mod raw;
mod reader;
mod render;
mod resolve;
mod schema;
mod source;
pub mod types;
mod value;

pub use error::{Problem, Problems, Severity};
pub use expand::expand;
pub use load::{Loaded, load, parse};
pub use model::*;
pub use types::*;
