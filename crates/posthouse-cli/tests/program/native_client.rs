//! A bare TCP client that sends and expects native frames.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::harness::TEST_TIMEOUT;

/// Connects, with timeouts on reads and writes.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, TEST_TIMEOUT).expect("the listener accepts");
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a time-out is set");
    stream.set_write_timeout(Some(TEST_TIMEOUT)).expect("a time-out is set");
    stream
}

/// Sends bytes, and fails unless the expected ones are received.
#[track_caller]
pub(crate) fn exchange(stream: &mut TcpStream, sent: &[u8], expected: &[u8]) {
    stream.write_all(sent).unwrap();
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, expected);
}

/// Encodes a native frame.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32 + 1).to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend_from_slice(payload);
    frame
}
