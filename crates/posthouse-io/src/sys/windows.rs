//! The calls on the sockets of Windows that need no completion, and the meaning of its errors.

mod console;
mod error;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::windows::io::{AsRawSocket, FromRawSocket, OwnedSocket, RawSocket};
use std::ptr;

use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::Foundation::{ERROR_OLD_WIN_VERSION, GetLastError};
use windows_sys::Win32::Networking::WinSock as net;
use windows_sys::Win32::Networking::WinSock::{SOCKADDR, SOCKET};
use windows_sys::Win32::Security::Cryptography::{
    BCRYPT_USE_SYSTEM_PREFERRED_RNG, BCryptGenRandom,
};

pub(crate) use self::console::{ConsoleEvent, on_console_event};
pub(crate) use self::error::{error, last_error, of_status};
use windows_sys::Win32::System::SystemInformation::{
    OSVERSIONINFOEXW, OSVERSIONINFOW, VER_PRODUCT_TYPE, VerSetConditionMask, VerifyVersionInfoW,
};
use windows_sys::Win32::System::SystemServices::{VER_EQUAL, VER_NT_WORKSTATION};

use crate::address::Address;
use crate::error::{Error, Failure};
use crate::options::ListenOptions;
use crate::sync::OnceLock;

/// The build of Windows 10 1709.
const BUILD_OF_1709: u32 = 16_299;
/// The times after which a vanished peer is noticed while nothing is sent to it, 25 s in total: the
/// first probe follows 10 s of silence, and the system sends ten.
const KEEP_ALIVE_AFTER_MS: u32 = 10_000;
const KEEP_ALIVE_INTERVAL_MS: u32 = 1_500;
const _: () = assert!(KEEP_ALIVE_AFTER_MS + 10 * KEEP_ALIVE_INTERVAL_MS <= 25_000);

/// Returns the socket in the form that the calls take.
pub(crate) fn raw(socket: &OwnedSocket) -> SOCKET {
    socket.as_raw_socket() as SOCKET
}

/// An address in the form that the calls take.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct RawAddress {
    bytes: [u8; Self::BYTES],
    len: i32,
}

impl RawAddress {
    /// The size of the longest address in use, with room to spare.
    const BYTES: usize = 64;

    pub(crate) fn of(address: SocketAddr) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, len) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (net::AF_INET, 16)
            }
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (net::AF_INET6, 28)
            }
        };
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        Self { bytes, len }
    }

    pub(crate) fn start(&self) -> *const SOCKADDR {
        self.bytes.as_ptr().cast()
    }

    pub(crate) fn len(&self) -> i32 {
        self.len
    }

    /// Returns `N` bytes from a position on.
    fn at<const N: usize>(&self, position: usize) -> [u8; N] {
        std::array::from_fn(|i| self.bytes[position + i])
    }

    fn parse(&self) -> Option<Address> {
        let port = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        let address = match u16::from_ne_bytes([self.bytes[0], self.bytes[1]]) {
            net::AF_INET => SocketAddr::from((self.at::<4>(4), port)),
            net::AF_INET6 => {
                let ip = self.at::<16>(8);
                let flow = u32::from_be_bytes(self.at(4));
                let scope = u32::from_ne_bytes(self.at(24));
                std::net::SocketAddrV6::new(ip.into(), port, flow, scope).into()
            }
            _ => return None,
        };
        Some(address.into())
    }
}

/// Initialises Winsock for this process, until the process ends.
fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let mut about = net::WSADATA::default();
        // SAFETY: the call writes to the value that it gets, and to no other memory of this
        // process.
        let result = unsafe { net::WSAStartup(0x0202, &raw mut about) };
        assert_eq!(result, 0, "Winsock 2.2 is part of every Windows");
    });
}

/// Returns the error of an operation on a socket that has no connection.
pub(crate) fn not_connected() -> Error {
    Error::new(Failure::NotConnected)
}

/// Returns the meaning of an error of a connection in terms that are the same on every system:
/// every form of the peer's reset is a reset. `half_closed` is true if this side has ended its
/// stream.
pub(crate) fn of_connection(error: Error, half_closed: bool) -> Error {
    let ours = half_closed && error.code == net::WSAESHUTDOWN;
    let failure = match error.failure {
        Failure::Aborted | Failure::Cancelled => Failure::Reset,
        Failure::NotConnected if !ours => Failure::Reset,
        failure => failure,
    };
    Error { failure, ..error }
}

