//! The configuration of a listener.

use std::fmt;

use posthouse_io::{Address, AddressError, Name};
use posthouse_wire::{Framing, Key};

use crate::options::ConnectionOptions;
use crate::record_layer::{LayerChoice, MakeRecordLayer};
use crate::sync::Arc;

/// An address to listen on, with the framing, key and options of its connections.
///
/// An endpoint can have several listeners, each with another protocol;
/// [`Peer::origin`](crate::Peer::origin) tells a handler which one accepted a peer.
///
/// ```no_run
/// use posthouse::{Endpoint, Framing, Handler, Listener};
///
/// struct Devices;
/// impl Handler for Devices {
///     type State = ();
/// }
///
/// let listener =
///     Listener::new("[::]:7000").dual_stack(true).framing(Framing::Lines).name("devices");
/// let endpoint = Endpoint::builder(Devices).listen(listener).start()?;
/// # Ok::<(), posthouse::StartError>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    pub(crate) address: Result<Name, AddressError>,
    text: Arc<str>,
    name: Option<Arc<str>>,
    pub(crate) framing: Framing,
    pub(crate) key: Option<Key>,
    pub(crate) options: ConnectionOptions,
    pub(crate) dual_stack: bool,
    pub(crate) layer: LayerChoice,
}

impl Listener {
    /// Makes a listener on `HOST:PORT` with the native framing: `"127.0.0.1:9990"`, `"[::]:9990"`,
    /// `"[fe80::1%eth0]:9990"`, `"localhost:9990"`, a `SocketAddr`. With port 0 the system chooses
    /// the port. If a name has several addresses, the first that can be bound is used. If the text
    /// is not an address, [`Endpoint::listen`](crate::Endpoint::listen) or
    /// [`Builder::start`](crate::Builder::start) returns the error.
    #[expect(clippy::needless_pass_by_value, reason = "takes a text, a String or an address")]
    pub fn new(address: impl ToString) -> Self {
        let text = address.to_string();
        Self {
            address: text.parse(),
            text: text.into(),
            name: None,
            framing: Framing::Native,
            key: None,
            options: ConnectionOptions::default(),
            dual_stack: false,
            layer: LayerChoice::default(),
        }
    }

    /// Names the listener for [`Peer::origin`](crate::Peer::origin). Default: the text of its
    /// address.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets a record layer (a layer between the framing and the socket, such as TLS records) for
    /// every connection of the listener. This method is not part of the stable interface.
    /// Encryption will use it. The tests use it to set a record layer that cuts the stream at
    /// random.
    #[doc(hidden)]
    #[must_use]
    pub fn record_layer(mut self, make: impl MakeRecordLayer + 'static) -> Self {
        self.layer = LayerChoice(Some(Arc::new(make)));
        self
    }

    /// Sets the framing of the listener's connections. Default: native.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Requires every peer to prove that it knows this key, before Posthouse calls `connected`. A
    /// key needs the native framing: the other framings have no place for a proof.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets the options of the listener's connections. Default: [`ConnectionOptions::default`].
    #[must_use]
    pub fn options(mut self, options: ConnectionOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets whether an IPv6 listener also accepts IPv4 peers (`[::]` only). Default: false.
    #[must_use]
    pub fn dual_stack(mut self, dual_stack: bool) -> Self {
        self.dual_stack = dual_stack;
        self
    }

    pub(crate) fn origin(&self) -> Arc<str> {
        self.name.as_ref().unwrap_or(&self.text).clone()
    }
}

/// Writes the text of the address.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&str> for Listener {
    fn from(address: &str) -> Self {
        Self::new(address)
    }
}

impl From<String> for Listener {
    fn from(address: String) -> Self {
        Self::new(address)
    }
}

impl From<&String> for Listener {
    fn from(address: &String) -> Self {
        Self::new(address)
    }
}

impl From<std::net::SocketAddr> for Listener {
    fn from(address: std::net::SocketAddr) -> Self {
        Self::new(address)
    }
}

impl From<Address> for Listener {
    fn from(address: Address) -> Self {
        Self::new(address)
    }
}
