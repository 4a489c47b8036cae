//! Transfers that hold memory or open files for which others wait, and use them too slowly: threat
//! T33.

use std::time::Duration;

use posthouse::sim::Faults;
use posthouse::{Endpoint, TransferErrorKind};

use super::file_handler::{FileHandler, failed, serve_with};
use super::frames::{
    ABORT, ACCEPT, CHUNK, CREDIT, DONE, GET, OFFER, accept, accepted, greet, next_offer, numbered,
    offer, peer_from,
};
use crate::harness::{Harness, Options, in_simulation};
use crate::raw::Raw;
use crate::store::content;

/// The code of an abort because other transfers wait.
const BUSY: u16 = 5;

/// Nothing but the slow use of what it holds ends a transfer here.
fn options(harness: &Harness<'_>, file_memory_bytes: usize) -> Options {
    harness.options().with(|o| {
        o.endpoint.file_memory_bytes = file_memory_bytes;
        o.connection.heartbeat_ms = 0;
        o.connection.stall_timeout_ms = 3_600_000;
        o.connection.transfer_timeout_ms = 3_600_000;
        o.connection.close_timeout_ms = 60_000;
    })
}

/// Returns the number of aborts with [`BUSY`] that have arrived.
fn aborts(raw: &mut Raw) -> usize {
    let frames = std::iter::from_fn(|| raw.take_frame());
    frames.filter(|(kind, text)| *kind == ABORT && text[4..6] == BUSY.to_le_bytes()).count()
}

/// Returns whether an accept has arrived.
fn is_accepted(raw: &mut Raw) -> bool {
    std::iter::from_fn(|| raw.take_frame()).any(|(kind, _)| kind == ACCEPT)
}

/// Returns peers from four addresses, each of which has begun to send a file.
fn slow_peers<'a>(
    harness: &'a Harness<'_>,
    server: &'a Endpoint<FileHandler>,
) -> impl Iterator<Item = Raw> + use<'a> {
    (1..5_u8).map(|host| {
        let mut raw = peer_from(harness, server, host);
        raw.send_frame(OFFER, &offer(1, 1_000_000, &[b'0' + host]));
        accepted(harness, &mut raw);
        raw
    })
}

/// Sends one byte of the peer's file, and runs the world for a second.
fn trickle(harness: &Harness<'_>, raw: &mut Raw) {
    raw.send_frame(CHUNK, &numbered(1, b"."));
    harness.world().run_for(Duration::from_secs(1));
}

