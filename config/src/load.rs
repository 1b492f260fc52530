//! From a file, or its text, to a [`Config`].

use std::path::Path;

use toml::de::DeTable;

use crate::checks;
use crate::error::{Problem, Problems};
use crate::findings::{Finding, Findings, Place};
use crate::model::Config;
use crate::presets;
use crate::raw::Raw;
use crate::resolve::resolve;
use crate::source::Source;

/// A configuration that can be used, and what looks wrong in it all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// Warnings only.
    pub warnings: Problems,
}

/// Reads and checks the file at `path`, and looks for the password files that it names. On an error, every problem of
/// the file (warnings too) comes back at once; a file that cannot be read is a problem without a line.
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
    examine(&text, &file, checks::files::check)
}

/// Checks `text`, and nothing beyond it; `file` is what problems call it. The result is as [`load`]'s.
///
/// Where the text is not TOML, all that the parser could still read is checked key by key, but not for what is missing
/// or contradicts something else: that may be in the part that could not be read.
pub fn parse(text: &str, file: &str) -> Result<Loaded, Problems> {
    examine(text, file, |_, _| {})
}

fn examine(
    text: &str,
    file: &str,
    check_beyond: impl FnOnce(&Raw, &mut Findings),
) -> Result<Loaded, Problems> {
    let source = Source::new(file, text);
    let mut findings = Findings::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        findings.push_syntax(&source, syntax_error(&error, text));
    }
    let syntax_errors = findings.len();
    let mut raw = Raw::read(document.get_ref(), &mut findings);
    if !findings.is_partial() {
        presets::apply(&mut raw, &mut findings);
        checks::check(&raw, &mut findings);
        check_beyond(&raw, &mut findings);
    }
    let config = if findings.has_errors() { None } else { resolve(raw) };
    let problems = findings.into_problems(&source, syntax_errors);
    match config {
        Some(config) => Ok(Loaded { config, warnings: problems }),
        None => Err(problems),
    }
}

fn syntax_error(error: &toml::de::Error, text: &str) -> Finding {
    let span = error.span().unwrap_or(text.len()..text.len());
    let place = Place { span, key: String::new() };
    let is_empty = place.span.is_empty();
    let (message, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    let finding = |message| Finding::error(&place, format!("not TOML: {message}"));
    match (message, expected) {
        ("string values must be quoted", _) if is_empty => {
            finding("the value is missing").expected("a value")
        }
        ("string values must be quoted" | "invalid float", _) => finding(message)
            .expected("a number, true, false, or a text in quotes")
            .help("addresses and durations are texts: write them in quotes"),
        // The parser's way to say that the value should have ended.
        (_, "" | "nothing") => finding(message),
        _ => finding(message).expected(expected),
    }
}
