//! The memory for files has a bound, and transfers that wait for memory get their turn: threat T33.

use posthouse::TransferErrorKind;

use super::file_handler::{failed, serve_with};
use super::frames::{ACCEPT, CHUNK, OFFER, greet, numbered, offer};
use crate::harness::{Harness, Options, everywhere, in_simulation};
use crate::raw::Raw;
use crate::store::content;

/// The memory for files of the endpoint. Half of it is for reads, half for receive windows.
const BUDGET: u64 = 8 << 20;
const GETS: u32 = 16;

fn options(harness: &Harness<'_>) -> Options {
    harness.options().with(|o| {
        o.endpoint.file_memory_bytes = BUDGET as usize;
        o.connection.heartbeat_ms = 0;
        o.connection.stall_timeout_ms = 3_600_000;
        o.connection.transfer_timeout_ms = 3_600_000;
    })
}

/// Requests the same file many times, accepts all offers, and reads no chunk.
fn hoard(harness: &Harness<'_>, mut raw: Raw) -> Raw {
    greet(harness, &mut raw);
    for n in 0..GETS {
        raw.send_frame(18, &numbered(1 + 2 * n, b"large"));
    }
    let empty = posthouse_wire::file_hash(b"");
    let mut offers = 0;
    while offers < GETS {
        let (kind, payload) = harness.read_frame(&mut raw);
        if kind == OFFER {
            let accept = [&payload[..4], &[0; 8], &u64::MAX.to_le_bytes(), &empty].concat();
            raw.send_frame(ACCEPT, &accept);
            offers += 1;
        }
    }
    raw.stop_reading();
    raw
}

#[test]
fn gets_that_are_accepted_and_not_read_stay_within_the_budget() {
    everywhere(|harness| {
        let there = harness.store("there");
        there.write("large", &content(1, 3_000_000));
        let (server, log) = serve_with(harness, &there.directory(), options(harness));
        let peers = if harness.is_real() { 10 } else { 4 };
        let hoarders: Vec<Raw> =
            (0..peers).map(|_| hoard(harness, harness.dial(&server))).collect();
        harness.wait_for("the use of memory", || server.stats().file_memory_bytes > 0);
        for _ in 0..20 {
            let mut other = harness.dial(&server);
            greet(harness, &mut other);
            let used = server.stats().file_memory_bytes;
            assert!(used <= BUDGET / 2, "{used} bytes are in use");
        }
        // When these peers have disconnected, the next one gets all the memory that it needs.
        drop(hoarders);
        let client = harness.client(&server);
        let back = harness.store("back");
        client.get("large", &back.directory()).expect("the file arrives");
        client.close();
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        assert_eq!(server.stats().file_memory_bytes, 0);
        assert!(log.transfers().iter().any(|transfer| failed(transfer).is_none()));
        harness.end(&server);
    });
}

#[test]
fn offers_that_are_never_fed_stay_within_the_budget() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), options(harness));
        let mut raws: Vec<Raw> = (0..4).map(|_| harness.dial(&server)).collect();
        for (peer, raw) in raws.iter_mut().enumerate() {
            greet(harness, raw);
            for n in 0..GETS {
                let name = format!("{peer}-{n}");
                raw.send_frame(OFFER, &offer(1 + 2 * n, 1_000_000, name.as_bytes()));
            }
        }
        // Some of the offers are accepted, and the others wait.
        let next_accept = |raws: &mut Vec<Raw>| {
            harness.until("an accept", || {
                raws.iter_mut().enumerate().find_map(|(peer, raw)| {
                    let (kind, payload) = raw.take_frame()?;
                    (kind == ACCEPT).then_some((peer, payload))
                })
            })
        };
        let (peer, payload) = next_accept(&mut raws);
        for _ in 0..20 {
            let mut other = harness.dial(&server);
            greet(harness, &mut other);
            let used = server.stats().file_memory_bytes;
            assert!(used <= BUDGET / 2, "{used} bytes are reserved");
        }
        // The bytes that one peer sends are written. Then another offer gets the memory.
        let limit = u64::from_le_bytes(payload[12..20].try_into().unwrap());
        let chunk = [&payload[..4], &vec![7; limit as usize]].concat();
        raws[peer].send_frame(CHUNK, &chunk);
        next_accept(&mut raws);
        drop(raws);
        harness
            .wait_for("the ends of all transfers", || log.transfers().len() == 4 * GETS as usize);
        let kinds = |transfer| failed(transfer) == Some(TransferErrorKind::Disconnected);
        assert!(log.transfers().iter().all(kinds));
        harness.wait_for("the release of the memory", || server.stats().file_memory_bytes == 0);
        harness.end(&server);
    });
}

/// All peers that hold memory have the same address. A peer from another address is served at once.
#[test]
fn one_address_cannot_hold_all_the_memory() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("large", &content(1, 3_000_000));
        there.write("small", b"eleven byte");
        let (server, _) = serve_with(harness, &there.directory(), options(harness));
        let address = server.addresses()[0].to_string();
        let source = "10.66.0.1".parse().expect("the address is valid");
        let hoarders: Vec<Raw> = (0..6)
            .map(|_| {
                let stream = harness.world().dial_from(source, &address);
                hoard(harness, Raw::simulated(stream))
            })
            .collect();
        let used = server.stats().file_memory_bytes;
        assert!(
            used <= BUDGET / 8,
            "{used} bytes are in use: more than a quarter of the half for reads"
        );
        let client = harness.client(&server);
        let back = harness.store("back");
        client.get("small", &back.directory()).expect("the file arrives");
        client.get("large", &back.directory()).expect("the file arrives");
        client.close();
        drop(hoarders);
        harness.wait_for("the end of all connections", || server.stats().connections == 0);
        harness.end(&server);
    });
}
