//! A file drop: whatever is sent arrives in `inbox`, verified and whole, or not at all; whoever is
//! interested gets it from there. `cargo run -p posthouse --example file_drop`, then, in another
//! terminal, `cargo run --release -- send 127.0.0.1:9990 README.md`.

use posthouse::{Answer, Directory, Endpoint, Handler, Message, Offer, Outcome, Peer};
use posthouse::{Transfer, Wanted};

struct Drop {
    inbox: Directory,
}

impl Handler for Drop {
    type State = ();

    fn offered(&self, _: &mut Peer<'_, ()>, offer: &Offer<'_>) -> Answer {
        match offer.size() {
            0..=0x4000_0000 => Answer::here(&self.inbox),
            _ => Answer::refuse("at most 1 GiB a file"),
        }
    }

    fn wanted(&self, _: &mut Peer<'_, ()>, _: &Wanted<'_>) -> Answer {
        Answer::here(&self.inbox)
    }

    fn transferred(&self, peer: &mut Peer<'_, ()>, transfer: &Transfer) -> Outcome {
        println!("{}: {:?} with {}", transfer.name(), transfer.result().map(|_| ()), peer.id());
        Ok(())
    }

    fn received(&self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Outcome {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all("inbox")?;
    let inbox = Directory::open("inbox")?.with_quota(100 << 30, 1_000_000)?;
    Ok(Endpoint::builder(Drop { inbox }).listen("127.0.0.1:9990").start()?.wait()?)
}
