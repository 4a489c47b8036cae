//! Framing: where a message ends in a stream of bytes, and how one is written.

mod delimiter;
mod length;
mod text;

use std::fmt;

pub use delimiter::{DELIMITER_BYTES_MAX, Delimiter};
pub use length::{Endian, LengthField};

/// The largest payload of a native frame: its 24-bit length also counts the kind byte.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 24) - 2;

/// Bytes of a native frame before its payload: length u24, flags u8, kind u8.
pub(crate) const NATIVE_HEAD_BYTES: usize = 5;

/// How messages are cut out of the stream. Chosen per listener and per connect; default `Native`.
///
/// As text (`FromStr` and `Display`): `native`, `lines`, `raw`, `delimiter:TEXT` with the escapes
/// `\r \n \t \0 \\ \xHH`, and `length:offset=0,width=4,endian=big,adjust=0,strip=4`, in which each
/// part may be left out (strip is then `offset + width`).
///
/// ```
/// use posthouse_wire::Framing;
/// let framing: Framing = "length:width=2,endian=little".parse().unwrap();
/// assert_eq!(framing.to_string(), "length:offset=0,width=2,endian=little,adjust=0,strip=2");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Posthouse's own: `length` u24 little endian (bytes after the first four), `flags` u8 (0),
    /// `kind` u8, payload. The only framing with kinds, hello, requests and transfers.
    #[default]
    Native,
    /// Lines of text: a message ends at `\n`; one `\r` before it belongs to the end, too.
    Lines,
    /// A length field somewhere in a fixed header.
    Length(LengthField),
    /// A message ends at the delimiter, which is no part of it.
    Delimiter(Delimiter),
    /// No framing: each chunk that arrives is a message. A chunk longer than the limit comes as
    /// several. Where a message ends is then an accident of the network.
    Raw,
}

/// A framing that cannot be: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramingError(pub(crate) String);

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FramingError {}

/// Why a message cannot be sent. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The payload is longer than the peer, the configuration or the framing allows.
    TooLarge {
        /// Bytes of the payload; for a request or a reply including its head.
        len: usize,
        /// The most there may be.
        max: usize,
    },
    /// The payload is shorter than the header that the length framing keeps in it.
    TooShort {
        /// Bytes of the payload.
        len: usize,
        /// The least there must be.
        min: usize,
    },
    /// The delimiter would be found before the end of the message.
    ContainsDelimiter {
        /// Where in the payload it begins.
        at: usize,
    },
    /// Only native framing carries a kind; elsewhere it must be 0.
    KindNotSupported {
        /// The kind asked for.
        kind: u8,
    },
    /// Kinds 4 to 31 are Posthouse's own once hello is agreed. This crate leaves it to its user to
    /// report this, with [`crate::Session::own_kinds_are_reserved`].
    KindReserved {
        /// The kind asked for.
        kind: u8,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => write!(
                f,
                "the message has {len} bytes, and at most {max} can be sent; send it in parts or \
                 raise the limit on the receiving side"
            ),
            Self::TooShort { len, min } => write!(
                f,
                "the message has {len} bytes, and this length framing keeps its header in the \
                 message, so it needs at least {min}"
            ),
            Self::ContainsDelimiter { at } => write!(
                f,
                "the message contains the delimiter that ends messages, at byte {at}; escape it \
                 or choose another framing"
            ),
            Self::KindNotSupported { kind } => write!(
                f,
                "kind {kind} cannot be sent: only native framing carries kinds; send kind 0"
            ),
            Self::KindReserved { kind } => write!(
                f,
                "kind {kind} cannot be sent: 4 to 31 are Posthouse's own once hello is agreed; \
                 use 0 to 3 or 32 to 255"
            ),
        }
    }
}

impl std::error::Error for EncodeError {}

impl Framing {
    /// Appends one whole frame to `out`, or appends nothing and errors.
    ///
    /// `payload_bytes_max` bounds the payload; native framing has a bound of its own besides,
    /// [`PAYLOAD_BYTES_MAX`]. `Lines` ends a message with `\n`, and with `\r\n` if it ends in `\r`,
    /// which the receiver would else take for a part of the end. `Raw` writes the payload as is.
    pub fn encode(
        &self,
        kind: u8,
        payload: &[u8],
        payload_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if let Self::Native = self {
            return Self::encode_native(kind, &[], payload, payload_bytes_max, out);
        }
        if kind != 0 {
            return Err(EncodeError::KindNotSupported { kind });
        }
        check_size(payload.len(), payload_bytes_max)?;
        match self {
            Self::Native => unreachable!("handled above"),
            Self::Lines => encode_line(payload, out),
            Self::Length(field) => field.encode(payload, out),
            Self::Delimiter(delimiter) => delimiter.encode(payload, out),
            Self::Raw => {
                out.extend_from_slice(payload);
                Ok(())
            }
        }
    }

    /// A native frame whose payload is `head` followed by `body`.
    pub(crate) fn encode_native(
        kind: u8,
        head: &[u8],
        body: &[u8],
        payload_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        Self::encode_native_head(kind, head.len() + body.len(), payload_bytes_max, out)?;
        out.reserve(head.len() + body.len());
        out.extend_from_slice(head);
        out.extend_from_slice(body);
        Ok(())
    }

    /// What comes before the payload of a native frame.
    pub(crate) fn encode_native_head(
        kind: u8,
        payload_bytes: usize,
        payload_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        check_size(payload_bytes, payload_bytes_max.min(PAYLOAD_BYTES_MAX))?;
        let [a, b, c, flags] = (payload_bytes as u32 + 1).to_le_bytes();
        out.extend_from_slice(&[a, b, c, flags, kind]);
        Ok(())
    }
}

// The top byte of the length word is the flags byte; the largest frame leaves it zero.
const _: () = assert!(PAYLOAD_BYTES_MAX + 1 < 1 << 24);

fn check_size(len: usize, max: usize) -> Result<(), EncodeError> {
    if len > max { Err(EncodeError::TooLarge { len, max }) } else { Ok(()) }
}

fn encode_line(payload: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Some(at) = payload.iter().position(|byte| *byte == b'\n') {
        return Err(EncodeError::ContainsDelimiter { at });
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(if payload.ends_with(b"\r") { b"\r\n" } else { b"\n" });
    Ok(())
}
