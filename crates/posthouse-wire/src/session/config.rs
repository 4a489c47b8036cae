//! What sessions are configured with.

use std::fmt;
use std::time::Duration;

use super::Key;

/// The longest credential.
pub const CREDENTIAL_BYTES_MAX: usize = 1024;
/// The least largest-payload that a hello may announce: Posthouse's own frames must pass.
pub const PEER_PAYLOAD_BYTES_MIN: u32 = 64;
/// Default of [`SessionConfig::control_replies_max`].
pub const CONTROL_REPLIES_MAX: u32 = 64;

/// Whether a hello is said, or expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HelloRule {
    /// Connecting: none is said. Accepting: a hello is a message like any other.
    Never,
    /// Connecting: said, and a peer that does not answer is a plain peer. Accepting: answered.
    #[default]
    Optional,
    /// Accepting: the first frame must be a hello. Connecting: said, and this side sends nothing
    /// more until it is answered; what a server says before it answers is still passed on.
    Required,
}

/// How sessions are held; one for all connections of a listener, or for one that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The largest payload that this side accepts, told to the peer. At least
    /// [`PEER_PAYLOAD_BYTES_MIN`]. Default 1 MiB.
    pub payload_bytes_max: u32,
    /// The heartbeat that this side asks for. Default `None`: none, unless the peer asks for one.
    pub heartbeat: Option<Duration>,
    /// The shared secret. With a key both sides prove that they hold it, and whatever the rule
    /// says a hello is required. Default `None`.
    pub key: Option<Key>,
    /// What the connecting side tells about itself, opaque to Posthouse and not hidden on the
    /// wire; at most [`CREDENTIAL_BYTES_MAX`]. The accepting side sends none. Default empty.
    pub credential: Box<[u8]>,
    /// Whether a hello is said, or expected. Default [`HelloRule::Optional`].
    pub hello: HelloRule,
    /// Pongs that may be queued and not yet sent. Default [`CONTROL_REPLIES_MAX`].
    pub control_replies_max: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            payload_bytes_max: 1 << 20,
            heartbeat: None,
            key: None,
            credential: Box::default(),
            hello: HelloRule::default(),
            control_replies_max: CONTROL_REPLIES_MAX,
        }
    }
}

/// A configuration that cannot be: what is wrong, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The credential is longer than [`CREDENTIAL_BYTES_MAX`].
    CredentialTooLong {
        /// Its length.
        len: usize,
    },
    /// The largest payload is below [`PEER_PAYLOAD_BYTES_MIN`].
    PayloadLimitTooSmall {
        /// The limit asked for.
        payload_bytes_max: u32,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CredentialTooLong { len } => write!(
                f,
                "the credential has {len} bytes and at most {CREDENTIAL_BYTES_MAX} are sent; \
                 shorten it, or send it as the first message"
            ),
            Self::PayloadLimitTooSmall { payload_bytes_max } => write!(
                f,
                "the largest payload is {payload_bytes_max} bytes, too few for a hello; set at \
                 least {PEER_PAYLOAD_BYTES_MIN}, or hello to never"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

impl SessionConfig {
    /// Checks what a session relies on. Call it where the configuration is made.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (len, payload_bytes_max) = (self.credential.len(), self.payload_bytes_max);
        if len > CREDENTIAL_BYTES_MAX {
            return Err(ConfigError::CredentialTooLong { len });
        }
        if payload_bytes_max < PEER_PAYLOAD_BYTES_MIN && self.rule() != HelloRule::Never {
            return Err(ConfigError::PayloadLimitTooSmall { payload_bytes_max });
        }
        Ok(())
    }

    /// The rule in force: a key can only be proved in a hello.
    pub(super) fn rule(&self) -> HelloRule {
        if self.key.is_some() { HelloRule::Required } else { self.hello }
    }
}
