//! Requests and replies, with a blocking client: the server counts words, and says so when a text
//! is too long for it.

use std::time::Duration;

use posthouse::{Client, ClientError, Endpoint, Handler, Message, Outcome, Peer, RequestError};

const COUNT_WORDS: u8 = 40;

struct Counter;

impl Handler for Counter {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Outcome {
        let Some(ticket) = message.ticket() else { return Ok(()) };
        if message.payload().len() > 100 {
            peer.refuse(ticket, "at most 100 bytes");
            return Ok(());
        }
        let words = message.payload().split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let count = words.count().to_string();
        peer.reply(ticket, message.kind(), count.as_bytes());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::builder(Counter).listen("127.0.0.1:0").start()?;
    let client = Client::connect(&server.addresses()[0].to_string())?;
    let patience = Duration::from_secs(5);

    let reply = client.request(COUNT_WORDS, b"many machines, one directory", patience)?;
    println!("words: {}", String::from_utf8_lossy(&reply.payload));

    match client.request(COUNT_WORDS, &[b'x'; 101], patience) {
        Err(ClientError::Request(RequestError::Refused(text))) => println!("refused: {text}"),
        other => println!("unexpected: {other:?}"),
    }
    client.close();
    server.shutdown(patience);
    Ok(server.wait()?)
}
