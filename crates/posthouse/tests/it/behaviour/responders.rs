//! Requests that are answered later, or never.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{DisconnectKind, Endpoint, OwnedResponder, SendError};

use crate::harness::{Harness, Options, everywhere, in_simulation, on_real_sockets};
use crate::probe::{Probe, Seen};
use crate::raw::{Raw, bye, hello, request};

/// The text of the rejection that a server sends if the program does not answer.
const FORGOTTEN: &[u8] = b"the program gave no answer";

/// The responders that the handler has kept.
type Kept = Arc<Mutex<Vec<OwnedResponder>>>;

/// A server that keeps every request.
fn keeping(harness: &Harness<'_>, options: Options) -> (Endpoint<Probe>, Seen, Kept) {
    let kept = Kept::default();
    let responders = kept.clone();
    let probe = Probe::new().on_requested(move |_, _, responder| {
        responders.lock().unwrap().extend(responder.take());
        Ok(())
    });
    let seen = probe.seen();
    (harness.serve_with(probe, options), seen, kept)
}

/// A peer that has exchanged hellos with the server.
fn greeted<H: posthouse::Handler>(harness: &Harness<'_>, server: &Endpoint<H>, takes: u32) -> Raw {
    let mut raw = harness.dial(server);
    raw.send(&hello(0, takes));
    assert_eq!(harness.read_frame(&mut raw).0, 4);
    raw
}

/// Sends a request, and returns its responder.
fn ask(harness: &Harness<'_>, raw: &mut Raw, kept: &Kept, id: u32) -> OwnedResponder {
    raw.send(&request(id, 40, b"?"));
    harness.until("the request", || kept.lock().unwrap().pop())
}

/// Expects the answer to this request as the next frame, and returns its status and payload.
fn answer(harness: &Harness<'_>, raw: &mut Raw, id: u32) -> (u8, Vec<u8>) {
    let (kind, body) = harness.read_frame(raw);
    assert_eq!((kind, &body[..4]), (9, &id.to_le_bytes()[..]), "an answer: {body:?}");
    (body[4], body[6..].to_vec())
}

