//! The possible faults of a simulated network, their frequency, and their counts.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::random::Random;

/// The smallest window of a typical network: the minimum that systems grant (Linux: 4608 bytes to
/// send, 2304 to receive). Code may rely on a small message leaving while nothing else is on its
/// way. Narrower windows must be configured.
const WINDOW_LEAST: usize = 4 * 1024;

/// The possible faults and their frequency. Chances are in parts per million (`_ppm`) of the
/// occasions that each field names. Values are drawn uniformly from ranges, anew on each occasion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The delay of one way through the network, for every piece of data, every step of a
    /// handshake, every end and reset. Pieces of one direction never overtake each other.
    pub delay: RangeInclusive<Duration>,
    /// The time from the submission of an operation that could finish to its completion, unless it
    /// finishes at once.
    pub completion_delay: RangeInclusive<Duration>,
    /// The chance that a submission that can finish at once does so: its completion is there before
    /// the step ends.
    pub immediate_ppm: u32,
    /// The number of bytes that one direction of a connection holds before its sender has to wait
    /// (send buffer, in flight and receive buffer together), at least 1. Drawn for each direction.
    pub window_bytes: RangeInclusive<usize>,
    /// The chance that a receive gets less than there is, and that the bytes of a send travel in
    /// several pieces.
    pub partial_receive_ppm: u32,
    /// The chance that a send takes less than there is room for.
    pub partial_send_ppm: u32,
    /// The chance that a cancel takes effect later, so that its operation can still finish first.
    pub cancel_late_ppm: u32,
    /// In the shared layout, the number of completions at the head of the queue from which the next
    /// one is drawn, as if another worker had been quicker. 1 keeps the order. Completions of one
    /// operation never overtake each other.
    pub reorder_span: usize,
    /// The chance that a receive fails with `NoBuffers`, at its submission or (`Stream`) when data
    /// is there, and the chance that a watch fails so at its submission. No byte is lost; the
    /// operation can be submitted again.
    pub receive_no_buffers_ppm: u32,
    /// The chance that a send completes with zero bytes, because the system has no buffer for it
    /// now.
    pub send_no_buffers_ppm: u32,
    /// The chance that an accept or a connect finds no free descriptor and fails with
    /// `NoDescriptors`, like all others of its port for some time. The peer stays in the accept
    /// queue.
    pub no_descriptors_ppm: u32,
    /// The duration of a shortage of descriptors.
    pub no_descriptors_time: RangeInclusive<Duration>,
    /// The chance that a piece of data is lost and both ends see a reset.
    pub reset_ppm: u32,
    /// The chance that a connect fails with `Refused`, `Unreachable` or `TimedOut` although there
    /// is a listener.
    pub connect_fails_ppm: u32,
    /// The chance that a name look-up fails with `NameNotFound` although the name exists.
    pub lookup_fails_ppm: u32,
    /// The duration of a name look-up.
    pub lookup_delay: RangeInclusive<Duration>,
    /// The time from the submission of a file operation to its completion, unless it finishes at
    /// once. No file operation waits for another.
    pub disk_delay: RangeInclusive<Duration>,
    /// The chance that a read of a file gets less than there is.
    pub read_short_ppm: u32,
    /// The chance that a write to a file takes less than there is room for.
    pub write_short_ppm: u32,
    /// The chance that a write to a file, or the opening or publishing of a part, fails with
    /// `NoSpace` although there is room.
    pub disk_full_ppm: u32,
    /// The chance that a file operation fails with `Disk` and changes nothing. A failed
    /// publication, however, may have given the final name, which a crash can still remove.
    pub disk_fails_ppm: u32,
    /// The chance that the lane prefers to send a part of a file by itself, without a read.
    pub sendfile_ppm: u32,
    /// The chance that the read of a file within a send fails. The send is padded, and its
    /// completion reports it.
    pub sendfile_fails_ppm: u32,
    /// The chance that a worker that goes to sleep wakes a little later without a reason.
    pub wake_spurious_ppm: u32,
    /// The chance that a wake-up arrives late.
    pub wake_late_ppm: u32,
    /// The delay of a late wake-up, and the time until a spurious one.
    pub wake_delay: RangeInclusive<Duration>,
    /// The chance that a step is asked to end between two units of its work; see
    /// [`Lane::should_yield`](crate::Lane::should_yield).
    pub yield_ppm: u32,
    /// The chance that time jumps forward before a worker's step, as after a suspension of the
    /// machine.
    pub clock_jump_ppm: u32,
    /// The length of a jump of time.
    pub clock_jump: RangeInclusive<Duration>,
}

