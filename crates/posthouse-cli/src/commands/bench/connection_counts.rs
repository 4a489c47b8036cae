//! The counts of the connections of a load, by their state and their end.

use std::collections::BTreeMap;

use posthouse::{DisconnectReason, Fault, PeerId};

/// The number of different reasons, or mismatches, that are kept. Others are only counted.
const MAX_EXAMPLES: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts {
    /// The connections that were established, including those that have ended.
    pub(crate) connected: Vec<PeerId>,
    /// The number of connections that were established and have ended.
    pub(crate) ended: u64,
    /// The number of open connections that have no message in flight and send no more.
    pub(crate) idle: u64,
    /// The connections that could not be established, by reason.
    pub(crate) unreachable: Reasons,
    /// The connections that ended before the load did, by reason.
    pub(crate) lost: Reasons,
    /// The number of lost connections that the peer ended, or on which it broke the protocol.
    pub(crate) lost_by_peer: u64,
    /// The number of echoes that differed from their messages.
    pub(crate) mismatches: u64,
    /// The descriptions of the first mismatches.
    pub(crate) examples: Vec<String>,
    /// True after an interruption by the user.
    pub(crate) interrupted: bool,
}

/// The reasons, with the number of times that each occurred.
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
    /// Returns the number of connections that were established or failed.
    pub(crate) fn settled(&self) -> u64 {
        self.connected.len() as u64 + self.unreachable.total
    }

    /// Returns the number of open connections.
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
