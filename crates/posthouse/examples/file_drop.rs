//! A file drop: a file that is sent arrives in `inbox`, verified and whole, or not at all, and
//! anyone can download it from there. `cargo run -p posthouse --example file_drop`, then, in
//! another terminal, `cargo run --release -- send 127.0.0.1:9990 README.md`.

use posthouse::{
    Destination, Directory, Endpoint, FinishedTransfer, Handler, HandlerResult, Message, Offer,
    OfferResponder, Peer, Reject, Source,
};

struct Drop {
    inbox: Directory,
}

impl Handler for Drop {
    type State = ();

    fn offered(
        &self,
        _: &mut Peer<'_, Self>,
        offer: &Offer<'_>,
        _: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        if offer.size() > 1 << 30 {
            return Err("at most 1 GiB a file".into());
        }
        Ok(Some(Destination::new(&self.inbox)))
    }

    fn download_requested(&self, _: &mut Peer<'_, Self>, name: &str) -> Result<Source, Reject> {
        Ok(Source::new(&self.inbox, name))
    }

    fn list_requested(&self, _: &mut Peer<'_, Self>, _: &str) -> Result<Directory, Reject> {
        Ok(self.inbox.clone())
    }

    fn transferred(&self, peer: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        println!("{}: {:?} with {}", transfer.name(), transfer.result().map(|_| ()), peer.id());
        Ok(())
    }

    fn received(&self, _: &mut Peer<'_, Self>, _: Message<'_>) -> HandlerResult {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all("inbox")?;
    let inbox = Directory::open("inbox")?.with_quota(100 << 30, 1_000_000)?;
    Ok(Endpoint::builder(Drop { inbox }).listen("127.0.0.1:9990").start()?.wait()?)
}
