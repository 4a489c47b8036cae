//! The start of every echo server: an address as its first argument, a listening socket with the
//! same options for all, and one line with the bound address.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};

use rustix::net::{self as sys, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Signal, set_parent_process_death_signal};

/// The number of connections that the system queues before they are accepted.
pub const BACKLOG: i32 = 4096;

/// Returns the address in the first argument, or any port of the loopback address.
pub fn address() -> SocketAddr {
    let word = std::env::args().nth(1).filter(|word| !word.starts_with('-'));
    let word = word.unwrap_or_else(|| "127.0.0.1:0".into());
    word.parse().unwrap_or_else(|_| panic!("`{word}` is not HOST:PORT"))
}

/// Returns whether the option `name` is among the arguments.
pub fn flag(name: &str) -> bool {
    std::env::args().any(|word| word == name)
}

/// Returns the value of the option `name VALUE` among the arguments.
pub fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}

/// Listens at [`address`] and announces it. Accepted sockets inherit `TCP_NODELAY` from the
/// listener.
pub fn listen() -> io::Result<TcpListener> {
    tether()?;
    let flags = SocketFlags::CLOEXEC;
    let socket = sys::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sys::bind(&socket, &address())?;
    sys::listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    announce(listener.local_addr()?)?;
    Ok(listener)
}

/// Makes the system end this server together with the process that measures it.
pub fn tether() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Prints the line that the measuring process waits for.
pub fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening {address}")?;
    out.flush()
}
