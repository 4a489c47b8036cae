//! Every option, defined once: its type, default, bounds and text. TOML, flags, the printed
//! configuration and the guide derive from here.

mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

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

            /// Reads the options from TOML: the keys are the names of the fields. An option that is
            /// not mentioned has its default.
            ///
            /// # Errors
            ///
            /// An unknown name, or a value out of its bounds.
            pub fn from_toml(text: &str) -> Result<Self, OptionsError> {
                text::from_toml(text)
            }

            /// Returns all options as TOML, each with its text as a comment;
            /// [`from_toml`](Self::from_toml) reads it back.
            pub fn to_toml(&self) -> String {
                text::to_toml(self)
            }

            /// Sets one option from its name and its value as text.
            ///
            /// # Errors
            ///
            /// An unknown name, or a value out of its bounds. Nothing is changed then.
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
            /// The first one that is not, by its name.
            pub fn validate(&self) -> Result<(), OptionsError> {
                OptionSet::validate(self)
            }
        }
    };
}

/// The system that does the I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Backend {
    /// The best that the machine offers, probed with a real operation at the start.
    #[default]
    Auto,
    /// I/O completion ports (Windows).
    Iocp,
    /// io_uring (Linux 6.1 or newer, where nothing denies it), in the pinned layout.
    Uring,
    /// epoll and non-blocking calls (Linux).
    Readiness,
}

/// The way in which connections and I/O workers come together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Layout {
    /// What suits the backend: shared with iocp, pinned with the others.
    #[default]
    Auto,
    /// A connection stays with one worker: no lock on its way. A long callback delays the
    /// connections of its worker.
    Pinned,
    /// All workers take from one queue: a long callback delays only its own connection and what
    /// its worker has already taken.
    Shared,
}

/// The way in which receives wait, on Windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// Without memory: a receive of zero bytes waits, and what it reports is then taken. An idle
    /// connection holds no buffer, in no memory that the system has locked. For most connections.
    #[default]
    ZeroByte,
    /// With a buffer each from the beginning: `pending_reads` of them for a connection. For most
    /// throughput.
    Pending,
}

/// The rule by which a peer must open with a hello, or need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hello {
    /// It may: IOCPS peers and short scripts need none.
    #[default]
    Optional,
    /// It must, as its first frame; otherwise the connection is closed.
    Required,
}

/// A day, in ms: longer than any time-out that makes sense, shorter than any overflow.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// More bytes than any bound should be given.
const MAX_BYTES: u64 = 1 << 40;

options! {
    /// The options of an endpoint: its workers and its totals. Every field has a default that
    /// serves; change what you need:
    ///
    /// ```
    /// use posthouse::EndpointOptions;
    /// let options = EndpointOptions::default().with_max_connections(100).with_io_workers(2);
    /// # let _ = options;
    /// ```
    pub struct EndpointOptions {
        /// Threads that carry the I/O and run the callbacks, 0 to 64. 0: one for each core, at
        /// most 8.
        pub io_workers, with_io_workers: usize = 0, 0_u64 => 64_u64;
        /// Which system does the I/O: "auto", "iocp", "uring" or "readiness". With "auto" the
        /// environment variable POSTHOUSE_BACKEND decides, where it is set.
        pub backend, with_backend: Backend = Backend::Auto;
        /// How connections and workers come together: "auto", "pinned" or "shared".
        pub layout, with_layout: Layout = Layout::Auto;
        /// Connections at the same time, both accepted and connecting, 1 to 1000000. More are
        /// refused with a reset, counted and logged. About 600 bytes each while idle.
        pub max_connections, with_max_connections: usize = 16_384, 1_u64 => MAX_CONNECTIONS;
        /// Accepted connections from one address. Loopback addresses are exempt. 0: no limit.
        pub max_connections_per_address, with_max_connections_per_address: usize = 64;
        /// Bytes of partly received frames that all connections may hold together. Over it, the
        /// connection that wants more is closed.
        pub assembly_bytes, with_assembly_bytes: usize = 256 * 1024 * 1024, 1_u64 => MAX_BYTES;
        /// Time for connections to close gracefully when the endpoint is shut down by dropping its
        /// last handle, in ms.
        pub shutdown_timeout_ms, with_shutdown_timeout_ms: u64 = 5_000, 1_u64 => DAY_MS;
        /// A callback that runs longer is named in the log while it runs, in ms. 0: never.
        pub handler_overrun_ms, with_handler_overrun_ms: u64 = 1_000, 0_u64 => DAY_MS;
    }
}

