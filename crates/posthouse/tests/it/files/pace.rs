//! The framework reads more slowly from an address that causes rejections, failed transfers,
//! listings or small pieces of frames without end: threats T28, T29 and T31. No frame is lost.

use std::sync::Arc;
use std::time::Duration;

use posthouse::sim::Faults;
use posthouse::{DisconnectKind, Endpoint, Source};

use super::file_handler::{FileHandler, serve_with};
use super::frames::{
    ABORT, ACCEPT, CHUNK, DONE, GET, LIST, LISTED, OFFER, accepted, greet_with, numbered, offer,
    peer_from,
};
use crate::harness::{Harness, Options, in_simulation};
use crate::raw::{Raw, frame};

/// Returns options that allow an address this number of rejections per second, and four times as
/// many at once. What a peer sends at once arrives in one piece, because small pieces count.
fn options(harness: &Harness<'_>, per_second: u64) -> Options {
    harness.world().faults(Faults { partial_receive_ppm: 0, ..Faults::typical() });
    harness.options().with(|o| {
        o.endpoint.max_rejections_per_second = per_second;
        o.connection.heartbeat_ms = 0;
    })
}

/// Waits until each peer has received `count` frames of this kind. Returns the time that it took.
fn answers(harness: &Harness<'_>, raws: &mut [Raw], kind: u8, count: usize) -> Duration {
    let begun = harness.world().now();
    for raw in raws {
        for _ in 0..count {
            while harness.read_frame(raw).0 != kind {}
        }
    }
    harness.world().now() - begun
}

#[test]
fn rejections_are_paced_for_each_address_and_each_is_sent() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 100));
        let mut raws: Vec<Raw> = (0..3).map(|_| peer_from(harness, &server, 1)).collect();
        let ids = || (0..600_u32).map(|n| 2 * n + 1);
        for raw in &mut raws {
            ids().for_each(|id| raw.send_frame(GET, &numbered(id, b"/")));
        }
        harness.wait_for("a pause", || server.stats().rejection_pauses > 0);
        let mut other = [peer_from(harness, &server, 2)];
        other[0].send_frame(GET, &numbered(1, b"/"));
        let took = answers(harness, &mut other, ABORT, 1);
        assert!(took < Duration::from_secs(1), "another address waited {took:?}");
        // Of the 1,800 rejections, 400 are free.
        let took = answers(harness, &mut raws, ABORT, 600);
        assert!((11..18).contains(&took.as_secs()), "{took:?}");
        drop((raws, other));
        harness.end(&server);
    });
}

#[test]
fn failed_transfers_and_listings_count_as_rejections() {
    in_simulation(|harness| {
        let there = harness.store("there");
        (0..500).for_each(|n| there.write(&format!("{n:04}"), b"other"));
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 20));
        // Each of the 40 failures costs five units. Of these 200 units, 80 are free.
        let mut raws = [peer_from(harness, &server, 1)];
        let mut took = Duration::ZERO;
        for n in 0..40 {
            let name = format!("{n:04}");
            raws[0].send_frame(OFFER, &offer(2 * n + 1, 9, name.as_bytes()));
            took += answers(harness, &mut raws, ABORT, 1);
        }
        assert!((5..8).contains(&took.as_secs()), "{took:?}");
        // Each of the 40 listings has 500 names in 13 KiB, and costs four units. Of these 160
        // units, 80 are free.
        let mut raws = [peer_from(harness, &server, 2)];
        let mut took = Duration::ZERO;
        for n in 0..40 {
            raws[0].send_frame(LIST, &numbered(2 * n + 1, b""));
            took += answers(harness, &mut raws, LISTED, 1);
        }
        assert!((3..8).contains(&took.as_secs()), "{took:?}");
        drop(raws);
        harness.end(&server);
    });
}

