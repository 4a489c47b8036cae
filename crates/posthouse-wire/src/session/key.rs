//! The shared secret, and the two proofs that are made with it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a proof.
pub(super) const PROOF_BYTES: usize = 32;

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
    pub(super) fn prove(
        &self,
        server_nonce: &[u8; 16],
        client_nonce: &[u8; 16],
    ) -> [u8; PROOF_BYTES] {
        self.mac(b"posthouse prove 1", server_nonce, client_nonce).finalize().into_bytes().into()
    }

    /// Returns whether `proof` is the result of [`Key::prove`]. The time that the comparison takes
    /// does not depend on the position of a difference.
    pub(super) fn check_prove(
        &self,
        server_nonce: &[u8; 16],
        client_nonce: &[u8; 16],
        proof: &[u8],
    ) -> bool {
        self.mac(b"posthouse prove 1", server_nonce, client_nonce).verify_slice(proof).is_ok()
    }

    /// Returns the proof with which the accepting side answers, to show that it also holds the key.
    pub(super) fn welcome(
        &self,
        client_nonce: &[u8; 16],
        server_nonce: &[u8; 16],
    ) -> [u8; PROOF_BYTES] {
        self.mac(b"posthouse welcome 1", client_nonce, server_nonce).finalize().into_bytes().into()
    }

    /// Returns whether `proof` is the result of [`Key::welcome`]. The time that the comparison
    /// takes does not depend on the position of a difference.
    pub(super) fn check_welcome(
        &self,
        client_nonce: &[u8; 16],
        server_nonce: &[u8; 16],
        proof: &[u8],
    ) -> bool {
        self.mac(b"posthouse welcome 1", client_nonce, server_nonce).verify_slice(proof).is_ok()
    }

    fn mac(&self, purpose: &[u8], first: &[u8; 16], second: &[u8; 16]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.chain_update(purpose).chain_update(first).chain_update(second)
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
