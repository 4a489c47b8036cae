//! Peers that lie about files: threats T20, T21 and T23.

use posthouse::{DisconnectKind, TransferErrorKind};

use super::file_handler::{failed, serve_with};
use super::frames::{
    ABORT, ACCEPT, CHUNK, DONE, OFFER, QUOTA, aborted, accepted, chunk, greet, offer,
};
use crate::harness::{Harness, Options, everywhere, in_simulation};
use crate::store::content;

fn few(harness: &Harness<'_>) -> Options {
    let options = harness.options();
    let tuning = options.tuning.clone().with_transfer_window_bytes(1 << 20);
    options.with(|o| {
        o.connection.max_transfers = 3;
        o.connection.heartbeat_ms = 0;
        o.tuning = tuning;
    })
}

/// Threat T20: the peer sends more bytes than it offered, fewer, or others.
#[test]
fn a_size_that_is_a_lie_gets_nobody_anywhere() {
    everywhere(|harness| {
        let there = harness.store("there");
        let quota = there.directory().with_quota(1 << 30, 100).expect("the quota can be counted");
        let (server, log) = serve_with(harness, &quota, few(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        // The largest size that an offer can have. No disk has that many bytes.
        raw.send_frame(OFFER, &offer(1, i64::MAX as u64, b"huge"));
        assert_eq!(aborted(harness, &mut raw, 1).0, QUOTA);
        // The peer sends more bytes than it offered.
        raw.send_frame(OFFER, &offer(3, 10, b"ten"));
        assert_eq!(accepted(harness, &mut raw), (0, 10));
        raw.send_frame(CHUNK, &chunk(3, &[7; 11]));
        assert_eq!(aborted(harness, &mut raw, 3).0, 11);
        // The peer sends fewer bytes than it offered.
        raw.send_frame(OFFER, &offer(5, 10, b"ten again"));
        assert_eq!(accepted(harness, &mut raw), (0, 10));
        raw.send_frame(CHUNK, &chunk(5, &[7; 9]));
        raw.send_frame(DONE, &[&5_u32.to_le_bytes()[..], &[0; 32]].concat());
        assert_eq!(aborted(harness, &mut raw, 5).0, 11);
        // The peer sends as many bytes as it offered, and a wrong hash.
        raw.send_frame(OFFER, &offer(7, 10, b"third ten"));
        assert_eq!(accepted(harness, &mut raw), (0, 10));
        raw.send_frame(CHUNK, &chunk(7, &[7; 10]));
        raw.send_frame(DONE, &[&7_u32.to_le_bytes()[..], &[0; 32]].concat());
        assert_eq!(aborted(harness, &mut raw, 7).0, 4);
        // A chunk of a transfer that has ended is ignored.
        raw.send_frame(CHUNK, &chunk(7, &[7; 10]));
        raw.send_frame(OFFER, &offer(9, 0, b"empty"));
        assert_eq!(accepted(harness, &mut raw), (0, 0));
        assert!(there.files().is_empty());
        assert!(log.transfers().iter().all(|transfer| failed(transfer).is_some()));
        harness.end(&server);
    });
}

/// Leaves a part for each name: offers 100 bytes, sends `bytes` of them, and ends the connection.
fn leave_parts(
    harness: &Harness<'_>,
    server: &posthouse::Endpoint<super::file_handler::FileHandler>,
    names: &[&str],
    bytes: usize,
) {
    let mut raw = harness.dial(server);
    greet(harness, &mut raw);
    for (number, name) in names.iter().enumerate() {
        let id = 2 * number as u32 + 1;
        raw.send_frame(OFFER, &offer(id, 100, name.as_bytes()));
        assert_eq!(accepted(harness, &mut raw), (0, 100));
        raw.send_frame(CHUNK, &chunk(id, &[7].repeat(bytes)));
    }
    raw.finish();
    harness.wait_for_end(&mut raw);
}

/// Parts whose transfers have ended fill the quota. They are removed to make room for an offer. The
/// part of a running transfer is not removed.
#[test]
fn parts_that_nobody_holds_give_way_when_the_quota_is_full() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        for name in ["1", "2", "3", "4", "5"] {
            here.write(name, &content(1, 60));
        }
        here.write("large", &content(2, 901));
        let directory = there.directory().with_quota(900, 6).expect("the quota can be counted");
        let (server, _) = serve_with(harness, &directory, few(harness));
        let mut holder = harness.dial(&server);
        greet(harness, &mut holder);
        holder.send_frame(OFFER, &offer(1, 100, b"held"));
        assert_eq!(accepted(harness, &mut holder), (0, 100));
        holder.send_frame(CHUNK, &chunk(1, b"h"));
        leave_parts(harness, &server, &["a", "b", "c"], 1);
        leave_parts(harness, &server, &["own"], 60);
        harness.wait_for("five parts", || there.parts().len() == 5);

        let client = harness.client(&server);
        let put = |name: &str| client.put(name, &here.directory());
        let error = put("large").unwrap_err().to_string();
        assert!(error.contains("quota exceeded"), "{error}");
        // The empty part of the rejected offer is removed after the reply.
        harness.wait_for("the same five parts", || there.parts().len() == 5);
        // The quota has room for the first file. Then the directory is counted anew. In that count
        // the held file counts twice, as a part and as a reservation, so two parts are removed for
        // the second file.
        for (name, parts) in [("1", 5), ("2", 3), ("3", 2), ("4", 1)] {
            put(name).unwrap_or_else(|error| panic!("the quota has room for {name}: {error}"));
            // The part of the new file is removed after the reply.
            let what = format!("exactly {parts} parts after {name}");
            harness.wait_for(&what, || there.parts().len() == parts);
        }
        let error = put("5").unwrap_err().to_string();
        assert!(error.contains("quota exceeded"), "{error}");
        harness.wait_for("the part of the running transfer", || there.parts() == [b"h"]);
        holder.send_frame(CHUNK, &chunk(1, &[7; 99]));
        harness.wait_for("the rest of the part", || there.parts()[0].len() == 100);
        holder.finish();
        harness.wait_for_end(&mut holder);
        client.close();
        harness.end(&server);
        assert_eq!(there.files(), ["1", "2", "3", "4"]);
    });
}

