//! The session: the agreement of two peers in native framing, and the frames of reserved kinds.

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
pub use heartbeat::{MIN_HEARTBEAT, SendQueue};
pub use key::{Key, KeyError};
pub use request::{
    REPLY_HEAD_BYTES, REQUEST_HEAD_BYTES, ReplyStatus, encode_reply, encode_request,
};

use bye::{encode_bye, parse_bye};
use heartbeat::{Beat, Heartbeat};
use hello::{FEATURES, HelloFrame, VERSION, malformed};
use key::{Transcript, TranscriptHasher};

/// The value that ties a proof to the secure channel that carries the session; empty without one.
const NO_BINDING: &[u8] = &[];

/// One side of one session. It has at most 24 bytes; once hello is agreed, a heap allocation holds
/// the agreement.
///
/// The caller passes in every frame, every arrival of bytes and every deadline. It sends the bytes
/// that the session appends to `out`, in order. On a [`Violation`] the caller calls
/// [`Session::bye`] and closes the connection.
#[derive(Debug)]
pub struct Session {
    phase: SessionPhase,
    side: Side,
    /// True exactly when the peer has sent a valid hello, so it can understand a bye.
    hello_seen: bool,
    /// True exactly when a bye was sent or received.
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
    /// Accepting: the first frame has not arrived. Connecting: not started.
    Opening,
    /// This session has no hello: all kinds are ordinary messages.
    Plain,
    /// Connecting: this side has sent its hello and awaits the answer.
    Asked(Box<TranscriptHasher>),
    /// Accepting: this side awaits the peer's proof. Connecting: it has sent its proof and awaits
    /// the welcome.
    Proving(Box<Proving>),
    /// Hello is agreed and, if the server demands a proof, both proofs are right.
    Agreed(Box<Live>),
}

#[derive(Debug)]
struct Proving {
    transcript: Transcript,
    agreed: Agreed,
}

#[derive(Debug)]
struct Live {
    agreed: Agreed,
    heartbeat: Option<Heartbeat>,
    /// The number of pongs written since the last [`Session::flushed`].
    control_replies: u32,
}

impl Session {
    /// Makes the accepting side of a new connection.
    pub fn accepted() -> Self {
        Self::new(Side::Accepting)
    }

    /// Makes the connecting side of a new connection. Call [`Session::start`] next.
    pub fn connecting() -> Self {
        Self::new(Side::Connecting)
    }

    fn new(side: Side) -> Self {
        Self { phase: SessionPhase::Opening, side, hello_seen: false, over: false }
    }

    /// Starts the session when the connection is established. The connecting side sends a hello,
    /// unless the policy is [`HelloPolicy::Never`]; the accepting side waits. If the configuration
    /// has a key, `nonce` must be unpredictable.
    ///
    /// # Panics
    /// If the credential is longer than [`MAX_CREDENTIAL_BYTES`], or on a second call on the
    /// connecting side.
    pub fn start(&mut self, config: &SessionConfig, nonce: [u8; 16], out: &mut Vec<u8>) {
        assert!(matches!(self.phase, SessionPhase::Opening), "a session was started twice");
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
        let payload = hello.encode(out);
        self.phase = SessionPhase::Asked(Box::new(TranscriptHasher::new(payload)));
    }

    /// Handles a received frame. It appends the answers (hello, prove, welcome, pong) to `out` at
    /// once, before any bytes that the caller writes because of the event. It calls `nonce` at most
    /// once, for the answer to a hello.
    ///
    /// # Errors
    /// A [`Violation`] if the peer broke the protocol, or the two sides cannot agree.
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

    /// Returns true exactly when messages may be sent: hello and proof are complete, or the
    /// configuration does not require them.
    pub fn is_established(&self, config: &SessionConfig) -> bool {
        match self.phase {
            SessionPhase::Agreed(_) | SessionPhase::Plain => true,
            SessionPhase::Proving(_) => false,
            SessionPhase::Opening | SessionPhase::Asked(_) => {
                config.policy() != HelloPolicy::Required
            }
        }
    }

