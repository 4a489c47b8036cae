//! The handlers of the campaign's server and clients: they use every call of a handler, at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ledger::{Answered, Ledger, Side};
use posthouse::sim::SplitMix64;
use posthouse::{
    Close, ConnectFailure, DisconnectReason, Endpoint, Handler, HandlerResult, Message,
    OwnedResponder, Peer, Responder, SendError,
};

/// The kind of a message of a connection's stream.
pub(super) const STREAM: u8 = 40;
/// The kind of a request.
const ASK: u8 = 41;
/// The time-out of a request that must be answered.
const PATIENCE: Duration = Duration::from_hours(1);
/// The text with which the framework rejects a request without an answer.
const FORGOTTEN: &str = "the program gave no answer";
/// The size of a reply that is too large for every peer.
const TOO_LARGE_BYTES: usize = 1 << 24;
/// The kind of a message that another thread sends.
pub(super) const OUTSIDE: u8 = 42;
/// The kind of a message to a group.
pub(super) const GROUP: u8 = 43;

/// The kind of a message that makes the server pause reading: its number is that of the peer.
pub(super) const HOLD: u8 = 44;
/// The kind of a message behind that one.
pub(super) const HOLD_DATA: u8 = 45;

/// The seeded generator of the campaign's own decisions.
#[derive(Debug)]
pub(super) struct Rng(SplitMix64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed ^ 0x706f_7374_686f_7573))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(crate) struct SimulatedLine {
    pub(super) number: u64,
    pub(super) sent: u64,
    pub(super) rng: Option<Rng>,
    /// True exactly while the handler has paused reading.
    paused: bool,
}

/// A state that contains a line.
pub(super) trait HasLine: Default + Send + 'static {
    fn line(&mut self) -> &mut SimulatedLine;
}

impl HasLine for SimulatedLine {
    fn line(&mut self) -> &mut SimulatedLine {
        self
    }
}

/// A handler whose state contains a line.
pub(super) trait Talker: Handler<State: HasLine> {}

impl<H: Handler<State: HasLine>> Talker for H {}

/// Returns a payload that a receiver can check: the line, the number, and `bytes` bytes that these
/// decide.
pub(super) fn body(line: impl Into<u64>, number: u64, bytes: usize) -> Vec<u8> {
    let line = line.into();
    let mut payload = Vec::with_capacity(16 + bytes);
    payload.extend_from_slice(&line.to_le_bytes());
    payload.extend_from_slice(&number.to_le_bytes());
    let mut rng = Rng::new(line ^ number.rotate_left(32) ^ bytes as u64);
    while payload.len() < 16 + bytes {
        let word = rng.next().to_le_bytes();
        let room = (16 + bytes - payload.len()).min(8);
        payload.extend_from_slice(&word[..room]);
    }
    payload
}

/// Returns the line and the number of a payload, if every byte of it is right.
fn read_body(payload: &[u8]) -> Option<(u64, u64)> {
    let line = u64::from_le_bytes(payload.get(..8)?.try_into().ok()?);
    let number = u64::from_le_bytes(payload.get(8..16)?.try_into().ok()?);
    (body(line, number, payload.len() - 16) == payload).then_some((line, number))
}

/// The actions that both sides have in common.
pub(super) struct Common {
    pub(super) ledger: Arc<Ledger>,
    pub(super) side: Side,
    pub(super) seed: u64,
}

impl Common {
    pub(super) fn begin<H: Talker>(&self, peer: &mut Peer<'_, H>) {
        self.ledger.connected(self.side, peer.id());
        let seed = self.seed ^ peer.id().as_u64();
        peer.state_mut().line().rng = Some(Rng::new(seed));
    }

    pub(super) fn send<H: Talker>(&self, peer: &mut Peer<'_, H>, bytes: usize) {
        let SimulatedLine { number: line, sent: number, .. } = *peer.state_mut().line();
        // The server learns the line from the first message.
        if line == 0 || !peer.is_open() {
            return;
        }
        peer.state_mut().line().sent += 1;
        peer.send(STREAM, &body(line, number, bytes));
        self.ledger.sent(self.side, peer.id());
    }

    pub(super) fn take<H: Talker>(&self, peer: &mut Peer<'_, H>, message: &Message<'_>) {
        let id = peer.id();
        self.ledger.called(self.side, id);
        if peer.state_mut().line().paused {
            self.ledger.wrong(format!("C8: a message while reading is paused ({id})"));
        }
        let Some((line, number)) = read_body(message.payload()) else {
            if message.kind() >= STREAM && message.payload().len() > 16 {
                self.ledger.wrong(format!("C5: a payload of kind {} is damaged", message.kind()));
            }
            return;
        };
        match message.kind() {
            STREAM => {
                self.ledger.received(self.side, id, line, number);
                peer.state_mut().line().number = line;
            }
            OUTSIDE => self.ledger.received_outside(self.side, id, number),
            GROUP => self.ledger.received_group(self.side, id, number),
            HOLD => self.hold(peer, line, number),
            HOLD_DATA => self.ledger.received_behind(line, number),
            _ => {}
        }
    }

