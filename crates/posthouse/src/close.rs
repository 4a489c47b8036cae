//! The ways in which a program can end a connection.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use posthouse_wire::bye_code as code;

use crate::disconnect::{DisconnectKind, DisconnectReason, Fault};

/// The result of a callback: `Ok(())` keeps the connection, a [`Close`] ends it.
///
/// `?` works on every [`Error`]. It closes the connection **on whose strand the callback runs**.
/// The closure of a timer or a reply, and the task of [`Endpoint::run`](crate::Endpoint::run), run
/// on the strand of one connection: the one that set the timer, sent the request or was passed to
/// `run`. `?` in the closure closes that connection. It never closes another one, even if a message
/// of the other one was the reason for the timer, the request or the task. `?` closes as
/// [`Close::internal`] does: the peer gets the code for an internal error. The error's text goes to
/// [`Handler::disconnected`](crate::Handler::disconnected) and to the log at level INFO, at most
/// one line a second, never to the peer. If the peer's input was wrong, use [`Close::peer_fault`].
/// Types that do not implement [`Error`], such as `Box<dyn Error>`, `anyhow::Error` and `String`,
/// need [`OrClose::or_close`].
///
/// ```
/// use posthouse::{Close, HandlerResult};
///
/// fn parse(payload: &[u8]) -> HandlerResult {
///     let text = std::str::from_utf8(payload).map_err(|e| Close::peer_fault(1000, e))?;
///     let number: u32 = text.parse()?;
///     println!("{number}");
///     Ok(())
/// }
/// # assert!(parse(b"7").is_ok() && parse(b"x").is_err());
/// ```
pub type HandlerResult = Result<(), Close>;

/// A request to end a connection, gracefully or with a reset. It is the `Err` of a callback, or an
/// argument of [`Peer::close`](crate::Peer::close) and [`Endpoint::close`](crate::Endpoint::close).
///
/// ```
/// use std::time::Duration;
/// use posthouse::Close;
///
/// let busy = Close::with_code(1000, "all seats are taken")
///     .retry_after(Duration::from_secs(30))
///     .log("the room is full");
/// let at_once = Close::abort();
/// # assert_ne!(busy, at_once);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub(crate) how: How,
    /// The cause, for the log.
    pub(crate) cause: Option<Box<str>>,
    pub(crate) fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Gracefully { code: u16, text: Box<str>, retry_after: Option<Duration> },
    Abort,
}

impl Close {
    /// Requests a graceful close: Posthouse sends everything that is queued and a goodbye, ends
    /// this side of the stream and waits for the peer to end its side. All this takes at most
    /// [`close_timeout_ms`](crate::ConnectionOptions::close_timeout_ms). Posthouse discards input
    /// that arrives meanwhile. It calls [`disconnected`](crate::Handler::disconnected) when no
    /// operation of the connection is in flight any more.
    pub fn graceful() -> Self {
        Self::with_code(code::NORMAL, "")
    }

    /// Requests a graceful close, as [`graceful`](Self::graceful) does, with a code and a text for
    /// the peer. The peer gets them only if both sides have said hello. Applications use codes from
    /// 1000; PROTOCOL.md lists the others. At most 512 bytes of the text are sent.
    pub fn with_code(code: u16, text: impl Into<Box<str>>) -> Self {
        let how = How::Gracefully { code, text: text.into(), retry_after: None };
        Self { how, cause: None, fault: Fault::Local }
    }

    /// Requests a graceful close because the peer's input was wrong. The peer gets this code and
    /// the error's text; the log gets the text, too. [`DisconnectReason::fault`] is
    /// [`Fault::Peer`].
    pub fn peer_fault(code: u16, error: impl fmt::Display) -> Self {
        let text = error.to_string();
        Self { fault: Fault::Peer, ..Self::with_code(code, text.clone()).log(text) }
    }

    /// Requests a graceful close because this program failed. The peer gets the code for an
    /// internal error. The error's text goes to the log, never to the peer.
    pub fn internal(error: impl fmt::Display) -> Self {
        Self::internal_error().log(error.to_string())
    }

    pub(crate) fn internal_error() -> Self {
        Self::with_code(code::INTERNAL_ERROR, "internal error")
    }

    /// Asks the peer not to reconnect before this time has passed. It has no effect on
    /// [`abort`](Self::abort), because the peer then gets no goodbye.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        if let How::Gracefully { retry_after, .. } = &mut self.how {
            *retry_after = Some(time);
        }
        self
    }

    /// Requests a reset of the connection at once: Posthouse discards the queued output, and the
    /// peer sees a reset.
    pub fn abort() -> Self {
        Self { how: How::Abort, cause: None, fault: Fault::Local }
    }

    /// Adds a cause for the log and for [`DisconnectReason`]. The peer does not get it.
    #[must_use]
    pub fn log(mut self, cause: impl Into<Box<str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Returns the reason for the handler.
    pub(crate) fn reason(&self) -> DisconnectReason {
        let cause = self.cause.clone().unwrap_or_default();
        let fault = self.fault;
        DisconnectReason { fault, ..DisconnectReason::new(DisconnectKind::Closed, cause) }
    }
}

impl<E: Error> From<E> for Close {
    fn from(error: E) -> Self {
        Close::internal(error)
    }
}

/// Makes a [`Close`] from an error of a type that `?` cannot convert: `Box<dyn Error>`,
/// `anyhow::Error`, a plain text. The result is the same as that of [`Close::internal`].
///
/// ```
/// use posthouse::{HandlerResult, OrClose};
///
/// fn load() -> Result<u32, Box<dyn std::error::Error>> {
///     Ok("7".parse()?)
/// }
///
/// fn callback() -> HandlerResult {
///     let number = load().or_close()?;
///     assert_eq!(number, 7);
///     Ok(())
/// }
/// # callback().unwrap();
/// ```
pub trait OrClose<T> {
    /// Returns the value, or a [`Close`] whose cause is the error's text.
    ///
    /// # Errors
    ///
    /// A [`Close`] if `self` is an error.
    fn or_close(self) -> Result<T, Close>;
}

impl<T, E: fmt::Display> OrClose<T> for Result<T, E> {
    fn or_close(self) -> Result<T, Close> {
        self.map_err(Close::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_says_whose_fault_it_is_and_tells_the_peer_only_of_its_own() {
        let told = |close: &Close| match &close.how {
            How::Gracefully { code, text, .. } => (*code, text.to_string()),
            How::Abort => panic!("graceful"),
        };
        let peer = Close::peer_fault(1000, "no number");
        assert_eq!(peer.reason().fault(), Fault::Peer);
        assert_eq!(told(&peer), (1000, "no number".to_owned()));
        let internal: Close = "x".parse::<u8>().unwrap_err().into();
        assert_eq!(internal.reason().fault(), Fault::Local);
        assert!(internal.reason().to_string().contains("invalid digit"));
        assert_eq!(told(&internal), (code::INTERNAL_ERROR, "internal error".to_owned()));
    }
}
