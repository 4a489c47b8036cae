//! The configuration of sessions.

use std::fmt;
use std::time::Duration;

use super::Key;

/// The longest credential.
pub const MAX_CREDENTIAL_BYTES: usize = 1024;
/// The smallest limit for payloads that a hello may announce: control frames must pass.
pub const MIN_PEER_PAYLOAD_BYTES: u32 = 64;
/// Default of [`SessionConfig::max_control_replies`].
pub const MAX_CONTROL_REPLIES: u32 = 64;

/// The policy of hello: whether one is sent, or expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HelloPolicy {
    /// Connecting: sends none. Accepting: a hello is a message like any other.
    Never,
    /// Connecting: sends one, and a peer that does not answer is a plain peer. Accepting: answers.
    #[default]
    Optional,
    /// Accepting: the first frame must be a hello. Connecting: sends one, and then nothing more
    /// until it is answered; messages of a server that has not answered yet are still passed on.
    Required,
}

/// The configuration of a session: the same for all connections of a listener, or of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The largest payload that this side accepts, told to the peer. At least
    /// [`MIN_PEER_PAYLOAD_BYTES`]. Default 1 MiB.
    pub max_payload_bytes: u32,
    /// The heartbeat that this side asks for. Default `None`: none, unless the peer asks for one.
    pub heartbeat: Option<Duration>,
    /// The shared secret. With a key both sides prove that they hold it, and whatever the policy
    /// says a hello is required. Default `None`.
    pub key: Option<Key>,
    /// What the connecting side tells about itself, opaque to Posthouse and not hidden on the
    /// wire; at most [`MAX_CREDENTIAL_BYTES`]. The accepting side sends none. Default empty.
    pub credential: Box<[u8]>,
    /// Whether a hello is said, or expected. Default [`HelloPolicy::Optional`].
    pub hello: HelloPolicy,
    /// Pongs that may be queued and not yet sent. Default [`MAX_CONTROL_REPLIES`].
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

/// A configuration that cannot be: what is wrong, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionConfigError {
    /// The credential is longer than [`MAX_CREDENTIAL_BYTES`].
    CredentialTooLong {
        /// Its length.
        len: usize,
    },
    /// The largest payload is below [`MIN_PEER_PAYLOAD_BYTES`].
    PayloadLimitTooSmall {
        /// The limit asked for.
        max_payload_bytes: u32,
    },
}

impl fmt::Display for SessionConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CredentialTooLong { len } => write!(
                f,
                "the credential has {len} bytes and at most {MAX_CREDENTIAL_BYTES} are sent; \
                 shorten it, or send it as the first message"
            ),
            Self::PayloadLimitTooSmall { max_payload_bytes } => write!(
                f,
                "the largest payload is {max_payload_bytes} bytes, too few for a hello; set at \
                 least {MIN_PEER_PAYLOAD_BYTES}, or hello to never"
            ),
        }
    }
}

impl std::error::Error for SessionConfigError {}

impl SessionConfig {
    /// Checks what a session relies on. Call it where the configuration is made.
    pub fn check(&self) -> Result<(), SessionConfigError> {
        let (len, max_payload_bytes) = (self.credential.len(), self.max_payload_bytes);
        if len > MAX_CREDENTIAL_BYTES {
            return Err(SessionConfigError::CredentialTooLong { len });
        }
        if max_payload_bytes < MIN_PEER_PAYLOAD_BYTES && self.policy() != HelloPolicy::Never {
            return Err(SessionConfigError::PayloadLimitTooSmall { max_payload_bytes });
        }
        Ok(())
    }

    /// The policy in force: a key can only be proved in a hello.
    pub(super) fn policy(&self) -> HelloPolicy {
        if self.key.is_some() { HelloPolicy::Required } else { self.hello }
    }
}
