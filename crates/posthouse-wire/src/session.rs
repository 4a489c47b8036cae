//! The session: the agreement of two peers over native framing, and the frames of reserved kinds.

mod bye;
mod config;
mod event;
mod heartbeat;
mod hello;
mod key;
mod request;

use std::time::Duration;

use crate::{
    FEATURE_TRANSFERS, Frame, Framing, MAX_PAYLOAD_BYTES, Violation, is_reserved_kind, kind,
    transfer,
};

pub use bye::{Bye, MAX_BYE_TEXT_BYTES};
pub use config::{
    HelloPolicy, MAX_CONTROL_REPLIES, MAX_CREDENTIAL_BYTES, MIN_PEER_PAYLOAD_BYTES, SessionConfig,
    SessionConfigError,
};
pub use event::{Agreed, SessionEvent};
pub use heartbeat::MIN_HEARTBEAT;
pub use key::{Key, KeyError};
pub use request::{
    REPLY_HEAD_BYTES, REQUEST_HEAD_BYTES, ReplyStatus, encode_reply, encode_request,
};

use bye::{encode_bye, parse_bye};
use heartbeat::Heartbeat;
use hello::{FEATURES, HelloFrame, VERSION, malformed};

/// One side of one session. Small until hello is agreed; what is agreed is on the heap.
///
/// The caller hands in every frame, every arrival of bytes and every deadline, and sends what is
/// appended to `out`, in order. On a [`Violation`] it says [`Session::bye`] and closes.
#[derive(Debug)]
pub struct Session {
    phase: SessionPhase,
    side: Side,
    /// True exactly when the peer is known to know hello, so that it can understand a bye.
    hello_seen: bool,
    /// True exactly when a bye was said or heard.
    over: bool,
}

const _: () = assert!(size_of::<Session>() <= 24);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Accepting,
    Connecting,
}

#[derive(Debug)]
enum SessionPhase {
    /// Accepting: the first frame has not come. Connecting: not started.
    Opening,
    /// There is no hello and will be none: all kinds are ordinary messages.
    Plain,
    /// Connecting: our hello is out, with this nonce.
    Asked(Box<[u8; 16]>),
    /// Accepting: the peer's proof is awaited. Connecting: ours is out, the welcome is awaited.
    Proving(Box<Proving>),
    /// Hello, and the proof where one is demanded, are done.
    Agreed(Box<Live>),
}

#[derive(Debug)]
struct Proving {
    client_nonce: [u8; 16],
    server_nonce: [u8; 16],
    agreed: Agreed,
}

#[derive(Debug)]
struct Live {
    agreed: Agreed,
    heartbeat: Option<Heartbeat>,
    /// Pongs written since everything queued had left.
    control_replies: u32,
}

impl Session {
    /// The accepting side of a new connection.
    pub fn accepted() -> Self {
        Self::new(Side::Accepting)
    }

    /// The connecting side of a new connection; see [`Session::start`].
    pub fn connecting() -> Self {
        Self::new(Side::Connecting)
    }

    fn new(side: Side) -> Self {
        Self { phase: SessionPhase::Opening, side, hello_seen: false, over: false }
    }

    /// Starts the session of a connection that is established. The connecting side sends a hello,
    /// unless the policy is never; the accepting side waits. `nonce` must be unpredictable if there
    /// is a key.
    ///
    /// # Panics
    /// If the configuration does not pass [`SessionConfig::check`], or on a second call.
    pub fn start(&mut self, config: &SessionConfig, nonce: [u8; 16], out: &mut Vec<u8>) {
        assert!(matches!(self.phase, SessionPhase::Opening), "a session starts once");
        if self.side == Side::Accepting {
            return;
        }
        if config.policy() == HelloPolicy::Never {
            self.phase = SessionPhase::Plain;
            return;
        }
        let hello = HelloFrame {
            version: VERSION,
            features: FEATURES,
            max_payload_bytes: max_payload_bytes(config),
            heartbeat_ms: heartbeat::to_ms(config.heartbeat),
            nonce,
            is_answer: false,
            demands_proof: false,
            credential: &config.credential,
        };
        hello.encode(out);
        self.phase = SessionPhase::Asked(Box::new(nonce));
    }

