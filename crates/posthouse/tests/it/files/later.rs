//! Offers that the program answers later.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{Destination, Endpoint, OwnedOfferResponder, Source, TransferErrorKind};

use super::carrier::{Carrier, Log, failed, visit};
use super::frames::{ABORT, CHUNK, OFFER, aborted, accepted, chunk, greet, numbered, offer};
use crate::bed::{Bed, Options, everywhere, in_simulation};
use crate::raw::Raw;
use crate::store::{Store, content};

/// The rights to answer that have been kept.
type Kept = Arc<Mutex<Vec<OwnedOfferResponder>>>;

/// A server that keeps every offer.
fn keeping(bed: &Bed<'_>, options: Options) -> (Endpoint<Carrier>, Log, Kept) {
    let kept = Kept::default();
    let carrier = Carrier::new().keeping(kept.clone());
    let log = carrier.log.clone();
    (bed.serve_with(carrier, options), log, kept)
}

/// A server that keeps every offer, and a peer that offers it a file.
fn offered(bed: &Bed<'_>, here: &Store) -> (Endpoint<Carrier>, Log, Kept, Endpoint<Carrier>, Log) {
    let (server, log, kept) = keeping(bed, bed.options());
    here.write("file", &content(1, 100_000));
    let directory = here.directory();
    let (visitor, sent) = visit(bed, &server, move |peer| {
        let _ = peer.offer_file(Source::new(&directory, "file"));
        Ok(())
    });
    (server, log, kept, visitor, sent)
}

fn next(bed: &Bed<'_>, kept: &Kept) -> OwnedOfferResponder {
    bed.until("an offer", || kept.lock().unwrap().pop())
}

#[test]
fn an_offer_that_is_accepted_later_arrives() {
    everywhere(|bed| {
        let (here, there) = (bed.store("here"), bed.store("there"));
        let (server, log, kept, visitor, sent) = offered(bed, &here);
        let responder = next(bed, &kept);
        assert_eq!(Some(responder.peer()), server.peers().first().map(|info| info.id));
        assert!(sent.transfers().is_empty() && there.parts().is_empty(), "it waits");
        let destination = Destination::new(&there.directory()).named("its new name");
        std::thread::spawn(move || responder.accept(destination)).join().expect("no panic");
        assert_eq!(failed(&sent.wait(bed, 1)), None);
        let transfer = log.wait(bed, 1);
        assert!(transfer.is_incoming() && transfer.result().is_ok(), "{transfer:?}");
        assert_eq!(transfer.name(), "file", "as the two sides speak of it");
        bed.end(&visitor);
        bed.end(&server);
        assert_eq!(there.files(), ["its new name"]);
        assert!(there.read("its new name") == Some(content(1, 100_000)));
    });
}

#[test]
fn an_offer_that_is_rejected_or_dropped_later_is_refused() {
    everywhere(|bed| {
        for text in ["not today", "the program gave no answer"] {
            let here = bed.store("here");
            let (server, log, kept, visitor, sent) = offered(bed, &here);
            match text {
                "not today" => next(bed, &kept).reject(text),
                _ => drop(next(bed, &kept)),
            }
            let transfer = sent.wait(bed, 1);
            let error = transfer.result().expect_err("it was rejected");
            assert_eq!((error.kind(), error.is_by_peer()), (TransferErrorKind::Refused, true));
            assert!(error.to_string().contains(text), "{error}");
            bed.end(&visitor);
            bed.end(&server);
            assert!(log.transfers().is_empty(), "nothing was begun");
        }
    });
}

/// Taken or not: the answer that the callback gives counts, and a bad name is none.
#[test]
fn an_offer_has_one_answer() {
    everywhere(|bed| {
        let there = bed.store("there");
        let (server, log, kept) = keeping(bed, bed.options());
        let mut raw = bed.dial(&server);
        greet(bed, &mut raw);
        raw.send_frame(OFFER, &offer(1, 0, b"forget"));
        assert_eq!(aborted(bed, &mut raw, 1), (1, "the program gave no answer".to_owned()));
        raw.send_frame(OFFER, &offer(3, 0, b"refuse"));
        assert_eq!(aborted(bed, &mut raw, 3), (1, "at once".to_owned()));
        next(bed, &kept).accept(&there.directory());
        raw.send_frame(OFFER, &offer(5, 0, b"other"));
        next(bed, &kept).accept(Destination::new(&there.directory()).named("../up"));
        assert_eq!(aborted(bed, &mut raw, 5).0, 8);
        // What would come of the first answer has come before this.
        raw.send_frame(OFFER, &offer(7, 0, b"last"));
        drop(next(bed, &kept));
        let (kind, payload) = bed.read_frame(&mut raw);
        assert_eq!((kind, &payload[..4]), (ABORT, &7_u32.to_le_bytes()[..]));
        drop(raw);
        bed.end(&server);
        assert!(log.transfers().is_empty() && there.files().is_empty());
        assert!(there.parts().is_empty());
    });
}

