//! The one line with which a server announces its addresses and how to use them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{self, Path};

use posthouse::{Address, Framing};

use crate::term::hints;
use posthouse::Escaped;

pub(super) struct Announcement<'a> {
    pub(super) addresses: Vec<Address>,
    /// The framing on each address.
    pub(super) framings: Vec<&'a Framing>,
    pub(super) keyed: bool,
    pub(super) dir: Option<&'a Path>,
    pub(super) read_only: bool,
}

impl Announcement<'_> {
    pub(super) fn line(&self) -> String {
        let Some(first) = self.addresses.first() else { return String::new() };
        let first = first.socket_addr();
        match self.dir {
            Some(dir) => self.files(dir, first),
            None => self.echo(reachable(first)),
        }
    }

    fn listed(&self) -> String {
        let listed: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        listed.join(" and ")
    }

    /// The addresses with their framings; a framing that all of them have is named once.
    fn listed_with_framings(&self) -> String {
        if let [framing, rest @ ..] = &self.framings[..]
            && rest.iter().all(|other| other == framing)
        {
            return format!("{} ({framing} framing)", self.listed());
        }
        let listeners = self.addresses.iter().zip(&self.framings);
        let listed: Vec<String> =
            listeners.map(|(address, framing)| format!("{address} ({framing} framing)")).collect();
        listed.join(" and ")
    }

    fn files(&self, dir: &Path, first: SocketAddr) -> String {
        let listed = self.listed();
        let path = match cfg!(windows) {
            // The canonical path has a form that few programs accept: `\\?\C:\inbox`.
            true => path::absolute(dir),
            false => fs::canonicalize(dir),
        };
        // If the directory is gone already the path from the command line has to do.
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

    fn echo(&self, from_here: SocketAddr) -> String {
        let how = match self.framings[0] {
            Framing::Native if self.keyed => {
                format!("posthouse bench {from_here} --key-file FILE")
            }
            Framing::Native => format!("posthouse bench {from_here}"),
            // Windows has no such program.
            Framing::Lines | Framing::Raw if cfg!(not(windows)) => {
                format!("nc {} {}", from_here.ip(), from_here.port())
            }
            framing => {
                let framing = hints::quoted(framing);
                format!("posthouse bench {from_here} --framing {framing}")
            }
        };
        format!("listening on {}; try: {how}\n", self.listed_with_framings())
    }
}

/// The address to connect to from this machine, with a loopback address for a wildcard.
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

    fn announced(listeners: &[(&str, &str)], keyed: bool) -> String {
        let addresses = listeners.iter().map(|(address, _)| address.parse().unwrap()).collect();
        let framings: Vec<Framing> =
            listeners.iter().map(|(_, framing)| framing.parse().unwrap()).collect();
        let framings = framings.iter().collect();
        Announcement { addresses, framings, keyed, dir: None, read_only: false }.line()
    }

    #[test]
    fn the_announcement_is_one_line_with_every_address_and_a_command_that_works() {
        assert_eq!(
            announced(&[("127.0.0.1:9990", "native"), ("[::1]:9990", "native")], false),
            "listening on 127.0.0.1:9990 and [::1]:9990 (native framing); \
             try: posthouse bench 127.0.0.1:9990\n"
        );
        assert_eq!(
            announced(&[("127.0.0.1:9990", "native"), ("[::1]:9991", "lines")], false),
            "listening on 127.0.0.1:9990 (native framing) and [::1]:9991 (lines framing); \
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
            ("10.0.0.1:7", "delimiter:\\r\\n", false, &*hints::quoted("delimiter:\\r\\n")),
        ] {
            let line = announced(&[(address, framing)], keyed);
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
            let framings = vec![&Framing::Native];
            let announced = Announcement { addresses, framings, keyed, dir: Some(dir), read_only };
            let line = announced.line();
            let dir = dir.display();
            let way = if read_only { "from" } else { "into" };
            assert_eq!(line, format!("files {way} {dir} on {address}; from {how}\n"));
        }
    }
}
