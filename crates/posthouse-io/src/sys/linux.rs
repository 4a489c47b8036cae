//! The system calls on sockets, and the meaning of errors, written once for all backends.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType,
    ipproto, sockopt,
};

use crate::address::Address;
use crate::error::{Error, Failure};
use crate::gather::Gather;
use crate::options::ListenOptions;

/// The maximum number of segments in one call, so that their array (1 KiB) fits the stack. The
/// system takes 1,024; a longer gather leaves in several calls.
const MAX_SEGMENTS: usize = 64;

/// The flags for readiness: a call that would wait fails with `EAGAIN`.
pub(crate) const NON_BLOCKING: SocketFlags = SocketFlags::NONBLOCK;
/// The flags for a ring, which would return `EAGAIN` from a non-blocking socket instead of waiting.
pub(crate) const BLOCKING: SocketFlags = SocketFlags::empty();

/// Returns the maximum number of descriptors of this process.
#[expect(clippy::unnecessary_wraps, reason = "the common signature: Windows has no limit")]
pub(crate) fn max_descriptors() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Some(limit.current.unwrap_or(u64::MAX))
}

/// Returns a bound and listening socket, and its address.
pub(crate) fn listen(
    address: Address,
    options: ListenOptions,
    blocking: SocketFlags,
) -> Result<(OwnedFd, Address), Errno> {
    let address = address.socket_addr();
    let fd = stream_socket(&address, blocking)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        // Otherwise `net.ipv6.bindv6only` would decide whether the listener accepts IPv4 peers.
        sockopt::set_ipv6_v6only(&fd, !options.dual_stack)?;
    }
    // Accepted sockets inherit these options, so they are set once and not for each peer.
    sockopt::set_tcp_nodelay(&fd, options.no_delay)?;
    keep_alive(&fd)?;
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    let local = local_address(&fd).ok_or(Errno::AFNOSUPPORT)?;
    Ok((fd, local))
}

/// Enables keep-alive probes, so that a peer that vanishes while nothing is sent to it is noticed
/// after 25 s in every protocol: probes start after 10 s of silence, three in number, 5 s apart.
/// (While something is sent, the system sends no probes, and the framework's own bound on stalled
/// output applies.)
fn keep_alive(fd: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, Duration::from_secs(10))?;
    sockopt::set_tcp_keepintvl(fd, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(fd, 3)
}

/// The immediate result of a connect.
pub(crate) enum Connecting {
    Done,
    InProgress,
}

/// Creates a socket and starts to connect it to `address`.
pub(crate) fn connect(address: Address) -> Result<(OwnedFd, Connecting), Errno> {
    let address = address.socket_addr();
    let fd = connecting_socket(&address, NON_BLOCKING)?;
    match rustix::net::connect(&fd, &address) {
        Ok(()) => Ok((fd, Connecting::Done)),
        // An interrupted connect continues by itself (connect(2)).
        Err(Errno::INPROGRESS | Errno::INTR) => Ok((fd, Connecting::InProgress)),
        Err(errno) => Err(errno),
    }
}

/// Returns a socket that can connect to `address`.
pub(crate) fn connecting_socket(
    address: &SocketAddr,
    blocking: SocketFlags,
) -> Result<OwnedFd, Errno> {
    let fd = stream_socket(address, blocking)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    keep_alive(&fd)?;
    Ok(fd)
}

/// Returns the result of a connect once the socket is writable.
pub(crate) fn connected(fd: &OwnedFd) -> Result<(), Errno> {
    sockopt::socket_error(fd)?
}

/// Accepts one peer from the accept queue.
pub(crate) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, Address), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    // A peer without an address disconnected while it was being accepted.
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::CONNABORTED)?;
    Ok((fd, peer.into()))
}

/// Returns whether an error of accept concerns only the peer at the head of the queue, and not the
/// listener. accept(2) asks callers to treat errors that are pending on the new socket in this way,
/// and lists them; EPERM comes from a firewall.
pub(crate) fn is_per_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
            | Errno::PERM
    )
}

/// Receives into `storage`. Returns the number of bytes, which is zero at the end of the stream.
pub(crate) fn receive(fd: &OwnedFd, storage: &mut [u8]) -> Result<usize, Errno> {
    retry_on_intr(|| Ok(rustix::net::recv(fd, &mut *storage, RecvFlags::empty())?.0))
}

