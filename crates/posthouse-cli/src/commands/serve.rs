//! `posthouse serve`: a directory for many machines, or an echo server.

mod announcement;
mod file_server;
mod line_writer;

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use posthouse::{Endpoint, Framing, Handler, ListenError, StartError, Stats};

use crate::bind_policy::{self, Access};
use crate::echo::Echo;
use crate::failure::{CommandResult, Failure};
use crate::settings::{IoFlags, Settings};
use crate::term::stdout;
use crate::{address, key_file, rlimit, signals};
use announcement::Announcement;
use file_server::DirectoryFlags;
use line_writer::LineWriter;

/// Serve a directory: other machines send files into it and get files from it.
///
/// With --dir a file that arrives is there whole and verified, or not at all; nothing is ever
/// replaced, and an upload that broke off goes on where it was. One line on stdout says where it
/// listens and how to send; then each file that came or went is a line. What did not get across is
/// a line on stderr.
///
/// Every message that belongs to no file comes back with its kind and payload, and a request is
/// answered with its payload: without --dir it is an echo server, to measure and to try clients on.
///
/// Ctrl-C, and SIGTERM or Ctrl-Break, end it gracefully, within shutdown_timeout_ms; a second one
/// ends it at once.
#[derive(Debug, Args)]
#[command(override_usage = "posthouse serve [OPTIONS]")]
#[command(after_long_help = "\
Examples:
  posthouse serve --dir inbox                            for this machine
  posthouse serve --dir inbox --listen 0.0.0.0:9990 --key-file secret.key
  posthouse serve --dir drop --drop-only --max-bytes 50G --max-files 100000
  posthouse serve --dir releases --read-only --listen 0.0.0.0:9990 --open
  posthouse serve                                        an echo server
  posthouse serve --listen 127.0.0.1:7000 --framing lines
  posthouse serve --print-config > posthouse.toml
  posthouse serve --config posthouse.toml --set tuning.backlog=128 --layout shared")]
pub(crate) struct Serve {
    #[command(flatten)]
    directory: DirectoryFlags,
    /// Where to listen, IP:PORT; can be given several times. Port 0: the system chooses. Default:
    /// the listeners of --config, or 127.0.0.1:9990
    #[arg(long, value_name = "ADDR", value_parser = address::parse_listen_address)]
    listen: Vec<SocketAddr>,
    /// How messages are cut out of the stream: native, lines, raw, delimiter:TEXT or
    /// length:offset=0,width=4,endian=big,adjust=0,strip=4. Default: what --config says, or native
    #[arg(long)]
    framing: Option<Framing>,
    #[command(flatten)]
    io: IoFlags,
    /// Threads that carry the I/O; 0: one for each core, at most 8
    #[arg(long, value_name = "N")]
    io_workers: Option<String>,
    /// Connections at the same time
    #[arg(long, value_name = "N")]
    max_connections: Option<String>,
    /// The largest payload taken from a peer
    #[arg(long, value_name = "BYTES")]
    max_frame: Option<String>,
    /// Options from a TOML file; what it leaves out has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one option; it counts more than --config, and less than a flag of its own
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print the options that would be in force, as TOML, and exit
    #[arg(long)]
    print_config: bool,
    /// A file with a secret of 16 to 1024 bytes that every peer must prove to hold
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Let everyone connect, also from other machines
    #[arg(long, conflicts_with = "key_file")]
    open: bool,
    /// Print a line of figures to stderr every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stats: Option<u64>,
}

/// The time for which listening on an address in use is retried, and the pause between attempts.
const BIND_RETRY_TIME: Duration = Duration::from_millis(500);
const BIND_RETRY_PAUSE: Duration = Duration::from_millis(20);

impl Serve {
    pub(crate) fn run(&self) -> CommandResult {
        let settings = self.settings()?;
        if self.print_config {
            return stdout::write(&settings.to_toml());
        }
        bind_policy::check(&settings.listeners, self.access())?;
        rlimit::raise_open_files();
        let (lines, writer) = line_writer::channel();
        match self.directory.open(&settings.listeners, &lines)? {
            None => self.serve(&self.start(|| Echo, &settings)?, &settings, None),
            Some(server) => {
                let endpoint = self.start(|| server.clone(), &settings)?;
                let result = self.serve(&endpoint, &settings, Some(writer));
                lines.finish();
                result
            }
        }
    }

