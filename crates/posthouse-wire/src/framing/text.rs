//! The text form of framings, for options and command lines.

use std::fmt;
use std::str::FromStr;

use super::{Delimiter, Endian, Framing, FramingError, LengthField};

const LENGTH_EXAMPLE: &str = "length:offset=0,width=4,endian=big,adjust=0,strip=4";

impl FromStr for Framing {
    type Err = FramingError;

    fn from_str(text: &str) -> Result<Self, FramingError> {
        match text.split_once(':') {
            None if text == "native" => Ok(Self::Native),
            None if text == "lines" => Ok(Self::Lines),
            None if text == "raw" => Ok(Self::Raw),
            None if text == "length" => Ok(Self::Length(LengthField::default())),
            Some(("length", parts)) => length_field(text, parts).map(Self::Length),
            Some(("delimiter", escaped)) => {
                Delimiter::new(&unescape(text, escaped)?).map(Self::Delimiter)
            }
            _ => Err(FramingError(format!(
                "{text:?} is not a framing; write native, lines, raw, delimiter:TEXT (for example \
                 delimiter:\\r\\n) or {LENGTH_EXAMPLE}"
            ))),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("native"),
            Self::Lines => f.write_str("lines"),
            Self::Raw => f.write_str("raw"),
            Self::Delimiter(delimiter) => {
                f.write_str("delimiter:")?;
                delimiter.bytes().iter().try_for_each(|byte| escape(*byte, f))
            }
            Self::Length(field) => write!(
                f,
                "length:offset={},width={},endian={},adjust={},strip={}",
                field.offset(),
                field.width(),
                match field.endian() {
                    Endian::Big => "big",
                    Endian::Little => "little",
                },
                field.adjust(),
                field.strip()
            ),
        }
    }
}

fn length_field(text: &str, parts: &str) -> Result<LengthField, FramingError> {
    let mut offset = 0_u8;
    let mut width = 4_u8;
    let mut endian = Endian::Big;
    let mut adjust = 0_i32;
    let mut strip = None;
    for part in parts.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = |what: String| {
            FramingError(format!("in {text:?}, at {part:?}: {what}; write {LENGTH_EXAMPLE}"))
        };
        let (name, value) =
            part.split_once('=').ok_or_else(|| wrong("each part must be NAME=VALUE".into()))?;
        match name {
            "offset" => {
                offset =
                    value.parse().map_err(|_| wrong("offset must be a number, 0 to 255".into()))?;
            }
            "width" => {
                width = value.parse().map_err(|_| wrong("width must be 1, 2, 3, 4 or 8".into()))?;
            }
            "endian" => {
                endian = match value {
                    "big" => Endian::Big,
                    "little" => Endian::Little,
                    _ => return Err(wrong("endian must be big or little".into())),
                };
            }
            "adjust" => {
                adjust = value.parse().map_err(|_| {
                    wrong(format!("adjust must be a number, {} to {}", i32::MIN, i32::MAX))
                })?;
            }
            "strip" => {
                let parsed = value.parse().map_err(|_| wrong("strip must be a number".into()))?;
                strip = Some(parsed);
            }
            _ => return Err(wrong(format!("{name:?} is not a part of a length framing"))),
        }
    }
    let strip = strip.unwrap_or(u16::from(offset) + u16::from(width));
    LengthField::new(offset, width, endian, adjust, strip)
        .map_err(|error| FramingError(format!("in {text:?}: {error}")))
}

fn unescape(text: &str, escaped: &str) -> Result<Vec<u8>, FramingError> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let at = text.len() - rest.len() - 1;
        let wrong = |what: &str| {
            FramingError(format!(
                "in {text:?}, at byte {at}: {what}; the escapes are \\r \\n \\t \\0 \\\\ \\xHH"
            ))
        };
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                let pair = digit().zip(digit());
                let (high, low) = pair.ok_or_else(|| wrong("\\x needs two hex digits"))?;
                (high << 4 | low) as u8
            }
            Some(_) => return Err(wrong("unknown escape")),
            None => return Err(wrong("nothing after the backslash")),
        });
    }
    Ok(bytes)
}

fn escape(byte: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match byte {
        b'\r' => f.write_str("\\r"),
        b'\n' => f.write_str("\\n"),
        b'\t' => f.write_str("\\t"),
        0 => f.write_str("\\0"),
        b'\\' => f.write_str("\\\\"),
        b' '..=b'~' => write!(f, "{}", char::from(byte)),
        _ => write!(f, "\\x{byte:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Framing {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "native",
            "lines",
            "raw",
            "delimiter:\\r\\n",
            "delimiter:\\t\\0\\\\|\\xff",
            "delimiter:a:b c",
            "length:offset=2,width=3,endian=little,adjust=-5,strip=1",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(parsed("length"), Framing::Length(LengthField::default()));
        assert_eq!(parsed("length:"), parsed("length"));
        assert_eq!(parsed("length:offset=2,width=2").to_string(), {
            "length:offset=2,width=2,endian=big,adjust=0,strip=4"
        });
        assert_eq!(
            parsed("length: width=1 , endian=little"),
            parsed("length:endian=little,width=1")
        );
    }

    #[test]
    fn an_error_says_what_is_wrong_where_and_what_to_write() {
        for (text, parts) in [
            ("http", &["\"http\"", "write native, lines"][..]),
            ("delimiter:", &["1 to 64 bytes", "has 0", "delimiter:\\r\\n"]),
            ("delimiter:a\\q", &["at byte 11", "unknown escape", "\\xHH"]),
            ("delimiter:a\\x1", &["at byte 11", "two hex digits"]),
            ("delimiter:\\", &["at byte 10", "nothing after the backslash"]),
            ("length:width=5", &["width must be 1, 2, 3, 4 or 8", "not 5"]),
            ("length:width=x", &["\"width=x\"", "width must be 1, 2, 3, 4 or 8"]),
            ("length:offset=256", &["\"offset=256\"", "0 to 255"]),
            ("length:endian=middle", &["big or little"]),
            ("length:size=4", &["\"size\" is not a part", "length:offset=0"]),
            ("length:4", &["NAME=VALUE"]),
            ("length:strip=2", &["strip=2", "write strip=4"]),
            ("length:strip=5", &["strip=5", "write strip=4"]),
        ] {
            let error = text.parse::<Framing>().unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{text}: {error:?} lacks {part:?}");
            }
        }
    }
}
