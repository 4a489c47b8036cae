//! The options, each defined once: its type, default, bounds and text. TOML, flags, the printed
//! configuration and the guide are derived from these definitions.

mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::admissions::Bounds;
use crate::id::MAX_CONNECTIONS;
pub use text::OptionsError;
use text::{OptionSet, check, number};

/// Declares a struct of options: for each one its text, type, default and, if it is a number, its
/// bounds.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                pub $field:ident, $with:ident: $type:ty = $default:expr
                    $(, $min:expr => $max:expr)?;
            )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl OptionSet for $name {
            const TEXTS: &[(&str, &[&str])] = &[$( (stringify!($field), &[$($doc),+]), )+];

            fn validate(&self) -> Result<(), OptionsError> {
                $( $( check(
                    stringify!($field),
                    number(self.$field),
                    (number($min), number($max)),
                )?; )? )+
                self.validate_together()
            }
        }

        impl $name {
            $(
                #[doc = concat!(
                    "Sets [`", stringify!($field), "`](Self::", stringify!($field), ").",
                )]
                #[must_use]
                pub fn $with(mut self, value: $type) -> Self {
                    self.$field = value;
                    self
                }
            )+

            /// Reads the options from TOML, whose keys are the names of the fields. An option that
            /// is not in the text has its default.
            ///
            /// # Errors
            ///
            /// [`OptionsError`] for an unknown name, or for a value out of its bounds.
            pub fn from_toml(text: &str) -> Result<Self, OptionsError> {
                text::from_toml(text)
            }

            /// Returns all options as TOML, each with its description as a comment.
            /// [`from_toml`](Self::from_toml) reads such TOML back.
            pub fn to_toml(&self) -> String {
                text::to_toml(self)
            }

            /// Sets one option by its name, from a value as text.
            ///
            /// # Errors
            ///
            /// [`OptionsError`] for an unknown name, or for a value out of its bounds. No option is
            /// changed then.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
                text::set(self, name, value)
            }

            /// Returns whether there is an option of this name.
            pub fn has(name: &str) -> bool {
                Self::TEXTS.iter().any(|(known, _)| *known == name)
            }

            /// Checks that every option is within its bounds.
            ///
            /// # Errors
            ///
            /// [`OptionsError`] if an option is out of its bounds. It has the name of the first
            /// such option.
            pub fn validate(&self) -> Result<(), OptionsError> {
                OptionSet::validate(self)
            }
        }
    };
}

/// The system interface that does the I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Backend {
    /// The backend that the environment variable POSTHOUSE_BACKEND names. If it is not set, or is
    /// "auto", the best backend that works on this machine. On Windows that is iocp. On Linux it is
    /// uring if the layout is not shared and if, when the endpoint starts, a real operation on
    /// uring works; otherwise it is readiness.
    #[default]
    Auto,
    /// I/O completion ports (Windows).
    Iocp,
    /// io_uring (Linux 6.1 or newer, if the system permits it), in the pinned layout only.
    Uring,
    /// epoll and non-blocking calls (Linux).
    Readiness,
}

/// The assignment of connections to I/O workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Layout {
    /// The layout that suits the backend: shared for iocp, pinned for the others.
    #[default]
    Auto,
    /// Each connection belongs to one worker, which needs no lock for it. A long callback delays
    /// all connections of its worker.
    Pinned,
    /// All workers take from one queue. A long callback delays only its own connection, and the
    /// completions that its worker has already taken.
    Shared,
}

/// The way in which waiting receives hold memory, on Windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// A receive of zero bytes waits without memory; when it completes, Posthouse reads the data.
    /// An idle connection holds no buffer, and the system locks no memory for it. Suits the largest
    /// number of connections.
    #[default]
    ZeroByte,
    /// Each waiting receive has a buffer. In the shared layout a connection has `pending_reads`
    /// waiting receives, in the pinned layout one. Suits the highest throughput.
    Pending,
}

