//! What may be a name, and how the system takes it.
//!
//! The calls beneath the documented ones take names as they are: `a:b` makes a stream of `a`, `nul`
//! a file that no other program can remove, `a.` one that none can open. So what Windows gives a
//! meaning is no name here, whoever asks.

use windows_sys::Win32::Foundation::ERROR_INVALID_NAME;

use crate::error::{Error, Failure};

/// Names that Windows takes for devices, with any extension.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
/// Names that it takes for devices where a digit, or one of ¹ ² ³, follows.
const NUMBERED: [&str; 2] = ["COM", "LPT"];

/// A part of a path, as the system takes it.
pub(super) struct WideName(Vec<u16>);

impl WideName {
    /// A name under which something could be; there is nothing under others.
    pub(super) fn to_find(part: &str) -> Result<Self, Error> {
        Self::new(part, Failure::NotFound)
    }

    /// A name under which something could be made; the system would, but we deny it.
    pub(super) fn to_make(part: &str) -> Result<Self, Error> {
        Self::new(part, Failure::Denied)
    }

    fn new(part: &str, failure: Failure) -> Result<Self, Error> {
        if is_name(part) {
            Ok(Self(part.encode_utf16().collect()))
        } else {
            Err(Error { failure, code: ERROR_INVALID_NAME.cast_signed() })
        }
    }

    pub(super) fn as_wide(&self) -> &[u16] {
        &self.0
    }
}

/// Whether Windows gives the part of a path no other meaning.
fn is_name(part: &str) -> bool {
    !part.is_empty()
        && !part.contains(is_forbidden)
        && !part.ends_with(['.', ' '])
        && !is_device(part)
}

fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\' | '/')
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
