//! The names of files that peers send: checked in the same way on every system, never repaired.

use std::fmt;

use crate::escaped::{Escaped, is_default_ignorable};

/// The maximum length of a name in bytes.
pub const MAX_FILE_NAME_BYTES: usize = 1024;
/// The maximum length of a component in bytes, which is the limit of file systems.
const MAX_COMPONENT_BYTES: usize = 255;
/// The maximum number of components of a name.
const MAX_COMPONENTS: usize = 32;
/// The directory of an inbox that holds the incomplete files. No file of a peer may be in it.
pub const PARTS_DIRECTORY: &str = ".posthouse";
/// The names that Windows treats as devices, with any extension.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
/// The names that Windows treats as devices if a digit, or one of ¹ ² ³, follows.
const NUMBERED: [&str; 2] = ["COM", "LPT"];
/// The maximum number of characters of a name that an error shows.
const MAX_SHOWN_CHARS: usize = 100;

/// The name of a file that one peer sends to another: a relative path with `/` between its
/// components. It has at most [`MAX_FILE_NAME_BYTES`] bytes and 32 components, and each component
/// has at most 255 bytes. Every system can store such a name, and none gives it a special meaning.
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

/// The error of an invalid name. It shows the component, or the name, escaped and cut to a length,
/// so it may stand in a log and be sent to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNameError {
    fault: NameFault,
    /// The start of the component, or of the whole name if the fault is not in one component.
    of: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameFault {
    // Faults of the whole name.
    Empty,
    NotUtf8,
    TooLong,
    Absolute,
    TooManyComponents,
    EmptyComponent,
    // Faults of a component.
    Dots,
    ComponentTooLong,
    Character(char),
    Edge,
    Device,
    Reserved,
}

/// Displays a value in quotes. Its `Debug` escapes quotes and most invisible characters, and
/// [`Escaped`] the others.
struct Quoted<T>(T);

impl<T: fmt::Debug> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&*format!("{:?}", self.0)).fmt(f)
    }
}

