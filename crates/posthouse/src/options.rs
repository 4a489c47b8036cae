//! Every option, defined once: the type, the default, the text, the bounds. TOML, flags, the
//! printed configuration and the guide derive from here.

mod file;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use file::OptionsError;

/// Declares a struct of options with their defaults and keeps the texts for print-outs.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ pub $field:ident: $type:ty = $default:expr, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $name {
            /// Each option's name and text, in order.
            pub(crate) const TEXTS: &[(&str, &[&str])] =
                &[$( (stringify!($field), &[$($doc),+]), )+];
        }
    };
}

/// Which system does the I/O.
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

/// How connections and I/O workers come together.
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

/// How receives wait, on Windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// Without memory: what a receive of zero bytes tells of is then taken. An idle connection
    /// holds no buffer, in no memory that the system has locked. For most connections.
    #[default]
    ZeroByte,
    /// With a buffer each from the beginning on: `pending_reads` of them for a connection. For most
    /// throughput.
    Pending,
}

/// Whether a peer must open with a hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hello {
    /// It may: IOCPS peers and short scripts need none.
    #[default]
    Optional,
    /// It must, as its first frame; otherwise the connection is closed.
    Required,
}

options! {
    /// The options of an endpoint. Every field has a default that serves; change what you need:
    ///
    /// ```
    /// let options = posthouse::Options { max_connections: 100, ..Default::default() };
    /// # let _ = options;
    /// ```
    ///
    /// From TOML: [`Options::from_toml`]; all of them with their texts: [`Options::to_toml`].
    pub struct Options {
        /// Threads that carry the I/O and run the callbacks, 1 to 64. 0: one for each core, at
        /// most 8.
        pub io_workers: usize = 0,
        /// Which system does the I/O: "auto", "iocp", "uring" or "readiness". With "auto" the
        /// environment variable POSTHOUSE_BACKEND decides, where it is set.
        pub backend: Backend = Backend::Auto,
        /// How connections and workers come together: "auto", "pinned" or "shared".
        pub layout: Layout = Layout::Auto,
        /// Connections at the same time, both accepted and connecting, 1 to 1000000. More are
        /// refused with a reset, counted and logged. About 500 bytes each while idle.
        pub max_connections: usize = 16_384,
        /// Accepted connections from one address, loopback excepted. 0: no limit.
        pub max_connections_per_address: usize = 64,
        /// The largest payload taken from a peer, and sent to one that has not said what it takes,
        /// in bytes, 64 to 16777214. A larger frame closes the connection when its header arrives.
        pub max_frame: usize = 1024 * 1024,
        /// Bytes queued for one peer, at most. A send from another thread over it is refused; one
        /// from a callback closes the connection. A lone message always fits.
        pub send_queue_bytes: usize = 1024 * 1024,
        /// Bytes of partly received frames that all connections may hold together. Over it, the
        /// connection that wants more is closed.
        pub assembly_bytes: usize = 256 * 1024 * 1024,
        /// Whether a peer of the native framing must open with a hello: "optional" or "required".
        /// A key demands it, too.
        pub hello: Hello = Hello::Optional,
        /// Within this time a peer must be admitted by the handler (Peer::admit), in ms; until
        /// then its frames are limited to 16 KiB. 0: peers are admitted as they come.
        pub admission_ms: u64 = 0,
        /// Within this time a peer must have sent its first message, in ms. 0: no limit.
        pub first_message_ms: u64 = 0,
        /// After so much silence a peer that agreed on hello is asked for a sign of life, in ms;
        /// after two and a half times as much it is given up. 0: never.
        pub heartbeat_ms: u64 = 10_000,
        /// Within this time a frame that has begun must be complete, in ms. After 5 s it must also
        /// have come at no less than 240 bytes a second.
        pub frame_ms: u64 = 30_000,
        /// A peer that takes less than 240 bytes a second of what is queued for it, over this
        /// time, is given up; in ms.
        pub stall_ms: u64 = 30_000,
        /// Within this time an outgoing connection must be up, look-up and hello included, in ms.
        pub connect_ms: u64 = 10_000,
        /// A graceful close, a shutdown without a deadline of its own, and a demanded hello get
        /// this much time, in ms.
        pub close_timeout_ms: u64 = 5_000,
        /// Requests of one connection that may wait for their replies.
        pub requests_max: usize = 1024,
        /// Files of one connection on their way at the same time, those that it begins and those
        /// that its peer begins each, 0 to 100. 0: peers begin none. More wait here, and are told
        /// to come later where the peer begins them.
        pub transfers_max: usize = 16,
        /// A peer that has said it will send a file, or was asked for one, and sends nothing of
        /// any for so long, in ms, has this transfer given up.
        pub offer_ms: u64 = 30_000,
        /// A callback that runs longer is named in the log while it runs, in ms. 0: never.
        pub handler_overrun_ms: u64 = 1_000,
        /// Knobs that only tuners touch.
        pub tuning: Tuning = Tuning::default(),
    }
}

