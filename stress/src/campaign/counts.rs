//! The counts of events.

use std::fmt;

/// Declares the counts with the names under which they are printed.
macro_rules! counts {
    ($($count_of:ident: $name:literal,)+) => {
        /// A counted event.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Count {
            $(#[doc = $name] $count_of,)+
        }

        const NAMES: &[&str] = &[$($name),+];
    };
}

counts! {
    Submitted: "operations submitted",
    Completed: "operations completed",
    Clients: "connecting ends",
    Connected: "connected",
    Refused: "connects refused",
    ConnectsEnded: "connects cancelled or reset",
    Served: "peers accepted and served",
    Moved: "peers moved to another lane",
    TurnedAway: "peers turned away",
    AcceptsAgain: "accepts cancelled and submitted again",
    Messages: "messages sent",
    SentBytes: "bytes sent",
    FileParts: "parts of files sent",
    CheckedBytes: "bytes checked",
    SendsPartly: "sends that left in part",
    SendsCancelled: "sends cancelled and submitted again",
    ReceivesCancelled: "receives cancelled",
    CancelsOfReceives: "cancels of receives",
    CancelsOfEverything: "cancels of everything",
    Resets: "resets",
    FailedByReset: "ends that saw a reset",
    Left: "ends that cancelled and closed",
    HalfCloses: "streams ended before the other side's",
    CutShort: "streams ended before everything was sent",
    Overtaken: "receives taken before an earlier one",
    KeptBuffers: "buffers kept for a while",
    DiscardedBuffers: "buffers dropped on another thread",
    RecycledBuffers: "buffers recycled",
}

/// The number of times that each event has happened.
#[derive(Clone, Debug)]
pub(crate) struct Counts([u64; NAMES.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; NAMES.len()])
    }
}

impl Counts {
    pub(super) fn count(&mut self, count_of: Count) {
        self.add(count_of, 1);
    }

    pub(super) fn add(&mut self, count_of: Count, number: u64) {
        self.0[count_of as usize] += number;
    }

    pub(crate) fn get(&self, count_of: Count) -> u64 {
        self.0[count_of as usize]
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, number)| *sum += number);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, number) in NAMES.iter().zip(self.0) {
            writeln!(f, "{number:>16}  {name}")?;
        }
        Ok(())
    }
}
