//! The session: what two peers agree on over native framing, and Posthouse's own frames.

mod config;
mod event;
mod heartbeat;
mod hello;
mod key;

use std::time::Duration;

use crate::bye::{encode_bye, parse_bye};
use crate::{
    FEATURE_TRANSFERS, Frame, Framing, PAYLOAD_BYTES_MAX, Status, Violation, is_own_kind, kind,
    transfer,
};

pub use config::{
    CONTROL_REPLIES_MAX, CREDENTIAL_BYTES_MAX, ConfigError, HelloRule, PEER_PAYLOAD_BYTES_MIN,
    SessionConfig,
};
pub use event::{Agreed, Event};
pub use heartbeat::HEARTBEAT_MIN;
pub use key::{Key, KeyError};

use heartbeat::Heartbeat;
use hello::{FEATURES, Hello, VERSION, malformed};

/// One side of one session. Small until hello is agreed; what is agreed is on the heap.
///
/// The caller hands in every frame, every arrival of bytes and every deadline, and sends what is
/// appended to `out`, in order. On a [`Violation`] it says [`Session::bye`] and closes.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
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
enum Phase {
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
        Self { phase: Phase::Opening, side, hello_seen: false, over: false }
    }

    /// The connection stands. The connecting side says hello, unless the rule is never; the
    /// accepting side waits. `nonce` must be unpredictable where there is a key.
    ///
    /// # Panics
    /// If the configuration does not pass [`SessionConfig::check`], or on a second call.
    pub fn start(
        &mut self,
        config: &SessionConfig,
        _now: Duration,
        nonce: [u8; 16],
        out: &mut Vec<u8>,
    ) {
        assert!(matches!(self.phase, Phase::Opening), "a session starts once");
        if self.side == Side::Accepting {
            return;
        }
        if config.rule() == HelloRule::Never {
            self.phase = Phase::Plain;
            return;
        }
        let hello = Hello {
            version: VERSION,
            features: FEATURES,
            payload_bytes_max: payload_bytes_max(config),
            heartbeat_ms: heartbeat::to_ms(config.heartbeat),
            nonce,
            is_answer: false,
            demands_proof: false,
            credential: &config.credential,
        };
        hello.encode(out);
        self.phase = Phase::Asked(Box::new(nonce));
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
    ) -> Result<Event<'a>, Violation> {
        if self.over {
            return Ok(Event::Nothing);
        }
        match (&mut self.phase, self.side) {
            (Phase::Opening, Side::Accepting) => self.handle_first(config, now, nonce, frame, out),
            (Phase::Opening, Side::Connecting) | (Phase::Plain, _) => Ok(message(frame)),
            (Phase::Asked(_), _) => self.handle_answer(config, now, frame, out),
            (Phase::Proving(_), _) => self.handle_proof(config, now, frame, out),
            (Phase::Agreed(live), _) => {
                let event = live.handle(config, frame, out)?;
                self.over = matches!(event, Event::Bye(_));
                Ok(event)
            }
        }
    }

    /// True exactly when messages may be sent: hello and proof are done, or not needed.
    pub fn is_established(&self, config: &SessionConfig) -> bool {
        match self.phase {
            Phase::Agreed(_) | Phase::Plain => true,
            Phase::Proving(_) => false,
            Phase::Opening | Phase::Asked(_) => config.rule() != HelloRule::Required,
        }
    }

    /// What hello has settled; `None` before that, and for ever with a plain peer.
    pub fn agreed(&self) -> Option<&Agreed> {
        match &self.phase {
            Phase::Agreed(live) => Some(&live.agreed),
            _ => None,
        }
    }

    /// True exactly when this side may send requests, replies and all else of kinds 4 to 31 now.
    pub fn may_use_own_kinds(&self) -> bool {
        matches!(self.phase, Phase::Agreed(_)) && !self.over
    }

    /// True exactly when this side may send frames of file transfers now.
    pub fn may_transfer(&self) -> bool {
        let knows = |agreed: &Agreed| agreed.features & FEATURE_TRANSFERS != 0;
        self.may_use_own_kinds() && self.agreed().is_some_and(knows)
    }

    /// The number of the first thing that this side begins among transfers; each later one's is
    /// greater by two. The connecting side's are odd, the accepting side's even.
    pub fn first_transfer_id(&self) -> u32 {
        match self.side {
            Side::Connecting => 1,
            Side::Accepting => 2,
        }
    }

    /// Whether this side has begun, or may begin, what has this number. Nothing has number 0.
    pub fn is_own_transfer(&self, id: u32) -> bool {
        id != 0 && id % 2 == self.first_transfer_id() % 2
    }

    /// True exactly when a message of the user's may not have a kind of 4 to 31: this side has
    /// said hello or answered one, so the peer would take it for Posthouse's.
    pub fn own_kinds_are_reserved(&self) -> bool {
        !matches!(self.phase, Phase::Opening | Phase::Plain)
    }

    /// The largest payload that may be sent: the peer's limit, or ours while it has told none.
    pub fn send_limit(&self, config: &SessionConfig) -> usize {
        let told = self.agreed().map(|agreed| agreed.peer_payload_bytes_max);
        (told.unwrap_or(config.payload_bytes_max) as usize).min(PAYLOAD_BYTES_MAX)
    }

    /// Bytes have arrived at `now`.
    pub fn heard(&mut self, now: Duration) {
        if let Some(heartbeat) = self.heartbeat() {
            heartbeat.heard(now);
        }
    }

    /// All that was queued has left: control replies are counted anew.
    pub fn flushed(&mut self) {
        if let Phase::Agreed(live) = &mut self.phase {
            live.control_replies = 0;
        }
    }

    /// When [`Session::handle_deadline`] wants to be called; it moves later with
    /// [`Session::heard`]. `None` without a heartbeat, and after a bye.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Agreed(live) if !self.over => live.heartbeat.map(|beat| beat.deadline()),
            _ => None,
        }
    }

    /// Sends a ping after each heartbeat of silence; [`Violation::Silent`] after two and a half.
    /// Does nothing before the deadline.
    pub fn handle_deadline(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<(), Violation> {
        let Some(heartbeat) = self.heartbeat() else { return Ok(()) };
        if let Some(serial) = heartbeat.handle_deadline(now)? {
            encode_own(kind::PING, &serial.to_le_bytes(), out);
        }
        Ok(())
    }

    /// Says bye if the peer can understand one and none was said or heard; returns whether it did.
    /// The text is cut to [`crate::BYE_TEXT_BYTES_MAX`] and the peer's limit, at a character.
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
            Phase::Agreed(live) => live.agreed.peer_payload_bytes_max,
            Phase::Proving(proving) => proving.agreed.peer_payload_bytes_max,
            _ => PEER_PAYLOAD_BYTES_MIN,
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
    ) -> Result<Event<'a>, Violation> {
        let rule = config.rule();
        if rule == HelloRule::Never || !Hello::is_claimed_by(frame) {
            if rule == HelloRule::Required {
                return Err(Violation::HelloMissing { kind: frame.kind });
            }
            self.phase = Phase::Plain;
            return Ok(message(frame));
        }
        let hello = Hello::parse(frame.payload)?;
        if hello.is_answer {
            return Err(malformed("an answer where a question is due"));
        }
        let heartbeat_ms = heartbeat::to_ms(config.heartbeat);
        let heartbeat = heartbeat::agree(heartbeat_ms, hello.heartbeat_ms);
        let answer = Hello {
            version: if hello.version == 0 { VERSION } else { hello.version.min(VERSION) },
            features: hello.features & FEATURES,
            payload_bytes_max: payload_bytes_max(config),
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
            peer_payload_bytes_max: hello.payload_bytes_max,
            heartbeat,
            credential: hello.credential.into(),
            proven: false,
        };
        if answer.demands_proof {
            let (client_nonce, server_nonce) = (hello.nonce, answer.nonce);
            self.phase = Phase::Proving(Box::new(Proving { client_nonce, server_nonce, agreed }));
            return Ok(Event::Nothing);
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
    ) -> Result<Event<'a>, Violation> {
        let Phase::Asked(client_nonce) = &self.phase else { unreachable!("called in Asked only") };
        if !Hello::is_answer_claimed_by(frame) {
            return match config.key {
                Some(_) => Err(Violation::HelloMissing { kind: frame.kind }),
                None => Ok(message(frame)),
            };
        }
        let answer = Hello::parse(frame.payload)?;
        self.hello_seen = true;
        if answer.version != VERSION {
            return Err(Violation::Version { version: answer.version });
        }
        let heartbeat_ms = heartbeat::to_ms(config.heartbeat);
        let agreed = Agreed {
            version: answer.version,
            features: answer.features & FEATURES,
            peer_payload_bytes_max: answer.payload_bytes_max,
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
                encode_own(kind::PROVE, &key.prove(&server_nonce, &client_nonce), out);
                let proving = Proving { client_nonce, server_nonce, agreed };
                self.phase = Phase::Proving(Box::new(proving));
                Ok(Event::Nothing)
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
    ) -> Result<Event<'a>, Violation> {
        let Phase::Proving(proving) = &self.phase else { unreachable!("called in Proving only") };
        let (client, server) = (&proving.client_nonce, &proving.server_nonce);
        let key = config.key.as_ref().expect("a proof is only awaited where there is a key");
        let is_right = match (frame.kind, self.side) {
            (kind::BYE, _) => {
                let bye = parse_bye(frame.payload)?;
                self.over = true;
                return Ok(Event::Bye(bye));
            }
            (kind::PROVE, Side::Accepting) => key.check_prove(server, client, frame.payload),
            (kind::WELCOME, Side::Connecting) => key.check_welcome(client, server, frame.payload),
            (kind, _) => return Err(Violation::OutOfState { kind }),
        };
        if !is_right {
            return Err(Violation::ProofWrong);
        }
        if self.side == Side::Accepting {
            encode_own(kind::WELCOME, &key.welcome(client, server), out);
        }
        let agreed = Agreed { proven: true, ..proving.agreed.clone() };
        Ok(self.establish(agreed, now))
    }

    fn establish<'a>(&mut self, agreed: Agreed, now: Duration) -> Event<'a> {
        let heartbeat = agreed.heartbeat.map(|every| Heartbeat::new(every, now));
        self.phase = Phase::Agreed(Box::new(Live { agreed, heartbeat, control_replies: 0 }));
        Event::Established
    }

    fn heartbeat(&mut self) -> Option<&mut Heartbeat> {
        match &mut self.phase {
            Phase::Agreed(live) if !self.over => live.heartbeat.as_mut(),
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
    ) -> Result<Event<'a>, Violation> {
        let Frame { kind, payload } = frame;
        let malformed = |why| Violation::Malformed { kind, why };
        match kind {
            kind if !is_own_kind(kind) => Ok(message(frame)),
            kind::HELLO | kind::PROVE | kind::WELCOME => Err(Violation::OutOfState { kind }),
            kind::BYE => parse_bye(payload).map(Event::Bye),
            kind::REQUEST => match payload {
                [a, b, c, d, kind, payload @ ..] => {
                    let id = u32::from_le_bytes([*a, *b, *c, *d]);
                    Ok(Event::Request { id, kind: *kind, payload })
                }
                _ => Err(malformed("shorter than 5 bytes")),
            },
            kind::REPLY => match payload {
                [a, b, c, d, status, kind, payload @ ..] => {
                    let id = u32::from_le_bytes([*a, *b, *c, *d]);
                    let status = Status::from_wire(*status);
                    Ok(Event::Reply { id, status, kind: *kind, payload })
                }
                _ => Err(malformed("shorter than 6 bytes")),
            },
            kind::PING | kind::PONG if payload.len() != 8 => Err(malformed("not 8 bytes long")),
            kind::PING => {
                let control_replies_max = config.control_replies_max;
                if self.control_replies >= control_replies_max {
                    return Err(Violation::ControlFlood { control_replies_max });
                }
                self.control_replies += 1;
                encode_own(kind::PONG, payload, out);
                Ok(Event::Nothing)
            }
            kind => {
                let transfers = self.agreed.features & FEATURE_TRANSFERS != 0;
                match transfers.then(|| transfer::parse(frame)).transpose()?.flatten() {
                    Some(frame) => Ok(Event::Transfer(frame)),
                    None if kind::is_critical(kind) => Err(Violation::UnknownKind { kind }),
                    None => Ok(Event::Nothing),
                }
            }
        }
    }
}

fn message(frame: Frame<'_>) -> Event<'_> {
    Event::Message { kind: frame.kind, payload: frame.payload }
}

/// What we announce: no less than every peer may count on, no more than a frame can carry.
fn payload_bytes_max(config: &SessionConfig) -> u32 {
    config.payload_bytes_max.clamp(PEER_PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MAX as u32)
}

/// Appends one of the frames of a few bytes.
fn encode_own(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    Framing::encode_native(kind, &[], payload, PAYLOAD_BYTES_MAX, out)
        .expect("Posthouse's own frames are far below the largest frame");
}

#[cfg(test)]
mod tests;
