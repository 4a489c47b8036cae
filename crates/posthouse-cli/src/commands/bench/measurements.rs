//! The measurements of a load: latencies, and the rate over time.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The number of slots of the measured time in which messages are counted.
pub(crate) const SLOTS: usize = 60;
/// The number of shards, each with a lock of its own. There are many more shards than workers, so
/// two workers rarely share one. A shard takes about 200 KB.
const SHARDS: usize = 32;
/// The longest latency that is recorded. A longer one counts as this.
const MAX_LATENCY: Duration = Duration::from_mins(1);

/// The measurements, recorded by all I/O workers at once.
#[derive(Debug)]
pub(crate) struct Measurements {
    shards: Box<[Mutex<Shard>]>,
    slot_ns: u128,
    started: OnceLock<Instant>,
}

/// A part of the measurements, or all parts merged.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    /// The latencies in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// The number of messages in each slot of the measured time.
    pub(crate) slots: [u64; SLOTS],
}

impl Shard {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY.as_nanos() as u64, 3)
            .expect("the bounds are in order and three digits are possible");
        Self { latency, slots: [0; SLOTS] }
    }
}

impl Measurements {
    /// Makes empty measurements over this time.
    pub(crate) fn new(time: Duration) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Self { shards, slot_ns: (time.as_nanos() / SLOTS as u128).max(1), started: OnceLock::new() }
    }

    /// Begins the measured time.
    pub(crate) fn start(&self) -> Instant {
        *self.started.get_or_init(Instant::now)
    }

    /// Counts a message of a connection, unless it came before the start.
    pub(crate) fn record(&self, connection: u32, sent: Instant, now: Instant) {
        let Some(started) = self.started.get() else { return };
        let slot = now.saturating_duration_since(*started).as_nanos() / self.slot_ns;
        let latency = now.saturating_duration_since(sent).as_nanos() as u64;
        let shard = &self.shards[connection as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.latency.saturating_record(latency);
        // A message that arrives right after the end belongs to the last slot.
        shard.slots[(slot as usize).min(SLOTS - 1)] += 1;
    }

    /// Merges all shards.
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
        let measurements = Measurements::new(Duration::from_mins(1));
        let ms = Duration::from_millis;
        measurements.record(0, Instant::now(), Instant::now());
        let start = measurements.start();
        for connection in 0..100 {
            measurements.record(connection, start, start + ms(5));
            measurements.record(connection, start + ms(1500), start + ms(1510));
            measurements.record(connection, start, start + Duration::from_mins(2));
        }
        let all = measurements.merged();
        assert_eq!((all.slots[0], all.slots[1], all.slots[SLOTS - 1]), (100, 100, 100));
        assert_eq!(all.latency.len(), 300, "the one before the start does not count");
        let percentile = |p| all.latency.value_at_percentile(p);
        assert!((4_990_000..5_010_000).contains(&percentile(10.0)), "{}", percentile(10.0));
        assert!((9_980_000..10_020_000).contains(&percentile(50.0)), "{}", percentile(50.0));
        assert!(percentile(100.0) >= 60_000_000_000, "{}", percentile(100.0));
    }
}
