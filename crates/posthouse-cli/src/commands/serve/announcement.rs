//! The line with which a server announces its addresses and how to use them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{self, Path};

use posthouse::{Address, Framing};

use crate::bind_policy::Access;
use crate::term::hints;
use posthouse::Escaped;

pub(super) struct Announcement<'a> {
    pub(super) addresses: Vec<Address>,
    /// The framing on each address.
    pub(super) framings: Vec<&'a Framing>,
    pub(super) access: Access,
    pub(super) service: Service<'a>,
}

/// The service that a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service<'a> {
    Echo,
    /// Peers can send files into this directory, and may be allowed to get files from it.
    Uploads(&'a Path),
    /// Peers can only get files from this directory.
    DownloadsOnly(&'a Path),
}

impl Announcement<'_> {
    pub(super) fn line(&self) -> String {
        let Some(first) = self.addresses.first() else { return String::new() };
        let first = first.socket_addr();
        match self.service {
            Service::Echo => self.echo(reachable(first)),
            Service::Uploads(dir) => {
                let dir = absolute(dir);
                let listed = self.listed();
                let machine = client_machine(first);
                let server = self.client_arguments(first);
                format!(
                    "serving {dir} on {listed}; to send files from {machine} machine: \
                     posthouse send {server} PATH...\n"
                )
            }
            Service::DownloadsOnly(dir) => {
                let dir = absolute(dir);
                let listed = self.listed();
                let machine = client_machine(first);
                let server = self.client_arguments(first);
                format!(
                    "serving {dir} read-only on {listed}; to get files from {machine} machine: \
                     posthouse get {server} NAME...\n"
                )
            }
        }
    }

    fn listed(&self) -> String {
        let listed: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        listed.join(" and ")
    }

    /// Returns the addresses with their framings. A framing that all addresses share is named once.
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

    /// Returns the arguments with which a client reaches the server.
    fn client_arguments(&self, first: SocketAddr) -> String {
        let address = if first.ip().is_unspecified() {
            format!("HOST:{}", first.port())
        } else {
            first.to_string()
        };
        match self.access {
            Access::Key => format!("{address} --key-file FILE"),
            Access::Open | Access::LoopbackOnly => address,
        }
    }

    fn echo(&self, from_here: SocketAddr) -> String {
        let how = match self.framings[0] {
            Framing::Native if self.access == Access::Key => {
                format!("posthouse bench {from_here} --key-file FILE")
            }
            Framing::Native => format!("posthouse bench {from_here}"),
            // Windows does not have `nc`.
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

/// Returns which machines can be clients: this one, or any.
fn client_machine(listening: SocketAddr) -> &'static str {
    if listening.ip().to_canonical().is_loopback() { "this" } else { "any" }
}

/// Returns the absolute path of a directory, safe on a terminal.
fn absolute(dir: &Path) -> String {
    let path = if cfg!(windows) {
        // The canonical path has a form that few programs accept: `\\?\C:\inbox`.
        path::absolute(dir)
    } else {
        fs::canonicalize(dir)
    };
    // If the directory does not exist any more, the path from the command line is shown.
    let path = path.unwrap_or_else(|_| dir.to_owned());
    Escaped(path.as_path()).to_string()
}

/// Returns the address to connect to from this machine: a wildcard becomes a loopback address.
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

    fn announced(listeners: &[(&str, &str)], access: Access) -> String {
        let addresses = listeners.iter().map(|(address, _)| address.parse().unwrap()).collect();
        let framings: Vec<Framing> =
            listeners.iter().map(|(_, framing)| framing.parse().unwrap()).collect();
        let framings = framings.iter().collect();
        Announcement { addresses, framings, access, service: Service::Echo }.line()
    }

    #[test]
    fn the_announcement_is_one_line_with_every_address_and_a_command_that_works() {
        let open = Access::Open;
        assert_eq!(
            announced(&[("127.0.0.1:9990", "native"), ("[::1]:9990", "native")], open),
            "listening on 127.0.0.1:9990 and [::1]:9990 (native framing); \
             try: posthouse bench 127.0.0.1:9990\n"
        );
        assert_eq!(
            announced(&[("127.0.0.1:9990", "native"), ("[::1]:9991", "lines")], open),
            "listening on 127.0.0.1:9990 (native framing) and [::1]:9991 (lines framing); \
             try: posthouse bench 127.0.0.1:9990\n"
        );
        let [in_lines, in_raw] = if cfg!(windows) {
            ["[::1]:7 --framing \"lines\"", "[::1]:7 --framing \"raw\""]
        } else {
            ["nc ::1 7", "nc ::1 7"]
        };
        for (address, framing, access, command) in [
            ("0.0.0.0:7", "native", Access::Key, "posthouse bench 127.0.0.1:7 --key-file FILE"),
            ("[::]:7", "lines", open, in_lines),
            ("[::1]:7", "raw", open, in_raw),
            ("10.0.0.1:7", "delimiter:\\r\\n", open, &*hints::quoted("delimiter:\\r\\n")),
        ] {
            let line = announced(&[(address, framing)], access);
            assert!(line.ends_with(&format!("{command}\n")), "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
        }
    }

    #[test]
    fn the_announcement_of_a_directory_says_from_where_and_how_to_send_into_it() {
        let dir = Path::new(if cfg!(windows) { "C:\\no\\such" } else { "/no/such" });
        let uploads = Service::Uploads(dir);
        let downloads = Service::DownloadsOnly(dir);
        let key = Access::Key;
        let open = Access::Open;
        for (address, access, service, how) in [
            ("0.0.0.0:7", open, uploads, "any machine: posthouse send HOST:7 PATH..."),
            ("[::]:7", key, uploads, "any machine: posthouse send HOST:7 --key-file FILE PATH..."),
            ("10.0.0.1:7", open, uploads, "any machine: posthouse send 10.0.0.1:7 PATH..."),
            ("[::1]:7", open, uploads, "this machine: posthouse send [::1]:7 PATH..."),
            ("127.0.0.1:7", open, downloads, "this machine: posthouse get 127.0.0.1:7 NAME..."),
        ] {
            let addresses: Vec<Address> = vec![address.parse().unwrap()];
            let framings = vec![&Framing::Native];
            let line = Announcement { addresses, framings, access, service }.line();
            let dir = dir.display();
            let (how_served, verb) =
                if service == downloads { (" read-only", "get") } else { ("", "send") };
            let expected =
                format!("serving {dir}{how_served} on {address}; to {verb} files from {how}\n");
            assert_eq!(line, expected);
        }
    }
}
