//! Frames that arrive at an unusual moment, and their required effects.

use std::time::Duration;

use posthouse::{Close, DisconnectKind, TransferError, TransferErrorKind};

use super::file_handler::{FileHandler, failed, serve, serve_with};
use super::frames::{greet, greet_with, numbered, offer, offer_for};
use crate::harness::{Harness, Options, in_simulation, on_real_sockets};
use crate::raw::Raw;
use crate::store::content;

/// The number of files that are sent at the same time.
const FILES: u32 = 8;

fn quiet(harness: &Harness<'_>) -> Options {
    harness.options().with(|o| o.connection.heartbeat_ms = 0)
}

/// Leaves a part with the first 60,000 bytes of a file of 100,000 bytes.
fn hold(
    harness: &Harness<'_>,
    server: &posthouse::Endpoint<FileHandler>,
    there: &crate::store::Store,
) {
    let mut raw = harness.dial(server);
    greet(harness, &mut raw);
    raw.send_frame(10, &offer(1, 100_000, b"file"));
    assert_eq!(harness.read_frame(&mut raw).0, 11);
    raw.send_frame(12, &numbered(1, &content(1, 60_000)));
    harness.wait_for("the part", || there.parts().iter().any(|p| p.len() == 60_000));
    raw.finish();
    harness.wait_for_end(&mut raw);
}

fn frames(harness: &Harness<'_>, raw: &mut Raw) -> Vec<(u8, Vec<u8>)> {
    harness.wait_for_end(raw);
    std::iter::from_fn(|| raw.take_frame()).collect()
}

/// The sender's repeated offer crosses the receiver's abort.
#[test]
fn a_repeated_offer_of_what_is_over_is_ignored() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(
            harness,
            &there.directory(),
            quiet(harness).with(|o| o.connection.transfer_timeout_ms = 2000),
        );
        hold(harness, &server, &there);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(10, &offer(1, 100_000, b"file"));
        assert_eq!(harness.read_frame(&mut raw).0, 11);
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!(
            (kind, payload[4]),
            (15, 12),
            "the transfer did not expire while the sender compared the prefix"
        );
        raw.send_frame(10, &offer(1, 100_000, b"file"));
        raw.send_frame(10, &offer(3, 0, b"next"));
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!(kind, 11, "{kind} {:?} {:?}", String::from_utf8_lossy(&payload), log.ends());
        harness.end(&server);
    });
}

/// The prefixes of two accepts in a row differ from the file.
#[test]
fn a_second_difference_is_abort_3() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", &content(1, 100_000));
        let (server, _) = serve_with(harness, &there.directory(), quiet(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(18, &numbered(1, b"file"));
        for _ in 0..2 {
            let (kind, payload) = harness.read_frame(&mut raw);
            assert_eq!((kind, payload[0]), (10, 2));
            let accept =
                [&50_000_u64.to_le_bytes()[..], &100_000_u64.to_le_bytes(), &[9; 32]].concat();
            raw.send_frame(11, &numbered(2, &accept));
        }
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!((kind, payload[4]), (15, 3));
        harness.end(&server);
    });
}

/// If another file of the same size and time replaced the sender's file, the receiver keeps its
/// bytes, because the next attempt can resume with them. If the size or the time changed, it
/// discards them.
#[test]
fn bytes_of_a_replaced_file_are_kept_and_those_of_a_changed_one_are_not() {
    in_simulation(|harness| {
        for (code, kind) in [(18, TransferErrorKind::Replaced), (9, TransferErrorKind::Changed)] {
            let there = harness.store(&format!("there {code}"));
            let (server, log) = serve_with(harness, &there.directory(), quiet(harness));
            let mut raw = harness.dial(&server);
            greet(harness, &mut raw);
            raw.send_frame(10, &offer(1, 100_000, b"file"));
            assert_eq!(harness.read_frame(&mut raw).0, 11);
            raw.send_frame(12, &numbered(1, &content(1, 60_000)));
            harness.wait_for("the part", || there.parts().iter().any(|p| p.len() == 60_000));
            raw.send_frame(15, &numbered(1, &[code, 0]));
            let transfer = log.wait(harness, 1);
            assert_eq!(failed(&transfer), Some(kind));
            assert!(transfer.result().is_err_and(TransferError::is_passing), "{kind:?}");
            raw.finish();
            harness.wait_for_end(&mut raw);
            harness.end(&server);
            assert_eq!(there.parts().len(), usize::from(code == 18), "{kind:?}");
        }
    });
}

