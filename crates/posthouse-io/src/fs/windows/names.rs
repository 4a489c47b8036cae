//! Valid names, and their form for the system.
//!
//! The native calls take names literally: `a:b` creates a stream of `a`, `nul` a file that no other
//! program can remove, `a.` a file that no other program can open. So a name with a meaning of its
//! own in Windows is invalid here for every caller.

use windows_sys::Win32::Foundation::ERROR_INVALID_NAME;

use crate::error::{Error, Failure};

/// The names that Windows reserves for devices, with any extension.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
/// The names that it reserves for devices if a digit, or one of ¹ ² ³, follows.
const NUMBERED: [&str; 2] = ["COM", "LPT"];

/// A component of a path in the form of the system.
pub(super) struct WideName(Vec<u16>);

impl WideName {
    /// Returns a name to find. Nothing exists under an invalid name.
    pub(super) fn to_find(part: &str) -> Result<Self, Error> {
        Self::new(part, Failure::NotFound)
    }

    /// Returns a name to create. An invalid name is denied, although the system would create it.
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

/// Returns whether Windows gives this component of a path no meaning of its own.
fn is_name(part: &str) -> bool {
    !part.is_empty()
        && !part.contains(is_forbidden)
        && !part.ends_with(['.', ' '])
        && !is_device(part)
}

fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\' | '/')
}

/// Returns whether Windows takes the name for a device. Only the text before the first dot counts,
/// without trailing spaces.
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