/// A part can be removed to make room for other offers, but not for the offer that resumes it.
#[test]
fn a_part_does_not_give_way_to_its_own_file() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, _) = serve_with(harness, &there.directory(), few(harness));
        leave_parts(harness, &server, &["own"], 60);
        leave_parts(harness, &server, &["other"], 50);
        harness.wait_for("both parts", || there.parts().len() == 2);
        harness.end(&server);
        let directory = there.directory().with_quota(130, 2).expect("the quota can be counted");
        let (server, _) = serve_with(harness, &directory, few(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(OFFER, &offer(1, 100, b"own"));
        assert_eq!(accepted(harness, &mut raw), (60, 100));
        assert_eq!(there.parts(), [[7; 60]]);
        raw.finish();
        harness.wait_for_end(&mut raw);
        harness.end(&server);
    });
}

#[test]
fn a_wrong_hash_for_what_is_there_leaves_it_as_it_is() {
    everywhere(|harness| {
        let there = harness.store("there");
        there.write("ten", &[7; 10]);
        let (server, log) = serve_with(harness, &there.directory(), few(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(OFFER, &offer(1, 10, b"ten"));
        assert_eq!(accepted(harness, &mut raw), (10, 10));
        raw.send_frame(DONE, &[&1_u32.to_le_bytes()[..], &[9; 32]].concat());
        assert_eq!(aborted(harness, &mut raw, 1).0, 4);
        assert_eq!(failed(&log.wait(harness, 1)), Some(TransferErrorKind::HashDiffers));
        harness.end(&server);
        assert_eq!(there.read("ten").as_deref(), Some(&[7; 10][..]));
        assert!(there.parts().is_empty());
    });
}

#[test]
fn what_is_being_written_when_the_connection_ends_is_kept() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), few(harness));
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(OFFER, &offer(1, 10_000, b"file"));
        assert_eq!(accepted(harness, &mut raw), (0, 10_000));
        raw.send_frame(CHUNK, &chunk(1, &content(1, 9_000)));
        raw.finish();
        harness.wait_for("the end of the connection", || log.ends().len() == 1);
        assert_eq!(there.parts(), [content(1, 9_000)]);
        harness.end(&server);
    });
}