/// Returns a socket for overlapped operations.
pub(crate) fn stream_socket(of: IpAddr) -> Result<OwnedSocket, Error> {
    start();
    let family = if of.is_ipv6() { net::AF_INET6 } else { net::AF_INET };
    let flags = net::WSA_FLAG_OVERLAPPED | net::WSA_FLAG_NO_HANDLE_INHERIT;
    let kind = (net::SOCK_STREAM, net::IPPROTO_TCP);
    // SAFETY: the call names no memory.
    let socket =
        unsafe { net::WSASocketW(i32::from(family), kind.0, kind.1, ptr::null(), 0, flags) };
    if socket == net::INVALID_SOCKET {
        return Err(last_error());
    }
    // SAFETY: the system has just made the socket, and nobody else has it.
    Ok(unsafe { OwnedSocket::from_raw_socket(socket as RawSocket) })
}

/// Returns a bound and listening socket, and its address.
pub(crate) fn listen(
    address: Address,
    options: ListenOptions,
) -> io::Result<(OwnedSocket, Address)> {
    let address = address.socket_addr();
    let socket = stream_socket(address.ip())?;
    // Otherwise another process could bind the same address and take peers away. The option does
    // not prevent binding the address again while closed connections still wait.
    set(&socket, (net::SOL_SOCKET, net::SO_EXCLUSIVEADDRUSE), &1i32)?;
    if address.is_ipv6() {
        let only = i32::from(!options.dual_stack);
        set(&socket, (net::IPPROTO_IPV6, net::IPV6_V6ONLY), &only)?;
    }
    // Read later, for accepted sockets.
    set(&socket, (net::IPPROTO_TCP, net::TCP_NODELAY), &i32::from(options.no_delay))?;
    bind(&socket, address)?;
    // A backlog over 200 counts only in this form (`SOMAXCONN_HINT`).
    let backlog = match options.backlog.min(65_535).cast_signed() {
        small @ ..=200 => small,
        large => -large,
    };
    // SAFETY: the call names no memory.
    check(unsafe { net::listen(raw(&socket), backlog) })?;
    let local = local_address(&socket).ok_or_else(last_error)?;
    Ok((socket, local))
}