impl Faults {
    /// Returns a network that is only slow: every piece takes 100 µs, everything that can finish at
    /// once does, windows are wide, and order is kept.
    pub fn none() -> Self {
        let exactly = |us| Duration::from_micros(us)..=Duration::from_micros(us);
        Self {
            delay: exactly(100),
            completion_delay: exactly(1),
            immediate_ppm: 1_000_000,
            window_bytes: 256 * 1024..=256 * 1024,
            partial_receive_ppm: 0,
            partial_send_ppm: 0,
            cancel_late_ppm: 0,
            reorder_span: 1,
            receive_no_buffers_ppm: 0,
            send_no_buffers_ppm: 0,
            no_descriptors_ppm: 0,
            no_descriptors_time: exactly(200_000),
            reset_ppm: 0,
            connect_fails_ppm: 0,
            lookup_fails_ppm: 0,
            lookup_delay: exactly(1000),
            disk_delay: exactly(500),
            read_short_ppm: 0,
            write_short_ppm: 0,
            disk_full_ppm: 0,
            disk_fails_ppm: 0,
            sendfile_ppm: 500_000,
            sendfile_fails_ppm: 0,
            wake_spurious_ppm: 0,
            wake_late_ppm: 0,
            wake_delay: exactly(50),
            yield_ppm: 0,
            clock_jump_ppm: 0,
            clock_jump: exactly(1_000_000),
        }
    }

    /// Returns the faults of every network on an ordinary day: delays, pieces, windows of any size,
    /// late and spurious wake-ups, completions out of order. Nothing fails.
    pub fn typical() -> Self {
        let micros = |from, to| Duration::from_micros(from)..=Duration::from_micros(to);
        Self {
            delay: micros(20, 2000),
            completion_delay: micros(0, 200),
            immediate_ppm: 500_000,
            window_bytes: 16 * 1024..=256 * 1024,
            partial_receive_ppm: 200_000,
            partial_send_ppm: 200_000,
            cancel_late_ppm: 300_000,
            reorder_span: 8,
            lookup_delay: micros(100, 50_000),
            disk_delay: micros(20, 5_000),
            read_short_ppm: 100_000,
            write_short_ppm: 100_000,
            wake_spurious_ppm: 10_000,
            wake_late_ppm: 100_000,
            wake_delay: micros(1, 500),
            yield_ppm: 50_000,
            ..Self::none()
        }
    }

    /// Returns faults drawn from a seed: each fault is absent, rare or frequent, each range narrow
    /// or wide. Every failure occurs with some seed.
    pub fn from_seed(seed: u64) -> Self {
        // A different stream from the world's own of the same seed.
        let mut random = Random::new(seed ^ 0x6661_756c_7473);
        let mut level = |rare: u32, frequent: u32| match random.below(4) {
            0 | 1 => 0,
            2 => rare,
            _ => frequent,
        };
        let mut faults = Self {
            partial_receive_ppm: level(50_000, 900_000),
            partial_send_ppm: level(50_000, 900_000),
            cancel_late_ppm: level(100_000, 800_000),
            receive_no_buffers_ppm: level(2_000, 100_000),
            send_no_buffers_ppm: level(2_000, 100_000),
            no_descriptors_ppm: level(20_000, 300_000),
            reset_ppm: level(200, 10_000),
            connect_fails_ppm: level(50_000, 400_000),
            lookup_fails_ppm: level(50_000, 400_000),
            wake_spurious_ppm: level(5_000, 300_000),
            wake_late_ppm: level(50_000, 700_000),
            yield_ppm: level(20_000, 500_000),
            clock_jump_ppm: level(100, 3_000),
            ..Self::none()
        };
        let micros = |to: u64| Duration::ZERO..=Duration::from_micros(to);
        let mut pick = |choices: &[u64]| choices[random.below(choices.len())];
        faults.delay = micros(pick(&[50, 500, 5_000, 100_000]));
        faults.completion_delay = micros(pick(&[0, 20, 500, 10_000]));
        faults.immediate_ppm = pick(&[0, 100_000, 500_000, 1_000_000]) as u32;
        faults.window_bytes = WINDOW_LEAST..=pick(&[4, 16, 256]) as usize * 1024;
        faults.reorder_span = pick(&[1, 2, 8, 64]) as usize;
        faults.no_descriptors_time = micros(pick(&[1_000, 150_000, 2_000_000]));
        faults.lookup_delay = micros(pick(&[0, 1_000, 5_000_000]));
        faults.wake_delay = micros(pick(&[1, 100, 20_000]));
        faults.clock_jump = micros(pick(&[1_000, 1_000_000, 60_000_000]));
        // Drawn last, so that each seed keeps its other faults from before there were disks.
        faults.disk_delay = micros(pick(&[0, 500, 20_000, 1_000_000]));
        faults.read_short_ppm = pick(&[0, 0, 50_000, 900_000]) as u32;
        faults.write_short_ppm = pick(&[0, 0, 50_000, 900_000]) as u32;
        faults.disk_full_ppm = pick(&[0, 0, 2_000, 50_000]) as u32;
        faults.disk_fails_ppm = pick(&[0, 0, 2_000, 50_000]) as u32;
        faults.sendfile_fails_ppm = pick(&[0, 0, 20_000, 200_000]) as u32;
        faults
    }

