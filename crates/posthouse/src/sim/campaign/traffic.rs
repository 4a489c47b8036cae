//! What the campaign's server and clients do: everything a handler can, by dice.

use std::time::Duration;

use posthouse_io::sim::SplitMix64;

use super::ledger::{Ledger, Side};
use crate::close::{Close, Outcome, Reason};
use crate::endpoint::Endpoint;
use crate::handler::Handler;
use crate::id::PeerId;
use crate::message::Message;
use crate::peer::Peer;
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::target::Target;

/// A message of a connection's stream.
pub(super) const STREAM: u8 = 40;
/// A request.
const ASK: u8 = 41;
/// A message sent by another thread.
pub(super) const OUTSIDE: u8 = 42;
/// A message to a group.
pub(super) const GROUP: u8 = 43;

/// A seeded generator for the campaign's own decisions.
#[derive(Debug)]
pub(super) struct Dice(SplitMix64);

impl Dice {
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

/// What belongs to one connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(super) number: u64,
    pub(super) sent: u64,
    pub(super) dice: Option<Dice>,
}

/// The state of a handler that talks: it has a line.
pub(super) trait HasLine: Default + Send + 'static {
    fn line(&mut self) -> &mut Line;
}

impl HasLine for Line {
    fn line(&mut self) -> &mut Line {
        self
    }
}

/// A payload that says what it is: a number, then bytes that follow from it.
pub(super) fn body(line: impl Into<u64>, number: u64, bytes: usize) -> Vec<u8> {
    let line = line.into();
    let mut payload = Vec::with_capacity(16 + bytes);
    payload.extend_from_slice(&line.to_le_bytes());
    payload.extend_from_slice(&number.to_le_bytes());
    let mut dice = Dice::new(line ^ number.rotate_left(32) ^ bytes as u64);
    while payload.len() < 16 + bytes {
        let word = dice.next().to_le_bytes();
        let room = (16 + bytes - payload.len()).min(8);
        payload.extend_from_slice(&word[..room]);
    }
    payload
}

/// The line and the number of a payload, if every byte of it is right.
fn read_body(payload: &[u8]) -> Option<(u64, u64)> {
    let line = u64::from_le_bytes(payload.get(..8)?.try_into().ok()?);
    let number = u64::from_le_bytes(payload.get(8..16)?.try_into().ok()?);
    (body(line, number, payload.len() - 16) == payload).then_some((line, number))
}

/// What both sides do.
pub(super) struct Common {
    pub(super) ledger: Arc<Ledger>,
    pub(super) side: Side,
    pub(super) seed: u64,
}

impl Common {
    pub(super) fn begin(&self, peer: &mut Peer<'_, impl HasLine>) {
        self.ledger.connected(self.side, peer.id());
        let seed = self.seed ^ peer.id().as_u64();
        peer.state().line().dice = Some(Dice::new(seed));
    }

    pub(super) fn send(&self, peer: &mut Peer<'_, impl HasLine>, bytes: usize) {
        let Line { number: line, sent: number, .. } = *peer.state().line();
        // The server learns the line from the first message.
        if line == 0 || !peer.is_open() {
            return;
        }
        peer.state().line().sent += 1;
        peer.send(STREAM, &body(line, number, bytes));
        self.ledger.sent(self.side, peer.id());
    }

    pub(super) fn take(&self, peer: &mut Peer<'_, impl HasLine>, message: &Message<'_>) {
        let id = peer.id();
        self.ledger.called(self.side, id);
        let Some((line, number)) = read_body(message.payload()) else {
            if message.kind() >= STREAM && message.payload().len() > 16 {
                self.ledger.wrong(format!("C5: a payload of kind {} is damaged", message.kind()));
            }
            return;
        };
        match message.kind() {
            STREAM => {
                self.ledger.received(self.side, id, line, number);
                peer.state().line().number = line;
            }
            OUTSIDE => self.ledger.received_outside(self.side, id, number),
            GROUP => self.ledger.received_group(self.side, id, number),
            _ => {}
        }
    }

