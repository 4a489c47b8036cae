//! Peers that the server stops reading from, and that then reset, end or vanish. The server must
//! learn of each in time.

use std::time::Duration;

use posthouse::sim::{RawStream, World};

use super::ledger::Ledger;
use super::traffic::{HOLD, HOLD_DATA, Rng, body};
use super::{SERVER, Violation};

/// The maximum number of messages behind the pause. With the greatest payload they fit the
/// narrowest window, so that the end behind them is sent.
const MAX_MESSAGES: u64 = 12;
const MAX_PAYLOAD_BYTES: u64 = 150;

/// A plain peer that the server has been asked to pause for.
pub(super) struct HeldPeer {
    raw: RawStream,
    number: u64,
    /// The number of messages behind the pause.
    sent: u64,
    fate: Option<Fate>,
}

/// The event at the peer's end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Reset,
    Ended,
    Vanished,
}

impl HeldPeer {
    /// Dials, and asks the server to pause for ever or for a while.
    pub(super) fn dial(world: &World, rng: &mut Rng) -> Self {
        let raw = world.dial(SERVER);
        let number = rng.next();
        raw.send(&frame(HOLD, &body(number, rng.below(48), 0)));
        let sent = rng.below(MAX_MESSAGES);
        for index in 0..sent {
            let payload = body(number, index, rng.below(MAX_PAYLOAD_BYTES) as usize);
            raw.send(&frame(HOLD_DATA, &payload));
        }
        Self { raw, number, sent, fate: None }
    }

    /// Resets, ends or vanishes. A peer that has ended its stream may still do the others.
    pub(super) fn meet_fate(&mut self, rng: &mut Rng) {
        let fate = [Fate::Reset, Fate::Ended, Fate::Vanished][rng.below(3) as usize];
        if self.fate.is_some_and(|earlier| earlier != Fate::Ended || fate == Fate::Ended) {
            return;
        }
        match fate {
            Fate::Reset => self.raw.reset(),
            Fate::Ended => self.raw.finish(),
            Fate::Vanished => self.raw.vanish(),
        }
        self.fate = Some(fate);
    }

    /// Checks that the server has learned of the event. An end that is not read is told only if
    /// there is a time limit.
    pub(super) fn check(&self, ledger: &Ledger, limit: Duration) -> Result<(), Violation> {
        let Some(fate) = self.fate else { return Ok(()) };
        let Some(held) = ledger.held_peer(self.number) else { return Ok(()) };
        if fate == Fate::Ended {
            if self.raw.unsent_bytes() > 0 || limit.is_zero() && !held.resumes {
                return Ok(());
            }
            if held.ended_cleanly && held.received < self.sent {
                let missing = self.sent - held.received;
                return Err(Violation::of(format!(
                    "C5: {missing} messages lost before the end of a held peer: {held:?}"
                )));
            }
        }
        match held.disconnected {
            true => Ok(()),
            false => Err(Violation::of(format!(
                "T37: the server does not know that a peer that it does not read has {fate:?}: \
                 {held:?}"
            ))),
        }
    }
}

/// Returns a native frame.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = 1 + payload.len() as u32;
    [&length.to_le_bytes()[..], &[kind], payload].concat()
}
