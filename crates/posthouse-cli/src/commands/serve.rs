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
use crate::peer_lines::{self, PEER_LINES};
use crate::settings::{IoFlags, Settings};
use crate::term::stdout;
use crate::term::units::ByteSize;
use crate::{address, key_file, rlimit, signals};
use announcement::Announcement;
use file_server::DirectoryFlags;
use line_writer::LineWriter;

/// Serve a directory to other machines, or echo messages.
///
/// With --dir, other machines send files into the directory and get files from it. A file appears
/// whole and verified, or not at all. The server never replaces a file. An interrupted upload
/// resumes where it stopped.
///
/// The first line on stdout shows the addresses and the command that sends a file. After it, each
/// transferred file is a line on stdout, and each failed transfer is a line on stderr. If peers
/// cause too many lines, the rest is counted (see --line-rate).
///
/// The server echoes every message and answers every request with its payload. Without --dir it
/// does nothing else: it is an echo server for measurements and for testing clients.
///
/// Ctrl-C, Ctrl-Break and SIGTERM end the server gracefully, within shutdown_timeout_ms. A second
/// one ends it at once.
#[derive(Debug, Args)]
#[command(override_usage = "posthouse serve [OPTIONS]")]
#[command(after_long_help = "\
Examples:
  posthouse serve --dir inbox                            to this machine only
  posthouse serve --dir inbox --listen 0.0.0.0:9990 --key-file secret.key
  posthouse serve --dir drop --drop-only --max-bytes 50G --max-files 100000
  posthouse serve --dir releases --read-only --listen 0.0.0.0:9990 --open
  posthouse serve                                        as an echo server
  posthouse serve --listen 127.0.0.1:7000 --framing lines
  posthouse serve --print-config > posthouse.toml
  posthouse serve --config posthouse.toml --set tuning.backlog=128 --layout shared")]
pub(crate) struct Serve {
    #[command(flatten)]
    directory: DirectoryFlags,
    /// The address to listen on, IP:PORT. Repeat the flag for more addresses. With port 0, the
    /// system chooses the port. The default is the listeners of --config, or 127.0.0.1:9990
    #[arg(long, value_name = "ADDR", value_parser = address::parse_listen_address)]
    listen: Vec<SocketAddr>,
    /// The framing, which divides the stream into messages: native, lines, raw, delimiter:TEXT or
    /// length:offset=0,width=4,endian=big,adjust=0,strip=4. The default is the framing in --config,
    /// or native
    #[arg(long)]
    framing: Option<Framing>,
    #[command(flatten)]
    io: IoFlags,
    /// The number of I/O threads; 0 means one per core, at most 8
    #[arg(long, value_name = "N")]
    io_workers: Option<String>,
    /// The maximum number of open connections
    #[arg(long, value_name = "N")]
    max_connections: Option<String>,
    /// The maximum payload of a message from a peer, in bytes
    #[arg(long, value_name = "BYTES")]
    max_frame: Option<String>,
    /// A TOML file with options; an option that is not in it has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one option, such as tuning.backlog=128. This overrides --config; the option's own flag
    /// overrides this
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print the resulting options as TOML, and exit
    #[arg(long)]
    print_config: bool,
    /// A file with a secret of 16 to 1024 bytes. Only peers that prove knowledge of it are admitted
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Admit everyone without a secret, also from other machines
    #[arg(long, conflicts_with = "key_file")]
    open: bool,
    /// The maximum number of lines about peers per second, on stdout, on stderr and in the log at
    /// the level info. 50 times as many may come at once; a line of more than 200 bytes counts as
    /// several. Within a second, a line says how many were not shown. 0 means no limit
    #[arg(long, value_name = "N", default_value_t = peer_lines::DEFAULT_LINES_PER_SECOND)]
    line_rate: u32,
    /// Print statistics to stderr at this interval, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stats: Option<u64>,
}

/// The time for which binding to an address in use is retried, and the pause between attempts.
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
        PEER_LINES.limit(self.line_rate, Instant::now());
        let (lines, writer) = line_writer::channel(&PEER_LINES);
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

    /// Starts the endpoint. If an address is in use, this retries: the system releases the sockets
    /// of a killed server on io_uring with a delay (up to 23 ms on Linux 6.18), and users restart a
    /// killed server at once.
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

/// Prints statistics until the process ends. This has a thread of its own, because a terminal that
/// accepts no output must not block an I/O worker.
fn print_stats<H: Handler>(endpoint: Endpoint<H>, period: Duration) -> CommandResult {
    let print = move || {
        loop {
            thread::sleep(period);
            // If stderr is closed, the line is lost.
            let _ = writeln!(std::io::stderr(), "{}", stats_line(&endpoint.stats()));
        }
    };
    let started = thread::Builder::new().name("stats".into()).spawn(print);
    started
        .map(drop)
        .map_err(|error| Failure::runtime(format!("cannot start the statistics thread: {error}")))
}

fn stats_line(stats: &Stats) -> String {
    let connections = format!(
        "{} connections open, {} of them not admitted; {} accepted, {} refused, {} evicted, \
         paused {} times for rejections or lists; {} ended, {} of them by the peer's fault",
        stats.connections,
        stats.unadmitted,
        stats.accepted,
        stats.refused,
        stats.evicted,
        stats.rejection_pauses,
        stats.disconnected,
        stats.peer_faults,
    );
    let files = format!(
        "{} files transferred, {} failed; {} files open, {} of memory for files, \
         {} walks of directories",
        stats.transfers,
        stats.transfers_failed,
        stats.open_files,
        ByteSize(stats.file_memory_bytes),
        stats.walks,
    );
    let resources = format!(
        "{} operations in flight, {} sockets, {} buffers in use",
        stats.operations_submitted.saturating_sub(stats.operations_completed),
        stats.sockets,
        stats.buffers_used,
    );
    format!("{connections}; {files}; {resources}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_name_every_bound_that_peers_can_fill() {
        let mut stats = Stats::default();
        stats.unadmitted = 101;
        stats.evicted = 102;
        stats.open_files = 103;
        stats.file_memory_bytes = 104 << 10;
        stats.walks = 105;
        stats.rejection_pauses = 106;
        let line = stats_line(&stats);
        let expected = [
            "101 of them not admitted",
            "102 evicted",
            "103 files open",
            "104.0 KiB of memory for files",
            "105 walks of directories",
            "paused 106 times for rejections or lists",
        ];
        for text in expected {
            assert!(line.contains(text), "{text}: {line}");
        }
    }
}
