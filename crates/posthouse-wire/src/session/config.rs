//! The configuration of sessions.

use std::fmt;
use std::time::Duration;

use super::Key;

/// The longest credential, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 1024;
/// The smallest payload limit that a hello may announce, in bytes: control frames must fit.
pub const MIN_PEER_PAYLOAD_BYTES: u32 = 64;
/// The default of [`SessionConfig::max_control_replies`].
pub const MAX_CONTROL_REPLIES: u32 = 64;

/// The policy of hello: whether this side sends a hello, and whether it requires one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HelloPolicy {
    /// Connecting: sends no hello. Accepting: treats a hello as an ordinary message.
    Never,
    /// Connecting: sends a hello and does not wait for the answer. Accepting: answers a hello and
    /// also accepts a peer that sends none.
    #[default]
    Optional,
    /// Accepting: the first frame must be a hello. Connecting: sends a hello, and then nothing more
    /// until the server has answered it. It still delivers messages that arrive before the answer,
    /// unless the configuration has a key.
    Required,
}

/// The configuration of a session. All connections of a listener, or of a target, share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The largest payload that this side accepts, in bytes; its hello announces it to the peer. At
    /// least [`MIN_PEER_PAYLOAD_BYTES`], unless the policy is [`HelloPolicy::Never`]. Default
    /// 1 MiB.
    pub max_payload_bytes: u32,
    /// The heartbeat that this side asks for; the shorter of both sides' heartbeats holds. Default
    /// `None`: this side asks for none.
    pub heartbeat: Option<Duration>,
    /// The shared secret. With a key both sides must prove that they hold it, and hello is required
    /// regardless of [`SessionConfig::hello`]. Default `None`.
    pub key: Option<Key>,
    /// The bytes with which the connecting side describes itself. Posthouse does not interpret
    /// them, and they are not encrypted on the wire. At most [`MAX_CREDENTIAL_BYTES`]. The
    /// accepting side sends none. Default empty.
    pub credential: Box<[u8]>,
    /// The policy of hello. Default [`HelloPolicy::Optional`].
    pub hello: HelloPolicy,
    /// The number of pongs that may wait in the send queue. Default [`MAX_CONTROL_REPLIES`], 64.
    pub max_control_replies: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_payload_bytes: 1 << 20,
            heartbeat: None,
            key: None,
            credential: Box::default(),
            hello: HelloPolicy::default(),
            max_control_replies: MAX_CONTROL_REPLIES,
        }
    }
}

/// An invalid configuration. `Display` names the mistake and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionConfigError {
    /// The credential is longer than [`MAX_CREDENTIAL_BYTES`].
    CredentialTooLong {
        /// The length of the credential, in bytes.
        len: usize,
    },
    /// The largest payload is below [`MIN_PEER_PAYLOAD_BYTES`].
    PayloadLimitTooSmall {
        /// The configured limit.
        max_payload_bytes: u32,
    },
}

impl fmt::Display for SessionConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CredentialTooLong { len } => write!(
                f,
                "the credential has {len} bytes, and the limit is {MAX_CREDENTIAL_BYTES}; shorten \
                 it, or send it as the first message"
            ),
            Self::PayloadLimitTooSmall { max_payload_bytes } => write!(
                f,
                "the limit for payloads is {max_payload_bytes} bytes, too small for hello; set it \
                 to at least {MIN_PEER_PAYLOAD_BYTES}, or set hello to never"
            ),
        }
    }
}

impl std::error::Error for SessionConfigError {}

impl SessionConfig {
    /// Checks the limits that a session relies on. Call it when the configuration is made.
    ///
    /// # Errors
    /// [`SessionConfigError`] if the credential is too long or the payload limit too small.
    pub fn check(&self) -> Result<(), SessionConfigError> {
        let len = self.credential.len();
        let max_payload_bytes = self.max_payload_bytes;
        if len > MAX_CREDENTIAL_BYTES {
            return Err(SessionConfigError::CredentialTooLong { len });
        }
        if max_payload_bytes < MIN_PEER_PAYLOAD_BYTES && self.policy() != HelloPolicy::Never {
            return Err(SessionConfigError::PayloadLimitTooSmall { max_payload_bytes });
        }
        Ok(())
    }

    /// Returns the effective policy: a key requires hello, because the proof follows hello.
    pub(super) fn policy(&self) -> HelloPolicy {
        if self.key.is_some() { HelloPolicy::Required } else { self.hello }
    }
}
