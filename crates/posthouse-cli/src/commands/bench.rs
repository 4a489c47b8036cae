//! `posthouse bench`: a closed-loop load on an echo server, with a check of every echo.

mod connection_counts;
mod load;
mod measurements;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use posthouse::{
    ConnectionOptions, Endpoint, EndpointOptions, Framing, Peer, RunError, Target, Tuning,
};

use crate::failure::{CommandResult, Failure};
use crate::monitor::Monitor;
use crate::pattern::Pattern;
use crate::term::stdout::ReportFlags;
use crate::{address, key_file, rlimit, settings, signals};
use connection_counts::ConnectionCounts;
use load::{ConnectionState, Echoes, LoadClient, LoadTest, Phase};
use measurements::Measurements;
use report::Report;

/// Measure an echo server under load, and check every echo.
///
/// Each connection keeps DEPTH messages in flight: it sends the next message as soon as an echo has
/// arrived and was compared byte by byte. Any server that echoes messages will do. With the native
/// framing, each connection begins with Posthouse's hello; for a server that does not know the
/// hello, use --no-hello. The exit code is 0 if every connection was established and stayed open,
/// and every echo was right.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse bench 127.0.0.1:9990
  posthouse bench 127.0.0.1:9990 --connections 1000 --size 1024 --depth 16 --seconds 30
  posthouse bench 10.0.0.7:999 --no-hello              for a server without Posthouse's hello
  posthouse bench localhost:7 --framing raw --json     for any server that echoes bytes")]
pub(crate) struct Bench {
    /// The address of the server, HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::parse_target)]
    target: Target,
    /// The number of connections
    #[arg(long, short, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// The size of each message, in bytes
    #[arg(long, short, value_name = "BYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=16_777_214))]
    size: u32,
    /// The number of messages in flight on each connection
    #[arg(long, short, value_name = "DEPTH", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    depth: u32,
    /// The time to measure, in seconds. A warm-up of a tenth of it, at most 1 s, comes first
    #[arg(long, short = 't', value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// The framing, which divides the stream into messages: native, lines, raw, delimiter:TEXT or
    /// length:offset=0,width=4,endian=big,adjust=0,strip=4
    #[arg(long, default_value = "native")]
    framing: Framing,
    /// Connect without a hello, for a server that knows native frames but not Posthouse
    #[arg(long, conflicts_with = "key_file")]
    no_hello: bool,
    /// A file with the secret that the server requires
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    io: settings::IoFlags,
    /// The number of I/O threads for the load; 0 means one per core, at most 8
    #[arg(long, value_name = "N", default_value_t = 0)]
    io_workers: usize,
    #[command(flatten)]
    report: ReportFlags,
}

/// The space for the frame around a message. A long delimiter or a header of many bytes needs more,
/// but has room in the default.
const MAX_FRAME_OVERHEAD: usize = 64;
/// The maximum number of bytes in flight on one connection: the largest possible send queue.
const MAX_IN_FLIGHT_BYTES: usize = 1 << 33;
/// The maximum number of connections that are being established at the same time. A backlog holds
/// more.
const MAX_CONNECTING: u64 = 128;
/// The time to wait, at the end, for the echoes of the messages in flight.
const LAST_ECHOES_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that a graceful end of all connections may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Parses a time from a tenth of a second to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    number.map(Duration::from_secs_f64).ok_or_else(|| "write 0.1 to 86400".to_owned())
}

/// The result of a load besides its measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadResult {
    /// The measured time.
    time: Duration,
    /// The number of connections that did not get all echoes in time.
    unanswered: u64,
}

impl Bench {
    pub(crate) fn run(&self) -> CommandResult {
        let target = self.target()?.options(self.connection_options());
        let pattern = Pattern::new(&self.framing, self.size as usize)
            .map_err(|why| Failure::usage(format!("--size {}: {why}", self.size)))?;
        if self.frame_bytes() * self.depth as usize > MAX_IN_FLIGHT_BYTES {
            let text = "--size times --depth exceeds 8 GiB per connection; reduce one of them";
            return Err(Failure::usage(text));
        }
        let mut options = self.options();
        self.io.apply(&mut options)?;
        rlimit::raise_open_files();
        let test = Arc::new(LoadTest {
            pattern,
            depth: self.depth as usize,
            echoes: if self.framing == Framing::Raw { Echoes::Stream } else { Echoes::Messages },
            phase: load::PhaseCell::default(),
            measurements: Measurements::new(self.seconds),
            connections: Monitor::default(),
        });
        let endpoint = Endpoint::builder(LoadClient(test.clone()))
            .options(options)
            .tuning(self.tuning())
            .start()?;
        let interrupted = test.clone();
        signals::on_interrupt(move || {
            interrupted.connections.change(|counts| counts.interrupted = true);
        })?;
        self.connect(&endpoint, &target, &test.connections);
        let result = self.measure(&endpoint, &test)?;
        endpoint.shutdown(SHUTDOWN_TIMEOUT);
        endpoint.wait().map_err(|error| Failure::runtime(error.to_string()))?;

        let report = Report::new(self, &test, result);
        self.report.write(&report)?;
        report.verdict()
    }