    /// Takes a frame as it came off the wire. Answers (hello, prove, welcome, pong) are appended
    /// to `out` at once, before any bytes that the caller writes because of the event. `nonce` is
    /// asked for once at most, for the answer to a hello.
    pub fn handle_frame<'a>(
        &mut self,
        config: &SessionConfig,
        now: Duration,
        nonce: &mut dyn FnMut() -> [u8; 16],
        frame: Frame<'a>,
        out: &mut Vec<u8>,
    ) -> Result<SessionEvent<'a>, Violation> {
        if self.over {
            return Ok(SessionEvent::Nothing);
        }
        match (&mut self.phase, self.side) {
            (SessionPhase::Opening, Side::Accepting) => {
                self.handle_first(config, now, nonce, frame, out)
            }
            (SessionPhase::Opening, Side::Connecting) | (SessionPhase::Plain, _) => {
                Ok(message(frame))
            }
            (SessionPhase::Asked(_), _) => self.handle_answer(config, now, frame, out),
            (SessionPhase::Proving(_), _) => self.handle_proof(config, now, frame, out),
            (SessionPhase::Agreed(live), _) => {
                let event = live.handle(config, frame, out)?;
                self.over = matches!(event, SessionEvent::Bye(_));
                Ok(event)
            }
        }
    }

    /// True exactly when messages may be sent: hello and proof are done, or not needed.
    pub fn is_established(&self, config: &SessionConfig) -> bool {
        match self.phase {
            SessionPhase::Agreed(_) | SessionPhase::Plain => true,
            SessionPhase::Proving(_) => false,
            SessionPhase::Opening | SessionPhase::Asked(_) => {
                config.policy() != HelloPolicy::Required
            }
        }
    }

    /// What hello has settled; `None` before that, and for ever with a plain peer.
    pub fn agreed(&self) -> Option<&Agreed> {
        match &self.phase {
            SessionPhase::Agreed(live) => Some(&live.agreed),
            _ => None,
        }
    }

    /// True exactly when this side may send requests, replies and all else of kinds 4 to 31 now.
    pub fn may_use_reserved_kinds(&self) -> bool {
        matches!(self.phase, SessionPhase::Agreed(_)) && !self.over
    }

    /// True exactly when this side may send frames of file transfers now.
    pub fn may_transfer(&self) -> bool {
        let knows = |agreed: &Agreed| agreed.features & FEATURE_TRANSFERS != 0;
        self.may_use_reserved_kinds() && self.agreed().is_some_and(knows)
    }

    /// The number of the first thing that this side begins among transfers; each later one's is
    /// greater by two. The connecting side's are odd, the accepting side's even.
    pub fn first_transfer_id(&self) -> u32 {
        match self.side {
            Side::Connecting => 1,
            Side::Accepting => 2,
        }
    }

    /// True exactly when this number is one of those that this side gives; never for 0.
    pub fn is_local_transfer(&self, id: u32) -> bool {
        id != 0 && id % 2 == self.first_transfer_id() % 2
    }

    /// True exactly when a user's message may not have a kind of 4 to 31: this side has sent a
    /// hello or answered one, so the peer would take it for Posthouse's.
    pub fn kinds_are_reserved(&self) -> bool {
        !matches!(self.phase, SessionPhase::Opening | SessionPhase::Plain)
    }

    /// Returns whether a frame of this kind is an ordinary message, which
    /// [`Session::handle_frame`] would hand back as it is.
    #[inline]
    pub fn is_message(&self, kind: u8) -> bool {
        match self.phase {
            SessionPhase::Plain => true,
            SessionPhase::Agreed(_) => !is_reserved_kind(kind) && !self.over,
            SessionPhase::Opening | SessionPhase::Asked(_) | SessionPhase::Proving(_) => false,
        }
    }

    /// The largest payload that may be sent: the peer's limit, or ours while it has told none.
    pub fn send_limit(&self, config: &SessionConfig) -> usize {
        let told = self.agreed().map(|agreed| agreed.peer_max_payload_bytes);
        (told.unwrap_or(config.max_payload_bytes) as usize).min(MAX_PAYLOAD_BYTES)
    }

    /// Notes that bytes have arrived at `now`.
    pub fn on_activity(&mut self, now: Duration) {
        if let Some(heartbeat) = self.heartbeat() {
            heartbeat.on_activity(now);
        }
    }

    /// Counts control replies anew: everything that was queued has left.
    pub fn flushed(&mut self) {
        if let SessionPhase::Agreed(live) = &mut self.phase {
            live.control_replies = 0;
        }
    }

    /// When [`Session::handle_deadline`] wants to be called; it moves later with
    /// [`Session::on_activity`]. `None` without a heartbeat, and after a bye.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            SessionPhase::Agreed(live) if !self.over => live.heartbeat.map(|beat| beat.deadline()),
            _ => None,
        }
    }

    /// Sends a ping after each heartbeat of silence; [`Violation::Silent`] after two and a half.
    /// Does nothing before the deadline.
    pub fn handle_deadline(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<(), Violation> {
        let Some(heartbeat) = self.heartbeat() else { return Ok(()) };
        if let Some(serial) = heartbeat.handle_deadline(now)? {
            encode_control(kind::PING, &serial.to_le_bytes(), out);
        }
        Ok(())
    }

    /// Says bye if the peer can understand one and none was said or heard; returns whether it did.
    /// The text is cut to [`crate::MAX_BYE_TEXT_BYTES`] and the peer's limit, at a character.
    /// Afterwards frames that still come are ignored.
    pub fn bye(
        &mut self,
        code: u16,
        text: &str,
        retry_after: Option<Duration>,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.over || !self.hello_seen {
            return false;
        }
        let limit = match &self.phase {
            SessionPhase::Agreed(live) => live.agreed.peer_max_payload_bytes,
            SessionPhase::Proving(proving) => proving.agreed.peer_max_payload_bytes,
            _ => MIN_PEER_PAYLOAD_BYTES,
        };
        encode_bye(code, text, retry_after, limit as usize, out);
        self.over = true;
        true
    }

    /// Accepting: the first frame decides whether the peer is a plain one.
    fn handle_first<'a>(
        &mut self,
        config: &SessionConfig,
        now: Duration,
        nonce: &mut dyn FnMut() -> [u8; 16],
        frame: Frame<'a>,
        out: &mut Vec<u8>,
    ) -> Result<SessionEvent<'a>, Violation> {
        let policy = config.policy();
        if policy == HelloPolicy::Never || !HelloFrame::is_claimed_by(frame) {
            if policy == HelloPolicy::Required {
                return Err(Violation::HelloMissing { kind: frame.kind });
            }
            self.phase = SessionPhase::Plain;
            return Ok(message(frame));
        }
        let hello = HelloFrame::parse(frame.payload)?;
        if hello.is_answer {
            return Err(malformed("an answer where a question is due"));
        }
        let heartbeat_ms = heartbeat::to_ms(config.heartbeat);
        let heartbeat = heartbeat::agree(heartbeat_ms, hello.heartbeat_ms);
        let answer = HelloFrame {
            version: if hello.version == 0 { VERSION } else { hello.version.min(VERSION) },
            features: hello.features & FEATURES,
            max_payload_bytes: max_payload_bytes(config),
            heartbeat_ms: heartbeat::to_ms(heartbeat),
            nonce: nonce(),
            is_answer: true,
            demands_proof: config.key.is_some(),
            // Whoever connects has proved nothing yet, so nothing about us is told.
            credential: &[],
        };
        answer.encode(out);
        self.hello_seen = true;
        if hello.version == 0 {
            return Err(Violation::Version { version: 0 });
        }
        let agreed = Agreed {
            version: answer.version,
            features: answer.features,
            peer_max_payload_bytes: hello.max_payload_bytes,
            heartbeat,
            credential: hello.credential.into(),
            proven: false,
        };
        if answer.demands_proof {
            let (client_nonce, server_nonce) = (hello.nonce, answer.nonce);
            self.phase =
                SessionPhase::Proving(Box::new(Proving { client_nonce, server_nonce, agreed }));
            return Ok(SessionEvent::Nothing);
        }
        Ok(self.establish(agreed, now))
    }

    /// Connecting: the answer to our hello, or what a server says that has not read it yet.
    fn handle_answer<'a>(
        &mut self,
        config: &SessionConfig,
        now: Duration,
        frame: Frame<'a>,
        out: &mut Vec<u8>,
    ) -> Result<SessionEvent<'a>, Violation> {
        let SessionPhase::Asked(client_nonce) = &self.phase else {
            unreachable!("called in Asked only")
        };
        if !HelloFrame::is_answer_claimed_by(frame) {
            return match config.key {
                Some(_) => Err(Violation::HelloMissing { kind: frame.kind }),
                None => Ok(message(frame)),
            };
        }
        let answer = HelloFrame::parse(frame.payload)?;
        self.hello_seen = true;
        if answer.version != VERSION {
            return Err(Violation::Version { version: answer.version });
        }
        let heartbeat_ms = heartbeat::to_ms(config.heartbeat);
        let agreed = Agreed {
            version: answer.version,
            features: answer.features & FEATURES,
            peer_max_payload_bytes: answer.max_payload_bytes,
            heartbeat: heartbeat::agree(heartbeat_ms, answer.heartbeat_ms),
            credential: answer.credential.into(),
            proven: false,
        };
        match (&config.key, answer.demands_proof) {
            (None, false) => Ok(self.establish(agreed, now)),
            (None, true) => Err(Violation::KeyMissing),
            (Some(_), false) => Err(Violation::ProofNotOffered),
            (Some(key), true) => {
                let (client_nonce, server_nonce) = (**client_nonce, answer.nonce);
                encode_control(kind::PROVE, &key.prove(&server_nonce, &client_nonce), out);
                let proving = Proving { client_nonce, server_nonce, agreed };
                self.phase = SessionPhase::Proving(Box::new(proving));
                Ok(SessionEvent::Nothing)
            }
        }
    }

    /// The proof, or the welcome; nothing else may come until it has.
    fn handle_proof<'a>(
        &mut self,
        config: &SessionConfig,
        now: Duration,
        frame: Frame<'a>,
        out: &mut Vec<u8>,
    ) -> Result<SessionEvent<'a>, Violation> {
        let SessionPhase::Proving(proving) = &self.phase else {
            unreachable!("called in Proving only")
        };
        let (client, server) = (&proving.client_nonce, &proving.server_nonce);
        let key = config.key.as_ref().expect("a proof is only awaited where there is a key");
        let is_right = match (frame.kind, self.side) {
            (kind::BYE, _) => {
                let bye = parse_bye(frame.payload)?;
                self.over = true;
                return Ok(SessionEvent::Bye(bye));
            }
            (kind::PROVE, Side::Accepting) => key.check_prove(server, client, frame.payload),
            (kind::WELCOME, Side::Connecting) => key.check_welcome(client, server, frame.payload),
            (kind, _) => return Err(Violation::OutOfState { kind }),
        };
        if !is_right {
            return Err(Violation::ProofWrong);
        }
        if self.side == Side::Accepting {
            encode_control(kind::WELCOME, &key.welcome(client, server), out);
        }
        let agreed = Agreed { proven: true, ..proving.agreed.clone() };
        Ok(self.establish(agreed, now))
    }

    fn establish<'a>(&mut self, agreed: Agreed, now: Duration) -> SessionEvent<'a> {
        let heartbeat = agreed.heartbeat.map(|interval| Heartbeat::new(interval, now));
        self.phase = SessionPhase::Agreed(Box::new(Live { agreed, heartbeat, control_replies: 0 }));
        SessionEvent::Established
    }

    fn heartbeat(&mut self) -> Option<&mut Heartbeat> {
        match &mut self.phase {
            SessionPhase::Agreed(live) if !self.over => live.heartbeat.as_mut(),
            _ => None,
        }
    }
}

