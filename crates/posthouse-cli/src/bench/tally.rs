//! What is measured: latencies and the rate over time.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Parts of the measured time in which messages are counted.
pub(crate) const SLOTS: usize = 60;
/// Parts of the tally, each with a lock of its own: many more than workers, so that two of them
/// seldom meet. About 200 KB each.
const SHARDS: usize = 32;
/// Latencies are kept up to this; longer ones count as so long.
const LATENCY_MAX: Duration = Duration::from_mins(1);

/// Written to by all I/O workers at once.
#[derive(Debug)]
pub(crate) struct Tally {
    shards: Box<[Mutex<Shard>]>,
    slot_ns: u128,
    started: OnceLock<Instant>,
}

/// A part of a tally, and what all parts together make.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    /// Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Messages in each slot of the measured time.
    pub(crate) slots: [u64; SLOTS],
}

impl Shard {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3)
            .expect("the bounds are in order and three digits are possible");
        Self { latency, slots: [0; SLOTS] }
    }
}

impl Tally {
    /// For a measurement of so long.
    pub(crate) fn new(time: Duration) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Self { shards, slot_ns: (time.as_nanos() / SLOTS as u128).max(1), started: OnceLock::new() }
    }

    /// The measured time begins.
    pub(crate) fn start(&self) -> Instant {
        *self.started.get_or_init(Instant::now)
    }

    /// Counts a message of a connection. Those before the start do not count.
    pub(crate) fn record(&self, connection: u32, sent: Instant, now: Instant) {
        let Some(started) = self.started.get() else { return };
        let slot = now.saturating_duration_since(*started).as_nanos() / self.slot_ns;
        let latency = now.saturating_duration_since(sent).as_nanos() as u64;
        let shard = &self.shards[connection as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.latency.saturating_record(latency);
        // What comes in the instant between the end and its notice belongs to the last slot.
        shard.slots[(slot as usize).min(SLOTS - 1)] += 1;
    }

    /// All shards as one.
    pub(crate) fn merged(&self) -> Shard {
        let mut all = Shard::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.latency.add(&shard.latency).expect("all shards have the same bounds");
            all.slots.iter_mut().zip(shard.slots).for_each(|(sum, slot)| *sum += slot);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_counts_once_in_its_slot_whatever_its_shard() {
        let tally = Tally::new(Duration::from_mins(1));
        let ms = Duration::from_millis;
        tally.record(0, Instant::now(), Instant::now());
        let start = tally.start();
        for connection in 0..100 {
            tally.record(connection, start, start + ms(5));
            tally.record(connection, start + ms(1500), start + ms(1510));
            tally.record(connection, start, start + Duration::from_mins(2));
        }
        let all = tally.merged();
        assert_eq!((all.slots[0], all.slots[1], all.slots[SLOTS - 1]), (100, 100, 100));
        assert_eq!(all.latency.len(), 300, "the one before the start does not count");
        let percentile = |p| all.latency.value_at_percentile(p);
        assert!((4_990_000..5_010_000).contains(&percentile(10.0)), "{}", percentile(10.0));
        assert!((9_980_000..10_020_000).contains(&percentile(50.0)), "{}", percentile(50.0));
        assert!(percentile(100.0) >= 60_000_000_000, "{}", percentile(100.0));
    }
}
