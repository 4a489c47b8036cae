//! A plain echo server that can be told to misbehave.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::harness::TEST_TIMEOUT;

/// The way in which the server treats the bytes it receives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EchoFault {
    /// Sends them back, as an echo server of any framing.
    None,
    /// Flips a bit of the byte with this number.
    CorruptsByte(usize),
    /// Swaps each two native frames.
    SwapsFrames,
    /// Ends the stream after this number of bytes.
    EndsAfter(usize),
    /// Never answers the first connection, and ends other connections when they are idle.
    IgnoresFirst,
}

/// The time after which a connection other than the first is idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a server; its threads end with their connections, or with the test.
pub(crate) fn start(fault: EchoFault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("the socket is bound");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            // The client reports the end of the connection.
            thread::spawn(move || drop(serve(stream, number, fault)));
        }
    });
    address
}

fn serve(mut stream: TcpStream, number: usize, fault: EchoFault) -> std::io::Result<()> {
    let is_other = matches!(fault, EchoFault::IgnoresFirst) && number > 0;
    stream.set_read_timeout(Some(if is_other { IDLE_TIMEOUT } else { TEST_TIMEOUT }))?;
    stream.set_nodelay(true)?;
    if matches!(fault, EchoFault::SwapsFrames) {
        return swap_frames(&stream);
    }
    let mut buffer = [0; 4096];
    let mut before = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &mut buffer[..count];
        match fault {
            EchoFault::CorruptsByte(at) if (before..before + count).contains(&at) => {
                bytes[at - before] ^= 1;
                stream.write_all(bytes)?;
            }
            EchoFault::EndsAfter(at) if before + count > at => return Ok(()),
            EchoFault::IgnoresFirst if number == 0 => {}
            _ => stream.write_all(bytes)?,
        }
        before += count;
    }
}

fn swap_frames(mut stream: &TcpStream) -> std::io::Result<()> {
    loop {
        let first = read_frame(stream)?;
        let second = read_frame(stream)?;
        stream.write_all(&[second, first].concat())?;
    }
}

fn read_frame(mut stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}