    /// Returns the result of hello. `None` before hello and proof are complete, and always with a
    /// peer that sends no hello.
    pub fn agreed(&self) -> Option<&Agreed> {
        match &self.phase {
            SessionPhase::Agreed(live) => Some(&live.agreed),
            _ => None,
        }
    }

    /// Returns true exactly when this side may send requests, replies and other frames of kinds 4
    /// to 31 now.
    pub fn may_use_reserved_kinds(&self) -> bool {
        matches!(self.phase, SessionPhase::Agreed(_)) && !self.over
    }

    /// Returns true exactly when this side may send frames of file transfers now.
    pub fn may_transfer(&self) -> bool {
        let knows = |agreed: &Agreed| agreed.features & FEATURE_TRANSFERS != 0;
        self.may_use_reserved_kinds() && self.agreed().is_some_and(knows)
    }

    /// Returns the number of the first transfer that this side begins. Each later number is greater
    /// by two. The numbers of the connecting side are odd, those of the accepting side even.
    pub fn first_transfer_id(&self) -> u32 {
        match self.side {
            Side::Connecting => 1,
            Side::Accepting => 2,
        }
    }

    /// Returns true exactly when this side, not the peer, gives this number to a transfer. Returns
    /// false for 0.
    pub fn is_local_transfer(&self, id: u32) -> bool {
        id != 0 && id % 2 == self.first_transfer_id() % 2
    }

    /// Returns true exactly when a user's message must not have a kind of 4 to 31: this side has
    /// sent or answered a hello, so the peer would read the message as a frame of Posthouse.
    pub fn kinds_are_reserved(&self) -> bool {
        !matches!(self.phase, SessionPhase::Opening | SessionPhase::Plain)
    }

    /// Returns whether the session, in its present phase, treats a frame of this kind as an
    /// ordinary message. [`Session::handle_frame`] would return such a frame unchanged, so the
    /// caller need not call it. False for every kind until both sides have said hello or the
    /// session is known to be without hello.
    #[inline]
    pub fn is_message(&self, kind: u8) -> bool {
        match self.phase {
            SessionPhase::Plain => true,
            SessionPhase::Agreed(_) => !is_reserved_kind(kind) && !self.over,
            SessionPhase::Opening | SessionPhase::Asked(_) | SessionPhase::Proving(_) => false,
        }
    }

    /// Returns the largest payload that may be sent, in bytes: the limit of the peer's hello, and
    /// before that the limit of this side. Never more than [`MAX_PAYLOAD_BYTES`].
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

    /// Moves the time of the peer's silence: this side did not read for `time` until `now`.
    pub fn postpone_silence(&mut self, time: Duration, now: Duration) {
        if let Some(heartbeat) = self.heartbeat() {
            heartbeat.postpone_silence(time, now);
        }
    }

    /// Notes that bytes were sent at `now`.
    pub fn on_sent(&mut self, now: Duration) {
        if let Some(heartbeat) = self.heartbeat() {
            heartbeat.on_sent(now);
        }
    }

    /// Notes that the pongs of some time ago have been sent: counts the queued pongs anew.
    pub fn flushed(&mut self) {
        if let SessionPhase::Agreed(live) = &mut self.phase {
            live.control_replies = 0;
        }
    }