    /// Returns the same faults without those that can end a connection or a transfer, or prevent
    /// its start. For tests that expect every message and every file to arrive.
    #[must_use]
    pub fn without_losses(mut self) -> Self {
        self.reset_ppm = 0;
        self.connect_fails_ppm = 0;
        self.lookup_fails_ppm = 0;
        self.clock_jump_ppm = 0;
        self.disk_full_ppm = 0;
        self.disk_fails_ppm = 0;
        self.sendfile_fails_ppm = 0;
        self
    }
}

impl Default for Faults {
    /// Returns [`Faults::typical`].
    fn default() -> Self {
        Self::typical()
    }
}

/// The number of times that each fault happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// The number of submissions that finished at once.
    pub immediate: u64,
    /// The number of submissions that could have finished at once and did not.
    pub delayed: u64,
    /// The number of sends that met a full window.
    pub window_full: u64,
    /// The number of receives that got less than there was.
    pub partial_receive: u64,
    /// The number of sends that took less than there was room for.
    pub partial_send: u64,
    /// The number of cancels that took effect later.
    pub cancel_late: u64,
    /// The number of completions taken before an older one.
    pub reordered: u64,
    /// The number of receives and watches that failed with `NoBuffers`.
    pub receive_no_buffers: u64,
    /// The number of sends that completed with zero bytes.
    pub send_no_buffers: u64,
    /// The number of accepts and connects that failed with `NoDescriptors`.
    pub no_descriptors: u64,
    /// The number of connections reset by chance.
    pub reset: u64,
    /// The number of connects that failed by chance.
    pub connect_fails: u64,
    /// The number of look-ups that failed by chance.
    pub lookup_fails: u64,
    /// The number of look-ups that a hanging host held up.
    pub lookup_hangs: u64,
    /// The number of reads of files that got less than there was.
    pub read_short: u64,
    /// The number of writes to files that took less than there was room for.
    pub write_short: u64,
    /// The number of file operations that failed with `NoSpace` by chance.
    pub disk_full: u64,
    /// The number of file operations that failed with `Disk` by chance.
    pub disk_fails: u64,
    /// The number of reads within sends that failed by chance.
    pub sendfile_fails: u64,
    /// The number of writes and names that crashes of disks lost, or kept in part.
    pub disk_lost: u64,
    /// The number of times that a disk was made to hang.
    pub disk_hangs: u64,
    /// The number of file operations that a port abandoned.
    pub abandoned: u64,
    /// The number of spurious wake-ups.
    pub wake_spurious: u64,
    /// The number of late wake-ups.
    pub wake_late: u64,
    /// The number of steps that were asked to end early.
    pub yields: u64,
    /// The number of jumps of the clock.
    pub clock_jump: u64,
    /// The number of connection attempts that found the accept queue full.
    pub backlog_full: u64,
}

impl FaultCounts {
    /// Returns the number of all faults. `immediate`, `abandoned` and `yields` do not count.
    pub fn total(&self) -> u64 {
        self.delayed
            + self.window_full
            + self.partial_receive
            + self.partial_send
            + self.cancel_late
            + self.reordered
            + self.receive_no_buffers
            + self.send_no_buffers
            + self.no_descriptors
            + self.reset
            + self.connect_fails
            + self.lookup_fails
            + self.lookup_hangs
            + self.read_short
            + self.write_short
            + self.disk_full
            + self.disk_fails
            + self.sendfile_fails
            + self.disk_lost
            + self.disk_hangs
            + self.wake_spurious
            + self.wake_late
            + self.clock_jump
            + self.backlog_full
    }
}
