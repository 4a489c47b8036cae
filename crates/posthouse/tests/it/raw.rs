//! Raw peers on real and on simulated sockets, and the frames that they send.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use posthouse::sim::RawStream;

use crate::harness::PATIENCE;

/// A byte stream without a protocol. Sent bytes wait here until the other side takes them. Most
/// calls send and receive as many bytes as they can.
pub struct Raw {
    stream: Stream,
    received: Vec<u8>,
    reads: bool,
}

enum Stream {
    /// A real socket. `tcp` is `None` if the other side reset the connection during the connect.
    Real {
        tcp: Option<TcpStream>,
        outbox: VecDeque<u8>,
        finish: bool,
        end: Option<End>,
    },
    Simulated(RawStream),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Clean,
    Reset,
}

impl Raw {
    pub fn real(address: SocketAddr) -> Self {
        match TcpStream::connect(address) {
            Ok(tcp) => Self::accepted(tcp),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                Self::over_tcp(None, Some(End::Reset))
            }
            Err(error) => panic!("cannot connect to {address}: {error}"),
        }
    }

    pub fn accepted(tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).expect("the socket is connected");
        tcp.set_nonblocking(true).expect("the socket is connected");
        Self::over_tcp(Some(tcp), None)
    }

    fn over_tcp(tcp: Option<TcpStream>, end: Option<End>) -> Self {
        Self::new(Stream::Real { tcp, outbox: VecDeque::new(), finish: false, end })
    }

    pub fn simulated(stream: RawStream) -> Self {
        Self::new(Stream::Simulated(stream))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, received: Vec::new(), reads: true }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.stream {
            Stream::Simulated(stream) => stream.send(bytes),
            Stream::Real { outbox, .. } => {
                outbox.extend(bytes);
                self.pump();
            }
        }
    }

    pub fn send_frame(&mut self, kind: u8, payload: &[u8]) {
        self.send(&frame(kind, payload));
    }

    /// Returns the number of bytes that the other side has not taken yet.
    pub fn unsent(&mut self) -> usize {
        self.pump();
        match &self.stream {
            Stream::Simulated(stream) => stream.unsent_bytes(),
            Stream::Real { outbox, .. } => outbox.len(),
        }
    }

    /// Ends the stream of this side after the sent bytes. This side can still receive.
    pub fn finish(&mut self) {
        match &mut self.stream {
            Stream::Simulated(stream) => stream.finish(),
            Stream::Real { finish, .. } => {
                *finish = true;
                self.pump();
            }
        }
    }

    /// Resets the connection. On a real socket there must be unread bytes (see
    /// [`stop_reading`](Self::stop_reading)). Then closing the socket resets the connection; std
    /// has no other way to do so.
    pub fn reset(self) {
        match self.stream {
            Stream::Simulated(stream) => stream.reset(),
            Stream::Real { tcp: None, .. } => {}
            Stream::Real { tcp: Some(tcp), .. } => {
                tcp.set_nonblocking(false).expect("the option can be set");
                tcp.set_read_timeout(Some(PATIENCE)).expect("the option can be set");
                // The call fails at once if the other side has sent a reset first.
                let told = tcp.peek(&mut [0]).map_err(|error| error.kind());
                // The error kind of a timeout differs between systems.
                let in_vain = [ErrorKind::WouldBlock, ErrorKind::TimedOut].map(Err);
                assert!(
                    !in_vain.contains(&told),
                    "no byte is unread, so a close would not reset the connection"
                );
            }
        }
    }

    /// Cuts the link of a simulated peer.
    pub fn vanish(&self) {
        match &self.stream {
            Stream::Simulated(stream) => stream.vanish(),
            Stream::Real { .. } => panic!("the link of a real peer cannot be cut"),
        }
    }

    pub fn stop_reading(&mut self) {
        self.reads = false;
        if let Stream::Simulated(stream) = &self.stream {
            stream.stop_reading();
        }
    }

    pub fn resume_reading(&mut self) {
        self.reads = true;
        if let Stream::Simulated(stream) = &self.stream {
            stream.resume_reading();
        }
    }

    /// Returns the bytes that have arrived and have not been taken.
    pub fn received(&mut self) -> &[u8] {
        self.pump();
        &self.received
    }

    /// Takes this number of bytes from the start of the arrived ones. Panics if fewer have arrived.
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        self.received.drain(..bytes).collect()
    }

    /// Takes the next frame, if all of it has arrived.
    pub fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        self.pump();
        let (head, rest) = self.received.split_first_chunk::<5>()?;
        let payload_bytes = usize::from(head[0]) | usize::from(head[1]) << 8;
        let payload_bytes = (payload_bytes | usize::from(head[2]) << 16) - 1;
        let kind = head[4];
        let payload = rest.get(..payload_bytes)?.to_vec();
        self.received.drain(..5 + payload_bytes);
        Some((kind, payload))
    }

    /// Returns whether the other side has ended or reset the stream.
    pub fn is_over(&mut self) -> bool {
        self.pump();
        match &self.stream {
            Stream::Simulated(stream) => {
                stream.is_ended() || stream.is_reset() || stream.is_refused()
            }
            Stream::Real { end, .. } => end.is_some(),
        }
    }

    /// Returns whether the other side has reset the stream.
    pub fn is_reset(&mut self) -> bool {
        self.pump();
        match &self.stream {
            Stream::Simulated(stream) => stream.is_reset(),
            Stream::Real { end, .. } => *end == Some(End::Reset),
        }
    }

    fn pump(&mut self) {
        match &mut self.stream {
            Stream::Simulated(stream) => self.received.extend(stream.take_received()),
            Stream::Real { tcp: None, outbox, .. } => outbox.clear(),
            Stream::Real { tcp: Some(tcp), outbox, finish, end } => {
                let told = send_some(tcp, outbox);
                *end = end.or(told);
                if *finish && outbox.is_empty() && end.is_none() {
                    *finish = false;
                    // The call fails if the connection has ended.
                    let _ = tcp.shutdown(Shutdown::Write);
                }
                if self.reads && *end != Some(End::Reset) {
                    let told = receive_some(tcp, &mut self.received);
                    *end = end.or(told);
                }
            }
        }
    }
}

