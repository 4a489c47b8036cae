//! A proxy between a client and a server that fails after a given number of bytes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The way in which the proxy fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyFault {
    None,
    /// Forwards this many bytes of the client and drops those after them.
    DropsRequests(u64),
    /// Forwards this many bytes of the server and drops those after them.
    DropsResponses(u64),
    /// Forwards this many bytes of the client and ends.
    Cuts(u64),
}

/// A proxy that lives as long as the test. A new fault counts for later connections.
#[derive(Clone, Debug)]
pub(crate) struct FaultyProxy {
    pub(crate) address: SocketAddr,
    target: Arc<Mutex<(SocketAddr, ProxyFault)>>,
}

impl FaultyProxy {
    /// Starts a proxy to a server; its threads end with their connections, or with the test.
    pub(crate) fn start(server: SocketAddr, fault: ProxyFault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("the socket is bound");
        let proxy = Self { address, target: Arc::new(Mutex::new((server, fault))) };
        let target = proxy.target.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, fault) = *target.lock().expect("no thread panics under this lock");
                // If no program listens at the target, the client sees its connection end.
                if let Ok(server) = TcpStream::connect(server) {
                    forward(&client, &server, fault);
                }
            }
        });
        proxy
    }

    /// Forwards new connections to another server, without a fault.
    pub(crate) fn redirect(&self, server: SocketAddr) {
        *self.target.lock().expect("no thread panics under this lock") = (server, ProxyFault::None);
    }
}

fn forward(client: &TcpStream, server: &TcpStream, fault: ProxyFault) {
    let (there, back, cuts) = match fault {
        ProxyFault::None => (u64::MAX, u64::MAX, false),
        ProxyFault::DropsRequests(bytes) => (bytes, u64::MAX, false),
        ProxyFault::DropsResponses(bytes) => (u64::MAX, bytes, false),
        ProxyFault::Cuts(bytes) => (bytes, u64::MAX, true),
    };
    let pair = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (from, to) = pair();
    thread::spawn(move || copy(from, to, there, cuts));
    let (to, from) = pair();
    thread::spawn(move || copy(from, to, back, false));
}

/// Copies this many bytes, or until either side ends. Then both sides end.
fn copy(mut from: TcpStream, mut to: TcpStream, mut left: u64, cuts: bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let taken = (count as u64).min(left) as usize;
        left -= taken as u64;
        if to.write_all(&buffer[..taken]).is_err() || (cuts && left == 0) {
            break;
        }
    }
    for stream in [&from, &to] {
        // The shutdown fails if the side has already ended.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