/// A peer whose frames have no room for the names of the files gets an empty listing after all of
/// them were looked at.
#[test]
fn names_that_fit_no_frame_of_the_peer_count_as_rejections() {
    in_simulation(|harness| {
        let there = harness.store("there");
        (0..1100).for_each(|n| there.write(&format!("{n:060}"), b""));
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 10));
        let address = server.addresses()[0].to_string();
        let mut raws = [Raw::simulated(harness.world().dial(&address))];
        greet_with(harness, &mut raws[0], 64);
        // 5 listings that pass 1,024 names: of 85 units, 40 are free.
        let mut took = Duration::ZERO;
        for n in 0..5 {
            raws[0].send_frame(LIST, &numbered(2 * n + 1, b""));
            took += answers(harness, &mut raws, LISTED, 1);
        }
        assert!((2..6).contains(&took.as_secs()), "{took:?}");
        drop(raws);
        harness.end(&server);
    });
}

/// Pauses all connections of the address of `host` for several seconds.
fn pause(harness: &Harness<'_>, server: &Endpoint<FileHandler>, host: u8) -> Vec<Raw> {
    let mut crowd: Vec<Raw> = (0..120).map(|_| peer_from(harness, server, host)).collect();
    for raw in &mut crowd {
        (0..30_u32).for_each(|n| raw.send_frame(GET, &numbered(2 * n + 1, b"/")));
    }
    harness.wait_for("the pauses", || server.stats().rejection_pauses > 100);
    crowd
}

/// An offer keeps a file open until it is accepted or rejected. Its answer waits neither for the
/// end of the pause nor for queued lists. Only the next count has its time, a second after the
/// last one.
#[test]
fn the_offers_of_a_peer_that_is_not_read_hold_up_nobody() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("large", &[7; 100]);
        let quota = there.directory().with_quota(104, 10).expect("the files can be counted");
        let options = options(harness, 20).with(|o| o.endpoint.max_open_files = 2);
        let (server, _) = serve_with(harness, &quota, options);
        let slow = Duration::from_millis(100);
        let faults = Faults { immediate_ppm: 0, disk_delay: slow..=slow, ..Faults::none() };
        harness.world().faults(faults);
        let mut other = peer_from(harness, &server, 2);
        other.send_frame(OFFER, &offer(1, 5, b"no room, either"));
        answers(harness, std::slice::from_mut(&mut other), ABORT, 1);
        let crowd = pause(harness, &server, 1);
        let mut raw = peer_from(harness, &server, 1);
        raw.send_frame(OFFER, &offer(1, 5, b"no room"));
        raw.send_frame(LIST, &numbered(3, b""));
        (2..30_u32).for_each(|n| raw.send_frame(GET, &numbered(2 * n + 1, b"/")));
        harness.wait_for("an open part", || server.stats().open_files == 1);
        let begun = harness.world().now();
        other.send_frame(OFFER, &offer(3, 4, b"room"));
        accepted(harness, &mut other);
        let took = harness.world().now() - begun;
        assert!(took < Duration::from_secs(3), "{took:?}");
        drop((crowd, raw, other));
        harness.end(&server);
    });
}

#[test]
fn without_a_limit_nothing_is_paced() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 0));
        let mut raws = [peer_from(harness, &server, 1)];
        (0..900_u32).for_each(|n| raws[0].send_frame(GET, &numbered(2 * n + 1, b"/")));
        let took = answers(harness, &mut raws, ABORT, 900);
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(server.stats().rejection_pauses, 0);
        drop(raws);
        harness.end(&server);
    });
}

/// The pause is for what the peer requests, not for what this side sends.
#[test]
fn a_pause_does_not_hold_up_the_requests_of_this_side() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 20));
        let mut raw = peer_from(harness, &server, 1);
        let peer = server.peers()[0].id;
        let crowd = pause(harness, &server, 1);
        raw.send_frame(GET, &numbered(1, b"/"));
        answers(harness, std::slice::from_mut(&mut raw), ABORT, 1);
        let directory = there.directory();
        let fetch = server.run(peer, move |peer| {
            peer.fetch_file("file", &directory);
            Ok(())
        });
        fetch.expect("the peer is connected");
        let took = answers(harness, std::slice::from_mut(&mut raw), GET, 1);
        assert!(took < Duration::from_secs(1), "{took:?}");
        drop((crowd, raw));
        harness.end(&server);
    });
}