    fn access(&self) -> Access {
        if self.key_file.is_some() {
            Access::Key
        } else if self.open {
            Access::Open
        } else {
            Access::LoopbackOnly
        }
    }

    /// Starts the endpoint. Retries if an address is in use: the system releases the sockets of a
    /// server on io_uring some time after it was killed (up to 23 ms on Linux 6.18), and a killed
    /// server is started again at once.
    fn start<H: Handler>(
        &self,
        handler: impl Fn() -> H,
        settings: &Settings,
    ) -> CommandResult<Endpoint<H>> {
        let key = self.key_file.as_deref().map(key_file::read).transpose()?;
        let until = Instant::now() + BIND_RETRY_TIME;
        loop {
            let mut builder = Endpoint::builder(handler())
                .options(settings.limits.clone())
                .tuning(settings.tuning.clone());
            for listener in &settings.listeners {
                let listener = listener.listener();
                builder = builder.listen(match &key {
                    Some(key) => listener.key(key.clone()),
                    None => listener,
                });
            }
            match builder.start() {
                Err(StartError::Listen(ListenError::Bind { error, .. }))
                    if error.kind() == ErrorKind::AddrInUse && Instant::now() < until =>
                {
                    thread::sleep(BIND_RETRY_PAUSE);
                }
                started => return Ok(started?),
            }
        }
    }

    /// Serves until the endpoint has ended.
    fn serve<H: Handler>(
        &self,
        endpoint: &Endpoint<H>,
        settings: &Settings,
        writer: Option<LineWriter>,
    ) -> CommandResult {
        let ending = endpoint.clone();
        signals::on_interrupt(move || {
            ending.shutdown(Duration::from_millis(ending.options().shutdown_timeout_ms));
        })?;
        if let Some(seconds) = self.stats {
            print_stats(endpoint.clone(), Duration::from_secs(seconds))?;
        }
        let announcement = Announcement {
            addresses: endpoint.addresses(),
            framings: settings.listeners.iter().map(|listener| &listener.framing).collect(),
            access: self.access(),
            service: self.directory.service(),
        };
        stdout::write(&announcement.line())?;
        writer.map_or(Ok(()), LineWriter::start)?;
        endpoint.wait().map_err(|error| Failure::runtime(error.to_string()))
    }

    fn settings(&self) -> CommandResult<Settings> {
        let mut settings = Settings::read(self.config.as_deref())?;
        settings.set_all(&self.set)?;
        settings.listen(&self.listen, self.framing.as_ref());
        self.io.apply(&mut settings.limits)?;
        for (flag, name, value) in [
            ("io-workers", "io_workers", &self.io_workers),
            ("max-connections", "max_connections", &self.max_connections),
            ("max-frame", "max_frame_bytes", &self.max_frame),
        ] {
            settings.flag(flag, name, value.as_deref())?;
        }
        Ok(settings)
    }
}

/// Prints statistics until the process ends, on a thread of its own: a terminal that accepts no
/// output must not block an I/O worker.
fn print_stats<H: Handler>(endpoint: Endpoint<H>, period: Duration) -> CommandResult {
    let print = move || {
        loop {
            thread::sleep(period);
            // If stderr is closed the line is lost.
            let _ = writeln!(std::io::stderr(), "{}", stats_line(&endpoint.stats()));
        }
    };
    let started = thread::Builder::new().name("stats".into()).spawn(print);
    started
        .map(drop)
        .map_err(|error| Failure::runtime(format!("cannot start printing figures: {error}")))
}

fn stats_line(stats: &Stats) -> String {
    format!(
        "{} connections now; {} accepted, {} refused, {} ended, {} by the peer's fault; \
         {} files across, {} not; {} operations under way, {} sockets, {} buffers in use",
        stats.connections,
        stats.accepted,
        stats.refused,
        stats.disconnected,
        stats.peer_faults,
        stats.transfers,
        stats.transfers_failed,
        stats.operations_submitted.saturating_sub(stats.operations_completed),
        stats.sockets,
        stats.buffers_used,
    )
}
