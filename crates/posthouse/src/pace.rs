//! The pace at which an address may cause work that moves nothing: rejections, failed transfers,
//! listings, small pieces of frames.
//!
//! Such work costs this side more than the few bytes that request it cost the peer, and the
//! connections of a worker share its time: a few hundred connections that request without end would
//! leave next to nothing to the others. Therefore each address has a number of units per second. A
//! connection whose address has used them up is not read for at most ten seconds. Nothing is lost
//! or rejected because of that.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::address_prefix::AddressPrefix;
use crate::sync::{Mutex, lock};

/// The units of a rejection.
pub(crate) const REJECTION: u64 = 1;
/// The units of a transfer of the peer that fails: most of them use the disk.
pub(crate) const FAILED_TRANSFER: u64 = 4;
/// The units of a received piece of a frame that is smaller than [`SMALL_PIECE_BYTES`], and neither
/// the first nor the last one.
pub(crate) const SMALL_PIECE: u64 = 1;
pub(crate) const SMALL_PIECE_BYTES: usize = 64;
/// The maximum time for which a connection is not read because of small pieces of a frame.
pub(crate) const MAX_PIECES_PAUSE: Duration = Duration::from_secs(1);
/// The number of bytes of a listing that count as a unit.
pub(crate) const LISTED_BYTES_PER_UNIT: usize = 4096;
/// The number of names that a listing passes over and that count as a unit.
pub(crate) const PASSED_NAMES_PER_UNIT: usize = 64;
/// The time whose units an address may use at once.
const BURST: Duration = Duration::from_secs(4);
/// The minimum time for which a connection is not read, so that a timer serves many units.
const MIN_PAUSE: Duration = Duration::from_millis(250);
/// The maximum time for which a connection is not read. What an address has used beyond that is
/// forgotten: a longer silence would be taken for a dead connection.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The maximum number of addresses that are counted. Each takes about 50 bytes until their number
/// reaches this maximum; then those that have all of their units again are forgotten.
const MAX_ADDRESSES: usize = 16_384;

/// The units that addresses have used.
pub(crate) struct Pace {
    /// The time of a unit; zero if there is no limit.
    unit: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// For each address the time at which all of its units are available again.
    even_at: BTreeMap<AddressPrefix, Duration>,
    /// The time before which addresses that are even again are not looked for once more.
    prune_at: Duration,
}

impl Pace {
    /// Makes a pace of this number of units per second; 0 is no limit.
    pub(crate) fn new(units_per_second: u64) -> Self {
        let unit = Duration::from_secs(1).as_nanos() as u64;
        let unit = unit.checked_div(units_per_second).unwrap_or(0);
        Self { unit: Duration::from_nanos(unit), state: Mutex::default() }
    }

    /// Counts units of an address. Returns the time until which its connection is not to be read,
    /// if the address has used up its units.
    pub(crate) fn count(
        &self,
        address: AddressPrefix,
        units: u64,
        now: Duration,
    ) -> Option<Duration> {
        if self.unit.is_zero() {
            return None;
        }
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let mut state = lock(&self.state);
        if !state.has_place(address, now) {
            return None;
        }
        let at = state.even_at.entry(address).or_default();
        let used = (*at).max(now).saturating_add(self.unit.saturating_mul(units));
        *at = used.min(now + BURST + MAX_PAUSE);
        let over = at.saturating_sub(BURST);
        (over > now).then(|| over.max(now + MIN_PAUSE))
    }
}

impl State {
    /// Returns whether the address can be counted.
    fn has_place(&mut self, address: AddressPrefix, now: Duration) -> bool {
        let is_full = self.even_at.len() >= MAX_ADDRESSES && !self.even_at.contains_key(&address);
        if is_full && self.prune_at <= now {
            self.even_at.retain(|_, at| *at > now);
            self.prune_at = now + MIN_PAUSE;
            return self.even_at.len() < MAX_ADDRESSES;
        }
        !is_full
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(number: u32) -> AddressPrefix {
        AddressPrefix::of(SocketAddr::from((number.to_be_bytes(), 1)).into(), 64)
    }

    /// Returns the number of units in a time for connections of one address that use one whenever
    /// they are read.
    fn used(pace: &Pace, connections: usize, time: Duration) -> usize {
        let mut until = vec![Duration::ZERO; connections];
        let mut used = 0;
        for ms in 0..time.as_millis() as u64 {
            let now = Duration::from_millis(ms);
            for until in until.iter_mut().filter(|until| **until <= now) {
                used += 1;
                *until = pace.count(address(1), 1, now).unwrap_or(now);
            }
        }
        used
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_units_per_second_however_many_connections_it_has() {
        for connections in [1, 10, 100] {
            let used = used(&Pace::new(100), connections, 60 * SECOND);
            let least = 400 + 100 * 50;
            // Each connection is read once more before it has to wait.
            let most = 400 + 100 * 62 + connections;
            assert!((least..=most).contains(&used), "{used} units, {connections} connections");
        }
    }

    #[test]
    fn other_addresses_have_units_of_their_own_and_units_come_back() {
        let pace = Pace::new(10);
        assert_eq!(pace.count(address(1), 40, SECOND), None);
        assert_eq!(pace.count(address(1), 20, SECOND), Some(3 * SECOND));
        assert_eq!(pace.count(address(2), 40, SECOND), None);
        assert_eq!(pace.count(address(1), 40, 7 * SECOND), None);
        assert_eq!(pace.count(address(1), 1, 7 * SECOND), Some(7 * SECOND + MIN_PAUSE));
    }

    #[test]
    fn a_pause_has_a_maximum_whatever_was_used() {
        let pace = Pace::new(1);
        assert_eq!(pace.count(address(1), u64::MAX, SECOND), Some(SECOND + MAX_PAUSE));
        assert_eq!(pace.count(address(1), 1000, 2 * SECOND), Some(2 * SECOND + MAX_PAUSE));
        assert_eq!(pace.count(address(1), 1, 20 * SECOND), None);
    }

    #[test]
    fn no_limit_counts_nothing() {
        assert_eq!(Pace::new(0).count(address(1), u64::MAX, SECOND), None);
    }

    #[test]
    fn the_number_of_addresses_has_a_bound() {
        let pace = Pace::new(1);
        for number in 0..2 * MAX_ADDRESSES as u32 {
            pace.count(address(number), 10, SECOND);
        }
        assert_eq!(lock(&pace.state).even_at.len(), MAX_ADDRESSES);
        pace.count(address(u32::MAX), 10, 20 * SECOND);
        assert_eq!(lock(&pace.state).even_at.len(), 1, "what is even again is forgotten");
    }
}
