//! Files that are sent again: their hashes are in the cache, so the sender need not read their
//! bytes.

use std::time::Duration;

use posthouse::TransferErrorKind;

use super::file_handler::{FileHandler, failed, serve, serve_with};
use super::frames::{ABORT, ACCEPT, CHUNK, DONE, OFFER, chunk, greet, numbered};
use crate::harness::{Harness, everywhere, in_simulation, on_real_sockets};
use crate::process::is_wine;
use crate::raw::Raw;
use crate::store::{Store, content};

/// The BLAKE3 hash of no bytes.
const OF_NOTHING: [u8; 32] = [
    0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49,
    0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
];

#[test]
fn a_file_comes_whole_to_each_who_gets_it() {
    everywhere(|harness| {
        let there = harness.store("there");
        let sent = content(1, 300_001);
        there.write("file", &sent);
        let (server, log) = serve(harness, &there.directory());
        let mut hash = None;
        for n in 0..4 {
            let here = harness.store(&format!("here {n}"));
            let client = harness.client(&server);
            let told = client.get("file", &here.directory()).expect("the file arrives");
            assert!(
                here.read("file").expect("the file exists") == sent,
                "client {n} got other bytes"
            );
            assert_eq!(*hash.get_or_insert(told), told);
            client.close();
            log.wait(harness, n + 1);
        }
        harness.end(&server);
    });
}

/// The file of this program has not changed for a while, so its hash is kept. When the file is sent
/// again, the sender does not read it.
#[test]
fn a_long_file_that_was_sent_before_comes_whole() {
    on_real_sockets(|harness| {
        let program = std::env::current_exe().expect("the path of this program is known");
        let name = program
            .file_name()
            .and_then(|name| name.to_str())
            .expect("the name of this program is UTF-8");
        let there =
            posthouse::Directory::open(program.parent().expect("a program is in a directory"));
        let handler = FileHandler::new().giving(there.expect("the directory opens"));
        let server = harness.serve_with(handler, harness.options());
        let bytes = std::fs::read(&program).expect("the file exists");
        let modified = std::fs::metadata(&program)
            .and_then(|it| it.modified())
            .expect("the modification time is known");
        let is_settled = modified.elapsed().is_ok_and(|age| age > Duration::from_secs(7));
        for n in 0..3 {
            let here = harness.store("here");
            let client = harness.client(&server);
            client.get(name, &here.directory()).expect("the file arrives");
            assert!(
                here.read(name).expect("the file exists") == bytes,
                "client {n} got other bytes"
            );
            client.close();
        }
        let unread = harness.end(&server).sendfile_bytes;
        match is_settled {
            // On io_uring a read and a send take as little time as a sendfile, so the file is read.
            true if harness.is_on_uring() => assert_eq!(unread, 0),
            true if cfg!(windows) && !is_wine() && unread == 0 => {
                eprintln!("NOT TESTED: only server editions of Windows send files by themselves");
            }
            true => assert!(
                unread >= bytes.len() as u64,
                "the system sent {unread} bytes, and the file has {}",
                bytes.len()
            ),
            false => {
                eprintln!(
                    "NOT TESTED: this program was built too recently for its hash to be kept"
                );
            }
        }
    });
}

/// The file changes, but not its size and time, so the hash in the cache is wrong. The next
/// receiver detects the wrong hash, and the one after it gets the right file.
#[test]
fn what_is_known_wrongly_is_found_out_and_forgotten() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", &content(1, 100_000));
        let (server, log) = serve(harness, &there.directory());
        let get = |what: &str| {
            let here = harness.store(what);
            let client = harness.client(&server);
            let got = client.get("file", &here.directory());
            client.close();
            (got.is_ok(), here.read("file"))
        };
        assert_eq!(get("first"), (true, Some(content(1, 100_000))));
        there.rewrite("file", &content(2, 100_000));
        assert_eq!(get("second"), (false, None), "a file that differs from its hash was accepted");
        assert_eq!(failed(&log.wait(harness, 2)), Some(TransferErrorKind::HashDiffers));
        assert_eq!(get("third"), (true, Some(content(2, 100_000))));
        harness.end(&server);
    });
}

/// Requests the file and accepts it up to `limit`. The caller sends the credit for more.
fn begin(harness: &Harness<'_>, raw: &mut Raw, limit: u64) {
    greet(harness, raw);
    raw.send_frame(18, &numbered(1, b"file"));
    let (kind, payload) = harness.read_frame(raw);
    assert_eq!((kind, payload[0]), (OFFER, 2));
    let accept = [&0_u64.to_le_bytes()[..], &limit.to_le_bytes(), &OF_NOTHING].concat();
    raw.send_frame(ACCEPT, &numbered(2, &accept));
}

