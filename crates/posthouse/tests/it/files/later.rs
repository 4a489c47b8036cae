//! Offers that the program answers after the callback has returned.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{Destination, Endpoint, OwnedOfferResponder, Source, TransferErrorKind};

use super::file_handler::{FileHandler, Log, failed, visit};
use super::frames::{ABORT, CHUNK, OFFER, aborted, accepted, chunk, greet, numbered, offer};
use crate::harness::{Harness, Options, everywhere, in_simulation};
use crate::raw::Raw;
use crate::store::{Store, content};

/// The responders that the handler has kept.
type Kept = Arc<Mutex<Vec<OwnedOfferResponder>>>;

/// Starts a server that keeps the responders of offers.
fn keeping(harness: &Harness<'_>, options: Options) -> (Endpoint<FileHandler>, Log, Kept) {
    let kept = Kept::default();
    let handler = FileHandler::new().keeping(kept.clone());
    let log = handler.log.clone();
    (harness.serve_with(handler, options), log, kept)
}

/// Starts a server that keeps the responders of offers, and a peer that offers it a file.
fn offered(
    harness: &Harness<'_>,
    here: &Store,
) -> (Endpoint<FileHandler>, Log, Kept, Endpoint<FileHandler>, Log) {
    let (server, log, kept) = keeping(harness, harness.options());
    here.write("file", &content(1, 100_000));
    let directory = here.directory();
    let (visitor, sent) = visit(harness, &server, move |peer| {
        let _ = peer.offer_file(Source::new(&directory, "file"));
        Ok(())
    });
    (server, log, kept, visitor, sent)
}

fn next(harness: &Harness<'_>, kept: &Kept) -> OwnedOfferResponder {
    harness.until("an offer", || kept.lock().unwrap().pop())
}

#[test]
fn an_offer_that_is_accepted_later_arrives() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let (server, log, kept, visitor, sent) = offered(harness, &here);
        let responder = next(harness, &kept);
        assert_eq!(Some(responder.peer()), server.peers().first().map(|info| info.id));
        assert!(
            sent.transfers().is_empty() && there.parts().is_empty(),
            "the offer was answered too early"
        );
        let destination = Destination::new(&there.directory()).named("its new name");
        if harness.is_real() {
            let accept = std::thread::spawn(move || responder.accept(destination));
            accept.join().expect("no thread panicked");
        } else {
            responder.accept(destination);
        }
        assert_eq!(failed(&sent.wait(harness, 1)), None);
        let transfer = log.wait(harness, 1);
        assert!(transfer.is_incoming() && transfer.result().is_ok(), "{transfer:?}");
        assert_eq!(transfer.name(), "file", "the two sides use different names");
        harness.end(&visitor);
        harness.end(&server);
        assert_eq!(there.files(), ["its new name"]);
        assert!(there.read("its new name") == Some(content(1, 100_000)));
    });
}

#[test]
fn an_offer_that_is_rejected_or_dropped_later_is_refused() {
    everywhere(|harness| {
        for text in ["not today", "the program gave no answer"] {
            let here = harness.store("here");
            let (server, log, kept, visitor, sent) = offered(harness, &here);
            match text {
                "not today" => next(harness, &kept).reject(text),
                _ => drop(next(harness, &kept)),
            }
            let transfer = sent.wait(harness, 1);
            let error = transfer.result().expect_err("the offer is rejected");
            assert_eq!((error.kind(), error.is_by_peer()), (TransferErrorKind::Refused, true));
            assert!(error.to_string().contains(text), "{error}");
            harness.end(&visitor);
            harness.end(&server);
            assert!(log.transfers().is_empty(), "a transfer was begun");
        }
    });
}

