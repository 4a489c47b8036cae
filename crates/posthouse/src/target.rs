//! Where to connect, and how.

use std::fmt;

use posthouse_io::{AddressError, Name};
use posthouse_wire::{Framing, Key};

/// Where to connect and what to speak there.
///
/// ```
/// use posthouse::{Framing, Target};
///
/// let to_a_posthouse: Target = "example.org:9990".parse()?;
/// let to_an_iocps_server = Target::parse("10.0.0.7:999")?.without_hello();
/// let to_a_line_server = Target::parse("[::1]:7")?.framing(Framing::Lines);
/// # let _ = (to_a_posthouse, to_an_iocps_server, to_a_line_server);
/// # Ok::<(), posthouse::AddressError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) name: Name,
    pub(crate) framing: Framing,
    pub(crate) hello: bool,
    pub(crate) key: Option<Key>,
    pub(crate) credential: Box<[u8]>,
}

impl Target {
    /// Reads `HOST:PORT`; the host is a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Ok(Self {
            name: text.parse()?,
            framing: Framing::Native,
            hello: true,
            key: None,
            credential: Box::default(),
        })
    }

    /// The framing that is spoken there. Default: native.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Opens without a hello, as an IOCPS server or any server with the native framing but without
    /// the protocol needs it. Requests and heartbeats do not exist then.
    #[must_use]
    pub fn without_hello(mut self) -> Self {
        self.hello = false;
        self
    }

    /// Proves this key to the server, and demands that the server proves it, too.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Opaque bytes that the hello carries to the server's handler, at most 1 KiB; it reads them
    /// with [`Peer::credential`](crate::Peer::credential). They are not encrypted.
    #[must_use]
    pub fn credential(mut self, credential: impl Into<Box<[u8]>>) -> Self {
        self.credential = credential.into();
        self
    }
}

impl std::str::FromStr for Target {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}
