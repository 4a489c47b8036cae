//! The display of untrusted texts and names in a log or on a terminal.

use std::fmt;
use std::path::Path;

/// Displays an untrusted text in a log or on a terminal: escapes the characters that could move the
/// cursor, forge a line or change the direction of writing. All other characters stay unchanged,
/// quotes and spaces included.
///
/// ```
/// # use posthouse_wire::Escaped;
/// assert_eq!(Escaped("\"bye\"\r\n\u{1b}[2J").to_string(), "\"bye\"\\r\\n\\u{1b}[2J");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl fmt::Display for Escaped<&str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(f, "{}", c.escape_default()),
            // Line separators, and the marks, embeddings, overrides and isolates of bidirectional
            // text.
            '\u{061c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => write!(f, "{}", c.escape_unicode()),
            c => write!(f, "{c}"),
        })
    }
}

impl fmt::Display for Escaped<&Path> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bytes that are not UTF-8 are shown as U+FFFD: people read this path, nothing opens it.
        Escaped(&*self.0.to_string_lossy()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_move_the_cursor_or_turn_the_writing_and_the_rest_stays() {
        let shown = Escaped("a\u{1b}[2J\r\nb\u{202e}c \"ü\" 雪\u{7f}").to_string();
        assert_eq!(shown, "a\\u{1b}[2J\\r\\nb\\u{202e}c \"ü\" 雪\\u{7f}");
        assert_eq!(Escaped(Path::new("x\ty/z")).to_string(), "x\\ty/z");
    }
}
