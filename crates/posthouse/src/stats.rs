//! What an endpoint counts.

use posthouse_io::Counters;

use crate::disconnect::{DisconnectReason, Fault};
use crate::sync::{AtomicU64, Ordering};

/// A counter that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the framework counts; none of it is on the path of a message.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) connected: Counter,
    pub(crate) disconnected: Counter,
    pub(crate) unreachable: Counter,
    pub(crate) peer_faults: Counter,
    pub(crate) panics: Counter,
    pub(crate) overruns: Counter,
    pub(crate) late_replies: Counter,
    pub(crate) shortages: Counter,
    pub(crate) accept_pauses: Counter,
    pub(crate) group_skips: Counter,
    pub(crate) transfers: Counter,
    pub(crate) transfers_failed: Counter,
    pub(crate) sendfile_bytes: Counter,
}

impl Counts {
    pub(crate) fn ended(&self, why: &DisconnectReason, notified: bool) {
        let ended = if notified { &self.disconnected } else { &self.unreachable };
        ended.add(1);
        if why.fault() == Fault::Peer && why.kind() != crate::DisconnectKind::Ended {
            self.peer_faults.add(1);
        }
    }
}

/// An endpoint's figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections now, those that are being made or ended included.
    pub connections: usize,
    /// Peers accepted.
    pub accepted: u64,
    /// Peers refused for want of room (`max_connections`, `max_connections_per_address`).
    pub refused: u64,
    /// Connections whose handler was told `connected`.
    pub connected: u64,
    /// Connections whose handler was told `disconnected`.
    pub disconnected: u64,
    /// Connections that ended before the handler knew them.
    pub unreachable: u64,
    /// Connections that ended by the peer's fault: a reset, a broken protocol, too slow, silent.
    pub peer_faults: u64,
    /// Callbacks that panicked.
    pub panics: u64,
    /// Callbacks that ran longer than `handler_overrun_ms`.
    pub overruns: u64,
    /// Replies that came after their request's time-out.
    pub late_replies: u64,
    /// Operations submitted again because the system had no room.
    pub shortages: u64,
    /// Times that accepting paused because no descriptor was free.
    pub accept_pauses: u64,
    /// Messages to a group that a member did not get, because it takes no frame so large.
    pub group_skips: u64,
    /// Files that got across, verified, either way.
    pub transfers: u64,
    /// Files that did not.
    pub transfers_failed: u64,
    /// Bytes of files that the system sent by itself (sendfile, TransmitFile): they were not read
    /// here, because their hashes were known.
    pub sendfile_bytes: u64,
    /// Bytes that partly received frames hold.
    pub assembly_bytes: usize,
    /// Operations submitted to the completion port.
    pub operations_submitted: u64,
    /// Operations completed. At rest as many as submitted; when the endpoint has ended, what is
    /// missing is what a disk that hangs, or a look-up, never gave back: it is leaked.
    pub operations_completed: u64,
    /// Sockets and listeners open.
    pub sockets: usize,
    /// Receive buffers that hold something.
    pub buffers_used: usize,
    /// Receive buffers kept for later.
    pub buffers_free: usize,
}

impl Stats {
    pub(crate) fn new(counts: &Counts, io: Counters, connections: usize, assembly: usize) -> Self {
        Self {
            connections,
            accepted: counts.accepted.get(),
            refused: counts.refused.get(),
            connected: counts.connected.get(),
            disconnected: counts.disconnected.get(),
            unreachable: counts.unreachable.get(),
            peer_faults: counts.peer_faults.get(),
            panics: counts.panics.get(),
            overruns: counts.overruns.get(),
            late_replies: counts.late_replies.get(),
            shortages: counts.shortages.get(),
            accept_pauses: counts.accept_pauses.get(),
            group_skips: counts.group_skips.get(),
            transfers: counts.transfers.get(),
            transfers_failed: counts.transfers_failed.get(),
            sendfile_bytes: counts.sendfile_bytes.get(),
            assembly_bytes: assembly,
            operations_submitted: io.submitted,
            operations_completed: io.completed,
            sockets: io.sockets,
            buffers_used: io.buffers_used,
            buffers_free: io.buffers_free,
        }
    }
}
