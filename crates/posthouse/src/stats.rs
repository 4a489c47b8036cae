//! The counters of an endpoint.

use posthouse_io::Counters;

use crate::disconnect::{DisconnectReason, Fault};
use crate::sync::{AtomicU64, Ordering};

/// A counter that many threads increase.
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

/// The counters of the framework. None of them is on the path of a message.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) evicted: Counter,
    pub(crate) rejection_pauses: Counter,
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
    pub(crate) walks: Counter,
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

/// The counters of an endpoint at one moment. [`Endpoint::stats`](crate::Endpoint::stats) returns
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The current number of connections, including those that are connecting or closing.
    pub connections: usize,
    /// The current number of accepted connections that are not admitted; see
    /// [`max_unadmitted`](crate::EndpointOptions::max_unadmitted).
    pub unadmitted: usize,
    /// The number of accepted peers that got a place. Refused peers are not among them.
    pub accepted: u64,
    /// The number of peers that were reset because of a limit (`max_connections`,
    /// `max_connections_per_address`), or because the listener was stopped or the endpoint shut
    /// down.
    pub refused: u64,
    /// The number of accepted peers that were reset before their admission, because others needed
    /// their place (`max_unadmitted`, `max_connections`, `max_connections_per_address`).
    pub evicted: u64,
    /// The number of times that a connection was not read for a while, because its address had
    /// caused too many rejections; see
    /// [`max_rejections_per_second`](crate::EndpointOptions::max_rejections_per_second).
    pub rejection_pauses: u64,
    /// The number of calls of `connected`.
    pub connected: u64,
    /// The number of calls of `disconnected`.
    pub disconnected: u64,
    /// The number of connections, outgoing and accepted, that ended before `connected` was called,
    /// for example because the target was unreachable, or because the peer was evicted or sent no
    /// hello in time.
    pub unreachable: u64,
    /// The number of connections whose [`fault`](DisconnectReason::fault) is [`Fault::Peer`],
    /// except those that the peer ended ([`DisconnectKind::Ended`](crate::DisconnectKind::Ended)).
    /// The peers that count reset the connection, broke the protocol, were not admitted, were too
    /// slow, did not read or went silent. A close with
    /// [`Close::peer_fault`](crate::Close::peer_fault) counts, too.
    pub peer_faults: u64,
    /// The number of callbacks that panicked.
    pub panics: u64,
    /// The number of callbacks that ran longer than `handler_overrun_ms`.
    pub overruns: u64,
    /// The number of replies that arrived after the time-out of their request.
    pub late_replies: u64,
    /// The number of operations that were submitted again because the system lacked resources.
    pub shortages: u64,
    /// The number of times that a listener stopped accepting for a while because of a shortage, for
    /// example of file descriptors.
    pub accept_pauses: u64,
    /// The number of group messages that a member did not get, because its framing cannot carry
    /// the message or its peer accepts no frame of that size.
    pub group_skips: u64,
    /// The number of files sent or received, and verified.
    pub transfers: u64,
    /// The number of failed transfers.
    pub transfers_failed: u64,
    /// The number of file bytes that the system sent by itself (sendfile, TransmitFile). Posthouse
    /// did not read these bytes, because it knew the hashes of the files.
    pub sendfile_bytes: u64,
    /// The number of times that Posthouse read a whole directory tree, or a part of it: to list its
    /// files for peers, to count them for a quota, or to remove part files (expired ones, or some
    /// that make room for an offer). Several listings and offers can share one such reading.
    pub walks: u64,
    /// The number of bytes that partly received frames hold.
    pub assembly_bytes: usize,
    /// The number of bytes that transfers and lists of files hold in memory, or have permitted
    /// their peers to send; see [`file_memory_bytes`](crate::EndpointOptions::file_memory_bytes).
    pub file_memory_bytes: u64,
    /// The number of files that transfers have open, or are about to open; see
    /// [`max_open_files`](crate::EndpointOptions::max_open_files).
    pub open_files: u64,
    /// The number of operations submitted to the completion port.
    pub operations_submitted: u64,
    /// The number of completed operations. When no operation is in flight, it equals the number of
    /// submitted ones. After the end of the endpoint the difference is the number of leaked
    /// operations: file operations on a disk that hangs.
    pub operations_completed: u64,
    /// The number of open sockets and listeners.
    pub sockets: usize,
    /// The number of receive buffers that hold data.
    pub buffers_used: usize,
    /// The number of free receive buffers, kept for reuse.
    pub buffers_free: usize,
}

impl Stats {
    /// Returns the counts, without those of the current moment that the endpoint adds.
    pub(crate) fn new(counts: &Counts, io: Counters) -> Self {
        Self {
            accepted: counts.accepted.get(),
            refused: counts.refused.get(),
            evicted: counts.evicted.get(),
            rejection_pauses: counts.rejection_pauses.get(),
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
            walks: counts.walks.get(),
            operations_submitted: io.submitted,
            operations_completed: io.completed,
            sockets: io.sockets,
            buffers_used: io.buffers_used,
            buffers_free: io.buffers_free,
            ..Self::default()
        }
    }
}