/// Each piece costs a receive, and brings next to nothing: threat T31.
#[test]
fn small_pieces_of_frames_count_and_others_do_not() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), options(harness, 20));
        let message = frame(0, &[b'm'; 6_400]);
        let send_in_pieces = |raw: &mut Raw, bytes: usize| {
            for piece in message.chunks(bytes) {
                raw.send(piece);
                harness.world().run_for(Duration::from_millis(2));
            }
        };
        let mut raw = peer_from(harness, &server, 1);
        send_in_pieces(&mut raw, 64);
        harness.wait_for("the message", || log.order().len() == 1);
        assert_eq!(server.stats().rejection_pauses, 0, "100 pieces of 64 bytes");
        send_in_pieces(&mut raw, 63);
        harness.wait_for("the message", || log.order().len() == 2);
        assert!(server.stats().rejection_pauses > 0, "102 pieces of 63 bytes");
        drop(raw);
        harness.end(&server);
    });
}

/// The time of a pause does not count as that of a frame: the rest of it was not read.
#[test]
fn a_pause_does_not_make_a_frame_slow() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), options(harness, 5));
        let crowd = pause(harness, &server, 1);
        let mut raw = peer_from(harness, &server, 1);
        let message = frame(0, &[7; 1000]);
        raw.send_frame(LIST, &numbered(1, b""));
        raw.send(&message[..100]);
        harness.world().run_for(Duration::from_secs(1));
        raw.send(&message[100..]);
        raw.send_frame(GET, &numbered(3, b"/"));
        let took = answers(harness, std::slice::from_mut(&mut raw), ABORT, 1);
        assert!(took > Duration::from_secs(8), "{took:?}: a deadline within the pause helps");
        assert_eq!(log.ends().len(), 0, "{:?}", log.ends());
        drop((crowd, raw));
        harness.end(&server);
    });
}

/// A peer does not get time for its frame by small pieces of it, although each of them pauses it.
#[test]
fn small_pieces_give_no_time_to_their_frame() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let options = options(harness, 1).with(|o| o.connection.frame_timeout_ms = 20_000);
        let (server, log) = serve_with(harness, &there.directory(), options);
        let mut raw = peer_from(harness, &server, 1);
        let message = frame(0, &[b'm'; 60_000]);
        raw.send(&message[..50_000]);
        let begun = harness.world().now();
        let mut pieces = message[50_000..].iter();
        while log.ends().is_empty() {
            pieces.by_ref().take(2).for_each(|byte| raw.send(&[*byte]));
            harness.world().run_for(Duration::from_millis(200));
            let passed = harness.world().now() - begun;
            assert!(passed < Duration::from_secs(40), "the frame still lives");
            if raw.is_over() {
                break;
            }
        }
        assert!(server.stats().rejection_pauses > 2, "{:?}", server.stats());
        drop(raw);
        harness.wait_for("the end", || log.ends().len() == 1);
        assert_eq!(log.ends()[0].kind(), DisconnectKind::TooSlow);
        harness.end(&server);
    });
}

/// Whatever its address has caused, a peer has time for a message that arrives in small pieces.
#[test]
fn a_pause_for_small_pieces_is_short() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), options(harness, 5));
        let crowd = pause(harness, &server, 1);
        let mut raw = peer_from(harness, &server, 1);
        for piece in frame(0, b"a message").chunks(6) {
            raw.send(piece);
            harness.world().run_for(Duration::from_millis(10));
        }
        let begun = harness.world().now();
        harness.wait_for("the message", || log.order().len() == 1);
        let took = harness.world().now() - begun;
        assert!(took < Duration::from_secs(2), "{took:?}");
        drop((crowd, raw));
        harness.end(&server);
    });
}

