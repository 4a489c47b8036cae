//! The behaviour of the two sides of a connection: a function of the campaign's seed and the
//! connection's number, so each side can predict the other.

use super::random::Random;

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// The script of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) target: Target,
    pub(super) client: Part,
    pub(super) server: Part,
}

/// The target of the client's connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A listener whose peers are served.
    Serving,
    /// A listener whose peers are turned away: closed, or refused with a reset.
    TurningAway,
    /// A port without a listener.
    Nobody,
}

/// The behaviour of one side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    seed: u64,
    sizes: Sizes,
    /// True exactly when it receives slowly, so that a flood comes to a halt.
    pub(super) dawdles: bool,
    /// The number of messages that it sends, one after the other.
    pub(super) messages: u8,
    /// True exactly when it sends nothing before the other side's stream has ended.
    pub(super) replies_last: bool,
    /// True exactly when it ends its stream only after the other side's.
    pub(super) ends_last: bool,
    pub(super) disturbance: Disturbance,
    /// The index of the event of its end (a completion, a poll) at which the disturbance happens.
    pub(super) disturb_at: u32,
    /// The number of cancels after which it submits the cancelled operations again.
    pub(super) cancels: u8,
}

/// The distribution of message sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sizes {
    /// Many messages, all of them small.
    Small,
    /// Mostly small messages, a few larger than every buffer.
    Mixed,
    /// One message, larger than the capacity of a connection.
    Flood,
}

/// A deviation of a side from its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    No,
    /// Resets the connection.
    Reset,
    /// Cancels everything and closes as soon as possible.
    Leave,
    /// Ends its stream before it has sent everything, and continues reading.
    CutShort,
}

/// The parameters of all scripts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The percentage of connections with a side that resets, in addition to those that have one in
    /// any case.
    pub(crate) resets_percent: u32,
}

impl Script {
    pub(super) fn of(plan: Plan, number: u32) -> Self {
        let mut random = Random::of([plan.seed, number.into(), 0]);
        let target = match random.below(32) {
            0 => Target::TurningAway,
            1 => Target::Nobody,
            _ => Target::Serving,
        };
        let mut script =
            Self { target, client: Part::random(&mut random), server: Part::random(&mut random) };
        if random.one_in(256) {
            let (sender, receiver) = if random.one_in(2) {
                (&mut script.client, &mut script.server)
            } else {
                (&mut script.server, &mut script.client)
            };
            sender.sizes = Sizes::Flood;
            sender.messages = 1;
            receiver.dawdles = true;
        }
        let mut random_of_resets = Random::of([plan.seed, number.into(), 32]);
        if random_of_resets.below(100) < plan.resets_percent {
            let side =
                if random_of_resets.one_in(2) { &mut script.client } else { &mut script.server };
            side.disturbance = Disturbance::Reset;
            side.disturb_at = random_of_resets.below(8);
        }
        match random.below(4) {
            0 => script.server.replies_last = true,
            1 => {}
            // The end that closes first keeps its port in use for a minute, and only the ports of
            // connecting ends can run out.
            _ => script.client.ends_last = true,
        }
        script
    }

    pub(super) fn part(&self, side: Side) -> &Part {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Returns whether only the end of both streams can end this connection. Then no operation on
    /// it fails, and every byte arrives.
    pub(super) fn is_polite(&self) -> bool {
        self.target == Target::Serving && self.client.is_polite() && self.server.is_polite()
    }
}

impl Part {
    /// Returns whether this side ends its stream, and receives the other's to its end.
    pub(super) fn is_polite(&self) -> bool {
        matches!(self.disturbance, Disturbance::No | Disturbance::CutShort)
    }

    fn random(random: &mut Random) -> Self {
        let disturbance = match random.below(16) {
            0 => Disturbance::Reset,
            1 => Disturbance::Leave,
            2 => Disturbance::CutShort,
            _ => Disturbance::No,
        };
        let talks = random.one_in(4);
        Self {
            seed: random.next(),
            sizes: if talks { Sizes::Small } else { Sizes::Mixed },
            dawdles: false,
            messages: if talks { random.below(32) } else { random.below(4) } as u8,
            replies_last: false,
            ends_last: false,
            disturbance,
            disturb_at: random.below(8),
            cancels: random.below(8).saturating_sub(4) as u8,
        }
    }

    /// Returns the length in bytes of the message with this index.
    pub(super) fn message_bytes(&self, index: u8) -> u32 {
        let mut random = Random::of([self.seed, index.into(), 4]);
        let (low, high) = match (self.sizes, random.below(1000)) {
            (Sizes::Flood, _) => (2 << 20, 4 << 20),
            (Sizes::Mixed, 0..3) => (64 << 10, 200 << 10),
            (Sizes::Mixed, 3..15) => (8 << 10, 64 << 10),
            (Sizes::Mixed, 15..100) => (1 << 10, 8 << 10),
            (Sizes::Mixed, 100..400) => (64, 1 << 10),
            (Sizes::Mixed | Sizes::Small, _) => (1, 64),
        };
        random.between(low, high)
    }

    /// Returns the length in bytes of all messages.
    pub(super) fn bytes(&self) -> u32 {
        (0..self.messages).map(|index| self.message_bytes(index)).sum()
    }
}
