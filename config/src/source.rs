//! The text of one configuration file and where in it a byte offset is. Pure; never panics on any offset.

use std::ops::Range;

/// A file's name and text, with the byte offset at which each line starts.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    starts: Vec<usize>,
}

/// A position as people count: line and column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { file, text, starts }
    }

    /// The line, counted from 0, that holds `offset`; the last one for an offset past the end.
    pub(crate) fn line_index(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// The text of a line counted from 0, without its line ending.
    pub(crate) fn line(&self, index: usize) -> &'a str {
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        let line = self.text.get(start..end).unwrap_or_default();
        line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l))
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        let index = self.line_index(offset);
        let start = self.starts.get(index).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_else(|| self.line(index));
        Position { line: index + 1, column: before.chars().count() + 1 }
    }

    /// How many characters of `span` are on its first line; at least one, so that there is a caret to draw.
    pub(crate) fn width(&self, span: &Range<usize>) -> usize {
        let Position { line, column } = self.position(span.start);
        let rest = self.line(line - 1).chars().count().saturating_sub(column - 1);
        let wanted = self.text.get(span.clone()).map_or(1, |text| text.chars().count());
        wanted.min(rest).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines_and_columns_counted_from_one_in_characters() {
        let source = Source::new("f", "a\r\nöö = 1\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(5), Position { line: 2, column: 2 });
        assert_eq!(source.line(0), "a");
        assert_eq!(source.line(1), "öö = 1");
    }

    #[test]
    fn an_offset_past_the_end_or_inside_a_character_is_clamped() {
        let source = Source::new("f", "ab\nö");
        assert_eq!(source.position(4).line, 2);
        assert_eq!(source.position(99).line, 2);
        assert_eq!(source.width(&(90..99)), 1);
        assert_eq!(source.line(99), "");
    }

    #[test]
    fn a_span_over_several_lines_is_as_wide_as_its_first_line() {
        let source = Source::new("f", "x = [1,\n2]\n");
        assert_eq!(source.width(&(4..10)), 3);
        assert_eq!(source.width(&(4..4)), 1);
    }
}
