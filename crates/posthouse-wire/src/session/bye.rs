//! Bye: the last frame of a session, with the reason for the end. It is also the error frame.

use std::time::Duration;

use crate::{Framing, Violation, kind};

/// The longest text of a bye, in bytes: a longer one is cut before it is sent, and when it is
/// received.
pub const MAX_BYE_TEXT_BYTES: usize = 512;

/// Bytes before the text: code u16, retry-after u32 in ms.
const HEAD_BYTES: usize = 6;

/// A received bye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bye {
    /// The reason: see [`bye_code`](crate::bye_code).
    pub code: u16,
    /// The time that the peer asks to wait before the next attempt; `None` if it names none.
    pub retry_after: Option<Duration>,
    /// The text of the peer, at most its first [`MAX_BYE_TEXT_BYTES`] bytes; U+FFFD stands for
    /// bytes that are not UTF-8. The text is not escaped: write it to a log with
    /// [`Escaped`](crate::Escaped).
    pub text: String,
}

/// Appends a bye whose payload has at most `max_payload_bytes` bytes. A longer text is cut.
pub(crate) fn encode_bye(
    code: u16,
    text: &str,
    retry_after: Option<Duration>,
    max_payload_bytes: usize,
    out: &mut Vec<u8>,
) {
    let retry_after_ms = retry_after.map_or(0, |after| {
        u32::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
    });
    let mut head = [0; HEAD_BYTES];
    head[..2].copy_from_slice(&code.to_le_bytes());
    head[2..].copy_from_slice(&retry_after_ms.to_le_bytes());
    let room = max_payload_bytes.saturating_sub(HEAD_BYTES).min(MAX_BYE_TEXT_BYTES);
    let text = &text[..text.floor_char_boundary(room)];
    Framing::encode_small(kind::BYE, &head, text.as_bytes(), out);
}

pub(crate) fn parse_bye(payload: &[u8]) -> Result<Bye, Violation> {
    let Some(([c0, c1, r0, r1, r2, r3], text)) = payload.split_first_chunk::<HEAD_BYTES>() else {
        return Err(Violation::Malformed { kind: kind::BYE, why: "it is shorter than 6 bytes" });
    };
    let retry_after_ms = u32::from_le_bytes([*r0, *r1, *r2, *r3]);
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_BYE_TEXT_BYTES)]);
    Ok(Bye {
        code: u16::from_le_bytes([*c0, *c1]),
        retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(u64::from(retry_after_ms))),
        text: text.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bye_code;

    fn round_trip(code: u16, text: &str, after: Option<Duration>, max: usize) -> Bye {
        let mut out = Vec::new();
        encode_bye(code, text, after, max, &mut out);
        assert!(out.len() - 5 <= max);
        parse_bye(&out[5..]).unwrap()
    }

    #[test]
    fn a_bye_is_read_as_it_was_said() {
        let bye = round_trip(bye_code::BUSY, "später", Some(Duration::from_secs(2)), 1 << 20);
        let expected = Bye {
            code: bye_code::BUSY,
            retry_after: Some(Duration::from_secs(2)),
            text: "später".into(),
        };
        assert_eq!(bye, expected);
        assert_eq!(round_trip(1000, "", None, 64).retry_after, None);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let text = "ä".repeat(600);
        assert_eq!(round_trip(bye_code::NORMAL, &text, None, 1 << 20).text.len(), 512);
        assert_eq!(round_trip(bye_code::NORMAL, &text, None, 65).text, "ä".repeat(29));
    }

    #[test]
    fn a_wait_is_rounded_up_and_never_to_none() {
        let after = |wait| round_trip(bye_code::BUSY, "", Some(wait), 64).retry_after.unwrap();
        assert_eq!(after(Duration::from_nanos(1)), Duration::from_millis(1));
        assert_eq!(after(Duration::ZERO), Duration::from_millis(1));
        assert_eq!(after(Duration::MAX), Duration::from_millis(u64::from(u32::MAX)));
    }

    #[test]
    fn a_truncated_bye_is_malformed_and_a_strange_text_is_not() {
        assert!(parse_bye(&[0; 5]).is_err());
        assert_eq!(parse_bye(&[0, 0, 0, 0, 0, 0, 0xff]).unwrap().text, "\u{fffd}");
    }
}
