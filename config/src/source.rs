//! The text of one configuration file and where in it a byte offset is. Pure; never panics on any offset.

use std::ops::Range;

use crate::error::Excerpt;

/// Characters that are kept of a long line, and how many of them at most are in front of the place.
const QUOTED: usize = 120;
const LEAD: usize = 40;

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

    /// The start of `span` in its line. Of a line that is longer than [`QUOTED`] only the part around it is kept.
    pub(crate) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let Position { line, column } = self.position(span.start);
        let text = self.line(line - 1);
        let length = text.chars().count();
        let wanted = self.text.get(span.clone()).map_or(1, |text| text.chars().count());
        let skipped = if length > QUOTED { (column - 1).saturating_sub(LEAD) } else { 0 };
        Excerpt {
            line,
            column,
            width: wanted.min(length.saturating_sub(column - 1)).max(1),
            text: text.chars().skip(skipped).take(QUOTED).collect(),
            skipped,
            is_cut: length - skipped > QUOTED,
        }
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
        assert_eq!(source.excerpt(&(90..99)).width, 1);
        assert_eq!(source.line(99), "");
    }

    #[test]
    fn a_span_over_several_lines_is_as_wide_as_its_first_line() {
        let source = Source::new("f", "x = [1,\n2]\n");
        assert_eq!(source.excerpt(&(4..10)).width, 3);
        assert_eq!(source.excerpt(&(4..4)).width, 1);
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_kept() {
        let text = format!("{}x{}", "a".repeat(1000), "b".repeat(1000));
        let excerpt = Source::new("f", &text).excerpt(&(1000..1001));
        assert_eq!(excerpt.text, format!("{}x{}", "a".repeat(LEAD), "b".repeat(QUOTED - LEAD - 1)));
        assert_eq!((excerpt.column, excerpt.skipped, excerpt.is_cut), (1001, 1000 - LEAD, true));
    }
}
