//! A chat room: the first message is a name, every other one goes to all.
//!
//! `cargo run -p posthouse --example chat`, then `nc 127.0.0.1 9991` in two terminals.

use posthouse::{
    DisconnectReason, Endpoint, Framing, Handler, HandlerResult, Listener, Message, Peer,
};

struct Chat;

impl Handler for Chat {
    type State = Option<String>;

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        let text = String::from_utf8_lossy(message.payload());
        let room = peer.endpoint().group("room");
        let Some(name) = peer.state() else {
            *peer.state_mut() = Some(text.trim().to_owned());
            peer.join(&room);
            room.send(0, format!("* {text} joins ({} here)", room.len()).as_bytes())?;
            return Ok(());
        };
        let line = format!("{name}: {text}");
        room.send_except(peer.id(), 0, line.as_bytes())?;
        Ok(())
    }

    fn disconnected(&self, peer: &mut Peer<'_, Self>, why: &DisconnectReason) {
        if let Some(name) = peer.state_mut().take() {
            let line = format!("* {name} leaves: {why}");
            // Refused only if too much is queued already: then nobody misses this line.
            let _ = peer.endpoint().group("room").send(0, line.as_bytes());
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = Listener::new("127.0.0.1:9991").framing(Framing::Lines);
    Ok(Endpoint::builder(Chat).listen(listener).start()?.wait()?)
}
