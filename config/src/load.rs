//! From a file, or its text, to a [`Config`]. The only module here that reads a file.

use std::path::Path;

use crate::error::{Problem, Problems};
use crate::model::Config;

/// A configuration that can be used, and what looks wrong in it all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// Warnings only.
    pub warnings: Problems,
}

/// Reads and checks the file at `path`. On an error, every problem of the file (warnings too) comes back at once; a file
/// that cannot be read is a problem without a line.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let file = path.display().to_string();
    let unreadable =
        |message: String, expected| Problems::new(vec![Problem::of_file(&file, message, expected)]);
    let bytes = std::fs::read(path).map_err(|e| {
        unreadable(format!("cannot read the file: {e}"), "a TOML file that this user may read")
    })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes().iter().take(good).filter(|&&b| b == b'\n').count();
        unreadable(format!("line {line} is not UTF-8"), "a TOML file in UTF-8")
    })?;
    parse(&text, &file)
}

/// Checks `text`; `file` is what problems call it.
pub fn parse(text: &str, file: &str) -> Result<Loaded, Problems> {
    let _ = text;
    Err(Problems::new(vec![Problem::of_file(file, "the reader is not built yet".into(), "")]))
}