/// The answer of the callback counts, even if it has taken the responder. An accept with an invalid
/// name rejects the offer.
#[test]
fn an_offer_has_one_answer() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log, kept) = keeping(harness, harness.options());
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(OFFER, &offer(1, 0, b"forget"));
        assert_eq!(aborted(harness, &mut raw, 1), (1, "the program gave no answer".to_owned()));
        raw.send_frame(OFFER, &offer(3, 0, b"refuse"));
        assert_eq!(aborted(harness, &mut raw, 3), (1, "at once".to_owned()));
        next(harness, &kept).accept(&there.directory());
        raw.send_frame(OFFER, &offer(5, 0, b"other"));
        next(harness, &kept).accept(Destination::new(&there.directory()).named("../up"));
        assert_eq!(aborted(harness, &mut raw, 5).0, 8);
        // An effect of the ignored accept of offer 3 would have arrived before this abort.
        raw.send_frame(OFFER, &offer(7, 0, b"last"));
        drop(next(harness, &kept));
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!((kind, &payload[..4]), (ABORT, &7_u32.to_le_bytes()[..]));
        drop(raw);
        harness.end(&server);
        assert!(log.transfers().is_empty() && there.files().is_empty());
        assert!(there.parts().is_empty());
    });
}

#[test]
fn an_offer_that_is_not_answered_in_time_expires() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let options = harness.options().with(|o| o.connection.transfer_timeout_ms = 2_000);
        let (server, log, kept) = keeping(harness, options);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(OFFER, &offer(1, 10, b"file"));
        let responder = next(harness, &kept);
        harness.world().run_for(Duration::from_millis(1_900));
        assert!(raw.take_frame().is_none(), "the offer expired too early");
        let since = harness.world().now();
        assert_eq!(aborted(harness, &mut raw, 1).0, 12);
        assert!(harness.world().now() - since < Duration::from_millis(300));
        responder.accept(&there.directory());
        harness.world().run_for(Duration::from_secs(1));
        assert!(raw.take_frame().is_none(), "a late answer had an effect");
        assert!(there.files().is_empty() && there.parts().is_empty());
        // After an answer in time, the whole timeout of the transfer begins anew.
        raw.send_frame(OFFER, &offer(3, 10, b"file"));
        let responder = next(harness, &kept);
        harness.world().run_for(Duration::from_millis(1_900));
        responder.accept(&there.directory());
        assert_eq!(accepted(harness, &mut raw), (0, 10));
        harness.world().run_for(Duration::from_millis(1_500));
        raw.send_frame(CHUNK, &chunk(3, b"0123456789"));
        harness
            .wait_for("10 bytes in the part", || there.parts().iter().any(|part| part.len() == 10));
        drop(raw);
        harness.wait_for("the end of the connection", || log.ends().len() == 1);
        harness.end(&server);
        let kinds: Vec<_> = log.transfers().iter().map(failed).collect();
        assert_eq!(
            kinds,
            [Some(TransferErrorKind::Disconnected)],
            "the second offer was not reported exactly once"
        );
    });
}

#[test]
fn an_answer_for_a_connection_or_an_offer_that_is_gone_has_no_effect() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log, kept) = keeping(harness, harness.options());
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        // The peer aborts its offer before the answer.
        raw.send_frame(OFFER, &offer(1, 0, b"taken back"));
        let responder = next(harness, &kept);
        raw.send_frame(ABORT, &numbered(1, &[0, 0]));
        raw.send_frame(40, b"after it");
        harness.wait_for("the message", || log.order().iter().any(|word| word == "after it"));
        responder.accept(&there.directory());
        // The peer disconnects before the answers.
        let owned: Vec<_> = [3, 5, 7, 9]
            .map(|id| {
                raw.send_frame(OFFER, &offer(id, 0, b"file"));
                next(harness, &kept)
            })
            .into();
        let [gone, dropped, other, late] = owned.try_into().expect("four responders");
        assert!(raw.take_frame().is_none());
        drop(raw);
        harness.wait_for("the end of the connection", || server.stats().connections == 0);
        let mut next_peer = harness.dial(&server);
        greet(harness, &mut next_peer);
        gone.accept(&there.directory());
        drop(dropped);
        other.reject("too late");
        next_peer.send_frame(OFFER, &offer(3, 0, b"of another"));
        drop(next(harness, &kept));
        assert_eq!(aborted(harness, &mut next_peer, 3).0, 1);
        drop(next_peer);
        harness.end(&server);
        drop(server);
        late.accept(&there.directory());
        assert!(log.transfers().is_empty(), "a transfer was begun");
        assert!(there.files().is_empty() && there.parts().is_empty());
    });
}

