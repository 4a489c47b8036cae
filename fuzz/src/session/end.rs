//! One end of a session, with the checks of everything that the session does.

use std::time::Duration;

use posthouse_wire::{
    Agreed, Frame, FrameError, Framing, HelloPolicy, MAX_PAYLOAD_BYTES, MIN_HEARTBEAT, Reader,
    ReaderConfig, SendQueue, Session, SessionConfig, SessionEvent, Violation, bye_code,
    is_reserved_kind,
};

use super::round_trip;
use super::side::{CLIENT, SERVER, send};
use crate::frames::{self, BYE, HELLO, PING, PONG, PROVE};
use crate::input::Input;

#[expect(clippy::struct_excessive_bools, reason = "each is a fact that a check needs")]
pub(super) struct End {
    side: usize,
    pub(super) config: SessionConfig,
    session: Session,
    reader: Reader,
    reader_config: ReaderConfig,
    /// The written bytes that have not been taken.
    out: Vec<u8>,
    /// The hello or answer of this end.
    pub(super) said_hello: Option<Vec<u8>>,
    /// The hello or answer that this end has taken for the other's.
    pub(super) heard_hello: Option<Vec<u8>>,
    /// Whether the peer understands a bye.
    may_say_bye: bool,
    pub(super) is_established: bool,
    /// Whether a bye was said or heard, or the connection has ended.
    pub(super) is_over: bool,
    /// Whether the connection has ended.
    is_closed: bool,
    pub(super) is_timed_out: bool,
    pub(super) is_flooded: bool,
    /// Whether a message has come before a hello, or the policy is never: there is no hello.
    is_plain: bool,
    /// The pongs since everything was sent.
    pongs: u32,
}

impl End {
    pub(super) fn new(side: usize, config: SessionConfig) -> Self {
        let session = if side == CLIENT { Session::connecting() } else { Session::accepted() };
        let max_payload_bytes = config.max_payload_bytes as usize;
        let is_plain = config.key.is_none() && config.hello == HelloPolicy::Never;
        Self {
            side,
            config,
            session,
            reader: Reader::new(),
            reader_config: ReaderConfig { framing: Framing::Native, max_payload_bytes },
            out: Vec::new(),
            said_hello: None,
            heard_hello: None,
            may_say_bye: false,
            is_established: false,
            is_over: false,
            is_closed: false,
            is_timed_out: false,
            is_flooded: false,
            is_plain,
            pongs: 0,
        }
    }

    pub(super) fn start(&mut self) {
        self.session.start(&self.config, [self.side as u8 + 1; 16], &mut self.out);
        assert_eq!(self.out.is_empty(), self.is_plain, "a hello, unless the policy is never");
        self.said_hello = (!self.is_plain).then(|| self.out.clone());
    }