    /// Performs, at random, one of the actions that a handler may perform at any time.
    fn act<H: Handler<State = SimulatedLine>>(&self, peer: &mut Peer<'_, H>) -> HandlerResult {
        let Some(mut rng) = peer.state_mut().rng.take() else { return Ok(()) };
        let choice = rng.below(64);
        let amount = rng.below(4000);
        let ledger = self.ledger.clone();
        let side = self.side;
        let id = peer.id();
        let delay = Duration::from_micros(1 << (amount % 20));
        peer.state_mut().rng = Some(rng);
        match choice {
            8 => (0..amount % 40).for_each(|_| self.send(peer, amount as usize)),
            9 => Self::pause(peer, delay),
            10..16 => self.ask(peer, (!amount.is_multiple_of(4)).then_some(delay * 4)),
            16 => {
                peer.after(delay, move |peer| {
                    ledger.called(side, id);
                    peer.close(Close::graceful());
                    Ok(())
                })?;
            }
            17 if amount.is_multiple_of(8) => return Err(Close::with_code(1000, "enough")),
            18 if amount.is_multiple_of(16) => return Err(Close::abort()),
            // Resumes an unwinding, which does not run the hook that prints: this panic is
            // intended.
            19 if amount.is_multiple_of(16) => std::panic::resume_unwind(Box::new("meant")),
            20..24 => {
                let group = peer.endpoint().group(["red", "blue"][amount as usize % 2]);
                if choice % 2 == 0 { peer.join(&group) } else { peer.leave(&group) }
            }
            24 => {
                let everyone = peer.endpoint().everyone();
                self.ledger.send_to_group(&everyone);
            }
            25 => {
                let count = peer.endpoint().peers().len();
                let there = peer.endpoint().peer(id).is_some();
                if !there || count == 0 {
                    self.ledger.wrong("a connection that is up is not among the peers".into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Pauses reading for a while.
    pub(super) fn pause<H: Talker>(peer: &mut Peer<'_, H>, time: Duration) {
        peer.pause_reading();
        peer.state_mut().line().paused = true;
        peer.after(time, |peer| {
            peer.state_mut().line().paused = false;
            peer.resume_reading();
            Ok(())
        })
        .expect("a peer has few timers");
    }

    /// Pauses reading from a plain peer, for ever or for a while, as `way` decides.
    fn hold<H: Talker>(&self, peer: &mut Peer<'_, H>, number: u64, way: u64) {
        let resumes = way % 2 == 1;
        self.ledger.hold(number, peer.id(), resumes);
        if resumes {
            Self::pause(peer, Duration::from_micros(1 << (way / 2)));
        } else {
            peer.pause_reading();
            peer.state_mut().line().paused = true;
        }
    }

    /// Sends a request. Without a time-out it must be answered, unless the connection ends.
    pub(super) fn ask<H: Talker>(&self, peer: &mut Peer<'_, H>, timeout: Option<Duration>) {
        let number = self.ledger.asked();
        let ledger = self.ledger.clone();
        let side = self.side;
        let id = peer.id();
        let question = body(ASK, number, 100);
        let expected = question.clone();
        let patient = timeout.is_none();
        peer.request(ASK, &question, timeout.unwrap_or(PATIENCE), move |_, reply| {
            ledger.called(side, id);
            if reply.as_ref().is_ok_and(|reply| reply.payload() != expected) {
                ledger.wrong("a reply that is not the request's".to_owned());
            }
            ledger.answered(number, patient, reply.as_ref().err());
            Ok(())
        });
    }

    /// Answers, rejects, keeps or forgets a request, at random.
    pub(super) fn answer<H: Talker>(
        &self,
        peer: &mut Peer<'_, H>,
        message: &Message<'_>,
        responder: &mut Responder<'_>,
    ) {
        let odd = message.payload().len() as u64 + u64::from(peer.now().subsec_micros());
        let way = odd % 8;
        let more = odd / 8;
        let question = read_body(message.payload());
        let number = question.filter(|(line, _)| *line == u64::from(ASK)).map(|(_, it)| it);
        match way {
            0 => {
                self.ledger.answers(number, Answered::Rejected("not now"));
                responder.reject("not now");
            }
            1 | 2 if more.is_multiple_of(2) || way == 1 => {
                let Some(responder) = responder.take() else { return };
                let kept = KeptRequest { responder, number, payload: message.to_vec() };
                if way == 2 {
                    return self.ledger.keep(kept, more / 2);
                }
                let ledger = self.ledger.clone();
                peer.after(Duration::from_millis(odd % 50), move |_| {
                    kept.answer(&ledger, more);
                    Ok(())
                })
                .expect("a peer has few timers");
            }
            2 => self.ledger.answers(number, Answered::Rejected(FORGOTTEN)),
            _ => {
                self.ledger.answers(number, Answered::Replied);
                responder.reply(ASK, message.payload());
                // Only the first answer counts.
                responder.reject("not now");
                if responder.take().is_some() {
                    self.ledger.wrong("a request that is answered can be taken".to_owned());
                }
                if way == 3 {
                    self.ledger.answer_kept(more);
                }
            }
        }
    }
}

/// A request that is answered later.
#[derive(Debug)]
pub(super) struct KeptRequest {
    responder: OwnedResponder,
    /// The number of the request; `None` if the ledger does not check it.
    number: Option<u64>,
    payload: Vec<u8>,
}

impl KeptRequest {
    /// Rejects, drops or answers the request, or sends a reply that is too large, as `way` decides.
    pub(super) fn answer(self, ledger: &Ledger, way: u64) {
        let Self { responder, number, payload } = self;
        match way % 8 {
            0 | 1 => {
                ledger.answers(number, Answered::Rejected("later"));
                responder.reject("later");
            }
            2 => {
                ledger.answers(number, Answered::Rejected(FORGOTTEN));
                drop(responder);
            }
            3 => {
                ledger.answers(number, Answered::Rejected(FORGOTTEN));
                if responder.reply(ASK, &vec![0; TOO_LARGE_BYTES]).is_ok() {
                    ledger.wrong("a reply larger than every frame was accepted".to_owned());
                }
            }
            _ => match responder.reply(ASK, &payload) {
                Ok(()) | Err(SendError::NotConnected) => {
                    ledger.answers(number, Answered::Replied);
                }
                Err(_) => ledger.answers(number, Answered::Rejected(FORGOTTEN)),
            },
        }
    }
}

/// The handler of the server: it answers messages, and acts at random.
pub(super) struct ServerSide(Common);

impl ServerSide {
    pub(super) fn new(ledger: Arc<Ledger>, seed: u64) -> Self {
        Self(Common { ledger, side: Side::Server(0), seed })
    }
}

impl Handler for ServerSide {
    type State = SimulatedLine;

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        self.0.begin(peer);
        peer.admit();
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        self.0.take(peer, &message);
        if message.kind() == STREAM {
            self.0.send(peer, message.payload().len() - 16);
        }
        if matches!(message.kind(), HOLD | HOLD_DATA) {
            return Ok(()); // nothing may resume reading meanwhile
        }
        self.0.act(peer)
    }

    fn requested(
        &self,
        peer: &mut Peer<'_, Self>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        self.0.take(peer, &message);
        self.0.answer(peer, &message, responder);
        self.0.act(peer)
    }

    fn writable(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        self.0.ledger.called(Side::Server(0), peer.id());
        self.0.act(peer)
    }

    fn disconnected(&self, peer: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.0.ledger.disconnected(Side::Server(0), peer.id(), why);
    }
}

/// The handler of a client: it sends some messages, and one more for each answer up to 60, and acts
/// at random.
pub(super) struct ClientSide {
    common: Common,
    lines: AtomicU64,
}

impl ClientSide {
    pub(super) fn new(ledger: Arc<Ledger>, seed: u64) -> Self {
        let common = Common { ledger, side: Side::Client(seed), seed };
        Self { common, lines: AtomicU64::new(0) }
    }

    pub(super) fn side(&self) -> Side {
        self.common.side
    }
}

impl Handler for ClientSide {
    type State = SimulatedLine;

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        self.common.begin(peer);
        let line = self.common.seed ^ self.lines.fetch_add(1, Ordering::Relaxed);
        peer.state_mut().number = line;
        self.common.ledger.line(self.common.side, peer.id(), line);
        for bytes in [0, 1, 5000] {
            self.common.send(peer, bytes);
        }
        self.common.act(peer)
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        self.common.take(peer, &message);
        if message.kind() == STREAM && peer.state().sent < 60 {
            let bytes = (peer.state().sent * 37 % 3000) as usize;
            self.common.send(peer, bytes);
        }
        self.common.act(peer)
    }

    fn requested(
        &self,
        peer: &mut Peer<'_, Self>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        self.common.take(peer, &message);
        self.common.answer(peer, &message, responder);
        self.common.act(peer)
    }

    fn disconnected(&self, peer: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.common.ledger.disconnected(self.common.side, peer.id(), why);
    }

    fn connect_failed(&self, _: &Endpoint<Self>, failure: &ConnectFailure) {
        if failure.reason().unsent_bytes() > 1 << 20 {
            let text = format!("{}: unsent bytes that were never queued", failure.id());
            self.common.ledger.wrong(text);
        }
    }
}
