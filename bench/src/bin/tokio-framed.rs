//! Peer: tokio on one thread, as its documentation teaches it: `Framed` with the codec for length
//! fields, one `send` for each frame. `send` flushes, so each reply is a system call.
//!
//! With `--forward` the frames go from stream to sink by `forward`, which flushes only when no
//! frame is there: the same few lines, for replies that need no thought.

#![forbid(unsafe_code)]

use std::io;

use futures::{SinkExt as _, StreamExt as _};
use posthouse_bench::{frame, listening};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = listening::listen()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let forward = listening::flag("--forward");
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A connection that failed is a connection that ended.
            let _ = echo(stream, forward).await;
        });
    }
}

async fn echo(stream: TcpStream, forward: bool) -> io::Result<()> {
    // What the codec calls a frame is flags, kind and payload: one byte more than the length says.
    let codec = LengthDelimitedCodec::builder()
        .little_endian()
        .length_field_length(3)
        .length_adjustment(1)
        .num_skip(3)
        .max_frame_length(2 + frame::PAYLOAD_BYTES_MAX)
        .new_codec();
    let mut framed = Framed::new(stream, codec);
    if forward {
        let (replies, messages) = framed.split();
        return messages.map(checked).forward(replies).await;
    }
    while let Some(message) = framed.next().await {
        framed.send(checked(message)?).await?;
    }
    Ok(())
}

/// The frame, if its flags are 0 and it has a kind.
fn checked(message: io::Result<BytesMut>) -> io::Result<Bytes> {
    let message = message?;
    if message.len() < 2 || message[0] != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(message.freeze())
}