/// Reads chunks until at least `bytes_max` bytes or another frame has arrived. Returns the bytes,
/// and the other frame if there is one.
fn chunks(
    harness: &Harness<'_>,
    raw: &mut Raw,
    bytes_max: usize,
) -> (Vec<u8>, Option<(u8, Vec<u8>)>) {
    let mut bytes = Vec::new();
    while bytes.len() < bytes_max {
        let (kind, payload) = harness.read_frame(raw);
        if kind != CHUNK {
            return (bytes, Some((kind, payload)));
        }
        assert_eq!(payload[..4], chunk(2, b""));
        bytes.extend_from_slice(&payload[4..]);
    }
    (bytes, None)
}

fn serve_known(harness: &Harness<'_>, there: &Store) -> posthouse::Endpoint<FileHandler> {
    let options = harness.options().with(|o| o.connection.heartbeat_ms = 0);
    let (server, _) = serve_with(harness, &there.directory(), options);
    let client = harness.client(&server);
    client.get("file", &harness.store("first").directory()).expect("the file arrives");
    client.close();
    // When the connection has ended, the server has received the client's last confirmation.
    harness.wait_for("the end of the connection", || server.stats().connections == 0);
    server
}

/// If the system sends a file (`sendfile`) and cannot read it, the connection may end. The next
/// connection would end, too, so the sender reads the file itself at the next attempt.
#[test]
fn a_known_file_whose_connection_was_lost_is_read_the_next_time() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", &content(1, 200_000));
        let server = serve_known(harness, &there);
        let mut raw = harness.dial(&server);
        begin(harness, &mut raw, 50_000);
        let (_, None) = chunks(harness, &mut raw, 50_000) else {
            panic!("a frame other than a chunk arrived")
        };
        drop(raw);
        harness.wait_for("the end of the attempt", || server.stats().connections == 0);
        // Size and time do not show the change: only a sender that reads the file knows its hash.
        there.rewrite("file", &content(2, 200_000));
        let client = harness.client(&server);
        let here = harness.store("second");
        client.get("file", &here.directory()).expect("the file arrives");
        assert!(here.read("file").expect("the file exists") == content(2, 200_000));
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_known_file_that_is_cut_while_it_is_sent_leaves_the_stream_in_step() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let sent = content(1, 200_000);
        there.write("file", &sent);
        there.write("other", b"another file");
        let server = serve_known(harness, &there);
        let mut raw = harness.dial(&server);
        begin(harness, &mut raw, 50_000);
        let (first, None) = chunks(harness, &mut raw, 50_000) else {
            panic!("a frame other than a chunk arrived")
        };
        assert!(first == sent[..50_000]);
        there.resize("file", 60_000);
        raw.send_frame(13, &numbered(2, &200_000_u64.to_le_bytes()));
        let (rest, Some((kind, payload))) = chunks(harness, &mut raw, 150_001) else {
            panic!("no frame followed the chunks")
        };
        assert!(rest.len() >= 10_000 && rest[..10_000] == sent[50_000..60_000]);
        assert!(
            rest[10_000..].iter().all(|byte| *byte == 0),
            "the missing bytes were not sent as zeros"
        );
        assert_eq!(
            (kind, &payload[4..6]),
            (ABORT, &[9, 0][..]),
            "the abort does not say that the file changed"
        );

        raw.send_frame(18, &numbered(3, b"other"));
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!((kind, &payload[payload.len() - 5..]), (OFFER, &b"other"[..]));
        raw.finish();
        harness.end(&server);
    });
}

/// The sender of a known file sends done with the hash of the file, as for the first transfer.
#[test]
fn done_comes_with_the_hash_of_a_known_file_when_all_of_it_has_left() {
    in_simulation(|harness| {
        let there = harness.store("there");
        there.write("file", &content(1, 100_000));
        let server = serve_known(harness, &there);
        let mut raw = harness.dial(&server);
        begin(harness, &mut raw, u64::MAX);
        let (bytes, Some((DONE, payload))) = chunks(harness, &mut raw, 100_001) else {
            panic!("no done followed the chunks")
        };
        assert!(bytes == content(1, 100_000));
        raw.send_frame(DONE, &payload);
        harness.wait_for("the ends of both transfers", || server.stats().transfers == 2);
        raw.finish();
        harness.end(&server);
    });
}
