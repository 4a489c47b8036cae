//! Names of files as peers say them: checked, never repaired, on every system alike.

use std::fmt;

/// Bytes of a name in all.
pub const FILE_NAME_BYTES_MAX: usize = 1024;
/// Bytes of one part; file systems take no more.
const PART_BYTES_MAX: usize = 255;
/// Parts of a name.
const PARTS_MAX: usize = 32;
/// Where Posthouse keeps what has not arrived whole: nobody's name.
const RESERVED_PART: &str = ".posthouse";
/// Names that Windows takes for devices, with any extension.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
/// Names that it takes for devices where a digit, or one of these, follows.
const NUMBERED: [&str; 2] = ["COM", "LPT"];

/// The name of a file that one peer sends another: a relative path with `/` between its parts that
/// every system can hold and none takes for something else.
///
/// ```
/// use posthouse_wire::FileName;
/// assert!(FileName::parse("reports/today.csv").is_ok());
/// for name in ["../up", "/etc/passwd", "C:a", "nul.txt", "a\\b", "dot."] {
///     assert!(FileName::parse(name).is_err());
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Box<str>);

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNameError {
    name: Box<str>,
    why: &'static str,
}

impl fmt::Display for FileNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" {}", self.name, self.why)
    }
}

impl std::error::Error for FileNameError {}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FileName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// What of it may not be; the name is shown escaped, and cut where it is long.
    pub fn parse(name: &str) -> Result<Self, FileNameError> {
        check(name).map_err(|why| FileNameError { name: shown(name), why })?;
        Ok(Self(name.into()))
    }

    /// Checks a name as it came.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and where it is no UTF-8.
    pub fn from_wire(name: &[u8]) -> Result<Self, FileNameError> {
        let Ok(text) = std::str::from_utf8(name) else {
            let name = shown(&String::from_utf8_lossy(name));
            return Err(FileNameError { name, why: "is not UTF-8" });
        };
        Self::parse(text)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of the part in which a receiver keeps what has come of a file: the same for the same
/// name, size and time, another for every other.
pub fn part_name(name: &FileName, size: u64, modified_ms: Option<i64>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    hasher.update(&modified_ms.unwrap_or(i64::MIN).to_le_bytes());
    hasher.update(name.as_str().as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

fn shown(name: &str) -> Box<str> {
    let cut = name.chars().take(100);
    let mut shown: String = cut.flat_map(|c| escaped(c).collect::<Vec<char>>()).collect();
    if name.chars().nth(100).is_some() {
        shown.push_str("...");
    }
    shown.into()
}

fn escaped(c: char) -> Box<dyn Iterator<Item = char>> {
    if is_forbidden(c) && !c.is_ascii_graphic() {
        Box::new(c.escape_unicode())
    } else {
        Box::new(std::iter::once(c))
    }
}

fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err("has more than 1024 bytes");
    }
    if name.starts_with('/') {
        return Err("begins with /: names are relative");
    }
    if name.chars().any(is_forbidden) {
        return Err(
            "has a character that a name may not have: a control or direction mark, or one of \
             < > : \" | ? * \\",
        );
    }
    if name.split('/').count() > PARTS_MAX {
        return Err("has more than 32 parts");
    }
    if name.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(RESERVED_PART)) {
        return Err("begins with .posthouse, where unfinished files are kept");
    }
    name.split('/').try_for_each(check_part)
}

fn check_part(part: &str) -> Result<(), &'static str> {
    match part {
        "" => return Err("has an empty part"),
        "." | ".." => return Err("has a part . or .."),
        _ => {}
    }
    if part.len() > PART_BYTES_MAX {
        return Err("has a part of more than 255 bytes");
    }
    if part.ends_with(['.', ' ']) || part.starts_with(' ') {
        return Err("has a part that begins with a space or ends with a space or a dot");
    }
    if is_device(part) {
        return Err("has a part that Windows takes for a device");
    }
    Ok(())
}

