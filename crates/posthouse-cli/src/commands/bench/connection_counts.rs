//! The connections of a load, counted by what became of them.

use std::collections::BTreeMap;

use posthouse::{DisconnectReason, Fault, PeerId};

/// The number of different reasons, or mismatches, that are kept; the others are only counted.
const MAX_EXAMPLES: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts {
    /// Connections that were established, those that ended since included.
    pub(crate) connected: Vec<PeerId>,
    /// Connections that were established and have ended.
    pub(crate) ended: u64,
    /// Connections that are open, have no message in flight and send no more.
    pub(crate) idle: u64,
    /// Connections that could not be established, by reason.
    pub(crate) unreachable: Reasons,
    /// Connections that ended before the load did, by reason.
    pub(crate) lost: Reasons,
    /// The lost connections that the peer ended, or broke the protocol on.
    pub(crate) lost_by_peer: u64,
    /// Echoes that differed from what was sent.
    pub(crate) mismatches: u64,
    /// Descriptions of the first of them.
    pub(crate) examples: Vec<String>,
    /// True once the user asked for the end.
    pub(crate) interrupted: bool,
}

/// Reasons, with the number of times that each was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasons {
    pub(crate) total: u64,
    pub(crate) texts: BTreeMap<String, u64>,
}

impl Reasons {
    fn add(&mut self, text: &str) {
        self.total += 1;
        if let Some(count) = self.texts.get_mut(text) {
            *count += 1;
        } else if self.texts.len() < MAX_EXAMPLES {
            self.texts.insert(text.to_owned(), 1);
        }
    }
}

impl ConnectionCounts {
    /// The number of connections that were established or failed to be.
    pub(crate) fn settled(&self) -> u64 {
        self.connected.len() as u64 + self.unreachable.total
    }

    /// The number of open connections.
    pub(crate) fn open(&self) -> u64 {
        self.connected.len() as u64 - self.ended
    }

    pub(crate) fn add_unreachable(&mut self, why: &str) {
        self.unreachable.add(why);
    }

    /// Counts a connection that ended before the load did.
    pub(crate) fn add_lost(&mut self, why: &DisconnectReason) {
        self.lost.add(&why.to_string());
        self.lost_by_peer += u64::from(why.fault() == Fault::Peer);
    }

    pub(crate) fn add_mismatch(&mut self, what: String) {
        self.mismatches += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_only_the_first_few_are_kept() {
        let mut reasons = Reasons::default();
        for number in 0..20 {
            reasons.add(&format!("reason {number}"));
            reasons.add("reason 0");
        }
        assert_eq!(reasons.total, 40);
        assert_eq!(reasons.texts.len(), MAX_EXAMPLES);
        assert_eq!(reasons.texts["reason 0"], 21);
    }
}