/// Binds a socket to any address, which the system requires before a connect.
pub(crate) fn bind_anywhere(socket: &OwnedSocket, of: IpAddr) -> Result<(), Error> {
    let any: IpAddr = match of {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Lets connections to different addresses share a port; older systems do not have it.
    let _ = set(socket, (net::SOL_SOCKET, net::SO_REUSE_UNICASTPORT), &1i32);
    bind(socket, SocketAddr::new(any, 0))
}

fn bind(socket: &OwnedSocket, address: SocketAddr) -> Result<(), Error> {
    let address = RawAddress::of(address);
    // SAFETY: the call reads the address, which lives longer.
    check(unsafe { net::bind(raw(socket), address.start(), address.len()) })
}

/// Sets the options of every connected socket: direct calls on it do not wait, small sends leave at
/// once, and a vanished peer is noticed.
pub(crate) fn prepare(socket: &OwnedSocket, no_delay: bool) -> Result<(), Error> {
    let mut on = 1u32;
    // SAFETY: the call reads the value, which lives longer.
    check(unsafe { net::ioctlsocket(raw(socket), net::FIONBIO, &raw mut on) })?;
    set(socket, (net::IPPROTO_TCP, net::TCP_NODELAY), &i32::from(no_delay))?;
    let keep_alive = net::tcp_keepalive {
        onoff: 1,
        keepalivetime: KEEP_ALIVE_AFTER_MS,
        keepaliveinterval: KEEP_ALIVE_INTERVAL_MS,
    };
    control(socket, net::SIO_KEEPALIVE_VALS, &keep_alive, &mut [])
}

/// Makes a connect to this machine fail at the first refusal. By default Windows repeats a SYN that
/// was answered by a reset, twice, so the refusal of a port without a listener takes two seconds.
/// (A listener whose queue is full answers in the same way, so it also counts as refused, at once.)
pub(crate) fn ask_once(socket: &OwnedSocket) {
    // Before 1709 the value would be a number of retransmissions.
    if build() < BUILD_OF_1709 {
        return;
    }
    let initial = net::TCP_INITIAL_RTO_PARAMETERS {
        // TCP_INITIAL_RTO_UNSPECIFIED_RTT: the time stays unchanged.
        Rtt: u16::MAX,
        // `((UCHAR) -2)` in mstcpip.h; the constant of windows-sys has 16 bits.
        MaxSynRetransmissions: (net::TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS & 0xff) as u8,
    };
    // If the system does not support it, as under Wine, the refusal takes longer.
    let _ = control(socket, net::SIO_TCP_INITIAL_RTO, &initial, &mut []);
}

/// Updates a new socket that was accepted by `listener`: before that it has no address and cannot
/// be shut down.
pub(crate) fn now_accepted(socket: &OwnedSocket, listener: SOCKET) -> Result<(), Error> {
    set(socket, (net::SOL_SOCKET, net::SO_UPDATE_ACCEPT_CONTEXT), &listener)
}

/// Updates a socket after a connect.
pub(crate) fn now_connected(socket: &OwnedSocket) -> Result<(), Error> {
    set_bytes(socket, (net::SOL_SOCKET, net::SO_UPDATE_CONNECT_CONTEXT), &[])
}

/// Receives the available bytes into `storage`. Returns `None` if there are none, and zero bytes at
/// the end of the stream.
pub(crate) fn receive(socket: &OwnedSocket, storage: &mut [u8]) -> Result<Option<usize>, Error> {
    let len = i32::try_from(storage.len()).unwrap_or(i32::MAX);
    // SAFETY: the call writes at most `len` bytes to the storage, which this function borrows
    // exclusively.
    let received = unsafe { net::recv(raw(socket), storage.as_mut_ptr(), len, 0) };
    match usize::try_from(received) {
        Ok(received) => Ok(Some(received)),
        Err(_) => match last_error() {
            error if error.code == net::WSAEWOULDBLOCK => Ok(None),
            error => Err(error),
        },
    }
}

/// Looks at the first byte that can be received, and leaves it there. Returns the number of bytes
/// seen: `None` if there are none, zero at the end of the stream.
pub(crate) fn peek(socket: &OwnedSocket) -> Result<Option<usize>, Error> {
    let mut byte = [0u8];
    // SAFETY: the call writes at most one byte to the array.
    let seen = unsafe { net::recv(raw(socket), byte.as_mut_ptr(), 1, net::MSG_PEEK) };
    match usize::try_from(seen) {
        Ok(seen) => Ok(Some(seen)),
        Err(_) => match last_error() {
            error if error.code == net::WSAEWOULDBLOCK => Ok(None),
            error => Err(error),
        },
    }
}

/// Ends the sending side.
pub(crate) fn shutdown_write(socket: &OwnedSocket) {
    // SAFETY: the call names no memory. It fails only if the connection is gone already.
    unsafe { net::shutdown(raw(socket), net::SD_SEND) };
}

/// Resets the connection, at the latest when the socket is closed: this system has no call that
/// resets an open socket.
pub(crate) fn reset(socket: &OwnedSocket) {
    reset_at_close(socket);
}

/// Makes closing the socket reset the connection and discard unsent bytes.
pub(crate) fn reset_at_close(socket: &OwnedSocket) {
    let linger = net::LINGER { l_onoff: 1, l_linger: 0 };
    // It fails only if the connection is gone already.
    let _ = set(socket, (net::SOL_SOCKET, net::SO_LINGER), &linger);
}

/// Returns the local address.
pub(crate) fn local_address(socket: &OwnedSocket) -> Option<Address> {
    // SAFETY: everything that is named lives during the call.
    address_by(|start, len| unsafe { net::getsockname(raw(socket), start, len) })
}

/// Returns the peer's address, or `None` if the peer has disconnected.
pub(crate) fn peer_address(socket: &OwnedSocket) -> Option<Address> {
    // SAFETY: everything that is named lives during the call.
    address_by(|start, len| unsafe { net::getpeername(raw(socket), start, len) })
}

fn address_by(call: impl FnOnce(*mut SOCKADDR, *mut i32) -> i32) -> Option<Address> {
    let len = (RawAddress::BYTES as u32).cast_signed();
    let mut address = RawAddress { bytes: [0; RawAddress::BYTES], len };
    let start = address.bytes.as_mut_ptr().cast();
    check(call(start, &raw mut address.len)).ok()?;
    address.parse()
}

/// Returns whether small sends leave at once.
pub(crate) fn has_no_delay(socket: &OwnedSocket) -> bool {
    let mut value = [0i32];
    get(socket, (net::IPPROTO_TCP, net::TCP_NODELAY), &mut value).is_ok() && value != [0]
}

/// Returns whether completions of the socket's operations can be reported by the call itself: only
/// if the socket is the system's own, and not one of a provider that is layered over it.
pub(crate) fn is_the_systems_own(socket: &OwnedSocket) -> bool {
    let mut about = [net::WSAPROTOCOL_INFOW::default()];
    get(socket, (net::SOL_SOCKET, net::SO_PROTOCOL_INFOW), &mut about).is_ok()
        && about[0].dwServiceFlags1 & net::XP1_IFS_HANDLES != 0
}

/// Returns the length of an option's value in the form that the calls take.
fn length(bytes: usize) -> i32 {
    (bytes as u32).cast_signed()
}

fn get<T>(
    socket: &OwnedSocket,
    (level, name): (i32, i32),
    value: &mut [T; 1],
) -> Result<(), Error> {
    let mut len = length(size_of::<T>());
    let start = value.as_mut_ptr().cast();
    // SAFETY: the call writes at most `len` bytes to a value of this length, whose type permits
    // every pattern of bytes.
    check(unsafe { net::getsockopt(raw(socket), level, name, start, &raw mut len) })
}

fn set<T>(socket: &OwnedSocket, option: (i32, i32), value: &T) -> Result<(), Error> {
    // SAFETY: these are the bytes of a live value; the types used here have no padding.
    let bytes = unsafe { std::slice::from_raw_parts(ptr::from_ref(value).cast(), size_of::<T>()) };
    set_bytes(socket, option, bytes)
}

fn set_bytes(socket: &OwnedSocket, (level, name): (i32, i32), value: &[u8]) -> Result<(), Error> {
    let start = if value.is_empty() { ptr::null() } else { value.as_ptr() };
    let len = length(value.len());
    // SAFETY: the call reads `len` bytes of the value.
    check(unsafe { net::setsockopt(raw(socket), level, name, start, len) })
}

/// Controls the socket, with an input and a buffer for the result.
pub(crate) fn control<T>(
    socket: &OwnedSocket,
    code: u32,
    given: &T,
    answer: &mut [usize],
) -> Result<(), Error> {
    let given_len = size_of::<T>() as u32;
    let answer_len = size_of_val(answer) as u32;
    let mut returned = 0;
    // SAFETY: the call reads at most the given length of the input and writes at most that of the
    // result. It ends before it returns, because it gets no OVERLAPPED.
    check(unsafe {
        net::WSAIoctl(
            raw(socket),
            code,
            ptr::from_ref(given).cast(),
            given_len,
            answer.as_mut_ptr().cast(),
            answer_len,
            &raw mut returned,
            ptr::null_mut(),
            None,
        )
    })
}

fn check(result: i32) -> Result<(), Error> {
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Returns `None`: a process can have millions of handles.
pub(crate) fn max_descriptors() -> Option<u64> {
    None
}

/// Returns a random number from the system.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    let how = BCRYPT_USE_SYSTEM_PREFERRED_RNG;
    // SAFETY: the call writes eight bytes to eight bytes of this function.
    let status = unsafe { BCryptGenRandom(ptr::null_mut(), bytes.as_mut_ptr(), 8, how) };
    assert_eq!(status, 0, "the system gives random bytes");
    u64::from_ne_bytes(bytes)
}

/// Returns the build number of Windows.
fn build() -> u32 {
    static BUILD: OnceLock<u32> = OnceLock::new();
    *BUILD.get_or_init(|| {
        let bytes = size_of::<OSVERSIONINFOW>() as u32;
        let mut version = OSVERSIONINFOW { dwOSVersionInfoSize: bytes, ..Default::default() };
        // SAFETY: the call writes a value that has the size that it declares.
        unsafe { RtlGetVersion(&raw mut version) };
        version.dwBuildNumber
    })
}

/// Returns whether this is a server edition of Windows, false if that cannot be determined.
pub(crate) fn is_server() -> bool {
    let mut wanted = OSVERSIONINFOEXW {
        dwOSVersionInfoSize: size_of::<OSVERSIONINFOEXW>() as u32,
        wProductType: VER_NT_WORKSTATION as u8,
        ..Default::default()
    };
    // SAFETY: the calls read their input, which has the size that it declares; the last reads a
    // value of this thread.
    unsafe {
        let mask = VerSetConditionMask(0, VER_PRODUCT_TYPE, VER_EQUAL as u8);
        let is_workstation = VerifyVersionInfoW(&raw mut wanted, VER_PRODUCT_TYPE, mask) != 0;
        !is_workstation && GetLastError() == ERROR_OLD_WIN_VERSION
    }
}

/// Returns a socket that is connected to itself.
#[cfg(test)]
pub(crate) fn connected_to_itself() -> OwnedSocket {
    let ip = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let socket = stream_socket(ip).expect("a socket");
    bind(&socket, SocketAddr::new(ip, 0)).expect("any port");
    let address = RawAddress::of(local_address(&socket).expect("it is bound").socket_addr());
    // SAFETY: the call reads the address, which lives longer.
    check(unsafe { net::connect(raw(&socket), address.start(), address.len()) })
        .expect("both ends connect at once");
    socket
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthouse_process::is_wine;

    fn listener(at: &str, no_delay: bool) -> io::Result<(OwnedSocket, Address)> {
        let options = ListenOptions { no_delay, ..ListenOptions::default() };
        listen(at.parse().expect("an address"), options)
    }

    /// Returns both ends of a connection in the system's default state.
    fn pair() -> [OwnedSocket; 2] {
        let (listener, address) = listener("127.0.0.1:0", true).expect("a listener");
        let near = std::net::TcpStream::connect(address.socket_addr()).expect("a connection");
        // SAFETY: the call names no memory.
        let far = unsafe { net::accept(raw(&listener), ptr::null_mut(), ptr::null_mut()) };
        assert_ne!(far, net::INVALID_SOCKET);
        // SAFETY: the system has just made the socket, and nobody else has it.
        [near.into(), unsafe { OwnedSocket::from_raw_socket(far as RawSocket) }]
    }

    fn option(socket: &OwnedSocket, option: (i32, i32)) -> i32 {
        let mut value = [0];
        assert_eq!(get(socket, option, &mut value), Ok(()));
        value[0]
    }

    #[test]
    fn the_build_is_told() {
        assert!(build() > 7600, "{}", build());
    }

    #[test]
    fn a_listener_keeps_its_address_to_itself_and_remembers_the_delay_of_its_peers() {
        for no_delay in [true, false] {
            let (listener, _) = listener("127.0.0.1:0", no_delay).expect("a listener");
            assert_eq!(has_no_delay(&listener), no_delay);
            assert_ne!(option(&listener, (net::SOL_SOCKET, net::SO_EXCLUSIVEADDRUSE)), 0);
        }
    }

    #[test]
    fn a_connected_socket_does_not_block_and_delays_as_it_was_told() {
        for no_delay in [true, false] {
            let ends = pair();
            for end in &ends {
                assert_eq!(prepare(end, no_delay), Ok(()));
                assert_eq!(option(end, (net::IPPROTO_TCP, net::TCP_NODELAY)) != 0, no_delay);
                // A blocking socket would fail later.
                assert_eq!(set(end, (net::SOL_SOCKET, net::SO_RCVTIMEO), &100u32), Ok(()));
                assert_eq!(receive(end, &mut [0]), Ok(None), "it does not block");
            }
        }
    }

    #[test]
    fn an_ipv6_listener_leaves_ipv4_to_others() {
        let Ok((v6, address)) = listener("[::]:0", true) else {
            return; // IPv6 is switched off on this machine.
        };
        assert_ne!(option(&v6, (net::IPPROTO_IPV6, net::IPV6_V6ONLY)), 0);
        listener(&format!("0.0.0.0:{}", address.port()), true).expect("the same port");
    }

    #[test]
    fn both_ends_of_a_connection_notice_a_vanished_peer_within_half_a_minute() {
        /// The number of probes that Windows sends before it ends a connection.
        const PROBES: i32 = 10;
        for end in pair() {
            assert_eq!(prepare(&end, true), Ok(()));
            assert_ne!(option(&end, (net::SOL_SOCKET, net::SO_KEEPALIVE)), 0);
            let seconds = |name| {
                let mut value = [0i32];
                get(&end, (net::IPPROTO_TCP, name), &mut value).map(|()| value[0])
            };
            match (seconds(net::TCP_KEEPIDLE), seconds(net::TCP_KEEPINTVL)) {
                (Ok(idle), Ok(interval)) => assert!(idle + interval * PROBES < 30),
                other => {
                    assert!(is_wine(), "{other:?}");
                    eprintln!("NOT TESTED: Wine does not tell for how long it waits");
                }
            }
        }
    }

    #[test]
    fn a_socket_that_is_to_reset_discards_what_was_not_sent() {
        for end in pair() {
            reset_at_close(&end);
            let mut linger = [net::LINGER::default()];
            assert_eq!(get(&end, (net::SOL_SOCKET, net::SO_LINGER), &mut linger), Ok(()));
            assert_eq!((linger[0].l_onoff, linger[0].l_linger), (1, 0));
        }
    }
}