/// Only the pause for the pieces is a part of the time of their frame, not a later one of the
/// handler.
#[test]
fn a_pause_of_the_handler_after_one_for_pieces_does_not_make_the_frame_slow() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), options(harness, 5));
        let mut raw = peer_from(harness, &server, 1);
        let peer = server.peers()[0].id;
        let crowd = pause(harness, &server, 1);
        let message = frame(0, &[b'm'; 600]);
        raw.send(&message[..500]);
        harness.wait_for("the beginning", || server.stats().assembly_bytes > 0);
        raw.send(&message[500..501]);
        harness.world().run_for(Duration::from_secs(2));
        let paused = server.run(peer, |peer| {
            peer.pause_reading();
            peer.after(Duration::from_secs(10), |peer| {
                peer.resume_reading();
                Ok(())
            })?;
            Ok(())
        });
        paused.expect("the peer is connected");
        harness.world().run_for(Duration::from_secs(1));
        raw.send(&message[501..]);
        harness.wait_for("the message", || log.order().len() == 1);
        drop((crowd, raw));
        harness.end(&server);
    });
}

/// After a pause the peer is read, but its lists keep to the pace.
#[test]
fn lists_keep_to_the_pace_after_a_pause() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", b"content");
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 5));
        let crowd = pause(harness, &server, 1);
        let mut raw = peer_from(harness, &server, 1);
        (0..10_u32).for_each(|n| raw.send_frame(LIST, &numbered(2 * n + 1, b"")));
        let took = answers(harness, std::slice::from_mut(&mut raw), LISTED, 10);
        assert!(took > Duration::from_secs(60), "{took:?}");
        drop((crowd, raw));
        harness.end(&server);
    });
}

/// The handler resumes reading by a timer of the connection, after more than the time of an idle
/// transfer. The chunks wait in the socket.
#[test]
fn a_transfer_does_not_expire_when_reading_resumes_after_a_long_pause() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let handler = FileHandler::new().taking(there.directory()).on_received(|peer| {
            peer.pause_reading();
            peer.after(Duration::from_secs(90), |peer| {
                peer.resume_reading();
                Ok(())
            })?;
            Ok(())
        });
        let server = harness.serve_with(handler, options(harness, 20));
        let mut raw = peer_from(harness, &server, 1);
        raw.send_frame(OFFER, &offer(1, 4, b"upload"));
        answers(harness, std::slice::from_mut(&mut raw), ACCEPT, 1);
        raw.send_frame(0, b"pause");
        harness.world().run_for(Duration::from_secs(1));
        raw.send_frame(CHUNK, &numbered(1, b"four"));
        raw.send_frame(DONE, &numbered(1, &posthouse_wire::file_hash(b"four")));
        harness.world().run_for(Duration::from_secs(80));
        assert_eq!(there.read("upload"), None);
        harness.wait_for("the upload", || there.read("upload").is_some());
        drop(raw);
        harness.end(&server);
    });
}

/// Many lists wait, and the answer to each is counted. Between two pauses the peer is read all the
/// same, so that neither its end nor its files take longer than one pause.
#[test]
fn a_peer_is_read_between_two_pauses() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", b"content");
        let options = options(harness, 20).with(|o| o.connection.paused_end_timeout_ms = 15_000);
        let (server, log) = serve_with(harness, &there.directory(), options);
        let crowd = pause(harness, &server, 1);
        let mut raw = peer_from(harness, &server, 1);
        (0..15_u32).for_each(|n| raw.send_frame(LIST, &numbered(2 * n + 1, b"")));
        raw.send_frame(OFFER, &offer(31, 4, b"upload"));
        answers(harness, std::slice::from_mut(&mut raw), ACCEPT, 1);
        raw.send_frame(CHUNK, &numbered(31, b"four"));
        raw.send_frame(DONE, &numbered(31, &posthouse_wire::file_hash(b"four")));
        raw.finish();
        harness.wait_for("the upload", || there.read("upload").is_some());
        assert_eq!(log.ends().len(), 0, "{:?}", log.ends());
        drop((crowd, raw));
        harness.end(&server);
    });
}