/// The rule that says whether a peer must open with a hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hello {
    /// A peer may send a hello, but need not. Peers without the protocol of Posthouse, such as
    /// short scripts and peers of the old server class IOCPS, can connect.
    #[default]
    Optional,
    /// The first frame of a peer must be a hello; otherwise the connection is closed.
    Required,
}

/// A day, in ms: longer than any useful time-out, and too short to overflow.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// A maximum for bounds in bytes, far above any useful one.
const MAX_BYTES: u64 = 1 << 40;

options! {
    /// The options of an endpoint: its workers, and its limits over all connections together. Every
    /// field has a useful default; change only those that you need:
    ///
    /// ```
    /// use posthouse::EndpointOptions;
    /// let options = EndpointOptions::default().with_max_connections(100).with_io_workers(2);
    /// # let _ = options;
    /// ```
    pub struct EndpointOptions {
        /// The number of threads that do the I/O and run the callbacks, 0 to 64. 0: one per core,
        /// at most 8.
        pub io_workers, with_io_workers: usize = 0, 0_u64 => 64_u64;
        /// The system interface for the I/O: "auto", "iocp" (Windows), "uring" or "readiness"
        /// (Linux). "auto": the environment variable POSTHOUSE_BACKEND if it is set, or else the
        /// best one that works here.
        pub backend, with_backend: Backend = Backend::Auto;
        /// The assignment of connections to workers: "pinned" (each connection belongs to one
        /// worker), "shared" (any worker serves any connection; not with "uring") or "auto" (shared
        /// with "iocp", pinned with the others).
        pub layout, with_layout: Layout = Layout::Auto;
        /// The maximum number of connections at the same time, accepted and outgoing, 1 to 1000000.
        /// If the endpoint has that many, a further accepted peer or a further connect takes the
        /// place of an accepted peer that is not admitted: the oldest of the address that has the
        /// most of them (see max_unadmitted). If no peer can lose its place, the further peer is
        /// reset, counted as refused and logged; a further connect fails. An idle connection takes
        /// about 650 bytes, and a descriptor. If the process can have fewer descriptors than the
        /// options permit connections and files, a warning says so when the endpoint begins to
        /// listen.
        pub max_connections, with_max_connections: usize = 16_384, 1_u64 => MAX_CONNECTIONS;
        /// The maximum number of accepted connections from one address, over all listeners
        /// together. An address is an IPv4 address, or the first ipv6_prefix_bits bits of an IPv6
        /// address. If an address has that many, a further peer from it takes the place of the
        /// oldest peer of the same address that is not admitted. If no peer of the address can lose
        /// its place, the further peer is reset, counted as refused and logged. Loopback addresses
        /// are exempt. 0: no limit.
        pub max_connections_per_address, with_max_connections_per_address: usize = 64;
        /// The maximum number of accepted connections that are not admitted. A connection is not
        /// admitted as long as a required step is missing: the peer's proof that it knows the key,
        /// its hello, the handshake of a record layer, or the admission by the handler. The value
        /// must be less than max_connections; 0 means half of max_connections. If a further peer
        /// exceeds this maximum, the address with the most unadmitted connections loses the oldest
        /// of them, which is reset, counted as evicted and logged. (An address is as in
        /// max_connections_per_address, but here loopback addresses are not exempt.) An unadmitted
        /// connection takes about 200 bytes more than another idle connection, and up to 16 KiB for
        /// a partly received frame. In addition, evicted connections that have not ended yet may
        /// exist: at most max_unadmitted or 1024, whichever is more.
        pub max_unadmitted, with_max_unadmitted: usize = 0;
        /// The number of leading bits of an IPv6 address that limits compare, 32 to 128. IPv6 peers
        /// whose addresses begin with the same bits count as one address in every limit per
        /// address. 64: the range of addresses that a network assigns to one host. With more bits
        /// such a host can get around every limit per address, because it counts as many addresses;
        /// with fewer bits several hosts count as one address and share its limit. An IPv4 address
        /// counts alone, also if it is mapped into IPv6 (::ffff:192.0.2.1).
        pub ipv6_prefix_bits, with_ipv6_prefix_bits: u32 = 64, 32_u64 => 128_u64;
        /// The maximum number of bytes that partly received frames of all connections may hold
        /// together. If a frame would exceed this maximum, its connection is closed.
        pub assembly_bytes, with_assembly_bytes: usize = 256 * 1024 * 1024, 1_u64 => MAX_BYTES;
        /// The maximum number of bytes that the transfers of all connections use. An eighth is for
        /// the names of listed directories. The rest has two halves: one for bytes that were read
        /// from files and will be sent or compared, the other for bytes that peers may send and
        /// that are not written to the disk yet. One address (see ipv6_prefix_bits) gets at most a
        /// quarter of each half. A transfer that finds no memory waits for its turn; meanwhile
        /// Posthouse tells the peer that the transfer is still active. If none of the waiting
        /// transfers gets its turn for 10 s, slow transfers that hold memory fail with
        /// TransferErrorKind::Busy. A transfer is slow if it waits for its peer and its connection
        /// is slow. A connection is slow if its transfers have moved fewer bytes in two minutes
        /// than they hold in memory. (If they hold less than 1 MiB, it is slow if they have moved
        /// less than 1 MiB.) Slow transfers that hold open files fail in the same way if others
        /// wait for a place in max_open_files. If only the send queue of a slow connection still
        /// holds what others wait for, the connection is closed (DisconnectKind::TooSlow). The
        /// names of a directory take about 80 bytes a file. If they take more than a sixteenth of
        /// file_memory_bytes, the directory is read again for each part of that size.
        pub file_memory_bytes, with_file_memory_bytes: usize =
            256 * 1024 * 1024, 1_u64 => MAX_BYTES;
        /// The maximum number of files that the transfers of all connections have open at the same
        /// time, half of them to send and half to receive: 2 to 1000000 (1 counts as 2). One
        /// address (see ipv6_prefix_bits) gets at most a quarter of each half. A file that was
        /// offered is not open until the peer accepts it. A transfer that finds no place waits for
        /// its turn; meanwhile Posthouse tells the peer that the transfer is still active. An open
        /// file takes a descriptor, and less than 1 KiB. 0: the endpoint chooses the value when it
        /// starts. On Linux that is the file descriptor limit of the process (`ulimit -n`) less the
        /// descriptors for everything else: max_connections, evicted connections, 8 for each I/O
        /// worker, and 256 more. It is at least a quarter of the file descriptor limit, and at most
        /// 65536. On other systems it is 16384.
        pub max_open_files, with_max_open_files: usize = 0, 0_u64 => MAX_CONNECTIONS;
        /// The number of rejections per second that each address (see ipv6_prefix_bits) may cause,
        /// 0 to 1000000. These count as one: a rejected offer, get or listing request; a request
        /// beyond max_requests; each 4 KiB of a listing, rounded up; each 64 names, rounded up,
        /// that a listing leaves out because they do not fit the frames of the peer; a received
        /// piece of less than 64 bytes that is neither the first nor the last piece of its frame. A
        /// transfer that the peer has begun counts as four if it fails, also if it fails because
        /// its connection ends, and not at all if this side cancels it, its disk fails, or the file
        /// that this side sends changes. A rejection that this side reports counts in addition. A
        /// message request that the handler rejects does not count. An address that has caused no
        /// rejections for four seconds may cause those of four seconds at once. If an address
        /// exceeds the limit, Posthouse does not read from the accepted connection that exceeded
        /// it, for a quarter of a second to ten seconds. Before the next such pause, Posthouse
        /// reads from that connection again. Posthouse rejects and drops nothing because of that.
        /// 0: no limit.
        pub max_rejections_per_second, with_max_rejections_per_second: u64 = 1_000,
            0_u64 => 1_000_000_u64;
        /// The time for connections to close gracefully in a shutdown, in ms. Connections that
        /// remain after it are reset. This time applies if the program `posthouse` gets Ctrl-C or
        /// SIGTERM, and if the last Endpoint handle is dropped. A call of Endpoint::shutdown gives
        /// its own time.
        pub shutdown_timeout_ms, with_shutdown_timeout_ms: u64 = 5_000, 1_u64 => DAY_MS;
        /// The time after which the log names a callback that still runs, in ms. 0: never.
        pub handler_overrun_ms, with_handler_overrun_ms: u64 = 1_000, 0_u64 => DAY_MS;
    }
}

