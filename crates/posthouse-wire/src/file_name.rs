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
/// Names that it takes for devices where a digit, or one of ¹ ² ³, follows.
const NUMBERED: [&str; 2] = ["COM", "LPT"];
/// Characters of a name that an error shows.
const SHOWN_MAX: usize = 100;

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

/// What is wrong with a name, and with which part of it. What it shows of the name is escaped, and
/// cut where it is long, so it may stand in a log and be told to the peer that said the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNameError {
    fault: Fault,
    /// The part, or the whole name where the fault is not in one part: its beginning.
    of: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    // Of the whole name.
    Empty,
    NotUtf8,
    TooLong,
    Absolute,
    TooManyParts,
    EmptyPart,
    // Of a part.
    Dots,
    PartTooLong,
    Character(char),
    Edge,
    Device,
    Reserved,
}

impl fmt::Display for FileNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self.fault {
            Fault::Empty
            | Fault::NotUtf8
            | Fault::TooLong
            | Fault::Absolute
            | Fault::TooManyParts
            | Fault::EmptyPart => "the file name",
            _ => "a file name's part",
        };
        let of: String = self.of.chars().take(SHOWN_MAX).collect();
        let more = if of.len() < self.of.len() { "..." } else { "" };
        // Debug escapes quotes, controls and everything else that does not print.
        write!(f, "{subject} {of:?}{more} {}", self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::NotUtf8 => f.write_str("is not UTF-8"),
            Self::TooLong => write!(f, "has more than {FILE_NAME_BYTES_MAX} bytes"),
            Self::Absolute => f.write_str("begins with /: names are relative"),
            Self::TooManyParts => write!(f, "has more than {PARTS_MAX} parts"),
            Self::EmptyPart => f.write_str("has an empty part"),
            Self::Dots => f.write_str("leads out of, or nowhere in, the directory"),
            Self::PartTooLong => write!(f, "has more than {PART_BYTES_MAX} bytes"),
            Self::Character(c) => write!(f, "has the character {c:?}, which names may not have"),
            Self::Edge => f.write_str("begins with a space, or ends with a space or a dot"),
            Self::Device => f.write_str("is a device for Windows"),
            Self::Reserved => write!(f, "may mean {RESERVED_PART}, where unfinished files lie"),
        }
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
    /// What of it may not be.
    pub fn parse(name: &str) -> Result<Self, FileNameError> {
        check(name).map_err(|(fault, of)| FileNameError { fault, of: shown(of) })?;
        Ok(Self(name.into()))
    }

    /// Checks a name as it came.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and where it is no UTF-8.
    pub fn from_wire(name: &[u8]) -> Result<Self, FileNameError> {
        let readable = |fault| {
            let start = &name[..name.len().min(FILE_NAME_BYTES_MAX)];
            FileNameError { fault, of: shown(&String::from_utf8_lossy(start)) }
        };
        // First the length, so that no work is done on what is too long anyway.
        if name.len() > FILE_NAME_BYTES_MAX {
            return Err(readable(Fault::TooLong));
        }
        Self::parse(std::str::from_utf8(name).map_err(|_| readable(Fault::NotUtf8))?)
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

/// What an error keeps: one character more than it shows, so that it knows that there are more.
fn shown(of: &str) -> Box<str> {
    let end = of.char_indices().nth(SHOWN_MAX + 1).map_or(of.len(), |(at, _)| at);
    of[..end].into()
}

fn check(name: &str) -> Result<(), (Fault, &str)> {
    if name.is_empty() {
        return Err((Fault::Empty, name));
    }
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err((Fault::TooLong, name));
    }
    if name.starts_with('/') {
        return Err((Fault::Absolute, name));
    }
    if name.split('/').any(str::is_empty) {
        return Err((Fault::EmptyPart, name));
    }
    if name.split('/').count() > PARTS_MAX {
        return Err((Fault::TooManyParts, name));
    }
    for (at, part) in name.split('/').enumerate() {
        check_part(part, at == 0).map_err(|fault| (fault, part))?;
    }
    Ok(())
}

