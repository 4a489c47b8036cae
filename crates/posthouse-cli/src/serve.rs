//! `posthouse serve`: an echo server.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use posthouse::{Address, Endpoint, Framing, Options, Stats};

use crate::echo::Echo;
use crate::exposure::{self, Admission};
use crate::failure::{Failure, Outcome};
use crate::{key_file, open_files, output, settings, signals};

/// Echo every message: a server to measure and to try clients on.
///
/// A message comes back with its kind and payload, a request is answered with its payload. One line
/// on stdout says where it listens and how to talk to it. SIGINT or SIGTERM ends it gracefully,
/// within close_timeout_ms; a second one ends it at once.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse serve
  posthouse serve --listen 127.0.0.1:7000 --framing lines
  posthouse serve --listen 0.0.0.0:9990 --key-file secret.key
  posthouse serve --print-config > posthouse.toml
  posthouse serve --config posthouse.toml --set tuning.backlog=128 --layout shared")]
pub(crate) struct Serve {
    /// Where to listen, IP:PORT; can be given several times. Port 0: the system chooses
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9990", value_parser = address)]
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

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write IP:PORT, such as 127.0.0.1:9990 or [::1]:9990".to_owned())
}

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
        let mut builder = Endpoint::builder(Echo).options(options);
        if let Some(path) = &self.key_file {
            builder = builder.key(key_file::read(path)?);
        }
        for address in &self.listen {
            builder = builder.listen_with(address, self.framing.clone());
        }
        open_files::raise_limit();
        self.serve(&builder.start()?)
    }

    /// Serves until the endpoint has ended.
    fn serve(&self, endpoint: &Endpoint) -> Outcome {
        let ending = endpoint.clone();
        signals::on_interrupt(move || {
            ending.shutdown(Duration::from_millis(ending.options().close_timeout_ms));
        })?;
        if let Some(seconds) = self.stats {
            print_figures(endpoint.clone(), Duration::from_secs(seconds))?;
        }
        let keyed = self.key_file.is_some();
        output::write(&announcement(endpoint.addresses(), &self.framing, keyed))?;
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
         {} operations under way, {} sockets, {} buffers in use",
        stats.connections,
        stats.accepted,
        stats.refused,
        stats.disconnected,
        stats.peer_faults,
        stats.operations_submitted.saturating_sub(stats.operations_completed),
        stats.sockets,
        stats.buffers_used,
    )
}

/// The one line that says where it listens and how to talk to it.
fn announcement(addresses: &[Address], framing: &Framing, keyed: bool) -> String {
    let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let Some(first) = addresses.first() else { return String::new() };
    let from_here = reachable(first.socket_addr());
    let how = match framing {
        Framing::Native if keyed => format!("posthouse bench {from_here} --key-file FILE"),
        Framing::Native => format!("posthouse bench {from_here}"),
        Framing::Lines | Framing::Raw => format!("nc {} {}", from_here.ip(), from_here.port()),
        _ => format!("posthouse bench {from_here} --framing '{framing}'"),
    };
    format!("listening on {} ({framing} framing); try: {how}\n", listed.join(" and "))
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
        announcement(&addresses, &framing.parse().unwrap(), keyed)
    }

    #[test]
    fn the_announcement_is_one_line_with_every_address_and_a_command_that_works() {
        assert_eq!(
            announced(&["127.0.0.1:9990", "[::1]:9990"], "native", false),
            "listening on 127.0.0.1:9990 and [::1]:9990 (native framing); \
             try: posthouse bench 127.0.0.1:9990\n"
        );
        for (address, framing, keyed, command) in [
            ("0.0.0.0:7", "native", true, "posthouse bench 127.0.0.1:7 --key-file FILE"),
            ("[::]:7", "lines", false, "nc ::1 7"),
            ("[::1]:7", "raw", false, "nc ::1 7"),
            ("10.0.0.1:7", "delimiter:\\r\\n", false, "--framing 'delimiter:\\r\\n'"),
        ] {
            let line = announced(&[address], framing, keyed);
            assert!(line.ends_with(&format!("{command}\n")), "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
        }
    }
}
