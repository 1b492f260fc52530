//! Problems while they are being collected: at byte offsets, before lines and columns are known. Pure.

use std::collections::HashSet;
use std::ops::Range;

use crate::error::{Problem, Problems, Related, Severity};
use crate::source::Source;

/// Where in the file something is, and under which key path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) span: Range<usize>,
    pub(crate) key: String,
}

/// A value and where it was given; for a default, where it would have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, place: &Place) -> Self {
        At { value, place: place.clone() }
    }
}

/// One problem at an offset. Built by `error` or `warning`, then `expected`, `help` and `related` as they apply.
#[derive(Debug)]
pub(crate) struct Finding {
    severity: Severity,
    place: Place,
    message: String,
    expected: Option<String>,
    help: Option<String>,
    related: Option<(Range<usize>, String)>,
}

impl Finding {
    pub(crate) fn error(place: &Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, place, message.into())
    }

    pub(crate) fn warning(place: &Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, place, message.into())
    }

    fn new(severity: Severity, place: &Place, message: String) -> Self {
        Finding { severity, place: place.clone(), message, expected: None, help: None, related: None }
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Points at a second place, with a few words about it.
    pub(crate) fn related(mut self, place: &Place, message: impl Into<String>) -> Self {
        self.related = Some((place.span.clone(), message.into()));
        self
    }

    fn into_problem(self, source: &Source<'_>) -> Problem {
        let at = source.position(self.place.span.start);
        Problem {
            severity: self.severity,
            file: source.file.to_owned(),
            line: at.line,
            column: at.column,
            key: self.place.key,
            message: self.message,
            expected: self.expected,
            help: self.help,
            excerpt: Some(source.excerpt(&self.place.span)),
            related: self.related.map(|(span, message)| Related { excerpt: source.excerpt(&span), message }),
        }
    }
}

/// Everything found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<Finding>,
    /// The lines, counted from 0, of syntax errors. Where there are any the tables are what the parser could save, so
    /// a missing key proves nothing, and neither does anything on those lines.
    broken_lines: Vec<usize>,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    /// A syntax error; only the first of a line is kept, the others follow from it.
    pub(crate) fn push_syntax(&mut self, source: &Source<'_>, finding: Finding) {
        let line = source.line_index(finding.place.span.start);
        if !self.broken_lines.contains(&line) {
            self.broken_lines.push(line);
            self.found.push(finding);
        }
    }

    /// Whether the file could only be read in part.
    pub(crate) fn is_partial(&self) -> bool {
        !self.broken_lines.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether the file is refused.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|f| f.severity == Severity::Error)
    }

    /// With `syntax` the number of syntax errors, which came first: later findings on their lines are left out.
    pub(crate) fn into_problems(self, source: &Source<'_>, syntax: usize) -> Problems {
        let broken = self.broken_lines;
        let on_broken_line = |span: &Range<usize>| {
            let lines = source.line_index(span.start)..=source.line_index(span.end);
            broken.iter().any(|line| lines.contains(line))
        };
        let kept = self.found.into_iter().enumerate();
        let kept = kept.filter(|(i, finding)| *i < syntax || !on_broken_line(&finding.place.span));
        let mut seen = HashSet::new();
        let kept = kept.map(|(_, finding)| finding.into_problem(source));
        // What is in `[contrail]` is in several services, and so is what is wrong with it.
        let once = kept.filter(|p| seen.insert((p.line, p.column, p.message.clone())));
        Problems::new(once.collect())
    }
}
