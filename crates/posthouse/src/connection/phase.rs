//! The phases of a connection.

/// The phase of a connection. It only ever moves down this list, except that an attempt to connect
/// that failed goes back to `Connecting` with the next address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing has been started.
    New,
    /// The target's name is being looked up.
    Resolving,
    /// A connect is in flight.
    Connecting,
    /// A failed attempt's socket is being closed; the next address follows.
    Retrying,
    /// The socket is up; hello, or its proof, is awaited. The handler knows of nothing.
    Opening,
    /// The handler knows the connection.
    Open,
    /// Closing gracefully: what is queued goes out, what comes in is discarded.
    Draining,
    /// This side's stream has ended; the peer's end is awaited.
    Lingering,
    /// What is in flight has been cancelled and is awaited.
    Joining,
    /// The handle is being closed.
    Closing,
    /// Gone.
    Gone,
    /// Gone, and it stays for the late ends of what it was abandoned for.
    Abandoned,
}
