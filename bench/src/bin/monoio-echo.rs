//! The monoio contender, on one thread with its io_uring driver, written idiomatically: a task per
//! connection, owned buffers lent to each read and write, all replies of a read in one `write_all`.

#![forbid(unsafe_code)]

use std::io;

use monoio::IoUringDriver;
use monoio::buf::IoBufMut as _;
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{TcpListener, TcpStream};
use posthouse_bench::{frame, listening};

/// The maximum number of bytes per read.
const RECEIVE_BYTES: usize = 64 * 1024;

fn main() -> io::Result<()> {
    monoio::RuntimeBuilder::<IoUringDriver>::new().build()?.block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = TcpListener::from_std(listening::listen()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        monoio::spawn(async move {
            // A failed connection is treated as an ended one.
            let _ = echo(stream).await;
        });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut received = Vec::new();
    let mut reply = Vec::new();
    loop {
        received.reserve(RECEIVE_BYTES);
        let kept = received.len();
        let (result, slice) = stream.read(received.slice_mut(kept..)).await;
        received = slice.into_inner();
        if result? == 0 {
            return Ok(());
        }
        let (whole, _) = frame::whole(&received).map_err(|_| io::ErrorKind::InvalidData)?;
        reply.clear();
        reply.extend(received.drain(..whole));
        if !reply.is_empty() {
            let (result, buffer) = stream.write_all(reply).await;
            result?;
            reply = buffer;
        }
    }
}