impl Live {
    fn handle<'a>(
        &mut self,
        config: &SessionConfig,
        frame: Frame<'a>,
        out: &mut Vec<u8>,
    ) -> Result<SessionEvent<'a>, Violation> {
        let Frame { kind, payload } = frame;
        let malformed = |why| Violation::Malformed { kind, why };
        match kind {
            kind if !is_reserved_kind(kind) => Ok(message(frame)),
            kind::HELLO | kind::PROVE | kind::WELCOME => Err(Violation::OutOfState { kind }),
            kind::BYE => parse_bye(payload).map(SessionEvent::Bye),
            kind::REQUEST => match payload {
                [a, b, c, d, kind, payload @ ..] => {
                    let id = u32::from_le_bytes([*a, *b, *c, *d]);
                    Ok(SessionEvent::Request { id, kind: *kind, payload })
                }
                _ => Err(malformed("shorter than 5 bytes")),
            },
            kind::REPLY => match payload {
                [a, b, c, d, status, kind, payload @ ..] => {
                    let id = u32::from_le_bytes([*a, *b, *c, *d]);
                    let status = ReplyStatus::from_wire(*status);
                    Ok(SessionEvent::Reply { id, status, kind: *kind, payload })
                }
                _ => Err(malformed("shorter than 6 bytes")),
            },
            kind::PING | kind::PONG if payload.len() != 8 => Err(malformed("not 8 bytes long")),
            kind::PING => {
                let max_control_replies = config.max_control_replies;
                if self.control_replies >= max_control_replies {
                    return Err(Violation::ControlFlood { max_control_replies });
                }
                self.control_replies += 1;
                encode_control(kind::PONG, payload, out);
                Ok(SessionEvent::Nothing)
            }
            kind => {
                let transfers = self.agreed.features & FEATURE_TRANSFERS != 0;
                match transfers.then(|| transfer::parse(frame)).transpose()?.flatten() {
                    Some(frame) => Ok(SessionEvent::Transfer(frame)),
                    None if kind::is_critical(kind) => Err(Violation::UnknownKind { kind }),
                    None => Ok(SessionEvent::Nothing),
                }
            }
        }
    }
}

fn message(frame: Frame<'_>) -> SessionEvent<'_> {
    SessionEvent::Message { kind: frame.kind, payload: frame.payload }
}

/// What we announce: no less than every peer may count on, no more than a frame can carry.
fn max_payload_bytes(config: &SessionConfig) -> u32 {
    config.max_payload_bytes.clamp(MIN_PEER_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES as u32)
}

/// Appends one of the frames of a few bytes.
fn encode_control(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    Framing::encode_native(kind, &[], payload, MAX_PAYLOAD_BYTES, out)
        .expect("control frames are far below the largest frame");
}

#[cfg(test)]
mod tests;
