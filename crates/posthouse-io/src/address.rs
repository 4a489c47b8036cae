//! The addresses of connections.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The address of one end of a connection: TCP over IPv4 or IPv6. It is canonical: an IPv4 address
/// that is mapped into IPv6 (`::ffff:127.0.0.1`, the form in which a dual-stack socket reports IPv4
/// peers) becomes the IPv4 address when the value is made. So a peer has one address, whichever
/// listener accepts it. The representation is private so that other kinds (Unix sockets, PROXY
/// headers) can be added.
///
/// ```
/// let mapped: posthouse_io::Address = "[::ffff:192.0.2.1]:9990".parse()?;
/// assert_eq!(mapped.to_string(), "192.0.2.1:9990");
/// # Ok::<(), posthouse_io::AddressError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(SocketAddr);

impl Address {
    /// Returns the IP address.
    pub fn ip(&self) -> IpAddr {
        self.0.ip()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Returns whether the address is a loopback address.
    pub fn is_loopback(&self) -> bool {
        self.ip().is_loopback()
    }

    /// Returns the address as a type of the standard library.
    pub fn socket_addr(&self) -> SocketAddr {
        self.0
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self(SocketAddr::from((ip, address.port()))),
            IpAddr::V6(_) => Self(address),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.parse().map(SocketAddr::into).map_err(|_| AddressError { text: text.to_owned() })
    }
}

/// A host and a port that may need a look-up: `example.org:9990`, `[::1]:9990`, `10.0.0.1:9990`.
///
/// ```
/// let name: posthouse_io::Name = "example.org:9990".parse()?;
/// assert_eq!((&*name.host, name.port), ("example.org", 9990));
/// assert!(name.as_address().is_none());
/// # Ok::<(), posthouse_io::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// A host name, or an IP address without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
}

impl Name {
    /// Returns the address if the host is written as an IP address, so that no look-up is needed.
    pub fn as_address(&self) -> Option<Address> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port).into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Name {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError { text: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let plain = |c: char| !c.is_control() && !c.is_whitespace();
        if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self { host: host.into(), port })
    }
}

impl From<Address> for Name {
    fn from(address: Address) -> Self {
        let host = match address.socket_addr() {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => address.ip().to_string(),
        };
        Self { host: host.into(), port: address.port() }
    }
}

/// The error for a text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    text: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an address: write HOST:PORT, such as 127.0.0.1:9990, [::1]:9990 or \
             example.org:9990",
            self.text
        )
    }
}

impl std::error::Error for AddressError {}
