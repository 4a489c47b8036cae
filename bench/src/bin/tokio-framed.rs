//! The tokio contender on one thread, as its documentation teaches it: `Framed` with the codec for
//! length fields, one `send` for each frame. `send` flushes, so each reply is a system call.
//!
//! With `--forward`, `forward` moves the frames from stream to sink and flushes only when no frame
//! is there. It takes as few lines, for replies that need no logic.

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
            // A failed connection is treated as an ended one.
            let _ = echo(stream, forward).await;
        });
    }
}

async fn echo(stream: TcpStream, forward: bool) -> io::Result<()> {
    // The codec's frame is flags, kind and payload: one byte more than the length says.
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

/// Returns the frame, if its flags are 0 and it has a kind.
fn checked(message: io::Result<BytesMut>) -> io::Result<Bytes> {
    let message = message?;
    if message.len() < 2 || message[0] != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(message.freeze())
}