/// Transfers that fail during a pause do not make it longer.
#[test]
fn a_pause_has_a_maximum() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let kept = Arc::default();
        let handler = FileHandler::new().keeping(Arc::clone(&kept)).giving(there.directory());
        let server = harness.serve_with(handler, options(harness, 5));
        let crowd = pause(harness, &server, 1);
        let mut raw = peer_from(harness, &server, 1);
        for id in [1, 3, 5, 7] {
            raw.send_frame(OFFER, &offer(id, 9, b"later"));
        }
        raw.send_frame(LIST, &numbered(9, b""));
        answers(harness, std::slice::from_mut(&mut raw), LISTED, 1);
        raw.send_frame(GET, &numbered(11, b"/"));
        for _ in 0..4 {
            harness.world().run_for(Duration::from_secs(2));
            let responder = kept.lock().expect("no panic").pop().expect("an offer");
            responder.reject("no");
        }
        answers(harness, std::slice::from_mut(&mut raw), ABORT, 4);
        let took = answers(harness, std::slice::from_mut(&mut raw), ABORT, 1);
        assert!(took < Duration::from_secs(3), "{took:?} after 8 s");
        drop((crowd, raw));
        harness.end(&server);
    });
}

/// A transfer that this side ends by itself is no reason to read its peer more slowly.
#[test]
fn own_transfers_do_not_pause_a_peer_of_an_address_over_its_limit() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", b"content");
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 20));
        let mut raw = peer_from(harness, &server, 1);
        let peer = server.peers()[0].id;
        let crowd = pause(harness, &server, 1);
        let source = Source::new(&there.directory(), "file");
        let (sender, offered) = std::sync::mpsc::channel();
        let run = server.run(peer, move |peer| {
            sender.send(peer.offer_file(source)).expect("the test waits");
            Ok(())
        });
        run.expect("the peer is connected");
        answers(harness, std::slice::from_mut(&mut raw), OFFER, 1);
        let offered = offered.recv().expect("an offer");
        let run = server.run(peer, move |peer| {
            peer.cancel_transfer(&offered);
            Ok(())
        });
        run.expect("the peer is connected");
        answers(harness, std::slice::from_mut(&mut raw), ABORT, 1);
        raw.send_frame(GET, &numbered(1, b"/"));
        let took = answers(harness, std::slice::from_mut(&mut raw), ABORT, 1);
        assert!(took < Duration::from_secs(1), "{took:?}");
        drop((crowd, raw));
        harness.end(&server);
    });
}

/// A peer that ends its connection does not get around the limit.
#[test]
fn transfers_that_end_with_their_connection_count() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 20));
        let end_transfers = |connections: u32| {
            for n in 0..connections {
                let mut raw = peer_from(harness, &server, 1);
                for id in [1, 3] {
                    raw.send_frame(OFFER, &offer(id, 9, format!("{n}-{id}").as_bytes()));
                    accepted(harness, &mut raw);
                }
                raw.reset();
            }
            harness.wait_for("the ends", || server.stats().connections == 0);
            let mut raws = [peer_from(harness, &server, 1)];
            raws[0].send_frame(GET, &numbered(1, b"/"));
            answers(harness, &mut raws, ABORT, 1);
            server.stats().rejection_pauses
        };
        // The address has 80 units at once.
        assert_eq!(end_transfers(8), 0);
        assert_eq!(end_transfers(20), 1);
        harness.end(&server);
    });
}