#[test]
fn an_offer_of_more_than_can_be_is_malformed() {
    everywhere(|harness| {
        let there = harness.store("there");
        for size in [1 << 63, u64::MAX] {
            let (server, log) = serve_with(harness, &there.directory(), few(harness));
            let mut raw = harness.dial(&server);
            greet(harness, &mut raw);
            raw.send_frame(OFFER, &offer(1, size, b"huge"));
            harness.wait_for_end(&mut raw);
            drop(raw);
            harness.wait_for("the end of the connection", || log.ends().len() == 1);
            assert_eq!(log.ends()[0].kind(), DisconnectKind::Protocol);
            harness.end(&server);
        }
    });
}

/// Threat T21: a second peer resumes a part with bytes of another file.
#[test]
fn the_receiver_alone_decides_where_to_go_on() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), few(harness));
        let body = content(1, 100_000);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(OFFER, &offer(1, 100_000, b"file"));
        assert_eq!(accepted(harness, &mut raw), (0, 100_000));
        raw.send_frame(CHUNK, &chunk(1, &body[..60_000]));
        harness.wait_for("60,000 bytes in the part", || {
            there.parts().iter().any(|p| p.len() == 60_000)
        });
        raw.finish();
        harness.wait_for_end(&mut raw);
        // Another peer sends the same offer, but other bytes.
        let mut other = harness.dial(&server);
        greet(harness, &mut other);
        other.send_frame(OFFER, &offer(1, 100_000, b"file"));
        assert_eq!(accepted(harness, &mut other), (60_000, 100_000));
        other.send_frame(CHUNK, &chunk(1, &content(2, 40_000)));
        other.send_frame(DONE, &[&1_u32.to_le_bytes()[..], &[9; 32]].concat());
        assert_eq!(
            aborted(harness, &mut other, 1).0,
            4,
            "the hash of the whole file was not checked"
        );
        harness.wait_for("the removal of the part", || there.parts().is_empty());
        assert!(there.files().is_empty());
        let kinds: Vec<_> = log.transfers().iter().map(failed).collect();
        let expected =
            [Some(TransferErrorKind::Disconnected), Some(TransferErrorKind::HashDiffers)];
        assert_eq!(kinds, expected);
        harness.end(&server);
    });
}

/// Threat T23: a peer offers many files and sends no bytes of them.
#[test]
fn offers_beyond_the_bound_are_refused_and_those_never_fed_expire() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let options = few(harness).with(|o| o.connection.transfer_timeout_ms = 2000);
        let (server, log) = serve_with(harness, &there.directory(), options);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        for number in 0..100_u32 {
            let name = format!("file {number}");
            raw.send_frame(OFFER, &offer(2 * number + 1, 10, name.as_bytes()));
        }
        let mut busy = 0;
        let mut expired = 0;
        while busy + expired < 100 {
            let (kind, payload) = harness.read_frame(&mut raw);
            match (kind, payload.get(4)) {
                (ABORT, Some(5)) => busy += 1,
                (ABORT, Some(12)) => expired += 1,
                (ACCEPT, _) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((busy, expired), (97, 3));
        let kinds: Vec<_> = log.transfers().iter().map(failed).collect();
        assert_eq!(kinds, [Some(TransferErrorKind::Expired); 3]);
        // The expired transfers no longer count.
        raw.send_frame(OFFER, &offer(999, 0, b"late"));
        assert_eq!(accepted(harness, &mut raw), (0, 0));
        harness.end(&server);
    });
}

#[test]
fn frames_of_what_was_never_begun_end_the_connection() {
    everywhere(|harness| {
        let there = harness.store("there");
        let attempts: [(u8, Vec<u8>); 4] = [
            (CHUNK, chunk(1, b"x")),
            (DONE, [&2_u32.to_le_bytes()[..], &[0; 32]].concat()),
            (OFFER, offer(2, 10, b"of the other side's numbers")),
            (ABORT, [&7_u32.to_le_bytes()[..], &[0; 2]].concat()),
        ];
        for (kind, payload) in attempts {
            let (server, log) = serve_with(harness, &there.directory(), few(harness));
            let mut raw = harness.dial(&server);
            greet(harness, &mut raw);
            raw.send_frame(kind, &payload);
            harness.wait_for_end(&mut raw);
            drop(raw);
            harness.wait_for("the end of the connection", || log.ends().len() == 1);
            assert_eq!(log.ends()[0].kind(), DisconnectKind::Protocol, "kind {kind}");
            harness.end(&server);
        }
    });
}
