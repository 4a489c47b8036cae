//! The target of an outgoing connection.

use std::fmt;

use posthouse_io::{AddressError, Name};
use posthouse_wire::{Framing, Key};

use crate::disconnect::DisconnectReason;
use crate::id::PeerId;
use crate::options::ConnectionOptions;
use crate::record_layer::{LayerChoice, MakeRecordLayer};
use crate::sync::Arc;

/// An address to connect to, with the framing, key and options of the connection.
///
/// ```
/// use posthouse::{ConnectionOptions, Framing, Target};
///
/// let to_a_posthouse = Target::new("example.org:9990");
/// let to_an_iocps_server = Target::new("10.0.0.7:999").without_hello();
/// let to_a_line_server = Target::new("[::1]:7")
///     .framing(Framing::Lines)
///     .options(ConnectionOptions::default().with_connect_timeout_ms(2_000));
/// # let _ = (to_a_posthouse, to_an_iocps_server, to_a_line_server);
/// ```
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) address: Result<Name, AddressError>,
    text: Arc<str>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) framing: Framing,
    pub(crate) hello: bool,
    pub(crate) layer: LayerChoice,
    pub(crate) key: Option<Key>,
    pub(crate) credential: Box<[u8]>,
    pub(crate) options: ConnectionOptions,
}

impl Target {
    /// Makes a target from `HOST:PORT`; the host is a name, an IPv4 address, or an IPv6 address in
    /// brackets. If the text is not an address, [`Endpoint::connect`](crate::Endpoint::connect)
    /// returns the error. To check the text earlier, parse it:
    /// `"example.org:9990".parse::<Target>()`.
    #[expect(clippy::needless_pass_by_value, reason = "takes a text, a String or an address")]
    pub fn new(address: impl ToString) -> Self {
        let text = address.to_string();
        Self {
            address: text.parse(),
            text: text.into(),
            name: None,
            framing: Framing::Native,
            hello: true,
            layer: LayerChoice::default(),
            key: None,
            credential: Box::default(),
            options: ConnectionOptions::default(),
        }
    }

    /// Names the target for [`Peer::origin`](crate::Peer::origin). Default: the text of its
    /// address.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the record layer of the connection. This method is not part of the stable interface.
    /// Encryption will use it. The tests use it to set a record layer that cuts the stream at
    /// random.
    #[doc(hidden)]
    #[must_use]
    pub fn record_layer(mut self, make: impl MakeRecordLayer + 'static) -> Self {
        self.layer = LayerChoice(Some(Arc::new(make)));
        self
    }

    /// Sets the framing of the connection. Default: native.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Connects without a hello, for a server that has the native framing but not the protocol of
    /// Posthouse, such as the old server class IOCPS. The connection then has no requests,
    /// heartbeats and transfers.
    #[must_use]
    pub fn without_hello(mut self) -> Self {
        self.hello = false;
        self
    }

    /// Sets the key. Each side proves to the other that it knows the key. If the server cannot
    /// prove that, this side ends the connection.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets opaque bytes that the hello carries to the server, at most 1 KiB. The server's handler
    /// reads them with [`Peer::credential`](crate::Peer::credential). They are not encrypted.
    /// Default: empty.
    #[must_use]
    pub fn credential(mut self, credential: impl Into<Box<[u8]>>) -> Self {
        self.credential = credential.into();
        self
    }

    /// Sets the options of the connection. Default: [`ConnectionOptions::default`].
    #[must_use]
    pub fn options(mut self, options: ConnectionOptions) -> Self {
        self.options = options;
        self
    }

    pub(crate) fn origin(&self) -> Arc<str> {
        self.name.as_ref().unwrap_or(&self.text).clone()
    }
}

impl From<&str> for Target {
    fn from(address: &str) -> Self {
        Self::new(address)
    }
}

impl From<String> for Target {
    fn from(address: String) -> Self {
        Self::new(address)
    }
}

impl From<std::net::SocketAddr> for Target {
    fn from(address: std::net::SocketAddr) -> Self {
        Self::new(address)
    }
}

impl From<posthouse_io::Address> for Target {
    fn from(address: posthouse_io::Address) -> Self {
        Self::new(address)
    }
}

impl std::str::FromStr for Target {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let target = Self::new(text);
        match target.address {
            Ok(_) => Ok(target),
            Err(error) => Err(error),
        }
    }
}

/// Writes the text of the address.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A failed attempt of [`Endpoint::connect`](crate::Endpoint::connect).
#[derive(Clone, Debug)]
pub struct ConnectFailure {
    pub(crate) id: PeerId,
    pub(crate) target: Target,
    pub(crate) reason: DisconnectReason,
}

impl ConnectFailure {
    /// Returns the id of the connection, which `connect` returned.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Returns the target, for another attempt.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the reason why the attempt failed.
    pub fn reason(&self) -> &DisconnectReason {
        &self.reason
    }
}