#[test]
fn an_offer_that_is_not_answered_in_time_expires() {
    in_simulation(|bed| {
        let there = bed.store("there");
        let options = bed.options().with(|o| o.connection.transfer_timeout_ms = 2_000);
        let (server, log, kept) = keeping(bed, options);
        let mut raw = bed.dial(&server);
        greet(bed, &mut raw);
        raw.send_frame(OFFER, &offer(1, 10, b"file"));
        let responder = next(bed, &kept);
        bed.world().run_for(Duration::from_millis(1_900));
        assert!(raw.take_frame().is_none(), "there is time left");
        let since = bed.world().now();
        assert_eq!(aborted(bed, &mut raw, 1).0, 12);
        assert!(bed.world().now() - since < Duration::from_millis(300));
        responder.accept(&there.directory());
        bed.world().run_for(Duration::from_secs(1));
        assert!(raw.take_frame().is_none(), "nothing comes of it any more");
        assert!(there.files().is_empty() && there.parts().is_empty());
        // In time, there is all the time that a transfer has.
        raw.send_frame(OFFER, &offer(3, 10, b"file"));
        let responder = next(bed, &kept);
        bed.world().run_for(Duration::from_millis(1_900));
        responder.accept(&there.directory());
        assert_eq!(accepted(bed, &mut raw), (0, 10));
        bed.world().run_for(Duration::from_millis(1_500));
        raw.send_frame(CHUNK, &chunk(3, b"0123456789"));
        bed.wait_for("it on the disk", || there.parts().iter().any(|part| part.len() == 10));
        drop(raw);
        bed.wait_for("its end", || log.ends().len() == 1);
        bed.end(&server);
        let kinds: Vec<_> = log.transfers().iter().map(failed).collect();
        assert_eq!(kinds, [Some(TransferErrorKind::Disconnected)], "the second, once");
    });
}

#[test]
fn an_answer_for_a_connection_or_an_offer_that_is_gone_has_no_effect() {
    everywhere(|bed| {
        let there = bed.store("there");
        let (server, log, kept) = keeping(bed, bed.options());
        let mut raw = bed.dial(&server);
        greet(bed, &mut raw);
        // The peer takes it back.
        raw.send_frame(OFFER, &offer(1, 0, b"taken back"));
        let responder = next(bed, &kept);
        raw.send_frame(ABORT, &numbered(1, &[0, 0]));
        raw.send_frame(40, b"after it");
        bed.wait_for("the message", || log.order().iter().any(|word| word == "after it"));
        responder.accept(&there.directory());
        // The peer goes.
        let owned: Vec<_> = [3, 5, 7, 9]
            .map(|id| {
                raw.send_frame(OFFER, &offer(id, 0, b"file"));
                next(bed, &kept)
            })
            .into();
        let [gone, dropped, other, late] = owned.try_into().expect("four");
        assert!(raw.take_frame().is_none());
        drop(raw);
        bed.wait_for("its end", || server.stats().connections == 0);
        let mut next_peer = bed.dial(&server);
        greet(bed, &mut next_peer);
        gone.accept(&there.directory());
        drop(dropped);
        other.reject("too late");
        next_peer.send_frame(OFFER, &offer(3, 0, b"of another"));
        drop(next(bed, &kept));
        assert_eq!(aborted(bed, &mut next_peer, 3).0, 1);
        drop(next_peer);
        bed.end(&server);
        drop(server);
        late.accept(&there.directory());
        assert!(log.transfers().is_empty(), "none was begun");
        assert!(there.files().is_empty() && there.parts().is_empty());
    });
}