fn send_some(mut tcp: &TcpStream, outbox: &mut VecDeque<u8>) -> Option<End> {
    while !outbox.is_empty() {
        match tcp.write(outbox.as_slices().0) {
            Ok(sent) => drop(outbox.drain(..sent)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => {
                outbox.clear();
                return Some(End::Reset);
            }
        }
    }
    None
}

fn receive_some(mut tcp: &TcpStream, received: &mut Vec<u8>) -> Option<End> {
    let mut chunk = [0; 64 * 1024];
    loop {
        match tcp.read(&mut chunk) {
            Ok(0) => return Some(End::Clean),
            Ok(count) => received.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => return Some(End::Reset),
        }
    }
}

/// Returns a native frame.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(1 + payload.len()).expect("the length fits into 32 bits");
    let mut frame = length.to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend(payload);
    frame
}

/// Returns the first bytes of a frame that announces a payload of this size.
pub fn frame_head(kind: u8, payload_bytes: u32) -> Vec<u8> {
    let mut head = (1 + payload_bytes).to_le_bytes().to_vec();
    head.push(kind);
    head
}

/// Returns a hello of version 1 that requests this heartbeat.
pub fn hello(heartbeat_ms: u32, payload_bytes_max: u32) -> Vec<u8> {
    let mut hello = b"POSTHOUS".to_vec();
    hello.extend(1u16.to_le_bytes());
    hello.extend(0u32.to_le_bytes());
    hello.extend(payload_bytes_max.to_le_bytes());
    hello.extend(heartbeat_ms.to_le_bytes());
    hello.extend([7; 16]);
    hello.push(0);
    hello.extend(0u16.to_le_bytes());
    frame(4, &hello)
}

/// Returns a request frame.
pub fn request(id: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    body.push(kind);
    body.extend(payload);
    frame(8, &body)
}

/// Returns the code and the text in the payload of a bye.
pub fn bye(payload: &[u8]) -> (u16, String) {
    let code = u16::from_le_bytes([payload[0], payload[1]]);
    (code, String::from_utf8(payload[6..].to_vec()).expect("a bye's text is UTF-8"))
}
