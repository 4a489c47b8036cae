//! Replies that a peer requests without end and never reads: threat T28.

use posthouse::{DisconnectKind, Target};

use super::file_handler::FileHandler;
use super::frames::{greeting, numbered, offer};
use crate::harness::{Harness, Options, everywhere, in_simulation, on_real_sockets};
use crate::raw::{Raw, frame, request};

/// The maximum number of bytes in a queue of refusals: about 1,024 refusals, and those of the
/// frames that one turn handles.
const MAX_QUEUED_BYTES: usize = 300_000;

/// The kinds of questions that the other side refuses.
const QUESTIONS: [&str; 5] =
    ["gets of a bad name", "gets", "offers of a bad name", "offers", "lists"];

/// The index of the question with the longest refusal.
const BAD_GETS: usize = 0;

/// Returns the frame of the question with this index. Beyond the last one it is a request.
fn question(which: usize, id: u32) -> Vec<u8> {
    match which {
        0 => frame(18, &numbered(id, b"/")),
        1 => frame(18, &numbered(id, b"name")),
        2 => frame(10, &offer(id, 7, b"../name")),
        3 => frame(10, &offer(id, 7, b"name")),
        4 => frame(19, &numbered(id, b"")),
        _ => request(id, 40, b""),
    }
}

/// Sends the same question again and again, and reads nothing. Checks that the other side stops
/// reading, so that its queue stays small.
fn flood(harness: &Harness<'_>, server: &posthouse::Endpoint<FileHandler>, which: usize) {
    let mut raw = harness.dial(server);
    raw.stop_reading();
    raw.send(&greeting(1 << 20));
    let name = QUESTIONS[which];
    // The questions exceed all buffers between the two ends.
    let count = if harness.is_real() { 400_000 } else { 12_000 };
    let frames: Vec<u8> = (0..count).flat_map(|n| question(which, 1 + 2 * n)).collect();
    raw.send(&frames);
    let queued = move |raw: &mut Raw| {
        raw.unsent();
        server.peers().first().map_or(0, |info| info.queued_bytes)
    };
    harness.wait_for("a full queue", || queued(&mut raw) > 10_000);
    // A server that continued to read would queue far more in this time.
    for _ in 0..10 {
        let other = harness.dial(server);
        harness.wait_for("the other connection", || server.stats().connections == 2);
        drop(other);
        harness.wait_for("the end of the connection", || server.stats().connections == 1);
        let queued = queued(&mut raw);
        assert!(queued <= MAX_QUEUED_BYTES, "{name}: {queued} bytes are queued");
    }
    drop(raw);
    harness.wait_for("the end of the connection", || server.stats().connections == 0);
}

/// Returns options without a pace of rejections, which would hide the bound on unread replies.
fn options(harness: &Harness<'_>, admits: bool) -> Options {
    harness.options().with(|o| {
        o.endpoint.max_rejections_per_second = 0;
        o.connection.heartbeat_ms = 0;
        o.connection.stall_timeout_ms = 3_600_000;
        o.connection.admission_timeout_ms = if admits { 0 } else { 3_600_000 };
    })
}

#[test]
fn refusals_that_are_not_read_are_bounded_before_and_after_admission() {
    for admits in [true, false] {
        everywhere(|harness| {
            // With real sockets it takes many bytes to fill the buffers between the two ends.
            let few = harness.is_real() || !admits;
            let some = if few { 0..1 } else { 0..QUESTIONS.len() };
            for which in some {
                // This handler accepts no offers and serves no files.
                let server = harness.serve_with(FileHandler::new(), options(harness, admits));
                flood(harness, &server, which);
                harness.end(&server);
            }
        });
    }
}

/// A client does not stop reading, because two sides that both stop would wait for ever. It
/// disconnects instead if a server sends questions without end and reads nothing.
#[test]
fn a_client_leaves_a_server_that_asks_without_end() {
    in_simulation(|harness| {
        for which in [BAD_GETS, QUESTIONS.len()] {
            let handler = FileHandler::new();
            let log = handler.log.clone();
            let options = options(harness, true).with(|o| {
                o.connection.max_requests = 1;
                o.connection.send_queue_bytes = 100_000;
            });
            let to = Target::new("10.0.0.9:1").options(options.connection);
            let client = harness.client_side(handler);
            let listener = harness.world().serve("10.0.0.9:1").expect("the address is free");
            client.connect(to, ()).expect("no limit is reached");
            let stream = harness.until("the client", || listener.accept());
            let mut raw = Raw::simulated(stream);
            assert_eq!(harness.read_frame(&mut raw).0, 4);
            raw.stop_reading();
            let mut answer = greeting(1 << 20);
            answer[5 + 38] = 0x80;
            raw.send(&answer);
            raw.send(&(1..16_000).flat_map(|n| question(which, 2 * n)).collect::<Vec<_>>());
            harness.wait_for("the end of the connection", || {
                let queued = client.peers().first().map_or(0, |info| info.queued_bytes);
                assert!(queued < 101_000, "{queued} bytes are queued");
                !log.ends().is_empty()
            });
            assert_eq!(log.ends()[0].kind(), DisconnectKind::QueueFull);
            drop(listener);
            harness.end(&client);
        }
    });
}

/// The queue of the connection is never empty. Over time it gets more pings than the number of
/// pongs that may wait.
#[test]
fn pings_to_a_busy_connection_are_no_flood() {
    on_real_sockets(|harness| {
        let server = harness.serve(crate::probe::Probe::echo());
        let mut raw = harness.dial(&server);
        raw.send(&crate::raw::hello(0, 1 << 20));
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        let message = frame(50, &[7; 200_000]);
        raw.send(&message.repeat(3));
        let mut pongs = 0;
        for _ in 0..300 {
            // The echo of two messages is always on its way.
            raw.send(&frame(16, &[1; 8]));
            raw.send(&message);
            while harness.read_frame(&mut raw).0 == 17 {
                pongs += 1;
            }
        }
        assert!(pongs > 200, "only {pongs} pongs arrived");
        harness.end(&server);
    });
}