    /// Takes the whole frames that were written.
    pub(super) fn take_frames(&mut self) -> Vec<Vec<u8>> {
        let out = std::mem::take(&mut self.out);
        let mut rest = &out[..];
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let head = rest.first_chunk().expect("a whole head");
            let len = 4 + u32::from_le_bytes(*head) as usize;
            assert!(len < 4 + (1 << 24), "flags");
            let (frame, after) = rest.split_at(len);
            frames.push(frame.to_vec());
            rest = after;
        }
        frames
    }

    /// Takes a chunk of the stream.
    pub(super) fn receive(&mut self, now: Duration, mut chunk: &[u8]) {
        if chunk.is_empty() {
            return;
        }
        self.session.on_activity(now);
        let mut reader = std::mem::take(&mut self.reader);
        loop {
            if self.is_closed {
                return;
            }
            match reader.next(&self.reader_config, usize::MAX, &mut chunk) {
                Ok(Some(frame)) => self.handle(now, frame),
                Ok(None) => break,
                Err(error) => {
                    self.check_frame_error(error);
                    self.close(&error.into());
                }
            }
        }
        assert!(chunk.is_empty(), "the reader takes everything");
        assert!(reader.allocated() <= 2 * reader.held().max(8), "memory for bytes not arrived");
        self.reader = reader;
    }

    fn check_frame_error(&self, error: FrameError) {
        if let FrameError::TooLarge { announced, max } = error {
            assert_eq!(max, self.reader_config.max_payload_bytes);
            assert!(announced > max as u64);
        }
    }

    fn handle(&mut self, now: Duration, frame: Frame<'_>) {
        let before = self.out.len();
        let is_message = self.session.is_message(frame.kind);
        let mut nonces = 0;
        let mut nonce = || {
            nonces += 1;
            [0x40 | self.side as u8; 16]
        };
        let Self { session, config, out, .. } = self;
        let result = session.handle_frame(config, now, &mut nonce, frame, out);
        let written = out.len() - before;
        assert!(written <= frames::HEAD_BYTES + frame.payload.len(), "more than it cost the peer");
        assert_eq!(nonces, u8::from(written > 0 && out[before + 4] == HELLO));
        if self.is_over {
            assert!(!is_message, "a message after the end");
            assert_eq!((result, written), (Ok(SessionEvent::Nothing), 0), "after the end");
            return;
        }
        self.note_answer(frame, before);
        match result {
            Ok(event) => self.check_event(frame, &event, is_message),
            Err(violation) => {
                assert!(!is_message, "{violation} for a message");
                self.close(&violation);
            }
        }
    }

    /// Notes the meaning of what the session has written in answer to a frame.
    fn note_answer(&mut self, frame: Frame<'_>, before: usize) {
        let Some(kind) = self.out.get(before + 4) else { return };
        match *kind {
            HELLO | PROVE => {
                let heard = Some(frames::frame(frame.kind, frame.payload));
                assert!(self.heard_hello.is_none() && frame.kind == HELLO);
                self.heard_hello = heard;
                self.may_say_bye = true;
                if *kind == HELLO {
                    assert_eq!(self.side, SERVER);
                    self.said_hello = Some(self.out[before..].to_vec());
                }
            }
            PONG => {
                self.pongs += 1;
                assert!(self.pongs <= self.config.max_control_replies);
            }
            kind => assert_eq!((kind, self.side), (frames::WELCOME, SERVER)),
        }
    }

    fn check_event(&mut self, frame: Frame<'_>, event: &SessionEvent<'_>, is_message: bool) {
        let plain = SessionEvent::Message { kind: frame.kind, payload: frame.payload };
        assert!(!is_message || *event == plain, "a message that was changed");
        match event {
            SessionEvent::Message { kind, .. } => {
                assert_eq!(*event, plain);
                assert!(!self.is_established || !is_reserved_kind(*kind));
                if !self.is_established {
                    assert!(self.config.key.is_none(), "a message before the proof");
                    let is_first = self.side == SERVER;
                    assert!(!is_first || self.config.hello != HelloPolicy::Required);
                    self.is_plain |= is_first;
                }
            }
            SessionEvent::Request { .. } | SessionEvent::Reply { .. } => {
                assert!(self.is_established);
                round_trip::check_request(frame, event);
            }
            SessionEvent::Transfer(transfer) => {
                assert!(self.is_established && self.session.may_transfer());
                round_trip::check_transfer(frame, *transfer);
            }
            SessionEvent::Established => {
                assert!(
                    !self.is_established && !self.is_plain,
                    "established twice, or without hello"
                );
                self.is_established = true;
                self.may_say_bye = true;
                self.check_agreed();
            }
            SessionEvent::Bye(bye) => {
                assert!(frame.kind == BYE && self.heard_hello_or_established());
                assert!(bye.text.len() <= 3 * posthouse_wire::MAX_BYE_TEXT_BYTES);
                self.is_over = true;
                assert_eq!(self.session.deadline(), None);
            }
            SessionEvent::Nothing => {}
        }
        self.check_queries();
    }

    fn heard_hello_or_established(&self) -> bool {
        self.heard_hello.is_some() || self.is_established
    }

    fn check_agreed(&self) {
        let agreed = self.agreed();
        assert_eq!((agreed.version, agreed.proven), (1, self.config.key.is_some()));
        assert!(agreed.peer_max_payload_bytes >= 64 && agreed.credential.len() <= 1024);
        assert!(agreed.heartbeat.is_none_or(|interval| interval >= MIN_HEARTBEAT));
        let shortest = self.config.heartbeat.filter(|interval| !interval.is_zero());
        assert!(shortest.is_none_or(|ours| agreed.heartbeat <= Some(ours.max(MIN_HEARTBEAT))));
        assert_eq!(agreed.features & !posthouse_wire::FEATURE_TRANSFERS, 0);
    }

    fn check_queries(&self) {
        let Self { session, config, .. } = self;
        assert_eq!(session.agreed().is_some(), self.is_established);
        assert_eq!(session.may_use_reserved_kinds(), self.is_established && !self.is_over);
        assert!(!session.may_transfer() || session.may_use_reserved_kinds());
        assert!(!session.is_message(HELLO) || self.is_plain);
        assert!((1..=MAX_PAYLOAD_BYTES).contains(&session.send_limit(config)));
        if config.key.is_some() {
            assert_eq!(session.is_established(config), self.is_established);
        }
        assert!(session.is_established(config) || !self.is_established);
        let has_heartbeat = session.agreed().is_some_and(|agreed| agreed.heartbeat.is_some());
        assert_eq!(session.deadline().is_some(), has_heartbeat && !self.is_over);
    }

    pub(super) fn agreed(&self) -> &Agreed {
        self.session.agreed().expect("an established session")
    }

    /// Ends the connection because of a violation, as a caller does.
    fn close(&mut self, violation: &Violation) {
        assert!(!violation.to_string().is_empty() && !violation.text_for_peer().is_empty());
        assert!(violation.code() <= bye_code::INTERNAL_ERROR);
        // These are answers to a hello that was read.
        let is_answer = matches!(
            violation,
            Violation::Version { .. } | Violation::KeyMissing | Violation::ProofNotOffered
        );
        self.may_say_bye |= is_answer;
        self.is_flooded |= matches!(violation, Violation::ControlFlood { .. });
        self.is_timed_out |= matches!(violation, Violation::Silent { .. });
        let text = violation.text_for_peer();
        self.say_bye(violation.code(), text, None);
        self.is_over = true;
        self.is_closed = true;
    }

    fn say_bye(&mut self, code: u16, text: &str, retry_after: Option<Duration>) {
        let before = self.out.len();
        let Self { session, out, .. } = self;
        let limit = match (session.agreed(), &self.heard_hello) {
            (Some(agreed), _) => agreed.peer_max_payload_bytes,
            (None, Some(hello)) => frames::max_payload_bytes(hello),
            (None, None) => 64,
        };
        let has_said = session.bye(code, text, retry_after, out);
        assert_eq!(has_said, self.may_say_bye && !self.is_over, "a bye {code}");
        if has_said {
            assert!(self.out.len() - before - frames::HEAD_BYTES <= limit as usize);
            assert_eq!(self.out[before + 4], BYE);
            self.is_over = true;
            assert_eq!(self.session.deadline(), None);
            assert!(!self.session.bye(code, text, None, &mut self.out));
        } else {
            assert_eq!(self.out.len(), before);
        }
    }

    // ---- the program ----

    /// Sends a frame of the program, if it may send one now.
    pub(super) fn send(&mut self, input: &mut Input<'_>) {
        let Self { session, config, out, .. } = self;
        if !self.is_over && session.is_established(config) {
            send(session, config, input, out);
        }
    }

    pub(super) fn bye(&mut self, input: &mut Input<'_>) {
        let code = u16::from_le_bytes(input.array());
        let retry_after = input.flag().then(|| Duration::from_millis(input.number()));
        let text = String::from_utf8_lossy(input.bytes(32)).repeat(1 + input.below(40));
        self.say_bye(code, &text, retry_after);
    }

    pub(super) fn sent(&mut self, now: Duration, everything: bool) {
        self.session.on_sent(now);
        if everything {
            self.session.flushed();
            self.pongs = 0;
        }
    }

    // ---- the time ----

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.session.deadline()
    }

    pub(super) fn handle_deadline(&mut self, now: Duration, is_empty: bool) {
        let deadline = self.session.deadline();
        let before = self.out.len();
        let queue = if is_empty { SendQueue::Empty } else { SendQueue::Waiting };
        match self.session.handle_deadline(now, queue, &mut self.out) {
            Ok(()) => {
                let written = &self.out[before..];
                let is_due = deadline.is_some_and(|at| at <= now);
                assert!(is_due || written.is_empty(), "before its deadline");
                assert!(written.is_empty() || matches!(written[4], PING | PONG));
                assert!(self.session.deadline().is_none_or(|next| next > now), "it is due again");
            }
            Err(violation) => {
                assert!(deadline.is_some_and(|at| at <= now), "silent before the deadline");
                self.close(&violation);
            }
        }
    }
}
