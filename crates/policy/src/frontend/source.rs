//! Files as text, and places in them.

use std::sync::Arc;

/// A byte range in a file's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One after the last byte.
    pub end: usize,
}

/// A place for people: both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// The value at its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// One file's name and text.
#[derive(Clone, Debug)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// Byte at which each line starts.
    lines: Arc<[usize]>,
    /// Characters before each [`MARK`]th byte: a place in a file of one line is found as fast as any.
    marks: Arc<[usize]>,
}

/// Whether a character shows as nothing and changes how others are shown: control characters,
/// and those that turn the direction of text.
#[must_use]
pub fn is_unseen(character: char) -> bool {
    let is_space = matches!(character, '\n' | '\r' | '\t');
    let turns = matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    (character.is_control() && !is_space) || turns
}

/// Bytes between two marks.
const MARK: usize = 256;

/// Characters that begin in some bytes of a text.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| (**byte as i8) >= -0x40).count()
}

impl Source {
    /// A file. A byte order mark at the start is dropped.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mark = |before: &mut usize, block: &[u8]| {
            let mark = *before;
            *before += characters(block);
            Some(mark)
        };
        let marks = text.as_bytes().chunks(MARK).scan(0, mark).collect();
        Self { name: name.into(), text: text.into(), lines, marks }
    }

    /// The name it was loaded under.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte.
    #[must_use]
    pub fn position(&self, byte: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= byte).max(1);
        let start = self.lines[line - 1];
        let column = self.before(byte.min(self.text.len())).saturating_sub(self.before(start)) + 1;
        Position { line, column }
    }

    /// Characters that begin before a byte.
    fn before(&self, byte: usize) -> usize {
        let mark = (byte / MARK).min(self.marks.len().saturating_sub(1));
        let known = self.marks.get(mark).copied().unwrap_or(0);
        known + characters(&self.text.as_bytes()[mark * MARK..byte])
    }

    /// A line's text without its end, counting from 1; empty beyond the file.
    #[must_use]
    pub fn line(&self, line: usize) -> &str {
        let Some(start) = line.checked_sub(1).and_then(|index| self.lines.get(index)) else { return "" };
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        self.text[*start..end].trim_end_matches(['\n', '\r'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("f", "a\n  é x\r\nlast");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        let x = source.text().find('x').unwrap();
        assert_eq!(source.position(x), Position { line: 2, column: 5 });
        assert_eq!(source.line(2), "  é x");
        assert_eq!(source.line(3), "last");
        assert_eq!(source.line(4), "");
    }

    #[test]
    fn positions_are_the_same_far_into_a_long_line() {
        let text = "é\u{1f600}x".repeat(4000) + "\n" + &"ab".repeat(6000);
        let source = Source::new("f", &text);
        let mut place = Position { line: 1, column: 1 };
        for (at, character) in text.char_indices() {
            assert_eq!(source.position(at), place, "byte {at}");
            place.column += 1;
            if character == '\n' {
                place = Position { line: place.line + 1, column: 1 };
            }
        }
        assert_eq!(source.position(text.len()), place);
        assert_eq!(source.position(text.len() + 9), place);
        assert_eq!(Source::new("f", "").position(0), Position { line: 1, column: 1 });
        assert_eq!(Source::new("f", &"x".repeat(MARK)).position(MARK).column, MARK + 1);
    }

    #[test]
    fn a_byte_order_mark_is_dropped() {
        assert_eq!(Source::new("f", "\u{feff}{}").text(), "{}");
    }
}
