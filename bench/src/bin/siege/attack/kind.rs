//! The kinds of attack, with their numbers of connections and their frames.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::fixture;
use crate::frames::{self, LARGEST};

/// The number of source addresses of one kind of attack.
const ADDRESSES: usize = 2;
/// The number of gets, lists and offers that a peer may have under way.
const UNDER_WAY: usize = 16;
/// The number of frames of a flood in one turn.
const FLOOD_FRAMES: usize = 64;

/// A kind of attack. Kinds with the same number attack the same budget in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A1Gets,
    A1Offers,
    A2Lists,
    A2Offers,
    A2Narrow,
    A3,
    A5,
    A6,
    A7,
    A8,
}

/// One kind of attack in the load.
pub(crate) struct Attack {
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    text: &'static str,
}

const ATTACKS: &[Attack] = &[
    attack(Kind::A1Gets, 16, "a flood of gets of `/`; nothing is read"),
    attack(Kind::A1Offers, 16, "a flood of offers with the name `../x`; nothing is read"),
    attack(
        Kind::A2Lists,
        64,
        "a flood of lists of the 60,000 files, 16 a turn; those beyond 16 under way are rejected",
    ),
    attack(
        Kind::A2Offers,
        16,
        "a flood of offers that the quota has no room for, 16 a turn; those beyond 16 under way \
         are rejected",
    ),
    attack(Kind::A2Narrow, 1, "one list a turn, with an announced payload of 64 bytes"),
    attack(Kind::A3, 200, "hello to the listener with the key and no proof, again after 100 ms"),
    attack(Kind::A5, 32, "messages of 64 bytes in pieces of 1 to 3 bytes, 16 pieces a turn"),
    attack(Kind::A6, 16, "a flood of offers of 2^63 - 1 bytes"),
    attack(Kind::A7, 64, "16 gets of files of 1 MiB, accepted, 1 KiB read every 50 ms"),
    attack(Kind::A8, 62, "16 gets of files of 1 MiB, never accepted"),
];

const fn attack(kind: Kind, connections: usize, text: &'static str) -> Attack {
    Attack { kind, connections, text }
}

impl Attack {
    /// Returns the source address of the connection `number`.
    pub(crate) fn source(&self, number: usize) -> SocketAddr {
        let last = self.kind as usize * ADDRESSES + number % ADDRESSES;
        (Ipv4Addr::new(127, 0, 1, 1 + last as u8), 0).into()
    }
}

/// Returns the attacks whose kinds `only` names, with commas between them. An empty text means all.
pub(crate) fn chosen(only: &str) -> impl Iterator<Item = &'static Attack> {
    let is_chosen = |kind: Kind| only.is_empty() || only.split(',').any(|name| kind.is_named(name));
    ATTACKS.iter().filter(move |attack| is_chosen(attack.kind))
}

/// Returns whether there is a kind of attack with this name.
pub(crate) fn is_kind(name: &str) -> bool {
    ATTACKS.iter().any(|attack| attack.kind.is_named(name))
}

/// Returns the names of the kinds of attack that `only` names.
pub(crate) fn kinds(only: &str) -> Vec<String> {
    chosen(only).map(|attack| format!("{:?}", attack.kind)).collect()
}

/// Returns a list of the attacks in Markdown.
pub(crate) fn describe(only: &str) -> String {
    let mut text = String::new();
    for attack in chosen(only) {
        let Attack { kind, connections, text: what } = attack;
        let _ = writeln!(text, "- {kind:?}, {connections} connections: {what}");
    }
    text
}

impl Kind {
    fn is_named(self, name: &str) -> bool {
        format!("{self:?}").eq_ignore_ascii_case(name)
    }

    /// Returns whether the attacker reads what it receives.
    pub(crate) fn reads(self) -> bool {
        !matches!(self, Self::A1Gets | Self::A1Offers)
    }

    /// Returns the interval between two reads of 1 KiB, if the attacker reads slowly.
    pub(crate) fn slow_read(self) -> Option<Duration> {
        (self == Self::A7).then_some(Duration::from_millis(50))
    }

    /// Returns the size of the receive buffer of the attacker's socket, if not the default.
    pub(crate) fn receive_buffer_bytes(self) -> Option<usize> {
        match self {
            Self::A1Gets | Self::A1Offers | Self::A7 => Some(16 * 1024),
            _ => None,
        }
    }

    /// Returns the time after which the attacker resets its connection and begins again.
    pub(crate) fn lifetime(self) -> Option<Duration> {
        (self == Self::A3).then_some(Duration::from_millis(100))
    }

    /// Returns the number of writes of one turn, and the maximum size of each: from the random
    /// number if the attack is in pieces.
    pub(crate) fn writes(self, random: u32) -> (usize, usize) {
        if self == Self::A5 { (16, 1 + random as usize % 3) } else { (1, usize::MAX) }
    }

    /// Appends the first frames of a connection. Each frame takes its id from `id`.
    pub(crate) fn begin(self, out: &mut Vec<u8>, mut id: impl FnMut() -> u32) {
        let largest = if self == Self::A2Narrow { 64 } else { LARGEST };
        frames::push_client_hello(out, largest);
        if matches!(self, Self::A7 | Self::A8) {
            let names = (0..UNDER_WAY).map(fixture::large_file);
            names.for_each(|name| frames::push_get(out, id(), &name));
        }
    }

    /// Appends the frames of one turn. Each frame takes its id from `id`.
    pub(crate) fn fill(self, out: &mut Vec<u8>, mut id: impl FnMut() -> u32) {
        let mut times = |count: usize, push: &mut dyn FnMut(&mut Vec<u8>, u32)| {
            (0..count).for_each(|_| push(out, id()));
        };
        match self {
            Self::A1Gets => times(FLOOD_FRAMES, &mut |out, id| frames::push_get(out, id, "/")),
            Self::A1Offers => {
                times(FLOOD_FRAMES, &mut |out, id| frames::push_offer(out, id, 1, "../x"));
            }
            Self::A2Lists => times(UNDER_WAY, &mut frames::push_list),
            Self::A2Narrow => times(1, &mut frames::push_list),
            Self::A2Offers => times(UNDER_WAY, &mut |out, id| {
                frames::push_offer(out, id, fixture::QUOTA_BYTES, &format!("over-{id}"));
            }),
            Self::A5 => times(1, &mut |out, _| frames::push_message(out, &[0; 64])),
            Self::A6 => times(FLOOD_FRAMES, &mut |out, id| {
                frames::push_offer(out, id, i64::MAX as u64, "huge");
            }),
            Self::A3 | Self::A7 | Self::A8 => {}
        }
    }
}
