//! The display of untrusted texts and names in a log or on a terminal.

mod unicode;

use std::fmt;
use std::path::Path;

pub(crate) use unicode::is_default_ignorable;

/// The joiner of emoji.
const ZERO_WIDTH_JOINER: char = '\u{200d}';
/// The variation selector that makes the character before it an emoji.
const EMOJI_STYLE: char = '\u{fe0f}';
/// The character that makes a digit with [`EMOJI_STYLE`] a key cap.
const KEY_CAP: char = '\u{20e3}';

/// Displays an untrusted text in a log or on a terminal: escapes the characters that could move the
/// cursor, forge a line, change the direction of writing or hide in a name. All other characters
/// stay unchanged, quotes and spaces included.
///
/// An invisible character is one that Unicode calls default ignorable, such as the soft hyphen, the
/// Hangul fillers, the variation selectors and the tags. The emoji style selector and the
/// zero-width joiner stay unchanged in an emoji sequence; the tags in the flag of a region do not.
///
/// ```
/// # use posthouse_wire::Escaped;
/// assert_eq!(Escaped("\"bye\"\r\n\u{1b}[2J").to_string(), "\"bye\"\\r\\n\\u{1b}[2J");
/// assert_eq!(Escaped("in\u{ad}voice").to_string(), "in\\u{ad}voice");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

/// The character before the next one, as far as it begins an emoji sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// A digit, `#` or `*`, which a key cap can follow.
    Key,
    /// An emoji without a style or a skin tone.
    Emoji,
    /// An emoji with a style or a skin tone.
    StyledEmoji,
    Other,
}

impl fmt::Display for Escaped<&str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;

        let mut before = Before::Other;
        let mut rest = self.0.chars();
        while let Some(c) = rest.next() {
            let is_of_emoji = before.takes(c, rest.clone().next());
            before = before.after(c, is_of_emoji);
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else if is_unsafe(c) && !is_of_emoji {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Escaped<&Path> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bytes that are not UTF-8 are shown as U+FFFD: people read this path, nothing opens it.
        Escaped(&*self.0.to_string_lossy()).fmt(f)
    }
}

/// Returns whether a character is a line separator, a control of bidirectional text, an invisible
/// character or an annotation.
fn is_unsafe(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{fff9}'..='\u{fffb}') || is_default_ignorable(c)
}

impl Before {
    /// Returns whether an invisible character continues an emoji sequence.
    fn takes(self, c: char, next: Option<char>) -> bool {
        match (self, c) {
            (Self::Key, EMOJI_STYLE) => next == Some(KEY_CAP),
            (Self::Emoji, EMOJI_STYLE) => true,
            (Self::Emoji | Self::StyledEmoji, ZERO_WIDTH_JOINER) => {
                next.is_some_and(unicode::is_pictographic)
            }
            _ => false,
        }
    }

    fn after(self, c: char, is_of_emoji: bool) -> Self {
        match c {
            EMOJI_STYLE if is_of_emoji && self == Self::Emoji => Self::StyledEmoji,
            // The skin tones.
            '\u{1f3fb}'..='\u{1f3ff}' if self == Self::Emoji => Self::StyledEmoji,
            '\u{1f3fb}'..='\u{1f3ff}' => Self::Emoji,
            '0'..='9' | '#' | '*' => Self::Key,
            c if unicode::is_pictographic(c) => Self::Emoji,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Escaped(text).to_string()
    }

    #[test]
    fn a_text_cannot_move_the_cursor_or_turn_the_writing_and_the_rest_stays() {
        let shown = shown("a\u{1b}[2J\r\nb\u{202e}c \"ü\" 雪\u{7f}\u{2029}\u{fff9}");
        assert_eq!(shown, "a\\u{1b}[2J\\r\\nb\\u{202e}c \"ü\" 雪\\u{7f}\\u{2029}\\u{fff9}");
        assert_eq!(Escaped(Path::new("x\ty/z")).to_string(), "x\\ty/z");
    }

    #[test]
    fn no_invisible_character_is_shown_as_nothing() {
        let ignorable: Vec<char> =
            ('\0'..=char::MAX).filter(|c| is_default_ignorable(*c)).collect();
        assert_eq!(ignorable.len(), 4174);
        for c in ignorable {
            let escape = c.escape_unicode();
            for text in ["", "a", "1", "雪", "\u{200d}", "\u{fe0f}", "\u{1f3fd}\u{1f3fd}"] {
                let text = format!("{text}{c}");
                assert!(shown(&text).ends_with(&escape.to_string()), "{}", text.escape_unicode());
            }
            // No sequence of emoji has two of them in a row, nor any but these two.
            let twice = format!("\u{2764}{c}{c}b");
            assert!(shown(&twice).ends_with(&format!("{escape}b")), "{escape}");
            let is_kept =
                shown(&format!("\u{2764}{c}\u{1f525}")) == format!("\u{2764}{c}\u{1f525}");
            assert_eq!(is_kept, matches!(c, EMOJI_STYLE | ZERO_WIDTH_JOINER), "{escape}");
        }
    }

    #[test]
    fn emoji_sequences_stay() {
        for text in [
            "\u{2764}\u{fe0f}.txt",
            "\u{2764}\u{fe0f}\u{200d}\u{1f525}",
            "\u{1f469}\u{1f3fd}\u{200d}\u{1f4bb}",
            "\u{1f3f3}\u{fe0f}\u{200d}\u{1f308}",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "1\u{fe0f}\u{20e3}",
            "\u{1f1e9}\u{1f1ea}",
        ] {
            assert_eq!(shown(text), text, "{}", text.escape_unicode());
        }
        // A joiner needs emoji on both sides, and a style follows an emoji at once.
        assert_eq!(shown("\u{1f525}\u{200d}b"), "\u{1f525}\\u{200d}b");
        assert_eq!(shown("\u{1f525}\u{200d}\u{fe0f}"), "\u{1f525}\\u{200d}\\u{fe0f}");
        assert_eq!(shown("\u{1f3f4}\u{e0067}\u{e007f}"), "\u{1f3f4}\\u{e0067}\\u{e007f}");
    }
}