options! {
    /// The options of a connection. A [`Listener`](crate::Listener) holds the options of the
    /// connections that it accepts, and a [`Target`](crate::Target) those of the connection to this
    /// target.
    ///
    /// ```
    /// use posthouse::{ConnectionOptions, Listener};
    /// let options = ConnectionOptions::default().with_max_frame_bytes(64 * 1024);
    /// let listener = Listener::new("127.0.0.1:9990").options(options);
    /// # let _ = listener;
    /// ```
    pub struct ConnectionOptions {
        /// The maximum payload of a message from a peer, in bytes, 64 to 16777214. A larger frame
        /// closes the connection when its header arrives, before memory is allocated. This option
        /// is also the maximum payload of a message to a peer, if the peer has not announced a
        /// maximum of its own in a hello.
        pub max_frame_bytes, with_max_frame_bytes: usize = 1024 * 1024,
            posthouse_wire::MIN_PEER_PAYLOAD_BYTES => posthouse_wire::MAX_PAYLOAD_BYTES;
        /// The maximum number of bytes queued for the peer. If a message would exceed it, a send
        /// from another thread fails with QueueFull, and a send from a callback closes the
        /// connection. An empty queue always takes one message.
        pub send_queue_bytes, with_send_queue_bytes: usize = 1024 * 1024, 1_u64 => 1_u64 << 33;
        /// Whether an accepted peer must open with a hello (native framing only): "optional" or
        /// "required". A key requires a hello, too. If a hello is required and the peer sends
        /// another frame first, or no hello within close_timeout_ms, its connection is closed.
        pub hello, with_hello: Hello = Hello::Optional;
        /// The time for the handler to admit an accepted peer (Peer::admit), in ms. Before the
        /// admission the payload of a message is limited to 16 KiB; after this time the connection
        /// is closed. 0: every peer is admitted at once.
        pub admission_timeout_ms, with_admission_timeout_ms: u64 = 0, 0_u64 => DAY_MS;
        /// The time for an accepted peer to send its first message, in ms. After this time the
        /// connection is closed. 0: no limit.
        pub first_message_timeout_ms, with_first_message_timeout_ms: u64 = 0, 0_u64 => DAY_MS;
        /// The time of silence after which this side sends a ping to a peer with hello, in ms: 0,
        /// or at least 10. If the silence lasts two and a half times as long, the connection is
        /// closed. 0: no pings, and Posthouse does not close a connection because of silence. This
        /// option does not change TCP keep-alive, by which the system notices after 25 s that a
        /// peer, with or without hello, has vanished.
        pub heartbeat_ms, with_heartbeat_ms: u64 = 10_000, 0_u64 => DAY_MS;
        /// The maximum time from the first to the last byte of a frame, in ms. After 5 s the mean
        /// rate of the frame must also be at least 240 bytes per second. The connection of a slower
        /// peer is closed.
        pub frame_timeout_ms, with_frame_timeout_ms: u64 = 30_000, 1_u64 => DAY_MS;
        /// The time, in ms, over which Posthouse measures how fast a peer takes the output that is
        /// queued for it. If a peer takes, on average over this time, less than 240 bytes per
        /// second from its queue, its connection is closed. On Windows, a send counts only when the
        /// peer has taken all of it: a peer may have to take up to 64 KiB in this time, or up to
        /// 256 KiB of a file that Windows sends by itself, before any byte counts.
        pub stall_timeout_ms, with_stall_timeout_ms: u64 = 30_000, 1_u64 => DAY_MS;
        /// The time to establish an outgoing connection, including look-up and hello, in ms. After
        /// this time the attempt has failed, also if no name server answers. An endpoint looks up
        /// at most 64 host names at a time; if none of these look-ups has ended for 5 seconds, a
        /// further attempt fails at once, with a text that says so.
        pub connect_timeout_ms, with_connect_timeout_ms: u64 = 10_000, 1_u64 => DAY_MS;
        /// The time for a graceful close, in ms: for the queued output to leave and for the peer to
        /// end its side. After this time the connection is reset. It is also the time in which an
        /// accepted peer must send a required hello.
        pub close_timeout_ms, with_close_timeout_ms: u64 = 5_000, 1_u64 => DAY_MS;
        /// The maximum time, in ms, for which a connection stays open after the peer has ended its
        /// stream while this side does not read (paused reading, a full send queue, a pause because
        /// of max_rejections_per_second). After this time the connection is closed, even if
        /// messages have not been read. The time begins when
        /// this side learns of the end of the stream. But while the peer still waits for the answer
        /// to a request or for the confirmation of a file, the time does not begin. Such a
        /// connection stays open for at most ten times this option after this side has learned of
        /// the end. 0: no limit; the end takes effect only when reading resumes. A reset closes the
        /// connection at once.
        pub paused_end_timeout_ms, with_paused_end_timeout_ms: u64 = 60_000, 0_u64 => DAY_MS;
        /// The maximum number of requests that wait for their replies, in each direction. If that
        /// many wait, a further request fails at once: this side's request with
        /// RequestError::TooMany; the peer's request is rejected. A waiting request takes about 100
        /// bytes.
        pub max_requests, with_max_requests: usize = 1024, 0_u64 => 1_000_000_u64;
        /// The maximum number of timers of the connection that wait (Peer::after). A further one
        /// fails with Busy. A waiting timer takes about 100 bytes, and what its closure holds.
        pub max_timers, with_max_timers: usize = 1024, 0_u64 => 1_000_000_u64;
        /// The maximum number of active file transfers on the connection, 0 to 100, counted
        /// separately for those that each side has begun. Further transfers that this side begins
        /// wait; those that the peer begins are rejected as busy. 0: the peer can begin none, and
        /// this side can begin one at a time.
        pub max_transfers, with_max_transfers: usize = 16, 0_u64 => 100_u64;
        /// The idle time-out of file transfers, in ms. If the peer sends no frame of any transfer
        /// for this time, the transfers that wait for the peer fail with
        /// TransferErrorKind::Expired.
        pub transfer_timeout_ms, with_transfer_timeout_ms: u64 = 30_000, 1_u64 => DAY_MS;
    }
}

