//! The recognition of other protocols by their first bytes, so that the log can name them.

use std::fmt;

/// The protocol of a stream whose first frame is not a native frame of Posthouse.
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
    /// Returns the protocol whose first bytes are in `head`, the start of a first frame that was
    /// rejected. `head` has four bytes or more.
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

    /// Returns whether the stream begins with a TLS client hello shorter than 256 bytes. The first
    /// four bytes of such a hello are also the head of a valid native frame of 64 KiB or more, and
    /// the reader would wait in vain for the rest of it. This check therefore compares seven bytes
    /// more: all that a client hello prescribes.
    pub(crate) fn is_short_tls_client_hello(head: &[u8]) -> bool {
        let [0x16, 0x03, 0x00..=0x04, 0, record, 1, 0, 0, hello, 3, 0..=3, ..] = head else {
            return false;
        };
        // The record holds one handshake message: a four-byte header and `hello` bytes.
        record.checked_sub(4) == Some(*hello)
    }
}
