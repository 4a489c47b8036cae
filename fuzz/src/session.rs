//! The session: a client and a server with any configurations, and a peer between them that relays,
//! drops, repeats, spoils and forges frames of every kind in every state.

mod end;
mod round_trip;
mod side;

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_wire::{HelloPolicy, Key, SessionConfig};

use crate::frames;
use crate::input::Input;
use end::End;
use side::{CLIENT, SERVER};

/// The maximum number of frames on their way in one direction; the peer drops more.
const MAX_FRAMES: usize = 64;

/// The frames that have been sent to one end and have not arrived.
type Wire = VecDeque<Vec<u8>>;

struct World {
    /// The client, then the server.
    ends: [End; 2],
    /// The frames to the client, and those to the server.
    wires: [Wire; 2],
    now: Duration,
    /// Whether the peer between the two ends has changed anything.
    is_tampered: bool,
}

/// Performs a run.
pub(crate) fn run(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let mut world = World {
        ends: [CLIENT, SERVER].map(|side| End::new(side, config(input))),
        wires: [Wire::new(), Wire::new()],
        now: Duration::from_millis(input.number()),
        is_tampered: false,
    };
    world.ends[CLIENT].start();
    world.collect(CLIENT);
    while !input.is_empty() {
        world.step(input);
    }
    world.finish();
}

fn config(input: &mut Input<'_>) -> SessionConfig {
    let key = match input.byte() {
        0..0x60 => None,
        0x60..0xf0 => Some(Key::new(&[7; 32])),
        _ => Some(Key::new(&[8; 32])),
    };
    let max_payload_bytes = [1 << 20, 64, u32::MAX, input.number() as u32][input.below(4)];
    let config = SessionConfig {
        max_payload_bytes: max_payload_bytes.max(64),
        heartbeat: input.flag().then(|| Duration::from_millis(input.number())),
        key: key.map(|key| key.expect("a key of 32 bytes")),
        credential: input.bytes(16).into(),
        hello: [HelloPolicy::Optional, HelloPolicy::Required, HelloPolicy::Never][input.below(3)],
        max_control_replies: [64, 0, 1, 5][input.below(4)],
    };
    config.check().expect("a valid configuration");
    config
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let side = input.below(2);
        match input.byte() % 16 {
            0..=4 => self.deliver(side, input.byte()),
            5..=7 => self.forge(side, input),
            8 => self.spoil(side, input),
            9 => self.reorder(side, input),
            10 | 11 | 14 => self.ends[side].send(input),
            12 => self.pass_time(side, input),
            13 => self.ends[side].sent(self.now, input.flag()),
            _ => self.ends[side].bye(input),
        }
        self.collect(side);
    }

    /// Delivers the next frame to this side, cut in two if `cut` is not 0.
    fn deliver(&mut self, side: usize, cut: u8) {
        let Some(frame) = self.wires[side].pop_front() else { return };
        let cut = usize::from(cut) * frame.len() / 256;
        for chunk in [&frame[..cut], &frame[cut..]] {
            self.ends[side].receive(self.now, chunk);
            self.check_proof(side);
        }
        self.collect(side);
    }

    /// Puts what a side has written on its way to the other side.
    fn collect(&mut self, side: usize) {
        let wire = &mut self.wires[1 - side];
        wire.extend(self.ends[side].take_frames());
        if wire.len() > MAX_FRAMES {
            wire.truncate(MAX_FRAMES);
            self.is_tampered = true;
        }
    }

    fn forge(&mut self, side: usize, input: &mut Input<'_>) {
        let frame = frames::any_frame(input);
        let at = input.below(self.wires[side].len() + 1);
        self.wires[side].insert(at, frame);
        self.is_tampered = true;
    }

    fn spoil(&mut self, side: usize, input: &mut Input<'_>) {
        let wire = &mut self.wires[side];
        if wire.is_empty() {
            return;
        }
        let at = input.below(wire.len());
        let len = wire[at].len();
        let byte = input.below(len);
        wire[at][byte] ^= input.byte();
        self.is_tampered = true;
    }

    fn reorder(&mut self, side: usize, input: &mut Input<'_>) {
        let wire = &mut self.wires[side];
        if wire.is_empty() {
            return;
        }
        let from = input.below(wire.len());
        let to = input.below(wire.len());
        match input.below(4) {
            0 => drop(wire.remove(from)),
            1 => wire.swap(from, to),
            2 => {
                let frame = wire[from].clone();
                wire.insert(to, frame);
            }
            // Back to its sender.
            _ => {
                let frame = wire[from].clone();
                self.wires[1 - side].push_back(frame);
            }
        }
        self.is_tampered = true;
    }

    fn pass_time(&mut self, side: usize, input: &mut Input<'_>) {
        let end = &mut self.ends[side];
        self.now = match (input.flag(), end.deadline()) {
            (true, Some(deadline)) => self.now.max(deadline),
            _ => self.now.saturating_add(Duration::from_millis(input.number())),
        };
        end.handle_deadline(self.now, input.flag());
    }

    /// A side with a key is established only if both ends have the key and have seen the same
    /// hello and the same answer.
    fn check_proof(&self, side: usize) {
        let [end, other] = [&self.ends[side], &self.ends[1 - side]];
        if end.config.key.is_none() || !end.is_established {
            return;
        }
        assert_eq!(end.config.key, other.config.key, "established with another key");
        assert!(end.said_hello.is_some() && end.heard_hello.is_some());
        assert_eq!(end.said_hello, other.heard_hello, "the other end saw another hello");
        assert_eq!(end.heard_hello, other.said_hello, "this end saw another hello");
    }

    /// Delivers everything that is on its way. Two ends between which nobody has tampered agree if
    /// their configurations allow it.
    fn finish(&mut self) {
        for _ in 0..4 * MAX_FRAMES {
            for side in [CLIENT, SERVER] {
                self.deliver(side, 0);
            }
        }
        if self.is_tampered || self.ends.iter().any(|end| end.is_over || end.is_timed_out) {
            return;
        }
        assert!(self.wires.iter().all(Wire::is_empty), "two ends answer each other for ever");
        let [client, server] = &self.ends;
        let is_never =
            |end: &End| end.config.key.is_none() && end.config.hello == HelloPolicy::Never;
        let agrees = client.config.key == server.config.key
            && !is_never(client)
            && !is_never(server)
            && !self.ends.iter().any(|end| end.is_flooded);
        if agrees {
            assert!(client.is_established && server.is_established, "they do not agree");
            let [client, server] = [client, server].map(End::agreed);
            assert_eq!(
                (client.version, client.features, client.heartbeat, client.proven),
                (server.version, server.features, server.heartbeat, server.proven)
            );
            assert_eq!(*server.credential, *self.ends[CLIENT].config.credential);
        }
    }
}
