//! The bytes of a hello and of its answer.

use crate::fields::Fields;
use crate::{Frame, Framing, Violation, kind};

use super::config::{MAX_CREDENTIAL_BYTES, MIN_PEER_PAYLOAD_BYTES};

/// The protocol version of this crate.
pub(super) const VERSION: u16 = 1;
/// The features of this crate.
pub(super) const FEATURES: u32 = crate::FEATURE_TRANSFERS;

/// The first bytes of every hello.
const MAGIC: [u8; 8] = *b"POSTHOUS";
/// Bytes before the credential.
const HEAD_BYTES: usize = 41;
/// Flag: the sender demands a proof of the key. Only in an answer.
const DEMANDS_PROOF: u8 = 0x01;
/// Flag: this hello is the answer of the accepting side. Without the flag, the echo of a client's
/// hello by a server that does not know hello would look like an answer.
const IS_ANSWER: u8 = 0x80;

/// A hello. Integers are little endian, in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HelloFrame<'a> {
    /// The highest version that the sender speaks; in an answer, the version that it chose.
    pub(super) version: u16,
    pub(super) features: u32,
    pub(super) max_payload_bytes: u32,
    /// The heartbeat that the sender asks for; 0 for none.
    pub(super) heartbeat_ms: u32,
    pub(super) nonce: [u8; 16],
    pub(super) is_answer: bool,
    pub(super) demands_proof: bool,
    pub(super) credential: &'a [u8],
}

impl<'a> HelloFrame<'a> {
    /// Returns whether a frame claims to be a hello. Any other frame of kind 4 is an ordinary
    /// message.
    pub(super) fn is_claimed_by(frame: Frame<'_>) -> bool {
        frame.kind == kind::HELLO && frame.payload.starts_with(&MAGIC)
    }

    /// Returns whether a frame claims to be the answer to a hello.
    pub(super) fn is_answer_claimed_by(frame: Frame<'_>) -> bool {
        Self::is_claimed_by(frame)
            && frame.payload.get(HEAD_BYTES - 3).is_none_or(|flags| flags & IS_ANSWER != 0)
    }

    /// Appends the frame and returns its payload.
    ///
    /// # Panics
    /// If the credential is longer than `SessionConfig::check` allows.
    pub(super) fn encode<'out>(&self, out: &'out mut Vec<u8>) -> &'out [u8] {
        assert!(self.credential.len() <= MAX_CREDENTIAL_BYTES, "the configuration was not checked");
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&self.version.to_le_bytes());
        head.extend_from_slice(&self.features.to_le_bytes());
        head.extend_from_slice(&self.max_payload_bytes.to_le_bytes());
        head.extend_from_slice(&self.heartbeat_ms.to_le_bytes());
        head.extend_from_slice(&self.nonce);
        head.push(
            u8::from(self.is_answer) * IS_ANSWER + u8::from(self.demands_proof) * DEMANDS_PROOF,
        );
        head.extend_from_slice(&(self.credential.len() as u16).to_le_bytes());
        Framing::encode_small(kind::HELLO, &head, self.credential, out);
        &out[out.len() - head.len() - self.credential.len()..]
    }

    /// Parses a payload that begins with the magic. It ignores undefined flags and the bytes after
    /// the credential, which later versions may use.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(&payload[MAGIC.len()..], kind::HELLO, "it has under 41 bytes");
        let version = fields.u16()?;
        let features = fields.u32()?;
        let max_payload_bytes = fields.u32()?;
        let heartbeat_ms = fields.u32()?;
        let nonce = fields.take()?;
        let [flags] = fields.take()?;
        let credential_bytes = usize::from(fields.u16()?);
        if max_payload_bytes < MIN_PEER_PAYLOAD_BYTES {
            return Err(malformed("its payload limit is below 64 bytes"));
        }
        if credential_bytes > MAX_CREDENTIAL_BYTES {
            return Err(malformed("its credential is longer than 1024 bytes"));
        }
        let Some(credential) = fields.rest().get(..credential_bytes) else {
            return Err(malformed("it is shorter than its credential"));
        };
        Ok(Self {
            version,
            features,
            max_payload_bytes,
            heartbeat_ms,
            nonce,
            is_answer: flags & IS_ANSWER != 0,
            demands_proof: flags & DEMANDS_PROOF != 0,
            credential,
        })
    }
}

pub(super) fn malformed(why: &'static str) -> Violation {
    Violation::Malformed { kind: kind::HELLO, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: HelloFrame<'static> = HelloFrame {
        version: 7,
        features: 0x0102_0304,
        max_payload_bytes: 99,
        heartbeat_ms: 1500,
        nonce: [9; 16],
        is_answer: true,
        demands_proof: true,
        credential: b"device 7",
    };

    fn payload() -> Vec<u8> {
        let mut out = Vec::new();
        HELLO.encode(&mut out);
        out.split_off(5)
    }

    #[test]
    fn a_hello_is_read_as_it_was_written_and_what_follows_is_ignored() {
        let mut payload = payload();
        assert_eq!(payload.len(), HEAD_BYTES + 8);
        assert_eq!(HelloFrame::parse(&payload), Ok(HELLO));
        payload.extend_from_slice(b"of a later version");
        payload[38] |= 0x7e;
        assert_eq!(HelloFrame::parse(&payload), Ok(HELLO));
    }

    #[test]
    fn a_hello_cut_anywhere_is_malformed() {
        let payload = payload();
        for len in MAGIC.len()..payload.len() {
            assert!(HelloFrame::parse(&payload[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn limits_of_a_hello_are_checked() {
        let mut small = payload();
        small[14..18].copy_from_slice(&63_u32.to_le_bytes());
        assert!(HelloFrame::parse(&small).is_err());
        let mut long = payload();
        long.resize(HEAD_BYTES + 2000, b'x');
        long[39..41].copy_from_slice(&1025_u16.to_le_bytes());
        assert!(HelloFrame::parse(&long).is_err());
        long[39..41].copy_from_slice(&1024_u16.to_le_bytes());
        assert_eq!(HelloFrame::parse(&long).unwrap().credential.len(), 1024);
    }
}
