//! Problems as text, the way rustc prints them. Pure: problems in, text out.
//!
//! A quoted line never breaks the picture: control characters are escaped, tabs become spaces, wide characters count
//! by their width on a terminal, and where a long line was cut it says so.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use crate::error::{Excerpt, Problem, Problems, Severity};

/// Stands for the rest of a long line.
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
            let Excerpt { line, column, .. } = related.excerpt;
            push(out, format_args!("{:pad$}{gutter}:::{off} {file}:{line}:{column}\n", ""));
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
    let cells: Vec<(String, usize)> = excerpt.text.chars().map(cell).collect();
    let columns = |range: std::ops::Range<usize>| {
        cells.get(range).unwrap_or_default().iter().map(|(_, width)| width).sum::<usize>()
    };
    let start = (excerpt.column - 1).saturating_sub(excerpt.skipped).min(cells.len());
    let end = (start + excerpt.width).min(cells.len());
    let (front, back) = (if excerpt.skipped > 0 { CUT } else { "" }, if excerpt.is_cut { CUT } else { "" });
    let text: String = cells.iter().map(|(shown, _)| shown.as_str()).collect();
    (format!("{front}{text}{back}"), front.len() + columns(0..start), columns(start..end).max(1))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Finding, Findings, Place};
    use crate::source::Source;

    /// The quoted line and the line of carets below it, for the first place where `what` is in `text`.
    fn quote_of(text: &str, what: &str) -> (String, String) {
        let start = text.find(what).unwrap();
        let place = Place { span: start..start + what.len(), key: String::new() };
        let mut findings = Findings::default();
        findings.push(Finding::error(&place, "wrong"));
        let rendered = findings.into_problems(&Source::new("f", text), 0).render(false);
        let lines: Vec<&str> = rendered.lines().collect();
        (lines[3].to_owned(), lines[4].to_owned())
    }

    #[test]
    fn a_tab_before_the_place_moves_the_carets_with_it() {
        assert_eq!(quote_of("\tx = bad", "bad"), ("1 |     x = bad".into(), "  |         ^^^".into()));
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(
            quote_of("\"日本\" = bad", "bad"),
            ("1 | \"日本\" = bad".into(), "  |          ^^^".into())
        );
        assert_eq!(quote_of("x = \"日本\"", "\"日本\"").1, "  |     ^^^^^^");
    }

    #[test]
    fn control_characters_and_changes_of_direction_are_escaped() {
        let (line, carets) = quote_of("x\u{1b}[31m\u{202e} = bad", "bad");
        assert_eq!(line, "1 | x\\u{1b}[31m\\u{202e} = bad");
        assert_eq!(carets.find('^'), line.find("bad"));
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides_of_the_place() {
        let text = format!("x = [{}bad{}]", "1, ".repeat(500), ", 1".repeat(500));
        let (line, carets) = quote_of(&text, "bad");
        assert!(line.starts_with("1 | ...") && line.ends_with("..."), "{line}");
        assert!(line.len() < 140, "{line}");
        assert_eq!(carets.find('^'), line.find("bad"));
    }

    #[test]
    fn nothing_is_rendered_for_no_problem() {
        assert_eq!(Problems::default().render(true), "");
    }
}
