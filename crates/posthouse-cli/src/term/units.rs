//! Sizes and times in the forms that people write and read.

use std::fmt;
use std::time::Duration;

/// The units of sizes, each 1024 times the one before.
const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Parses a number of bytes: `4096`, `500M`, `10G`, `1T`. Units are powers of 1024.
///
/// # Errors
///
/// A hint with the accepted forms.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => Some(0),
        "K" | "KIB" => Some(1),
        "M" | "MIB" => Some(2),
        "G" | "GIB" => Some(3),
        "T" | "TIB" => Some(4),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let size = power.zip(number).and_then(|(power, number)| number.checked_mul(1 << (10 * power)));
    size.ok_or_else(|| {
        "write a number of bytes, or one with K, M, G or T (powers of 1024), such as 10G".to_owned()
    })
}

/// Parses a time: `30` or `30s`, `5m`, `2h`. The time may be 0.
///
/// # Errors
///
/// A hint with the accepted forms.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (digits, unit_seconds) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) if text.ends_with('h') => (digits, 3600),
        Some(digits) if text.ends_with('m') => (digits, 60),
        Some(digits) => (digits, 1),
        None => (text, 1),
    };
    let number = digits.parse::<u32>().ok();
    let time = number.map(|number| Duration::from_secs(u64::from(number) * unit_seconds));
    time.ok_or_else(|| "write seconds, or a number with s, m or h, such as 5m".to_owned())
}

/// A number of bytes in the unit that suits it: `517 B`, `12.3 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

impl ByteSize {
    /// Returns the rate per second, if this many bytes took `time`.
    pub(crate) fn per_second(self, time: Duration) -> Self {
        // A time that is too short to be measured would divide by zero.
        Self((self.0 as f64 / time.as_secs_f64().max(1e-6)) as u64)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 0;
        let mut value = self.0 as f64;
        // A value that would be shown as 1024.0 belongs to the next unit.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        match unit {
            0 => write!(f, "{value} B"),
            _ => write!(f, "{value:.1} {}", UNITS[unit]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units_that_are_powers_of_1024() {
        for (text, expected) in [
            ("0", 0),
            ("4096", 4096),
            ("1k", 1024),
            ("500M", 500 << 20),
            ("10G", 10 << 30),
            ("10GiB", 10 << 30),
            ("1T", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "10 G", "10GB", "10X", "18446744073709551615K", "١"] {
            assert!(parse_bytes(text).unwrap_err().contains("powers of 1024"), "{text}");
        }
    }

    #[test]
    fn times_are_read_in_seconds_minutes_and_hours() {
        for (text, seconds) in [("0", 0), ("30", 30), ("30s", 30), ("5m", 300), ("2h", 7200)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1", "1.5", "1d", "99999999999"] {
            assert!(parse_duration(text).unwrap_err().contains("such as 5m"), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_unit_that_suits_them() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (12_900_000, "12.3 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(ByteSize(size).to_string(), text);
        }
        assert_eq!(ByteSize(1 << 20).per_second(Duration::from_millis(500)), ByteSize(2 << 20));
        assert_eq!(ByteSize(0).per_second(Duration::ZERO), ByteSize(0));
    }
}