options! {
    /// Knobs that only tuners touch: measure before and after.
    pub struct Tuning {
        /// Receives pending on a connection, 1 to 32. More than one counts in the shared layout
        /// only: the pinned one has a single receive that goes on.
        pub pending_reads: usize = 1,
        /// How receives wait: "zero-byte" or "pending". It counts on Windows only: elsewhere idle
        /// connections hold no buffer, and there is nothing to choose.
        pub read_mode: ReadMode = ReadMode::ZeroByte,
        /// Bytes of a receive buffer, 1 KiB to 1 MiB. Idle connections hold none, except with
        /// read_mode "pending".
        pub receive_buffer_bytes: usize = 64 * 1024,
        /// Free receive buffers kept for later: at most this many; 0 keeps none.
        pub max_free_buffers: usize = 256,
        /// Free connection slots kept with their memory: at most this many; 0 keeps none.
        pub max_free_contexts: usize = 1024,
        /// Over this many queued bytes an accepted peer is not read from, in bytes.
        pub queue_high_bytes: usize = 256 * 1024,
        /// Below this many queued bytes it is read from again, and `writable` is told, in bytes.
        pub queue_low_bytes: usize = 64 * 1024,
        /// Messages of one connection handled in one turn before others have theirs.
        pub turn_messages: usize = 64,
        /// Bytes of one connection handled in one turn before others have theirs.
        pub turn_bytes: usize = 64 * 1024,
        /// Posts that may wait for one lane before senders are told Busy.
        pub max_posts: usize = 65_536,
        /// Bytes of a file in one frame, at most, 1 KiB to 8 MiB: a message waits for one of them.
        /// Slow lines get smaller ones by themselves. Two are held for each file that goes out.
        pub chunk_bytes: usize = 256 * 1024,
        /// Bytes of files that a peer may have sent and this side not written, for one connection;
        /// each of many files at once may have 128 KiB all the same. Held only while the disk is
        /// slower than the line.
        pub transfer_window_bytes: usize = 4 * 1024 * 1024,
        /// Connections that the system queues before they are accepted.
        pub backlog: u32 = 4_096,
        /// Peers that a listener awaits at a time, 1 to 1024, each with a socket of its own. It
        /// counts on Windows only: elsewhere one operation accepts all.
        pub pending_accepts: usize = 64,
    }
}

/// The smallest and largest value of every number that has bounds.
macro_rules! bounds {
    ($options:expr, $( $($field:ident).+: $min:expr => $max:expr, )+) => {
        $( check(
            stringify!($($field).+),
            number($options.$($field).+),
            number($min),
            number($max),
        )?; )+
    };
}

/// Options count in several widths; bounds are compared in one.
fn number(value: impl TryInto<u64>) -> u64 {
    value.try_into().unwrap_or(u64::MAX)
}

fn check(name: &str, value: u64, min: u64, max: u64) -> Result<(), OptionsError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let name = name.replace(' ', "");
    Err(OptionsError::new(format!("{name} = {value}: must be {min} to {max}")))
}

/// A day: longer than any time-out that makes sense, shorter than any overflow.
const MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// More bytes than any bound should be given.
const BYTES_MAX: u64 = 1 << 40;

impl Options {
    /// Says which option is out of its bounds.
    pub fn validate(&self) -> Result<(), OptionsError> {
        bounds!(self,
            io_workers: 0 => 64,
            max_connections: 1 => 1_000_000,
            max_frame: posthouse_wire::PEER_PAYLOAD_BYTES_MIN => posthouse_wire::PAYLOAD_BYTES_MAX,
            send_queue_bytes: 1 => 1u64 << 33,
            assembly_bytes: 1 => BYTES_MAX,
            admission_ms: 0 => MS_MAX,
            first_message_ms: 0 => MS_MAX,
            heartbeat_ms: 0 => MS_MAX,
            frame_ms: 1 => MS_MAX,
            stall_ms: 1 => MS_MAX,
            connect_ms: 1 => MS_MAX,
            close_timeout_ms: 1 => MS_MAX,
            requests_max: 0 => 1_000_000,
            transfers_max: 0 => 100,
            offer_ms: 1 => MS_MAX,
            handler_overrun_ms: 0 => MS_MAX,
            tuning.pending_reads: 1 => 32,
            tuning.receive_buffer_bytes: 1024 => 1024 * 1024,
            tuning.max_free_buffers: 0 => 1_000_000,
            tuning.turn_messages: 1 => 1_000_000,
            tuning.turn_bytes: 1 => BYTES_MAX,
            tuning.queue_high_bytes: 1 => self.send_queue_bytes,
            tuning.queue_low_bytes: 0 => self.tuning.queue_high_bytes,
            tuning.chunk_bytes: 1024 => 8 * 1024 * 1024,
            tuning.transfer_window_bytes: 1024 => BYTES_MAX,
            tuning.max_posts: 1 => 1u64 << 30,
            tuning.backlog: 1 => 65_535,
            tuning.pending_accepts: 1 => 1024,
        );
        if self.heartbeat_ms > 0 {
            let min = posthouse_wire::HEARTBEAT_MIN.as_millis() as u64;
            check("heartbeat_ms", self.heartbeat_ms, min, MS_MAX)?;
        }
        Ok(())
    }

    /// The number of I/O workers that `io_workers` means on this machine.
    pub(crate) fn io_workers_here(&self) -> usize {
        match self.io_workers {
            0 => posthouse_io::parallelism().min(8),
            n => n,
        }
    }

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

    pub(crate) fn io(&self) -> posthouse_io::Options {
        posthouse_io::Options {
            layout: match self.layout {
                Layout::Auto => None,
                Layout::Pinned => Some(posthouse_io::Layout::Pinned),
                Layout::Shared => Some(posthouse_io::Layout::Shared),
            },
            io_workers: self.io_workers_here(),
            buffer_bytes: self.tuning.receive_buffer_bytes,
            max_free_buffers: self.tuning.max_free_buffers,
            read_mode: match self.tuning.read_mode {
                ReadMode::ZeroByte => posthouse_io::ReadMode::ZeroByte,
                ReadMode::Pending => posthouse_io::ReadMode::Pending,
            },
            accepts: self.tuning.pending_accepts,
            guard_buffers: false,
        }
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