options! {
    /// The options of an endpoint that you should change only because of a measurement: measure
    /// before and after the change.
    pub struct Tuning {
        /// The number of pending receives on a connection, 1 to 32. It has an effect in the shared
        /// layout only: in the pinned layout a connection has one receive, which can complete many
        /// times (a multishot receive).
        pub pending_reads, with_pending_reads: usize = 1, 1_u64 => 32_u64;
        /// The way in which waiting receives hold memory, on Windows only: "zero-byte" (a receive
        /// has no buffer until data arrives) or "pending" (each receive has a buffer from the
        /// start). On other systems an idle connection never holds a buffer.
        pub read_mode, with_read_mode: ReadMode = ReadMode::ZeroByte;
        /// The size of a receive buffer in bytes, 1 KiB to 1 MiB. An idle connection holds no
        /// buffer, except with read_mode "pending".
        pub receive_buffer_bytes, with_receive_buffer_bytes: usize = 64 * 1024,
            1024_u64 => 1024_u64 * 1024;
        /// The maximum number of free receive buffers that are kept for reuse. 0: none is kept.
        pub max_free_buffers, with_max_free_buffers: usize = 256, 0_u64 => 1_000_000_u64;
        /// The high-water mark of a send queue, in bytes. If the queue of an accepted peer is
        /// longer, Posthouse does not read from the peer until the queue falls to queue_low_bytes.
        /// If send_queue_bytes is smaller than this option, the mark is send_queue_bytes.
        pub queue_high_bytes, with_queue_high_bytes: usize = 256 * 1024, 1_u64 => MAX_BYTES;
        /// The low-water mark of a send queue, in bytes, at most queue_high_bytes. When a queue
        /// that was longer than queue_high_bytes, or that has rejected a message, falls to this
        /// mark, Posthouse reads from the peer again and calls Handler::writable once.
        pub queue_low_bytes, with_queue_low_bytes: usize = 64 * 1024;
        /// The maximum number of messages of one connection that a worker handles before it serves
        /// other connections. It is also the maximum number of timers of one connection, of timers
        /// of the endpoint and, in the pinned layout, of posts that a worker handles in a turn.
        pub turn_messages, with_turn_messages: usize = 64, 1_u64 => 1_000_000_u64;
        /// The maximum number of bytes of one connection that a worker handles before it serves
        /// other connections.
        pub turn_bytes, with_turn_bytes: usize = 64 * 1024, 1_u64 => MAX_BYTES;
        /// The maximum number of waiting posts. A post is a message, task, close or answer that a
        /// call on an Endpoint, a Group or an owned responder hands to a connection. In the pinned
        /// layout the maximum holds for each I/O worker, in the shared layout for each connection.
        /// If that many posts wait, Endpoint::send, run and others fail with Busy. The timers of
        /// the endpoint (Endpoint::after, every) that wait have the same maximum, together with the
        /// posts that wait for the first I/O worker.
        pub max_posts, with_max_posts: usize = 65_536, 1_u64 => 1_u64 << 30;
        /// The maximum number of file bytes in one chunk frame, 1 KiB to 8 MiB. A message never
        /// waits behind more than one chunk. On a slow line the chunks become smaller. Each file
        /// that is sent holds up to two chunks in memory, and each connection one more.
        pub chunk_bytes, with_chunk_bytes: usize = 256 * 1024, 1024_u64 => 8_u64 * 1024 * 1024;
        /// The maximum number of file bytes of one connection that have been received and not
        /// written. If many files arrive at the same time, each may have 128 KiB of unwritten
        /// bytes, even if all together exceed this maximum. The memory is held only while the disk
        /// is slower than the line.
        pub transfer_window_bytes, with_transfer_window_bytes: usize = 4 * 1024 * 1024,
            1024_u64 => MAX_BYTES;
        /// The maximum number of connections that the system queues before they are accepted, for
        /// each listener, 1 to 65535.
        pub backlog, with_backlog: u32 = 4_096, 1_u64 => 65_535_u64;
        /// The number of pending accepts of a listener, on Windows only, 1 to 1024. Each holds a
        /// socket. On other systems one operation accepts all peers.
        pub pending_accepts, with_pending_accepts: usize = 64, 1_u64 => 1024_u64;
    }
}

