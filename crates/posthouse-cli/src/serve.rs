//! `posthouse serve`: a directory for many machines, or an echo server.

mod depot;
mod journal;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{self, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use posthouse::{Address, Endpoint, Escaped, Framing, Handler, Options, StartError, Stats};

use crate::echo::Echo;
use crate::exposure::{self, Admission};
use crate::failure::{Failure, Outcome};
use crate::{address, advice, key_file, open_files, output, settings, signals};
use depot::DepotFlags;
use journal::{Journal, Lines};

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
/// Ctrl-C, and SIGTERM or Ctrl-Break, end it gracefully, within close_timeout_ms; a second one ends
/// it at once.
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
    depot: DepotFlags,
    /// Where to listen, IP:PORT; can be given several times. Port 0: the system chooses
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9990",
          value_parser = address::listening)]
    listen: Vec<SocketAddr>,
    /// How messages are cut out of the stream: native, lines, raw, delimiter:TEXT or
    /// length:offset=0,width=4,endian=big,adjust=0,strip=4
    #[arg(long, default_value = "native")]
    framing: Framing,
    #[command(flatten)]
    io: settings::IoFlags,
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

/// How long an address in use is tried again, and how often.
const ADDRESS_IN_USE: Duration = Duration::from_millis(500);
const ADDRESS_AGAIN: Duration = Duration::from_millis(20);

impl Serve {
    pub(crate) fn run(&self) -> Outcome {
        let options = self.options()?;
        if self.print_config {
            return output::write(&options.to_toml());
        }
        let admission = match (&self.key_file, self.open) {
            (Some(_), _) => Admission::Key,
            (None, true) => Admission::Open,
            (None, false) => Admission::Unsaid,
        };
        exposure::check(&self.listen, &self.framing, admission)?;
        open_files::raise_limit();
        let (journal, lines) = Journal::new();
        match self.depot.open(&self.framing, &journal)? {
            None => self.serve(&self.start(|| Echo, &options)?, None),
            Some(depot) => {
                let endpoint = self.start(|| depot.clone(), &options)?;
                let served = self.serve(&endpoint, Some(lines));
                journal.end();
                served
            }
        }
    }

    /// Starts. An address in use may be free in a moment: what a server on io_uring held, the
    /// system lets go of some time after it was killed (up to 23 ms on Linux 6.18), and whoever
    /// starts a server again does so at once.
    fn start<H>(&self, handler: impl Fn() -> H, options: &Options) -> Outcome<Endpoint>
    where
        H: Handler<State = ()>,
    {
        let key = self.key_file.as_deref().map(key_file::read).transpose()?;
        let until = Instant::now() + ADDRESS_IN_USE;
        loop {
            let mut builder = Endpoint::builder(handler()).options(options.clone());
            if let Some(key) = &key {
                builder = builder.key(key.clone());
            }
            for address in &self.listen {
                builder = builder.listen_with(address, self.framing.clone());
            }
            match builder.start() {
                Err(StartError::Listen { error, .. })
                    if error.kind() == ErrorKind::AddrInUse && Instant::now() < until =>
                {
                    thread::sleep(ADDRESS_AGAIN);
                }
                started => return Ok(started?),
            }
        }
    }

    /// Serves until the endpoint has ended.
    fn serve(&self, endpoint: &Endpoint, journal: Option<Lines>) -> Outcome {
        let ending = endpoint.clone();
        signals::on_interrupt(move || {
            ending.shutdown(Duration::from_millis(ending.options().close_timeout_ms));
        })?;
        if let Some(seconds) = self.stats {
            print_figures(endpoint.clone(), Duration::from_secs(seconds))?;
        }
        let announced = Announced {
            addresses: endpoint.addresses(),
            framing: &self.framing,
            keyed: self.key_file.is_some(),
            dir: self.depot.dir(),
            read_only: self.depot.is_read_only(),
        };
        output::write(&announced.line())?;
        journal.map_or(Ok(()), Lines::write)?;
        endpoint.wait().map_err(|error| Failure::runtime(error.to_string()))
    }

    fn options(&self) -> Outcome<Options> {
        let mut options = settings::read(self.config.as_deref())?;
        settings::set(&mut options, &self.set)?;
        self.io.apply(&mut options)?;
        for (name, value) in [
            ("io_workers", &self.io_workers),
            ("max_connections", &self.max_connections),
            ("max_frame", &self.max_frame),
        ] {
            settings::flag(&mut options, name, value.as_deref())?;
        }
        Ok(options)
    }
}

/// Prints figures until the process ends. On a thread of its own, because a terminal that does not
/// take them must not hold up an I/O worker.
fn print_figures(endpoint: Endpoint, period: Duration) -> Outcome {
    let print = move || {
        loop {
            thread::sleep(period);
            // With stderr closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{}", figures(&endpoint.stats()));
        }
    };
    let started = thread::Builder::new().name("figures".into()).spawn(print);
    started
        .map(drop)
        .map_err(|error| Failure::runtime(format!("cannot start printing figures: {error}")))
}

