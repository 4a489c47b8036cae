//! Requests and replies, with a blocking client: the server counts words, and rejects a text that
//! is too long.

use std::time::Duration;

use posthouse::{
    Client, ClientError, Endpoint, Handler, HandlerResult, Message, Peer, RequestError, Responder,
};

const COUNT_WORDS: u8 = 40;

struct Counter;

impl Handler for Counter {
    type State = ();

    fn requested(
        &self,
        _: &mut Peer<'_, Self>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        if message.payload().len() > 100 {
            responder.reject("at most 100 bytes");
            return Ok(());
        }
        let words = message.payload().split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let count = words.count().to_string();
        responder.reply(message.kind(), count.as_bytes());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::builder(Counter).listen("127.0.0.1:0").start()?;
    let client = Client::connect(server.addresses()[0])?;
    let patience = Duration::from_secs(5);

    let reply = client.request(COUNT_WORDS, b"many machines, one directory", patience)?;
    println!("words: {}", String::from_utf8_lossy(&reply.payload));

    match client.request(COUNT_WORDS, &[b'x'; 101], patience) {
        Err(ClientError::Request(RequestError::Rejected(text))) => println!("rejected: {text}"),
        other => println!("unexpected: {other:?}"),
    }
    client.close();
    server.shutdown(patience);
    Ok(server.wait()?)
}
