//! The chat room of the README, written with tokio; a test checks that the two are equal.

#![forbid(unsafe_code)]

use futures::{SinkExt, StreamExt};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::codec::{Framed, LinesCodec};

type Room = Arc<Mutex<HashMap<u64, mpsc::Sender<String>>>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9991").await?;
    let room = Room::default();
    for id in 0.. {
        let (socket, _) = listener.accept().await?; // one EMFILE ends the server
        let room = room.clone();
        tokio::spawn(async move {
            let codec = LinesCodec::new_with_max_length(1 << 20);
            let (mut sink, mut lines) = Framed::new(socket, codec).split();
            let Some(Ok(name)) = lines.next().await else { return };
            let (tx, mut rx) = mpsc::channel(1024);
            room.lock().unwrap().insert(id, tx);
            let writer = tokio::spawn(async move {
                while let Some(line) = rx.recv().await {
                    if sink.send(line).await.is_err() {
                        break;
                    }
                }
            });
            while let Some(Ok(text)) = lines.next().await {
                for (other, tx) in room.lock().unwrap().iter() {
                    if *other != id {
                        // Full: this member misses a line, and nobody knows.
                        let _ = tx.try_send(format!("{name}: {text}"));
                    }
                }
            }
            room.lock().unwrap().remove(&id);
            writer.abort(); // what is queued is lost
        });
    }
    Ok(())
}