impl fmt::Display for FileNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self.fault {
            NameFault::Empty
            | NameFault::NotUtf8
            | NameFault::TooLong
            | NameFault::Absolute
            | NameFault::TooManyComponents
            | NameFault::EmptyComponent => "the file name",
            _ => "the file name component",
        };
        let of: String = self.of.chars().take(MAX_SHOWN_CHARS).collect();
        let more = if of.len() < self.of.len() { "..." } else { "" };
        write!(f, "{subject} {}{more} {}", Quoted(&of), self.fault)
    }
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::NotUtf8 => f.write_str("is not UTF-8; rename the file"),
            Self::TooLong => write!(f, "is longer than {MAX_FILE_NAME_BYTES} bytes; shorten it"),
            Self::Absolute => f.write_str("begins with /; use a relative name"),
            Self::TooManyComponents => {
                write!(f, "has more than {MAX_COMPONENTS} components; use fewer directories")
            }
            Self::EmptyComponent => {
                f.write_str("has an empty component; remove the extra or trailing /")
            }
            Self::Dots => f.write_str("is not allowed; use a name without . and .. components"),
            Self::ComponentTooLong => {
                write!(f, "is longer than {MAX_COMPONENT_BYTES} bytes; shorten it")
            }
            Self::Character(c) => {
                let character = Quoted(c);
                write!(
                    f,
                    "contains the character {character}, which is not allowed; rename the file"
                )
            }
            Self::Edge => {
                f.write_str("begins with a space, or ends with a space or a dot; rename the file")
            }
            Self::Device => f.write_str("is the name of a device on Windows; rename the file"),
            Self::Reserved => write!(
                f,
                "is reserved: it can open {PARTS_DIRECTORY}, the directory of incomplete files; \
                 rename the file"
            ),
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
    /// Fails if the name is invalid. The error says which rule the name breaks.
    pub fn parse(name: &str) -> Result<Self, FileNameError> {
        check(name).map_err(|(fault, of)| FileNameError { fault, of: shown(of) })?;
        Ok(Self(name.into()))
    }

    /// Checks a name as a peer sent it.
    ///
    /// # Errors
    ///
    /// Fails as [`parse`](Self::parse) does, and if the name is not UTF-8.
    pub fn from_wire(name: &[u8]) -> Result<Self, FileNameError> {
        let readable = |fault| {
            let start = &name[..name.len().min(MAX_FILE_NAME_BYTES)];
            FileNameError { fault, of: shown(&String::from_utf8_lossy(start)) }
        };
        // The length first, so that a name that is too long costs no other check.
        if name.len() > MAX_FILE_NAME_BYTES {
            return Err(readable(NameFault::TooLong));
        }
        Self::parse(std::str::from_utf8(name).map_err(|_| readable(NameFault::NotUtf8))?)
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the part of a name that an error keeps: one character more than it shows, so that it can
/// tell whether the name is longer.
fn shown(of: &str) -> Box<str> {
    let end = of.char_indices().nth(MAX_SHOWN_CHARS + 1).map_or(of.len(), |(at, _)| at);
    of[..end].into()
}

fn check(name: &str) -> Result<(), (NameFault, &str)> {
    if name.is_empty() {
        return Err((NameFault::Empty, name));
    }
    if name.len() > MAX_FILE_NAME_BYTES {
        return Err((NameFault::TooLong, name));
    }
    if name.starts_with('/') {
        return Err((NameFault::Absolute, name));
    }
    if name.split('/').any(str::is_empty) {
        return Err((NameFault::EmptyComponent, name));
    }
    if name.split('/').count() > MAX_COMPONENTS {
        return Err((NameFault::TooManyComponents, name));
    }
    for (at, component) in name.split('/').enumerate() {
        check_component(component, at == 0).map_err(|fault| (fault, component))?;
    }
    Ok(())
}

fn check_component(component: &str, is_first: bool) -> Result<(), NameFault> {
    if component == "." || component == ".." {
        return Err(NameFault::Dots);
    }
    if component.len() > MAX_COMPONENT_BYTES {
        return Err(NameFault::ComponentTooLong);
    }
    if let Some(forbidden) = component.chars().find(|c| is_forbidden(*c)) {
        return Err(NameFault::Character(forbidden));
    }
    if component.ends_with(['.', ' ']) || component.starts_with(' ') {
        return Err(NameFault::Edge);
    }
    if is_device(component) {
        return Err(NameFault::Device);
    }
    if is_first && (is_reserved(component) || is_short_name_of_reserved(component)) {
        return Err(NameFault::Reserved);
    }
    Ok(())
}

/// Returns whether a character may not be in a name: it changes how a line of text is displayed, it
/// has a meaning for Windows, or it is invisible.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\')
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns whether Windows treats the component as a device. It compares the part before the first
/// dot, without trailing spaces.
fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().trim_end_matches(' ');
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

/// Returns whether a case-insensitive file system treats the component as [`PARTS_DIRECTORY`].
/// Linux, if the directory is casefolded, also treats the long s as an s, and skips the characters
/// that Unicode calls default ignorable (Documentation/filesystems/ext4, "Case-insensitive file
/// name lookups").
fn is_reserved(component: &str) -> bool {
    let folded = component.chars().filter(|c| !is_default_ignorable(*c)).map(|c| match c {
        'ſ' => 's',
        c => c.to_ascii_lowercase(),
    });
    folded.eq(PARTS_DIRECTORY.chars())
}

/// Returns whether the component looks like the second, short name that Windows may give
/// [`PARTS_DIRECTORY`], which opens the same directory. Windows removes the dot and keeps up to six
/// letters, `POSTHO~1`, or after a few collisions two of them and a hash, `PO1A2B~1`.
fn is_short_name_of_reserved(component: &str) -> bool {
    let Some((stem, number)) = component.split_once('~') else { return false };
    component.len() <= 8
        && stem.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("po"))
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