    /// One of the many things that a handler may do at any time.
    fn act(&self, peer: &mut Peer<'_, Line>) -> Outcome {
        let Some(mut dice) = peer.state().dice.take() else { return Ok(()) };
        let choice = dice.below(64);
        let amount = dice.below(4000);
        let ledger = self.ledger.clone();
        let (side, id) = (self.side, peer.id());
        let delay = Duration::from_micros(1 << (amount % 20));
        peer.state().dice = Some(dice);
        match choice {
            8 => (0..amount % 40).for_each(|_| self.send(peer, amount as usize)),
            9 => {
                peer.pause_reading();
                peer.after(delay, |peer| {
                    peer.resume_reading();
                    Ok(())
                });
            }
            10..16 => self.ask(peer, delay * 4),
            16 => {
                peer.after(delay, move |peer| {
                    ledger.called(side, id);
                    peer.close(Close::gracefully());
                    Ok(())
                });
            }
            17 if amount.is_multiple_of(8) => return Err(Close::telling(1000, "enough")),
            18 if amount.is_multiple_of(16) => return Err(Close::abort()),
            // Not a panic that prints: the hook is not for what is meant.
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

    pub(super) fn ask(&self, peer: &mut Peer<'_, impl HasLine>, timeout: Duration) {
        self.ledger.asked();
        let ledger = self.ledger.clone();
        let (side, id) = (self.side, peer.id());
        let question = body(ASK, peer.now().as_nanos() as u64, 100);
        let expected = question.clone();
        peer.request(ASK, &question, timeout, move |_, reply| {
            ledger.answered();
            ledger.called(side, id);
            if reply.is_ok_and(|reply| reply.payload() != expected) {
                ledger.wrong("a reply that is not the request's".to_owned());
            }
            Ok(())
        });
    }
}

/// Replies to a request in one of the ways there are.
pub(super) fn answer(peer: &mut Peer<'_, impl HasLine>, message: &Message<'_>) {
    let Some(ticket) = message.ticket() else { return };
    let odd = message.payload().len() + peer.now().subsec_micros() as usize;
    let reply = message.to_bytes();
    match odd % 8 {
        0 => peer.refuse(ticket, "not now"),
        1 => {
            let delay = Duration::from_millis(odd as u64 % 50);
            peer.after(delay, move |peer| {
                peer.reply(ticket, ASK, &reply);
                Ok(())
            });
        }
        2 => {}
        _ => peer.reply(ticket, ASK, &reply),
    }
}
/// The server: answers, and does what comes to its mind.
pub(super) struct ServerSide(Common);

impl ServerSide {
    pub(super) fn new(ledger: Arc<Ledger>, seed: u64) -> Self {
        Self(Common { ledger, side: Side::Server(0), seed })
    }
}

impl Handler for ServerSide {
    type State = Line;

    fn connected(&self, peer: &mut Peer<'_, Line>) -> Outcome {
        self.0.begin(peer);
        peer.admit();
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Line>, message: Message<'_>) -> Outcome {
        self.0.take(peer, &message);
        answer(peer, &message);
        if message.kind() == STREAM {
            self.0.send(peer, message.payload().len() - 16);
        }
        self.0.act(peer)
    }

    fn writable(&self, peer: &mut Peer<'_, Line>) -> Outcome {
        self.0.ledger.called(Side::Server(0), peer.id());
        self.0.act(peer)
    }

    fn disconnected(&self, peer: &mut Peer<'_, Line>, why: &Reason) {
        self.0.ledger.disconnected(Side::Server(0), peer.id(), why);
    }
}

/// A client: sends some messages, more for each that comes back, and ends in some way.
pub(super) struct ClientSide {
    common: Common,
    lines: AtomicU64,
}

impl ClientSide {
    pub(super) fn new(ledger: Arc<Ledger>, seed: u64) -> Self {
        let common = Common { ledger, side: Side::Client(seed), seed };
        Self { common, lines: AtomicU64::new(0) }
    }
}

impl Handler for ClientSide {
    type State = Line;

    fn connected(&self, peer: &mut Peer<'_, Line>) -> Outcome {
        self.common.begin(peer);
        let line = self.common.seed ^ self.lines.fetch_add(1, Ordering::Relaxed);
        peer.state().number = line;
        self.common.ledger.line(self.common.side, peer.id(), line);
        for bytes in [0, 1, 5000] {
            self.common.send(peer, bytes);
        }
        self.common.act(peer)
    }

    fn received(&self, peer: &mut Peer<'_, Line>, message: Message<'_>) -> Outcome {
        self.common.take(peer, &message);
        answer(peer, &message);
        if message.kind() == STREAM && peer.state().sent < 60 {
            let bytes = (peer.state().sent * 37 % 3000) as usize;
            self.common.send(peer, bytes);
        }
        self.common.act(peer)
    }

    fn disconnected(&self, peer: &mut Peer<'_, Line>, why: &Reason) {
        self.common.ledger.disconnected(self.common.side, peer.id(), why);
    }

    fn unreachable(&self, _: &Endpoint<Line>, id: PeerId, _: &Target, why: &Reason) {
        if why.unsent_bytes() > 1 << 20 {
            self.common.ledger.wrong(format!("{id}: unsent bytes that were never queued"));
        }
    }
}