/// Sends from the beginning of `gather`. Returns the number of bytes that left.
pub(crate) fn send(fd: &OwnedFd, gather: &Gather) -> Result<usize, Errno> {
    let mut segments = gather.slices();
    let first = segments.next().unwrap_or_default();
    // More data follows soon: one packet may contain the beginning of it, too.
    let more = if gather.file_follows() { SendFlags::MORE } else { SendFlags::empty() };
    let flags = SendFlags::NOSIGNAL | more;
    let Some(second) = segments.next() else {
        // Most sends have one segment, which needs no array.
        return retry_on_intr(|| rustix::net::send(fd, first, flags));
    };
    let mut slices = [IoSlice::new(&[]); MAX_SEGMENTS];
    slices[0] = IoSlice::new(first);
    slices[1] = IoSlice::new(second);
    let mut used = 2;
    for (slot, segment) in slices[2..].iter_mut().zip(segments) {
        *slot = IoSlice::new(segment);
        used += 1;
    }
    let mut no_control = SendAncillaryBuffer::default();
    retry_on_intr(|| rustix::net::sendmsg(fd, &slices[..used], &mut no_control, flags))
}

/// Ends the sending side.
pub(crate) fn shutdown_write(fd: &OwnedFd) {
    // It fails only if the connection is gone already, and then there is nothing to end.
    let _ = rustix::net::shutdown(fd, Shutdown::Write);
}

/// Resets the connection and discards unsent bytes.
pub(crate) fn reset(fd: &OwnedFd) {
    if rustix::net::connect_unspec(fd).is_err() {
        reset_at_close(fd);
    }
}

/// Makes closing the socket reset the connection and discard unsent bytes.
pub(crate) fn reset_at_close(fd: &OwnedFd) {
    // It fails only if the connection is gone already.
    let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
}

/// Returns the peer's address, or `None` if the peer has disconnected.
pub(crate) fn peer_address(fd: &OwnedFd) -> Option<Address> {
    let address = rustix::net::getpeername(fd).ok()??;
    SocketAddr::try_from(address).ok().map(Address::from)
}

/// Returns the local address.
pub(crate) fn local_address(fd: &OwnedFd) -> Option<Address> {
    let address = rustix::net::getsockname(fd).ok()?;
    SocketAddr::try_from(address).ok().map(Address::from)
}

/// Returns a random number from the system.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = retry_on_intr(|| {
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
    });
    // getrandom(2): up to 256 bytes are always returned in full.
    assert_eq!(filled, Ok(bytes.len()), "the system gives random bytes");
    u64::from_ne_bytes(bytes)
}

/// Returns the meaning of an error, if it has a system number.
pub(crate) fn explained(failed: &std::io::Error) -> String {
    Errno::from_io_error(failed).map_or_else(|| failed.to_string(), |it| error(it).to_string())
}

/// Returns the meaning of an error number.
pub(crate) fn error(errno: Errno) -> Error {
    let failure = match errno {
        Errno::CONNRESET => Failure::Reset,
        Errno::CONNABORTED => Failure::Aborted,
        Errno::CONNREFUSED => Failure::Refused,
        Errno::NETUNREACH
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::HOSTDOWN
        | Errno::NONET => Failure::Unreachable,
        Errno::TIMEDOUT => Failure::TimedOut,
        Errno::NOTCONN | Errno::PIPE | Errno::DESTADDRREQ => Failure::NotConnected,
        Errno::MFILE | Errno::NFILE => Failure::NoDescriptors,
        Errno::NOBUFS | Errno::NOMEM => Failure::NoBuffers,
        Errno::ADDRINUSE => Failure::AddressInUse,
        Errno::ADDRNOTAVAIL => Failure::AddressNotAvailable,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Failure::Denied,
        // NOTDIR: a file is in the place of a directory.
        Errno::NOENT | Errno::NOTDIR => Failure::NotFound,
        Errno::EXIST => Failure::Exists,
        // LOOP: a link that is not followed. XDEV: a path that leaves the directory.
        Errno::LOOP | Errno::XDEV | Errno::ISDIR => Failure::NotAFile,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Failure::NoSpace,
        Errno::IO => Failure::Disk,
        Errno::AFNOSUPPORT
        | Errno::PROTONOSUPPORT
        | Errno::NOPROTOOPT
        | Errno::OPNOTSUPP
        | Errno::NOSYS => Failure::Unsupported,
        _ => Failure::Other,
    };
    Error { failure, code: errno.raw_os_error() }
}