/// The offer does not fit into the peer's largest payload.
#[test]
fn a_get_whose_offer_does_not_fit_is_aborted_by_its_own_number() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let name = "n".repeat(45);
        there.write(&name, b"x");
        let (server, _) = serve_with(harness, &there.directory(), quiet(harness));
        let mut raw = harness.dial(&server);
        greet_with(harness, &mut raw, 64);
        raw.send_frame(18, &numbered(1, name.as_bytes()));
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!(
            (kind, payload[0], payload[4]),
            (15, 1, 8),
            "the id or the code of the abort is wrong"
        );
        harness.end(&server);
    });
}

/// An entry that does not fit into the peer's largest payload does not end the listing.
#[test]
fn a_name_that_does_not_fit_does_not_hide_those_after_it() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write(&"b".repeat(45), b"x");
        there.write("c", b"x");
        let (server, _) = serve_with(harness, &there.directory(), quiet(harness));
        let mut raw = harness.dial(&server);
        greet_with(harness, &mut raw, 64);
        raw.send_frame(19, &numbered(1, b""));
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!(kind, 20);
        assert!(payload.len() > 5, "an empty listing with flags {}", payload[4]);
        harness.end(&server);
    });
}

/// The peer sends done, and then ends its side of the stream.
#[test]
fn what_was_sent_before_a_half_close_is_confirmed() {
    in_simulation(|harness| {
        let hash = hash_of(harness, &content(1, 1000));
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), quiet(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        let body = content(1, 1000);
        raw.send_frame(10, &offer(1, 1000, b"file"));
        assert_eq!(harness.read_frame(&mut raw).0, 11);
        raw.send_frame(12, &numbered(1, &body));
        raw.send_frame(14, &numbered(1, &hash));
        raw.finish();
        let kinds: Vec<u8> = frames(harness, &mut raw).iter().map(|f| f.0).collect();
        drop(raw);
        harness.wait_for("the end of the connection", || log.ends().len() == 1);
        let end = log.transfers().first().and_then(failed);
        harness.end(&server);
        assert_eq!(kinds, [14, 5], "the transfer ended with {end:?}");
    });
}
/// Returns the BLAKE3 hash of the bytes, as a transfer of them reports it.
fn hash_of(harness: &Harness<'_>, bytes: &[u8]) -> [u8; 32] {
    let from = harness.store("to be hashed");
    let to = harness.store("hashed");
    from.write("bytes", bytes);
    let handler = FileHandler::new().taking(to.directory());
    let address = if harness.is_real() { "127.0.0.1:0" } else { "10.9.9.9:1" };
    let builder = harness.options().builder(handler, address);
    let server = harness.start(builder);
    let client = harness.client(&server);
    let hash = client.put("bytes", &from.directory()).expect("the file arrives");
    client.close();
    harness.end(&server);
    hash
}

/// A peer that only transfers files sends no message. The timeout for the first message does not
/// end its connection.
#[test]
fn a_peer_that_sends_a_file_is_not_silent() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(
            harness,
            &there.directory(),
            quiet(harness).with(|o| o.connection.first_message_timeout_ms = 1000),
        );
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(10, &offer(1, 1_000_000, b"file"));
        assert_eq!(harness.read_frame(&mut raw).0, 11);
        for _ in 0..10 {
            raw.send_frame(12, &numbered(1, &[7; 1000]));
            harness.world().run_for(Duration::from_millis(300));
        }
        assert!(!raw.is_over(), "{:?}", log.ends());
        harness.end(&server);
    });
}

/// The empty part of an offer that is aborted at once is removed.
#[test]
fn an_offer_that_is_aborted_at_once_leaves_nothing() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let quota = there.directory().with_quota(1 << 20, 10).unwrap();
        let (server, log) = serve_with(harness, &quota, quiet(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        for n in 0..200_u32 {
            raw.send_frame(10, &offer(2 * n + 1, 10, format!("f{n}").as_bytes()));
            raw.send_frame(15, &numbered(2 * n + 1, &[0, 0]));
        }
        raw.send_frame(40, b"after");
        harness.wait_for("the message", || log.order().iter().any(|m| m == "after"));
        raw.finish();
        harness.wait_for_end(&mut raw);
        harness.end(&server);
        assert_eq!(there.parts().len(), 0, "empty parts are left");
    });
}