fn check_part(part: &str, is_first: bool) -> Result<(), Fault> {
    if part == "." || part == ".." {
        return Err(Fault::Dots);
    }
    if part.len() > PART_BYTES_MAX {
        return Err(Fault::PartTooLong);
    }
    if let Some(forbidden) = part.chars().find(|c| is_forbidden(*c)) {
        return Err(Fault::Character(forbidden));
    }
    if part.ends_with(['.', ' ']) || part.starts_with(' ') {
        return Err(Fault::Edge);
    }
    if is_device(part) {
        return Err(Fault::Device);
    }
    if is_first && (is_reserved(part) || is_short_name_of_reserved(part)) {
        return Err(Fault::Reserved);
    }
    Ok(())
}

/// What changes how a line reads, what Windows gives a meaning, and what no eye sees.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\')
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
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

/// Whether a file system that knows no case takes the part for [`RESERVED_PART`]. Linux, where a
/// directory is casefolded, also takes the long s for an s, and skips what Unicode calls default
/// ignorable (Documentation/filesystems/ext4, "Case-insensitive file name lookups").
fn is_reserved(part: &str) -> bool {
    let folded = part.chars().filter(|c| !is_ignorable(*c)).map(|c| match c {
        'ſ' => 's',
        c => c.to_ascii_lowercase(),
    });
    folded.eq(RESERVED_PART.chars())
}