/// Returns the error of an operation on a socket that has no connection.
pub(crate) fn not_connected() -> Error {
    error(Errno::NOTCONN)
}

/// Returns the meaning of an error of a connection. `half_closed` is true if this side has ended
/// its stream. A broken pipe without that is the peer's reset, which came after the peer's end.
pub(crate) fn of_connection(error: Error, half_closed: bool) -> Error {
    if error.code == Errno::PIPE.raw_os_error() && !half_closed {
        Error { failure: Failure::Reset, ..error }
    } else {
        error
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        error(errno)
    }
}

/// Blocks the signals that the system sends to a thread in addition to an error, and that would end
/// the whole process. Then this thread's writes beyond the limit of this process on the length of
/// files (`ulimit -f`) only fail with `EFBIG`, and its sends from a file to a disconnected peer
/// only fail with `EPIPE`.
pub(crate) fn block_signals() {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the first call initialises the set and the others only read it; only this thread's
    // own mask changes. The signals exist and the set is valid, so no call fails.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGXFSZ);
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut());
    }
}

/// Returns whether a send would find room, or an error.
pub(crate) fn has_room(fd: &OwnedFd) -> bool {
    let mut looked_at = [PollFd::new(fd, PollFlags::OUT)];
    retry_on_intr(|| poll(&mut looked_at, Some(&Timespec::default()))).is_ok_and(|ready| ready > 0)
}

/// Takes the error that waits on a socket, if there is one.
pub(crate) fn take_error(fd: &OwnedFd) -> Option<Errno> {
    sockopt::socket_error(fd).ok()?.err()
}

/// Returns whether both directions of a connection have ended, by a failure or otherwise.
pub(crate) fn has_hung_up(fd: &OwnedFd) -> bool {
    let mut looked_at = [PollFd::new(fd, PollFlags::empty())];
    let polled = retry_on_intr(|| poll(&mut looked_at, Some(&Timespec::default())));
    polled.is_ok() && looked_at[0].revents().contains(PollFlags::HUP)
}

fn stream_socket(address: &SocketAddr, blocking: SocketFlags) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = blocking | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a non-blocking listener of this machine.
    pub(crate) fn listener(options: ListenOptions) -> (OwnedFd, Address) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        listen(any.into(), options, NON_BLOCKING).expect("a listener")
    }

    /// Returns a connection to a listener.
    pub(crate) fn connection(to: Address) -> OwnedFd {
        connect(to).expect("a connection").0
    }

    /// Returns the next peer of a listener.
    pub(crate) fn peer(listener: &OwnedFd) -> OwnedFd {
        loop {
            match accept(listener) {
                Ok((peer, _)) => return peer,
                Err(errno) => assert_eq!(errno, Errno::AGAIN),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_accepted_socket_inherits_what_was_set_on_its_listener() {
        for no_delay in [true, false] {
            let (listener, address) =
                listener(ListenOptions { no_delay, ..ListenOptions::default() });
            let near = connection(address);
            let far = peer(&listener);
            assert_eq!(sockopt::tcp_nodelay(&far), Ok(no_delay));
            assert_eq!(sockopt::tcp_nodelay(&near), Ok(true));
            assert_eq!(receive(&far, &mut [0]), Err(Errno::AGAIN), "it does not block");
        }
    }

    #[test]
    fn an_ipv6_listener_leaves_ipv4_to_others() {
        let any = SocketAddr::from(([0; 16], 0)).into();
        let Ok((_listener, address)) = listen(any, ListenOptions::default(), NON_BLOCKING) else {
            return; // IPv6 is switched off on this machine.
        };
        let same_port = SocketAddr::from(([0, 0, 0, 0], address.port()));
        assert!(listen(same_port.into(), ListenOptions::default(), NON_BLOCKING).is_ok());
    }

    #[test]
    fn both_ends_of_a_connection_notice_a_vanished_peer_within_half_a_minute() {
        let (listener, address) = listener(ListenOptions::default());
        for end in [connection(address), peer(&listener)] {
            assert_eq!(sockopt::socket_keepalive(&end), Ok(true));
            let probes = sockopt::tcp_keepcnt(&end);
            let times = (sockopt::tcp_keepidle(&end), sockopt::tcp_keepintvl(&end));
            let (Ok(probes), (Ok(idle), Ok(interval))) = (probes, times) else {
                panic!("three numbers, not {probes:?} and {times:?}")
            };
            assert!(idle + interval * probes < Duration::from_secs(30));
        }
    }
}