/// What changes how a line reads, what Windows gives a meaning, and what no eye sees.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\')
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Windows looks at what comes before the first dot, without spaces behind it.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end_matches(' ');
    if DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device)) {
        return true;
    }
    let Some((name, number)) = stem.split_at_checked(3) else { return false };
    let numbered = matches!(
        number,
        "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
    );
    numbered && NUMBERED.iter().any(|device| name.eq_ignore_ascii_case(device))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        let longest = "a".repeat(PART_BYTES_MAX);
        let deepest = vec!["d"; PARTS_MAX].join("/");
        for name in [
            "a",
            "a.b",
            ".hidden",
            "dir/.hidden/c",
            "größe/日本.txt",
            "a b",
            "console",
            "COM",
            "COM10",
            "comb.txt",
            "x.posthouse",
            "a/.posthouse",
            "-rf",
            "~",
            "#",
            "a'b",
            &longest,
            &deepest,
        ] {
            assert_eq!(FileName::parse(name).expect(name).as_str(), name);
            assert!(FileName::from_wire(name.as_bytes()).is_ok());
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_mean_something_are_refused() {
        for name in [
            "",
            "/",
            "/a",
            "//a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/./b",
            "C:",
            "C:a",
            "C:/a",
            "a\\b",
            "\\\\host\\share",
            "file:stream",
            "a<b",
            "a>b",
            "a\"b",
            "a|b",
            "a?b",
            "a*b",
            "a\0b",
            "a\nb",
            "a\x7fb",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{2066}b",
            "a\u{61c}b",
            "\u{feff}a",
            "a\u{2028}b",
            "a.",
            "a ",
            " a",
            "dir./a",
            "CON",
            "con",
            "NUL.txt",
            "aux.tar.gz",
            "d/PRN",
            "COM1",
            "lpt9.log",
            "com\u{b2}",
            "CONIN$",
            "conout$.x",
            "con .txt",
            ".posthouse",
            ".Posthouse/a",
            ".POSTHOUSE/x",
        ] {
            assert!(FileName::parse(name).is_err(), "{name:?}");
        }
        assert!(FileName::parse(&"a".repeat(PART_BYTES_MAX + 1)).is_err());
        assert!(FileName::parse(&vec!["d"; PARTS_MAX + 1].join("/")).is_err());
        assert!(FileName::parse(&vec!["a".repeat(200); 6].join("/")).is_err());
        assert!(FileName::from_wire(b"a\xff").is_err());
    }

    #[test]
    fn an_error_cannot_forge_a_line_and_is_short() {
        let text = FileName::parse("a\nb\u{202e}\u{1b}[2J").unwrap_err().to_string();
        assert!(text.starts_with("\"a\\u{a}b\\u{202e}\\u{1b}[2J\""), "{text}");
        let text = FileName::parse(&"x".repeat(5000)).unwrap_err().to_string();
        assert!(text.len() < 200, "{text}");
    }

    #[test]
    fn a_part_has_a_name_of_its_own_for_every_file() {
        let name = |name: &str| FileName::parse(name).unwrap();
        let first = part_name(&name("a"), 1, Some(2));
        assert_eq!(first, part_name(&name("a"), 1, Some(2)));
        assert!(first.len() == 32 && first.bytes().all(|b| b.is_ascii_hexdigit()));
        for other in [
            part_name(&name("b"), 1, Some(2)),
            part_name(&name("a"), 2, Some(2)),
            part_name(&name("a"), 1, Some(3)),
            part_name(&name("a"), 1, None),
        ] {
            assert_ne!(first, other);
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_has_nothing_in_it_that_is_forbidden(
            name in "([a-c./: \\\\\u{202e}\n]|CON|NUL|\\.posthouse){0,12}",
        ) {
            if let Ok(taken) = FileName::parse(&name) {
                let text = taken.as_str();
                prop_assert_eq!(text, &name);
                let clean = !text.contains(['\\', ':', '\n', '\u{202e}']);
                prop_assert!(clean && !text.starts_with('/') && !text.ends_with('/'));
                for part in text.split('/') {
                    prop_assert!(!part.is_empty() && !part.ends_with('.') && part.trim() == part);
                    prop_assert!(part != ".." && !part.eq_ignore_ascii_case("con"));
                }
                prop_assert!(!text.starts_with(".posthouse/"));
            }
        }
    }
}
