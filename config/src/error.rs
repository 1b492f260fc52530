//! What is wrong with a configuration file: every problem, each with its place and with what would be accepted.
//! Owns the two forms in which problems leave this crate: text for people (`render.rs`) and JSON.

use std::cmp::Ordering;

use serde::Serialize;

/// An error refuses the file as a whole; a warning does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// A place in a line of the file and the line around it, kept so that a problem can be shown without the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// In characters, at least 1; may reach beyond `text`.
    pub(crate) width: usize,
    /// The line without its end; of a long one a part.
    pub(crate) text: String,
    /// How many characters of the line are missing in front of `text`.
    pub(crate) skipped: usize,
    /// Whether some are missing behind it.
    pub(crate) is_cut: bool,
}

/// Another place that a problem is about: the first of two equal names, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Related {
    pub(crate) excerpt: Excerpt,
    pub(crate) message: String,
}

/// One thing that is wrong, or looks wrong, in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub file: String,
    /// From 1; 0 when the problem is the file itself (it cannot be read).
    pub line: usize,
    /// From 1, in characters; 0 as for `line`.
    pub column: usize,
    /// The key's path, elements of lists counted from 0: `service[1].check.interval`. Empty for a syntax error.
    pub key: String,
    pub message: String,
    /// What would be accepted.
    pub expected: Option<String>,
    /// What probably was meant, or what to do.
    pub help: Option<String>,
    pub(crate) excerpt: Option<Excerpt>,
    pub(crate) related: Option<Related>,
}

impl Problem {
    /// A problem with a file as a whole: no line, nothing to quote.
    pub(crate) fn of_file(file: &str, message: String, expected: &str) -> Self {
        Problem {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message,
            expected: Some(expected.to_owned()),
            help: None,
            excerpt: None,
            related: None,
        }
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "message": self.message,
            "expected": self.expected,
            "help": self.help,
            "related": self.related.as_ref().map(|related| serde_json::json!({
                "line": related.excerpt.line,
                "column": related.excerpt.column,
                "message": related.message,
            })),
        })
    }
}

/// Problems in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| match (a.line, a.column).cmp(&(b.line, b.column)) {
            Ordering::Equal => a.severity.cmp(&b.severity),
            other => other,
        });
        Problems(problems)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the file is refused.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|p| p.severity == severity).count()
    }

    /// All of them as a compiler would print them, each with its line quoted and the place underlined, then a line
    /// with their number. Empty if there are none.
    pub fn render(&self, color: bool) -> String {
        crate::render::render(self, color)
    }

    /// `{"errors": N, "warnings": N, "problems": [{severity, file, line, column, key, message, expected, help, related}]}`;
    /// what there is none of is `null`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "problems": self.0.iter().map(Problem::to_json).collect::<Vec<_>>(),
        })
    }
}