impl EndpointOptions {
    fn validate_together(&self) -> Result<(), OptionsError> {
        let max = number(self.max_connections).saturating_sub(1).max(1);
        check("max_unadmitted", number(self.max_unadmitted), (0, max))
    }

    /// Returns the bounds of the places of accepted connections.
    pub(crate) fn admission_bounds(&self) -> Bounds {
        let max_unadmitted = match self.max_unadmitted {
            0 => (self.max_connections / 2).max(1),
            max => max,
        };
        Bounds { max_unadmitted, max_per_address: self.max_connections_per_address }
    }

    /// Returns the maximum number of open files of transfers, if the process can have this number
    /// of descriptors.
    pub(crate) fn max_open_files_of(&self, max_descriptors: Option<u64>) -> usize {
        /// The most files that are useful to have open.
        const MOST: u64 = 65_536;
        /// The descriptors of the listeners, of the log, and of operations on directories.
        const RESERVED: u64 = 256;
        /// The descriptors of a worker.
        const OF_A_WORKER: u64 = 8;

        if self.max_open_files > 0 {
            return self.max_open_files.max(2);
        }
        let Some(max) = max_descriptors else { return 16_384 };
        let connections = self.max_connections + self.admission_bounds().max_evicted();
        let others = number(connections) + RESERVED + OF_A_WORKER * number(self.io_workers_here());
        // With a limit that is too low for the connections, files get a part of it.
        let files = max.saturating_sub(others).max(max / 4).clamp(2, MOST);
        files as usize
    }