options! {
    /// The options of a connection, carried by a [`Listener`](crate::Listener) for the peers that
    /// it accepts and by a [`Target`](crate::Target) for the connection to it.
    ///
    /// ```
    /// use posthouse::{ConnectionOptions, Listener};
    /// let options = ConnectionOptions::default().with_max_frame_bytes(64 * 1024);
    /// let listener = Listener::new("127.0.0.1:9990").options(options);
    /// # let _ = listener;
    /// ```
    pub struct ConnectionOptions {
        /// The largest payload taken from a peer, and sent to one that has not said what it takes,
        /// in bytes, 64 to 16777214. A larger frame closes the connection when its header arrives.
        pub max_frame_bytes, with_max_frame_bytes: usize = 1024 * 1024,
            posthouse_wire::MIN_PEER_PAYLOAD_BYTES => posthouse_wire::MAX_PAYLOAD_BYTES;
        /// Bytes queued for the peer, at most. A send from another thread over it fails with
        /// QueueFull; one from a callback closes the connection. A lone message always fits.
        pub send_queue_bytes, with_send_queue_bytes: usize = 1024 * 1024, 1_u64 => 1_u64 << 33;
        /// Whether a peer of the native framing must open with a hello: "optional" or "required".
        /// A key requires it, too. It has no effect on connections that this side makes.
        pub hello, with_hello: Hello = Hello::Optional;
        /// Time for the handler to admit an accepted peer (Peer::admit), in ms; until then its
        /// frames are limited to 16 KiB. 0: peers are admitted as they come.
        pub admission_timeout_ms, with_admission_timeout_ms: u64 = 0, 0_u64 => DAY_MS;
        /// Time for an accepted peer to send its first message, in ms. 0: no limit.
        pub first_message_timeout_ms, with_first_message_timeout_ms: u64 = 0, 0_u64 => DAY_MS;
        /// Silence after which a peer that agreed on hello is sent a ping, in ms, at least 10;
        /// after two and a half times as much it is closed. 0: never.
        pub heartbeat_ms, with_heartbeat_ms: u64 = 10_000, 0_u64 => DAY_MS;
        /// Time for a frame that has begun to be complete, in ms. After 5 s it must also have come
        /// at no less than 240 bytes a second.
        pub frame_timeout_ms, with_frame_timeout_ms: u64 = 30_000, 1_u64 => DAY_MS;
        /// A peer that takes less than 240 bytes a second of its queue over this time is closed; in
        /// ms.
        pub stall_timeout_ms, with_stall_timeout_ms: u64 = 30_000, 1_u64 => DAY_MS;
        /// Time for an outgoing connection to be up, look-up and hello included, in ms.
        pub connect_timeout_ms, with_connect_timeout_ms: u64 = 10_000, 1_u64 => DAY_MS;
        /// Time for a graceful close, and for a required hello, in ms.
        pub close_timeout_ms, with_close_timeout_ms: u64 = 5_000, 1_u64 => DAY_MS;
        /// Requests that may wait for their replies, in each direction. About 100 bytes each.
        pub max_requests, with_max_requests: usize = 1024, 0_u64 => 1_000_000_u64;
        /// Maximum concurrent transfers in each direction, 0 to 100. With 0 the peer can begin
        /// none. More wait on this side; the peer is told to come later.
        pub max_transfers, with_max_transfers: usize = 16, 0_u64 => 100_u64;
        /// Idle timeout of a transfer, in ms: a transfer whose peer sends no file data for this
        /// long is cancelled.
        pub transfer_timeout_ms, with_transfer_timeout_ms: u64 = 30_000, 1_u64 => DAY_MS;
    }
}

