//! Framings: the boundaries of messages in a stream of bytes.

mod delimiter;
mod error;
mod length;
mod text;

pub use delimiter::{Delimiter, MAX_DELIMITER_BYTES};
pub use error::{EncodeError, FrameError, FramingError};
pub use length::{Endian, LengthField};

/// The largest payload of a native frame: its 24-bit length also counts the kind byte.
pub const MAX_PAYLOAD_BYTES: usize = (1 << 24) - 2;

/// The size of a native frame's head, which stands before its payload: length u24, flags u8, kind
/// u8.
pub(crate) const NATIVE_HEAD_BYTES: usize = 5;

/// The rule that cuts a stream into messages. Each listener and each connect chooses one. Default
/// `Native`.
///
/// The forms as text (`FromStr` and `Display`) are `native`, `lines`, `raw`, `delimiter:TEXT` with
/// the escapes `\r \n \t \0 \\ \xHH`, and `length:offset=0,width=4,endian=big,adjust=0,strip=4`.
/// Each part after `length:` may be left out; the default of `strip` is `offset + width`, the
/// others have the values shown.
///
/// ```
/// # use posthouse_wire::Framing;
/// let framing: Framing = "length:width=2,endian=little".parse().unwrap();
/// assert_eq!(framing.to_string(), "length:offset=0,width=2,endian=little,adjust=0,strip=2");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// The framing of Posthouse: `length` u24 little endian (bytes after the first four), `flags`
    /// u8 (0), `kind` u8, payload. Only this framing has kinds, hello, requests and transfers.
    #[default]
    Native,
    /// Lines of text. A message ends at `\n`; if a `\r` stands before it, that belongs to the end,
    /// too.
    Lines,
    /// A header of a fixed size that contains the length of the frame.
    Length(LengthField),
    /// A delimiter after each message. The delimiter is not part of the message.
    Delimiter(Delimiter),
    /// No framing: each chunk that arrives is a message. A chunk longer than the limit makes
    /// several messages. The network, not the sender, decides the boundaries of the messages.
    Raw,
}

impl Framing {
    /// Appends one whole frame to `out`. On an error it appends nothing.
    ///
    /// The payload may have at most `max_payload_bytes` bytes, in native framing also at most
    /// [`MAX_PAYLOAD_BYTES`]. `Lines` ends a message with `\n`. If the message itself ends in `\r`,
    /// `Lines` ends it with `\r\n`; otherwise the receiver would take that `\r` for a part of the
    /// end. `Raw` writes the payload unchanged.
    ///
    /// # Errors
    /// Each variant of [`EncodeError`] names its cause; [`EncodeError::KindReserved`] is not
    /// checked here.
    pub fn encode(
        &self,
        kind: u8,
        payload: &[u8],
        max_payload_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if let Self::Native = self {
            return Self::encode_native(kind, &[], payload, max_payload_bytes, out);
        }
        if kind != 0 {
            return Err(EncodeError::KindNotSupported { kind });
        }
        check_size(payload.len(), max_payload_bytes)?;
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

    /// Appends a native frame whose payload is `head` followed by `body`.
    pub(crate) fn encode_native(
        kind: u8,
        head: &[u8],
        body: &[u8],
        max_payload_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        Self::encode_native_head(kind, head.len() + body.len(), max_payload_bytes, out)?;
        out.reserve(head.len() + body.len());
        out.extend_from_slice(head);
        out.extend_from_slice(body);
        Ok(())
    }

    /// Appends a native frame whose payload is far below the largest one.
    ///
    /// # Panics
    ///
    /// If the payload is larger than [`MAX_PAYLOAD_BYTES`].
    pub(crate) fn encode_small(kind: u8, head: &[u8], body: &[u8], out: &mut Vec<u8>) {
        Self::encode_native(kind, head, body, MAX_PAYLOAD_BYTES, out).expect("a small frame");
    }

    /// Appends the header of a native frame with a payload of `payload_bytes`.
    pub(crate) fn encode_native_head(
        kind: u8,
        payload_bytes: usize,
        max_payload_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        check_size(payload_bytes, max_payload_bytes.min(MAX_PAYLOAD_BYTES))?;
        let [a, b, c, flags] = (payload_bytes as u32 + 1).to_le_bytes();
        out.extend_from_slice(&[a, b, c, flags, kind]);
        Ok(())
    }
}

// The top byte of the length word is the flags byte. In the largest frame it is still zero.
const _: () = assert!(MAX_PAYLOAD_BYTES + 1 < 1 << 24);

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