fn figures(stats: &Stats) -> String {
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

/// What the line says that tells where it listens and how to talk to it.
struct Announced<'a> {
    addresses: &'a [Address],
    framing: &'a Framing,
    keyed: bool,
    dir: Option<&'a Path>,
    read_only: bool,
}

impl Announced<'_> {
    fn line(&self) -> String {
        let listed: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let Some(first) = self.addresses.first() else { return String::new() };
        let (listed, first) = (listed.join(" and "), first.socket_addr());
        match self.dir {
            Some(dir) => self.files(dir, &listed, first),
            None => self.echo(&listed, reachable(first)),
        }
    }

    fn files(&self, dir: &Path, listed: &str, first: SocketAddr) -> String {
        let path = match cfg!(windows) {
            // The real one would be told as no program takes it: `\\?\C:\inbox`.
            true => path::absolute(dir),
            false => fs::canonicalize(dir),
        };
        // Where it is gone already, what was said has to do.
        let path = path.unwrap_or_else(|_| dir.to_owned());
        let path = Escaped(path.as_path());
        let (from, host) = match first.ip() {
            ip if ip.to_canonical().is_loopback() => ("this", first.to_string()),
            ip if ip.is_unspecified() => ("any", format!("HOST:{}", first.port())),
            _ => ("any", first.to_string()),
        };
        let key = if self.keyed { " --key-file FILE" } else { "" };
        match self.read_only {
            false => format!(
                "files into {path} on {listed}; from {from} machine: \
                 posthouse send {host}{key} PATH...\n"
            ),
            true => format!(
                "files from {path} on {listed}; from {from} machine: \
                 posthouse get {host}{key} NAME...\n"
            ),
        }
    }

    fn echo(&self, listed: &str, from_here: SocketAddr) -> String {
        let framing = self.framing;
        let how = match framing {
            Framing::Native if self.keyed => {
                format!("posthouse bench {from_here} --key-file FILE")
            }
            Framing::Native => format!("posthouse bench {from_here}"),
            // Windows has no such program.
            Framing::Lines | Framing::Raw if cfg!(not(windows)) => {
                format!("nc {} {}", from_here.ip(), from_here.port())
            }
            _ => {
                let framing = advice::quoted(framing);
                format!("posthouse bench {from_here} --framing {framing}")
            }
        };
        format!("listening on {listed} ({framing} framing); try: {how}\n")
    }
}

/// The address to talk to from this machine: a wildcard is none.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(addresses: &[&str], framing: &str, keyed: bool) -> String {
        let addresses: Vec<Address> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let framing = framing.parse().unwrap();
        let (addresses, framing) = (&*addresses, &framing);
        Announced { addresses, framing, keyed, dir: None, read_only: false }.line()
    }

    #[test]
    fn the_announcement_is_one_line_with_every_address_and_a_command_that_works() {
        assert_eq!(
            announced(&["127.0.0.1:9990", "[::1]:9990"], "native", false),
            "listening on 127.0.0.1:9990 and [::1]:9990 (native framing); \
             try: posthouse bench 127.0.0.1:9990\n"
        );
        let (in_lines, in_raw) = match cfg!(windows) {
            true => ("[::1]:7 --framing \"lines\"", "[::1]:7 --framing \"raw\""),
            false => ("nc ::1 7", "nc ::1 7"),
        };
        for (address, framing, keyed, command) in [
            ("0.0.0.0:7", "native", true, "posthouse bench 127.0.0.1:7 --key-file FILE"),
            ("[::]:7", "lines", false, in_lines),
            ("[::1]:7", "raw", false, in_raw),
            ("10.0.0.1:7", "delimiter:\\r\\n", false, &*advice::quoted("delimiter:\\r\\n")),
        ] {
            let line = announced(&[address], framing, keyed);
            assert!(line.ends_with(&format!("{command}\n")), "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
        }
    }

    #[test]
    fn the_announcement_of_a_directory_says_from_where_and_how_to_send_into_it() {
        for (address, keyed, read_only, how) in [
            ("0.0.0.0:7", false, false, "any machine: posthouse send HOST:7 PATH..."),
            ("[::]:7", true, false, "any machine: posthouse send HOST:7 --key-file FILE PATH..."),
            ("10.0.0.1:7", false, false, "any machine: posthouse send 10.0.0.1:7 PATH..."),
            ("[::1]:7", false, false, "this machine: posthouse send [::1]:7 PATH..."),
            ("127.0.0.1:7", false, true, "this machine: posthouse get 127.0.0.1:7 NAME..."),
        ] {
            let addresses: Vec<Address> = vec![address.parse().unwrap()];
            let dir = Path::new(if cfg!(windows) { "C:\\no\\such" } else { "/no/such" });
            let framing = &Framing::Native;
            let announced =
                Announced { addresses: &addresses, framing, keyed, dir: Some(dir), read_only };
            let line = announced.line();
            let dir = dir.display();
            let way = if read_only { "from" } else { "into" };
            assert_eq!(line, format!("files {way} {dir} on {address}; from {how}\n"));
        }
    }
}
