//! The shared secret, and the two proofs that are made with it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::kind;

/// Bytes of a proof.
pub(super) const PROOF_BYTES: usize = 32;

const PROVE: &[u8] = b"posthouse prove 2";
const WELCOME: &[u8] = b"posthouse welcome 2";

/// A secret that both sides hold. Its `Debug` reveals nothing of it.
#[derive(Clone)]
pub struct Key(Box<[u8]>);

/// An invalid length of a key: too short to be secret, or suspiciously long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// The number of bytes.
    pub len: usize,
}

impl Key {
    /// The smallest number of bytes.
    pub const MIN_BYTES: usize = 16;
    /// The largest number of bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Makes a key of [`Key::MIN_BYTES`] to [`Key::MAX_BYTES`] bytes, which should be random. Any
    /// other number is an error.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        if (Self::MIN_BYTES..=Self::MAX_BYTES).contains(&bytes.len()) {
            Ok(Self(bytes.into()))
        } else {
            Err(KeyError { len: bytes.len() })
        }
    }

    /// Returns the proof with which the connecting side shows that it holds the key.
    pub(super) fn prove(&self, transcript: &Transcript, binding: &[u8]) -> [u8; PROOF_BYTES] {
        self.mac(PROVE, transcript, binding).finalize().into_bytes().into()
    }

    /// Returns whether `proof` is the result of [`Key::prove`]. The time that the comparison takes
    /// does not depend on the position of a difference.
    pub(super) fn check_prove(
        &self,
        transcript: &Transcript,
        binding: &[u8],
        proof: &[u8],
    ) -> bool {
        self.mac(PROVE, transcript, binding).verify_slice(proof).is_ok()
    }

    /// Returns the proof with which the accepting side answers, to show that it also holds the key.
    pub(super) fn welcome(&self, transcript: &Transcript, binding: &[u8]) -> [u8; PROOF_BYTES] {
        self.mac(WELCOME, transcript, binding).finalize().into_bytes().into()
    }

    /// Returns whether `proof` is the result of [`Key::welcome`]. The time that the comparison
    /// takes does not depend on the position of a difference.
    pub(super) fn check_welcome(
        &self,
        transcript: &Transcript,
        binding: &[u8],
        proof: &[u8],
    ) -> bool {
        self.mac(WELCOME, transcript, binding).verify_slice(proof).is_ok()
    }

    fn mac(&self, purpose: &[u8], transcript: &Transcript, binding: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.chain_update(purpose).chain_update(transcript.0).chain_update(binding)
    }
}

/// The hash of the two frames with which a session begins: the hello of the client and the answer
/// of the server. A proof over it shows that both sides saw the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transcript([u8; 32]);

/// The hash of the first frame, to which the answer is added.
#[derive(Clone, Debug)]
pub(super) struct TranscriptHasher(Sha256);

impl TranscriptHasher {
    /// Starts with the payload of the client's hello.
    pub(super) fn new(hello: &[u8]) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.add(hello);
        hasher
    }

    /// Adds the payload of the server's answer.
    pub(super) fn finish(mut self, answer: &[u8]) -> Transcript {
        self.add(answer);
        Transcript(self.0.finalize().into())
    }

    /// Adds a frame of kind hello, from the first byte of its length to the last of its payload.
    fn add(&mut self, payload: &[u8]) {
        let [a, b, c, _] = (payload.len() as u32 + 1).to_le_bytes();
        self.0.update([a, b, c, 0, kind::HELLO]);
        self.0.update(payload);
    }
}

/// Compares two keys of the same length in a time that does not depend on the position of a
/// difference.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |bits, (a, b)| bits | (a ^ b));
        self.0.len() == other.0.len() && differing == 0
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a key has {} to {} bytes, this one has {}; make one with 32 random bytes",
            Key::MIN_BYTES,
            Key::MAX_BYTES,
            self.len
        )
    }
}

impl std::error::Error for KeyError {}