#[test]
fn offers_that_wait_for_their_answers_count_as_transfers() {
    everywhere(|bed| {
        let there = bed.store("there");
        let options = bed.options().with(|o| {
            o.connection.max_transfers = 3;
            o.connection.heartbeat_ms = 0;
        });
        let (server, _, kept) = keeping(bed, options);
        let mut raw = bed.dial(&server);
        greet(bed, &mut raw);
        let mut offers = Offers { raw: &mut raw, next: 1 };
        let mut owned: Vec<_> = (0..3).map(|_| offers.taken(bed, &kept)).collect();
        offers.busy(bed);
        // A rejection makes room for one more; what is accepted still counts.
        drop(owned.pop());
        assert_eq!(aborted(bed, offers.raw, 5).0, 1);
        owned.push(offers.taken(bed, &kept));
        owned.remove(0).accept(&there.directory());
        assert_eq!(accepted(bed, offers.raw), (0, 10));
        offers.busy(bed);
        // One that the peer takes back makes room, too.
        offers.raw.send_frame(ABORT, &numbered(3, &[0, 0]));
        owned.push(offers.taken(bed, &kept));
        offers.busy(bed);
        drop((owned, raw));
        bed.end(&server);
    });
}

/// Offers of a raw peer, each under the next number.
struct Offers<'r> {
    raw: &'r mut Raw,
    next: u32,
}

impl Offers<'_> {
    fn offer(&mut self) -> u32 {
        let id = self.next;
        self.next += 2;
        self.raw.send_frame(OFFER, &offer(id, 10, format!("file {id}").as_bytes()));
        id
    }

    /// One that the server keeps.
    fn taken(&mut self, bed: &Bed<'_>, kept: &Kept) -> OwnedOfferResponder {
        self.offer();
        next(bed, kept)
    }

    /// One that is too many.
    fn busy(&mut self, bed: &Bed<'_>) {
        let id = self.offer();
        assert_eq!(aborted(bed, self.raw, id).0, 5);
    }
}

/// Places are numbers of a byte: offers that were accepted while others took them have none.
#[test]
fn offers_that_are_accepted_all_at_once_run_out_of_no_places() {
    in_simulation(|bed| {
        let disk = bed.world().disk("slow");
        let slow = disk.directory();
        let (kept, to) = (Kept::default(), slow.clone());
        let carrier =
            Carrier::new().taking(slow.clone()).keeping(kept.clone()).on_received(move |peer| {
                for n in 0..100 {
                    let _ = peer.offer_file(Source::new(&to, format!("own {n}")));
                }
                Ok(())
            });
        let log = carrier.log.clone();
        let options = bed.options().with(|o| {
            o.connection.max_transfers = 100;
            o.connection.transfer_timeout_ms = 3_600_000;
            o.connection.heartbeat_ms = 0;
        });
        let server = bed.serve_with(carrier, options);
        let mut raw = bed.dial(&server);
        greet(bed, &mut raw);
        disk.hang();
        for n in 0..80_u32 {
            raw.send_frame(OFFER, &offer(2 * n + 1, 10, format!("later {n}").as_bytes()));
        }
        bed.wait_for("the offers", || kept.lock().unwrap().len() == 80);
        // Files that the disk holds, and that nobody wants any more.
        for n in 80..300_u32 {
            raw.send_frame(OFFER, &offer(2 * n + 1, 10, format!("now {n}").as_bytes()));
            raw.send_frame(ABORT, &numbered(2 * n + 1, &[0, 0]));
        }
        raw.send_frame(40, b"offer yours");
        bed.wait_for("the message", || !log.order().is_empty());
        bed.world().run_for(Duration::from_millis(10));
        let owned: Vec<_> = kept.lock().unwrap().drain(..).collect();
        owned.into_iter().for_each(|responder| responder.accept(&slow));
        bed.world().run_for(Duration::from_secs(1));
        assert_eq!(server.stats().panics, 0);
        assert!(log.ends().is_empty(), "{:?}", log.ends());
        disk.resume();
        raw.send_frame(40, b"still here");
        bed.wait_for("the message", || log.order().iter().any(|word| word == "still here"));
        drop(raw);
        bed.wait_for("its end", || log.ends().len() == 1);
        bed.end(&server);
    });
}