    /// Returns the time at which [`Session::handle_deadline`] is due. [`Session::on_activity`] and
    /// [`Session::on_sent`] move it later. `None` without a heartbeat, and after a bye.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            SessionPhase::Agreed(live) if !self.over => live.heartbeat.map(|beat| beat.deadline()),
            _ => None,
        }
    }

    /// Sends a ping after one heartbeat of the peer's silence, and after two. Sends a pong after
    /// one heartbeat in which this side has sent nothing and had nothing to send, unless a ping is
    /// due soon. Does nothing before the deadline.
    ///
    /// # Errors
    /// [`Violation::Silent`] after two and a half heartbeats of the peer's silence.
    pub fn handle_deadline(
        &mut self,
        now: Duration,
        queue: SendQueue,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        let Some(heartbeat) = self.heartbeat() else { return Ok(()) };
        match heartbeat.handle_deadline(now, queue)? {
            Some(Beat::Ping(serial)) => encode_control(kind::PING, &serial.to_le_bytes(), out),
            Some(Beat::Pong) => encode_control(kind::PONG, &[0; 8], out),
            None => {}
        }
        Ok(())
    }

    /// Appends a bye, if the peer has sent a hello and no bye was sent or received before. Returns
    /// whether it did. The text is cut between two characters, to [`crate::MAX_BYE_TEXT_BYTES`] and
    /// to the peer's limit. The session ignores all frames that arrive after its bye.
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

    /// Handles the first frame on the accepting side: a hello, or else the peer sends none.
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
            return Err(malformed("it is an answer, and this side has asked nothing"));
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
            // The client has proved nothing yet, so the answer reveals nothing about this side.
            credential: &[],
        };
        let answered = answer.encode(out);
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
            let transcript = TranscriptHasher::new(frame.payload).finish(answered);
            self.phase = SessionPhase::Proving(Box::new(Proving { transcript, agreed }));
            return Ok(SessionEvent::Nothing);
        }
        Ok(self.establish(agreed, now))
    }

    /// Handles a frame on the connecting side before the answer to its hello: that answer, or a
    /// message that the server sent before it read the hello.
    fn handle_answer<'a>(
        &mut self,
        config: &SessionConfig,
        now: Duration,
        frame: Frame<'a>,
        out: &mut Vec<u8>,
    ) -> Result<SessionEvent<'a>, Violation> {
        let SessionPhase::Asked(asked) = &self.phase else { unreachable!("called in Asked only") };
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
                let transcript = TranscriptHasher::clone(asked).finish(frame.payload);
                encode_control(kind::PROVE, &key.prove(&transcript, NO_BINDING), out);
                let proving = Proving { transcript, agreed };
                self.phase = SessionPhase::Proving(Box::new(proving));
                Ok(SessionEvent::Nothing)
            }
        }
    }

    /// Handles the proof on the accepting side and the welcome on the connecting side. Before it,
    /// no other frame but a bye is valid.
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
        let transcript = &proving.transcript;
        let key = config.key.as_ref().expect("only a session with a key awaits a proof");
        let is_right = match (frame.kind, self.side) {
            (kind::BYE, _) => {
                let bye = parse_bye(frame.payload)?;
                self.over = true;
                return Ok(SessionEvent::Bye(bye));
            }
            (kind::PROVE, Side::Accepting) => {
                key.check_prove(transcript, NO_BINDING, frame.payload)
            }
            (kind::WELCOME, Side::Connecting) => {
                key.check_welcome(transcript, NO_BINDING, frame.payload)
            }
            (kind, _) => return Err(Violation::OutOfState { kind }),
        };
        if !is_right {
            return Err(Violation::ProofWrong);
        }
        if self.side == Side::Accepting {
            encode_control(kind::WELCOME, &key.welcome(transcript, NO_BINDING), out);
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
                _ => Err(malformed("it is shorter than 5 bytes")),
            },
            kind::REPLY => match payload {
                [a, b, c, d, status, kind, payload @ ..] => {
                    let id = u32::from_le_bytes([*a, *b, *c, *d]);
                    let status = ReplyStatus::from_wire(*status);
                    Ok(SessionEvent::Reply { id, status, kind: *kind, payload })
                }
                _ => Err(malformed("it is shorter than 6 bytes")),
            },
            kind::PING | kind::PONG if payload.len() != 8 => Err(malformed("it is not 8 bytes")),
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

/// Returns the limit that this side announces: at least the minimum that every peer can rely on,
/// at most the largest payload of a frame.
fn max_payload_bytes(config: &SessionConfig) -> u32 {
    config.max_payload_bytes.clamp(MIN_PEER_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES as u32)
}

/// Appends a control frame, which has a payload of a few bytes.
fn encode_control(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    Framing::encode_small(kind, &[], payload, out);
}

#[cfg(test)]
mod tests;
