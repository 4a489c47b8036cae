//! What the two sides of a connection do: a function of the campaign's seed and the connection's
//! number, so that each side knows what it may expect of the other.

use super::random::Random;

/// Who of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// One connection's script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) target: Target,
    pub(super) client: Part,
    pub(super) server: Part,
}

/// Where the client connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A listener whose peers are served.
    Serving,
    /// A listener whose peers are turned away: dropped, or refused by a reset.
    TurningAway,
    /// A port where nobody listens.
    Nobody,
}

/// What one side does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    seed: u64,
    sizes: Sizes,
    /// True exactly when it takes its time to receive, because of which a flood comes to a halt.
    pub(super) dawdles: bool,
    /// Messages that it sends, one after the other.
    pub(super) messages: u8,
    /// True exactly when it sends nothing before the other side's stream has ended.
    pub(super) replies_last: bool,
    /// True exactly when it ends its stream only after the other side's.
    pub(super) ends_last: bool,
    pub(super) disturbance: Disturbance,
    /// The event of its end (a completion, a poll) at which the disturbance happens.
    pub(super) disturb_at: u32,
    /// Cancels after which it submits again what was cancelled.
    pub(super) cancels: u8,
}

/// How large messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sizes {
    /// There are many, all of them small.
    Small,
    /// Most are small, a few larger than every buffer.
    Mixed,
    /// There is one, and it is more than what a connection holds on its way.
    Flood,
}

/// What a side does instead of coming to the end of its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    No,
    /// Resets the connection.
    Reset,
    /// Cancels everything and closes as soon as it may.
    Leave,
    /// Ends its stream before it has sent everything, and reads on.
    CutShort,
}

/// What decides over all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How many connections of a hundred have a side that resets, besides those that have one
    /// anyway.
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
            (sender.sizes, sender.messages, receiver.dawdles) = (Sizes::Flood, 1, true);
        }
        let mut random_of_resets = Random::of([plan.seed, number.into(), 32]);
        if random_of_resets.below(100) < plan.resets_percent {
            let side =
                if random_of_resets.one_in(2) { &mut script.client } else { &mut script.server };
            (side.disturbance, side.disturb_at) = (Disturbance::Reset, random_of_resets.below(8));
        }
        match random.below(4) {
            0 => script.server.replies_last = true,
            1 => {}
            // A port stays in use for a minute at the end that was the first to go, and it is the
            // connecting ends whose ports run out.
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

    /// Whether nothing but the end of both streams can end this connection. Then nothing fails on
    /// it, and every byte arrives.
    pub(super) fn is_polite(&self) -> bool {
        self.target == Target::Serving && self.client.is_polite() && self.server.is_polite()
    }
}

impl Part {
    /// Whether this side ends its stream, and receives the other's to its end.
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

    /// Bytes of the message with this index.
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

    /// Bytes of all messages.
    pub(super) fn bytes(&self) -> u32 {
        (0..self.messages).map(|index| self.message_bytes(index)).sum()
    }
}
