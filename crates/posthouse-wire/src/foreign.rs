//! Traffic of other protocols, recognised so that the log can name it.

use std::fmt;

/// What a stream that is no Posthouse stream looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// An HTTP request.
    Http,
    /// A TLS client hello.
    Tls,
    /// An SSH identification line.
    Ssh,
    /// The PROXY protocol header of a load balancer, version 1 or 2.
    Proxy,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => {
                "looks like an HTTP request; this listener speaks Posthouse's native framing, \
                 point browsers, health checks and scanners elsewhere"
            }
            Self::Tls => {
                "looks like a TLS client hello; this listener does not speak TLS, connect without \
                 it or put a TLS proxy in front"
            }
            Self::Ssh => {
                "looks like an SSH client; this listener speaks Posthouse's native framing, check \
                 host and port"
            }
            Self::Proxy => {
                "looks like a PROXY protocol header; this listener does not read one, switch it \
                 off in the load balancer"
            }
        })
    }
}

impl Foreign {
    /// Names the protocol that a refused first frame begins with. `head` is four bytes or more.
    pub(crate) fn guess(head: &[u8]) -> Option<Self> {
        match &head[..4] {
            b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN"
            | b"TRAC" | b"PRI " => Some(Self::Http),
            [0x16, 0x03, 0x00..=0x04, _] => Some(Self::Tls),
            b"SSH-" => Some(Self::Ssh),
            b"PROX" | b"\r\n\r\n" => Some(Self::Proxy),
            _ => None,
        }
    }

    /// Whether the stream begins with a TLS client hello shorter than 256 bytes. Its first four
    /// bytes are those of a valid native frame of 64 KiB or more, which would be waited for in
    /// vain; so all that a client hello fixes is compared, seven bytes more.
    pub(crate) fn is_short_tls_client_hello(head: &[u8]) -> bool {
        let [0x16, 0x03, 0x00..=0x04, 0, record, 1, 0, 0, hello, 3, 0..=3, ..] = head else {
            return false;
        };
        // The handshake message fills the record but for its own four-byte header.
        record.checked_sub(4) == Some(*hello)
    }
}