#[test]
fn offers_that_wait_for_their_answers_count_as_transfers() {
    everywhere(|harness| {
        let there = harness.store("there");
        let options = harness.options().with(|o| {
            o.connection.max_transfers = 3;
            o.connection.heartbeat_ms = 0;
        });
        let (server, _, kept) = keeping(harness, options);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        let mut offers = Offers { raw: &mut raw, next: 1 };
        let mut owned: Vec<_> = (0..3).map(|_| offers.taken(harness, &kept)).collect();
        offers.busy(harness);
        // A rejection makes room for one more offer. An accepted offer still counts.
        drop(owned.pop());
        assert_eq!(aborted(harness, offers.raw, 5).0, 1);
        owned.push(offers.taken(harness, &kept));
        owned.remove(0).accept(&there.directory());
        assert_eq!(accepted(harness, offers.raw), (0, 10));
        offers.busy(harness);
        // An abort by the peer makes room, too.
        offers.raw.send_frame(ABORT, &numbered(3, &[0, 0]));
        owned.push(offers.taken(harness, &kept));
        offers.busy(harness);
        drop((owned, raw));
        harness.end(&server);
    });
}

/// A raw peer that sends offers, each with the next id.
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

    /// Sends an offer that the server keeps, and returns its responder.
    fn taken(&mut self, harness: &Harness<'_>, kept: &Kept) -> OwnedOfferResponder {
        self.offer();
        next(harness, kept)
    }

    /// Sends an offer that exceeds the bound, and checks that it is aborted.
    fn busy(&mut self, harness: &Harness<'_>) {
        let id = self.offer();
        assert_eq!(aborted(harness, self.raw, id).0, 5);
    }
}

/// A transfer has a slot, whose number has one byte. Offers that are accepted while all slots are
/// in use do no harm.
#[test]
fn offers_that_are_accepted_all_at_once_run_out_of_no_places() {
    in_simulation(|harness| {
        let disk = harness.world().disk("slow");
        let slow = disk.directory();
        let kept = Kept::default();
        let to = slow.clone();
        let handler = FileHandler::new().taking(slow.clone()).keeping(kept.clone()).on_received(
            move |peer| {
                for n in 0..100 {
                    let _ = peer.offer_file(Source::new(&to, format!("own {n}")));
                }
                Ok(())
            },
        );
        let log = handler.log.clone();
        let options = harness.options().with(|o| {
            o.connection.max_transfers = 100;
            o.connection.transfer_timeout_ms = 3_600_000;
            o.connection.heartbeat_ms = 0;
        });
        let server = harness.serve_with(handler, options);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        disk.hang();
        for n in 0..80_u32 {
            raw.send_frame(OFFER, &offer(2 * n + 1, 10, format!("later {n}").as_bytes()));
        }
        harness.wait_for("the offers", || kept.lock().unwrap().len() == 80);
        // The peer aborts these offers at once. Their slots stay in use, because their operations
        // hang.
        for n in 80..300_u32 {
            raw.send_frame(OFFER, &offer(2 * n + 1, 10, format!("now {n}").as_bytes()));
            raw.send_frame(ABORT, &numbered(2 * n + 1, &[0, 0]));
        }
        raw.send_frame(40, b"offer yours");
        harness.wait_for("the message", || !log.order().is_empty());
        harness.world().run_for(Duration::from_millis(10));
        let owned: Vec<_> = kept.lock().unwrap().drain(..).collect();
        owned.into_iter().for_each(|responder| responder.accept(&slow));
        harness.world().run_for(Duration::from_secs(1));
        assert_eq!(server.stats().panics, 0);
        assert!(log.ends().is_empty(), "{:?}", log.ends());
        disk.resume();
        raw.send_frame(40, b"still here");
        harness.wait_for("the message", || log.order().iter().any(|word| word == "still here"));
        drop(raw);
        harness.wait_for("the end of the connection", || log.ends().len() == 1);
        harness.end(&server);
    });
}