options! {
    /// The options of an endpoint that only tuners touch: measure before and after.
    pub struct Tuning {
        /// Receives pending on a connection, 1 to 32. More than one counts in the shared layout
        /// only: the pinned one has a single receive that goes on.
        pub pending_reads, with_pending_reads: usize = 1, 1_u64 => 32_u64;
        /// How receives wait: "zero-byte" or "pending". It counts on Windows only: elsewhere idle
        /// connections hold no buffer, and there is nothing to choose.
        pub read_mode, with_read_mode: ReadMode = ReadMode::ZeroByte;
        /// Bytes of a receive buffer, 1 KiB to 1 MiB. Idle connections hold none, except with
        /// read_mode "pending".
        pub receive_buffer_bytes, with_receive_buffer_bytes: usize = 64 * 1024,
            1024_u64 => 1024_u64 * 1024;
        /// Free receive buffers kept for later: at most this many; 0 keeps none.
        pub max_free_buffers, with_max_free_buffers: usize = 256, 0_u64 => 1_000_000_u64;
        /// Over this many queued bytes an accepted peer is not read from; where send_queue_bytes is
        /// smaller, over that.
        pub queue_high_bytes, with_queue_high_bytes: usize = 256 * 1024, 1_u64 => MAX_BYTES;
        /// Below this many queued bytes it is read from again, and `writable` is called.
        pub queue_low_bytes, with_queue_low_bytes: usize = 64 * 1024;
        /// Messages of one connection handled in one turn before others have theirs.
        pub turn_messages, with_turn_messages: usize = 64, 1_u64 => 1_000_000_u64;
        /// Bytes of one connection handled in one turn before others have theirs.
        pub turn_bytes, with_turn_bytes: usize = 64 * 1024, 1_u64 => MAX_BYTES;
        /// Posts that may wait for one lane before senders get Busy.
        pub max_posts, with_max_posts: usize = 65_536, 1_u64 => 1_u64 << 30;
        /// Bytes of a file in one frame, at most, 1 KiB to 8 MiB: a message waits for one of them.
        /// Slow lines get smaller ones by themselves. Two are held for each file that goes out.
        pub chunk_bytes, with_chunk_bytes: usize = 256 * 1024, 1024_u64 => 8_u64 * 1024 * 1024;
        /// Bytes of files that a peer may have sent and this side not written, for one connection;
        /// each of many files at once may have 128 KiB all the same. Held only while the disk is
        /// slower than the line.
        pub transfer_window_bytes, with_transfer_window_bytes: usize = 4 * 1024 * 1024,
            1024_u64 => MAX_BYTES;
        /// Connections that the system queues before they are accepted.
        pub backlog, with_backlog: u32 = 4_096, 1_u64 => 65_535_u64;
        /// Peers that a listener awaits at a time, 1 to 1024, each with a socket of its own. It
        /// counts on Windows only: elsewhere one operation accepts all.
        pub pending_accepts, with_pending_accepts: usize = 64, 1_u64 => 1024_u64;
    }
}

impl EndpointOptions {
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "every set of options has it"
    )]
    fn validate_together(&self) -> Result<(), OptionsError> {
        Ok(())
    }

    /// Returns the number of I/O workers that `io_workers` means on this machine.
    pub(crate) fn io_workers_here(&self) -> usize {
        match self.io_workers {
            0 => posthouse_io::parallelism().min(8),
            n => n,
        }
    }

    /// Returns the backend to ask for.
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