/// The number of parts is bounded by the quota, also if each part has only one byte.
#[test]
fn parts_count_among_the_files_of_a_quota() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let quota = there.directory().with_quota(1 << 20, 10).unwrap();
        let (server, _) = serve_with(harness, &quota, quiet(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        let mut accepted = 0;
        for n in 0..200_u32 {
            raw.send_frame(10, &offer(2 * n + 1, 10, format!("f{n}").as_bytes()));
            let (kind, _) = harness.read_frame(&mut raw);
            if kind == 11 {
                accepted += 1;
                raw.send_frame(12, &numbered(2 * n + 1, b"x"));
                raw.send_frame(15, &numbered(2 * n + 1, &[0, 0]));
            }
        }
        raw.finish();
        harness.wait_for_end(&mut raw);
        harness.end(&server);
        assert!(
            there.parts().len() <= 10,
            "more than 10 parts are left of {accepted} accepted offers"
        );
    });
}

/// A transfer has a slot, whose number has one byte. Offers that answer gets use slots, too, but do
/// not count as offers.
#[test]
fn no_peer_runs_out_of_places() {
    // The defaults, and then the maximum numbers of transfers and of messages in a turn.
    for (gets, turn_messages) in [(16, 64), (100, 1000)] {
        in_simulation(|harness| run_out_of_places(harness, gets, turn_messages));
    }
}

/// Sends many offers and aborts each at once. Then answers the gets of the server with offers.
fn run_out_of_places(harness: &Harness<'_>, gets: u32, turn_messages: usize) {
    let here = harness.store("here");
    let there = harness.store("there");
    let directory = here.directory();
    let handler = FileHandler::new().taking(there.directory()).on_received(move |peer| {
        for n in 0..gets {
            let _ = peer.fetch_file(&format!("g{n}"), &directory);
        }
        Ok(())
    });
    let log = handler.log.clone();
    let tuning = harness.options().tuning.with_turn_messages(turn_messages);
    let server = harness.serve_with(
        handler,
        quiet(harness).with(|o| {
            o.connection.max_transfers = gets as usize;
            o.tuning = tuning;
        }),
    );
    let mut raw = harness.dial(&server);
    greet(harness, &mut raw);
    raw.send_frame(40, b"get");
    for n in 0..gets {
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!((kind, u32::from(payload[0]) + 256 * u32::from(payload[1])), (18, 2 * n + 2));
    }
    let mut bytes = Vec::new();
    for n in 0..250_u32 {
        bytes.extend(crate::raw::frame(10, &offer(2 * n + 1, 10, format!("f{n}").as_bytes())));
        bytes.extend(crate::raw::frame(15, &numbered(2 * n + 1, &[0, 0])));
    }
    for n in 0..gets {
        let p = offer_for(501 + 2 * n, 2 * n + 2, 10, format!("g{n}").as_bytes());
        bytes.extend(crate::raw::frame(10, &p));
    }
    bytes.extend(crate::raw::frame(40, b"again"));
    raw.send(&bytes);
    harness.wait_for("the message", || {
        log.order().iter().any(|m| m == "again") || !log.ends().is_empty() || raw.is_over()
    });
    assert!(log.ends().is_empty(), "{:?}", log.ends());
    harness.end(&server);
}

/// Lists beyond the maximum number of transfers wait for their turn.
#[test]
fn lists_wait_like_offers() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("a", b"x");
        let (server, _) = serve(harness, &there.directory());
        let results = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = results.clone();
        let (visitor, _) = super::file_handler::visit(harness, &server, move |peer| {
            for _ in 0..20 {
                let kept = kept.clone();
                peer.list_files("", move |_, listed| {
                    kept.lock()
                        .unwrap()
                        .push(listed.map(|l| l.files.len()).map_err(|e| e.to_string()));
                    Ok(())
                });
            }
            Ok(())
        });
        harness.wait_for("20 lists", || results.lock().unwrap().len() == 20);
        harness.end(&visitor);
        harness.end(&server);
        let results = results.lock().unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    });
}

/// The peer sends a credit after the accept that made the sender repeat its offer.
#[test]
fn credit_that_crosses_a_repeated_offer_does_no_harm() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", &content(1, 100_000));
        let (server, _) = serve_with(harness, &there.directory(), quiet(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(18, &numbered(1, b"file"));
        assert_eq!(harness.read_frame(&mut raw).0, 10);
        let word = |n: u64| n.to_le_bytes();
        raw.send_frame(11, &numbered(2, &[&word(50_000)[..], &word(50_000), &[9; 32]].concat()));
        assert_eq!(harness.read_frame(&mut raw).0, 10, "the offer was not repeated");
        raw.send_frame(13, &numbered(2, &word(100_000)));
        let hash = hash_of(harness, b"");
        raw.send_frame(11, &numbered(2, &[&word(0)[..], &word(100_000), &hash].concat()));
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!(kind, 12, "{:?}", String::from_utf8_lossy(&payload));
        harness.end(&server);
    });
}