    fn target(&self) -> CommandResult<Target> {
        let mut target = self.target.clone().framing(self.framing.clone());
        let native = self.framing == Framing::Native;
        if !native && (self.no_hello || self.key_file.is_some()) {
            let text = "has neither hello nor keys: leave out --no-hello and --key-file";
            return Err(Failure::usage(format!("the framing {} {text}", self.framing)));
        }
        if let Some(path) = &self.key_file {
            target = target.key(key_file::read(path)?);
        }
        Ok(if self.no_hello { target.without_hello() } else { target })
    }

    fn options(&self) -> EndpointOptions {
        let defaults = EndpointOptions::default();
        let assembly_bytes = self.frame_bytes().saturating_mul(self.connections as usize);
        let assembly_bytes = defaults.assembly_bytes.max(assembly_bytes.min(1 << 40));
        defaults
            .with_io_workers(self.io_workers)
            .with_max_connections(self.connections as usize)
            .with_assembly_bytes(assembly_bytes)
    }

    fn connection_options(&self) -> ConnectionOptions {
        let defaults = ConnectionOptions::default();
        let frame_bytes = defaults.max_frame_bytes.max(self.size as usize);
        let queue_bytes = self.frame_bytes().saturating_mul(self.depth as usize);
        let queue_bytes = defaults.send_queue_bytes.max(queue_bytes);
        defaults.with_max_frame_bytes(frame_bytes).with_send_queue_bytes(queue_bytes)
    }

    fn tuning(&self) -> Tuning {
        let defaults = Tuning::default();
        // Each connection takes a post to start its load.
        let max_posts = defaults.max_posts.max(2 * self.connections as usize);
        defaults.with_max_posts(max_posts)
    }

    /// Returns the maximum size of a message with its frame.
    fn frame_bytes(&self) -> usize {
        self.size as usize + MAX_FRAME_OVERHEAD
    }

    /// Establishes all connections, and waits until each is open or has failed.
    fn connect(
        &self,
        endpoint: &Endpoint<LoadClient>,
        target: &Target,
        connections: &Monitor<ConnectionCounts>,
    ) {
        for begun in 0..u64::from(self.connections) {
            connections.wait(None, |counts| {
                counts.interrupted || begun - counts.settled() < MAX_CONNECTING
            });
            if connections.read(|counts| counts.interrupted) {
                return;
            }
            if let Err(error) = endpoint.connect(target.clone(), ConnectionState::default()) {
                connections.change(|counts| counts.add_unreachable(&error.to_string()));
            }
        }
        let all = u64::from(self.connections);
        connections.wait(None, |counts| counts.interrupted || counts.settled() == all);
    }

    /// Starts the load on every connection, measures it, and waits for the last echoes.
    fn measure(
        &self,
        endpoint: &Endpoint<LoadClient>,
        test: &Arc<LoadTest>,
    ) -> CommandResult<LoadResult> {
        let connections = &test.connections;
        for id in connections.read(|counts| counts.connected.clone()) {
            let test = test.clone();
            let start = move |peer: &mut Peer<'_, LoadClient>| {
                test.start(peer);
                Ok(())
            };
            match endpoint.run(id, start) {
                // A connection that has ended was counted by its handler.
                Ok(()) | Err(RunError::NotConnected) => {}
                Err(error) => {
                    return Err(Failure::runtime(format!("cannot start the load: {error}")));
                }
            }
        }
        let over = |counts: &ConnectionCounts| counts.interrupted || counts.open() == 0;
        connections.wait(Some((self.seconds / 10).min(Duration::from_secs(1))), over);
        let started = test.measurements.start();
        test.phase.set(Phase::Measuring);
        connections.wait(Some(self.seconds), over);
        test.phase.set(Phase::Ending);
        let time = started.elapsed();
        connections.wait(Some(LAST_ECHOES_TIMEOUT), |counts| counts.open() <= counts.idle);
        Ok(LoadResult { time, unanswered: connections.read(|counts| counts.open() - counts.idle) })
    }
}