/// Unicode's default ignorable characters, those left out that no name may have.
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}')
        || matches!(c, '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether it looks like the second, short name that Windows may give [`RESERVED_PART`]: it opens
/// the same directory. The dot goes, then up to six letters stay, `POSTHO~1`, or after a few
/// collisions two of them and a hash, `PO1A2B~1`.
fn is_short_name_of_reserved(part: &str) -> bool {
    let Some((stem, number)) = part.split_once('~') else { return false };
    part.len() <= 8
        && stem.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("po"))
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is wrong with a name, and with which part.
    fn fault(name: &str) -> (Fault, String) {
        let error = FileName::parse(name).expect_err(name);
        assert_eq!(FileName::from_wire(name.as_bytes()), Err(error.clone()));
        (error.fault, error.of.into())
    }

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        let longest = "a".repeat(PART_BYTES_MAX);
        let deepest = vec!["d"; PARTS_MAX].join("/");
        let whole = format!("{}{}", format!("{}/", "p".repeat(127)).repeat(7), "p".repeat(128));
        assert_eq!(whole.len(), FILE_NAME_BYTES_MAX);
        for name in [
            "a",
            "a.b",
            ".hidden",
            "...a",
            "dir/.hidden/c",
            "größe/日本.txt",
            "❤\u{fe0f}",
            "a b",
            "a~1",
            "po~",
            "po~1a",
            "posthouse",
            "post~1000",
            "console",
            "conin",
            "COM",
            "COM10",
            "COM1st",
            "comb.txt",
            "com\u{2074}",
            "x.posthouse",
            ".posthouse2",
            ".posthouse.txt",
            "a/.posthouse",
            "a/POSTHO~1",
            "-rf",
            "~",
            "#",
            "a'b",
            &longest,
            &deepest,
            &whole,
        ] {
            assert_eq!(FileName::parse(name).expect(name).as_str(), name);
            assert_eq!(FileName::from_wire(name.as_bytes()).expect(name).to_string(), name);
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for (name, expected, of) in [
            ("", Fault::Empty, ""),
            ("/", Fault::Absolute, "/"),
            ("/a", Fault::Absolute, "/a"),
            ("//host/a", Fault::Absolute, "//host/a"),
            ("a/", Fault::EmptyPart, "a/"),
            ("a//b", Fault::EmptyPart, "a//b"),
            (".", Fault::Dots, "."),
            ("..", Fault::Dots, ".."),
            ("../a", Fault::Dots, ".."),
            ("a/..", Fault::Dots, ".."),
            ("a/./b", Fault::Dots, "."),
            ("...", Fault::Edge, "..."),
            ("C:", Fault::Character(':'), "C:"),
            ("C:/a", Fault::Character(':'), "C:"),
            ("d/file:stream", Fault::Character(':'), "file:stream"),
            ("a\\b", Fault::Character('\\'), "a\\b"),
            ("\\\\host\\share", Fault::Character('\\'), "\\\\host\\share"),
        ] {
            assert_eq!(fault(name), (expected, of.to_owned()), "{name:?}");
        }
        let many = vec!["d"; PARTS_MAX + 1].join("/");
        assert_eq!(fault(&many).0, Fault::TooManyParts);
        let long = format!("d/{}", "a".repeat(PART_BYTES_MAX + 1));
        assert_eq!(fault(&long).0, Fault::PartTooLong);
        // Bytes count, not characters.
        assert_eq!(fault(&"ä".repeat(128)).0, Fault::PartTooLong);
        let long = format!("{}a", "dir/".repeat(256));
        assert_eq!(fault(&long).0, Fault::TooLong);
    }

    #[test]
    fn every_character_that_deceives_or_means_something_is_refused_everywhere_in_a_name() {
        let ranges = [
            '\0'..='\u{1f}',
            '\u{7f}'..='\u{9f}',
            '\u{61c}'..='\u{61c}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{feff}'..='\u{feff}',
        ];
        for c in ranges.into_iter().flatten().chain("<>:\"|?*\\".chars()) {
            for part in [format!("{c}ab"), format!("a{c}b"), format!("ab{c}")] {
                let name = format!("d/{part}/e");
                assert_eq!(fault(&name), (Fault::Character(c), part), "{name:?}");
            }
        }
    }

    #[test]
    fn what_windows_would_strip_or_take_for_a_device_is_refused() {
        for part in ["a.", "a ", "a. ", " a", ".a.", "a .", "..."] {
            assert_eq!(fault(&format!("d/{part}")), (Fault::Edge, part.to_owned()));
        }
        let numbered = ["COM", "LPT"].into_iter().flat_map(|name| {
            let numbers = ('0'..='9').chain("¹²³".chars());
            numbers.map(move |number| format!("{name}{number}"))
        });
        let named = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].map(str::to_owned);
        for device in numbered.chain(named) {
            let mixed = device[..1].to_lowercase() + &device[1..];
            for part in [
                device.clone(),
                device.to_lowercase(),
                mixed,
                format!("{device}.txt"),
                format!("{device}.tar.gz"),
                format!("{device} .txt"),
                format!("{device}  ..x"),
            ] {
                assert_eq!(fault(&format!("d/{part}")), (Fault::Device, part.clone()));
                assert_eq!(fault(&format!("{part}/d")).0, Fault::Device);
            }
        }
    }

    #[test]
    fn nobody_names_the_place_of_unfinished_files_however_it_is_written() {
        for first in [
            ".posthouse",
            ".Posthouse",
            ".POSTHOUSE",
            ".poſthouSe",
            ".post\u{ad}house",
            "\u{fe0f}.posthouse",
            ".posthouse\u{e0020}",
            "POSTHO~1",
            "postho~2",
            "PosTh~10",
            "po1a2b~9",
            "PO~1",
        ] {
            assert_eq!(fault(first).0, Fault::Reserved, "{first:?}");
            assert_eq!(fault(&format!("{first}/a")), (Fault::Reserved, first.to_owned()));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_and_long_ones_before_they_are_read() {
        for bytes in [&b"a\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"a/\xe2\x80"] {
            assert_eq!(FileName::from_wire(bytes).unwrap_err().fault, Fault::NotUtf8);
        }
        let error = FileName::from_wire(&vec![0xff; 1 << 20]).unwrap_err();
        assert_eq!(error.fault, Fault::TooLong);
        assert!(error.of.len() <= 4 * (SHOWN_MAX + 1));
    }

    #[test]
    fn an_error_names_the_part_and_cannot_forge_a_line() {
        let text = |name: &str| FileName::parse(name).unwrap_err().to_string();
        assert_eq!(text("dir/nul.txt"), "a file name's part \"nul.txt\" is a device for Windows");
        assert_eq!(text("/a"), "the file name \"/a\" begins with /: names are relative");
        let expected = "a file name's part \"b\\u{202e}\\n\\u{1b}[2J\\\"\" has the character \
                        '\\u{202e}', which names may not have";
        assert_eq!(text("a/b\u{202e}\n\u{1b}[2J\""), expected);
        for c in '\0'..='\u{ffff}' {
            let text = text(&format!("a{c}b?"));
            let plain = |c: char| c.is_ascii_graphic() || c == ' ' || !is_forbidden(c);
            assert!(text.chars().all(plain), "{c:?} in {text:?}");
        }
        assert!(text(&"x".repeat(300)).contains(&format!("{}\"...", "x".repeat(SHOWN_MAX))));
        assert!(text(&"\u{e0001}".repeat(300)).len() < 20 * SHOWN_MAX);
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

    /// Bytes of text that come close to every rule, more often than random ones would.
    fn piece() -> impl Strategy<Value = String> {
        let words = [
            "a",
            "b",
            ".",
            "..",
            "/",
            " ",
            ":",
            "\\",
            "?",
            "\n",
            "\0",
            "\u{202e}",
            "\u{feff}",
            "\u{85}",
            "con",
            "NUL",
            "com",
            "1",
            "³",
            "$",
            ".posthouse",
            "ſ",
            "\u{ad}",
            "po",
            "~1",
        ];
        prop_oneof![
            8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
            1 => (1_usize..300).prop_map(|len| "x".repeat(len)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// The rules again, said in another way.
        #[test]
        fn what_is_taken_has_nothing_in_it_that_is_forbidden(
            pieces in prop::collection::vec(piece(), 0..10),
        ) {
            let name = pieces.concat();
            let Ok(taken) = FileName::from_wire(name.as_bytes()) else { return Ok(()) };
            prop_assert_eq!(taken.as_str(), &name);
            prop_assert!((1..=1024).contains(&name.len()));
            let forbidden = "<>:\"|?*\\\u{61c}\u{200e}\u{200f}\u{2066}\u{2069}\u{feff}\u{2028}";
            for c in name.chars() {
                prop_assert!(!forbidden.contains(c) && u32::from(c) >= 0x20);
                prop_assert!(!(0x7f..0xa0).contains(&u32::from(c)));
                prop_assert!(!(0x202a..=0x202e).contains(&u32::from(c)));
            }
            let parts: Vec<&str> = name.split('/').collect();
            prop_assert!(parts.len() <= 32);
            for part in &parts {
                prop_assert!((1..=255).contains(&part.len()));
                prop_assert!(!part.starts_with(' ') && !part.ends_with([' ', '.']));
                let lower = part.to_lowercase();
                let stem = lower.split('.').next().unwrap().trim_end();
                prop_assert!(!["con", "nul", "com1", "com³"].contains(&stem));
            }
            let first = parts[0].to_lowercase().replace('ſ', "s").replace('\u{ad}', "");
            prop_assert!(first != ".posthouse" && first != "po~1");
        }

        #[test]
        fn no_bytes_make_it_panic_and_no_error_is_more_than_a_line(
            bytes in prop::collection::vec(any::<u8>(), 0..1100),
        ) {
            if let Err(error) = FileName::from_wire(&bytes) {
                let text = error.to_string();
                let one_line = !text.contains(|c: char| c.is_control());
                prop_assert!(one_line && text.len() < 2000);
            }
        }
    }
}
