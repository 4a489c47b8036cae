//! Names and messages of other parties, made safe for a terminal.

use std::fmt;
use std::path::Path;

/// A text from outside: characters that move the cursor or change the direction of writing are
/// escaped, all others are shown as they are, quotes and spaces included.
pub(crate) struct Escaped<T>(pub(crate) T);

impl fmt::Display for Escaped<&str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(f, "{}", c.escape_default()),
            // Line separators and marks of bidirectional text.
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
        // Invalid Unicode is shown as a replacement character: this text is only read.
        Escaped(&*self.0.to_string_lossy()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_the_writing_is_escaped_and_the_rest_stays() {
        let shown = Escaped("a\u{1b}[2J\r\nb\u{202e}c \"ü\" 雪\u{7f}").to_string();
        assert_eq!(shown, "a\\u{1b}[2J\\r\\nb\\u{202e}c \"ü\" 雪\\u{7f}");
        assert_eq!(Escaped(Path::new("x\ty/z")).to_string(), "x\\ty/z");
    }
}
