//! Echo servers that are not Posthouse, some of them wrong on purpose.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::support::PATIENCE;

/// What a server does with the bytes it gets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// Sends them back: an echo server of any framing.
    Right,
    /// The same, but for one bit of the byte with this number.
    CorruptsByte(usize),
    /// Sends back each second native frame before the first.
    SwapsFrames,
    /// Ends the stream after so many bytes.
    EndsAfter(usize),
    /// Says nothing on the first connection, and ends the others when they are silent.
    Uneven,
}

/// How long others than the first connection may be silent.
const SILENCE: Duration = Duration::from_secs(2);

/// Starts a server; its threads end with their connections, or with the test.
pub(crate) fn start(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            // The connection's end is the client's business.
            thread::spawn(move || drop(serve(stream, number, manner)));
        }
    });
    address
}

fn serve(mut stream: TcpStream, number: usize, manner: Manner) -> std::io::Result<()> {
    let others = matches!(manner, Manner::Uneven) && number > 0;
    stream.set_read_timeout(Some(if others { SILENCE } else { PATIENCE }))?;
    stream.set_nodelay(true)?;
    if matches!(manner, Manner::SwapsFrames) {
        return swap(&stream);
    }
    let mut buffer = [0; 4096];
    let mut before = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &mut buffer[..count];
        match manner {
            Manner::CorruptsByte(at) if (before..before + count).contains(&at) => {
                bytes[at - before] ^= 1;
                stream.write_all(bytes)?;
            }
            Manner::EndsAfter(at) if before + count > at => return Ok(()),
            Manner::Uneven if number == 0 => {}
            _ => stream.write_all(bytes)?,
        }
        before += count;
    }
}

fn swap(mut stream: &TcpStream) -> std::io::Result<()> {
    loop {
        let (first, second) = (read_frame(stream)?, read_frame(stream)?);
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
