//! A link between a client and a server that fails where it is told to.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Right,
    /// Takes so many bytes of the client's and loses all that follow, while it stands.
    Loses(u64),
    /// The same with the server's bytes.
    LosesAnswers(u64),
    /// Takes so many bytes of the client's and ends.
    Cuts(u64),
}

/// A link that is there as long as the test. What it does counts for later connections.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    now: Arc<Mutex<(SocketAddr, Manner)>>,
}

impl Link {
    /// A link to a server; its threads end with their connections, or with the test.
    pub(crate) fn start(server: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let link = Self { address, now: Arc::new(Mutex::new((server, manner))) };
        let now = link.now.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, manner) = *now.lock().expect("nothing under this lock panics");
                // Where nobody listens the client sees its connection end.
                if let Ok(server) = TcpStream::connect(server) {
                    carry(&client, &server, manner);
                }
            }
        });
        link
    }

    /// Leads to another server from now on, and does it right.
    pub(crate) fn mend(&self, server: SocketAddr) {
        *self.now.lock().expect("nothing under this lock panics") = (server, Manner::Right);
    }
}

fn carry(client: &TcpStream, server: &TcpStream, manner: Manner) {
    let (there, back, cuts) = match manner {
        Manner::Right => (u64::MAX, u64::MAX, false),
        Manner::Loses(bytes) => (bytes, u64::MAX, false),
        Manner::LosesAnswers(bytes) => (u64::MAX, bytes, false),
        Manner::Cuts(bytes) => (bytes, u64::MAX, true),
    };
    let pair = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (from, to) = pair();
    thread::spawn(move || copy(from, to, there, cuts));
    let (to, from) = pair();
    thread::spawn(move || copy(from, to, back, false));
}

/// Copies so many bytes, until either side ends; then both do.
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
        // Fails where it has ended already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
