//! Problems as text, the way rustc prints them. Pure: problems in, text out.
//!
//! A quoted line never breaks the picture: control characters are escaped, tabs become spaces, wide characters count
//! by their width on a terminal, and a very long line is cut on both sides of what it is quoted for.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use crate::error::{Excerpt, Problem, Problems, Severity};

/// Columns of a quoted line; a longer one is cut.
const QUOTE_WIDTH: usize = 120;
/// Columns that stay visible in front of the place when a line is cut there.
const LEAD: usize = 40;
const CUT: &str = "...";

/// Control sequences of a terminal, or nothing.
struct Paint {
    error: &'static str,
    warning: &'static str,
    gutter: &'static str,
    bold: &'static str,
    off: &'static str,
}

const COLORS: Paint = Paint {
    error: "\x1b[1;31m",
    warning: "\x1b[1;33m",
    gutter: "\x1b[1;34m",
    bold: "\x1b[1m",
    off: "\x1b[0m",
};
const PLAIN: Paint = Paint { error: "", warning: "", gutter: "", bold: "", off: "" };

/// All of `problems`, then their number; nothing for none.
pub(crate) fn render(problems: &Problems, color: bool) -> String {
    let paint = if color { &COLORS } else { &PLAIN };
    let mut out = String::new();
    if problems.is_empty() {
        return out;
    }
    for problem in problems.iter() {
        render_problem(&mut out, problem, paint);
        out.push('\n');
    }
    out.push_str(&summary(problems));
    out.push('\n');
    out
}

fn summary(problems: &Problems) -> String {
    let count = |severity, word: &str| match problems.count(severity) {
        0 => None,
        1 => Some(format!("1 {word}")),
        n => Some(format!("{n} {word}s")),
    };
    let parts = [count(Severity::Error, "error"), count(Severity::Warning, "warning")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn render_problem(out: &mut String, problem: &Problem, paint: &Paint) {
    let Paint { gutter, bold, off, .. } = paint;
    let (tint, word) = match problem.severity {
        Severity::Error => (paint.error, "error"),
        Severity::Warning => (paint.warning, "warning"),
    };
    push(out, format_args!("{tint}{word}{off}{bold}: {}{off}\n", printable(&problem.message)));
    let file = printable(&problem.file);
    let last = problem.related.as_ref().map_or(0, |r| r.excerpt.line).max(problem.line);
    let pad = if last == 0 { 0 } else { last.to_string().len() };
    match &problem.excerpt {
        None => push(out, format_args!("{gutter}-->{off} {file}\n")),
        Some(excerpt) => {
            let Excerpt { line, column, .. } = excerpt;
            push(out, format_args!("{:pad$}{gutter}-->{off} {file}:{line}:{column}\n", ""));
            quote(out, excerpt, pad, '^', "", (tint, paint));
        }
    }
    if let Some(related) = &problem.related {
        if related.excerpt.line != problem.line {
            push(out, format_args!("{:pad$}{gutter}:::{off} {file}:{}\n", "", related.excerpt.line));
        }
        quote(out, &related.excerpt, pad, '-', &related.message, (paint.gutter, paint));
    }
    let key = (!problem.key.is_empty()).then_some(&problem.key);
    for (word, text) in
        [("key", key), ("expected", problem.expected.as_ref()), ("help", problem.help.as_ref())]
    {
        if let Some(text) = text {
            push(out, format_args!("{:pad$} {gutter}={off} {bold}{word}{off}: {}\n", "", printable(text)));
        }
    }
}

/// Three lines: an empty one, the quoted line, the carets with `label` behind them.
fn quote(
    out: &mut String,
    excerpt: &Excerpt,
    pad: usize,
    mark: char,
    label: &str,
    (tint, paint): (&str, &Paint),
) {
    let Paint { gutter, off, .. } = paint;
    let (text, before, width) = lay_out(excerpt);
    let marks = String::from(mark).repeat(width);
    let space = if label.is_empty() { "" } else { " " };
    push(out, format_args!("{:pad$} {gutter}|{off}\n", ""));
    push(out, format_args!("{gutter}{:>pad$} |{off} {text}\n", excerpt.line));
    push(
        out,
        format_args!(
            "{:pad$} {gutter}|{off} {:before$}{tint}{marks}{space}{}{off}\n",
            "",
            "",
            printable(label)
        ),
    );
}

/// The line as it is printed, the columns before the place, and the columns that the place takes.
fn lay_out(excerpt: &Excerpt) -> (String, usize, usize) {
    let place = excerpt.column - 1..excerpt.column - 1 + excerpt.width;
    let cells: Vec<(String, usize)> = excerpt.text.chars().map(cell).collect();
    let columns = |cells: &[(String, usize)]| cells.iter().map(|(_, width)| width).sum::<usize>();
    let part = |range: std::ops::Range<usize>| cells.get(range).unwrap_or_default();
    let start = place.start.min(cells.len());
    let mut skipped = 0;
    if columns(&cells) > QUOTE_WIDTH {
        while columns(part(skipped..start)) > LEAD {
            skipped += 1;
        }
    }
    let (mut text, mut used, mut end) = (String::new(), 0, skipped);
    if skipped > 0 {
        text.push_str(CUT);
    }
    for (shown, width) in part(skipped..cells.len()) {
        if used + width > QUOTE_WIDTH {
            break;
        }
        text.push_str(shown);
        used += width;
        end += 1;
    }
    if end < cells.len() {
        text.push_str(CUT);
    }
    let before = columns(part(skipped..start)) + if skipped > 0 { CUT.len() } else { 0 };
    let width = columns(part(start..place.end.min(end).max(start)));
    (text, before, width.max(1))
}

/// A character as it is printed and the columns that takes.
fn cell(c: char) -> (String, usize) {
    match c {
        '\t' => ("    ".to_owned(), 4),
        c if is_hidden(c) => {
            let shown = c.escape_unicode().to_string();
            let width = shown.len();
            (shown, width)
        }
        c => (c.to_string(), c.width().unwrap_or(0)),
    }
}

/// Control characters, and those that change the direction of text: neither may reach a terminal.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` with what must not reach a terminal escaped: messages quote values from the file.
fn printable(text: &str) -> String {
    text.chars().map(|c| cell(c).0).collect()
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = out.write_fmt(text);
}