/// Peers from four addresses hold all the memory for windows, and send one byte now and then. After
/// about two minutes, a peer that waits gets the memory of a slow one. The slow transfer is aborted
/// with [`BUSY`], and its bytes are kept.
#[test]
fn slow_peers_cannot_hold_the_memory_for_ever() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 8 << 20));
        let mut slow: Vec<Raw> = slow_peers(harness, &server).collect();
        let begun = harness.world().now();
        let mut honest = harness.dial(&server);
        greet(harness, &mut honest);
        honest.send_frame(OFFER, &offer(1, 1_000_000, b"honest"));
        while !is_accepted(&mut honest) {
            slow.iter_mut().for_each(|raw| trickle(harness, raw));
            assert!(
                harness.world().now() - begun < Duration::from_secs(150),
                "the honest peer still waits"
            );
        }
        assert!(
            harness.world().now() - begun > Duration::from_secs(60),
            "the honest peer did not wait"
        );
        let ended: usize = slow.iter_mut().map(aborts).sum();
        assert!((1..4).contains(&ended), "{ended} transfers were aborted: too few or too many");
        let dots = |part: &Vec<u8>| part.len() > 10 && part.iter().all(|byte| *byte == b'.');
        assert_eq!(there.parts().iter().filter(|part| dots(part)).count(), slow.len());
        drop((slow, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

#[test]
fn slow_peers_continue_while_nobody_waits() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), options(harness, 8 << 20));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(OFFER, &offer(1, 1_000_000, b"slow"));
        accepted(harness, &mut raw);
        (0..600).for_each(|_| trickle(harness, &mut raw));
        assert!(log.transfers().is_empty());
        drop(raw);
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// While those that wait get their turns, the slow ones may keep what they hold.
#[test]
fn slow_peers_continue_while_others_get_their_turns() {
    in_simulation(|harness| {
        let there = harness.store("there");
        // An address may have 224 KiB of 896 KiB for windows.
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 2 << 20));
        let mut slow: Vec<Raw> = slow_peers(harness, &server).take(3).collect();
        let mut others: Vec<Raw> = (10..13).map(|n| peer_from(harness, &server, n)).collect();
        let bytes = content(1, 100_000);
        let offer_next = |raw: &mut Raw, host: usize, id: u32| {
            raw.send_frame(OFFER, &offer(id, 100_000, format!("{host}-{id}").as_bytes()));
        };
        let mut ids = [1_u32; 3];
        others.iter_mut().enumerate().for_each(|(host, raw)| offer_next(raw, host, 1));
        // There is memory for two files: one of the three always waits.
        for _ in 0..60 {
            let host = harness.until("an accept", || others.iter_mut().position(is_accepted));
            slow.iter_mut().for_each(|raw| trickle(harness, raw));
            let id = &mut ids[host];
            others[host].send_frame(CHUNK, &numbered(*id, &bytes));
            others[host].send_frame(DONE, &numbered(*id, &posthouse_wire::file_hash(&bytes)));
            *id += 2;
            offer_next(&mut others[host], host, *id);
        }
        let ended: usize = slow.iter_mut().map(aborts).sum();
        assert_eq!(ended, 0, "slow transfers ended after {:?}", harness.world().now());
        drop((slow, others));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// Nobody gets a turn, but one of the peers uses what it holds: its transfer goes on.
#[test]
fn a_peer_that_uses_its_memory_keeps_it() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let (server, _) = serve_with(harness, &there.directory(), options(harness, 8 << 20));
        let mut quick = peer_from(harness, &server, 9);
        quick.send_frame(OFFER, &offer(1, 100_000_000, b"quick"));
        accepted(harness, &mut quick);
        let begun = harness.world().now();
        // It is checked before the others, while nobody gets a turn.
        harness.world().run_for(Duration::from_secs(3));
        let mut slow: Vec<Raw> = slow_peers(harness, &server).take(3).collect();
        let mut honest = harness.dial(&server);
        greet(harness, &mut honest);
        let passed = || harness.world().now() - begun;
        let mut has_offered = false;
        while !is_accepted(&mut honest) {
            quick.send_frame(CHUNK, &numbered(1, &[7; 50_000]));
            slow.iter_mut().for_each(|raw| trickle(harness, raw));
            // Its wait begins so late that it is not over when the peers are checked.
            if passed() > Duration::from_secs(112) && !has_offered {
                honest.send_frame(OFFER, &offer(1, 1_000_000, b"honest"));
                has_offered = true;
            }
            assert!(passed() < Duration::from_secs(150), "the honest peer still waits");
        }
        assert!(slow.iter_mut().map(aborts).sum::<usize>() > 0, "after {:?}", passed());
        assert_eq!(aborts(&mut quick), 0);
        drop((slow, quick, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// Peers from four addresses hold all places for sent files open, by a credit of one byte now and
/// then.
#[test]
fn slow_peers_cannot_hold_the_open_files_for_ever() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", &content(1, 100_000));
        let options = options(harness, 8 << 20).with(|o| o.endpoint.max_open_files = 8);
        let (server, log) = serve_with(harness, &there.directory(), options);
        let mut honest = peer_from(harness, &server, 9);
        honest.send_frame(GET, &numbered(1, b"file"));
        let honest_id = next_offer(harness, &mut honest);
        let mut slow: Vec<(Raw, u32)> = (1..5)
            .map(|host| {
                let mut raw = peer_from(harness, &server, host);
                raw.send_frame(GET, &numbered(1, b"file"));
                let id = next_offer(harness, &mut raw);
                accept(&mut raw, id, 1);
                (raw, id)
            })
            .collect();
        let mut limit = 1_u64;
        let mut give_credit = || {
            limit += 1;
            for (raw, id) in &mut slow {
                raw.send_frame(CREDIT, &numbered(*id, &limit.to_le_bytes()));
            }
            harness.world().run_for(Duration::from_millis(500));
        };
        give_credit();
        let begun = harness.world().now();
        accept(&mut honest, honest_id, u64::MAX);
        while !std::iter::from_fn(|| honest.take_frame()).any(|(kind, _)| kind == CHUNK) {
            give_credit();
            let passed = harness.world().now() - begun;
            assert!(passed < Duration::from_secs(150), "the honest peer still waits");
        }
        assert!(harness.world().now() - begun > Duration::from_secs(60), "it did not wait");
        let busy = |transfer| failed(transfer) == Some(TransferErrorKind::Busy);
        assert!(log.transfers().iter().any(busy));
        drop((slow, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// A connection that ends holds nothing, even while its last output waits for the peer.
#[test]
fn a_connection_that_ends_gives_its_memory_back_at_once() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let handler = FileHandler::new().taking(there.directory()).on_received(|peer| {
            (0..5).for_each(|_| peer.send(0, &[0; 200_000]));
            Ok(())
        });
        let options = options(harness, 8 << 20).with(|o| {
            o.tuning = o.tuning.clone().with_queue_high_bytes(4 << 20);
        });
        let server = harness.serve_with(handler, options);
        let mut slow: Vec<Raw> = slow_peers(harness, &server).collect();
        let mut honest = harness.dial(&server);
        greet(harness, &mut honest);
        honest.send_frame(OFFER, &offer(1, 1_000_000, b"honest"));
        harness.world().run_for(Duration::from_secs(1));
        assert!(!is_accepted(&mut honest), "there is memory left");
        slow[0].stop_reading();
        slow[0].send_frame(0, b"send me something");
        harness.world().run_for(Duration::from_secs(1));
        slow[0].finish();
        let begun = harness.world().now();
        accepted(harness, &mut honest);
        let took = harness.world().now() - begun;
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(server.stats().connections, 5, "the first one has output left");
        drop((slow, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// A peer that keeps its own queue over the high-water mark is not read. It is checked all the
/// same.
#[test]
fn slow_peers_that_are_not_read_cannot_hold_the_memory_for_ever() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let handler = FileHandler::new().taking(there.directory()).on_received(|peer| {
            (0..3).for_each(|_| peer.send(0, &[0; 200_000]));
            Ok(())
        });
        let server = harness.serve_with(handler, options(harness, 8 << 20));
        let mut slow: Vec<Raw> = slow_peers(harness, &server).collect();
        for raw in &mut slow {
            raw.stop_reading();
            raw.send_frame(0, b"send me something");
        }
        harness.world().run_for(Duration::from_secs(1));
        let begun = harness.world().now();
        let mut honest = harness.dial(&server);
        greet(harness, &mut honest);
        honest.send_frame(OFFER, &offer(1, 1_000_000, b"honest"));
        while !is_accepted(&mut honest) {
            harness.world().run_for(Duration::from_secs(1));
            let passed = harness.world().now() - begun;
            assert!(passed < Duration::from_secs(150), "the honest peer still waits");
        }
        drop((slow, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// A peer that is not read because its address causes too many rejections is checked all the same.
#[test]
fn slow_peers_that_are_paced_cannot_hold_the_memory_for_ever() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let options = options(harness, 8 << 20).with(|o| o.endpoint.max_rejections_per_second = 1);
        let (server, _) = serve_with(harness, &there.directory(), options);
        let mut slow: Vec<Raw> = slow_peers(harness, &server).collect();
        let mut honest = harness.dial(&server);
        greet(harness, &mut honest);
        honest.send_frame(OFFER, &offer(1, 1_000_000, b"honest"));
        let begun = harness.world().now();
        let mut id = 1;
        while !is_accepted(&mut honest) {
            for raw in &mut slow {
                for _ in 0..20 {
                    id += 2;
                    raw.send_frame(GET, &numbered(id, b"/"));
                }
                trickle(harness, raw);
            }
            let passed = harness.world().now() - begun;
            assert!(passed < Duration::from_secs(160), "the honest peer still waits");
        }
        assert!(server.stats().rejection_pauses > 4, "no peer was paced again");
        drop((slow, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// A grant of one resource gives no time to use another one. A peer needs nobody else to make such
/// grants: one of two gets waits for the place of the other, its own.
#[test]
fn grants_of_another_resource_give_no_time() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", &content(1, 1000));
        // An address may receive one file, and send one.
        let options = options(harness, 8 << 20).with(|o| o.endpoint.max_open_files = 8);
        let (server, _) = serve_with(harness, &there.directory(), options);
        let mut slow: Vec<Raw> = slow_peers(harness, &server).collect();
        let mut honest = peer_from(harness, &server, 9);
        honest.send_frame(OFFER, &offer(1, 10, b"honest"));
        let begun = harness.world().now();
        let passed = || harness.world().now() - begun;
        let (mut id, mut next) = (3, Duration::from_secs(100));
        while !is_accepted(&mut honest) {
            harness.world().run_for(Duration::from_secs(1));
            if passed() > next {
                for raw in &mut slow {
                    raw.send_frame(GET, &numbered(id, b"file"));
                    raw.send_frame(GET, &numbered(id + 2, b"file"));
                    for _ in 0..2 {
                        let offered = next_offer(harness, raw);
                        raw.send_frame(ABORT, &numbered(offered, &2_u16.to_le_bytes()));
                    }
                }
                id += 4;
                next += Duration::from_secs(100);
            }
            assert!(passed() < Duration::from_secs(160), "the honest peer still waits");
        }
        drop((slow, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// Offers that have an open file, and wait for memory that their own address has used up, get it
/// when the transfers that hold it end as slow. From then on they have their own time.
#[test]
fn offers_that_wait_for_their_own_address_cannot_hold_the_open_files_for_ever() {
    in_simulation(|harness| {
        let there = harness.store("there");
        // An address may receive four files, and has 1 MiB for windows.
        let options = options(harness, 8 << 20).with(|o| o.endpoint.max_open_files = 32);
        let (server, _) = serve_with(harness, &there.directory(), options);
        let mut quick: Vec<Raw> = (1..5_u8)
            .map(|host| {
                let mut raw = peer_from(harness, &server, host);
                raw.send_frame(OFFER, &offer(1, 1 << 40, format!("quick {host}").as_bytes()));
                accepted(harness, &mut raw);
                raw
            })
            .collect();
        let mut idle: Vec<Raw> = (1..5_u8)
            .map(|host| {
                let mut raw = peer_from(harness, &server, host);
                for id in [1, 3, 5] {
                    let name = format!("idle {host} {id}");
                    raw.send_frame(OFFER, &offer(id, 1 << 40, name.as_bytes()));
                }
                raw
            })
            .collect();
        harness.wait_for("the open files", || server.stats().open_files == 16);
        let mut honest = peer_from(harness, &server, 9);
        honest.send_frame(OFFER, &offer(1, 0, b"honest"));
        let begun = harness.world().now();
        // They wait for places, too.
        let mut others: Vec<Raw> = (10..15).map(|host| peer_from(harness, &server, host)).collect();
        others.iter_mut().for_each(|raw| raw.send_frame(OFFER, &offer(1, 0, b"other")));
        let mut granted = None;
        while granted.is_none() {
            for raw in &mut quick {
                raw.send_frame(CHUNK, &numbered(1, &[7; 5_000]));
                while raw.take_frame().is_some() {}
            }
            harness.world().run_for(Duration::from_secs(1));
            granted = idle.iter_mut().position(is_accepted);
            let passed = harness.world().now() - begun;
            assert!(passed < Duration::from_secs(150), "no offer gets the memory of the slow ones");
        }
        let granted = &mut idle[granted.expect("one of them was accepted")];
        harness.world().run_for(Duration::from_secs(100));
        assert_eq!(aborts(granted), 0, "it has not had its time");
        assert!(is_accepted(&mut honest));
        drop((quick, idle, honest, others));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// An offer that has waited for memory for longer than the time to use its place has that time from
/// then on.
#[test]
fn offers_that_got_their_memory_late_have_their_time() {
    in_simulation(|harness| {
        let there = harness.store("there");
        // An address may receive two files, and has 448 KiB for windows.
        let options = options(harness, 4 << 20).with(|o| o.endpoint.max_open_files = 16);
        let (server, _) = serve_with(harness, &there.directory(), options);
        let mut idle = peer_from(harness, &server, 1);
        idle.send_frame(OFFER, &offer(1, 1 << 40, b"idle"));
        accepted(harness, &mut idle);
        let mut late = peer_from(harness, &server, 1);
        late.send_frame(OFFER, &offer(1, 1 << 40, b"late"));
        let mut quick: Vec<Raw> = (2..5)
            .map(|host| {
                let mut raw = peer_from(harness, &server, host);
                for (id, size) in [(1, 1 << 40), (3, 0)] {
                    raw.send_frame(OFFER, &offer(id, size, format!("{host} {id}").as_bytes()));
                    accepted(harness, &mut raw);
                }
                raw
            })
            .collect();
        harness.wait_for("all places", || server.stats().open_files == 8);
        let mut others: Vec<Raw> = (9..12).map(|host| peer_from(harness, &server, host)).collect();
        others.iter_mut().for_each(|raw| raw.send_frame(OFFER, &offer(1, 0, b"other")));
        let mut second = || {
            quick.iter_mut().for_each(|raw| raw.send_frame(CHUNK, &numbered(1, &[7; 10_000])));
            harness.world().run_for(Duration::from_secs(1));
        };
        let begun = harness.world().now();
        while !is_accepted(&mut late) {
            second();
            let passed = harness.world().now() - begun;
            assert!(passed < Duration::from_secs(150), "the idle one keeps the memory");
        }
        assert!(harness.world().now() - begun > Duration::from_secs(120));
        (0..60).for_each(|_| second());
        assert_eq!(aborts(&mut late), 0);
        drop((idle, late, quick, others));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// The time to use a place begins when it is granted, however long the transfer has waited for it.
#[test]
fn peers_that_got_their_places_late_cannot_hold_them_for_ever() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let options = options(harness, 8 << 20).with(|o| o.endpoint.max_open_files = 8);
        let (server, _) = serve_with(harness, &there.directory(), options);
        let mut slow: Vec<Raw> = slow_peers(harness, &server).collect();
        // An empty file needs nothing but its place.
        let mut late: Vec<Raw> = (5..9).map(|host| peer_from(harness, &server, host)).collect();
        for (n, raw) in late.iter_mut().enumerate() {
            raw.send_frame(OFFER, &offer(1, 0, format!("late {n}").as_bytes()));
        }
        harness.world().run_for(Duration::from_secs(1));
        let mut honest = peer_from(harness, &server, 9);
        honest.send_frame(OFFER, &offer(1, 10, b"honest"));
        let begun = harness.world().now();
        while !is_accepted(&mut honest) {
            slow.iter_mut().for_each(|raw| trickle(harness, raw));
            let passed = harness.world().now() - begun;
            assert!(passed < Duration::from_secs(800), "the honest peer still waits");
        }
        let passed = harness.world().now() - begun;
        assert!(passed > Duration::from_secs(200), "the late ones had no places: {passed:?}");
        drop((slow, late, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}

/// The last chunk of a slow transfer cannot be withdrawn from the queue. If it alone holds the open
/// file, the connection ends.
#[test]
fn peers_that_read_nothing_cannot_hold_the_open_files_for_ever() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", &content(1, 3_000_000));
        let options = options(harness, 8 << 20).with(|o| o.endpoint.max_open_files = 8);
        let (server, _) = serve_with(harness, &there.directory(), options);
        // Now the endpoint knows the hash of the file, and the system sends it by itself.
        harness.world().faults(Faults { sendfile_ppm: 1_000_000, ..Faults::none() });
        harness.world().run_for(Duration::from_secs(10));
        let client = harness.client(&server);
        let back = harness.store("back");
        client.get("file", &back.directory()).expect("the file arrives");
        client.close();
        let mut honest = peer_from(harness, &server, 9);
        honest.send_frame(GET, &numbered(1, b"file"));
        let honest_id = next_offer(harness, &mut honest);
        let slow: Vec<Raw> = (1..5)
            .map(|host| {
                let mut raw = peer_from(harness, &server, host);
                raw.send_frame(GET, &numbered(1, b"file"));
                let id = next_offer(harness, &mut raw);
                raw.stop_reading();
                accept(&mut raw, id, u64::MAX);
                raw
            })
            .collect();
        harness.world().run_for(Duration::from_secs(1));
        accept(&mut honest, honest_id, u64::MAX);
        let begun = harness.world().now();
        while !std::iter::from_fn(|| honest.take_frame()).any(|(kind, _)| kind == CHUNK) {
            harness.world().run_for(Duration::from_secs(1));
            let passed = harness.world().now() - begun;
            assert!(passed < Duration::from_secs(160), "the honest peer still waits");
        }
        drop((slow, honest));
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}
