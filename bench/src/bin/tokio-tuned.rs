//! The tokio contender on one thread, tuned by hand: one receive buffer for all tasks, frames found
//! in it without a codec, one write for all frames of a read, straight from the receive buffer.
//!
//! It uses `poll_read` and not `try_read`: only the former takes a short read for the end of the
//! available data, which saves a call per wake-up.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use posthouse_bench::listening;
use posthouse_bench::scratch::Scratch;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = listening::listen()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A failed connection is treated as an ended one.
            let _ = echo(stream).await;
        });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut partial = Vec::new();
    loop {
        let (unsent, ended) = poll_fn(|cx| turn(&mut stream, &mut partial, cx)).await?;
        if ended {
            return Ok(());
        }
        if !unsent.is_empty() {
            stream.write_all(&unsent).await?;
        }
    }
}

/// Receives once and sends as much as the socket takes. Returns the rest, and whether the peer's
/// stream has ended.
fn turn(
    stream: &mut TcpStream,
    partial: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(Vec<u8>, bool)>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut pending = false;
        let received = scratch.receive(partial, |room| {
            let mut room = ReadBuf::new(room);
            match Pin::new(&mut *stream).poll_read(cx, &mut room) {
                Poll::Ready(result) => result.map(|()| room.filled().len()),
                Poll::Pending => {
                    pending = true;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            }
        });
        if pending {
            return Poll::Pending;
        }
        let received = received?;
        let mut unsent = received.frames;
        while !unsent.is_empty() {
            match stream.try_write(unsent) {
                Ok(sent) => unsent = &unsent[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok((unsent.to_vec(), received.ended)))
    })
}