#[test]
fn a_request_that_is_neither_answered_nor_taken_is_rejected() {
    everywhere(|harness| {
        let server = harness.serve(Probe::new().on_requested(|peer, _, _| {
            peer.send(41, b"said in the callback");
            Ok(())
        }));
        let mut raw = greeted(harness, &server, 1 << 20);
        for id in [7, 8] {
            raw.send(&request(id, 40, b"?"));
            assert_eq!(harness.read_frame(&mut raw), (41, b"said in the callback".to_vec()));
            assert_eq!(answer(harness, &mut raw, id), (1, FORGOTTEN.to_vec()));
        }
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_request_whose_responder_is_dropped_is_rejected() {
    everywhere(|harness| {
        let (server, _, kept) = keeping(harness, harness.options());
        let mut raw = greeted(harness, &server, 1 << 20);
        let responder = ask(harness, &mut raw, &kept, 7);
        assert!(raw.take_frame().is_none(), "the kept request was answered");
        drop(responder);
        assert_eq!(answer(harness, &mut raw, 7), (1, FORGOTTEN.to_vec()));
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_request_can_be_answered_from_another_thread() {
    on_real_sockets(|harness| {
        let (server, seen, kept) = keeping(harness, harness.options());
        let mut raw = greeted(harness, &server, 1 << 20);
        let responder = ask(harness, &mut raw, &kept, 7);
        assert_eq!(responder.peer(), seen.connected()[0]);
        let thread = std::thread::spawn(move || responder.reply(42, b"from afar"));
        assert_eq!(thread.join().expect("no thread panicked"), Ok(()));
        assert_eq!(answer(harness, &mut raw, 7), (0, b"from afar".to_vec()));
        let responder = ask(harness, &mut raw, &kept, 8);
        std::thread::spawn(move || responder.reject("not today"))
            .join()
            .expect("no thread panicked");
        assert_eq!(answer(harness, &mut raw, 8), (1, b"not today".to_vec()));
        drop(raw);
        harness.end(&server);
    });
}

/// Each kept request counts towards the limit until it is answered.
#[test]
fn a_kept_request_has_a_place_until_it_is_answered() {
    everywhere(|harness| {
        let options = harness.options().with(|o| o.connection.max_requests = 2);
        let (server, _, kept) = keeping(harness, options);
        let mut raw = greeted(harness, &server, 1 << 20);
        let first = ask(harness, &mut raw, &kept, 1);
        let second = ask(harness, &mut raw, &kept, 2);
        raw.send(&request(3, 40, b"?"));
        let (status, text) = answer(harness, &mut raw, 3);
        assert_eq!((status, &text[..8]), (1, &b"too many"[..]));
        drop(first);
        assert_eq!(answer(harness, &mut raw, 1).0, 1);
        let fourth = ask(harness, &mut raw, &kept, 4);
        second.reply(0, b"late").expect("the connection is open");
        assert_eq!(answer(harness, &mut raw, 2), (0, b"late".to_vec()));
        fourth.reply(0, b"later").expect("the connection is open");
        assert_eq!(answer(harness, &mut raw, 4), (0, b"later".to_vec()));
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_responder_outlives_its_connection_and_its_endpoint_and_keeps_neither() {
    everywhere(|harness| {
        let kept = Kept::default();
        let responders = kept.clone();
        let alive = Arc::new(());
        let gone = Arc::downgrade(&alive);
        let probe = Probe::new().on_requested(move |_, _, responder| {
            let _ = &alive;
            responders.lock().unwrap().extend(responder.take());
            Ok(())
        });
        let server = harness.serve(probe);
        let mut raw = greeted(harness, &server, 1 << 20);
        let mut owned: Vec<OwnedResponder> =
            (0..9).map(|id| ask(harness, &mut raw, &kept, id)).collect();
        let mut three = || owned.drain(..3).collect::<Vec<_>>().into_iter();
        let use_up = |mut three: std::vec::IntoIter<OwnedResponder>| {
            let reply = three.next().expect("three responders").reply(0, b"too late");
            assert_eq!(reply, Err(SendError::NotConnected));
            three.next().expect("three responders").reject("too late");
            drop(three);
        };
        drop(raw);
        harness.wait_for("the end of the connection", || server.stats().connections == 0);
        // Another connection has the slot now, and gets none of the answers.
        let mut other = greeted(harness, &server, 1 << 20);
        use_up(three());
        let late = ask(harness, &mut other, &kept, 1);
        late.reply(0, b"to you").expect("the connection is open");
        assert_eq!(answer(harness, &mut other, 1), (0, b"to you".to_vec()));
        drop(other);
        assert_eq!(harness.end(&server).panics, 0);
        use_up(three());
        drop(server);
        harness.wait_for("the end of the handler", || gone.strong_count() == 0);
        use_up(three());
    });
}

#[test]
fn a_kept_reply_that_is_too_large_is_an_error_and_the_request_is_rejected() {
    everywhere(|harness| {
        let (server, seen, kept) = keeping(harness, harness.options());
        let mut raw = greeted(harness, &server, 100);
        let responder = ask(harness, &mut raw, &kept, 7);
        let error = responder.reply(0, &[0; 95]).expect_err("the head takes six more");
        assert_eq!(error, SendError::TooLarge { bytes: 101, max_bytes: 100 });
        assert_eq!(answer(harness, &mut raw, 7), (1, FORGOTTEN.to_vec()));
        ask(harness, &mut raw, &kept, 8).reply(0, &[1; 94]).expect("the reply just fits");
        assert_eq!(answer(harness, &mut raw, 8), (0, vec![1; 94]));
        // A text is cut between two characters.
        ask(harness, &mut raw, &kept, 9).reject(&format!("x{}", "ü".repeat(60)));
        let text = format!("x{}", "ü".repeat(46)).into_bytes();
        assert_eq!(answer(harness, &mut raw, 9), (1, text));
        assert!(seen.ends().is_empty());
        drop(raw);
        harness.end(&server);
    });
}

/// A callback has no way to return the error of the reply, so the connection is closed, as after
/// any invalid message.
#[test]
fn a_reply_in_the_callback_that_is_too_large_closes_with_the_reason() {
    everywhere(|harness| {
        let probe = Probe::new().on_requested(|_, _, responder| {
            responder.reply(0, &[0; 95]);
            responder.reply(0, b"and this changes nothing");
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = greeted(harness, &server, 100);
        raw.send(&request(7, 40, b"?"));
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, bye(&body).0), (5, 8));
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        let why = seen.ends()[0].clone();
        assert_eq!(why.kind(), DisconnectKind::Unsendable);
        assert!(why.to_string().contains("101 bytes, at most 100"), "{why}");
        harness.end(&server);
    });
}

#[test]
fn a_rejection_has_its_place_where_nothing_else_has_one() {
    everywhere(|harness| {
        let size = if harness.is_real() { 16_000_000 } else { 600_000 };
        let options = harness.options().with(|o| {
            o.connection.max_frame_bytes = size;
            o.connection.send_queue_bytes = size;
        });
        let (server, seen, kept) = keeping(harness, options);
        let mut raw = greeted(harness, &server, 16 << 20);
        let reply = ask(harness, &mut raw, &kept, 1);
        let dropped = ask(harness, &mut raw, &kept, 2);
        raw.stop_reading();
        let id = seen.connected()[0];
        server.send(id, 41, &vec![0; size]).expect("a message alone in the queue always fits");
        let error = reply.reply(0, &vec![0; size - 10]).expect_err("no room");
        assert!(matches!(error, SendError::QueueFull { .. }), "{error}");
        drop(dropped);
        raw.resume_reading();
        assert_eq!(harness.read_frame(&mut raw), (41, vec![0; size]));
        assert_eq!(answer(harness, &mut raw, 1), (1, FORGOTTEN.to_vec()));
        assert_eq!(answer(harness, &mut raw, 2), (1, FORGOTTEN.to_vec()));
        assert!(seen.ends().is_empty());
        drop(raw);
        harness.end(&server);
    });
}

/// The simulated world stands still between two calls of the test, so no worker takes the posts.
#[test]
fn answers_find_room_where_too_much_posted_work_waits() {
    in_simulation(|harness| {
        let options = harness.options().with(|o| o.tuning.max_posts = 10);
        let (server, seen, kept) = keeping(harness, options);
        let mut raw = greeted(harness, &server, 1 << 20);
        let owned: Vec<_> = (0..3).map(|id| ask(harness, &mut raw, &kept, id)).collect();
        let id = seen.connected()[0];
        let posts = (0..100).take_while(|_| server.send(id, 41, b"").is_ok()).count();
        assert_eq!(server.send(id, 41, b""), Err(SendError::Busy));
        let [reply, rejected, dropped] = owned.try_into().expect("three responders");
        reply.reply(0, b"here").expect("a reply is never rejected as busy");
        rejected.reject("no");
        drop(dropped);
        for _ in 0..posts {
            assert_eq!(harness.read_frame(&mut raw).0, 41);
        }
        assert_eq!(answer(harness, &mut raw, 0), (0, b"here".to_vec()));
        assert_eq!(answer(harness, &mut raw, 1), (1, b"no".to_vec()));
        assert_eq!(answer(harness, &mut raw, 2), (1, FORGOTTEN.to_vec()));
        drop(raw);
        harness.wait_for("the end of the connection", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// An error ends the connection, and the answer that was given before the error is still sent.
#[test]
fn an_answer_leaves_although_the_callback_fails() {
    everywhere(|harness| {
        let server = harness.serve(Probe::new().on_requested(|_, message, responder| {
            responder.reply(0, message.payload());
            Err(posthouse::Close::with_code(1_000, "and that is all"))
        }));
        let mut raw = greeted(harness, &server, 1 << 20);
        raw.send(&request(7, 40, b"?"));
        assert_eq!(answer(harness, &mut raw, 7), (0, b"?".to_vec()));
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, bye(&body)), (5, (1_000, "and that is all".to_owned())));
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.wait_for("the end of the connection", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// A responder that is dropped by a panic of its callback.
#[test]
fn a_panic_with_a_responder_in_hand_is_contained() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo().on_requested(|_, _, responder| {
            let _taken = responder.take();
            panic!("panic while the callback owns a responder");
        }));
        let mut raw = greeted(harness, &server, 1 << 20);
        raw.send(&request(7, 40, b"?"));
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.serves(&server);
        harness.wait_for("the ends of both connections", || server.stats().connections == 0);
        assert_eq!(harness.end(&server).panics, 1);
    });
}

#[test]
fn a_request_that_waits_for_its_answer_does_not_outlive_a_shutdown() {
    everywhere(|harness| {
        let (server, seen, kept) = keeping(harness, harness.options());
        let mut raw = greeted(harness, &server, 1 << 20);
        let responder = ask(harness, &mut raw, &kept, 7);
        server.shutdown(Duration::from_secs(1));
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.ended(&server);
        assert_eq!(responder.reply(0, b"late"), Err(SendError::NotConnected));
        assert_eq!(seen.ends().len(), 1);
    });
}