    /// Returns the number of descriptors that the limits of connections and files permit; 0 for
    /// `max_open_files` adds none, because that limit adapts to the process.
    pub(crate) fn permitted_descriptors(&self) -> u64 {
        number(self.max_connections) + number(self.max_open_files)
    }

    /// Returns the number of I/O workers on this machine.
    pub(crate) fn io_workers_here(&self) -> usize {
        match self.io_workers {
            0 => posthouse_io::parallelism().min(8),
            n => n,
        }
    }

    /// Returns the backend to request.
    pub(crate) fn io_backend(
        &self,
        network: Option<posthouse_io::sim::Network>,
    ) -> posthouse_io::Backend {
        use posthouse_io::Backend as Io;
        match (network, self.backend) {
            (Some(network), _) => Io::Simulation(network),
            (None, Backend::Auto) => Io::Auto,
            (None, Backend::Iocp) => Io::Iocp,
            (None, Backend::Uring) => Io::Uring,
            (None, Backend::Readiness) => Io::Readiness,
        }
    }

    /// Returns the options of the completion port.
    pub(crate) fn io(&self, tuning: &Tuning) -> posthouse_io::Options {
        posthouse_io::Options {
            layout: match self.layout {
                Layout::Auto => None,
                Layout::Pinned => Some(posthouse_io::Layout::Pinned),
                Layout::Shared => Some(posthouse_io::Layout::Shared),
            },
            io_workers: self.io_workers_here(),
            buffer_bytes: tuning.receive_buffer_bytes,
            max_free_buffers: tuning.max_free_buffers,
            read_mode: match tuning.read_mode {
                ReadMode::ZeroByte => posthouse_io::ReadMode::ZeroByte,
                ReadMode::Pending => posthouse_io::ReadMode::Pending,
            },
            accepts: tuning.pending_accepts,
            guard_buffers: false,
        }
    }
}

impl ConnectionOptions {
    fn validate_together(&self) -> Result<(), OptionsError> {
        match self.heartbeat_ms {
            0 => Ok(()),
            ms => check("heartbeat_ms", ms, (HEARTBEAT_MIN_MS, DAY_MS)),
        }
    }
}

const HEARTBEAT_MIN_MS: u64 = posthouse_wire::MIN_HEARTBEAT.as_millis() as u64;
const _: () = assert!(HEARTBEAT_MIN_MS == 10, "the text of heartbeat_ms says so");

impl Tuning {
    fn validate_together(&self) -> Result<(), OptionsError> {
        let high = number(self.queue_high_bytes);
        check("queue_low_bytes", number(self.queue_low_bytes), (0, high))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Auto => "auto",
            Layout::Pinned => "pinned",
            Layout::Shared => "shared",
        })
    }
}