/// An abort and the end of the connection arrive between the sender's done and the publication.
#[test]
fn what_is_published_all_the_same_leaves_no_part() {
    in_simulation(|harness| {
        let hash = hash_of(harness, &content(1, 1000));
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), quiet(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(10, &offer(1, 1000, b"file"));
        assert_eq!(harness.read_frame(&mut raw).0, 11);
        raw.send_frame(12, &numbered(1, &content(1, 1000)));
        harness.wait_for("the written bytes", || there.parts().iter().any(|p| p.len() == 1000));
        harness.world().run_for(Duration::from_millis(100));
        raw.send_frame(14, &numbered(1, &hash));
        raw.send_frame(15, &numbered(1, &[0, 0]));
        raw.finish();
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.wait_for("the end of the connection", || log.ends().len() == 1);
        harness.end(&server);
        let told = log.transfers().first().and_then(failed);
        assert_eq!(
            there.parts().len(),
            0,
            "a part is left; files {:?}, reported {told:?}",
            there.files()
        );
        assert_eq!(
            there.files().is_empty(),
            told.is_some(),
            "the files contradict the reported result {told:?}"
        );
    });
}

/// The disk completes reads of files while the connection is being closed.
#[test]
fn no_chunk_follows_a_bye() {
    in_simulation(|harness| {
        let hash = hash_of(harness, b"");
        let there = harness.store("there");
        for n in 0..FILES {
            there.write(&format!("f{n}"), &content(1, 20_000));
        }
        let tuning = harness.options().tuning.with_chunk_bytes(1024);
        let (server, _) =
            serve_with(harness, &there.directory(), quiet(harness).with(|o| o.tuning = tuning));
        for moment in 0..40 {
            let mut raw = harness.dial(&server);
            greet(harness, &mut raw);
            for n in 0..FILES {
                raw.send_frame(18, &numbered(2 * n + 1, format!("f{n}").as_bytes()));
            }
            let limit = 20_000_u64.to_le_bytes();
            let mut offers = 0;
            while offers < FILES {
                let (kind, payload) = harness.read_frame(&mut raw);
                if kind == 10 {
                    offers += 1;
                    raw.send_frame(11, &[&payload[..4], &[0; 8], &limit, &hash].concat());
                }
            }
            harness.world().run_for(Duration::from_micros(50 * moment));
            let peer = server.peers().pop().expect("the peer is connected");
            server.close(peer.id, Close::graceful()).expect("no limit is reached");
            let kinds: Vec<u8> = frames(harness, &mut raw).iter().map(|frame| frame.0).collect();
            assert_eq!(
                kinds.iter().position(|kind| *kind == 5),
                Some(kinds.len() - 1),
                "{kinds:?}"
            );
        }
        harness.end(&server);
    });
}

/// The peer requests a file and does not answer the offer.
#[test]
fn an_offer_that_is_never_answered_is_given_up() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", b"x");
        let (server, log) = serve_with(
            harness,
            &there.directory(),
            quiet(harness).with(|o| o.connection.transfer_timeout_ms = 2000),
        );
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(18, &numbered(1, b"file"));
        assert_eq!(harness.read_frame(&mut raw).0, 10);
        harness.world().run_for(Duration::from_secs(30));
        assert_eq!(log.transfers().len(), 1);
        harness.end(&server);
    });
}

/// A chunk with a skipped lower id is ignored. A get with a lower id than that of an earlier offer
/// ends the connection as a protocol violation.
#[test]
fn frames_of_lies_are_the_reason() {
    on_real_sockets(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), quiet(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        // The offer skips id 3. A chunk with id 3 is ignored, and a get with id 3 ends the
        // connection.
        raw.send_frame(10, &offer(5, 0, b"five"));
        assert_eq!(harness.read_frame(&mut raw).0, 11);
        raw.send_frame(12, &numbered(3, b"x"));
        raw.send_frame(18, &numbered(3, b"x"));
        harness.wait_for_end(&mut raw);
        let kinds: Vec<u8> = frames(harness, &mut raw).iter().map(|f| f.0).collect();
        drop(raw);
        harness.wait_for("the end of the connection", || log.ends().len() == 1);
        assert_eq!(log.ends()[0].kind(), DisconnectKind::Protocol);
        assert_eq!(kinds, [5]);
        harness.end(&server);
    });
}
